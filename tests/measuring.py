"""What benchmarks share: a silent session; of ``%sync`` trees, peers, and what a process has used."""

from __future__ import annotations

import io
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import psutil  # noqa: E402 (the paths come first)

from colab_magics import session  # noqa: E402
from colab_magics.checkout.project import Project  # noqa: E402
from colab_magics.mirror import control  # noqa: E402
from colab_magics.mirror.state import Config  # noqa: E402
from colab_magics.mirror.sync import Sync  # noqa: E402
from colab_magics.session import Session  # noqa: E402
from colab_magics.transport.places import parse  # noqa: E402
from colab_magics.transport.places.base import Place  # noqa: E402
from colab_magics.ui import TerminalUI  # noqa: E402

PER_FOLDER = 100


def make_tree(folder: Path, count: int, *, per_folder: int = PER_FOLDER) -> Path:
    """Write so many small files, so many to a folder."""
    for i in range(0, count, per_folder):
        inner = folder / f"{i // per_folder:05d}"
        inner.mkdir(parents=True)
        for j in range(min(per_folder, count - i)):
            (inner / f"{j:02d}.txt").write_text(f"{i} {j}\n")
    return folder


def change(folder: Path, which: range, text: str, *, per_folder: int = PER_FOLDER) -> list[Path]:
    """Write some files of a tree anew, all over it; returns their paths below it."""
    names = [Path(f"{i // per_folder:05d}", f"{i % per_folder:02d}.txt") for i in which]
    for name in names:
        (folder / name).write_text(text)
    return names


def until(condition: Callable[[], Any], *, timeout: float = 300.0, pause: float = 0.002) -> float:
    """Wait for a condition; returns the seconds that it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout:
            raise SystemExit(f"not within {timeout:g} s: {condition}")
        time.sleep(pause)
    return time.monotonic() - began


def arrival(there: Path, names: list[Path], text: str) -> float:
    """Wait until all of these files hold a text there; returns the seconds."""
    return until(lambda: all((there / name).exists() and (there / name).read_text() == text for name in names))


class Process:
    """What a process and those that it started have used.

    Parameters
    ----------
    pid : int
        The process.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def cpu(self) -> float:
        """Seconds of CPU so far, with its children that live or ended."""
        used = 0.0
        for one in (self._process, *self._process.children(recursive=True)):
            try:
                times = one.cpu_times()
            except psutil.NoSuchProcess:
                continue
            used += times.user + times.system + times.children_user + times.children_system
        return used

    def megabytes(self) -> float:
        """Resident memory."""
        return self._process.memory_info().rss / 1e6


def daemon(sync: Sync) -> Process:
    """Return the process of a sync."""
    return Process(int(sync.status()["identity"]["pid"]))


def rested(sync: Sync) -> None:
    """Wait until everything was handed over and the sync is idle."""
    sync.wait(600)
    until(lambda: sync.state() == "IDLE", pause=0.05)


@contextmanager
def kept(source: Path, place: Place | Path, **options: Any) -> Iterator[Sync]:
    """Keep a folder at a Place while the block runs."""
    place = place if isinstance(place, Place) else parse(str(place), project="bench")
    options = {"every": 300.0, "restore": "none", "project": "bench", **options}
    sync = control.start(Config.of(source, place, **options))
    try:
        yield sync
    finally:
        sync.stop(120)


@contextmanager
def lsyncd(source: Path, there: Path, *, delay: float) -> Iterator[Process | None]:
    """Let lsyncd keep a folder while the block runs; None where it is not installed."""
    program = shutil.which("lsyncd")
    if program is None:
        yield None
        return
    config = there.with_name(f"{there.name}.lua")
    layer = f'default.rsync, source = "{source}", target = "{there}", delay = {delay}, rsync = {{ archive = true }}'
    config.write_text(f"settings {{ nodaemon = true, insist = true }}\nsync {{ {layer} }}\n")
    there.mkdir(exist_ok=True)
    with open(there.with_name(f"{there.name}.log"), "w") as log:
        process = subprocess.Popen([program, "-nodaemon", str(config)], stdout=log, stderr=log)
    try:
        yield Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def rsync(source: Path, there: Path, *flags: str) -> tuple[float, float]:
    """Run one full pass of rsync; returns its seconds of wall clock and of CPU."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(["rsync", *(flags or ("-a",)), f"{source}/", f"{there}/"], check=True)
    took = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def show(what: str, value: str, ratio: float | None = None, target: str = "") -> None:
    """Print one line: a figure, its ratio to a peer's, and what the ratio should be."""
    shown = "" if ratio is None else f"  ratio {ratio:.3g}"
    print(f"  {what:<58} {value:<26}{shown}{f'  (target {target})' if target else ''}", flush=True)


def silent_project(folder: Path) -> Project:
    """Make a project and use it; what its verbs say is not shown."""
    folder.mkdir(exist_ok=True)
    made = Project(name=folder.name, job="bench", root=folder, notebooks=folder)
    made.save()
    session.activate(Session(ui=TerminalUI(out=io.StringIO()), project=made))
    return made


def own_state(folder: Path) -> None:
    """Keep what syncs write down in this folder, not in the user's."""
    os.environ["XDG_STATE_HOME"] = str(folder)
