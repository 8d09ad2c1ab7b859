"""Rows to show at once, as text and as HTML."""

from __future__ import annotations

import html
import re
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..units import without_controls
from .grid import GAP, Grid, cut, grid
from .links import href

_LONG = 60
"""Cells of more characters are cut in HTML, and say the rest when the mouse rests on them."""


@dataclass(frozen=True)
class Table:
    """Rows to show at once.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    rows : sequence of sequence of str
        Cells as text. The first is the row's name, the second its state.
    caption : str
        One line above the table.
    notes : sequence of str
        Lines below the table, such as warnings.
    right : collection of str
        Columns that are aligned at the right, as numbers are.
    share : float or None
        How much of all is done, from 0 to 1; None where nothing moves.
    left : str
        How long it may still take, beside the share.
    links : mapping of str to sequence of (str, Path)
        By a row's name: words, and the files that they lead to. The first is the name itself.
    others : sequence of (str, str)
        Name and state of what has no row of its own.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    notes: Sequence[str] = ()
    right: Collection[str] = ()
    share: float | None = None
    left: str = ""
    links: Mapping[str, Sequence[tuple[str, Path]]] = field(default_factory=dict)
    others: Sequence[tuple[str, str]] = field(default=(), compare=False)

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = 0) -> str:
        """Write the table as lines of text.

        Parameters
        ----------
        width : int, default 0
            So many characters in a line at most, where that is possible: long texts are cut, and columns left out and
            told. 0 is any number.
        """
        lines, left_out = self.grid(width)
        shown = [*(GAP.join(cells).rstrip() for cells in lines), *filter(None, [no_room(left_out)])]
        if width:
            shown = [cut(line, width) for line in shown]
        whole = [*filter(None, [self._head()]), *shown, *self.notes]
        return without_controls("\n".join(whole))

    def grid(self, width: int = 0) -> Grid:
        """Return the cells as `colab_magics.ui.grid.grid` pads and cuts them."""
        if not self.columns:
            return Grid([], [])
        return grid(self.columns, self.rows, [name in self.right for name in self.columns], width)

    def _head(self) -> str:
        return " · ".join(filter(None, [self.caption, self._share_text()]))

    def _share_text(self) -> str:
        return "" if self.share is None else ", ".join(filter(None, [f"{100 * self.share:.0f} %", self.left]))

    def on_terminal(self) -> str:
        """Write the table as text, not wider than the terminal when standard output is one."""
        return self.text(shutil.get_terminal_size().columns if sys.stdout.isatty() else 0)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self.on_terminal())

    def _repr_html_(self) -> str:
        return self.html()

    def html(self, links_from: Path | None = None) -> str:
        """Write the table as HTML that needs no style sheet and is good in light and dark, also in Colab's iframes.

        Everything in it is escaped: names of files and last lines of logs are not ours.

        Parameters
        ----------
        links_from : Path, optional
            Where the front end reads links from; see ``base`` of ``ui/links.py``. None leads nowhere.
        """
        parts = ['<div style="font-size:13px">']
        if self.caption or self.share is not None:
            parts.append(f'<div style="margin-bottom:4px">{html.escape(self.caption)}{self._share_html()}</div>')
        if self.columns:
            cell = [f"{_CELL};text-align:{'right' if name in self.right else 'left'}" for name in self.columns]
            heads = "".join(
                f'<th style="{style};{_RULE}">{html.escape(str(name))}</th>'
                for style, name in zip(cell, self.columns, strict=True)
            )
            parts.append(f'<div style="overflow-x:auto"><table style="{_TABLE}">')
            parts.append(f"<tr>{heads}</tr>")
            for row in self.rows:
                cells = "".join(
                    f'<td style="{style}{_if_long(str(value))}>{self._cell(row, i, links_from)}</td>'
                    for i, (style, value) in enumerate(zip(cell, row, strict=True))
                )
                parts.append(f'<tr style="background:none">{cells}</tr>')
            parts.append("</table></div>")
        parts += [f'<div style="margin-top:4px;white-space:pre-wrap">{html.escape(note)}</div>' for note in self.notes]
        return without_controls("".join([*parts, "</div>"]))

    def _share_html(self) -> str:
        if self.share is None:
            return ""
        return f" &nbsp; {_bar(f'{self.share:.3f}', '1')} {html.escape(self._share_text())}"

    def _cell(self, row: Sequence[str], index: int, start: Path | None) -> str:
        found = self.links.get(str(row[0]), ()) if index == 0 and start is not None else ()
        shown = [_link(text, href(path, start)) for text, path in found if start is not None]
        return " ".join(shown) or _cell_html(index, str(row[index]))


def no_room(columns: Sequence[str]) -> str:
    """Say which columns a narrow window left out."""
    return f"no room here for: {', '.join(columns)}" if columns else ""


def kind_of(state: str) -> str:
    """Return what a state means, by its first word: ``done``, ``failed``, ``running``; else empty."""
    first = next(iter(state.lower().split()), "")
    return next((kind for kind, (_, names) in _STATES.items() if first in names), "")


def _color(lab: str, code: str, own: str) -> str:
    """Return a colour of the front end's theme, light or dark: JupyterLab's, VS Code's, else one that suits both."""
    return f"var(--jp-{lab},var(--vscode-{code},{own}))"


