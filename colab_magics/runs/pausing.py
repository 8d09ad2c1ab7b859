"""A job whose runs wait until somebody says go on: ``<job>/.scheduler/pause.json`` is there as long.

Whoever wishes writes it or takes it away, and the job's scheduler looks whether it is there; so it holds for the next
scheduler as well, when this one has died. It ends with the job's last run.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from .. import process
from ..engines import base
from ..records.names import PAUSE, SCHEDULER
from ..records.run import LOCAL, Run, runs_of
from ..records.status import ENDED


def is_paused(job_folder: Path) -> bool:
    """Whether no run of a job is to be started."""
    return os.path.lexists(job_folder / SCHEDULER / PAUSE)


def note(job_folder: Path) -> str:
    """Say so below a table."""
    return f"{job_folder.name} is paused: no other run starts before %jobs go {job_folder.name}."


def pause(job_folder: Path) -> bool:
    """Have no more runs of a job started; those that run go on. Returns whether they were before.

    Raises
    ------
    OSError
        When that cannot be written.
    """
    if is_paused(job_folder):
        return False
    (job_folder / SCHEDULER).mkdir(exist_ok=True)
    process.write_json(job_folder / SCHEDULER / PAUSE, {"at": time.time()})
    return True


def go(job_folder: Path) -> bool:
    """Have runs of a job started again; returns whether it was paused.

    Raises
    ------
    OSError
        When that cannot be written.
    """
    try:
        os.unlink(job_folder / SCHEDULER / PAUSE)
    except FileNotFoundError:
        return False
    return True


def is_left(job_folder: Path) -> bool:
    """Whether a job has runs that have not ended."""
    return any(run.status().phase not in ENDED for run in runs_of(job_folder))


def out_of_reach(job_folder: Path) -> list[Run]:
    """Return the runs that a cluster has in its own queue: it starts them whatever is said here."""
    out = [run for run in runs_of(job_folder) if run.engine != LOCAL and run.is_out()]
    return [run for run in out if (run.reference() or {}).get("seen") == base.QUEUED]
