"""The runs of a search: which they are, and what the folders say of how each has ended."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import InvalidInput
from ...records import metrics
from ...records.names import RECORD, number_of
from ...records.run import Run
from ...records.status import Status
from . import space as spaces
from .space import Space
from .study import End, Tried, goal_values

SAME = ("notebook", "notebook_path", "fork")
"""What the records of the runs of one ``%fork`` have in common."""
_ENDS: dict[str, End] = {"done": "done", "failed": "failed", "stopped": "stopped"}
"""Runs that have ended so count, and are not executed again."""


def members(job_folder: Path, entry: Mapping[str, Any]) -> list[Run]:
    """Return the runs of a search that fit into its space, by what forks.json says of it.

    Tables ask for it twice a second: a record is read again when its file is another one.
    """
    same, space = json.dumps([entry.get(key) for key in SAME]), json.dumps(entry.get("search") or {})
    try:
        names = [name for name in os.listdir(job_folder) if number_of(name) is not None]
    except OSError:
        return []
    found = (_member(os.path.join(job_folder, name), same, space) for name in names)
    return sorted((run for run in found if run is not None), key=lambda run: run.index)


def _member(folder: str, same: str, space: str) -> Run | None:
    try:
        now = os.lstat(os.path.join(folder, RECORD))
    except OSError:
        return None
    return _read(folder, same, space, (now.st_ino, now.st_mtime_ns, now.st_size))


@lru_cache(maxsize=4096)
def _read(folder: str, same: str, space: str, seen: tuple[int, ...]) -> Run | None:
    """Read a run if it is of that search."""
    run = Run.look(Path(folder))
    mine = is_of_search(run) and json.dumps([run.record.get(key) for key in SAME]) == same
    return run if mine and _space(space).holds(run.parameters) else None


@lru_cache(maxsize=64)
def _space(text: str) -> Space:
    """Read a space once for all of its runs."""
    try:
        return spaces.read(json.loads(text))
    except InvalidInput:  # of another version
        return Space()


def is_of_search(run: Run) -> bool:
    """Whether a run's values were chosen by a search."""
    return not run.problem and "number" in (run.record.get("search") or {})


def number(run: Run) -> int:
    """Return which point of its search a run is."""
    return int(run.record["search"]["number"])


def tried(run: Run, goals: Sequence[str], status: Status | None = None, *, steps: bool = False) -> Tried:
    """Return what is known of a run's point; with `steps` the goal's way there, too.

    What has ended otherwise than well, or by an error, or early, has no end yet: it is executed again. A `status` says
    that it has ended for good all the same.
    """
    said = run.record["search"]
    end = _ENDS.get((status or run.status()).phase, "failed" if status is not None else None)
    one = Tried(int(said["number"]), run.parameters, tuple(said.get("told") or ()), end)
    if end == "done":
        one.values = goal_values(metrics.last(metrics.recent(run.folder)), goals)
    if steps:
        one.series = series(run, goals[0])
    return one


def series(run: Run, goal: str) -> list[tuple[float, float]]:
    """Return what a run has reported of a goal, step by step."""
    return metrics.series(metrics.recent(run.folder), goal.partition(":")[2])
