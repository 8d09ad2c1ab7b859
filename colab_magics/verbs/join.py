"""``%join``: runs end here; the main notebook goes on with their results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import session

if TYPE_CHECKING:
    from ..runs.board import Board


def join() -> Board:
    """End the runs here; the main notebook goes on.

    The main notebook skips the cells between ``%fork`` and this line, and executes those below it when the runs have
    ended: summaries, plots, tables. A run ends at this line, as a success. In a run of a fork further below, the line
    returns the runs of its own fork, as in the main notebook.

    Returns
    -------
    Board
        The runs of the ``%fork`` above, in the order of its points; shows itself as a table.

    Raises
    ------
    NotFound
        When there are no runs yet.
    InvalidInput
        After a restart of the kernel, when the job has the runs of several forks and none was executed here.
    """
    from ..runs import in_run

    here = session.current()
    if in_run.is_run(here.ui):
        board = in_run.of_another_fork(here.ui)
        if board is not None:
            return board
        here.ui.stop("the run ends at %join")
    from ..runs import joined

    here.ui.skip_nothing()
    return joined.of_this_cell(here)
