"""How many runs execute at once where they are tasks of several arrays: Slurm itself counts within one alone."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ...errors import CommandFailed
from . import asking, ends
from .asking import Seen, Task


@dataclass
class _Array:
    job: str
    live: int
    """Tasks that have not ended."""
    limit: int


class Throttle:
    """Shares out what may execute at once among arrays, the oldest first.

    Parameters
    ----------
    at_once : int or None
        How many; None: as many as the cluster lets.
    """

    def __init__(self, at_once: int | None) -> None:
        self.at_once = at_once
        self._arrays: list[_Array] = []

    def room(self) -> int | None:
        """Return how many tasks of another array may execute now, 0 when it has to wait; None without a limit."""
        if self.at_once is None:
            return None
        return max(0, self.at_once - sum(min(array.live, self.at_once) for array in self._arrays))

    def submitted(self, job: str, tasks: int, limit: int | None) -> None:
        """Note an array."""
        if limit is not None:
            self._arrays.append(_Array(job, tasks, limit))

    def look(self, known: Mapping[Task, Seen], jobs: Collection[str]) -> None:
        """Count what is left of each, and let more of the later ones execute when the first need less.

        Parameters
        ----------
        known : mapping
            What the controller has.
        jobs : collection of str
            The arrays whose tasks were asked about: an earlier scheduler may have submitted some.
        """
        if self.at_once is None:
            return
        noted = {array.job for array in self._arrays}
        self._arrays += [_Array(job, 0, self.at_once) for job in sorted(jobs) if job not in noted]
        live: dict[str, int] = {}
        for (job, _), seen in known.items():
            live[job] = live.get(job, 0) + (seen.state not in ends.ENDED)
        left = self.at_once
        for array in self._arrays:
            array.live = live.get(array.job, 0)
            if array.live > array.limit and left > array.limit:
                self._raise(array, left)
            left -= min(array.live, left)
        self._arrays = [array for array in self._arrays if array.live]

    @staticmethod
    def _raise(array: _Array, limit: int) -> None:
        with contextlib.suppress(CommandFailed):  # it goes on with fewer, and is asked for again
            asking.client("scontrol", "update", f"JobId={array.job}", f"ArrayTaskThrottle={limit}")
            array.limit = limit
