"""``%join``: runs end here; the main notebook goes on with their results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import session
from ..errors import NotFound

if TYPE_CHECKING:
    from ..runs.board import Board


def join() -> Board:
    """End the runs here; the main notebook goes on.

    The main notebook skips the cells between ``%fork`` and this line, and executes those below it when the runs have
    ended: summaries, plots, tables. A run ends at this line, as a success.

    Returns
    -------
    Board
        The runs of the job; shows itself as a table.

    Raises
    ------
    NotFound
        When the job has no runs yet.
    """
    here = session.current()
    if session.run_folder() is not None or "i_sub_job" in (here.ui.injected_parameters() or {}):
        here.ui.stop("the run ends at %join")
    from pathlib import Path

    from ..checkout.project import find_project
    from ..runs.board import Board
    from ..runs.run import runs_of

    here.ui.skip_nothing()
    project = here.project or find_project(Path.cwd())
    if project is None or not runs_of(project.data_job):
        raise NotFound("There are no runs to join.", "Start some above this line: %fork n=5")
    job_folder = project.data_job
    return Board(lambda: runs_of(job_folder))
