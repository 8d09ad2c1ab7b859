"""Drawings by Altair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .drawings import Drawing, Lines, Parallel, finite, thin

_MOST = 4500
"""So many points altogether: Altair refuses more than 5000."""
_MOST_NAMED = 20
_SIZE = {"width": 520, "height": 260}


def draw(drawings: Sequence[Drawing]) -> Any:
    """Return an Altair chart with the drawings one below the other."""
    import altair

    charts = []
    for drawing in drawings:
        if isinstance(drawing, Parallel):
            charts.append(_parallel(altair, drawing))
        elif isinstance(drawing, Lines):
            charts.append(_lines(altair, drawing, _MOST // len(drawings)))
    return charts[0] if len(charts) == 1 else altair.vconcat(*charts)


def bundle(figure: Any) -> dict[str, Any]:
    """Return what Altair shows of its chart."""
    return dict(_first(figure._repr_mimebundle_(None, None)))


def _first(found: Any) -> dict[str, Any]:
    """A bundle may come with metadata."""
    return (found[0] if isinstance(found, tuple) else found) or {}


def _lines(alt: Any, drawing: Lines, most: int) -> Any:
    each = max(4, most // max(1, len(drawing.series)))
    rows = []
    for number, one in enumerate(thin(one, each) for one in drawing.series):
        low, high = one.band if one.counts else (one.y, one.y)
        columns = (one.x, finite(one.y), finite(low), finite(high))
        # Names may be the same, runs are not.
        name = one.label if sum(one.label == other.label for other in drawing.series) == 1 else f"{one.label} #{number}"
        rows += [
            {"run": name, "x": x, "y": y, "low": a, "high": b, "alone": one.alone}
            for x, y, a, b in zip(*columns, strict=True)
        ]
    place = {"type": "log"} if "x" in drawing.log else {"type": "linear", "zero": False}
    x = (
        alt.X("x:N", title=drawing.x, sort=None)
        if drawing.categories
        else alt.X("x:Q", title=drawing.x, scale=alt.Scale(**place))
    )
    scale = alt.Scale(type="log") if "y" in drawing.log else alt.Scale(zero=False)
    legend = alt.Legend(title=None, labelLimit=400) if len(drawing.series) <= _MOST_NAMED else None
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=alt.Color("run:N", legend=legend, sort=None))
    tips = [alt.Tooltip("run:N"), alt.Tooltip("x:N", title=drawing.x), alt.Tooltip("y:Q", title=drawing.y)]
    y = alt.Y("y:Q", title=drawing.y, scale=scale)
    way = "step-after" if any(one.steps for one in drawing.series) else "linear"
    line = base.mark_line(point=drawing.points, interpolate=way) if drawing.joined else base.mark_point(filled=True)
    shown = line.encode(y=y, tooltip=tips)
    if any(one.alone for one in drawing.series):
        dots = base.mark_point(filled=True).transform_filter("datum.alone").encode(y=y, tooltip=tips)
        shown = shown.transform_filter("!datum.alone") + dots
    if any(one.counts for one in drawing.series):
        ends = {"y": alt.Y("low:Q", title=drawing.y, scale=scale), "y2": alt.Y2("high")}
        spread = base.mark_rule() if drawing.points else base.mark_area(opacity=0.2)
        shown = spread.encode(**ends) + shown
    return shown.properties(**_SIZE)


def _parallel(alt: Any, drawing: Parallel) -> Any:
    crossings = {axis: drawing.places(axis) for axis in drawing.axes}
    lines, marks = [], []
    for axis, (places, words) in crossings.items():
        lines += [
            {"run": row["run"], "axis": axis, "at": place, "value": str(row[axis]), "metric": row[drawing.axes[-1]]}
            for row, place in zip(drawing.rows, places, strict=True)
        ]
        marks += [{"axis": axis, "at": place, "word": word} for place, word in words]
    x = alt.X("axis:N", sort=list(drawing.axes), title=None, axis=alt.Axis(labelAngle=0, grid=True))
    y = alt.Y("at:Q", axis=None)
    kind = "log" if "y" in drawing.log and min(row["metric"] for row in lines) > 0 else "linear"
    colour = alt.Color("metric:Q", title=drawing.metric, scale=alt.Scale(type=kind, scheme="viridis"))
    ways = alt.Chart(alt.Data(values=lines[:_MOST])).mark_line(opacity=0.85)
    ways = ways.encode(x=x, y=y, color=colour, detail="run:N", tooltip=["run:N", "axis:N", "value:N"])
    words = alt.Chart(alt.Data(values=marks)).mark_text(align="left", dx=4).encode(x=x, y=y, text="word:N")
    return (ways + words).properties(**_SIZE)
