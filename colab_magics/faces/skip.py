"""Skipping the runs' cells in the main notebook, from ``%fork`` to ``%join``.

JupyterLab sends all cells at once, Colab and VS Code one after another, a user any cell at any time. So it is not the
order that decides but the cell itself: those between the two lines are known by their ids (JupyterLab tells them with
each request) and by their sources. Each shows one line in place of what it would do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

LINE = "⏭ skipped: this cell belongs to the runs (%fork here=0 makes this notebook a run)"


class Skip:
    """Input transformer that replaces the runs' cells.

    Parameters
    ----------
    ip : InteractiveShell
        The shell.
    cells : sequence of (str, str)
        Id (may be empty) and source of the cells to skip.
    join : str
        Source of the cell that ends the skipping.
    """

    def __init__(self, ip: Any, cells: Sequence[tuple[str, str]], join: str) -> None:
        self.ip = ip
        self.ids = {name for name, _ in cells if name}
        self.sources = {source.strip() for _, source in cells}
        self.join = join.strip()

    def __call__(self, lines: list[str]) -> list[str]:
        source = "".join(lines).strip()
        if source == self.join:
            remove(self.ip)
        elif source and (source in self.sources or _cell_id(self.ip) in self.ids):
            return [f"print({LINE!r})\n"]
        return lines


def _cell_id(ip: Any) -> str:
    kernel = getattr(ip, "kernel", None)
    metadata = kernel.get_parent("shell").get("metadata") if kernel is not None else None
    return str((metadata or {}).get("cellId", ""))


def skip(ip: Any, cells: Sequence[tuple[str, str]], join: str) -> None:
    """Skip these cells from now on, until the one with the source `join` comes."""
    remove(ip)
    ip.input_transformers_cleanup.insert(0, Skip(ip, cells, join))


def remove(ip: Any) -> None:
    """Execute all cells again."""
    for transformer in [t for t in ip.input_transformers_cleanup if isinstance(t, Skip)]:
        ip.input_transformers_cleanup.remove(transformer)
