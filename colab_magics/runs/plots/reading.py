"""From runs to drawings: which of them make a line, over what, and what is averaged."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InvalidInput, NotFound, did_you_mean
from ...records import metrics
from ...records.run import Run
from ...units import show_number, words
from .. import compare
from .drawings import Drawing, Lines, Parallel, Series, X

STEP, REPEAT = metrics.STEP, "repeat"
_AXES = 12

Reported = Mapping[Path, list[metrics.Line]]


def drawings(
    runs: Sequence[Run], metric: str, *, x: str = STEP, over: str | None = None, log: str = "", parallel: bool = False
) -> list[Drawing]:
    """Read what runs have reported of a metric, or of several: ``loss,accuracy``.

    Parameters
    ----------
    runs : sequence of Run
        Which runs.
    metric : str
        What is drawn.
    x : str
        Over what: ``step``, or a column of the runs' table, of which each run has one value.
    over : str, optional
        Parameters that do not tell runs apart: those that differ in nothing else become one line, with their mean and
        spread. ``repeat`` is what ``n:`` of a grid makes.
    log : str
        Which axes are logarithmic.
    parallel : bool
        Parallel coordinates in place of lines.

    Raises
    ------
    InvalidInput, NotFound
        When none of them has reported it, or there is no such column; lists what they have.
    """
    reported = {run.folder: metrics.read(run.folder) for run in runs}
    known = metrics.numeric_names(line for lines in reported.values() for line in lines)
    if not metric and known:
        raise InvalidInput("Which metric?", f"%jobs plot {known[0]}; known: {', '.join(known)}")
    # A metric may have a comma in its name.
    names = [metric] if metric in known else list(dict.fromkeys(words(metric))) or [metric]
    left_out = _left_out(runs, over)
    return [_drawing(runs, reported, name, x, left_out, log, parallel=parallel) for name in names]


def _drawing(
    runs: Sequence[Run], reported: Reported, metric: str, x: str, over: Sequence[str], log: str, *, parallel: bool
) -> Drawing:
    metrics.known_metric(metric, (line for lines in reported.values() for line in lines))
    if parallel:
        return _parallel(runs, metric, log)
    if x == STEP:
        return _by_step(runs, reported, metric, over, log)
    return _by_value(runs, metric, x, over, log)


def _left_out(runs: Sequence[Run], over: str | None) -> list[str]:
    """Read ``over=``."""
    known = [*dict.fromkeys(name for run in runs for name in run.parameters), REPEAT]
    found = words(over)
    if unknown := next((name for name in found if name not in known), None):
        raise did_you_mean(unknown, known, kind="parameter of these runs")
    return found


def _by_step(runs: Sequence[Run], reported: Reported, metric: str, over: Sequence[str], log: str) -> Lines:
    lines = {run.folder: metrics.series(reported[run.folder], metric) for run in runs}
    there = [run for run in runs if lines[run.folder]]
    with_steps = any(line.step is not None for run in there for line in reported[run.folder] if metric in line.values)
    notes = _silent(runs, there)
    if over:
        groups = _groups(there, over)
        series = [_mean(name, [dict(lines[run.folder]) for run in group]) for name, group in groups]
        if any(len(set(one.counts)) > 1 for one in series):
            notes.append("Runs of a mean do not have the same steps: at each it is of those that have it.")
    else:
        # One run, one line; its name is what `%jobs` calls it.
        values = _short([run.parameters for run in there])
        series = [
            Series(f"{run.id}  {own}".strip(), [x for x, _ in lines[run.folder]], [y for _, y in lines[run.folder]])
            for run, own in zip(there, values, strict=True)
        ]
    return checked(Lines(metric, STEP if with_steps else "report", series, log, notes=notes))


def _by_value(runs: Sequence[Run], metric: str, x: str, over: Sequence[str], log: str) -> Lines:
    rows = compare.rows(runs)
    known = compare.columns(rows)
    if x not in known:
        raise did_you_mean(x, {STEP, *known}, kind="parameter or metric of these runs")
    there = [
        (run, row[x], value)
        for run, row in zip(runs, rows, strict=True)
        if row[x] is not None and (value := _value(row, metric)) is not None
    ]
    notes = _silent(runs, [run for run, _, _ in there], f"{metric} and {x}")
    notes += _unfinished([row for row in rows if row["run"] in {run.id for run, _, _ in there}])
    if not there:
        raise NotFound(f"No run has both {metric} and {x}.", "%jobs table shows what each has.")
    numbers = all(isinstance(at, int | float) and not isinstance(at, bool) for _, at, _ in there)
    of: dict[Path, tuple[X, float]] = {
        run.folder: ((metrics.as_number(at) or 0.0) if numbers else metrics.one_line(str(at), width=40), value)
        for run, at, value in there
    }
    is_parameter = any(x == name or x == f"parameter.{name}" for run in runs for name in run.parameters)
    own = x.removeprefix("parameter.") if x not in {name for run in runs for name in run.parameters} else x
    groups = (
        _groups([run for run, _, _ in there], [*over, own]) if is_parameter else [("", [run for run, _, _ in there])]
    )
    series = [_at_values(name, [of[run.folder] for run in group], mean=is_parameter) for name, group in groups]
    return checked(Lines(metric, x, series, log, points=True, joined=is_parameter, notes=notes))


def _value(row: Mapping[str, Any], metric: str) -> float | None:
    """Return the last value of a metric in a row, where it is a number."""
    own = f"metric.{metric}"  # where a parameter has its name
    return metrics.as_number(row[own] if own in row else row.get(metric))


def _at_values(name: str, points: Sequence[tuple[X, float]], *, mean: bool) -> Series:
    points = sorted(points, key=lambda point: (isinstance(point[0], str), point[0]))
    if not mean:
        return Series(name, [x for x, _ in points], [y for _, y in points])
    return _mean(name, [{x: y} for x, y in points])


def _groups(runs: Sequence[Run], over: Sequence[str]) -> list[tuple[str, list[Run]]]:
    """Put runs together that differ in these parameters alone, and name what they have in common."""
    found: dict[str, list[Run]] = {}
    common: dict[str, Mapping[str, Any]] = {}
    several = len({run.folder.parent for run in runs}) > 1
    for run in runs:
        own = {name: value for name, value in run.parameters.items() if name not in over}
        key = repr((str(run.folder.parent), sorted((name, repr(value)) for name, value in own.items())))
        common[key] = own
        found.setdefault(key, []).append(run)
    return [
        (" ".join(filter(None, [group[0].job if several or not shown else "", shown])), group)
        for shown, group in zip(_short(list(common.values())), found.values(), strict=True)
    ]


def _short(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write the values of each, numbers shortly where that leaves those that differ different."""
    texts = []
    for write in (show_number, str):
        texts = [
            ", ".join(f"{name}={write(value) if isinstance(value, float) else value}" for name, value in row.items())
            for row in rows
        ]
        if len(set(texts)) == len({repr(row) for row in rows}):
            break
    return [metrics.one_line(text) for text in texts]


