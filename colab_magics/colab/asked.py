"""What google.colab asks Colab's page, answered for a run: a run has no page, and would wait for minutes or for ever.

google.colab publishes a ``colab_request`` and waits until a ``colab_reply`` comes as if somebody had typed it. What
expects no reply, such as the field that each ``!command`` shows and takes away, needs none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REQUEST = "colab_request"
"""The type of these messages."""
_TOLD = ("register_snippets", "add_scratch_cell")
"""Requests whose answers say nothing: what the page would show nobody would see."""
_COMMENT = re.compile(r"#.*")
_MOUNT = re.compile(r"\bmount\(([^()]*)\)")
_POINT = re.compile(r"""\s*(?:mountpoint\s*=\s*)?(['"])(?P<point>.*?)\1""")
_FORCED = re.compile(r"force_remount\s*=\s*(?!False\b)|,\s*True\b")
_NO_PAGE = (
    "A run has no page of Colab that could answer ({asked}): do that in the notebook before %fork, and hand on what "
    "comes of it, as a file in data_project, by %project secrets=NAME, or with start=live."
)


def answer(message: Mapping[str, Any], source: str) -> dict[str, Any] | None:
    """Answer a request.

    Parameters
    ----------
    message : mapping
        The ``colab_request``.
    source : str
        The cell that is being executed.

    Returns
    -------
    dict or None
        What to send as if it had been typed; None where nobody waits. Errors are raised in the cell, as
        google.colab's ``MessageError``.
    """
    number, kind = message["metadata"].get("colab_msg_id"), str(message["metadata"].get("colab_request_type"))
    if number is None:
        return None
    asked = message["content"].get("request")
    asked = asked if isinstance(asked, Mapping) else {}
    if kind == "GetSecret":
        found = _secret(str(asked.get("key")))
    elif kind == "request_auth" and asked.get("authType") == "dfs_ephemeral":
        found = _drive(source)
    elif kind in _TOLD:
        found = {"data": None}
    else:
        names = {"cell_javascript_eval": "files.upload, eval_js", "request_auth": "auth"}
        found = {"error": _NO_PAGE.format(asked=names.get(kind, kind))}
    return {"type": "colab_reply", "colab_msg_id": number, **found}


def _secret(key: str) -> dict[str, Any]:
    """Return what the notebook had in its environment: there ``%project secrets=`` puts what it reads."""
    if value := os.environ.get(key):
        return {"data": {"exists": True, "access": True, "payload": value}}
    return {"error": f"The notebook handed no secret {key} to its runs: add it to its line, %project … secrets={key}"}


def _drive(source: str) -> dict[str, Any]:
    """Say yes where Drive is mounted already: then `drive.mount` returns at once.

    Otherwise it would end the Drive of all that use it. It does not say where it mounts; the cell does, as a rule.
    """
    calls = _MOUNT.findall(_COMMENT.sub("", source))
    if any(map(_FORCED.search, calls)):
        return {
            "error": "A run does not mount Drive anew (force_remount), for the notebook and all other runs would lose "
            "theirs: leave force_remount out; where Drive is mounted, drive.mount does nothing."
        }
    points = [found["point"] for found in map(_POINT.match, calls) if found] or _mounted()
    away = [point for point in points if not os.path.isdir(os.path.join(os.path.expanduser(point), "My Drive"))]
    if points and not away:
        return {"data": {}}
    where = f" at {away[0]}" if away else ""
    return {
        "error": f"Drive is not mounted{where}, and a run cannot mount it, for Colab asks its user: execute that cell "
        "in the notebook, or %sync, then start the run again."
    }


def _mounted() -> list[str]:
    """Return where Drive is mounted."""
    try:
        table = Path(os.environ.get("COLAB_MAGICS_MOUNTS", "/proc/mounts")).read_text(errors="surrogateescape")
    except OSError:
        return []
    return [line.split()[1] for line in table.splitlines() if " fuse.drive " in line]
