"""Looking at many runs again and again: those that stand still are not read anew each time.

Whatever becomes of a run, a file of its folder is replaced or made, which the folder's time of change tells. File
systems that do not tell it are why everything is read anew every few seconds all the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..records.run import LOCAL, Run
from ..records.status import Status

_ANEW = 10.0
"""Seconds after which everything is read anew."""
_FRESH = 2.0
"""What changed so few seconds ago may change again without another time of change."""
_STILL = frozenset({"done", "failed", "killed", "cancelled"})


class Looks:
    """Tells how runs stand, look after look.

    Parameters
    ----------
    find : callable
        Returns the runs, read anew.
    """

    def __init__(self, find: Callable[[], Sequence[Run]]) -> None:
        self._find = find
        self._runs: list[Run] = []
        self._next = 0.0
        self._jobs: dict[Path, int] = {}
        self._still: dict[Path, tuple[int, Run, Status]] = {}

    def statuses(self) -> list[tuple[Run, Status]]:
        """Return each run with how it stands."""
        now = time.time()
        if time.monotonic() >= self._next or any(_changed(job) != at for job, at in self._jobs.items()):
            self._still.clear()
            self._runs = list(self._find())
            self._jobs = {job: _changed(job) for job in {run.folder.parent for run in self._runs}}
            self._next = time.monotonic() + _ANEW
            return [self._look(run, _changed(run.folder), now) for run in self._runs]
        return [self._again(run.folder, now) for run in self._runs]

    def _again(self, folder: Path, now: float) -> tuple[Run, Status]:
        changed, still = _changed(folder), self._still.get(folder)
        if still is not None and still[0] == changed:
            return still[1:]
        return self._look(Run.look(folder), changed, now)

    def _look(self, run: Run, changed: int, now: float) -> tuple[Run, Status]:
        status = run.status(now=now)
        # What waits elsewhere may have become lost without a word: its engine's is asked each time.
        still = status.phase in _STILL or (status.phase == "waiting" and run.engine == LOCAL)
        if still and 0 < changed < (now - _FRESH) * 1e9:
            self._still[run.folder] = changed, run, status
        return run, status


def _changed(folder: Path) -> int:
    """Return when a folder changed last, in nanoseconds; -1 when it is not there."""
    try:
        return os.lstat(folder).st_mtime_ns
    except OSError:
        return -1
