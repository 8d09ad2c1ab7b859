"""``runs=URL`` of ``%fork`` and ``%submit``: the runs come from a queue."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from .. import session
from ..errors import InvalidInput

if TYPE_CHECKING:
    from ..checkout.project import Project
    from ..runs.board import Board
    from ..runs.from_queue import QueueBoard
    from ..runs.submit import Order
    from ..ui import UI, Table

_WORKER = "A worker of a queue gets its work from a table elsewhere, and without you."


def check(runs: str | None, **others: Any) -> None:
    """Check that nothing else says which runs there are; raises InvalidInput."""
    if runs is None:
        return
    if said := [name for name, value in others.items() if value not in (None, 0)]:
        name = said[0].replace("_", "-") if said[0] != "grid" else "a grid"
        raise InvalidInput(
            f"runs= says which runs there are, and so does {name}.",
            "Leave one of both out: %queue add puts a grid into a queue.",
        )


def accept(colab_terms: str | None) -> None:
    """Ask for the user's word on Colab's terms, where we are there and it was not given yet."""
    from ..colab import terms

    here = session.current()
    terms.accept(here.ui, here.said, _WORKER, said_now=colab_terms)


def start(order: Order, address: str, *, watch: bool, terms: str | None) -> QueueBoard:
    """Have runs of a queue executed."""
    from ..queues.addresses import absolute, shown
    from ..runs import from_queue
    from ..runs.queued import Table

    ui, whole = session.current().ui, absolute(address)
    accept(terms)
    with ui.progress(f"asking {shown(whole)}"):
        board = from_queue.start(order, Table(whole, watch))
    failed = sum(run.status().phase == "failed" for run in board.runs if run.folder in board.before)
    if failed:
        ui.say(f"{failed} runs failed here before: %queue requeue {shown(whole)} failed makes them ready again.")
    return board


def preview(order: Order, address: str | None) -> Table:
    """Show what would be executed, of a queue what would be claimed; nothing is."""
    from ..queues.addresses import absolute, shown
    from ..runs import from_queue, submit

    if address is None:
        return submit.preview(order)
    whole = absolute(address)
    with session.current().ui.progress(f"asking {shown(whole)}"):
        return from_queue.preview(order, whole)


def watching(ui: UI, board: Board, project: Project, order: Order, address: str | None, *, tolerant: bool) -> None:
    """Watch runs until they have ended, as `runs.watching.watch` does; say of those of a queue how it all stands."""
    from ..runs import watching as room

    try:
        room.watch(ui, board, project, tolerant=tolerant)
    finally:
        if address is not None:
            tell(board, order, address)


def of_commands(
    ui: UI, project: Project, order: Order, address: str, undo: ExitStack, *, watch: bool, wait: bool, terms: str | None
) -> QueueBoard:
    """Have commands of a queue executed, and watch them, or say how that is done; `undo` is for when nothing starts."""
    board, job = start(order, address, watch=watch, terms=terms), project.job
    undo.pop_all()
    if wait:
        watching(ui, board, project, order, address, tolerant=False)
    else:
        board.notes.append(f"%jobs watch {job} shows the runs that are claimed, %jobs kill {job} ends it all.")
    return board


def tell(board: Board, order: Order, address: str) -> None:
    """Say below the runs how the whole queue stands."""
    from ..queues.addresses import absolute
    from ..runs import from_queue

    if note := from_queue.others(order.job_folder, absolute(address)):
        board.notes.append(note)
        session.current().ui.say(note)
