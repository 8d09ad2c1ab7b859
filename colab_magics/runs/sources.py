"""Where a scheduler takes its runs from: what ``%fork`` has planned.

A source is asked for as many runs as there is room for, and told how each has ended; so it need not know how many there
will be. The scheduler does not know which source it has.
"""

from __future__ import annotations

import collections
from abc import ABC, abstractmethod
from collections.abc import Iterable

from ..records.run import Run
from ..records.status import Status


class Source(ABC):
    """Where runs come from."""

    @abstractmethod
    def take(self, number: int) -> list[Run]:
        """Return the next runs to execute, at most so many; they are the scheduler's from then on."""

    @abstractmethod
    def settle(self, run: Run, status: Status) -> None:
        """Take note of how a run has ended that was taken: it is not tried again."""

    @abstractmethod
    def exhausted(self) -> bool:
        """Whether there is nothing more to take, now and later."""

    @abstractmethod
    def cancel(self, reason: str) -> None:
        """Give up what was not taken, and write down why; raises OSError where that cannot be, to be called again."""


class Planned(Source):
    """The runs of a plan, in its order.

    Parameters
    ----------
    runs : iterable of Run
        Those that are to be executed.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self._left = collections.deque(runs)

    def take(self, number: int) -> list[Run]:
        """Return the next ones that nobody has killed meanwhile."""
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
        while self._left and self._left[0].verdict() is not None:
            self._left.popleft()
        return not self._left

    def cancel(self, reason: str) -> None:
        """Judge those that were not taken."""
        while self._left:
            if (run := self._left[0]).verdict() is None and run.folder.is_dir():
                run.judge("cancelled", reason)
            self._left.popleft()
