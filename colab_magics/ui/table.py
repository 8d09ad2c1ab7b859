"""Rows to show at once, as text and as HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..units import without_controls


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
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        cells = [[str(cell) for cell in row] for row in (self.columns, *self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
        whole = [*([self.caption] if self.caption else []), *(lines if self.columns else []), *self.notes]
        return without_controls("\n".join(whole))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        """Write the table as HTML that needs no style sheet and is good in light and dark, also in Colab's iframes.

        Everything in it is escaped: names of files and last lines of logs are not ours.
        """
        rule = "border-bottom:1px solid rgba(128,128,128,.35)"
        cell = "text-align:left;padding:2px 12px 2px 0"
        parts = ['<div style="font-size:13px">']
        if self.caption:
            parts.append(f'<div style="margin-bottom:4px">{html.escape(self.caption)}</div>')
        if self.columns:
            heads = "".join(f'<th style="{cell};{rule}">{html.escape(str(name))}</th>' for name in self.columns)
            parts.append(f'<table style="border-collapse:collapse;background:none"><tr>{heads}</tr>')
            for row in self.rows:
                cells = "".join(f'<td style="{cell}">{_cell_html(i, str(value))}</td>' for i, value in enumerate(row))
                parts.append(f'<tr style="background:none">{cells}</tr>')
            parts.append("</table>")
        parts += [f'<div style="margin-top:4px;white-space:pre-wrap">{html.escape(note)}</div>' for note in self.notes]
        return without_controls("".join([*parts, "</div>"]))


_STATES = {
    "#2e9e5b": ("done", "finished", "ok", "success", "succeeded", "ready", "chosen"),
    "#d9534f": ("failed", "error", "lost", "killed", "interrupted", "dead"),
    "#3b82c4": ("running", "syncing", "starting", "cell", "step"),
}
_SHARE = re.compile(r"(\d+(?:\.\d+)?) of (\d+)|(\d+(?:\.\d+)?) ?%")


def _cell_html(index: int, value: str) -> str:
    """Write a cell: a bar beside a share, the state in the second column in its colour."""
    text = html.escape(value)
    words = value.lower().split()
    for color, names in _STATES.items():
        if index == 1 and words and words[0] in names:
            text = f'<span style="color:{color};font-weight:600">{text}</span>'
    share = _SHARE.search(value)
    if share and words and words[0] in ("cell", "step"):
        done, whole = (share[1], share[2]) if share[1] else (share[3], "100")
        return f'<progress value="{done}" max="{whole}" style="width:6em;vertical-align:middle"></progress> {text}'
    return text
