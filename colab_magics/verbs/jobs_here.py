"""The runs that a shell means: those of its project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import session
from ..checkout.project import MARKER, Project, find_project
from ..errors import InvalidInput, NotFound
from ..records.run import Run
from ..runs import select as by_words
from ..units import count

if TYPE_CHECKING:
    from ..runs.board import Board

_MAKE_SOME = "%fork n=5 in a notebook makes some; %submit -- COMMAND makes one."


def project() -> Project:
    """Return the project of this session, or the one that the current folder stands in, or just above.

    Raises
    ------
    NotFound
        When there is none.
    """
    found = project_if_any()
    if found is None:
        raise NotFound(
            f"No project was set up in {Path.cwd()} or above it.",
            "Change into the project's folder, or set it up: %project",
        )
    return found


def project_if_any() -> Project | None:
    """Return what `project` does; None when there is none."""
    shell = session.current()
    found: Project | None = shell.project or find_project(Path.cwd(), warn=shell.warn_once)
    if found is None:
        below = [path.parent for path in Path.cwd().glob(f"*/{MARKER}") if not path.parent.is_symlink()]
        found = find_project(below[0], warn=shell.warn_once) if len(below) == 1 else None
    return found


def on_this_machine(ids: Sequence[str], mine: Project | None, *, every_job: bool) -> list[str]:
    """Return the lines on what this machine executes of other projects, which ``--all`` alone asks for."""
    if ids or not every_job:
        return []
    from ..runs import machine

    lines = machine.elsewhere(mine.root if mine else None)
    return lines or ([] if mine else [machine.NOTHING])


def choices(ids: Sequence[str], also: Sequence[str] = (), *, every_job: bool = False) -> list[by_words.Choice]:
    """Read ids one by one; see `select.choices`."""
    mine = project()
    return by_words.choices(mine.data_job.parent, ids, job=mine.job, also=also, every_job=every_job)


def select(ids: Sequence[str], mine: Project | None = None, *, every_job: bool = False) -> list[Run]:
    """Return the runs that ids name; those of the current job without ids, or of every job."""
    mine = mine or project()
    return by_words.select(mine.data_job.parent, ids, job=mine.job, every_job=every_job)


def other_jobs(mine: Project | None = None) -> list[str]:
    """Return the jobs with runs that are not the current one."""
    mine = mine or project()
    return [name for name in by_words.with_runs(mine.data_job.parent) if name != mine.job]


def left_out(ids: Sequence[str], mine: Project | None = None, *, every_job: bool = False) -> list[str]:
    """Return the lines on what is not shown: other jobs, where the user has not chosen, and what is a link."""
    mine = mine or project()
    others = [] if ids or every_job else other_jobs(mine)
    data_job = mine.data_job.parent
    links = by_words.linked_away(data_job)
    return [*([f"{len(others)} other job{'s' if len(others) > 1 else ''}: --all"] if others else []), *links]


def none(ids: Sequence[str], mine: Project | None = None, *, every_job: bool = False) -> str:
    """Say that there are no such runs; of the current job, which others have some."""
    mine = mine or project()
    if ids and every_job:
        return f"No such runs in any job: {' '.join(map(str, ids))}."
    if ids:
        named = " ".join(map(str, ids))
        return f"No such runs: {named}. The current job is {mine.job}; JOB/failed names runs of another."
    if others := other_jobs(mine):
        return f"The current job {mine.job} has no runs; there are some of {', '.join(others)}."
    return f"No runs yet in {mine.root}: {_MAKE_SOME}"


def meant(ids: Sequence[str], *, every_job: bool = False, some: bool = True) -> list[Run]:
    """Return the runs that a line means, and say that it leaves jobs out.

    Parameters
    ----------
    ids, every_job
        See `select`.
    some : bool, default True
        That there is none is an error. In an empty job among others it always is: the user means one of those.

    Raises
    ------
    NotFound
        When there is none.
    """
    notes = left_out(ids, every_job=every_job)
    runs = select(ids, every_job=every_job)
    others = [] if ids or every_job else other_jobs()
    if not runs and (some or others):
        if not others and not ids:
            raise NotFound(f"No runs yet in {project().root}.", _MAKE_SOME)
        mend = f"Name a job (%jobs {others[0]}), or say --all." if others else "%jobs lists the runs there are."
        raise NotFound(none(ids, every_job=every_job), mend)
    for note in notes:
        session.current().ui.say(note)
    return runs


def the(word: str) -> Run:
    """Return the one run that a word names."""
    return by_words.one(select([word]), [word])


def of_a_queue(ids: Sequence[str], *, every_job: bool = False) -> Board | None:
    """Return a job's runs with those that its scheduler will take or choose; None for other words."""
    from ..runs.of_queue import sweep

    found = choices(ids, every_job=every_job)
    if len(found) != 1 or found[0].which:
        return None
    job = found[0].job_folder
    if sweep.is_searched(job):
        from ..runs.search import start

        return start.of_job(job)
    return sweep.board(job, queue) if (queue := sweep.taken_from(job)) else None


def drain(ids: Sequence[str], *, every_job: bool = False) -> list[str]:
    """Have whole jobs that are named take no more runs from queues and searches; returns a line for each."""
    from ..runs.of_queue import sweep

    return [
        f"No more runs are taken from {queue}."
        for choice in choices(ids, every_job=every_job)
        if not choice.which and (queue := sweep.drain(choice.job_folder, "killed by %jobs kill"))
    ]


def set_workers(ids: Sequence[str], workers: int, *, every_job: bool = False) -> list[str]:
    """Have so many runs of whole jobs go at once from now on; returns a line for each.

    Raises
    ------
    InvalidInput
        For a part of a job, and for no number of workers.
    NotFound
        When none of them is being executed.
    """
    from ..runs import scheduler

    folders = whole_jobs(ids, every_job=every_job)
    heard = [folder.name for folder in folders if scheduler.set_workers(folder, count(workers, name="workers"))]
    if not heard:
        names = ", ".join(folder.name for folder in folders) or "The job"
        raise NotFound(f"{names} is not being executed: nobody hears workers={workers}.", "%fork … workers= starts it.")
    return [f"{name}: up to {workers} runs at once from now on." for name in heard]


def whole_jobs(ids: Sequence[str], *, every_job: bool = False) -> list[Path]:
    """Return the folders of the jobs that ids name, the current one without ids.

    Raises
    ------
    InvalidInput
        For a part of a job.
    """
    found = choices(ids, every_job=every_job)
    if part := next((choice for choice in found if choice.which), None):
        job = part.job_folder.name
        raise InvalidInput(
            f"{job}/{part.which} is a part of a job, and this is said of a whole one.",
            f"Name the job: {job}. %jobs kill {job}/{part.which} ends runs.",
        )
    return [choice.job_folder for choice in found]


def latest(runs: Sequence[Run]) -> list[Run]:
    """Return the run that started last."""
    return [max(runs, key=lambda run: (run.status().started or 0.0, run.index))]
