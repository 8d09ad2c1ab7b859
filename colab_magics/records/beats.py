"""Heartbeats of runs on other machines: fresh is one that was seen to change, for clocks differ."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from .status import SILENT


class Beats:
    """Which beat of each run was seen last, and when it came here.

    Parameters
    ----------
    clock : callable
        A clock that nobody sets, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Path, tuple[float, float]] = {}
        """Of each folder the last beat, and when it was seen to change; 0 before it was."""

    def is_fresh(self, folder: Path, beat: float, now: float) -> bool:
        """Whether a beat is fresh; at the first look by the clocks of both machines, afterwards by ours alone."""
        moment = self._clock()
        before, since = self._seen.get(folder, (beat, 0.0))
        if before != beat:
            since = moment
        self._seen[folder] = (beat, since)
        if since:
            return moment - since < SILENT
        return abs(now - beat) < SILENT


seen = Beats()
"""What this process has seen. Runs are made anew from their folders at every look, and whoever looks saw the same."""
