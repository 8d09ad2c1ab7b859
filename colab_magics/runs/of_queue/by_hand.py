"""Runs of a queue that a script executes itself: ``for run in colab_magics.queue(URL): …``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...errors import Busy, ColabMagicsError, Unavailable
from ...queues.addresses import blotted, shown
from ...queues.base import READY, Claim, End, Queue, Value, new_ticket, worker_name
from . import run_table
from .held import QueueRun


class Worker:
    """What ``colab_magics.queue(URL)`` returns: the table, as it stands, and its runs for this program to execute.

    Parameters
    ----------
    queue : Queue
        The queue.
    own : mapping
        Defaults of the program's own, for parameters of which the table has no value.
    watch : bool
        Whether to wait for runs that are added when none is left.
    accept : callable
        Raises where the user does not accept what being a worker means; called before the first claim.
    say : callable
        Tells the user something.
    commit : str
        The code's git commit.
    """

    def __init__(
        self,
        queue: Queue,
        *,
        own: Mapping[str, Value] | None = None,
        watch: bool = False,
        accept: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda text: None,
        commit: Callable[[], str] = str,
    ) -> None:
        self.queue, self.name = queue, worker_name()
        self._own, self._watch, self._accept, self._say, self._find_commit = own, watch, accept, say, commit
        self._trouble, self._began = "", False
        self.commit = ""

    def __iter__(self) -> Iterator[QueueRun]:
        """Claim one run after the other; each is done when the next one is asked for."""
        return self._runs()

    def _runs(self) -> Iterator[QueueRun]:
        ends: list[End] = []
        pause = 0.0
        while True:
            claim, stop = self._claim(ends)
            if claim is None:
                if stop or not self._watch:
                    self._say(f"This worker is to claim no more: {stop}" if stop else "No more ready runs")
                    return
                ends, pause = [], min(max(1.0, 1.5 * pause), self.queue.beat)
                time.sleep(pause)
                continue
            run = QueueRun(self, claim)
            try:
                yield run
            except GeneratorExit:
                run.left(sys._getframe().f_back)
                raise
            end = run.end_as_told()
            ends, pause = [end] if end is not None else [], 0.0

    def claim(self) -> QueueRun | None:
        """Claim the next run; None when none is ready. End it by ``with run:``, or ``run.done()``."""
        claim, _ = self._claim([])
        return QueueRun(self, claim) if claim is not None else None

    def _claim(self, ends: list[End]) -> tuple[Claim | None, str]:
        if not self._began:
            self._accept()
            self._began, self.commit = True, self._find_commit()
        claims, stop = self.exchange(ends, 1)
        return (claims[0] if claims else None), stop

    def exchange(self, ends: list[End], number: int, *, patience: float | None = None) -> tuple[list[Claim], str]:
        """Write ends and claim others; a queue that is away is waited for, for `patience` seconds."""
        ticket, pause, until = new_ticket(), 0.5, time.monotonic() + (patience or 0)
        while True:
            try:
                reply = self.queue.exchange(self.name, ticket=ticket, ends=ends, number=number, own=self._own)
            except (Unavailable, Busy) as error:
                if patience is not None and time.monotonic() > until:
                    raise
                self.trouble(error)
                time.sleep(pause)
                pause = min(2 * pause, self.queue.beat)
                continue
            self.trouble(None)
            for end, counted in zip(ends, reply.ended, strict=True):
                if not counted and end.status != READY:
                    self._say(
                        f"The end of run {end.claim.name} came too late: the queue has given it to somebody else."
                    )
            return reply.claims, reply.stop

    def trouble(self, error: ColabMagicsError | None) -> None:
        """Tell once that the queue is away, and that it is back."""
        text = "" if error is None else blotted(error.what, self.queue.address)
        if bool(text) != bool(self._trouble):
            where = shown(self.queue.address)
            self._say(f"{where} does not answer ({text}); the run goes on." if text else f"{where} answers again.")
        self._trouble = text

    def table(self) -> Any:
        """Return how its runs stand, as a table to show."""
        return run_table.table(self.queue.rows(), shown(self.queue.address))

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return str(self.table()._repr_html_())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))
