"""The notebook in front of the user, as Colab's page holds it: edits that are not saved yet included."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from ..errors import Unavailable
from .runtime import front_end_answers

UNNAMED = "notebook.ipynb"
_ANSWERS = 3
"""How many answers that are none are taken."""


def current_notebook(where: str, *, timeout: float = 120.0) -> tuple[dict[str, Any], str]:
    """Fetch the notebook that runs here.

    It is one long wait, for a large notebook over a slow line: to ask again throws the answer away that is on its way.
    Only where an answer came that is none, the page is asked again.

    Parameters
    ----------
    where : str
        The face; see `UI.where`.
    timeout : float, default 120
        Seconds in all.

    Returns
    -------
    tuple of dict and str
        The notebook (nbformat 4) and its file name.

    Raises
    ------
    Unavailable
        When this is not the notebook's own kernel on Colab, or its page does not answer.
    """
    if not front_end_answers(where):
        raise Unavailable(
            "Colab's page can be asked for the notebook only from the notebook itself.",
            "Name the notebook: notebook=FILE.ipynb",
        )
    from google.colab import _message

    why, end, answers = "no answer", time.monotonic() + timeout, 0
    while answers < _ANSWERS and (left := end - time.monotonic()) > 0:
        try:
            reply = _message.blocking_request("get_ipynb", timeout_sec=left)
        except _message.MessageError as error:
            reply, why = "", str(error) or type(error).__name__
        else:
            content = reply.get("ipynb") if isinstance(reply, dict) else None
            if isinstance(content, dict) and isinstance(content.get("cells"), list):
                return content, notebook_name(content)
            if reply is None:
                break
            why = "an answer without a notebook"
        answers += 1
    raise Unavailable(
        f"Colab's page did not hand over the notebook within {timeout:g} s ({why}).",
        "Bring its tab to the front and run the cell again, or name a saved copy: notebook=FILE.ipynb",
    )


def notebook_name(content: dict[str, Any] | None = None) -> str:
    """Return the file name of the notebook that runs here.

    Parameters
    ----------
    content : dict, optional
        The notebook; its metadata holds the name that it had when it was made, used when the sessions do not tell.
    """
    name = str((_session() or {}).get("name") or "")
    if not name and content:
        name = str(content.get("metadata", {}).get("colab", {}).get("name") or "")
    name = os.path.basename(urllib.parse.unquote(name)) or UNNAMED
    return name if name.endswith(".ipynb") else f"{name}.ipynb"


def _session() -> dict[str, Any] | None:
    """Find this kernel's session at the Jupyter server of the runtime; None when it cannot be told."""
    host, port = os.environ.get("COLAB_JUPYTER_IP"), os.environ.get("KMP_TARGET_PORT")
    if not host or not port:
        return None
    # No proxy: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}:{port}/api/sessions", timeout=5) as answer:
            sessions = json.load(answer)
    except (urllib.error.URLError, OSError, ValueError):
        return None
    if not isinstance(sessions, list):
        return None
    found: list[dict[str, Any]] = [one for one in sessions if isinstance(one, dict)]
    # The kernel's connection file, named on its command line, holds its id.
    own = re.search(r"kernel-([0-9a-f-]{8,})\.json", " ".join(sys.argv))
    for one in found:
        if own and (one.get("kernel") or {}).get("id") == own[1]:
            return one
    return found[0] if len(found) == 1 else None
