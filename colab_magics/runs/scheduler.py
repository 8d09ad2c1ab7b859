"""The scheduler of a job, from outside: it is started, looked for, told to end runs or to have more of them at once.

It is a detached process (see `colab_magics.runs.feed`) that outlives the notebook that started it. Which runs to
execute stands in ``<job>/.scheduler/plan.json``; who schedules
in ``<job>/.scheduler/state.json``. A lock on the job's folder, handed over by the submitter as an open file, makes sure
that a job has one scheduler. Kill requests come as verdict.json in a run's folder, from whoever wants a run to end, and
another number of runs at once as workers.json beside the plan.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import process
from ..engines import forking
from ..engines.zygotes import Begun
from ..errors import Busy, ColabMagicsError, InvalidInput
from ..queues.addresses import shown
from ..records import lock as locks
from ..records import schema
from ..records.names import DRAIN, LOG, PLAN, SCHEDULER, STATE
from ..records.plain import linked
from ..records.run import Run, runs_of
from ..records.status import ENDED
from ..units import count, seconds
from . import pausing, submitted
from . import workers as said_workers
from .of_queue.table import Table
from .plan import since

CURRENT = "current_sub_job_is.txt"
_PLANNING = 60.0
"""Seconds for which a line waits while another decides about runs of the same job."""


@contextlib.contextmanager
def planning(job_folder: Path) -> Iterator[list[int]]:
    """Be the only one who decides what a job's runs are: two lines at once would take the same folders.

    Yields
    ------
    list of int
        File descriptors that say so while they are open, here or in a fork; none where no run was ever planned.

    Raises
    ------
    Busy
        When somebody else takes too long for it.
    ColabMagicsError
        When the job's folder cannot be written.
    """
    folder, patience = job_folder / SCHEDULER, time.monotonic() + _PLANNING
    while True:
        try:
            held = [locks.take(folder)] if folder.exists() else []
            break
        except BlockingIOError:
            if time.monotonic() > patience:
                raise Busy(
                    f"Another line has been deciding about the runs of {job_folder.name} for {_PLANNING:g} s.",
                    "Wait for it, then say it again.",
                ) from None
            time.sleep(0.02)
        except OSError as error:
            raise cannot_start(error, folder) from error
    try:
        yield held
    finally:
        for fd in held:
            os.close(fd)


@contextlib.contextmanager
def taken(job_folder: Path) -> Iterator[list[int]]:
    """Take a job for a scheduler, and decide about its runs.

    Yields
    ------
    list of int
        File descriptors: the first holds the job's lock, and `start` hands it over; nothing that is forked meanwhile
        may keep any.

    Raises
    ------
    Busy
        When the job's runs are being executed already.
    """
    began = time.monotonic()
    while True:
        with planning(job_folder) as held:
            try:
                fd = locks.take(job_folder)
            except BlockingIOError:
                fd = -1
            else:
                try:
                    yield [fd, *held]
                finally:
                    os.close(fd)
                return
        # A scheduler whose runs have all ended is about to end too: not while we hold what it waits for.
        over = all(run.status().phase in ENDED for run in runs_of(job_folder))
        if time.monotonic() > began + 0.5 + (10 if over else 0):
            raise _busy(job_folder)
        time.sleep(0.05)


def _busy(job_folder: Path) -> Busy:
    state = schema.read_or_nothing(job_folder / SCHEDULER / STATE, schema.Scheduler)
    job = job_folder.name
    return Busy(
        f"Other runs of job {job!r} are being executed already{since(state.get('started'))} "
        f"(scheduler {state.get('process', {}).get('pid', '?')}).",
        f"Wait for them (%jobs watch {job}); execute their %fork line again with workers= to have more of them at "
        f"once; or end them: %jobs kill {job}",
    )


def fed(job_folder: Path) -> set[str]:
    """Return the names of the folders of the runs that the scheduler was given."""
    plan = last_plan(job_folder)
    return {*plan.get("runs", ()), *plan.get("adopt", ())}


def waits_for(job_folder: Path) -> list[str]:
    """Return the line that says why a job's scheduler, or what it has started, cannot go on; none when it can."""
    try:
        full = os.statvfs(job_folder).f_bavail == 0
    except OSError:
        return []
    if full:
        return [f"The disk of {job_folder} is full: runs that have ended wait for room to say so."]
    state = schema.read_or_nothing(job_folder / SCHEDULER / STATE, schema.Scheduler)
    problem, source = state.get("problem"), str(state.get("source") or "")
    return [
        *([pausing.note(job_folder)] if pausing.is_paused(job_folder) else []),
        *([f"The runs of {job_folder.name} wait: {problem}."] if problem else []),
        *([f"{source[:1].upper()}{source[1:]}: runs go on, and it is asked again."] if source else []),
    ]


