"""What a search has found, as drawings: which parameters matter, how it came to its best, where that lies."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ...errors import InvalidInput, NotFound
from ...records import metrics, schema
from ...records.names import FORKS, SCHEDULER
from ...records.run import Run
from ..goal import Goal
from ..plots import reading
from ..plots.drawings import Drawing, Lines, Series
from . import found, space
from .space import Distribution, Space
from .study import Rules, Study

WORDS = ("importance", "parallel", "history", "slice")
"""Names of the drawings."""

Done = Sequence[tuple[Run, float]]


def draw(runs: Sequence[Run], word: str, log: str = "") -> Sequence[Drawing]:
    """Draw what a search has found.

    Parameters
    ----------
    runs : sequence of Run
        Among them those of one search.
    word : str
        One of `WORDS`.
    log : str
        Which axes are logarithmic; those of parameters that are drawn so always are.

    Raises
    ------
    NotFound, InvalidInput
        When there are no runs of a search with a goal, or less than two of them have reached one; when there are those
        of several.
    """
    goal, of, mine = _of_one_search(runs)
    done = [(run, value) for run in mine if run.status().phase == "done" and (value := goal.value(run)) is not None]
    if len(done) < 2:
        raise NotFound(
            f"Less than two runs of the search have finished with a number as {goal.metric}.", "Wait for them."
        )
    if word == "importance":
        return [_importance(of, goal, done)]
    if word == "history":
        return [reading.checked(_history(goal, done, log))]
    if word == "parallel":
        return reading.drawings([run for run, _ in done], goal.metric, log=log, parallel=True)
    return [reading.checked(one) for one in _slices(of, goal, done, log)]


def _of_one_search(runs: Sequence[Run]) -> tuple[Goal, Space, list[Run]]:
    """Return the goal, the space and the runs of the only search among these."""
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


def _importance(of: Space, goal: Goal, done: Done) -> Lines:
    tried = [found.tried(run, [str(goal)]) for run, _ in done]
    study = Study(of, Rules([str(goal)], "random"), tried)
    names, shares = zip(*study.importance().items(), strict=True)
    series = Series(f"what {goal.metric} depends on", names, shares)
    return Lines("importance", "parameter", [series], points=True, joined=False, notes=["By PED-ANOVA."])


def _history(goal: Goal, done: Done, log: str) -> Lines:
    numbers, values = [float(found.number(run)) for run, _ in done], [value for _, value in done]
    best = list(itertools.accumulate(values, min if goal.way == "min" else max))
    series = [Series("best so far", numbers, best, steps=True), Series("each run", numbers, values, alone=True)]
    return Lines(goal.metric, "run of the search", series, log)


def _slices(of: Space, goal: Goal, done: Done, log: str) -> list[Lines]:
    drawn = dict(reversed(of.distributions))
    return [
        _slice(goal, name, drawn[name], [(run.parameters[name], value) for run, value in there], log)
        for name in of.names
        if name in drawn and (there := [(run, value) for run, value in done if name in run.parameters])
    ]


def _slice(goal: Goal, name: str, one: Distribution, points: Sequence[tuple[object, float]], log: str) -> Lines:
    if one.choices:
        ordered = sorted(points, key=lambda point: one.place(point[0]) or 0)
        xs: list[float | str] = [metrics.one_line(str(x), width=40) for x, _ in ordered]
    else:
        ordered = sorted(points, key=lambda point: metrics.as_number(point[0]) or 0.0)
        xs = [metrics.as_number(x) or 0.0 for x, _ in ordered]
    axes = "".join(axis for axis in "xy" if axis in log and not (one.choices and axis == "x"))
    axes = f"x{axes}" if one.log and "x" not in axes else axes
    return Lines(goal.metric, name, [Series("", xs, [y for _, y in ordered])], axes, points=True, joined=False)
