"""Which cells of a notebook a ``%fork`` is about: those of its runs, and the one at which the main notebook goes on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import InvalidInput

if TYPE_CHECKING:
    from ..payloads.code import Cell
    from ..payloads.forks import Fork
    from ..payloads.notebook_draft import NotebookDraft
    from ..runs.board import Board
    from ..ui import UI


def place_here(ui: UI) -> Fork:
    """Find the line in this notebook that forks another one: the cells up to its ``%join`` are left out here, too."""
    from ..payloads import forks

    own = ui.notebook_as_saved()
    if own is not None:
        # Where it cannot be told which line it is, nothing is left out.
        with suppress(InvalidInput):
            return forks.the(forks.prepare(own.content), own.running)
    return forks.NOWHERE


def check_cells(draft: NotebookDraft, place: Fork, names: Sequence[str], then: str | None) -> Cell | None:
    """Check the notebook against the parameters; return the cell at which the main notebook goes on."""
    from ..payloads import checks
    from ..payloads.code import as_python

    if names:
        checks.check_parameters(draft.program.content, draft.fork, names)
    if then == "stop" or place.join is None:
        return None
    tree = as_python(place.rest)
    if tree is None or tree.body:
        raise InvalidInput(
            "Code stands below %fork in its own cell: this notebook cannot skip half a cell on its way to %join.",
            "Put that code into a cell of its own.",
        )
    return place.join


def skip(ui: UI, place: Fork, joins: Cell, *, here: bool) -> None:
    """Skip the runs' cells in this notebook; `here` is whether it could execute them as one of the runs."""
    between = [(cell.id, cell.source) for cell in place.between]
    hint = "%fork here=0 makes this notebook a run" if here else ""
    ui.skip(between, (joins.id, joins.source), place.ids, hint)


def end(board: Board, mine: Fork) -> str:
    """Say how the runs ended, and why the notebook ends here."""
    from ..runs import watching

    below = "The cells below belong to the runs"
    if (after := mine.before_next) is not None:
        below += f", up to the next %fork (cell {after.number}); a %join above it lets this notebook go on there"
    return f"{watching.summary(board)} {below}."
