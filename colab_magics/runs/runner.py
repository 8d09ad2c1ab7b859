"""The process that executes one run: ``python -P -m colab_magics.runs.runner FOLDER``.

It takes the folder's lock, writes state.json (phase, cell, heartbeat), executes the payload and leaves nothing behind:
what the payload started and forgot ends with it. SIGTERM kills the run: the kernel is interrupted, after five seconds
terminated, then killed; what was saved stays.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import psutil

from .. import process
from ..errors import Busy, ColabMagicsError, InvalidInput, NotFound
from ..session import RUN_VARIABLE
from ..units import show_seconds
from . import run as folder_of_run
from .run import HEARTBEAT, LOG, NOTEBOOK, SOURCE, STATE, Run

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)

HAND_OVER_SECONDS = 120.0
"""So long a run that has ended waits for its results to be handed over."""


class StateFile:
    """state.json of a run, written by this process alone, with a heartbeat from a thread."""

    def __init__(self, run: Run) -> None:
        self._path = run.folder / STATE
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._value: dict[str, Any] = {
            "attempt": run.attempt,
            "phase": "running",
            "started": time.time(),
            "process": process.identity(),
        }
        self.set()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def set(self, **values: Any) -> None:
        """Change values and write the file."""
        with self._lock:
            self._value |= values
            self._value["beat"] = time.time()
            process.write_json(self._path, self._value)

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT):
            # A full disk must not end the run's heartbeat for good: the next one may succeed.
            with contextlib.suppress(OSError):
                self.set()

    def end(self, phase: str, **values: Any) -> None:
        """Write the last state."""
        self._over.set()
        self._thread.join()
        self.set(phase=phase, ended=time.time(), **values)


class Killer:
    """Ends the payload when this process is told to end."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.too_long = False
        self.kernel: int | None = None
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, *_: Any) -> None:
        if not self.asked.is_set():
            self.asked.set()
            threading.Thread(target=self._end, name="killer", daemon=True).start()

    def after(self, seconds: float) -> threading.Timer:
        """End the payload when it has taken so long."""

        def end() -> None:
            self.too_long = True
            self._end()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        return timer

    def _end(self) -> None:
        if self.kernel is not None:
            kernel = process.identity(self.kernel)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.kernel, signal.SIGINT)
            end = time.monotonic() + 5
            while process.is_alive(kernel) and time.monotonic() < end:
                time.sleep(0.05)
        end_descendants()


def end_descendants() -> None:
    """End every process below this one."""
    for child in psutil.Process().children():
        process.end_tree(child.pid, grace=2.0)


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Hold a run's folder: no two runners execute one run.

    Raises
    ------
    Busy
        When another runner holds it.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    patience = time.monotonic() + 2.0
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # Somebody may be completing its notebook from the journal.
                if time.monotonic() > patience:
                    raise Busy(f"Another process executes the run in {folder}.", "%jobs shows how far it is.") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(fd)


def execute(folder: Path) -> int:
    """Execute the run in `folder`; return the exit status: 0 done, 1 failed, 2 killed."""
    # What was started here before, and whose scheduler has died, must not write beside us.
    process.end_all_with(RUN_VARIABLE, str(folder))
    run = Run.load(folder)
    with holding(folder):
        if run.verdict() is not None:
            return 2
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        os.environ[RUN_VARIABLE] = str(folder)
        # debugpy writes three lines about frozen modules into every log otherwise.
        os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
        killer, state = Killer(), StateFile(run)
        limit = run.record.get("payload", {}).get("time")
        timer = killer.after(limit) if limit else None
        error: dict[str, Any] | None = None
        try:
            with open(folder / LOG, "a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(f"══ {run.id}, attempt {run.attempt}, {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
                error = _payload(run)(run, state, killer, log)
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
            error = _took_too_long(run, limit, error)
        end_descendants()
        phase = "killed" if killer.asked.is_set() else "failed" if error else "done"
        state.end(phase, error=error, **({} if phase == "killed" else _hand_over(folder)))
        _tell_the_end(folder)
        return {"done": 0, "failed": 1, "killed": 2}[phase]


def _hand_over(folder: Path) -> dict[str, Any]:
    """Hand the results over before anybody is told that there are any; a Place that is away fails no run."""
    from ..mirror import control

    trouble = control.hand_over(folder.parent, timeout=HAND_OVER_SECONDS)
    if trouble is None:
        return {}
    return {"handed_over": False, "not_handed_over": trouble} if trouble else {"handed_over": True}


def _tell_the_end(folder: Path) -> None:
    """Let the last state go at once: on Drive a run's heartbeats go only now and then."""
    from ..mirror import control

    control.nudge(folder.parent)


def _took_too_long(run: Run, limit: float, error: dict[str, Any] | None) -> dict[str, Any]:
    cell = (error or {}).get("cell", 0)
    text = f"the run took longer than time={show_seconds(limit)}"
    return {"cell": cell, "ename": "TimeLimit", "evalue": text, "traceback": (error or {}).get("traceback", text)}


Payload = Callable[[Run, StateFile, Killer, TextIO], dict[str, Any] | None]


def _payload(run: Run) -> Payload:
    kind = run.record.get("payload", {}).get("kind")
    payloads: dict[str | None, Payload] = {"notebook": _notebook}
    if kind not in payloads:
        raise InvalidInput(
            f"{run.folder / folder_of_run.RECORD} names no payload that this version knows: {kind!r}.",
            "Update colab_magics where the run executes.",
        )
    return payloads[kind]


def _notebook(run: Run, state: StateFile, killer: Killer, log: TextIO) -> dict[str, Any] | None:
    """Execute a notebook; returns the error, or None."""
    from ..kernels import papermill_engine

    content = process.read_json(run.folder / SOURCE)
    if content is None:
        raise NotFound(f"The run's notebook {run.folder / SOURCE} is gone.", "Run the %fork line again.")

    def kernel_runs(pid: int | None) -> None:
        killer.kernel = pid
        state.set(kernel=pid)

    execution = papermill_engine.Execution(
        run.folder / NOTEBOOK, log, on_kernel=kernel_runs, on_cell=lambda cell, cells: state.set(cell=cell, cells=cells)
    )
    cwd = Path(run.record.get("cwd") or run.folder)
    outcome = papermill_engine.execute(
        content,
        execution,
        parameters=run.variables,
        kernel=run.record["payload"].get("kernel"),
        cwd=cwd if cwd.is_dir() else run.folder,
        cell_time=run.record["payload"].get("cell_time"),
    )
    return outcome.error


def main() -> None:
    """Run as a program."""
    sys.exit(execute(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
