"""What a run executes that is a fork of the running notebook: the rest of the ``%fork`` cell and the cells below it."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidInput
from ..ui import Notebook
from ..units import show_size, show_time
from . import checks
from .code import Cell, as_python, code_cells

_LINE = re.compile(r"^%%?fork\b")
_ASSIGNED = re.compile(r"^[\w.]+\s*=\s*%fork\b")


def check(notebook: Notebook) -> dict[str, Any]:
    """Find where a fork of this notebook goes on.

    Returns
    -------
    dict
        ``cell``: number of the ``%fork`` cell among the code cells, from 1.

    Raises
    ------
    InvalidInput
        When it is another notebook, or no place to go on is found.
    """
    if not notebook.current:
        raise InvalidInput("start=live forks this notebook, not another.", "Leave notebook= out, or use start=warm.")
    cell = _fork_cell(notebook)
    if cell is None:
        raise InvalidInput(
            "start=live: the cell that forks is not in the notebook as it was saved.",
            "Save the notebook and execute the cell again.",
        )
    rest_of_cell(cell)
    return {"cell": cell.number}


def _fork_cell(notebook: Notebook) -> Cell | None:
    """Return the cell that is being executed; when it is not in the notebook as known, the first with ``%fork``."""
    running = notebook.running.strip()
    same = [cell for cell in code_cells(notebook.content) if running and cell.source.strip() == running]
    return same[0] if same else checks.fork_cell(notebook.content)


def rest_of_cell(cell: Cell) -> str:
    """Return what stands below the ``%fork`` line, or the statement that calls ``fork``.

    Raises
    ------
    InvalidInput
        When it is no statement of its own at the cell's top level: a fork could not go on in the middle of one.
    """
    lines = cell.source.splitlines()
    if cell.source.lstrip().startswith("%%"):
        return ""
    for number, line in enumerate(lines):
        if _LINE.match(line) or _ASSIGNED.match(line):
            while lines[number].endswith("\\") and number + 1 < len(lines):
                number += 1
            return "\n".join(lines[number + 1 :]).strip("\n")
    tree = as_python(cell.source)
    for node in tree.body if tree is not None else []:
        if isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign) and _calls_fork(node):
            return "\n".join(lines[node.end_lineno or len(lines) :]).strip("\n")
    raise InvalidInput(
        f"start=live: cell {cell.number} forks inside of a statement, and a run could not go on in the middle of it.",
        "Write the %fork line by itself, not indented.",
    )


def _calls_fork(node: ast.AST) -> bool:
    calls = (found.func for found in ast.walk(node) if isinstance(found, ast.Call))
    return any(getattr(func, "attr", getattr(func, "id", "")) == "fork" for func in calls)


def below_fork(content: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Cut a notebook down to what a live run executes.

    Parameters
    ----------
    content : mapping
        The whole notebook.
    record : mapping
        The run's record; ``forked`` says from which cell, when, and with how much memory.

    Returns
    -------
    dict
        The notebook, headed by a cell that says where it was forked.
    """
    forked = record["forked"]
    number = int(forked["cell"])
    sources = {id(cell): n for n, cell in enumerate(_code(content), start=1)}
    head = (
        f"**Forked** from the running `{record.get('notebook')}` at cell {number}, {show_time(forked['at'])}, with "
        f"{show_size(forked['state'])} of state. The cells above ran in that notebook; `source.ipynb` has them."
    )
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "metadata": {}, "source": head}]
    at = None
    for position, cell in enumerate(content["cells"]):
        if sources.get(id(cell)) == number:
            at = position
            if rest := rest_of_cell(Cell(number, _source(cell), "")):
                cells.append({**copy.deepcopy(cell), "source": rest})
        elif at is not None:
            cells.append(copy.deepcopy(cell))
    made = {**{key: copy.deepcopy(value) for key, value in content.items() if key != "cells"}, "cells": cells}
    made["metadata"] = {**made.get("metadata", {}), "colab_magics": {"forked": dict(forked)}}
    return made


def _code(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the code cells that `code_cells` numbers, as they are."""
    return [
        cell
        for cell in content["cells"]
        if cell.get("cell_type") == "code" and "injected-parameters" not in cell.get("metadata", {}).get("tags", [])
    ]


def _source(cell: Mapping[str, Any]) -> str:
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)
