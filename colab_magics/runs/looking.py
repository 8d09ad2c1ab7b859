"""Looking at many runs again and again: those that stand still are not read anew each time.

Whatever becomes of a run, a file of its folder is replaced or made, which the folder's time of change tells. File
systems that do not tell it are why everything is read anew twice a minute all the same.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from .. import process
from ..records import schema
from ..records.names import SCHEDULER, STATE
from ..records.run import LOCAL, Run
from ..records.status import Status
from . import scheduler

_ANEW = 30.0
"""Seconds after which everything is read anew."""
_FRESH = 2.0
"""What changed so few seconds ago may change again without another time of change."""
_STILL = frozenset({"done", "stopped", "failed", "killed", "cancelled"})


class Looks:
    """Tells how runs stand, look after look.

    Parameters
    ----------
    find : callable
        Returns the runs, read anew.
    """

    def __init__(self, find: Callable[[], Sequence[Run]]) -> None:
        self._find = find
        self._runs: list[tuple[str, Run]] = []
        self._next = 0.0
        self._jobs: dict[str, int] = {}
        self._still: dict[str, tuple[int, Run, Status]] = {}

    def statuses(self) -> list[tuple[Run, Status]]:
        """Return each run with how it stands."""
        now = time.time()
        if (anew := time.monotonic() >= self._next) or any(_changed(job) != at for job, at in self._jobs.items()):
            # Paths as text: this goes through all of them twice a second.
            self._runs = [(str(run.folder), run) for run in self._find()]
            self._jobs = {job: _changed(job) for job in {os.path.dirname(folder) for folder, _ in self._runs}}
        if anew:
            self._still.clear()
            self._next = time.monotonic() + _ANEW
            return [self._look(folder, run, _changed(folder), now) for folder, run in self._runs]
        return [self._again(folder, run, now) for folder, run in self._runs]

    def _again(self, folder: str, run: Run, now: float) -> tuple[Run, Status]:
        changed, still = _changed(folder), self._still.get(folder)
        if still is not None and still[0] == changed:
            return still[1:]
        return self._look(folder, Run.look(run.folder), changed, now)

    def _look(self, folder: str, run: Run, changed: int, now: float) -> tuple[Run, Status]:
        status = run.status(now=now)
        # What waits elsewhere may have become lost without a word: its engine's is asked each time.
        still = status.phase in _STILL or (status.phase == "waiting" and run.engine == LOCAL)
        if still and 0 < changed < (now - _FRESH) * 1e9:
            self._still[folder] = changed, run, status
        return run, status


def pause(seconds: float, jobs: Collection[Path]) -> None:
    """Wait so long; less when the last scheduler of these jobs ends meanwhile."""
    end, often = time.monotonic() + seconds, max(0.02, seconds / 20)
    held = [fd for job in jobs if (fd := _end_of(job)) is not None]
    # Where the end of one is no event, we look for it.
    longest = seconds if len(held) == len(jobs) else often
    try:
        ends = select.poll()
        for fd in held:
            ends.register(fd, select.POLLIN)
        while (left := end - time.monotonic()) > 0:
            for fd, _ in ends.poll(1000 * min(left, longest)):
                ends.unregister(fd)
                longest = often  # others may hold its lock a moment longer
            if jobs and not any(scheduler.is_running(job) for job in jobs):
                return
    finally:
        for fd in held:
            os.close(fd)


def _end_of(job: Path) -> int | None:
    """Return what becomes readable when the scheduler of a job ends; None where nothing does."""
    who = schema.read_or_nothing(job / SCHEDULER / STATE, schema.Scheduler).get("process") or {}
    fd = None
    with contextlib.suppress(OSError, TypeError, OverflowError):
        fd = os.pidfd_open(who.get("pid"))  # type: ignore[arg-type]
    if fd is not None and not process.is_alive(who):  # who has its number now
        os.close(fd)
        return None
    return fd


def _changed(folder: str) -> int:
    """Return when a folder changed last, in nanoseconds; -1 when it is not there."""
    try:
        return os.lstat(folder).st_mtime_ns
    except OSError:
        return -1
