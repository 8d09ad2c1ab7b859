"""The jobs that are being executed on this machine, whatever projects they are of: found by their processes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from .. import process
from ..checkout.project import DATA_JOB
from ..records.names import number_of
from ..records.run import runs_of
from ..session import RUN_VARIABLE
from ..ui import Table
from . import pausing, remaining, scheduler
from .plan import count_phases

NOTHING = "Nothing is being executed on this machine."
SHOWN = 5
_FEED = "colab_magics.runs.feed"


def table() -> Table:
    """Return a row for each job that a scheduler feeds, or of which a run executes; those of this user."""
    rows = [job.row for job in _jobs()]
    notes = ["In a project's folder %jobs shows its runs."] if rows else [NOTHING]
    return Table(["job", "state", "runs", "done", "left", "project"] if rows else [], rows, notes=notes)


def elsewhere(root: Path | None) -> list[str]:
    """Return a line for each of these jobs that is of another project than the one in this folder.

    Parameters
    ----------
    root : Path, optional
        The project's folder; without one all of them are of others.
    """
    others = [job for job in _jobs() if root is None or job.project.resolve() != root.resolve()]
    lines = [f"On this machine, too: {', '.join(filter(None, job.row[:-1]))}, of {job.project}" for job in others]
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"and {len(lines) - SHOWN} more: %jobs machine"]


@dataclass(frozen=True)
class _Job:
    """A job that is being executed: its project's folder, and its row of the table."""

    project: Path
    row: list[str]


def _jobs() -> Iterator[_Job]:
    """Yield the jobs that a scheduler feeds, or of which a run executes."""
    for folder in sorted(set(_job_folders())):
        statuses = [(run, run.status()) for run in runs_of(folder)]
        if not scheduler.is_running(folder) and not any(status.phase == "running" for _, status in statuses):
            continue
        share, left = remaining.estimate(statuses, kept=(), now=time.time())
        state = "paused" if pausing.is_paused(folder) else "running"
        done = "" if share is None else f"{100 * share:.0f} %"
        project = folder.parent.parent
        yield _Job(project, [folder.name, state, count_phases(statuses), done, left, str(project)])


def _job_folders() -> Iterator[Path]:
    """Yield the folders of jobs that processes of this user name: a scheduler's words, and what a run is told."""
    for one in psutil.process_iter(["pid", "uids"]):
        uids = one.info["uids"]
        if uids is None or uids.real != os.getuid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            words = one.cmdline()
            if _FEED in words[:-1]:
                folder = Path(words[words.index(_FEED) + 1])
                if folder.parent.name == DATA_JOB and folder.is_dir():
                    yield folder
        run = Path(process.variable(one.pid, RUN_VARIABLE) or "")
        if number_of(run.name) is not None and run.parent.parent.name == DATA_JOB and run.is_dir():
            yield run.parent
