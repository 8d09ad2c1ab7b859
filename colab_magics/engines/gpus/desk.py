"""What a scheduler knows of GPUs: which it may give to its runs, what its runs use of them, and who they wait for.

It is written to ``<job>/.scheduler/gpus.json`` by this process alone: `devices` (their names by UUID), `waiting` (who
has them, while a run waits), `memory` (bytes by the run's folder name), `problem` (why nothing is known).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ... import process
from ...records.names import PLAN, SCHEDULER
from ...session import RUN_VARIABLE
from . import devices as all_devices
from .leases import Leases

FILE = Path(SCHEDULER, "gpus.json")
_AGAIN = 0.5
"""Seconds between two tries to get a device that others have."""


class Desk:
    """Gives devices to the runs of a job.

    Parameters
    ----------
    job_folder : Path
        The job.
    needs : sequence of float or None
        What its runs' records say; None is a run that was given no device and may use all of them.
    """

    def __init__(self, job_folder: Path, needs: Sequence[float | None]) -> None:
        self._folder = job_folder
        self._devices = all_devices.find() if any(needs) else []
        plan = process.read_json(job_folder / SCHEDULER / PLAN) or {}
        self._leases = Leases([plan["by"]] if "by" in plan else [])
        self._watch = (
            all_devices.Watch() if all_devices.there() and any(need is None or need > 0 for need in needs) else None
        )
        self._waiting = ""
        self._next = 0.0
        self._memory: dict[str, int] = {}
        self._written: dict[str, Any] = {}

    def look(self, *, ended: bool) -> None:
        """Look at who uses GPUs, every few seconds; `ended` says that a run has ended, and may have left a device."""
        if ended:
            self._next = 0.0
        if self._watch is not None:
            if self._watch.look():
                self._memory = self._of_runs(self._watch.uses)
                if self._watch.problem:
                    with contextlib.suppress(OSError):
                        print(self._watch.problem, flush=True)  # noqa: T201 - the scheduler's log
            self._write()

    def give(self, folder: Path, record: Mapping[str, Any]) -> list[str] | None:
        """Take the devices that a run needs; None when it has to wait for them."""
        need = record.get("gpus")
        if not need:
            return []
        if time.monotonic() < self._next:
            return None
        if self._watch is None or not self._devices:
            # It came later than the others, which needed none.
            self._watch, self._devices = self._watch or all_devices.Watch(), all_devices.find()
            self._next = 0.0 if self._devices else time.monotonic() + all_devices.EVERY
        if not self._watch.looked and not self._watch.problem:
            # Nobody knows yet which devices others use.
            return None
        only_free = bool(record.get("only_free_gpus", True))
        devices = all_devices.suited(need, self._devices)
        taken = self._leases.take(folder, need, devices, self._watch.uses, only_free=only_free)
        self._waiting = taken if isinstance(taken, str) else ""
        if isinstance(taken, str):
            self._next = time.monotonic() + _AGAIN
            return None
        return taken

    def started(self, folder: Path, runner: Mapping[str, Any]) -> None:
        """Write down which process has a run's devices."""
        self._leases.started(folder, runner)

    def _of_runs(self, uses: Sequence[all_devices.Use]) -> dict[str, int]:
        """Return how much memory each run of this job uses."""
        found: dict[str, int] = {}
        for use in uses:
            run = Path(process.variable(use.pid, RUN_VARIABLE) or "/")
            if run.parent == self._folder:
                found[run.name] = found.get(run.name, 0) + use.memory
        return found

    def _write(self) -> None:
        now = {
            "devices": {device.uuid: str(device) for device in self._devices},
            "waiting": self._waiting,
            "memory": self._memory,
            "problem": self._watch.problem if self._watch else "",
        }
        if now != self._written:
            # For people's eyes: a full disk ends no sweep.
            with contextlib.suppress(OSError):
                process.write_json(self._folder / FILE, now)
                self._written = now
