"""The program of a run's container: ``python -P -m colab_magics.engines.kubernetes.there``.

It takes its run out of the job's config map, by the pod's completion index, starts its runner, and tells through the
container's log how the run is doing (`colab_magics.engines.kubernetes.frames`). It ends as the runner does.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import signal
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ... import process
from ...checkout.project import DATA_PROJECT, MARKER
from ...errors import ColabMagicsError
from ...records.names import LOG, METRICS, RECORD, STATE, STOP
from ...records.run import Run
from ...records.status import ENDED
from ...transport import copying
from ..base import Program
from ..ssh.python_there import has_kernel
from . import frames, results
from .names import mark
from .results import Way

RUNS, ABOUT = "runs.tar", "runs.json"
"""Keys of the config map: folders of the runs, and what they are."""
RESULTS = "results"
"""In the latter: how what they write comes home."""
MAPS_VARIABLE, WORK_VARIABLE, INDEX_VARIABLE = "COLAB_MAGICS_MAPS", "COLAB_MAGICS_WORK", "JOB_COMPLETION_INDEX"
_EVERY = 1.0


class Telling:
    """Tells what is new of a run's folder."""

    def __init__(self, folder: Path, way: Way) -> None:
        self.folder, self._way = folder, way
        self._at = {LOG: 0, METRICS: 0}
        self._state = b""

    def tell(self) -> None:
        """Print what was not told yet; the state that says how it ended comes with `end`."""
        lines = list(frames.of_log(log := self._new(LOG)))
        if metrics := self._new(METRICS):
            lines += frames.frames(frames.METRICS, metrics)
        state = bytes_of(self.folder / STATE)
        if state and state != self._state and not is_over(state):
            self._state = state
            lines += frames.frames(frames.STATE, state)
        if log:
            lines += frames.frames(frames.SIZES, json.dumps({frames.LOG: self._at[LOG]}).encode())
        _say(lines)

    def end(self) -> None:
        """Print the rest: all that is new, what the run has written, and how it ended."""
        state, number, packed = bytes_of(self.folder / STATE), 0, b""
        self.tell()
        try:
            number, packed = self._way.bring(self.folder)
        except ColabMagicsError as problem:
            state = without_results(state, problem.what)
        except OSError as error:
            state = without_results(state, f"{error.strerror or error}: {error.filename or self.folder}")
        _end(state, number, packed)

    def _new(self, name: str) -> bytes:
        data = b""
        with contextlib.suppress(OSError), open(self.folder / name, "rb") as stream:
            stream.seek(self._at[name])
            data = stream.read()
        if name == METRICS:
            data = data[: data.rfind(b"\n") + 1]
        self._at[name] += len(data)
        return data


def _end(state: bytes, number: int = 0, packed: bytes = b"") -> None:
    lines = list(frames.frames(frames.FILES, packed)) if packed else []
    _say([*lines, *frames.frames(frames.STATE, state), *frames.frames(frames.END, str(number).encode())])


def cancelled(key: str) -> str:
    """Return the key of the config map that says of a run that it is not to begin any more."""
    return f"cancelled-{mark(key)[:32]}"


def stopped(key: str) -> str:
    """Return the key of the config map that says why a run is to end at its next report."""
    return f"stopped-{mark(key)[:32]}"


def main() -> int:
    """Execute this pod's run; returns its exit status."""
    maps, work = Path(os.environ[MAPS_VARIABLE]), Path(os.environ[WORK_VARIABLE])
    about = process.read_json(maps / "runs" / ABOUT) or {}
    one = about["runs"][int(os.environ[INDEX_VARIABLE])]
    if (maps / "runs" / cancelled(one["key"])).exists():
        return 2
    way = results.way(about.get(RESULTS) or {}, one["key"])
    try:
        base = way.base(work)
    except ColabMagicsError as problem:
        state = {"attempt": one["record"].get("attempt"), "ended": time.time()}
        _end(without_results(json.dumps(state).encode(), problem.what))
        return 1
    folder = _folder(maps / "runs" / RUNS, base, about, one)
    module, _, name = str(about["program"]).partition(":")
    program = cast("type[Program]", getattr(importlib.import_module(module), name))()
    with contextlib.chdir(folder.parent):
        pid = process.start_detached(program.command(folder), log_file=folder / LOG, cwd=folder)

    def end(*_: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    telling, status, told = Telling(folder, way), None, maps / "runs" / stopped(one["key"])
    while status is None:
        status = _ended(pid, _EVERY)
        if status is None:
            telling.tell()
            _stop_early(folder, told)
    telling.end()
    return 1 if status == 0 and not _did_well(folder) else status


def _stop_early(folder: Path, told: Path) -> None:
    """Have the run end at its next report, once the config map says so."""
    if told.exists() and not (folder / STOP).exists():
        with contextlib.suppress(OSError):  # on a full disk it is tried again
            Run.load(folder).stop_early(told.read_text())


def _folder(archive: Path, base: Path, about: Mapping[str, Any], one: Mapping[str, Any]) -> Path:
    """Make the run's folder, and what makes the code's folder this project."""
    code = Path(os.environ["COLAB_MAGICS_CODE"])
    with contextlib.suppress(PermissionError):  # the image's own code, or a clone, of another user
        if not (code / MARKER).exists():
            (code / MARKER).write_text(about["marker"])
        (code / DATA_PROJECT).mkdir(exist_ok=True)
    folder = base / str(about["job"]) / str(one["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as packed:
        own = io.BytesIO()
        with tarfile.open(fileobj=own, mode="w") as mine:
            for member in packed:
                top, _, rest = member.name.partition("/")
                if top == folder.name and rest:
                    member.name, member.pax_headers = rest, {}  # which hold the name, too
                    mine.addfile(member, packed.extractfile(member) if member.isreg() else None)
    copying.unpack(own.getvalue(), folder)
    record = dict(one["record"])
    record["cwd"] = str(folder if one["cwd"] is None else code / one["cwd"])
    payload = dict(record.get("payload") or {})
    if payload.get("kernel") and not has_kernel(payload["kernel"]):
        payload["kernel"] = None  # the project's Python here
    process.write_json(folder / RECORD, {**record, "payload": payload})
    return folder


def _ended(pid: int, patience: float) -> int | None:
    """Wait so long for the end of the runner; returns its exit status, None while it lives."""
    until = time.monotonic() + patience
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status) % 256
        if time.monotonic() > until:
            return None
        time.sleep(0.02)


def _did_well(folder: Path) -> bool:
    return (process.read_json(folder / STATE) or {}).get("phase") in ("done", "stopped")


def bytes_of(path: Path) -> bytes:
    """Return what a file holds; nothing when it is not there."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def is_over(state: bytes) -> bool:
    """Whether a state says that its run has ended."""
    with contextlib.suppress(ValueError):
        return json.loads(state).get("phase") in ENDED
    return False


def without_results(state: bytes, what: str) -> bytes:
    """Return the state of a run whose results do not come home: it did not do well then."""
    value = json.loads(state or b"{}")
    error = {"cell": 0, "ename": "ResultsLost", "evalue": what, "traceback": what}
    return process.as_json({**value, "phase": "failed", "error": error}).encode()


def _say(lines: list[str]) -> None:
    if lines:
        sys.stdout.write("\n".join([*lines, ""]))
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
