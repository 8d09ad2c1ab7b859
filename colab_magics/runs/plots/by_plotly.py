"""Drawings by plotly."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from .drawings import Drawing, Lines, Parallel, finite, thin

MIME = "application/vnd.plotly.v1+json"
_MOST = 40_000
"""So many points altogether stand in a notebook."""
_HEIGHT = 380
_COLOURS = (
    "#636efa",
    "#ef553b",
    "#00b386",
    "#ab63fa",
    "#ffa15a",
    "#19a7c9",
    "#ff6692",
    "#8fbf5a",
    "#d487ff",
    "#a5825a",
)


def draw(drawings: Sequence[Drawing]) -> Any:
    """Return a ``plotly.graph_objects.Figure`` with the drawings one below the other."""
    from plotly.subplots import make_subplots

    kinds = [[{"type": "domain" if isinstance(drawing, Parallel) else "xy"}] for drawing in drawings]
    figure = make_subplots(rows=len(drawings), cols=1, specs=kinds)
    for row, drawing in enumerate(drawings, 1):
        if isinstance(drawing, Parallel):
            _parallel(figure, drawing, row)
        elif isinstance(drawing, Lines):
            _lines(figure, drawing, row, _MOST // len(drawings))
    figure.update_layout(height=_HEIGHT * len(drawings), margin={"t": 30, "b": 40})
    return figure


def bundle(figure: Any) -> dict[str, Any]:
    """Return what plotly shows of its figure."""
    # Where plotly sees no front end that it knows, it would open a browser.
    return dict(figure._repr_mimebundle_() or {MIME: json.loads(figure.to_json())})


def _lines(figure: Any, drawing: Lines, row: int, most: int) -> None:
    from plotly.graph_objects import Scatter

    each = max(4, most // max(1, len(drawing.series)))
    mode = "+".join([*(["lines"] if drawing.joined else []), *(["markers"] if drawing.points else [])]) or "lines"
    for number, one in enumerate(thin(one, each) for one in drawing.series):
        colour = _COLOURS[number % len(_COLOURS)]
        how = {
            "mode": "markers" if one.alone or len(one.y) == 1 else mode,
            "name": _plain(one.label),
            "line": {"color": colour, "shape": "hv" if one.steps else "linear"},
        }
        if drawing.points and one.counts:
            how["error_y"] = {"type": "data", "array": finite(one.spread)}
        xs = [str(x) if drawing.categories else x for x in one.x]
        figure.add_trace(Scatter(x=xs, y=finite(one.y), marker={"color": colour}, **how), row=row, col=1)
        if not drawing.points and one.counts:
            low, high = one.band
            edge = {"mode": "lines", "line": {"width": 0, "color": colour}, "hoverinfo": "skip", "showlegend": False}
            figure.add_trace(Scatter(x=xs, y=finite(low), **edge), row=row, col=1)
            figure.add_trace(Scatter(x=xs, y=finite(high), fill="tonexty", opacity=0.2, **edge), row=row, col=1)
    kind = "category" if drawing.categories else "log" if "x" in drawing.log else "linear"
    figure.update_xaxes(title_text=_plain(drawing.x), type=kind, row=row, col=1)
    figure.update_yaxes(title_text=_plain(drawing.y), type="log" if "y" in drawing.log else "linear", row=row, col=1)


def _parallel(figure: Any, drawing: Parallel, row: int) -> None:
    from plotly.graph_objects import Parcoords

    dimensions = []
    for axis in drawing.axes:
        places, marks = drawing.places(axis)
        dimensions.append(
            {
                "label": _plain(axis),
                "values": places,
                "range": [0, 1],
                "tickvals": [place for place, _ in marks],
                "ticktext": [_plain(word) for _, word in marks],
            }
        )
    line = {"color": dimensions[-1]["values"], "colorscale": "Viridis"}
    figure.add_trace(Parcoords(line=line, dimensions=dimensions), row=row, col=1)


def _plain(text: str) -> str:
    """Write text that plotly takes as it is: it reads a little HTML in labels, and a dollar begins a formula."""
    return html.escape(text, quote=False).replace("$", "&#36;")