def last_plan(job_folder: Path) -> dict[str, Any]:
    """Return what the job's last scheduler was given; empty when that cannot be read."""
    return schema.read_or_nothing(job_folder / SCHEDULER / PLAN, schema.Plan)


def add(job_folder: Path, folders: Sequence[Path]) -> None:
    """Give more runs to the scheduler of a job; called while `planning`, with their folders written."""
    plan = last_plan(job_folder)
    plan["runs"] = [*plan.get("runs", ()), *(folder.name for folder in folders)]
    process.write_json(job_folder / SCHEDULER / PLAN, plan)


def check_addable(job_folder: Path, feed: Feed, engine: str, options: Mapping[str, Any]) -> None:
    """Check that runs can be given to the scheduler of a job beside those that it has.

    Raises
    ------
    InvalidInput
        When they are to be executed elsewhere than the others, or otherwise.
    Busy
        When the others are taken from a queue.
    """
    plan = last_plan(job_folder)
    if queue := plan.get("queue"):
        raise Busy(
            f"The runs of {job_folder.name} are taken from {queue}, and no others can stand beside them.",
            "Wait for them (%jobs watch), or use another job: %project job=NAME",
        )
    had = {**dataclasses.asdict(Feed()), **(plan.get("feed") or {})}
    if plan.get("search"):
        raise Busy(
            f"The runs of {job_folder.name} are chosen by a search, and no others can stand beside them.",
            "Wait for them (%jobs watch), or use another job: %project job=NAME",
        )
    differ = [
        f"{name}={value}"
        for name, value in dataclasses.asdict(feed).items()
        if name != "workers" and value != had.get(name)
    ]
    if plan.get("engine") != engine:
        differ.append(f"on={engine}")
    of_engine = plan.get("options") or {}
    differ += [f"{name}={value}" for name, value in options.items() if of_engine.get(name) != value]
    if differ:
        raise InvalidInput(
            f"Runs of {job_folder.name} are being executed, and {' and '.join(differ)} is not how.",
            "Leave it out, wait for them (%jobs watch), or use another job: %project job=NAME",
        )


@dataclass(frozen=True)
class Feed:
    """How an engine is fed.

    Parameters
    ----------
    workers : int
        How many runs at once.
    trial : float or None
        The first run goes alone: for so many seconds (``inf``: until it ends well) before the others start.
    max_failures : int or None
        When so many runs have failed, no other is started.
    retries : int
        How often a run that failed is executed again.
    """

    workers: int = 1
    trial: float | None = None
    max_failures: int | None = None
    retries: int = 0

    @classmethod
    def said(cls, workers: int, trial: str | None, max_failures: int | None, retries: int) -> Feed:
        """Read what a line says.

        Raises
        ------
        InvalidInput
            For what is no number, or no time.
        """
        return cls(
            workers,
            trial=None if trial is None else math.inf if trial == "end" else seconds(trial, name="try"),
            max_failures=None if max_failures is None else count(max_failures, name="max_failures"),
            retries=count(retries, name="retries", least=0),
        )


