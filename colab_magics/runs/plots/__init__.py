"""Plots of what runs have reported: what is to be drawn, as text, and by the plotting library that the user has.

A library is one module: ``draw(drawings)`` returns its own figure, ``bundle(figure)`` what front ends show of it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...errors import Unavailable

if TYPE_CHECKING:
    from .drawings import Drawing

LIBRARIES = {"matplotlib": "by_matplotlib", "altair": "by_altair", "plotly": "by_plotly"}
"""In the order in which one is looked for."""
TEXT = "text"


class Plot:
    """Metrics of runs; shows itself as the figure of a plotting library, and as text in terminals.

    Parameters
    ----------
    drawings : sequence of Drawing
        What is drawn, one below the other.
    library : str
        The library that draws; ``text`` is none.
    note : str
        A line below the text.
    """

    def __init__(self, drawings: Sequence[Drawing], library: str = TEXT, note: str = "") -> None:
        self.drawings = drawings
        self.note = note
        self.library = library
        self.figure: Any = None
        """The library's own figure, to be changed and saved: ``plot.figure.savefig("loss.pdf")``."""
        if library != TEXT:
            self._module = importlib.import_module(f"{__name__}.{LIBRARIES[library]}")
            self.figure = self._module.draw(drawings)

    def __str__(self) -> str:
        whole = "\n\n".join(drawing.text() for drawing in self.drawings)
        return f"{whole}\n{self.note}" if self.note else whole

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        shown = {} if self.figure is None else self._module.bundle(self.figure)
        return {**shown, "text/plain": str(self)}


def choose(by: str | None, *, text: bool) -> str:
    """Choose the library that draws.

    Parameters
    ----------
    by : str or None
        The one that is wanted; None is the first that is there.
    text : bool
        Whether text is what the front end shows.

    Raises
    ------
    Unavailable
        When the one that is wanted is not installed.
    """
    if by == TEXT or (by is None and text):
        return TEXT
    if by is not None and importlib.util.find_spec(by) is None:
        raise Unavailable(f"{by} is not installed.", f"Install it: pip install {by}. by=text draws without.")
    there = [by] if by is not None else [name for name in LIBRARIES if importlib.util.find_spec(name) is not None]
    return there[0] if there else TEXT
