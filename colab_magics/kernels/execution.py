"""One notebook's way through a kernel: its progress, its log, and the executed copy, whole at every moment.

papermill writes the whole notebook with a plain ``open`` twice a cell, so that a kill can leave half of one, and many
cells take their square in time. Here a journal takes what arrives, at once (`colab_magics.kernels.journal`), and the
notebook is written by a temporary file and a rename, at most every ``max(1 s, 20 x the save's cost)``, and once more at
the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from .. import process
from ..records.injected import is_injected
from .client import RunClient
from .journal import AGAIN, GONE, Journal
from .replay import as_text

_LOOK_EVERY = 0.1
"""Seconds in which cells may end without `on_cell_end`: what it looks at is looked at again before the kernel ends."""


@dataclass
class Execution:
    """One notebook's way through a kernel; the client's watcher.

    Parameters
    ----------
    output : Path
        The executed notebook's file.
    log : text file, optional
        Gets what the cells print, as it arrives.
    on_cell : callable, optional
        Called when a cell starts with (its place among those that are executed, how many these are, when it began in
        seconds since the epoch).
    on_cell_end : callable, optional
        Called when a cell has ended, unless it was called a moment ago, and before the kernel ends.
    on_kernel : callable, optional
        Called with the kernel's process id once it runs (None where the kernel is no process of ours) and a note, such
        as why it could not be started warm.
    why_ended : callable, optional
        Returns why the kernel was ended on purpose; empty when it was not.
    start : {"cold", "warm", "live"}
        How the kernel starts.
    zygote : str, optional
        The socket of the process that kernels are forked from, where they do not start cold.
    numbers_parameters : bool, default False
        Whether the cell with the injected parameters takes a number, as with papermill; without it cells have the
        numbers that they have in their author's notebook.
    give_up : callable, optional
        Asked while the executed notebook finds no room: whether to leave it unsaved. Without it that is an error.
    not_written : dict
        What could not be written, and why.
    """

    output: Path
    log: TextIO | None = None
    on_cell: Callable[[int, int, float], None] | None = None
    on_cell_end: Callable[[], None] | None = None
    on_kernel: Callable[[int | None, str], None] | None = None
    why_ended: Callable[[], str] = str
    start: str = "cold"
    zygote: str | None = None
    numbers_parameters: bool = False
    give_up: Callable[[], bool] | None = None
    not_written: dict[str, str] = field(default_factory=dict)
    notebook: Any = None
    cell: int = 0
    settle: Callable[[], None] | None = None
    _journal: Journal | None = None
    _places: dict[int, int] = field(default_factory=dict)
    _cost: float = 0.0
    _saved: float = 0.0
    _timer: asyncio.TimerHandle | None = None
    _looked: float = 0.0

    def begin(self, client: RunClient) -> None:
        """Take the notebook that a client is about to execute.

        Parameters
        ----------
        client : RunClient
            Holds the notebook, and brings its outputs up to date before it is saved.
        """
        client.numbers_parameters = self.numbers_parameters
        self.notebook, self.settle = client.nb, client.settle
        executed = [n for n, cell in enumerate(self.notebook.cells) if client.executes(cell) and not is_injected(cell)]
        self._places = {position: place for place, position in enumerate(executed, start=1)}
        try:
            process.write_whole(self.output, as_text(self.notebook, soon_replaced=True), durable=False)
            self._saved = time.monotonic()
            self._journal = Journal(self.output, self.notebook)
        except OSError:
            # A cell that needs no room goes well without; one that does says so itself.
            if self.give_up is None:
                raise

    def kernel_runs(self, pid: int | None, note: str) -> None:
        """Pass the kernel's process id on."""
        if note and self.log is not None:
            self.log.write(f"── {note}\n")
        if self.on_kernel is not None:
            self.on_kernel(pid, note)

    def cell_begins(self, index: int, cell: Any, began: float) -> None:
        """Count a cell."""
        if self._journal is not None:
            self._journal.begins(index, cell)
        if index in self._places:
            self.cell += 1  # unless the kernel says another number
            if self.on_cell is not None:
                self.on_cell(self._places[index], len(self._places), began)

    def cell_numbered(self, index: int, number: int | None) -> None:
        """Note the number that the notebook shows of a cell."""
        if number is None or index not in self._places:
            return
        self.cell = number
        if self.log is not None:
            self.log.write(f"── cell {number} ({self._places[index]} of {len(self._places)})\n")
            self.log.flush()

    def cell_ended(self, index: int, cell: Any) -> None:
        """Note how a cell ended."""
        if self.on_cell_end is not None and time.monotonic() - self._looked > _LOOK_EVERY:
            self.on_cell_end()
            self._looked = time.monotonic()
        if self._journal is not None:
            self._journal.ended(index, cell)
        self.changed()

    def kernel_ends(self) -> None:
        """Look for the last time at a kernel that has executed its cells."""
        if self.on_cell_end is not None:
            self.on_cell_end()

    def message(self, index: int, message: Mapping[str, Any]) -> None:
        """Note what the kernel said."""
        if self._journal is not None:
            self._journal.message(index, message)

    def changed(self) -> None:
        """Save soon; called on the event loop whenever the notebook has changed."""
        if self._timer is None:
            pause = max(1.0, 20 * self._cost) - (time.monotonic() - self._saved)
            self._timer = asyncio.get_running_loop().call_later(max(pause, 0.0), self._save_now)

    def _save_now(self) -> None:
        try:
            self.save()
        except OSError as error:
            self.not_written["notebook"] = error.strerror or str(error)
            self._saved = time.monotonic()
            self.changed()

    def save(self) -> None:
        """Write the notebook as it is, by rename."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.settle is not None:
            self.settle()
        began = time.monotonic()
        process.write_whole(self.output, as_text(self.notebook))
        self.not_written.pop("notebook", None)
        self._saved = time.monotonic()
        self._cost = self._saved - began

    def end(self) -> None:
        """Save for the last time, as soon as there is room; the journal has done its work."""
        while True:
            try:
                self.save()
                break
            except OSError as error:
                if self.give_up is None:
                    raise
                if error.errno in GONE or self.give_up():
                    self.not_written["notebook"] = error.strerror or str(error)
                    return
            time.sleep(AGAIN)
        if self._journal is not None:
            self._journal.remove()
            self._journal = None
