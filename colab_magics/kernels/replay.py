"""A notebook from its journal: what was noted is played through the code that took it from the kernel."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping
from typing import Any

import nbformat
from nbclient.exceptions import CellExecutionComplete
from papermill.engines import NotebookExecutionManager

from .client import RunClient


def as_text(notebook: Any, *, soon_replaced: bool = False) -> str:
    """Return a notebook as a file's text: as nbformat writes it, or on one line, ten times as fast."""
    text = json.dumps(notebook, ensure_ascii=False) if soon_replaced else str(nbformat.v4.writes_json(notebook))
    # Half a surrogate pair, which a kernel may send, is no UTF-8; its escape is JSON.
    return text.encode("utf-8", "backslashreplace").decode()


class Replay:
    """A notebook that a journal is played into.

    Parameters
    ----------
    content : mapping
        The notebook before its first cell.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.notebook = nbformat.from_dict(content)
        self._client = RunClient(NotebookExecutionManager(self.notebook, progress_bar=False, autosave_cell_every=0))

    def play(self, entry: dict[str, Any]) -> None:
        """Do what a line says."""
        if "begins" in entry:
            cell = self.notebook.cells[entry["begins"]]
            cell["metadata"] = nbformat.from_dict(entry["metadata"])
            cell["outputs"] = []
            self._client.clear_before_next_output = False
        elif "ended" in entry:
            cell = self.notebook.cells[entry["ended"]]
            cell["metadata"] = nbformat.from_dict(entry["metadata"])
            if cell["cell_type"] == "code":
                cell["execution_count"] = entry["count"]
        elif "msg_type" in entry:
            entry["buffers"] = [base64.b64decode(raw) for raw in entry.get("buffers", ())]
            with contextlib.suppress(CellExecutionComplete):
                self._client.process_message(entry, self.notebook.cells[entry["cell"]], entry["cell"])

    def text(self) -> str:
        """Return the notebook as a file's text."""
        self._client.settle()
        self._client.set_widgets_metadata()
        return as_text(self.notebook)
