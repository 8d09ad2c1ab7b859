"""What is drawn, whoever draws it: lines with their spread over steps or values, and parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ...records import metrics

X = float | str
_LABEL, _BAR, _MOST_ROWS = 60, 24, 200
_NONE, _ABOVE = "–", 0.15
"""What a run shows that lacks a parameter, and where the axis begins for the others."""


class Drawing(Protocol):
    """Something to draw."""

    @property
    def notes(self) -> Sequence[str]:
        """Lines below it."""

    def text(self) -> str:
        """Write it as text."""


@dataclass(frozen=True)
class Series:
    """One line, or points of one colour.

    Parameters
    ----------
    name : str
        What it is of: a run and its parameters, or what several runs have in common.
    x, y : sequence
        The points, in their order; what is not finite is a gap.
    spread : sequence of float
        Standard deviation at each point, 0 of a single value; empty where nothing was averaged.
    counts : sequence of int
        Of how many runs each point is the mean; empty as well.
    alone : bool
        Whether its points stand without a line even where lines are drawn.
    steps : bool
        Whether a value holds up to the next point.
    """

    name: str
    x: Sequence[X]
    y: Sequence[float]
    spread: Sequence[float] = ()
    counts: Sequence[int] = ()
    alone: bool = False
    steps: bool = False

    @property
    def label(self) -> str:
        """Its name as a legend shows it."""
        return metrics.one_line(self.name, width=_LABEL)

    def only(self, kept: Sequence[int]) -> Series:
        """Return it with these of its points."""
        x, y = [self.x[i] for i in kept], [self.y[i] for i in kept]
        spread = [self.spread[i] for i in kept] if self.spread else []
        counts = [self.counts[i] for i in kept] if self.counts else []
        return replace(self, x=x, y=y, spread=spread, counts=counts)

    @property
    def band(self) -> tuple[list[float], list[float]]:
        """The mean less the spread, and the mean with it."""
        pairs = list(zip(self.y, self.spread, strict=True))
        return [y - s for y, s in pairs], [y + s for y, s in pairs]


@dataclass(frozen=True)
class Lines:
    """A metric over steps, or over the values of a parameter or another metric.

    Parameters
    ----------
    y, x : str
        What the axes show.
    series : sequence of Series
        The lines.
    log : str
        Which axes are logarithmic: ``""``, ``x``, ``y`` or ``xy``.
    points : bool
        Whether the points matter, not only the way from one to the next.
    joined : bool
        Whether a line joins them.
    notes : sequence of str
        Lines below it.
    """

    y: str
    x: str
    series: Sequence[Series]
    log: str = ""
    points: bool = False
    joined: bool = True
    notes: Sequence[str] = ()

    @property
    def categories(self) -> list[str]:
        """The values on the x axis, in their order, where they are texts; none where they are numbers."""
        found = [x for one in self.series for x in one.x]
        return list(dict.fromkeys(map(str, found))) if any(isinstance(x, str) for x in found) else []

    def text(self) -> str:
        """Write each line as bars with its numbers; of points each with its value."""
        head = metrics.one_line(self.y) + (f" by {metrics.one_line(self.x)}" if self.points else "")
        return "\n".join([head, *(self._values() if self.points else self._ways()), *self.notes])

    def _ways(self) -> list[str]:
        width = max((len(metrics.one_line(one.name)) for one in self.series), default=0)
        found = []
        for one in self.series:
            numbers = "  ".join(f"{name} {value}" for name, value in _numbers(one).items())
            found.append(f"{metrics.one_line(one.name):<{width}}  {metrics.sparkline(one.y):<20}  {numbers}")
        return found

    def _values(self) -> list[str]:
        finite = [y for one in self.series for y in one.y if math.isfinite(y)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
        rows = [
            (one.label, show(x), show(y) + _spread(one, i), _bar(y, low, high))
            for one in self.series
            for i, (x, y) in enumerate(zip(one.x, one.y, strict=True))
        ]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        lines = [
            "  ".join(
                [
                    *([row[0].ljust(widths[0])] if len(self.series) > 1 else []),
                    row[1].rjust(widths[1]),
                    row[2].ljust(widths[2]),
                    row[3],
                ]
            ).rstrip()
            for row in rows[:_MOST_ROWS]
        ]
        return lines + ([f"… and {len(rows) - _MOST_ROWS} more"] if len(rows) > _MOST_ROWS else [])


@dataclass(frozen=True)
class Parallel:
    """Parallel coordinates: an axis for each parameter that differs, and one for the metric; a line for each run.

    Parameters
    ----------
    metric : str
        The metric of the last axis, which gives lines their colour.
    axes : sequence of str
        All axes, that of the metric last.
    rows : sequence of mapping
        The runs: ``run`` and a value for each axis.
    log : str
        Whether the metric's axis is logarithmic: ``y``.
    notes : sequence of str
        Lines below it.
    """

    metric: str
    axes: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    log: str = ""
    notes: Sequence[str] = field(default=())

    def text(self) -> str:
        """Write the runs as rows, in the order of the metric."""
        cells = [["run", *map(metrics.one_line, self.axes)]]
        cells += [
            [str(row["run"]), *(_NONE if row[axis] is None else show(row[axis]) for axis in self.axes)]
            for row in self.rows[:_MOST_ROWS]
        ]
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
        lines = ["  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in cells]
        more = [f"… and {len(self.rows) - _MOST_ROWS} more"] if len(self.rows) > _MOST_ROWS else []
        return "\n".join([*lines, *more, *self.notes])

    def places(self, axis: str) -> tuple[list[float], list[tuple[float, str]]]:
        """Return where each run crosses an axis, from 0 to 1, and marks to write there; without a value it is below."""
        values = [row[axis] for row in self.rows]
        there = [row for row in self.rows if row[axis] is not None]
        if len(there) < len(values):
            places, marks = replace(self, rows=there).places(axis) if there else ([], [])
            above = iter(_ABOVE + place * (1 - _ABOVE) for place in places)
            marks = [(_ABOVE + place * (1 - _ABOVE), word) for place, word in marks]
            return [0.0 if value is None else next(above) for value in values], [(0.0, _NONE), *marks]
        numbers = [number for value in values if (number := _number(value)) is not None]
        if len(numbers) < len(values):
            words = list(dict.fromkeys(map(show, values)))
            at = {word: (i + 0.5) / len(words) for i, word in enumerate(words)}
            return [at[show(value)] for value in values], [(place, word) for word, place in at.items()]
        scaled = list(map(math.log10, numbers)) if self._is_log(axis, numbers) else numbers
        low, high = min(scaled), max(scaled)
        half = high / 2 - low / 2
        places = [(value / 2 - low / 2) / half if half else 0.5 for value in scaled]
        ordered = sorted(zip(values, places, strict=True), key=lambda one: one[1])
        some = list({show(value): place for value, place in ordered}.items())
        if len(some) > 6:
            some = [some[round(i * (len(some) - 1) / 5)] for i in range(6)]
        return places, [(place, word) for word, place in some]

    def _is_log(self, axis: str, values: Sequence[float]) -> bool:
        """Whether an axis is logarithmic: the metric's as it is said, a parameter's where it spans powers of ten."""
        least = min(values)
        return least > 0 and ("y" in self.log if axis == self.axes[-1] else max(values) / least >= 100)


def _number(value: Any) -> float | None:
    """Return what can stand on an axis of numbers; None for anything else."""
    number = None if isinstance(value, bool) else metrics.as_number(value)
    return number if number is not None and math.isfinite(number) else None


def show(value: Any) -> str:
    """Write a value shortly, on one line."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return metrics.show_value(value)


