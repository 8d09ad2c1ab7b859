"""What the tests of faults share: one sync of a folder with a Place, and exact pictures of folders.

A picture maps every path below a folder, as bytes, to what it is: contents of files, targets of links. What the tool
keeps for itself at a Place (names in `OURS`) is left out unless asked for; it is never a user's file.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from bucket_folder import BucketFolder
from conftest import poll

from colab_magics.mirror import control, show
from colab_magics.mirror.state import Config
from colab_magics.mirror.sync import Sync
from colab_magics.transport.places.base import Place
from faults.drive import detach

OURS = (b".colab_magics", b".sync_", b".~")
"""How names of ours at a Place begin: sentinel, owner, trash, conflicts, versions, files on their way."""
TRASH = b".sync_trash"
JOB = ("data_job", "baseline")
EVERY = 0.5
"""Seconds between two scans of most tests here; an hour where the events alone must do."""

Picture = dict[bytes, str]


def picture(folder: Path | BucketFolder, *, ours: bool = False) -> Picture:
    """Read everything below a folder without following a link; what goes meanwhile is left out."""
    if isinstance(folder, BucketFolder):
        return folder.picture(() if ours else OURS)
    found: Picture = {}
    pending = [os.fsencode(folder)]
    start = len(pending[0]) + 1
    while pending:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if ours or not entry.name.startswith(OURS):
                    with suppress(FileNotFoundError):
                        found[entry.path[start:]] = what = _what(entry)
                        if what == "folder":
                            pending.append(entry.path)
    return found


def _what(entry: os.DirEntry[bytes]) -> str:
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISLNK(mode):
        return f"link {os.fsdecode(os.readlink(entry.path))}"
    if stat.S_ISREG(mode):
        with open(entry.path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    return f"mode {stat.S_IFMT(mode):o}"


def files(folder: Path | BucketFolder) -> Picture:
    """Only the plain files of `picture`."""
    return {name: what for name, what in picture(folder).items() if len(what) == 64}


def empty(folder: Path | BucketFolder) -> None:
    """Delete everything below a folder, of ours too."""
    if isinstance(folder, BucketFolder):
        for name in folder.names():
            (folder / name).unlink()
        return
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def trashed(folder: Path | BucketFolder) -> list[str]:
    """Return what all files in the trash of a Place hold, wherever below `folder` the trash is."""
    return [
        what for name, what in picture(folder, ours=True).items() if TRASH in name.split(b"/")[:-1] and len(what) == 64
    ]


@dataclass
class Kept:
    """A folder that is kept at a Place.

    Parameters
    ----------
    source : Path
        The folder.
    there : Path
        Its mirror, as one sees it past the fault: below a Drive's backing folder, not its mount.
    place : Place
        The Place's folder for `source`.
    """

    source: Path
    there: Path | BucketFolder
    place: Place
    sync: Sync | None = None

    @property
    def root(self) -> Path | BucketFolder:
        """The root of the Place, seen in the same way."""
        if isinstance(self.there, BucketFolder):
            return BucketFolder(self.there.server, self.there.bucket, "kept")
        return self.there.parents[len(self.place.parts) - 1]

    def start(self, **options: Any) -> Sync:
        """Start the sync, as ``%sync`` does."""
        options = {"every": EVERY, "project": "net", **options}
        self.sync = control.start(Config.of(self.source, self.place, **options))
        return self.sync

    def write(self, count: int = 3, *, size: int = 2000, prefix: str = "file", folder: str = "") -> Picture:
        """Write files of random content into the source and return a picture of all its files."""
        top = self.source / folder
        top.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            whole(top / f"{prefix}_{i}.bin", os.urandom(size))
        return files(self.source)

    def arrived(self, *, timeout: float = 30.0, more: bool = False) -> None:
        """Wait until the mirror holds the files of the source, and no others unless `more`; else tell what differs."""
        end = time.monotonic() + timeout
        while True:
            began = time.monotonic()
            here, there = files(self.source), files(self.there)
            wrong = [name for name, what in here.items() if there.get(name) != what]
            wrong += [] if more else [name for name in there if name not in here]
            if not wrong:
                return
            if began > end:
                raise AssertionError(f"{len(wrong)} of {len(here)} differ: {sorted(wrong)[:5]}; {self.told()}")
            time.sleep(0.02 + 2 * (time.monotonic() - began))  # the machine is for the daemon, not for looking

    def state(self) -> str:
        """Return the state, in words of `Sync.state`."""
        assert self.sync is not None
        return self.sync.state()

    def told(self) -> str:
        """All that a user can read: what ``%sync status`` shows."""
        assert self.sync is not None
        return show.text(self.sync)

    def says(self, *words: str, states: tuple[str, ...] = ("HELD", "BACKOFF"), timeout: float = 30.0) -> str:
        """Wait until the status is one of these states and mentions every word, in any case."""

        def seen() -> bool:
            return self.state() in states and all(word.lower() in self.told().lower() for word in words)

        poll(seen, timeout=timeout, what=f"{states} with {words}; it says: {self.told()}")
        return self.told()

    def works_again(self) -> None:
        """Wait until all is well, and make sure of it with a change of its own."""
        self.write(1, prefix="afterwards")
        self.arrived(timeout=60.0)
        assert self.sync is not None
        self.sync.wait(30.0)
        poll(lambda: self.state() in ("IDLE", "SYNCING", "SCANNING"), what=f"a good state: {self.told()}")


@dataclass
class Host(Kept):
    """A folder that is kept at a disk of another machine, by ssh.

    Parameters
    ----------
    server : Sshd
        That machine.
    """

    server: Any = None

    def cut(self) -> int:
        """Kill every connection, whatever goes through it; the machine answers again at once. Returns how many."""
        sessions = psutil.Process(self.server.process.pid).children()
        for session in sessions:
            for one in (*session.children(recursive=True), session):
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        return len(sessions)


def whole(path: Path | BucketFolder, content: bytes) -> None:
    """Write a file as careful programs do: beside it, then rename."""
    if isinstance(path, BucketFolder):
        path.write_bytes(content)
        return
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(content)
    os.replace(beside, path)


def as_root() -> None:
    """Skip where nobody may mount."""
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")


@contextmanager
def tmpfs(folder: Path, *, size: str) -> Iterator[None]:
    """Mount an empty file system of a size; the block may unmount it itself."""
    as_root()
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        yield
    finally:
        if os.path.ismount(folder):
            detach(folder)


def age_of_heartbeat(sync: Sync) -> float:
    """Seconds since the daemon last said that it lives."""
    return time.time() - (sync.folder / "heartbeat").stat().st_mtime


def during(seconds: float, act: Callable[[], Any], *, pause: float = 0.05) -> int:
    """Do something again and again for a while; returns how often."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        act()
        count += 1
        time.sleep(pause)
    return count


def rename_exchange(one: Path, other: Path) -> None:
    """Swap two names in one step, as deployments do."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
