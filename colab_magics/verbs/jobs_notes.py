"""The words of ``%jobs`` by which people say something of runs: notes, tags, that no more are to start for now."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .. import session
from ..errors import ColabMagicsError
from . import call_only, subcommand
from .jobs import jobs

_FRONT = {
    "jupyter": "The browser shows it when runs have ended that a line has waited for, if you allow it.",
    **dict.fromkeys(
        ("terminal", "script"), "The terminal's bell rings when runs have ended that a line has waited for."
    ),
}

if TYPE_CHECKING:
    from ..runs.board import Board
    from ..runs.show import Text
    from ..ui import Table


@subcommand(jobs)
def note(ids: str, /, *text: str) -> Board:
    """Write a note on runs: it stands in their tables, and in their folders.

    Parameters
    ----------
    ids : str
        The runs: ``3``, ``7-9``, ``baseline/failed``.
    *text : str
        The note; quotes keep signs that mean something to a shell. It takes the place of an earlier one, and ``""``
        takes that away. Without it the runs are shown with their notes.

    Returns
    -------
    Board
        The runs.
    """
    from ..records import notes

    return _noted(ids, note=notes.checked_note(" ".join(text)) if text else None)


@subcommand(jobs)
@call_only("remove")
def tag(ids: str, /, *tags: str, remove: bool = False) -> Board:
    """Give runs tags, by which tables can be filtered: ``%jobs table where="'good' in tags"``.

    Parameters
    ----------
    ids : str
        The runs: ``3``, ``7-9``, ``baseline/failed``.
    *tags : str
        Words; without any the runs are shown with theirs.
    remove : bool, default False
        Take these away instead; without any, all.

    Returns
    -------
    Board
        The runs.
    """
    from ..records import notes

    return _noted(ids, tags=[notes.checked_tag(word) for word in tags], remove=remove)


def _noted(ids: str, *, note: str | None = None, tags: list[str] | None = None, remove: bool = False) -> Board:
    from ..records import notes
    from ..runs.board import Board
    from ..runs.scheduler import planning
    from . import jobs_here as here

    runs = here.meant([ids])
    for run in runs:
        gone = (tags or notes.read(run.folder).tags) if remove else ()
        try:
            # One at a time: two lines at once would each write what it has read before the other wrote.
            with planning(run.folder.parent):
                notes.write(run.folder, note, add=() if remove else tags or (), remove=gone)
        except OSError as error:
            raise ColabMagicsError(
                f"{run.folder} cannot be written: {error.strerror}.", "Make room, or get the right to write there."
            ) from error
    return Board.of(runs)


@subcommand(jobs)
def machine() -> Table:
    """Show the jobs that you have this machine execute now, whatever projects they are of.

    Returns
    -------
    Table
        A row for each job: how many of its runs stand how, how much is done, and its project's folder.
    """
    from ..runs import machine

    return machine.table()


@subcommand(jobs)
@call_only("all")
def pause(*ids: str, all: bool = False) -> Board:
    """Start no more runs of a job for now; those that run go on. ``%jobs go`` has them started again.

    It holds when the notebook, or the process that starts the runs, has ended, and until the job's last run has.

    Parameters
    ----------
    *ids, all : str, bool
        Jobs; the current one by default.

    Returns
    -------
    Board
        Their runs.
    """
    from ..runs import pausing
    from ..runs.scheduler import is_running

    folders, board = _whole_jobs(ids, every_job=all)
    for folder in folders:
        if not is_running(folder) and not pausing.is_left(folder):
            board.notes.append(f"Nothing of {folder.name} waits: there is nothing to pause.")
            continue
        _write(folder, pausing.pause)
        if out := pausing.out_of_reach(folder):
            board.notes.append(
                f"{len(out)} run{'s' * (len(out) > 1)} of {folder.name} wait in the queue of {out[0].engine}, which "
                f"may still start them: %jobs kill {out[0].id} takes one back."
            )
    return board


@subcommand(jobs)
@call_only("all")
def go(*ids: str, all: bool = False) -> Board:
    """Have runs of a job started again after ``%jobs pause``.

    Parameters
    ----------
    *ids, all : str, bool
        Jobs; the current one by default.

    Returns
    -------
    Board
        Their runs.
    """
    from ..runs import pausing
    from ..runs.scheduler import is_running

    folders, board = _whole_jobs(ids, every_job=all)
    for folder in folders:
        if not _write(folder, pausing.go):
            board.notes.append(f"{folder.name} was not paused.")
        elif not is_running(folder) and pausing.is_left(folder):
            board.notes.append(f"Nobody executes the runs of {folder.name}: say their %fork line again.")
    return board


def _whole_jobs(ids: tuple[str, ...], *, every_job: bool) -> tuple[list[Path], Board]:
    from ..records.run import runs_of
    from ..runs.board import Board
    from ..runs.scheduler import is_running
    from . import jobs_here as here

    # A job that takes its runs from a queue may have none yet.
    folders = [folder for folder in here.whole_jobs(ids, every_job=every_job) if is_running(folder) or runs_of(folder)]
    if not folders:
        here.meant(ids, every_job=every_job)  # says what there is
    board = Board.of(here.select(ids, every_job=every_job))
    board.notes += here.left_out(ids, every_job=every_job)
    return folders, board


def _write(folder: Path, what: Callable[[Path], bool]) -> bool:
    try:
        return what(folder)
    except OSError as error:
        raise ColabMagicsError(
            f"{folder} cannot be written: {error.strerror}.", "Make room, or get the right to write there."
        ) from error


@subcommand(jobs)
def notify(*, command: str | None = None) -> Text:
    """Try the notification that comes when runs have ended: it comes now.

    A notebook's browser shows one when the runs that a line has waited for have ended, once you allow it: this line
    asks. Terminals ring their bell. A command of your own is started when a job has ended, also when nobody waits for
    it; it stands in your ``~/.config/colab_magics/config.toml``, as ``[jobs.notify]`` with
    ``command = "ntfy publish mine"``.

    Parameters
    ----------
    command : str, optional
        A program and its words; what is said becomes its last argument.

    Returns
    -------
    Text
        What was done.
    """
    from ..runs import notifying
    from ..runs.show import Text
    from . import jobs_here as here

    ui, mine = session.current().ui, here.project()
    said = f"{mine.job}: this is how it looks."
    ui.notify(notifying.TITLE, said, ask=True)
    told = [_FRONT.get(ui.where, "This front end can show no notification.")]
    if command is not None:
        notifying.start(command, said, log=os.devnull)
        told.append(f"When a job has ended, this tells it: {command}")
    return Text("\n".join(told))
