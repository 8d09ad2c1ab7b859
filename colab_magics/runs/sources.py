"""Where a scheduler takes its runs from: what ``%fork`` and ``%submit`` have planned, or a queue (`.queued`).

A source is asked for as many runs as there is room for, and told how each has ended; so it need not know how many there
will be. The scheduler does not know which source it has.
"""

from __future__ import annotations

import collections
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..records.names import PLAN, SCHEDULER, number_of
from ..records.run import Run
from ..records.status import Status
from .scheduler import last_plan


class Source(ABC):
    """Where runs come from."""

    problem: str = ""
    """Why nobody can be asked for runs now, where that is so; those that were taken go on."""
    note: str = ""
    """What the user is to know when it has come to its end."""
    soon: bool = False
    """Whether runs may come in a moment."""
    learns: bool = False
    """Whether what comes next depends on how others have ended: what has ended is settled before."""
    drained: bool = False
    """Whether it was told to give no more runs."""

    def tend(self) -> None:  # noqa: B027 - a plan waits for nobody
        """Do what is to be done meanwhile; called all the time, and returns at once."""

    @abstractmethod
    def take(self, number: int) -> list[Run]:
        """Return the next runs to execute, at most so many; they are the scheduler's from then on."""

    @abstractmethod
    def settle(self, run: Run, status: Status) -> None:
        """Take note of how a run has ended that was taken, or that it is not started: it is not tried again."""

    @abstractmethod
    def exhausted(self) -> bool:
        """Whether there is nothing more to take, now and later."""

    def losing(self) -> Mapping[Path, str]:
        """Return why runs are to end early that are being executed, by their folders."""
        return {}

    @abstractmethod
    def cancel(self, reason: str) -> None:
        """Give up what was not taken, and write down why; raises OSError where that cannot be, to be called again."""


class Planned(Source):
    """The runs of a job's plan, in its order; others may be added to it while they are executed.

    Parameters
    ----------
    job_folder : Path
        ``data_job`` of the job.
    runs : iterable of Run
        Those that are to be executed.
    count : int, default 0
        How many of the plan's are among them or were left out; what follows was added.
    """

    def __init__(self, job_folder: Path, runs: Iterable[Run], count: int = 0) -> None:
        self._job_folder = job_folder
        self._left = collections.deque(runs)
        self._count = count
        self._seen = (0, 0)

    def _look(self) -> None:
        """Take up what was added to the plan, which is another file then."""
        try:
            found = os.stat(self._job_folder / SCHEDULER / PLAN)
        except OSError:
            return
        if (seen := (found.st_ino, found.st_mtime_ns)) == self._seen:
            return
        self._seen = seen
        names = last_plan(self._job_folder).get("runs", [])
        added = [name for name in names[self._count :] if number_of(name) is not None]
        self._count = max(self._count, len(names))
        self._left += (run for name in added if not (run := Run.look(self._job_folder / name)).problem)

    def take(self, number: int) -> list[Run]:
        """Return the next ones that nobody has killed meanwhile."""
        self._look()
        taken: list[Run] = []
        while self._left and len(taken) < number:
            run = self._left.popleft()
            if run.verdict() is None:
                taken.append(run)
        return taken

    def settle(self, run: Run, status: Status) -> None:
        """Nothing: the run's folder says it."""

    def exhausted(self) -> bool:
        """Whether all were taken or killed.

        Of those that wait the first alone is looked at: a thousand would be a thousand files to read each time.
        """
        self._look()
        while self._left and self._left[0].verdict() is not None:
            self._left.popleft()
        return not self._left

    def cancel(self, reason: str) -> None:
        """Judge those that were not taken."""
        self._look()
        while self._left:
            if (run := self._left[0]).verdict() is None and run.folder.is_dir():
                run.judge("cancelled", reason)
            self._left.popleft()