def _mean(name: str, lines: Sequence[Mapping[X, float]]) -> Series:
    """Average at each x over the lines that are there."""
    at: dict[X, list[float]] = {}
    for line in lines:
        for x, y in line.items():
            at.setdefault(x, []).append(y)
    xs = sorted(at, key=lambda x: (isinstance(x, str), x))
    counts = [len(at[x]) for x in xs]
    if max(counts, default=0) < 2:
        return Series(name, xs, [at[x][0] for x in xs])
    means = [math.fsum(y / len(at[x]) for y in at[x]) if _finite(at[x]) else math.nan for x in xs]
    spread = [_deviation(at[x]) for x in xs]
    return Series(f"{name} ({len(lines)} runs)", xs, means, spread, counts)


def _deviation(values: Sequence[float]) -> float:
    if len(values) < 2 or not _finite(values):
        return 0.0
    try:
        return statistics.stdev(values)
    except OverflowError:
        return math.inf


def _finite(values: Iterable[float]) -> bool:
    return all(map(math.isfinite, values))


def _parallel(runs: Sequence[Run], metric: str, log: str) -> Parallel:
    rows = compare.rows(runs)
    own = dict.fromkeys(name for run in runs for name in run.parameters)
    differ = [
        column
        for column in compare.columns(rows)
        if column.removeprefix("parameter.") in own
        and not column.startswith("metric.")
        and len({repr(row[column]) for row in rows}) > 1
    ]
    if not differ:
        raise InvalidInput("These runs differ in no parameter.", f"%jobs plot {metric} draws a line for each.")
    last = f"metric.{metric}" if metric in differ else metric
    there = [
        (run, {**{name: row[name] for name in differ[:_AXES]}, "run": run.id, last: value})
        for run, row in zip(runs, rows, strict=True)
        if (value := _value(row, metric)) is not None and math.isfinite(value)
    ]
    notes = _silent(runs, [run for run, _ in there])
    notes += _unfinished([row for row in rows if row["run"] in {run.id for run, _ in there}])
    if not there:
        raise NotFound(f"No run has a last value of {metric} that is a number.", "%jobs table shows what each has.")
    if len(differ) > _AXES:
        notes.append(f"Left out: {', '.join(differ[_AXES:])}")
    ordered = sorted((row for _, row in there), key=lambda row: float(row[last]))
    return Parallel(metric, [*differ[:_AXES], last], ordered, log, notes)


def _unfinished(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which runs' last values are none of finished runs."""
    return _listed("Not finished, with what was reported last", [row["run"] for row in rows if row["state"] != "done"])


def _listed(what: str, names: Sequence[str]) -> list[str]:
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return [f"{what}: {shown}"] if names else []


def _silent(runs: Sequence[Run], there: Sequence[Run], what: str = "") -> list[str]:
    """Say which runs are not drawn."""
    known = {run.folder for run in there}
    silent = [run.id for run in runs if run.folder not in known]
    return _listed(f"Nothing reported of {what}" if what else "Nothing reported", silent)


def checked(drawn: Lines) -> Lines:
    """Check what a logarithmic axis needs; what it cannot show is left out, and said.

    Raises
    ------
    InvalidInput
        For texts on one, or when nothing is left.
    """
    if "x" in drawn.log and drawn.categories:
        raise InvalidInput(f"log={drawn.log}: {drawn.x} has values that are no numbers.", "Leave it out, or log=y.")
    if not drawn.log:
        return drawn
    kept, lost = [], 0
    for one in drawn.series:
        good = [
            i
            for i, (x, y) in enumerate(zip(one.x, one.y, strict=True))
            if not ("x" in drawn.log and not isinstance(x, str) and x <= 0) and not ("y" in drawn.log and y <= 0)
        ]
        lost += len(one.y) - len(good)
        kept += [one.only(good)] if good else []
    if not kept:
        raise InvalidInput(f"log={drawn.log}: nothing is above 0.", "Leave log= out.")
    notes = [*drawn.notes, f"Not on a logarithmic axis: {lost} values of 0 or less."] if lost else drawn.notes
    return Lines(drawn.y, drawn.x, kept, drawn.log, drawn.points, drawn.joined, notes)
