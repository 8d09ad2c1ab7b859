"""What a run executes that is a fork of the running notebook: the rest of the ``%fork`` cell and the cells below it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidInput
from ..ui import Notebook
from ..units import show_size, show_time
from .forks import Fork


def check(notebook: Notebook, fork: Fork) -> dict[str, Any]:
    """Find where a fork of this notebook goes on.

    Returns
    -------
    dict
        The ``%fork`` cell: ``cell``, its number, and ``position`` among all cells, from 0.

    Raises
    ------
    InvalidInput
        When it is another notebook, or no place to go on is found.
    """
    if not notebook.current:
        raise InvalidInput("start=live forks this notebook, not another.", "Leave notebook= out, or use start=warm.")
    if fork.cell is None:
        raise InvalidInput(
            "start=live: the cell that forks is not in the notebook as it was saved.",
            "Save the notebook and execute the cell again.",
        )
    if not fork.plain:
        raise InvalidInput(
            f"start=live: cell {fork.cell.number} forks inside of a statement, and a run could not go on in the middle "
            "of it.",
            "Write the %fork line by itself, not indented.",
        )
    return {"cell": fork.cell.number, "position": fork.cell.position, "rest": fork.rest}


def below_fork(content: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Cut a notebook down to what a live run executes.

    Parameters
    ----------
    content : mapping
        What the run executes, from the notebook's top; see `forks.program`.
    record : mapping
        The run's record; ``forked`` says from which cell, when, and with how much memory.

    Returns
    -------
    dict
        The notebook, headed by a cell that says where it was forked.
    """
    forked = record["forked"]
    number, position = int(forked["cell"]), int(forked["position"])
    head = (
        f"**Forked** from the running `{record.get('notebook')}` at cell {number}, {show_time(forked['at'])}, with "
        f"{show_size(forked['state'])} of state. The cells above ran in that notebook; `source.ipynb` has them."
    )
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "metadata": {}, "source": head}]
    if rest := str(forked["rest"]):
        cells.append({**copy.deepcopy(content["cells"][position]), "source": rest})
    cells += copy.deepcopy(content["cells"][position + 1 :])
    made = {**{key: copy.deepcopy(value) for key, value in content.items() if key != "cells"}, "cells": cells}
    known = {key: value for key, value in forked.items() if key != "rest"}
    made["metadata"] = {**made.get("metadata", {}), "colab_magics": {"forked": known}}
    return made
