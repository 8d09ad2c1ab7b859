"""``%jobs``: what runs, what ended how, what came of it, and an end or another try for what needs one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import session
from ..errors import InvalidInput, NotFound
from ..units import seconds, words
from . import call_only, short, subcommand

if TYPE_CHECKING:
    from ..runs.board import Board
    from ..runs.show import Link, Text
    from ..ui import Table


@call_only("workers")
def jobs(*ids: str, all: bool = False, workers: int | None = None, trend: str | None = None) -> Board:
    """List runs.

    Runs are found by their folders: in this notebook's project, or in the one that the current folder stands in, so
    that a fresh shell sees them too. With every word of ``%jobs`` the current job is meant, unless a line says more.

    Parameters
    ----------
    *ids : str
        ``baseline`` (a job), ``baseline/3``, ``baseline/3-5``, ``baseline/failed``; ``3``, ``7-9`` and ``failed`` are
        runs of the current job. Besides ``failed`` there are ``running``, ``waiting``, ``done``, ``interrupted``,
        ``killed`` and ``cancelled``. All runs of the current job by default.
    all : bool, default False
        Runs of all jobs: every one, or with ``failed`` or ``3`` those of each job. Alone, it also tells of each job
        of other projects that this machine executes (``%jobs machine``).
    workers : int, optional
        From now on let so many runs of a job that is being executed go at once; those that run go on.
    trend : str, optional
        The metrics whose course is drawn beside them: ``loss,acc``. By default what ``%fork`` said, its goal's metric,
        or the first that was reported.

    Returns
    -------
    Board
        The runs; shows itself as a table, and is one (``x = %jobs``, ``x.sort_values("loss")``).

    Raises
    ------
    NotFound, InvalidInput
        When an id names nothing, or there is no project here.
    """
    from ..runs.board import Board
    from . import jobs_here as here

    project = here.project_if_any()
    elsewhere = here.on_this_machine(ids, project, every_job=all)
    if project is None and elsewhere and workers is None:
        return Board(list, elsewhere)
    project = project or here.project()
    notes = here.left_out(ids, project, every_job=all) + elsewhere
    if workers is not None:
        notes += here.set_workers(ids, workers, every_job=all)
    if not here.select(ids, project, every_job=all):
        notes = [here.none(ids, project, every_job=all), *notes]
    return Board(lambda: here.select(ids, project, every_job=all), notes, trend=words(trend))


@subcommand(jobs, "list")
def list_(*ids: str, all: bool = False, trend: str | None = None) -> Board:
    """List runs; the same as ``%jobs``.

    Parameters
    ----------
    *ids, all, trend : str, bool, str
        See ``%jobs``.
    """
    return jobs(*ids, all=all, trend=trend)


@subcommand(jobs)
def show(*ids: str, all: bool = False) -> Text:
    """Show everything about runs: parameters, code version, times, files, and the error of a failed one.

    Parameters
    ----------
    *ids, all : str, bool
        See ``%jobs``.
    """
    from ..runs.show import Text, details
    from . import jobs_here as here

    return Text("\n\n".join(details(run) for run in here.meant(ids, every_job=all)))


@subcommand(jobs)
def watch(*ids: str, all: bool = False, trend: str | None = None) -> Board:
    """Show runs live until they have ended; interrupting stops watching only.

    Of runs on other machines that nobody looks after any more, it starts a process that does, as ``%fork`` had.

    Parameters
    ----------
    *ids, all, trend : str, bool, str
        See ``%jobs``.

    Returns
    -------
    Board
        The runs as they ended.
    """
    from ..runs import retry
    from ..runs.board import Board
    from . import jobs_here as here

    runs = here.select(ids, every_job=all)
    board = here.of_a_queue(ids, every_job=all) or Board.of(runs)
    board.trend = words(trend)
    board.notes += here.left_out(ids, every_job=all)
    if runs or board.waits_for_more():
        retry.attend(runs, session.current().secrets)
        board.watch_or_stop(session.current().ui)
    else:
        board.notes.insert(0, here.none(ids, every_job=all))
    return board


@subcommand(jobs)
@short(f="follow")
def logs(
    *ids: str,
    all: bool = False,
    follow: bool = False,
    lines: int = 0,
    every: str | float = 0.2,
    grep: str | None = None,
) -> Text:
    """Show what runs printed.

    Parameters
    ----------
    *ids, all : str, bool
        See ``%jobs``; the last run that started, by default.
    follow : bool, default False
        Go on showing what is printed until the run has ended; for one run. Shortly ``-f``.
    lines : int, default 0
        The last so many lines alone; 0 is everything.
    every : str, default 0.2
        How often to look with ``--follow``: ``20s``.
    grep : str, optional
        Only the lines that hold this text.

    Returns
    -------
    Text
        The logs.
    """
    from ..runs.select import one
    from ..runs.show import Text, grow, printed
    from . import jobs_here as here

    runs = here.meant(ids, every_job=all) if ids else here.latest(here.meant(ids, every_job=all))
    if not follow:
        return Text("\n\n".join(printed(run, lines, grep) for run in runs))
    run = one(runs, ids)
    for text in grow(run, every=seconds(every, name="every"), grep=grep):
        session.current().ui.show(text)
    return Text(f"{run.id}: {type(run).load(run.folder).status().full}")


@subcommand(jobs)
@call_only("all")
def kill(*ids: str, all: bool = False) -> Board:
    """End runs that wait or run: their kernels are interrupted, then terminated, then killed, with all their children.

    What they have saved stays, and the next ``%fork`` lets them go on. A whole job that takes its runs from a queue
    takes no more, and gives back what has not begun.

    Parameters
    ----------
    *ids, all : str, bool
        See ``%jobs``; at least one of them.

    Returns
    -------
    Board
        The runs.
    """
    from ..runs.board import kill as end
    from . import jobs_here as here

    _need(ids, all, "kill baseline, %jobs kill 3-5")
    notes = here.drain(ids, every_job=all)
    board = end(here.select(ids, every_job=all), session.current().ui)
    board.notes += notes
    return board


@subcommand(jobs)
@call_only("all")
def retry(
    *ids: str,
    all: bool = False,
    workers: str = "auto",
    retries: int | None = None,
    max_failures: int | None = None,
    detach: bool = False,
) -> Board:
    """Execute runs again that did not end well, as they were submitted: their own notebook and parameters.

    They go on in their own folders, so that checkpoints serve. An edited notebook is executed by ``%fork`` instead.

    Parameters
    ----------
    *ids, all : str, bool
        See ``%jobs``; at least one. ``failed`` is the usual one; of a whole job, those that did not end well.
    workers : str, default "auto"
        How many at once in each job; ``auto`` is as many as at its last ``%fork``.
    retries, max_failures : int, optional
        See ``%fork``; as at the job's last ``%fork`` by default, and so is its ``--try``.
    detach : bool, default False
        Do not wait for them; ``%jobs watch`` shows them.

    Returns
    -------
    Board
        The runs.

    Raises
    ------
    Busy, InvalidInput
        Before anything was started: the job is being executed, or a run that finished was named.
    RunsFailed
        After all have ended, when one or more failed again.
    """
    from ..runs import retry as room
    from ..runs.board import Board
    from ..runs.failures import failure
    from ..runs.watching import hand_over
    from . import jobs_here as here

    if session.run_folder() is not None:
        raise InvalidInput("A run cannot start others.", "Say %jobs retry in the main notebook or in a shell.")
    _need(ids, all, "retry failed, %jobs retry 3-5")
    feed = room.said(workers, retries, max_failures)
    runs = room.chosen(here.choices(ids, every_job=all))
    board, ui = Board.of(runs), session.current().ui
    if not runs:
        board.notes.append(f"Nothing to do. {here.none(ids, every_job=all)}")
        return board
    room.start(runs, feed, session.current().secrets)
    if detach:
        board.notes.append(f"%jobs watch {board.job_words()} shows them.")
        return board
    statuses = board.watch_or_stop(ui)
    for folder in dict.fromkeys(run.folder.parent for run in runs):
        hand_over(ui, folder)
    error = failure(statuses)
    if error is not None:
        raise error
    return board


@subcommand(jobs)
def du(*ids: str, all: bool = False) -> Table:
    """Show what runs take of the disk, also what reruns moved aside, and what is free.

    Parameters
    ----------
    *ids, all : str, bool
        See ``%jobs``.

    Returns
    -------
    Table
        A row for each folder.
    """
    from ..runs import clean
    from . import jobs_here as here

    with session.current().ui.progress("measuring folders"):
        return clean.usage(here.choices(ids, every_job=all), here.left_out(ids, every_job=all))


@subcommand(jobs)
@call_only("all", "yes")
def rm(*ids: str, all: bool = False, older: str | None = None, yes: bool = False) -> Table:
    """Remove the folders of runs, with everything in them; lists them and asks first.

    What runs or waits stays. Copies at the Place stay too, unless ``%sync --delete`` keeps it.

    Parameters
    ----------
    *ids, all : str, bool
        See ``%jobs``; at least one. ``superseded`` is what reruns of the current job moved aside.
    older : str, optional
        Only what ended so long ago, or longer: ``30d``.
    yes : bool, default False
        Do not ask.

    Returns
    -------
    Table
        What was removed; what would have been, without a yes.
    """
    from ..runs import clean
    from . import jobs_here as here

    _need(ids, all, "rm failed older=30d, %jobs rm 7-9")
    limit = None if older is None else seconds(older, name="older")
    choices = here.choices(ids, also=[clean.SUPERSEDED_WORD], every_job=all)
    return clean.ask_and_remove(session.current().ui, choices, older=limit, yes=yes, place=here.project().place)


@subcommand(jobs, "open")
def open_(id: str, /) -> Link:
    """Show where a run's executed notebook is: a link in notebooks, its path in a shell.

    Parameters
    ----------
    id : str
        The run: ``3``, ``baseline/3``.

    Returns
    -------
    Link
        The notebook; for a failed run with its cell, and how to go on there.
    """
    from ..runs.show import link
    from . import jobs_here as here

    shell = session.current()
    return link(here.the(id), where=shell.ui.where, start_folder=shell.start_folder)


def _need(ids: Sequence[str], all: bool, example: str) -> None:
    if not ids and not all:
        raise NotFound("Which runs?", f"Name a job or runs: %jobs {example}")


from . import jobs_notes, jobs_results  # noqa: E402, F401 - hang their subcommands on this verb
