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
    limit: int | None
    """How many of them execute at once; None: nobody knows here, an earlier scheduler has said it."""


class Throttle:
    """Shares out what may execute at once among arrays, the oldest first.

    Parameters
    ----------
    at_once : int or None
        How many; None: as many as the cluster lets.
    """

    def __init__(self, at_once: int | None) -> None:
        self._at_once = at_once
        self._arrays: list[_Array] = []
        self._is_new = False

    def change(self, at_once: int | None) -> None:
        """Let another number execute at once from the next look on."""
        self._is_new = self._is_new or at_once != self._at_once
        self._at_once = at_once

    def room(self) -> int | None:
        """Return how many tasks of another array may execute now, 0 when it has to wait; None without a limit."""
        if self._at_once is None:
            return None
        return max(0, self._at_once - sum(array.live for array in self._arrays))

    def submitted(self, job: str, tasks: int, limit: int | None) -> None:
        """Note an array; a limit of 0 is none."""
        self._arrays.append(_Array(job, tasks, limit or 0))

    def look(self, known: Mapping[Task, Seen], jobs: Collection[str]) -> None:
        """Count what is left of each array, and let more of the later ones execute when the first need less.

        Parameters
        ----------
        known : mapping
            What the controller has.
        jobs : collection of str
            The arrays whose tasks were asked about: an earlier scheduler may have submitted some.
        """
        noted = {array.job for array in self._arrays}
        self._arrays += [_Array(job, 0, None) for job in sorted(jobs) if job not in noted]
        live: dict[str, int] = {}
        for (job, _), seen in known.items():
            live[job] = live.get(job, 0) + (seen.state not in ends.ENDED)
        left, said = self._at_once, True
        for array in self._arrays:
            array.live = live.get(array.job, 0)
            wanted = 0 if left is None else max(left, 1)  # 0 is no limit
            if array.live and self._is_of_use(array, wanted):
                said = _say(array, wanted) and said
            left = None if left is None else left - min(array.live, left)
        self._is_new = self._is_new and not said
        self._arrays = [array for array in self._arrays if array.live]

    def _is_of_use(self, array: _Array, wanted: int) -> bool:
        """Whether another limit lets more tasks of an array execute, or was asked for."""
        if self._is_new or array.limit is None:
            return wanted != array.limit
        return 0 < array.limit < min(wanted, array.live)


def _say(array: _Array, limit: int) -> bool:
    """Tell the controller; where it does not hear, it goes on as before, and is asked for again."""
    with contextlib.suppress(CommandFailed):
        asking.client("scontrol", "update", f"JobId={array.job}", f"ArrayTaskThrottle={limit}")
        array.limit = limit
        return True
    return False
