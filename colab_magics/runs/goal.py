"""What the runs of a ``%fork`` are to reach, as ``goal=min:loss`` says it, and which of them is nearest.

It changes nothing of the runs: it stands in forks.json beside the fork's runs, and tables show it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InvalidInput
from ..records import metrics, schema
from ..records.names import FORKS, METRICS, SCHEDULER, folder_name
from ..records.run import Run
from ..records.status import Status
from .of_queue import claims


class Goal(NamedTuple):
    """Less of a metric, or more."""

    way: str
    metric: str

    def __str__(self) -> str:
        return f"{self.way}:{self.metric}"

    def value(self, run: Run) -> float | None:
        """Return a run's last value; None where it has no number."""
        return _last(run, self.metric)

    def best(self, runs: Sequence[Run]) -> Run | None:
        """Return the run whose last value is best; the first of equal ones, None where none has a number."""
        sign = 1 if self.way == "min" else -1
        known = [(sign * value, i) for i, run in enumerate(runs) if (value := _last(run, self.metric)) is not None]
        return runs[min(known)[1]] if known else None


class Wanted(NamedTuple):
    """What the line of some runs said that tables are to show.

    Parameters
    ----------
    goal : Goal or None
        Their goal, the first where forks have different ones.
    best : set of Path
        The best run of each fork: of all that have finished, whether they are among these runs or not.
    trend : list of str
        The metrics to draw.
    """

    goal: Goal | None
    best: set[Path]
    trend: list[str]


def wanted(statuses: Sequence[tuple[Run, Status]]) -> Wanted:
    """Return what is to be shown of these runs."""
    known, first, found = {run.folder: status for run, status in statuses}, None, set()
    trend: dict[str, bool] = {}
    for job in dict.fromkeys(run.folder.parent for run, _ in statuses):
        for entry in schema.read_or_nothing(job / SCHEDULER / FORKS, schema.Forks).get("forks", []):
            way, _, metric = str(entry.get("goal") or "").partition(":")
            drawn = entry.get("trend") or []
            folders = _members(job, entry) if drawn or (way and metric) else []
            if not known.keys() & set(folders):
                continue
            trend |= dict.fromkeys(drawn, True)
            if not (way and metric):
                continue
            goal = Goal(way, metric)
            first = first or goal
            if (best := goal.best(_done(folders, known, statuses))) is not None:
                found.add(best.folder)
    return Wanted(first, found, list(trend))


def meant(runs: Sequence[Run], text: str) -> Goal:
    """Read what the best of some runs is to be the best of: ``loss``, ``max:acc``, or nothing where their goal says it.

    Whether less or more of it is better is what the goal of their ``%fork`` says; less, where there is none.

    Raises
    ------
    InvalidInput
        When nothing says which metric, or forks of theirs say different things.
    """
    way, _, metric = text.partition(":")
    if metric and way in ("min", "max"):
        return Goal(way, metric)
    known = [goal for goal in _goals(runs) if text in ("", goal.metric)]
    if len(known) > 1:
        words = " or ".join(f"%jobs best {goal}" for goal in known)
        raise InvalidInput("The forks of these runs have different goals.", f"Say which is meant: {words}")
    if not text and not known:
        raise InvalidInput("The best by which metric?", "%jobs best loss; %fork goal=min:loss says it once for all.")
    return known[0] if known else Goal("min", text)


def _goals(runs: Sequence[Run]) -> list[Goal]:
    folders, found = {run.folder for run in runs}, {}
    for job in dict.fromkeys(run.folder.parent for run in runs):
        for entry in schema.read_or_nothing(job / SCHEDULER / FORKS, schema.Forks).get("forks", []):
            way, _, metric = str(entry.get("goal") or "").partition(":")
            if way in ("min", "max") and metric and folders & set(_members(job, entry)):
                found[Goal(way, metric)] = True
    return list(found)


def _members(job: Path, entry: Mapping[str, Any]) -> list[Path]:
    if queue := entry.get("queue"):
        return [run.folder for run in claims.runs(job, queue)]
    if entry.get("search"):
        from .search import found as of_search  # few jobs have one

        return [run.folder for run in of_search.members(job, entry)]
    return [job / folder_name(index) for index in entry["runs"]]


def _done(folders: Sequence[Path], known: Mapping[Path, Status], statuses: Sequence[tuple[Run, Status]]) -> list[Run]:
    runs = {run.folder: run for run, _ in statuses}
    found = []
    for folder in folders:
        run = runs.get(folder) or Run.look(folder)
        if (known.get(folder) or run.status()).phase == "done":
            found.append(run)
    return found


def _last(run: Run, metric: str) -> float | None:
    folder = str(run.folder)  # as text: a table of a thousand runs asks for each of them, twice a second
    try:
        stat = os.lstat(os.path.join(folder, METRICS))
    except OSError:
        return None
    return _last_value(folder, metric, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _last_value(folder: str, metric: str, size: int, changed: int) -> float | None:
    """Read it once; a file's size and time of change make a new entry of the cache."""
    value = metrics.as_number(metrics.compared(metrics.recent(Path(folder))).get(metric))
    return value if value is not None and not math.isnan(value) else None
