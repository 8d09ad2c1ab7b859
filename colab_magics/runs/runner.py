"""The process that executes one run: ``python -P -m colab_magics.runs.runner FOLDER``.

It takes the folder's lock, writes state.json (phase, cell, heartbeat), executes the payload and leaves nothing behind:
what the payload started and forgot ends with it. SIGTERM kills the run: the kernel is interrupted, after five seconds
terminated, then killed; what was saved stays.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import psutil

from .. import process
from ..errors import Busy, ColabMagicsError
from ..kernels.journal import AGAIN, GONE
from ..mirror import state as syncs
from ..payloads import payload_of
from ..payloads.base import Payload
from ..records import lock, metrics
from ..records.names import LOG, STATE
from ..records.run import Run
from ..records.status import HEARTBEAT
from ..session import RUN_VARIABLE
from ..units import show_seconds
from . import usage
from .log import open_log

if TYPE_CHECKING:
    import asyncio

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)

_FIRST_BEAT = 1.0
"""Seconds until a run's first heartbeat, so that what it uses shows soon."""
SOON = 0.1
"""Seconds in which the cells of a run may go by without anybody being told of each."""
HAND_OVER_SECONDS = 120.0
"""So long a run that has ended waits for its results to be handed over."""


class StateFile:
    """state.json of a run, written by this process alone, with a heartbeat from a thread."""

    def __init__(self, run: Run) -> None:
        self._path = run.folder / STATE
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.meter = usage.Meter(run.folder)
        self._value: dict[str, Any] = {
            "attempt": run.attempt,
            "record": run.mark,
            "phase": "running",
            "started": time.time(),
            "process": process.identity(),
            **usage.given_gpus(run.record),
        }
        self._soon: asyncio.TimerHandle | None = None
        self.set()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def set(self, **values: Any) -> OSError | None:
        """Change values and write the file; return why that could not be: a full disk ends no run."""
        with self._lock:
            self._value |= values
            self._value["beat"] = time.time()
            try:
                # How a run ended outlives the machine; that it was running does not.
                process.write_json(self._path, self._value, durable="ended" in self._value)
            except OSError as error:
                return error
            return None

    def keep(self, **values: Any) -> None:
        """Change values; the next write has them."""
        with self._lock:
            self._value |= values

    def set_soon(self, **values: Any) -> None:
        """Change values; they are written within `SOON`, with all that comes until then. Called on the event loop."""
        self.keep(**values)
        if self._soon is None:
            import asyncio  # whoever has a loop has it

            self._soon = asyncio.get_running_loop().call_later(SOON, self._set_now)

    def _set_now(self) -> None:
        self._soon = None
        self.set()

    def _beat(self) -> None:
        pause = _FIRST_BEAT
        while not self._over.wait(pause):
            pause = HEARTBEAT
            self.set(usage=self.meter.measure())

    def end(self, phase: str, give_up: Callable[[], bool], **values: Any) -> None:
        """Write the last state, as soon as there is room, until `give_up` says so."""
        self._over.set()
        self._thread.join()
        used = self.meter.end()
        values |= {"phase": phase, "ended": time.time()} | ({"usage": used} if used else {})
        while (problem := self.set(**values)) is not None and problem.errno not in GONE and not give_up():
            time.sleep(AGAIN)

    def note(self, text: str) -> None:
        """Add to what the user is told of the run when it has ended; the next write has it."""
        self.keep(note="; ".join(filter(None, [str(self._value.get("note") or ""), text])))


@dataclass
class _Attempt:
    """What a payload is given; see `colab_magics.payloads.base.Attempt`."""

    run: Run
    log: TextIO
    state: StateFile
    killer: Killer

    def forks_elsewhere(self) -> None:
        """Its processes will be no descendants of this one: they are found by the run's variable."""
        self.killer.forked = True

    def kernel(self, pid: int | None) -> None:
        """Note the process that works for the run."""
        self.killer.kernel = self.state.meter.kernel = None if pid is None else process.identity(pid)
        self.state.set(kernel=pid, kernel_process=self.killer.kernel)

    def tell_soon(self, **values: Any) -> None:
        """Write values within a moment."""
        self.state.set_soon(**values)

    def keep(self, **values: Any) -> None:
        """Write values with the next ones."""
        self.state.keep(**values)

    def note(self, text: str) -> None:
        """Tell the user."""
        self.state.note(text)

    def look(self) -> None:
        """Look at peaks of memory."""
        self.state.meter.peaks()

    def why_ended(self) -> str:
        """Say why the payload is being ended on purpose."""
        return self.killer.why()

    def is_killed(self) -> bool:
        """Whether the run was killed."""
        return self.killer.asked.is_set()