def start(
    job_folder: Path,
    folders: Sequence[Path],
    fd: int,
    *,
    engine: str,
    options: Mapping[str, Any] | None = None,
    feed: Feed,
    at_once: int | None = None,
    secrets: Sequence[str] = (),
    adopt: Sequence[Path] = (),
    begun: Begun | None = None,
    queue: Table | None = None,
    search: Mapping[str, Any] | None = None,
) -> int:
    """Start the scheduler of a job and hand the lock over.

    Parameters
    ----------
    job_folder : Path
        ``data_job`` of the job.
    folders : sequence of Path
        Run folders in the order of execution.
    fd : int
        What `taken` gives; the caller closes it afterwards.
    engine : str
        Name of the engine.
    options : mapping, optional
        What the line says to that engine alone.
    feed : Feed
        How to feed it.
    at_once : int, optional
        See `Resources`.
    secrets : sequence of str
        Names of the environment variables that go to runs wherever they execute; see `Session.secrets`.
    adopt : sequence of Path
        Folders of runs whose scheduler is gone, and which their engine still has.
    begun : Begun, optional
        What was started for it; the caller closes its files afterwards.
    queue : Table, optional
        The queue that it takes runs from, in place of `folders`.
    search : mapping, optional
        What it is to choose runs by, after `folders`; see `colab_magics.runs.search`.

    Returns
    -------
    int
        The scheduler's process id.
    """
    folder = job_folder / SCHEDULER
    check_real(folder)
    names = [path.name for path in folders]
    plan: dict[str, Any] = {
        "runs": names,
        "adopt": [path.name for path in adopt],
        "engine": engine,
        "options": dict(options or {}),
        "feed": dataclasses.asdict(feed),
        "at_once": at_once,
    }
    plan["by"] = process.identity()
    begun = begun or Begun()
    plan["begun"] = begun.notes
    plan["secrets"] = list(secrets)
    if search is not None:
        plan["search"] = dict(search)
    if queue is not None:
        plan |= {"queue": shown(queue.address), "watch": queue.watch}
    try:
        folder.mkdir(exist_ok=True)
        said_workers.forget(folder)
        (folder / DRAIN).unlink(missing_ok=True)
        process.write_json(folder / PLAN, plan)
        return process.start_detached(
            process.python("colab_magics.runs.feed", job_folder, str(fd)),
            log_file=folder / LOG,
            cwd=job_folder,
            env=forking.ROOM | (queue.environment if queue is not None else {}),
            pass_fds=(fd, *begun.files),
        )
    except OSError as error:
        raise cannot_start(error, folder) from error


def check_real(folder: Path) -> None:
    """Check that a folder of ours is none that leads elsewhere.

    Raises
    ------
    InvalidInput
        When it, or one of the two above, is a link.
    """
    if link := linked(folder):
        raise InvalidInput(f"{link} is a link: runs do not write through it.", "Remove or rename the link.")


def cannot_start(error: OSError, folder: Path) -> ColabMagicsError:
    """Say that runs cannot be started for want of room, or of a process."""
    return ColabMagicsError(
        f"The runs cannot be started: {error.strerror}: {error.filename or folder}.",
        "Nothing was started; what was to run waits. Make room, then say it again.",
    )


def is_running(job_folder: Path) -> bool:
    """Whether a scheduler holds the job."""
    return locks.is_held(job_folder)


def set_workers(job_folder: Path, workers: int) -> bool:
    """Let so many runs of a job go at once from now on; those that run go on.

    Returns
    -------
    bool
        Whether a scheduler is there to hear it; the next one takes the number that it is started with.

    Raises
    ------
    InvalidInput
        For less than one.
    """
    if workers < 1:
        raise InvalidInput(f"workers={workers}: no run would ever start.", "Write workers=1 or more.")
    if not is_running(job_folder):
        return False
    said_workers.write(job_folder / SCHEDULER, workers)
    return True


def kill(runs: Sequence[Run]) -> list[Run]:
    """Ask for the end of runs that have not ended.

    Their scheduler sees the request, cancels those that run and drops those that wait. Without a scheduler, those that
    run are ended here, wherever they do.

    Returns
    -------
    list of Run
        The runs that had not ended.

    Raises
    ------
    ColabMagicsError
        When the request cannot be written, or one of them cannot be reached.
    """
    asked = [run for run in runs if run.status().phase not in ENDED]
    unsaid: dict[Path, OSError] = {}
    for run in asked:
        try:
            run.judge("killed")
        except OSError as problem:
            unsaid[run.folder] = problem
    fed = {job_folder for job_folder in {run.folder.parent for run in asked} if is_running(job_folder)}
    submitted.end(run for run in asked if run.folder.parent not in fed or run.folder in unsaid)
    if unsaid:
        folder, error = next(iter(unsaid.items()))
        raise ColabMagicsError(
            f"The end of {len(unsaid)} runs cannot be written: {error.strerror}: {folder}. What ran here was ended.",
            "Those that wait may still be started: make room, or get the right to write there, and say it again.",
        )
    return asked
