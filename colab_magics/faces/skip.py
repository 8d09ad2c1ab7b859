"""Skipping the runs' cells in the main notebook, from ``%fork`` to ``%join``.

JupyterLab sends all cells at once, Colab and VS Code one after another, a user any cell at any time. So it is not the
order that decides but the cell itself: those between the two lines are known by their ids (JupyterLab tells them with
each request) and by their sources. Each shows one line in place of what it would do.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from .front_end import cell_id, is_question

LINE = "» skipped: this cell belongs to the runs"


class Skip:
    """Input transformer that replaces the runs' cells.

    Parameters
    ----------
    ip : InteractiveShell
        The shell.
    cells : sequence of (str, str)
        Id (may be empty) and source of the cells to skip.
    join : (str, str)
        Id and source of the cell that ends the skipping.
    known : collection of str
        Ids of all cells of the notebook: of those the id decides alone, for another cell may hold the same code.
    hint : str
        How this notebook executes them all the same; empty when it cannot.
    """

    def __init__(
        self, ip: Any, cells: Sequence[tuple[str, str]], join: tuple[str, str], known: Collection[str], hint: str
    ) -> None:
        self.ip, self.line = ip, f"{LINE} ({hint})" if hint else LINE
        self.ids = {name for name, _ in cells if name}
        self.sources = {source.strip() for _, source in cells}
        self.join_id, self.join = join[0], join[1].strip()
        self.known = set(known) - {""}

    def __call__(self, lines: list[str]) -> list[str]:
        if is_question(self.ip):
            return lines
        source, name = "".join(lines).strip(), cell_id(self.ip)
        is_join = name == self.join_id if name in self.known else source == self.join
        if is_join:
            remove(self.ip)
        elif source and (name in self.ids if name in self.known else source in self.sources):
            return [f"print({self.line!r})\n"]
        return lines


def skip(
    ip: Any, cells: Sequence[tuple[str, str]], join: tuple[str, str], known: Collection[str] = (), hint: str = ""
) -> None:
    """Skip these cells from now on, until `join` comes."""
    remove(ip)
    ip.input_transformers_cleanup.insert(0, Skip(ip, cells, join, known, hint))


def remove(ip: Any) -> None:
    """Execute all cells again."""
    for transformer in [t for t in ip.input_transformers_cleanup if isinstance(t, Skip)]:
        ip.input_transformers_cleanup.remove(transformer)
