"""What a search has found, as drawings: which parameters matter, how it came to its best, where that lies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import InvalidInput, NotFound
from ...records import metrics, schema
from ...records.names import FORKS, SCHEDULER
from ...records.run import Run
from ...ui import Table
from ..chart import Chart, Charts, Point
from ..glance import show_parameters
from ..goal import Goal
from . import found, space
from .space import Distribution, Space
from .study import Rules, Study

WORDS = ("importance", "parallel", "history", "slice")
"""Names of the drawings."""


def draw(runs: Sequence[Run], word: str) -> Chart | Charts | Table:
    """Draw what a search has found.

    Parameters
    ----------
    runs : sequence of Run
        Among them those of one search.
    word : str
        One of `WORDS`.

    Raises
    ------
    NotFound
        When there are no runs of a search with a goal, or less than two of them have reached one.
    """
    goal, of, mine = _of_one_search(runs)
    done = [(run, value) for run in mine if run.status().phase == "done" and (value := goal.value(run)) is not None]
    if len(done) < 2:
        raise NotFound(
            f"Less than two runs of the search have finished with a number as {goal.metric}.", "Wait for them."
        )
    if word == "importance":
        return _importance(of, goal, done)
    if word == "history":
        return _history(goal, done)
    return _parallel(of, goal, done) if word == "parallel" else _slices(of, goal, done)


def _of_one_search(runs: Sequence[Run]) -> tuple[Goal, Space, list[Run]]:
    """Return the goal, the space and the runs of the only search among these.

    Raises
    ------
    NotFound, InvalidInput
        When there is none with one goal, or there are several.
    """
    searches = []
    for job in dict.fromkeys(run.folder.parent for run in runs if found.is_of_search(run)):
        for entry in schema.read_or_nothing(job / SCHEDULER / FORKS, schema.Forks).get("forks", []):
            way, _, metric = str(entry.get("goal") or "").partition(":")
            mine = [run for run in found.members(job, entry) if run in runs] if entry.get("search") and metric else []
            if mine:
                searches.append((Goal(way, metric), space.read(entry["search"]), sorted(mine, key=found.number)))
    if not searches:
        raise NotFound("These are no runs of a search with one goal.", "%%fork search=60 goal=min:loss makes some.")
    if len(searches) > 1:
        raise InvalidInput("These are runs of several searches.", "Name the runs of one: %jobs plot history 0-59")
    return searches[0]


def _importance(of: Space, goal: Goal, done: Sequence[tuple[Run, float]]) -> Table:
    tried = [found.tried(run, [str(goal)]) for run, _ in done]
    study = Study(of, Rules([str(goal)], "random"), tried)
    rows = [[name, f"{share:.3f}", "█" * round(20 * share)] for name, share in study.importance().items()]
    notes = ["By all finished runs (PED-ANOVA)."]
    return Table(["parameter", "importance", ""], rows, caption=f"What {goal.metric} depends on.", notes=notes)


def _history(goal: Goal, done: Sequence[tuple[Run, float]]) -> Chart:
    points = [(float(found.number(run)), value) for run, value in done]
    best = itertools.accumulate((value for _, value in points), min if goal.way == "min" else max)
    so_far = [(x, value) for (x, _), value in zip(points, best, strict=True)]
    return Chart(goal.metric, [("best so far", "", so_far), ("each run", "", _dots(points))], x="run of the search")


def _slices(of: Space, goal: Goal, done: Sequence[tuple[Run, float]]) -> Charts:
    charts = []
    for name, one in _drawn(of).items():
        points = sorted((_place(one, run.parameters[name]), value) for run, value in done if name in run.parameters)
        if points:
            charts.append(Chart(goal.metric, [(name, one.text, _dots(points))], x=_axis(name, one)))
    return Charts(charts)


def _parallel(of: Space, goal: Goal, done: Sequence[tuple[Run, float]]) -> Chart:
    columns: list[dict[int, float]] = []
    drawn = _drawn(of)
    for name, one in drawn.items():
        columns.append(
            {i: _place(one, run.parameters[name]) for i, (run, _) in enumerate(done) if name in run.parameters}
        )
    columns.append({i: value for i, (_, value) in enumerate(done)})
    shares = [_share(column) for column in columns]
    sign = 1 if goal.way == "min" else -1
    lines = []
    for i in sorted(range(len(done)), key=lambda i: sign * done[i][1]):
        points = [(float(x), column.get(i, math.nan)) for x, column in enumerate(shares)]
        lines.append((done[i][0].id, show_parameters(done[i][0]), points))
    return Chart(goal.metric, lines, x=" · ".join([*drawn, goal.metric]))


def _drawn(of: Space) -> dict[str, Distribution]:
    kinds = dict(reversed(of.distributions))
    return {name: kinds[name] for name in of.names if name in kinds}


def _place(one: Distribution, value: Any) -> float:
    """Return where a value stands on its axis."""
    if one.choices:
        return float(one.place(value) or 0)
    return math.log10(value) if one.log else float(value)


def _axis(name: str, one: Distribution) -> str:
    if one.choices:
        return f"{name}: " + ", ".join(f"{i} is {metrics.show_value(value)}" for i, value in enumerate(one.choices))
    return f"log10 of {name}" if one.log else name


def _share(column: Mapping[int, float]) -> dict[int, float]:
    low, high = min(column.values(), default=0.0), max(column.values(), default=0.0)
    return {i: (value - low) / (high - low) if high > low else 0.5 for i, value in column.items()}


def _dots(points: Sequence[Point]) -> list[Point]:
    """Have points drawn without a line between them: gaps do that."""
    return [one for point in points for one in (point, (point[0], math.nan))][:-1]
