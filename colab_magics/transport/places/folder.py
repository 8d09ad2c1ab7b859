"""Folders as Places, Google Drive among them.

``COLAB_MAGICS_MOUNTS`` names another table of mounts than ``/proc/mounts``, for tests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ... import process
from ...errors import ColabMagicsError, CommandFailed, Unavailable
from .base import ANSWER_SECONDS, SENTINEL, Place, new_sentinel
from .folder_store import FolderStore, read
from .store import Mark, Opened

TICK = 3.0
"""Within so many seconds two versions of a file may look alike: some file systems keep whole seconds."""


@dataclass(frozen=True)
class FolderPlace(Place):
    """A folder of this machine, or of a disk that is mounted here."""

    @classmethod
    def from_text(cls, text: str, *, project: str) -> Self:
        path = os.path.abspath(os.path.expanduser(text))
        return cls(text=path, root=path)

    @property
    def rsync_options(self) -> list[str]:
        """What rsync needs for this kind of folder."""
        return ["-l", "-p"]

    def mounted(self) -> None:
        """Raise `Unavailable` when it can be known that the disk is not there; a folder has the sentinel alone."""

    def answers(self) -> None:
        # Another process, which is left behind if need be: one that waits for a dead mount cannot even be killed.
        who = process.identity(process.start_detached(["stat", "--", self.root], log_file=os.devnull))
        end = time.monotonic() + ANSWER_SECONDS
        while process.is_alive(who):
            if time.monotonic() > end:
                raise Unavailable(
                    f"{self.text} does not answer: {self.root} hangs.",
                    "Mount it again. On Colab: drive.mount('/content/drive', force_remount=True)",
                )
            time.sleep(0.002)
        process.reap()

    def prepare(self, rights: int = 0o777) -> str:
        self.mounted()
        sentinel = Path(self.root, SENTINEL)
        try:
            os.makedirs(self.root, 0o777 if self.parts else rights, exist_ok=True)
            try:
                with open(sentinel, "x", encoding="utf-8") as stream:
                    stream.write(new_sentinel())
            except FileExistsError:
                _wait_for_text(sentinel)
            return self.verify(sentinel.read_bytes(), None)
        except OSError as error:
            raise self._unusable(error) from error

    @contextmanager
    def opened(self, expected: str | None = None, *, make: int = 0, known: Mark | None = None) -> Iterator[Opened]:
        self.mounted()
        try:
            handle = os.open(self.root, os.O_PATH | os.O_DIRECTORY)  # to list it is not asked for
        except OSError as error:
            raise self._unusable(error) from error
        try:
            # Everything goes through the open folder: when the disk is unmounted meanwhile, nothing lands in the
            # empty folder that is left under its name.
            here = f"/proc/{os.getpid()}/fd/{handle}"
            try:
                sentinel = os.path.join(here, SENTINEL)
                mark = _mark(sentinel)
                if mark is None or mark != known:
                    self.verify(read(sentinel), expected)
                if make:
                    os.makedirs(os.path.join(here, *self.parts), make, exist_ok=True)
            except OSError as error:
                raise self._unusable(error) from error
            try:
                target = os.path.join(".", *self.parts)
                folder = os.path.join(here, *self.parts)
                yield Opened(FolderStore(folder, target=target, cwd=here, options=self.rsync_options), mark)
            except (OSError, ColabMagicsError) as error:
                _name(error, here, self.root)
                raise
        finally:
            os.close(handle)

    @contextmanager
    def as_it_is(self) -> Iterator[FolderStore]:
        self.answers()
        self.mounted()
        try:
            os.makedirs(self.path, exist_ok=True)
            yield FolderStore(self.path, target=self.path, options=self.rsync_options)
        except OSError as error:
            raise self._unusable(error) from error

    def names(self) -> list[str]:
        try:
            return sorted(set(os.listdir(self.path)) - {SENTINEL})
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from error

    def missing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if not os.path.lexists(os.path.join(self.path, name))]

    def _unusable(self, error: OSError) -> Unavailable:
        return Unavailable(
            f"{self.text} cannot be used: {error.strerror or error}.", f"Is it mounted and yours? ls -ld {self.root}"
        )


def _name(error: OSError | ColabMagicsError, here: str, root: str) -> None:
    """Let an error name a folder as people know it, and not by the number of an open file."""
    if isinstance(error, OSError):
        for name in ("filename", "filename2"):
            if (file := getattr(error, name)) is not None:
                setattr(error, name, os.fsdecode(file).replace(here, root, 1))
        return
    error.what, error.mend = error.what.replace(here, root), error.mend.replace(here, root)
    error.args = (error.what, error.mend)
    if isinstance(error, CommandFailed):
        error.output = error.output.replace(here, root)


def _mark(sentinel: str) -> Mark | None:
    """Return what tells this file from every other one; None where that cannot be said, as of one written just now."""
    try:
        seen = os.lstat(sentinel)
    except FileNotFoundError:
        return None
    if abs(time.time() - max(seen.st_mtime, seen.st_ctime)) < TICK:
        return None
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _wait_for_text(sentinel: Path) -> None:
    """Give another process that makes the sentinel just now the time to fill it; an empty leftover is made anew."""
    for _ in range(20):
        if process.read_json(sentinel):
            return
        time.sleep(0.05)
    if not sentinel.read_bytes().strip():
        process.write_whole(sentinel, new_sentinel())
