"""A metric of several runs over its steps: an inline SVG for notebooks, bars of text for terminals."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from ..records import metrics
from ..records.run import Run
from ..units import words
from .glance import show_parameters

Point = tuple[float, float]

_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 40
_MOST = 600
"""Points of a line beyond which only the extremes of each share are drawn."""
# Middle tones, which stand out on white and on black; dashes tell the second and third round of them apart.
_COLORS = ("#4c8dd6", "#e0803a", "#3fa665", "#d35d5d", "#9a77cf", "#a5825a", "#d87cb8", "#8a8f98", "#b3a53a", "#39a9b8")
_DASHES = ("", "6 3", "2 3")


@dataclass(frozen=True)
class Chart:
    """A metric of several runs; shows itself as a drawing with its numbers, or as text.

    Parameters
    ----------
    metric : str
        Its name.
    lines : sequence of (str, str, list of (float, float))
        Run, its parameters as text, and the points.
    by_step : bool
        Whether x is a step; else the count of reports.
    silent : sequence of str
        Runs that have reported no such metric.
    x : str
        What x is, where it is neither.
    """

    metric: str
    lines: Sequence[tuple[str, str, list[Point]]]
    by_step: bool = True
    silent: Sequence[str] = ()
    x: str = ""

    def __str__(self) -> str:
        lines = [metrics.one_line(self.metric)]
        names = [f"{name}  {parameters}".strip() for name, parameters, _ in self.lines]
        width = max(map(len, names), default=0)
        for name, (_, _, points) in zip(names, self.lines, strict=True):
            bars = metrics.sparkline([y for _, y in points])
            lines.append(f"{name:<{width}}  {bars:<20}  {'  '.join(f'{k} {v}' for k, v in _numbers(points).items())}")
        return "\n".join(lines + self._notes())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _notes(self) -> list[str]:
        return [f"Nothing reported: {', '.join(self.silent)}"] if self.silent else []

    def _repr_html_(self) -> str:
        """Write drawing, legend and numbers; the last two are what a notebook that is not trusted keeps."""
        heads = ["", "run", "parameters", *_numbers([(0.0, 0.0)])]
        cell = 'style="text-align:left;padding:1px 10px 1px 0"'
        body = []
        for number, (name, parameters, points) in enumerate(self.lines):
            color, dashes = _style(number)
            mark = "╍╍" if dashes else "━━"
            texts = "".join(f"<td {cell}>{html.escape(text)}</td>" for text in (name, parameters))
            texts += "".join(f"<td {cell}>{html.escape(text)}</td>" for text in _numbers(points).values())
            body.append(
                f'<tr style="background:none"><td {cell}><span style="color:{color}">{mark}</span></td>{texts}</tr>'
            )
        head = "".join(f"<th {cell}>{html.escape(text)}</th>" for text in heads)
        notes = "".join(f"<div>{html.escape(note)}</div>" for note in self._notes())
        table = f'<table style="border-collapse:collapse;background:none"><tr>{head}</tr>{"".join(body)}</table>'
        return f'<div style="font-size:13px">{self.svg()}{table}{notes}</div>'

    def svg(self) -> str:
        """Draw the lines; text and axes take the colour of the page's text."""
        finite = [p for _, _, points in self.lines for p in points if math.isfinite(p[0]) and math.isfinite(p[1])]
        x_ticks, y_ticks = ticks([x for x, _ in finite]), ticks([y for _, y in finite])
        x_of = _scale(x_ticks, [x for x, _ in finite], _LEFT, _WIDTH - _RIGHT)
        y_of = _scale(y_ticks, [y for _, y in finite], _HEIGHT - _BOTTOM, _TOP)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
            f'style="max-width:100%;height:auto;color:inherit" role="img" font-size="11" font-family="sans-serif">'
            f"<title>{html.escape(self.metric)}</title>"
        ]
        parts += _axes(x_ticks, y_ticks, x_of, y_of)
        label = metrics.one_line(self.x, width=100) or ("step" if self.by_step else "report")
        parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, label, "middle"))
        parts.append(_text(_LEFT + 6, _TOP + 10, metrics.one_line(self.metric, width=60), "start", bold=True))
        for number, (name, parameters, points) in enumerate(self.lines):
            parts += _line(number, f"{name} {parameters}".strip(), thin(points), x_of, y_of)
        return "".join([*parts, "</svg>"])


@dataclass(frozen=True)
class Charts:
    """Several metrics of the same runs, one below the other.

    Parameters
    ----------
    charts : sequence of Chart
        In the order in which they were asked for.
    """

    charts: Sequence[Chart]

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.charts))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        return "".join(chart._repr_html_() for chart in self.charts)


def charts(runs: Sequence[Run], metric: str) -> Chart | Charts:
    """Read what runs have reported of a metric, or of several: ``loss,accuracy``.

    Raises
    ------
    InvalidInput, NotFound
        When none of them has reported it; lists what they have.
    """
    reported = {run.folder: metrics.read(run.folder) for run in runs}
    known = metrics.numeric_names(line for lines in reported.values() for line in lines)
    if not metric and known:
        raise InvalidInput("Which metric?", f"%jobs plot {known[0]}; known: {', '.join(known)}")
    # A metric may have a comma in its name.
    names = [metric] if metric in known else list(dict.fromkeys(words(metric))) or [metric]
    drawn = [_chart(runs, reported, name) for name in names]
    return drawn[0] if len(drawn) == 1 else Charts(drawn)


