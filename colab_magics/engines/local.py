"""The local engine: a runner process on this machine for each run."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from .. import process
from ..session import RUN_VARIABLE
from .base import Engine, Ref

_RUNNER_LOG = "log.txt"
_GRACE = 12.0
"""Seconds that a runner has, once told, to interrupt its kernel and save; then its whole tree is killed."""


class LocalEngine(Engine):
    """Runs are processes of this machine, each in a session of its own, so that they survive whoever started them."""

    native = frozenset({"survives"})

    def __init__(self) -> None:
        self._kill_at: dict[int, float] = {}

    def available(self) -> None:
        """Return: this machine is there."""

    def prepare(self, folders: Sequence[Path]) -> None:
        """Nothing to bring: code and folders are here."""

    def submit(self, folders: Sequence[Path]) -> list[Ref]:
        """Start a runner for each folder."""
        refs = []
        for folder in folders:
            pid = process.start_detached(
                process.python("colab_magics.runs.runner", folder),
                log_file=folder / _RUNNER_LOG,
                cwd=folder,
                env={RUN_VARIABLE: str(folder)},
            )
            refs.append(process.identity(pid))
        return refs

    def poll(self, refs: Iterable[Ref]) -> list[bool]:
        """Look at the processes; those that ignore a kill for too long are killed with their trees."""
        process.reap()
        alive = []
        for ref in refs:
            here = bool(process.is_alive(ref))
            if here and time.monotonic() > self._kill_at.get(ref["pid"], float("inf")):
                process.end_tree(ref["pid"], grace=0.2)
                here = bool(process.is_alive(ref))
            alive.append(here)
        return alive

    def cancel(self, refs: Iterable[Ref]) -> None:
        """Ask the runners to end."""
        for ref in refs:
            if process.is_alive(ref) and ref["pid"] not in self._kill_at:
                self._kill_at[ref["pid"]] = time.monotonic() + _GRACE
                with contextlib.suppress(ProcessLookupError):
                    os.kill(ref["pid"], signal.SIGTERM)

    def log(self, ref: Ref) -> str:
        """Nothing beyond the run's own log."""
        return ""

    def collect(self, folders: Sequence[Path]) -> None:
        """Nothing to bring home."""
