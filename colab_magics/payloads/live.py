"""Where a run goes on that is a fork of the running notebook: with the rest of the ``%fork`` cell."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidInput
from ..ui import Notebook
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
