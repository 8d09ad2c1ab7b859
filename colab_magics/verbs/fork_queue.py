"""``runs=URL`` of ``%fork`` and ``%submit``: the runs come from a queue."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import session
from ..errors import ColabMagicsError, InvalidInput

if TYPE_CHECKING:
    from ..checkout.project import Project
    from ..queues.base import Queue, Row
    from ..runs.board import Board
    from ..runs.of_queue.sweep import QueueBoard
    from ..runs.of_queue.table import Table
    from ..runs.order import Order
    from ..ui import UI
    from ..ui import Table as Shown

_WORKER = "A worker of a queue gets its work from a table elsewhere, and without you."
CLAIMS_ALL = "would claim every run of the queue, and other workers get none"
"""What is wrong with an engine that takes all runs, for `Order.a_few_at_once`."""


@dataclass(frozen=True)
class Asked:
    """What a line says of the queue that its runs come from.

    Parameters
    ----------
    runs : str
        The queue's address, as the user wrote it.
    watch : bool
        Whether to wait for runs that are added.
    terms : str or None
        Whether Colab's terms were accepted in the line itself.
    credentials : str or None
        Who asks the queue.
    """

    runs: str
    watch: bool = False
    terms: str | None = None
    credentials: str | None = None

    @property
    def address(self) -> str:
        """The address, from every folder."""
        from ..queues.addresses import absolute

        return absolute(self.runs)

    def open(self) -> Queue:
        """Return the queue, ready to be asked."""
        return opened(self.address, self.credentials)

    def rows(self) -> list[Row]:
        """Return its rows."""
        from ..queues.addresses import shown

        found = self.open()
        with session.current().ui.progress(f"asking {shown(self.address)}"):
            return found.rows()

    def table(self) -> Table:
        """Return what a scheduler needs of it."""
        from ..colab import secrets
        from ..runs.of_queue.attending import SECRET
        from ..runs.of_queue.table import Table

        said, secret = self.credentials or "", ""
        if said.startswith(SECRET):
            secret = secrets.read(said.removeprefix(SECRET), session.current().ui.where)
        elif said:
            said = str(Path(said).expanduser().absolute())
        return Table(self.address, self.watch, said, secret)


def opened(address: str, credentials: str | None) -> Queue:
    """Open a queue, and sign in where it wants that: a notebook's user is asked."""
    from ..queues import open_queue

    found = open_queue(address)
    found.sign_in(session.current().ui.where, credentials or "")
    return found


def asked(runs: str | None, how: tuple[bool, str | None, str | None], **others: Any) -> Asked | None:
    """Return what a line says of its queue; None where it says none.

    Parameters
    ----------
    runs : str or None
        Its address.
    how : tuple
        ``watch``, ``terms`` and ``credentials`` of `Asked`.
    **others
        Options that say otherwise which runs there are.

    Raises
    ------
    InvalidInput
        When something else says too which runs there are.
    """
    if runs is None:
        return None
    if said := [name for name, value in others.items() if value not in (None, 0)]:
        name = said[0].replace("_", "-") if said[0] != "grid" else "a grid"
        raise InvalidInput(
            f"runs= says which runs there are, and so does {name}.",
            "Leave one of both out: %queue add puts a grid into a queue.",
        )
    return Asked(runs, *how)


def accept(colab_terms: str | None) -> None:
    """Ask for the user's word on Colab's terms, where we are there and it was not given yet."""
    from ..colab import terms

    here = session.current()
    terms.accept(here.ui, here.said, _WORKER, said_now=colab_terms)


def start(order: Order, of: Asked) -> QueueBoard:
    """Have runs of a queue executed."""
    from ..runs.of_queue import sweep

    accept(of.terms)
    board = sweep.start(order.a_few_at_once(CLAIMS_ALL), of.table(), of.rows())
    failed = sum(run.status().phase == "failed" for run in board.runs if run.folder in board.before)
    if failed:
        session.current().ui.say(
            f"{failed} runs failed here before: %queue requeue {board.queue} failed makes them ready again."
        )
    return board


def preview(order: Order, of: Asked | None) -> Shown:
    """Show what would be executed, of a queue what would be claimed; nothing is."""
    from ..runs import submit
    from ..runs.of_queue import sweep

    return submit.preview(order) if of is None else sweep.preview(order.a_few_at_once(CLAIMS_ALL), of.rows())


def watching(ui: UI, board: Board, project: Project, order: Order, of: Asked | None, *, tolerant: bool) -> None:
    """Watch runs until they have ended, as `runs.watching.watch` does; say of those of a queue how it all stands."""
    from ..runs import watching as room

    try:
        room.watch(ui, board, project, tolerant=tolerant)
    finally:
        if of is not None:
            tell(board, order, of)


def of_commands(ui: UI, project: Project, order: Order, of: Asked, undo: ExitStack, *, wait: bool) -> QueueBoard:
    """Have commands of a queue executed, and watch them, or say how that is done; `undo` is for when nothing starts."""
    board, job = start(order, of), project.job
    undo.pop_all()
    if wait:
        watching(ui, board, project, order, of, tolerant=False)
    else:
        board.notes.append(f"%jobs watch {job} shows the runs that are claimed, %jobs kill {job} ends it all.")
    return board


def tell(board: Board, order: Order, of: Asked) -> None:
    """Say below the runs how the whole queue stands, where it can be asked."""
    from ..runs.of_queue import sweep

    with suppress(ColabMagicsError):
        note = sweep.others(order.job_folder, of.address, of.rows())
        board.notes.append(note)
        session.current().ui.say(note)
