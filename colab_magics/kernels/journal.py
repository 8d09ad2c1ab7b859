"""The journal of a notebook that is being executed: what arrived since it began, a line each, written at once.

A whole notebook is saved now and then; the journal has the rest. It stands beside the notebook while that is executed,
begins with the notebook as it was before the first cell, and only grows. After a crash `rebuild` plays it through the
same code that took the messages from the kernel, so that the notebook is what it would have been.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import files, process

AGAIN = 1.0
"""Seconds between two tries to write what found no room."""
GONE = (errno.ENOENT, errno.ENOTDIR)
"""The folder was moved or removed: to wait is no use."""


def path_of(notebook: Path) -> Path:
    """Where the journal of a notebook stands."""
    # Named as temporary files are (process.write_whole), which %sync leaves out.
    return notebook.with_name(f".{notebook.name}.journal.1.1.tmp")


class Journal:
    """Writes what happens to a notebook.

    Parameters
    ----------
    notebook : Path
        The notebook's file.
    content : mapping
        The notebook as it is before its first cell.
    """

    def __init__(self, notebook: Path, content: Mapping[str, Any]) -> None:
        self.path = path_of(notebook)
        self.path.unlink(missing_ok=True)  # what stood there may be a link
        self._fd: int | None = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        self._write({"notebook": content})

    def begins(self, index: int, cell: Mapping[str, Any]) -> None:
        """Note that a cell begins."""
        self._write({"begins": index, "metadata": cell["metadata"]})

    def ended(self, index: int, cell: Mapping[str, Any]) -> None:
        """Note that a cell has ended."""
        self._write({"ended": index, "metadata": cell["metadata"], "count": cell.get("execution_count")})

    def message(self, index: int, message: Mapping[str, Any]) -> None:
        """Note what the kernel said of a cell."""
        line = {"cell": index, **{key: message.get(key) for key in ("msg_type", "content", "metadata")}}
        parent = message.get("parent_header", {}).get("msg_id")
        line["header"] = {"msg_type": message["msg_type"], "date": (message.get("header") or {}).get("date")}
        line["parent_header"] = {"msg_id": parent}
        if message.get("buffers"):
            line["buffers"] = [base64.b64encode(buffer).decode() for buffer in message["buffers"]]
        self._write(line)

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._fd is None:
            return
        raw = json.dumps(line, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass") + b"\n"
        try:
            while raw:
                raw = raw[os.write(self._fd, raw) :]
        except OSError:
            # The notebook is saved all the same. A journal with a gap would make less of it, and takes room.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
                self.remove()

    def remove(self) -> None:
        """End the journal: the notebook is saved whole."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """End the journal and leave it where it is."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def rebuild(notebook: Path) -> bool:
    """Put what a journal has into its notebook, and remove the journal.

    Nobody may be executing the notebook.

    Returns
    -------
    bool
        Whether there was a journal.
    """
    journal = path_of(notebook)
    try:
        raw = files.read(journal)
    except FileNotFoundError:
        return False
    lines = raw.split(b"\n")[:-1]  # what follows the last line's end was cut off
    content = None
    for line in lines:
        with contextlib.suppress(ValueError):
            entry = json.loads(line.decode("utf-8", "surrogatepass"))
            if "notebook" in entry:
                from .replay import Replay

                content = Replay(entry["notebook"])
            elif content is not None:
                content.play(entry)
    if content is not None:
        process.write_whole(notebook, content.text())
    journal.unlink(missing_ok=True)
    return True