def _chart(runs: Sequence[Run], reported: Mapping[Path, list[metrics.Line]], metric: str) -> Chart:
    everything = [line for lines in reported.values() for line in lines]
    metrics.known_metric(metric, everything)
    found, silent = [], []
    for run in runs:
        points = metrics.series(reported[run.folder], metric)
        if points:
            found.append((run.id, show_parameters(run), points))
        else:
            silent.append(run.id)
    by_step = any(line.step is not None for line in everything if metric in line.values)
    return Chart(metric, found, by_step, silent)


def _numbers(points: Sequence[Point]) -> dict[str, str]:
    finite = [point for point in points if math.isfinite(point[1])]
    low, high = (pick(finite, key=lambda point: point[1], default=(0.0, math.nan)) for pick in (min, max))
    return {
        "first": _short(points[0][1]),
        "last": f"{_short(points[-1][1])} at {_short(points[-1][0])}",
        "min": f"{_short(low[1])} at {_short(low[0])}",
        "max": f"{_short(high[1])} at {_short(high[0])}",
    }


def _short(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) and value == int(value) and abs(value) < 1e6 else f"{value:.4g}"


def ticks(values: Sequence[float], *, about: int = 5) -> list[float]:
    """Choose round numbers that span some values: at distances of 1, 2 or 5 times a power of ten."""
    if not values:
        return [0.0, 1.0]
    low, high = min(values), max(values)
    if high / 2 - low / 2 > 1e300:
        return [low, 0.0, high]
    if high - low <= abs(high) * 1e-12:
        # One value alone: room on both sides of it.
        pad = abs(high) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 1e-300 else 1e-300
    distance = next((power * factor for factor in (1, 2, 5, 10) if power * factor >= raw), power * 10)
    first, last = math.floor(low / distance), math.ceil(high / distance)
    return [count * distance for count in range(first, last + 1)]


def _scale(marks: Sequence[float], values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    low, high = min([*marks, *values]), max([*marks, *values])
    half = high / 2 - low / 2 or 1.0

    def place(value: float) -> float:
        return start + (value / 2 - low / 2) / half * (end - start)

    return place


def _axes(
    x_ticks: Sequence[float], y_ticks: Sequence[float], x_of: Callable[[float], float], y_of: Callable[[float], float]
) -> list[str]:
    parts = []
    for y in y_ticks:
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y_of(y):.1f}" y2="{y_of(y):.1f}" '
            'stroke="currentColor" stroke-opacity="0.18"/>'
        )
        parts.append(_text(_LEFT - 6, y_of(y) + 4, f"{y:.5g}", "end"))
    for x in x_ticks:
        parts.append(
            f'<line x1="{x_of(x):.1f}" x2="{x_of(x):.1f}" y1="{_HEIGHT - _BOTTOM}" y2="{_HEIGHT - _BOTTOM + 4}" '
            'stroke="currentColor" stroke-opacity="0.5"/>'
        )
        parts.append(_text(x_of(x), _HEIGHT - _BOTTOM + 16, f"{x:.6g}", "middle"))
    return parts


def _text(x: float, y: float, text: str, anchor: str, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor"{weight}>{html.escape(text)}</text>'
    )


def _style(number: int) -> tuple[str, str]:
    return _COLORS[number % len(_COLORS)], _DASHES[number // len(_COLORS) % len(_DASHES)]


def _line(
    number: int, name: str, points: Sequence[Point], x_of: Callable[[float], float], y_of: Callable[[float], float]
) -> list[str]:
    """Draw one run; what is not finite is a gap, a point between two gaps is a dot."""
    color, dashes = _style(number)
    title = f"<title>{html.escape(name)}</title>"
    pieces: list[list[Point]] = [[]]
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y):
            pieces[-1].append((x_of(x), y_of(y)))
        elif pieces[-1]:
            pieces.append([])
    parts = []
    for piece in pieces:
        if len(piece) == 1:
            parts.append(
                f'<circle cx="{piece[0][0]:.1f}" cy="{piece[0][1]:.1f}" r="2.5" fill="{color}">{title}</circle>'
            )
        elif piece:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in piece)
            dash = f' stroke-dasharray="{dashes}"' if dashes else ""
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6"{dash}>{title}</polyline>'
            )
    return parts


def thin(points: Sequence[Point]) -> Sequence[Point]:
    """Leave out points that nobody could see: of each share the lowest and the highest stay, and every gap."""
    if len(points) <= _MOST:
        return points
    size = math.ceil(len(points) / (_MOST // 2))
    kept: list[Point] = []
    for start in range(0, len(points), size):
        share = list(enumerate(points[start : start + size]))
        finite = [item for item in share if math.isfinite(item[1][1])]
        chosen = {pick(finite, key=lambda item: item[1][1])[0] for pick in (min, max)} if finite else set()
        gap = next((i for i, point in share if not math.isfinite(point[1])), None)
        kept += [share[i][1] for i in sorted(chosen | ({gap} if gap is not None else set()))]
    return kept
