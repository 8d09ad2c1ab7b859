"""What a verb may ask of the face in front of it, in three roles, and the face of terminals and scripts.

Verbs return handles and never print. What must reach the user *while* a verb works is `says.Says`; the user's variables
are `names.Names`; the notebook and what becomes of its cells `cells.Cells`. A face has all three. The notebook's is
`colab_magics.faces.notebook_ui.NotebookUI`.
"""

from __future__ import annotations

from typing import NoReturn, Protocol

from .cells import Cells, NoCells, Notebook, RunningCell, read_notebook
from .names import Names, NoNames
from .says import Live, Says, SaysLines, chosen, is_window, numbered, ticking
from .table import Table

__all__ = [
    "INTERRUPTED",
    "UI",
    "Cells",
    "Live",
    "Names",
    "Notebook",
    "RunningCell",
    "Says",
    "Table",
    "TerminalUI",
    "chosen",
    "is_window",
    "numbered",
    "read_notebook",
    "ticking",
]


INTERRUPTED = 130
"""The exit status that shells give to a program ended by Ctrl-C."""


class UI(Says, Names, Cells, Protocol):
    """What a face offers."""


class TerminalUI(SaysLines, NoNames, NoCells):
    """The face of shells and scripts: lines, and neither cells nor names."""

    def stop(self, message: str, *, interrupted: bool = False) -> NoReturn:
        if message:
            self.say(message)
        raise SystemExit(INTERRUPTED if interrupted else 0)
