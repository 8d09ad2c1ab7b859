"""The local engine: a runner process on this machine for each run.

A scheduler forks its runners: what a runner imports, it imports once. Elsewhere a runner is a new program. With
``start=warm`` the engine also keeps the zygote from which the runs' kernels are forked; with ``start=live`` it holds on
to the frozen copy of the notebook, from which they are forked then.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import files, process
from ..errors import Unavailable
from ..records.names import LOG, RECORD
from ..session import RUN_VARIABLE
from . import forking, scratch, zygotes
from . import gpus as devices
from .base import Begun, Engine, Program, Ref
from .gpu_desk import Desk

_GRACE = 12.0
"""Seconds that a runner has, once told, to interrupt its kernel and save; then its whole tree is killed."""


class LocalEngine(Engine):
    """Runs are processes of this machine, each in a session of its own, so that they survive whoever started them."""

    native = frozenset({"survives"})
    starts = frozenset({"cold", "warm", "live"})

    def __init__(self) -> None:
        self._kill_at: dict[int, float] = {}
        self._ends: dict[int, int] = {}
        self._zygotes: dict[tuple[str, str | None], str] = {}
        self._copy: zygotes.Attendance | None = None
        self._desk: Desk | None = None
        self._given: dict[Path, list[str]] = {}

    def available(self, *, gpus: float = 0) -> None:
        """Return: this machine is there. See whether it has so many GPUs."""
        if gpus:
            devices.check(gpus, devices.find())

    def begin(self, job_folder: Path, start: str, kernel: str | None) -> Begun:
        """Start the zygote: it imports while the plan is written and the scheduler starts."""
        return zygotes.start(job_folder, kernel) if start == "warm" else Begun()

    def prepare(
        self, folders: Sequence[Path], adopted: Sequence[Path] = (), begun: Mapping[str, Any] | None = None
    ) -> None:
        """Import what runners need, look for GPUs, and start the zygotes that runs are to be forked from.

        There is one for each kernel. It ends with this process, or with its last kernel.
        """
        if self.program is None:
            return
        scratch.sweep()
        records = [_record(folder) for folder in (*folders, *adopted)]
        starts = {_start(record) for record in records[: len(folders)]}
        for start, kernel in starts:
            if start == "warm":
                ready = begun if begun and begun.get("kernel") == kernel else None
                notes = ready or zygotes.start(folders[0].parent, kernel).notes
                self._zygotes[start, kernel] = notes.get("zygote", "")
            elif start == "live":
                self._hold_copy(folders[0].parent)
        if records:
            self._desk = Desk([*folders, *adopted][0].parent, [record.get("gpus") for record in records])
        gc.disable()  # what is imported stays: looking for what does not takes a fifth of the time
        self.program.load(records)
        gc.enable()
        gc.freeze()

    def _hold_copy(self, job_folder: Path) -> None:
        """Keep the frozen copy of the notebook while runs are to be forked from it; each run says when it is gone."""
        with contextlib.suppress(Unavailable):
            self._copy = zygotes.Attendance(job_folder)
            self._zygotes["live", None] = self._copy.path

    def finish(self, *, well: bool) -> None:
        """Let the frozen copy go."""
        if self._copy is not None:
            self._copy.end(over=well)

    def ready(self, folders: Sequence[Path]) -> list[Path]:
        """Take devices for those that need some, in order, until there are no more."""
        found: list[Path] = []
        for folder in folders:
            if folder not in self._given and self._desk is not None:
                given = self._desk.give(folder, _record(folder))
                if given is None:
                    break
                self._given[folder] = given
            found.append(folder)
        return found

    def submit(self, folders: Sequence[Path]) -> list[Ref]:
        """Start a runner for each folder."""
        if self.program is None:
            raise TypeError("an engine submits nothing before it was given its program")
        refs: list[Ref] = []
        for folder in folders:
            uuids = self._given.get(folder, [])
            env = {RUN_VARIABLE: str(folder)}
            if uuids or _record(folder).get("gpus") == 0:
                env |= devices.environment(uuids)
            if zygote := self._zygotes.get(_start(_record(folder))):
                env[zygotes.VARIABLE] = zygote
            # A lock that another thread holds would be held for ever in a fork.
            alone = threading.active_count() == 1
            try:
                pid = _fork_program(self.program, folder, env) if alone else _start_program(self.program, folder, env)
            except OSError:
                # No more processes, or no memory for one: later there may be.
                if refs:
                    break
                raise
            self._given.pop(folder, None)
            refs.append(process.identity(pid))
            if uuids and self._desk is not None:
                with contextlib.suppress(OSError):  # then the lease counts by this process, and the run's environment
                    self._desk.started(folder, refs[-1])
            self._watch(pid)
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
            if here:
                self._watch(ref["pid"])
            elif ref.get("pid") in self._ends:
                os.close(self._ends.pop(ref["pid"]))
            alive.append(here)
        if self._desk is not None:
            self._desk.look(ended=not all(alive))
        return alive

    def _watch(self, pid: int) -> None:
        # Where Linux gives no such handle, `wait` waits for its time to pass.
        if pid not in self._ends:
            with contextlib.suppress(OSError):
                self._ends[pid] = os.pidfd_open(pid)

    def wait(self, seconds: float) -> None:
        """Wait so long, or until a runner has ended."""
        poll = select.poll()
        for fd in self._ends.values():
            poll.register(fd, select.POLLIN)
        poll.poll(1000 * seconds)

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


def _start(record: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return how a run's kernel starts, and the kernelspec's name."""
    return record.get("start", "cold"), (record.get("payload") or {}).get("kernel")


def _record(folder: Path) -> dict[str, Any]:
    return process.read_json(folder / RECORD) or {}


def _start_program(program: Program, folder: Path, env: dict[str, str]) -> int:
    return process.start_detached(program.command(folder), log_file=folder / LOG, cwd=folder, env=env)


def _open_log(path: Path) -> int:
    """Open a log to append to; where it finds no room, what is printed is lost and the run goes on."""
    try:
        return files.plain(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


def _fork_program(program: Program, folder: Path, env: dict[str, str]) -> int:
    """Fork a runner; it is like one that was started, and nothing of this process stays open in it."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        process.expect(pid)
        return pid
    status = 1
    try:
        os.setsid()
        log = _open_log(folder / LOG)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, fd in ((0, nothing), (1, log), (2, log)):
            os.dup2(fd, target)
        os.closerange(3, max(int(name) for name in os.listdir("/proc/self/fd")) + 1)
        os.chdir(folder)
        forking.become(program.command(folder), {**os.environ, **env}, RUN_VARIABLE)
        status = program.execute(folder)
    except BaseException:  # noqa: BLE001 - it ends in the run's log; the scheduler sees a runner that is lost
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
