"""How long cold runs take until they work: the start of their kernel, and their imports. ``start=warm`` saves both.

Nothing is added to the run: its runner sees when the first cell begins, and how long each cell takes. As imports count
the cells that import what is installed and do nothing else, so what is said is too little rather than too much.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..kernels import preload
from ..records.run import Run
from ..units import show_seconds
from .code import as_python, code_cells

_SHARE = 0.2
"""What is said of is worth more than this part of the sweep."""
_LEAST = 1.0
"""And more than so many seconds."""
_FORKED = 0.1
"""Seconds until the first cell of a forked kernel begins."""
_NAMES = 3
_SETTINGS = ("%load_ext", "%reload_ext", "%matplotlib", "%config", "%autoreload", "%project")


def measured(notebook: Mapping[str, Any], kernel: float) -> dict[str, Any]:
    """Return what state.json keeps of a run's start.

    Parameters
    ----------
    notebook : mapping
        As papermill executed it: each cell knows how long it took.
    kernel : float
        Seconds until the first cell began.

    Returns
    -------
    dict
        ``kernel`` and ``imports`` in seconds, and ``modules``: what was imported, of what is not Python's own.
    """
    seconds, names = 0.0, dict[str, None]()
    for cell in notebook["cells"]:
        for code in code_cells({"cells": [cell]}):
            modules = imports_alone(code.source)
            # The project's own modules are not loaded before the runs.
            if modules is not None and preload.installed(modules) == modules:
                seconds += _duration(cell)
                names |= dict.fromkeys(modules)
    return {"kernel": round(kernel, 3), "imports": round(seconds, 3), "modules": list(names)}


def _duration(cell: Mapping[str, Any]) -> float:
    return float(cell.get("metadata", {}).get("papermill", {}).get("duration") or 0.0)


def imports_alone(source: str) -> list[str] | None:
    """Return the packages that a cell imports, without Python's own; None when it does more than that."""
    tree = as_python(source)
    if tree is None or not any(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body):
        return None
    names: dict[str, None] = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= dict.fromkeys(_packages(node))
        elif not _takes_no_time(node):
            return None
    return [name for name in names if name not in sys.stdlib_module_names and name != "colab_magics"]


def _packages(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif node.module and not node.level:
        yield node.module.partition(".")[0]


def _takes_no_time(node: ast.stmt) -> bool:
    """Whether a statement sets a constant, or is a text or one of the magics that cells of imports hold."""
    value = getattr(node, "value", None)
    if not isinstance(node, ast.Assign | ast.Expr) or not isinstance(value, ast.Constant):
        return False
    text = str(value.value)
    return isinstance(node, ast.Assign) or not text.startswith(("%", "!")) or text.startswith(_SETTINGS)


def advice(runs: Iterable[Run], since: float) -> str:
    """Say what ``start=warm`` would have saved, when that is more than a fifth; empty otherwise.

    The runs' starts come down to one: that of the process which they would have been forked from.

    Parameters
    ----------
    runs : iterable of Run
        The runs of a call.
    since : float
        When it began; those that ended before were kept.
    """
    states = [run.state() or {} for run in runs]
    states = [state for state in states if state.get("start_up") and state.get("ended") and state["started"] >= since]
    if not states:
        return ""
    took = [max(0.0, state["start_up"]["kernel"] - _FORKED) + state["start_up"]["imports"] for state in states]
    span = max(state["ended"] for state in states) - min(state["started"] for state in states)
    at_once = sum(state["ended"] - state["started"] for state in states) / max(span, 0.001)
    saved = sum(took) / max(at_once, 1.0) - statistics.median(took)
    if saved < max(_LEAST, _SHARE * span):
        return ""
    names = list(dict.fromkeys(name for state in states for name in state["start_up"]["modules"]))
    shown = f" (imports: {', '.join(names[:_NAMES])}{', …' if len(names) > _NAMES else ''})" if names else ""
    return f"start=warm would have saved about {show_seconds(saved)} of {show_seconds(span)}{shown}."
