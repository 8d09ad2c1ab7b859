"""Drawings by matplotlib: a figure of its own, which is none of pyplot's, so that the user's own plots stay alone."""

from __future__ import annotations

import base64
import io
import logging
import math
from collections.abc import Sequence
from typing import Any

from .drawings import Drawing, Lines, Parallel, Series

_MOST_NAMED = 20
_WIDTH, _HEIGHT, _DPI = 7.0, 3.6, 110
_INSIDE, _BESIDE, _LINE, _HIGHEST = 4, 2.4, 0.19, 40
"""So many names stand in the plot; more stand beside it, which takes so much width, and height for each of so many."""
_INK = "#808080"
"""Between black and white: it can be read on light and on dark."""
_DASHES = ("-", "--", ":", "-.")


def draw(drawings: Sequence[Drawing]) -> Any:
    """Return a ``matplotlib.figure.Figure`` with the drawings one below the other."""
    _build_fonts_quietly()
    from matplotlib.figure import Figure

    named = max((len(one.series) for one in drawings if isinstance(one, Lines) and _has_legend(one)), default=0)
    beside = named > _INSIDE
    size = (_WIDTH + beside * _BESIDE, max(_HEIGHT, beside * (min(named, _HIGHEST) + 2) * _LINE) * len(drawings))
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    figure.patch.set_alpha(0.0)
    for drawing, axes in zip(drawings, figure.subplots(len(drawings), squeeze=False)[:, 0], strict=True):
        axes.patch.set_alpha(0.0)
        if isinstance(drawing, Parallel):
            _parallel(figure, axes, drawing)
        elif isinstance(drawing, Lines):
            _lines(axes, drawing)
        axes.tick_params(colors=_INK, which="both")
        for edge in axes.spines.values():
            edge.set_edgecolor(_INK)
    return figure


def _build_fonts_quietly() -> None:
    """Import what builds the list of fonts at its first import: a log line of it stands in a red box in notebooks."""
    log = logging.getLogger("matplotlib.font_manager")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        import matplotlib.font_manager  # noqa: F401
    finally:
        log.setLevel(before)


def bundle(figure: Any) -> dict[str, Any]:
    """Return the figure as a PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return {"image/png": base64.b64encode(stream.getvalue()).decode()}


def _lines(axes: Any, drawing: Lines) -> None:
    place = {name: i for i, name in enumerate(drawing.categories)}
    for number, one in enumerate(drawing.series):
        xs = [place[str(x)] if place else x for x in one.x]
        ys = [y if math.isfinite(y) else math.nan for y in one.y]
        style = {
            "color": f"C{number % 10}",
            "linestyle": _DASHES[number // 10 % len(_DASHES)] if drawing.joined and not one.alone else "",
            "marker": "o" if drawing.points or one.alone or len(ys) == 1 else "",
            "linewidth": 1.5,
            "markersize": 4.5,
            "drawstyle": "steps-post" if one.steps else "default",
            "label": _plain(one.label),
        }
        if drawing.points and one.counts:
            axes.errorbar(xs, ys, yerr=_errors(one), capsize=3, **style)
        else:
            axes.plot(xs, ys, **style)
        if not drawing.points and one.counts:
            low, high = one.band
            axes.fill_between(xs, low, high, color=style["color"], alpha=0.2, linewidth=0)
    if place:
        axes.set_xticks(list(place.values()), [_plain(name) for name in place])
    for axis in drawing.log:
        getattr(axes, f"set_{axis}scale")("log")
    axes.grid(color=_INK, alpha=0.25)
    axes.set_xlabel(_plain(drawing.x), color=_INK)
    axes.set_ylabel(_plain(drawing.y), color=_INK)
    if _has_legend(drawing):
        # Many names would stand on the lines; nothing may be behind them, for we do not know the page's colour.
        beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if len(drawing.series) > _INSIDE else {}
        axes.legend(fontsize="small", labelcolor=_INK, framealpha=0.0, **beside)


def _has_legend(drawing: Lines) -> bool:
    return 1 < len(drawing.series) <= _MOST_NAMED or any(one.counts for one in drawing.series)


def _errors(one: Series) -> list[float]:
    return [value if math.isfinite(value) else 0.0 for value in one.spread]


def _parallel(figure: Any, axes: Any, drawing: Parallel) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    crossings = [drawing.places(axis) for axis in drawing.axes]
    colour = colormaps["viridis"]
    for row in reversed(range(len(drawing.rows))):
        way = [places[row] for places, _ in crossings]
        axes.plot(range(len(way)), way, color=colour(way[-1]), linewidth=1.4, alpha=0.85)
    for at, (_, marks) in enumerate(crossings):
        axes.axvline(at, color=_INK, linewidth=1)
        for place, word in marks:
            where = {"xytext": (3, 3), "textcoords": "offset points", "zorder": 10}
            axes.annotate(_plain(word), (at, place), fontsize=8, color=_INK, weight="bold", **where)
    axes.set_xticks(range(len(drawing.axes)), [_plain(name) for name in drawing.axes])
    axes.set_yticks([])
    axes.set_frame_on(False)
    values = [float(row[drawing.axes[-1]]) for row in drawing.rows]
    is_log = "y" in drawing.log and min(values) > 0
    norm = (LogNorm if is_log else Normalize)(min(values), max(values))
    bar = figure.colorbar(ScalarMappable(norm, colour), ax=axes)
    bar.set_label(_plain(drawing.metric), color=_INK)
    bar.ax.tick_params(colors=_INK, which="both")


def _plain(text: str) -> str:
    """Write text that matplotlib takes as it is: a dollar begins a formula, an underscore hides from the legend."""
    plain = text.replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain
