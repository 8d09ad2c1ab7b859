"""Daemon, writer, or the whole runtime are killed (-9) at random moments, again and again, while checkpoints are made.

At the Place nothing is ever torn, at no moment; nothing that arrived is lost; after the end everything is there. A
file that its own writer left half-written, because it writes in place and was killed, is the user's: when exactly these
bytes are found at the Place it is no fault of the sync, and they are counted apart.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from bucket_folder import BucketFolder
from conftest import poll

from colab_magics.transport.places.store import TEMPORARY
from faults import checkpoints
from faults.kit import Kept, files, picture

SCRIPT = checkpoints.__file__


class Reader(threading.Thread):
    """Reads the checkpoints at the Place all the time, as another machine may."""

    def __init__(self, there: Path) -> None:
        super().__init__(daemon=True)
        self.there, self.ended = there, threading.Event()
        self.whole, self.torn = 0, {}
        self.arrived: set[str] = set()
        self.read: dict[str, object] = {}

    def run(self) -> None:
        while not self.ended.wait(0.01):
            self.look("renamed.ckpt", "inplace.ckpt")

    def look(self, *names: str) -> None:
        """Read these, and note what is torn by its content."""
        for name in names:
            try:
                content = (self.there / name).read_bytes()
            except FileNotFoundError:
                continue
            if checkpoints.step_of(content) is None:
                self.torn[hashlib.sha256(content).hexdigest()] = f"{name}, {len(content)} bytes"
            else:
                self.whole += 1
                self.arrived.add(name)

    def look_at_all(self) -> None:
        """Read every checkpoint that is there, and was not read in this version before."""
        found = versions(self.there, "*.ckpt")
        self.look(*(name for name, version in found.items() if self.read.get(name) != version))
        self.read = found


def versions(there: Path | BucketFolder, pattern: str) -> dict[str, object]:
    """Return what tells one version of each file from the next: without it each kill would read all there is.

    What has not come as a whole has names of its own until it has.
    """
    if isinstance(there, BucketFolder):
        names = there.names().items()
        return {name: etag for name, etag in names if fnmatch.fnmatch(name, pattern) and TEMPORARY not in name}
    found: dict[str, object] = {}
    for path in there.rglob(pattern):
        if TEMPORARY in (name := str(path.relative_to(there))):
            continue
        try:
            seen = path.stat()
        except FileNotFoundError:
            continue
        found[name] = (seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size)
    return found


class Lives:
    """The daemon and the writer, and how each of them dies."""

    def __init__(self, kept: Kept, states: Path, monkeypatch: pytest.MonkeyPatch, rest: float) -> None:
        self.rest = rest
        self.kept, self.states, self.monkeypatch = kept, states, monkeypatch
        self.writer: subprocess.Popen[bytes] | None = None
        self.left_torn: dict[str, str] = {}
        self.unsent: list[float] = []
        self.behind: list[int] = []
        self.runtimes = 0

    def live(self) -> None:
        """Start whatever is dead."""
        if self.kept.sync is None or not self.kept.sync.alive:
            self.kept.start(every=1.0)
        if self.writer is None:
            self.writer = subprocess.Popen([sys.executable, SCRIPT, self.kept.source, str(self.rest)])

    def kill_daemon(self) -> None:
        os.kill(int(self.kept.sync.status()["identity"]["pid"]), signal.SIGKILL)
        poll(lambda: not self.kept.sync.alive)

    def kill_writer(self) -> None:
        self.writer.kill()
        self.writer.wait()
        self.writer = None
        content = (self.kept.source / "inplace.ckpt").read_bytes() if self._has("inplace.ckpt") else b""
        if checkpoints.step_of(content) is None:
            self.left_torn[hashlib.sha256(content).hexdigest()] = f"inplace.ckpt, {len(content)} bytes"

    def kill_runtime(self) -> None:
        """All of a machine ends in one moment: whatever it wrote last is gone, and so is what it knew."""
        for pid in (int(self.kept.sync.status()["identity"]["pid"]), self.writer.pid):
            os.kill(pid, signal.SIGSTOP)
        self.kill_daemon()
        died = time.time()
        self.writer.kill()
        self.writer.wait()
        self.writer = None
        steps = self.kept.source / "steps"
        there = {path.name for path in (self.kept.there / "steps").glob("*.ckpt")}
        unsent = [path.stat().st_mtime for path in steps.glob("*.ckpt") if path.name not in there]
        self.unsent.append(died - min(unsent) if unsent else 0.0)
        self.behind.append(len(unsent))
        self.runtimes += 1
        self.kept.source = self.kept.source.with_name(f"data_job_{self.runtimes}")
        self.monkeypatch.setenv("XDG_STATE_HOME", str(self.states / str(self.runtimes)))
        self.kept.sync = None

    def _has(self, name: str) -> bool:
        return (self.kept.source / name).exists()


def kill_and_check(kept: Kept, lives: Lives, kills: int, within: float) -> str:
    """Kill that often, each within so many seconds, checking all the time; returns the figures."""
    chance, done = random.Random(), Counter()
    reader = Reader(kept.there)
    reader.start()
    arrived: set[bytes] = set()
    for _ in range(kills):
        lives.live()
        time.sleep(chance.uniform(0.0, within))
        what = chance.choices(("daemon", "writer", "runtime"), (5, 3, 2))[0]
        getattr(lives, f"kill_{what}")()
        done[what] += 1
        there = set(files(kept.there))
        assert arrived <= there, f"what had arrived is gone: {sorted(arrived - there)[:5]}"
        arrived = {name for name in there if name.endswith(b".ckpt")}
        reader.look_at_all()
    lives.live()
    poll(lambda: checkpoints.newest(kept.source) > 0)
    lives.kill_writer()
    kept.sync.wait(60)
    reader.ended.set()
    reader.join()
    reader.look_at_all()
    here, there = files(kept.source), files(kept.there)
    lost = sorted(name for name, what in here.items() if there.get(name) != what)
    torn = {key: what for key, what in reader.torn.items() if key not in lives.left_torn}
    left = [name for name in picture(kept.there, ours=True) if b".~" in name]
    conflicts = [name for name in picture(kept.there, ours=True) if b".sync_conflict/" in name]
    figures = (
        f"{sum(done.values())} kills ({dict(done)}): {len(torn)} torn of {reader.whole} checkpoints read, "
        f"{len(lost)} lost of {len(here)}; {len(arrived)} steps arrived in all; when a runtime died, at most "
        f"{max(lives.behind, default=0)} steps and {max(lives.unsent, default=0.0):.2f} s of them were not sent; "
        f"{len(left)} temporary files left, {len(conflicts)} conflicts"
    )
    print(figures)
    assert not torn, f"{torn}; {figures}"
    assert not lost, f"{lost[:5]}; {figures}; {kept.told()}"
    assert not conflicts, f"one writer and no other machine: no conflict; {conflicts[:5]}"
    assert reader.arrived, "nothing ever arrived while the killing went on"
    return figures


STORES = ("on_folder", "on_far", "on_drive", "on_bucket", "on_rclone")
MANY = [pytest.mark.long, pytest.mark.timeout(2400)]


@pytest.mark.parametrize(
    ("where", "kills"),
    [
        ("on_folder", 15),
        ("on_bucket", 5),
        ("on_rclone", 5),
        *(pytest.param(where, 200, marks=MANY) for where in STORES),
    ],
)
def test_nothing_torn_nothing_lost(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    kills: int,
    record_property: object,
) -> None:
    kept: Kept = request.getfixturevalue(where)
    # Each new machine fetches all there is: a server in Python, and a program for each answer, are slow at thousands.
    lives = Lives(kept, tmp_path / "states", monkeypatch, rest=0.0 if where == "on_folder" else 0.2)
    try:
        # By ssh a batch takes a second: who dies sooner each time brings nothing, and nothing would be shown.
        figures = kill_and_check(kept, lives, kills, within=3.0 if where == "on_far" else 0.6)
    finally:
        if lives.writer is not None:
            lives.writer.kill()
            lives.writer.wait()
    record_property("figures", figures)  # type: ignore[operator]


def test_a_torn_checkpoint_is_seen() -> None:  # the test above is not vacuous
    content = checkpoints.make(7, 1000)
    assert checkpoints.step_of(content) == 7
    newer = checkpoints.make(8, 1000)
    for cut in (0, 10, 500, len(content) - 1):
        assert checkpoints.step_of(content[:cut]) is None
    for cut in (10, 500, len(content) - 32):
        assert checkpoints.step_of(newer[:cut] + content[cut:]) is None
