"""A table as lines of text: how wide its columns are, and which of them a window has room for."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

GAP = "  "
"""What stands between two columns."""
_NARROWEST = 12
"""So many characters of a text are left when it is cut."""
_STATE = 18
"""So many of the second column, the state: it says more than what stands at the right."""


class Grid(NamedTuple):
    """Lines of padded cells, the headings first; and the names of the columns that there was no room for."""

    lines: list[list[str]]
    left_out: list[str]


def grid(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], width: int) -> Grid:
    """Pad cells, and where a width is given cut long texts and leave out columns, the last ones first.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    rows : sequence of sequence of str
        Cells.
    right : sequence of bool
        Which columns are aligned at the right; numbers stay whole.
    width : int
        So many characters in a line at most; 0 is any number.
    """
    cells = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(wide(row[i]) for row in cells) for i in range(len(columns))]
    if width and widths:
        least = [_least(i, size, right[i]) for i, size in enumerate(widths)]
        shown = len(widths)
        while shown > 2 and _line(least[:shown]) > width:
            shown -= 1
        widths = _fitting(widths[:shown], least[:shown], width)
    lines = [[_padded(row[i], size, right=right[i]) for i, size in enumerate(widths)] for row in cells]
    return Grid(lines, list(columns[len(widths) :]))


def wide(text: str) -> int:
    """Return how many places a text takes on a terminal: Chinese and Japanese letters take two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def cut(text: str, width: int) -> str:
    """Cut a text to so many places."""
    if wide(text) <= width:
        return text
    end = width
    while end > 0 and wide(text[:end]) >= width:
        end -= 1
    return f"{text[:end]}…"


def _least(index: int, size: int, right: bool) -> int:
    if index == 0 or right:
        return size
    return min(size, _STATE if index == 1 else _NARROWEST)


def _line(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _fitting(widths: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Take from the widest texts what a line has too much; the state last, and the name never."""
    fitting = list(widths)
    while (over := _line(fitting) - width) > 0:
        able = [i for i, size in enumerate(fitting) if size > least[i]]
        if not able:
            break
        widest = max(able, key=lambda i: (i > 1, fitting[i]))
        others = [fitting[i] for i in able if fitting[i] < fitting[widest]]
        fitting[widest] -= min(over, max(1, fitting[widest] - max([least[widest], *others])))
    if over > 0 and len(fitting) > 1:
        fitting[1] = max(1, fitting[1] - over)
    return fitting


def _padded(cell: str, size: int, *, right: bool) -> str:
    cell = cut(cell, size)
    pad = " " * (size - wide(cell))
    return pad + cell if right else cell + pad
