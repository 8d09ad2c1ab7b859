"""``search=`` of ``%fork``: each next run's values are chosen by what the runs before have reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, NotFound, Unavailable, did_you_mean
from ..units import count, seconds
from ..units import goal as checked_goal

if TYPE_CHECKING:
    from ..runs.board import Board
    from ..runs.order import Order
    from ..runs.plan import Point
    from ..runs.search.start import Search
    from ..ui import UI, Table
    from .fork_queue import Asked

_NEEDS = {"cma": "cmaes", "qmc": "scipy"}
_SAMPLER, _LARGEST_SEED = "tpe", 2**31


def asked(
    search: int | None,
    space: Mapping[str, Any] | None,
    goal: str | None,
    rules: tuple[str | None, str | None, str | None, int | None],
    time: str | None,
    **others: Any,
) -> Search | None:
    """Return what a line says of its search; None where it says none.

    Parameters
    ----------
    search : int or None
        How many runs.
    space : mapping or None
        The cell's body.
    goal : str or None
        ``min:loss``; several with commas.
    rules : tuple
        ``sampler``, ``seed``, ``stop`` and ``patience``, as the line says them.
    time : str or None
        How long it takes in all.
    **others
        Options that say otherwise which runs there are.

    Raises
    ------
    InvalidInput
        When something of it cannot be, or belongs to a search and there is none.
    Unavailable
        Without Optuna.
    """
    from ..runs.grid import check_mapping

    check_mapping(space)
    sampler, seed, stop, patience = rules
    if search is None:
        _check_none(space, goal, sampler, seed, stop, patience)
        return None
    if said := [name for name, value in others.items() if value not in (None, 0)]:
        name = said[0].replace("_", "-")
        raise InvalidInput(f"search= chooses which runs there are, and so does {name}.", "Leave one of both out.")
    if goal is None:
        raise InvalidInput(
            "A search needs a goal: what the runs report and is to be small, or great.", "Write goal=min:loss."
        )
    from ..runs.search import space as spaces
    from ..runs.search.start import Search
    from ..runs.search.study import Rules

    goals = [checked_goal(one) for one in goal.split(",")]
    read = spaces.read(space)
    if stop and len(goals) > 1:
        raise InvalidInput(f"stop={stop} compares runs by one goal, and there are {len(goals)}.", "Leave stop= out.")
    if sampler == "grid" and (endless := [name for name, one in read.distributions if not one.is_finite]):
        raise InvalidInput(
            f"sampler=grid tries every value, and {endless[0]} has no end of them.",
            f"Give it steps, such as {endless[0]}: uniform(0, 1, step=0.1), or leave sampler= out.",
        )
    for name, package in (
        ("search=", "optuna"),
        *([(f"sampler={sampler}", _NEEDS[sampler])] if sampler in _NEEDS else []),
    ):
        if find_spec(package) is None:
            raise Unavailable(
                f"{name} needs the package {package}, which is not installed.", "pip install 'colab-magics[search]'"
            )
    number = -1 if seed is None else count(seed, name="seed", least=0)
    if number >= _LARGEST_SEED:
        raise InvalidInput(f"seed={seed} is too large.", f"Write one below {_LARGEST_SEED:,}.")
    return Search(
        spaces.plain(space),
        read,
        Rules(goals, sampler or _SAMPLER, number, stop or ""),
        count(search, name="search"),
        None if patience is None else count(patience, name="patience"),
        None if time is None else seconds(time, name="time"),
    )


def or_else(
    search: Search | None,
    of: Asked | None,
    grid: Mapping[str, Any] | None,
    n: int | None,
    time: str | None,
    seed: str | None,
    *,
    yes: bool,
) -> tuple[list[Point], list[str], str | None, str | None]:
    """Return the runs of a line that has no search, the names of parameters, and a run's own ``time`` and ``seed``."""
    from ..runs.grid import asked_for

    if search is not None:
        return [], search.space.names, None, None
    points, names = ([], []) if of is not None else asked_for(grid, n, yes=yes)
    return points, names, time, seed


def _check_none(
    grid: Mapping[str, Any] | None, goal: str | None, sampler: Any, seed: str | None, stop: Any, patience: Any
) -> None:
    """Check that a line without a search says nothing that only a search does."""
    from ..runs.search.space import looks_like_one

    said = {"sampler": sampler, "stop": stop, "patience": patience}
    if names := [name for name, value in said.items() if value is not None]:
        raise InvalidInput(
            f"{names[0]}= belongs to a search, and there is none.", "Say how many runs: search=60 goal=min:loss"
        )
    if seed is not None and seed != "keep":
        raise did_you_mean(str(seed), ["keep"], kind="seed= without a search")
    found = [name for name, value in (grid or {}).items() if looks_like_one(value)]
    if found and grid is not None:
        raise InvalidInput(
            f"{found[0]}: {grid[found[0]]} is drawn from by a search, and there is none.",
            f"Say how many runs, and what they are to reach: search=60 goal={goal or 'min:loss'}",
        )


def preview(order: Order, search: Search) -> Table:
    """Show what would be chosen from; nothing is started."""
    from ..runs.search import start as room

    return room.preview(order, search)


def start(ui: UI, order: Order, search: Search) -> Board:
    """Have the runs of a search executed."""
    from ..runs.search import start as room

    board, lines = room.start(order, search)
    for line in lines:
        ui.say(line)
    return board


def tell(ui: UI, board: Board, search: Search | None) -> None:
    """Say how a search has ended, and its best point.

    Raises
    ------
    RunsFailed
        When runs were cut off: they go on when the line is executed again, and the search is not at its end.
    """
    if search is None:
        return
    from ..runs.failures import failure
    from ..runs.search import start as room

    if isinstance(board, room.SearchBoard):
        for line in room.last_words(board, search):
            ui.say(line)
        cut_off = failure([(run, status) for run, status in board.statuses() if status.phase == "interrupted"])
        if cut_off is not None:
            raise cut_off


def here(order: Order, search: Search | None, label: str) -> tuple[Order, int]:
    """Return an order whose points are those that a search has chosen, and the ``i_sub_job`` that ``here=`` means.

    Raises
    ------
    InvalidInput, NotFound
        When it is no number, or ``best`` and there is none.
    """
    if search is None:
        if label == "best":
            raise InvalidInput("here=best is the best run of a search, and there is none.", "Write here=3.")
        return order, count(label, name="here", least=0)
    from ..runs.plan import Point
    from ..runs.search import start as room

    runs = room.chosen(order, search)
    points = [Point(0, run.parameters, {"search": dict(run.record["search"])}) for run in runs]
    order = replace(order, points=points)
    if label != "best":
        return order, count(label, name="here", least=0)
    best = room.best(runs, search)
    if best is None:
        raise NotFound(
            f"No run of this search has finished with a number as {search.rules.goals[0][4:]}.", "Start it first."
        )
    return order, best.i_sub_job