def _readable(color: str) -> str:
    """Let the text's own colour, which is dark on light and light on dark, make a theme's colour one for words."""
    return f"color:{color};color:color-mix(in srgb,{color} 65%,currentcolor)"


_CELL = "padding:2px 12px 2px 0;white-space:nowrap"
_TABLE = "border-collapse:collapse;background:none;margin:0;font-variant-numeric:tabular-nums"
_RULE = f"border-bottom:1px solid {_color('border-color1', 'widget-border', 'rgba(128,128,128,.35)')}"
_STATES = {
    "done": (
        _color("success-color1", "charts-green", "#2e9e5b"),
        ("done", "finished", "ok", "success", "succeeded", "ready", "chosen"),
    ),
    "failed": (
        _color("error-color1", "charts-red", "#d9534f"),
        ("failed", "error", "lost", "killed", "interrupted", "dead"),
    ),
    "running": (
        _color("info-color1", "charts-blue", "#3b82c4"),
        ("running", "syncing", "starting", "cell", "step"),
    ),
}
"""What states mean, by the words that they begin with, and their colour."""
_SHARE = re.compile(r"(\d+(?:\.\d+)?) of (\d+)|(\d+(?:\.\d+)?) ?%")


def _link(text: str, where: str) -> str:
    color = _color("content-link-color", "textLink-foreground", "#3b82c4")
    return f'<a href="{html.escape(where)}" target="_blank" style="color:{color}">{html.escape(text)}</a>'


def _if_long(value: str) -> str:
    """End a style; what is too long for a cell is cut, and the mouse shows the whole of it."""
    cut = ";max-width:32em;overflow:hidden;text-overflow:ellipsis"
    return f'{cut}" title="{html.escape(value)}"' if len(value) > _LONG else '"'


def _bar(done: str, whole: str) -> str:
    return f'<progress value="{done}" max="{whole}" style="width:6em;vertical-align:middle"></progress>'


def _cell_html(index: int, value: str) -> str:
    """Write a cell: a bar beside a share, the state in the second column in its colour."""
    text = html.escape(value)
    words = value.lower().split()
    if index == 1 and (kind := kind_of(value)):
        text = f'<span style="{_readable(_STATES[kind][0])};font-weight:600">{text}</span>'
    share = _SHARE.search(value)
    if share and words and words[0] in ("cell", "step"):
        done, whole = (share[1], share[2]) if share[1] else (share[3], "100")
        return f"{_bar(done, whole)} {text}"
    return text
