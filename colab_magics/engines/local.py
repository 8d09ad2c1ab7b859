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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import files, process
from ..errors import Unavailable
from ..records.names import LOG, PLAN, RECORD, SCHEDULER
from ..records.run import LOCAL
from ..session import RUN_VARIABLE
from ..ui import UI
from . import base, forking, machine, scratch, zygotes
from .base import Engine, Phase, Program, Ref, Resources, Submission, Work
from .gpus import devices
from .gpus.desk import Desk
from .zygotes import Begun

_GRACE = 12.0
"""Seconds that a runner has, once told, to interrupt its kernel and save; then its whole tree is killed."""


class LocalEngine(Engine, zygotes.ForksKernels):
    """Runs are processes of this machine, each in a session of its own, so that they survive whoever started them.

    A reference is what `process.identity` says of the runner.
    """

    starts = frozenset({"cold", "warm", "live"})
    reads_folders = True
    poll_every = 0.0  # looking costs nothing, and `wait` ends when a runner does

    def __init__(self, where: str = "", options: Any = None) -> None:
        base.nothing_more(LOCAL, where)
        super().__init__(where, options)
        self._program: Program | None = None
        self._environment: Mapping[str, str] = {}
        self._kill_at: dict[int, float] = {}
        self._ends: dict[int, int] = {}
        self._zygotes: dict[tuple[str, str | None], str] = {}
        self._copy: zygotes.Attendance | None = None
        self._desk: Desk | None = None
        self._given: dict[Path, list[str]] = {}

    def settle(
        self,
        job_folder: Path,
        cwd: Path,
        workers: str | int = "auto",
        gpus: str | float | None = None,
        ui: UI | None = None,
    ) -> Resources:
        """Look at this machine's cores and GPUs; see `Engine`."""
        return machine.settle(workers, gpus, ui)

    def available(self, *, gpus: float = 0) -> None:
        """Return: this machine is there. See whether it has so many GPUs."""
        if gpus:
            devices.check(gpus, devices.find())

    def begin(self, job_folder: Path, start: str, kernel: str | None) -> Begun:
        """Start the zygote: it imports while the plan is written and the scheduler starts."""
        return zygotes.start(job_folder, kernel) if start == "warm" else Begun()

    def prepare(self, work: Work) -> None:
        """Import what runners need, look for GPUs, and start the zygotes that runs are to be forked from.

        There is one for each kernel. It ends with this process, or with its last kernel.
        """
        self._program, self._environment = work.program, work.environment
        scratch.sweep()
        records = [_record(folder) for folder in (*work.folders, *work.adopted)]
        starts = {_start(record) for record in records[: len(work.folders)]}
        begun = (process.read_json(work.job_folder / SCHEDULER / PLAN) or {}).get("begun") or {}
        for start, kernel in starts:
            if start == "warm":
                ready = begun if begun and begun.get("kernel") == kernel else None
                notes = ready or zygotes.start(work.job_folder, kernel).notes
                self._zygotes[start, kernel] = notes.get("zygote", "")
            elif start == "live":
                self._hold_copy(work.job_folder)
        if records:
            self._desk = Desk(work.job_folder, [record.get("gpus") for record in records])
        gc.disable()  # what is imported stays: looking for what does not takes a fifth of the time
        self._program.load(records)
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

    def submit(self, runs: Sequence[Submission]) -> list[Ref | None]:
        """Start a runner for each, as long as there are devices for those that need some."""
        refs: list[Ref | None] = []
        for run in runs:
            if not self._has_devices(run.folder):
                break
            try:
                refs.append(self._start(run.folder))
            except OSError:
                # No more processes, or no memory for one: later there may be.
                if not refs:
                    raise
                break
        return [*refs, *[None] * (len(runs) - len(refs))]

    def _has_devices(self, folder: Path) -> bool:
        """Take the devices that a run needs, unless it has them; False when it has to wait for them."""
        if folder not in self._given and self._desk is not None:
            given = self._desk.give(folder, _record(folder))
            if given is None:
                return False
            self._given[folder] = given
        return True

    def _start(self, folder: Path) -> Ref:
        if self._program is None:
            raise TypeError("an engine submits nothing before it was prepared")
        uuids = self._given.get(folder, [])
        env = {**self._environment, RUN_VARIABLE: str(folder)}
        if uuids or _record(folder).get("gpus") == 0:
            env |= devices.environment(uuids or _record(folder).get("devices") or [])
        if zygote := self._zygotes.get(_start(_record(folder))):
            env[zygotes.VARIABLE] = zygote
        # A lock that another thread holds would be held for ever in a fork.
        start = _fork_program if threading.active_count() == 1 else _start_program
        pid = start(self._program, folder, env)
        self._given.pop(folder, None)
        ref = process.identity(pid)
        if uuids and self._desk is not None:
            with contextlib.suppress(OSError):  # then the lease counts by this process, and the run's environment
                self._desk.started(folder, ref)
        self._watch(pid)
        return ref

    def find(self, runs: Sequence[Submission]) -> list[Ref | None]:
        """Look for runners by the environment that they were started with."""
        return [_runner_of(run.folder) for run in runs]

    def poll(self, runs: Sequence[Submission]) -> list[Phase]:
        """Look at the processes; those that ignore a kill for too long are killed with their trees."""
        process.reap()
        phases: list[Phase] = []
        for run in runs:
            ref = run.ref or {}
            alive = process.is_alive(ref) if ref else False
            if alive and time.monotonic() > self._kill_at.get(ref["pid"], float("inf")):
                process.end_tree(ref["pid"], grace=0.2)
                alive = process.is_alive(ref)
            if alive:
                self._watch(ref["pid"])
            elif ref.get("pid") in self._ends:
                os.close(self._ends.pop(ref["pid"]))
            phases.append(base.RUNNING if alive else base.ENDED if alive is False else base.UNKNOWN)
        if self._desk is not None:
            self._desk.look(ended=base.ENDED in phases)
        return phases

    def _watch(self, pid: int) -> None:
        # Where Linux gives no such handle, `wait` waits for its time to pass.
        if pid not in self._ends:
            with contextlib.suppress(OSError):
                self._ends[pid] = os.pidfd_open(pid)

    def handles(self) -> list[int]:
        """Return what becomes readable when a runner has ended; `poll` closes it then."""
        return list(self._ends.values())

    def wait(self, seconds: float) -> None:
        """Wait so long, or until a runner has ended."""
        poll = select.poll()
        for fd in self.handles():
            poll.register(fd, select.POLLIN)
        poll.poll(1000 * seconds)

    def cancel(self, runs: Sequence[Submission]) -> None:
        """Ask the runners to end: those that are, by their environment, what the reference says."""
        for run in runs:
            ref = run.ref or {}
            if not process.is_alive(ref) or ref["pid"] in self._kill_at or not _executes(ref["pid"], run.folder):
                continue
            self._kill_at[ref["pid"]] = time.monotonic() + _GRACE
            with contextlib.suppress(ProcessLookupError):
                os.kill(ref["pid"], signal.SIGTERM)


def _executes(pid: int, folder: Path) -> bool:
    """Whether a process executes this very run: a file that names it may come from anywhere."""
    said = process.variable(pid, RUN_VARIABLE)
    return bool(said) and os.path.realpath(str(said)) == os.path.realpath(folder)


def _runner_of(folder: Path) -> Ref | None:
    """Find the process that was started for a run's folder; what it has started in turn has other arguments."""
    for pid in process.all_with(RUN_VARIABLE, str(folder)):
        with contextlib.suppress(OSError):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if os.fsencode(folder) in arguments and (who := process.identity(pid))["started"] is not None:
                return who
    return None


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