def finite(values: Sequence[float]) -> list[float | None]:
    """Return numbers as JSON can hold them: what is not finite is None, a gap."""
    return [value if math.isfinite(value) else None for value in values]


def thin(series: Series, most: int) -> Series:
    """Leave out points that nobody could see: of each share the lowest and the highest stay, and every gap."""
    if len(series.y) <= most:
        return series
    size = math.ceil(len(series.y) / max(1, most // 2))
    kept: list[int] = []
    for start in range(0, len(series.y), size):
        share = range(start, min(start + size, len(series.y)))
        there = [i for i in share if math.isfinite(series.y[i])]
        chosen = {min(there, key=series.y.__getitem__), max(there, key=series.y.__getitem__)} if there else set()
        gap = next((i for i in share if not math.isfinite(series.y[i])), None)
        kept += sorted(chosen | ({gap} if gap is not None else set()))
    return series.only(kept)


def _numbers(one: Series) -> dict[str, str]:
    there = [(x, y) for x, y in zip(one.x, one.y, strict=True) if math.isfinite(y)]
    low, high = (pick(there, key=lambda point: point[1], default=(0.0, math.nan)) for pick in (min, max))
    last = f"{show(one.y[-1])}{_spread(one, -1)} at {show(one.x[-1])}"
    return {
        "first": show(one.y[0]),
        "last": last,
        "min": f"{show(low[1])} at {show(low[0])}",
        "max": f"{show(high[1])} at {show(high[0])}",
    }


def _spread(one: Series, i: int) -> str:
    return f" ± {one.spread[i]:.2g} ({one.counts[i]})" if one.counts and one.counts[i] > 1 else ""


def _bar(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return ""
    half = high / 2 - low / 2
    return "█" * (1 + round((value / 2 - low / 2) / half * (_BAR - 1) if half else 0))
