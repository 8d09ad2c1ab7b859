"""How much of many runs is done, and how long the rest may take.

A run that has not ended is taken to last as long as those that have, or as its own steps say
(``report(step=30, total=100)``); as many execute at once as do now.
"""

from __future__ import annotations

import heapq
import re
import statistics
from collections.abc import Collection, Sequence
from pathlib import Path

from ..records.run import Run
from ..records.status import ENDED, Status
from ..units import show_seconds

_STEPS = re.compile(r"\bstep (\d+(?:\.\d+)?(?:e[+-]?\d+)?) of (\d+)")


def estimate(statuses: Sequence[tuple[Run, Status]], *, kept: Collection[Path], now: float) -> tuple[float | None, str]:
    """Return how much is done, from 0 to 1, and about how long the rest takes.

    Parameters
    ----------
    statuses : sequence of (Run, Status)
        The runs.
    kept : collection of Path
        Folders of runs that had finished before: how long they took says nothing of these.
    now : float
        The present moment.

    Returns
    -------
    tuple of float or None, and str
        None when nothing moves, or there is but one run without steps; an empty text when nothing is known yet.
    """
    moving = [status for _, status in statuses if status.phase not in ENDED]
    running = [status for status in moving if status.phase == "running" and status.started]
    if not moving or (len(statuses) == 1 and not any(_steps(status) for status in running)):
        return None, ""
    shares = [_steps(status) or 0.0 for status in running]
    share = (len(statuses) - len(moving) + sum(shares)) / len(statuses)
    took = [
        status.ended - status.started
        for run, status in statuses
        if status.phase == "done" and status.started and status.ended and run.folder not in kept
    ]
    lasted = [max(0.0, now - (status.started or now)) for status in running]
    # By their own word, where none has finished.
    told = [time / done for time, done in zip(lasted, shares, strict=True) if done]
    if not running or not (took or told):
        return share, ""
    usual = statistics.mean(took or told)
    rest = [time / done - time if done else max(0.0, usual - time) for time, done in zip(lasted, shares, strict=True)]
    heapq.heapify(rest)
    last = max(rest)
    for _ in range(len(moving) - len(running)):
        last = max(last, end := heapq.heappop(rest) + usual)
        heapq.heappush(rest, end)
    return share, f"about {_about(last)} left"


def _steps(status: Status) -> float | None:
    """Return how far a run is by its own word; None where it says nothing."""
    found = _STEPS.search(status.text)
    return min(1.0, float(found[1]) / int(found[2])) if found and int(found[2]) else None


def _about(seconds: float) -> str:
    """Write a duration that nobody knows so well."""
    if seconds < 60:
        return show_seconds(max(10.0, round(seconds, -1)))
    return f"{seconds / 60:.0f} min" if seconds < 3570 else show_seconds(seconds)
