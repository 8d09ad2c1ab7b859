"""Which front end a shell belongs to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..colab.runtime import enterprise, on_colab
from ..ui import RunningCell

_OF_VSCODE = "vscode-notebook-cell:"
"""How the ids of VS Code's cells begin: addresses, of the notebook's file and a part that stands for the cell."""
_REMEMBERED = 200
"""So many cells that were executed are compared when several hold the same code."""


def where(ip: Any) -> str:
    """Say which front end a shell belongs to; see `colab_magics.ui.UI.where`."""
    if getattr(ip, "kernel", None) is None:
        return "terminal"
    if enterprise():
        return "colab-enterprise"
    if on_colab():
        return "colab" if has_page(ip) and not _is_vscode(ip) else "colab-other"
    if _is_vscode(ip) or "VSCODE_PID" in os.environ:
        return "vscode"
    return "jupyter"


def has_page(ip: Any) -> bool:
    """Whether a shell is Google's, whose page hands the notebook over; it may be VS Code that plays the page."""
    return on_colab() and type(ip).__module__.startswith("google.colab")


def cell_id(ip: Any) -> str:
    """Return the id of the cell that is being executed; empty where the front end sends none."""
    kernel = getattr(ip, "kernel", None)
    metadata = kernel.get_parent("shell").get("metadata") if kernel is not None else None
    return str((metadata or {}).get("cellId") or "")


def ends_by_reply(ip: Any) -> bool:
    """Whether this front end is known to end Run All when a reply says "error", also where no error is shown.

    JupyterLab and Jupyter Notebook 7 say which cells they have deleted; VS Code names cells by addresses of its own. Of
    Colab it is not known, and some programs look for the error in what they have collected.
    """
    kernel = getattr(ip, "kernel", None)
    parent = kernel.get_parent("shell") if kernel is not None else {}
    if on_colab() or not (parent.get("content") or {}).get("allow_stdin", False):
        return False
    return "deletedCells" in (parent.get("metadata") or {}) or cell_id(ip).startswith(_OF_VSCODE)


def _is_vscode(ip: Any) -> bool:
    return "__vsc_ipynb_file__" in ip.user_ns or cell_id(ip).startswith(_OF_VSCODE)


def vscode_file(ip: Any) -> Path | None:
    """Return the notebook's file as VS Code tells it; None in other front ends.

    The address of the cell that is executed knows of a rename and of "Save As"; the variable is set once, when the
    kernel starts.
    """
    address = cell_id(ip)
    if address.startswith(_OF_VSCODE):
        file = Path(unquote(urlsplit(address).path))
        if file.is_absolute() and file.is_file():
            return file
    known = ip.user_ns.get("__vsc_ipynb_file__")
    return Path(os.path.abspath(str(known))) if known else None


def is_question(ip: Any) -> bool:
    """Whether it is no cell of the user's that is executed, but the front end that asks this kernel something.

    VS Code's list of variables does so after each cell: not silently, but without history. Programs that execute a
    notebook may number some of its cells only; they say that nobody can type.
    """
    kernel = getattr(ip, "kernel", None)
    asked = (kernel.get_parent("shell").get("content") if kernel is not None else None) or {}
    return bool(asked.get("silent") or (asked.get("store_history") is False and asked.get("allow_stdin")))


def running_cell(ip: Any) -> RunningCell:
    """Tell which cell is being executed."""
    cells = [str(cell) for cell in ip.history_manager.input_hist_raw[-_REMEMBERED:]]
    return RunningCell(cells[-1], cell_id(ip), tuple(cells[:-1])) if cells else RunningCell()