class Killer:
    """Ends the payload when this process is told to end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked = threading.Event()
        self.too_long = ""
        """That the payload took too long, in words; empty when it did not."""
        self.kernel: dict[str, Any] | None = None
        self.forked = False
        """Whether the kernel was forked elsewhere: then it is no descendant of this process."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, *_: Any) -> None:
        if not self.asked.is_set():
            self.asked.set()
            threading.Thread(target=self._end, name="killer", daemon=True).start()

    def why(self) -> str:
        """Say why this process ended the payload; empty when it did not."""
        return "the run was killed" if self.asked.is_set() else self.too_long

    def after(self, seconds: float) -> threading.Timer:
        """End the payload when it has taken so long."""

        def end() -> None:
            self.too_long = f"the run took longer than time={show_seconds(seconds)}"
            self._end()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        return timer

    def _end(self) -> None:
        kernel = self.kernel
        if kernel is not None and process.is_alive(kernel):
            with contextlib.suppress(ProcessLookupError):
                os.kill(kernel["pid"], signal.SIGINT)
            end = time.monotonic() + 5
            while process.is_alive(kernel) and time.monotonic() < end:
                time.sleep(0.05)
        self.end_payload()

    def end_payload(self) -> None:
        """End every process below this one, and those of a kernel that was forked elsewhere."""
        if _has_children():
            for child in psutil.Process().children():
                process.end_tree(child.pid, grace=2.0)
        if self.forked:
            if self.kernel is not None and process.is_alive(self.kernel):
                process.end_tree(self.kernel["pid"], grace=2.0)
            process.end_all_with(RUN_VARIABLE, str(self.folder))


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Hold a run's folder: no two runners execute one run.

    Raises
    ------
    Busy
        When another runner holds it.
    """
    patience = time.monotonic() + 2.0
    while True:
        try:
            fd = lock.take(folder)
            break
        except BlockingIOError:
            # A runner whose scheduler has died, before it could write anything.
            process.end_all_with(RUN_VARIABLE, str(folder))
            # Or somebody completes the notebook from the journal.
            if time.monotonic() > patience:
                raise Busy(f"Another process executes the run in {folder}.", "%jobs shows how far it is.") from None
            time.sleep(0.05)
    try:
        yield
    finally:
        os.close(fd)


def execute(folder: Path) -> int:
    """Execute the run in `folder`; return the exit status: 0 done, 1 failed, 2 killed."""
    run = Run.load(folder)
    if run.attempt > 1 or run.state() is not None:
        # What was started here before, and whose scheduler has died, must not write beside us.
        process.end_all_with(RUN_VARIABLE, str(folder))
    with holding(folder):
        if run.verdict() is not None:
            return 2
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        os.environ[RUN_VARIABLE] = str(folder)
        # debugpy writes three lines about frozen modules into every log otherwise.
        os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
        killer, state = Killer(folder), StateFile(run)
        limit = run.record.get("payload", {}).get("time")
        timer = killer.after(limit) if limit else None
        error: dict[str, Any] | None = None
        log, raw = open_log(folder / LOG)
        try:
            with log:
                log.write(f"══ {run.id}, attempt {run.attempt}, {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
                error = payload_of(run.record).execute(_Attempt(run, log, state, killer))
        except ColabMagicsError as problem:
            error = {"cell": 0, "ename": type(problem).__name__, "evalue": str(problem), "traceback": str(problem)}
        except Exception as problem:  # noqa: BLE001 - whatever it was, the run's folder must say so
            error = {
                "cell": 0,
                "ename": type(problem).__name__,
                "evalue": str(problem),
                "traceback": traceback.format_exc(),
            }
        if timer is not None:
            timer.cancel()
        if killer.too_long:
            error = _took_too_long(killer.too_long, error)
        killer.end_payload()
        phase = "killed" if killer.asked.is_set() else "failed" if error else "done"
        phase = "stopped" if phase == "done" and metrics.is_stopped(folder, run.attempt) else phase
        if raw.lost:
            state.note(f"{run.id}: {raw.lost:,} bytes of {LOG} were not written: {raw.why}.")
        state.end(phase, killer.asked.is_set, error=error, **({} if phase == "killed" else _hand_over(folder)))
        _tell_the_end(folder)
        return {"done": 0, "stopped": 0, "failed": 1, "killed": 2}[phase]


def _hand_over(folder: Path) -> dict[str, Any]:
    """Hand the results over before anybody is told that there are any; a Place that is away fails no run."""
    if not syncs.folders():
        return {}
    from ..mirror import control  # which reads much: short runs would pay for what keeps none of them

    trouble = control.hand_over(folder.parent, timeout=HAND_OVER_SECONDS)
    if trouble is None:
        return {}
    return {"handed_over": False, "not_handed_over": trouble} if trouble else {"handed_over": True}


def _tell_the_end(folder: Path) -> None:
    """Let the last state go at once: on Drive a run's heartbeats go only now and then."""
    if not syncs.folders():
        return
    from ..mirror import control

    with contextlib.suppress(OSError):
        control.nudge(folder.parent)


def _took_too_long(text: str, error: dict[str, Any] | None) -> dict[str, Any]:
    cell = (error or {}).get("cell", 0)
    return {"cell": cell, "ename": "TimeLimit", "evalue": text, "traceback": (error or {}).get("traceback", text)}


class Runner:
    """This program, as engines start it; see `colab_magics.engines.base.Program`."""

    def command(self, folder: Path) -> list[str]:
        """Return what starts it for a run's folder."""
        return process.python("colab_magics.runs.runner", folder)

    def load(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Do what executing these runs begins with."""
        by_payload: dict[type, tuple[Payload, list[Mapping[str, Any]]]] = {}
        for record in records:
            payload = payload_of(record)
            by_payload.setdefault(type(payload), (payload, []))[1].append(record)
        for payload, mine in by_payload.values():
            payload.rehearse(mine)
        if syncs.folders():
            importlib.import_module("colab_magics.mirror.control")  # once, not in each fork

    def execute(self, folder: Path) -> int:
        """Execute the run in `folder`; see `execute`."""
        return execute(folder)


def main() -> None:
    """Run as a program."""
    sys.exit(execute(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
