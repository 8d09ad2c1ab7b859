"""Folders as Places, Google Drive among them.

``COLAB_MAGICS_MOUNTS`` names another table of mounts than ``/proc/mounts``, for tests.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Self

from .. import process
from ..colab import mount
from ..colab.runtime import my_drive
from ..errors import InvalidInput, Unavailable
from .places import SENTINEL, Opened, Place, new_sentinel, safe_name


@dataclass(frozen=True)
class FolderPlace(Place):
    """A folder of this machine, or of a disk that is mounted here."""

    @classmethod
    def from_text(cls, text: str, *, project: str) -> Self:
        path = os.path.abspath(os.path.expanduser(text))
        return cls(text=path, root=path)

    @property
    def rsync_options(self) -> list[str]:
        # rsync compares whole seconds: a file that is written twice within one, at the same size, would stay old for
        # ever. Where both sides keep nanoseconds they are compared too; elsewhere every file would differ.
        try:
            exact = os.stat(os.path.join(self.root, SENTINEL)).st_mtime_ns % 100 != 0
        except OSError:
            exact = False
        return ["--modify-window=-1"] if exact else []

    def mounted(self) -> None:
        """Raise `Unavailable` when it can be known that the disk is not there; a folder has the sentinel alone."""

    def prepare(self) -> str:
        self.mounted()
        sentinel = Path(self.root, SENTINEL)
        try:
            os.makedirs(self.root, exist_ok=True)
            try:
                with open(sentinel, "x", encoding="utf-8") as stream:
                    stream.write(new_sentinel())
            except FileExistsError:
                _wait_for_text(sentinel)
            return self.verify(sentinel.read_bytes(), None)
        except OSError as error:
            raise self._unusable(error) from error

    @contextmanager
    def opened(self, expected: str | None = None, *, make: bool = False) -> Iterator[Opened]:
        self.mounted()
        try:
            handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            # Everything goes through the open folder: when the disk is unmounted meanwhile, nothing lands in the
            # empty folder that is left under its name.
            here = f"/proc/{os.getpid()}/fd/{handle}"
            try:
                self.verify(_read(Path(here, SENTINEL)), expected)
                if make:
                    os.makedirs(os.path.join(here, *self.parts), exist_ok=True)
            except OSError as error:
                raise self._unusable(error) from error
            yield Opened(here, os.path.join(".", *self.parts))
        finally:
            os.close(handle)

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


@dataclass(frozen=True)
class DrivePlace(FolderPlace):
    """The user's Google Drive as Colab mounts it: the project's folder in ``MyDrive/colab_data``."""

    handed: ClassVar[str] = "handed to"

    @classmethod
    def from_text(cls, text: str, *, project: str) -> Self:
        if not project:
            raise InvalidInput("to=drive needs a project: its folder there is named after it.", "Run %project first.")
        return cls(text="drive", root=str(my_drive() / "colab_data" / safe_name(project, of="Drive")))

    @property
    def rsync_options(self) -> list[str]:
        # Drive's file system has no links, modes or owners; times of folders are slow to set and of no use.
        return [
            *("--no-perms", "--no-owner", "--no-group", "--no-links", "--no-D"),
            *("--omit-dir-times", "--modify-window=1"),
        ]

    def mounted(self) -> None:
        if not drive_is_mounted():
            raise Unavailable(
                f"Google Drive is not mounted at {drive_folder()}.",
                "Mount it: from google.colab import drive; drive.mount('/content/drive')",
            )

    def __str__(self) -> str:
        return f"Drive ({PurePosixPath('colab_data', PurePosixPath(self.root).name, *self.parts)})"


def drive_folder() -> str:
    """Return where Google Drive is mounted, or would be."""
    return str(my_drive().parent)


def drive_is_mounted() -> bool:
    """Whether Google Drive is mounted: its folder alone proves nothing, an unmounted one is an empty folder."""
    table = os.environ.get("COLAB_MAGICS_MOUNTS")
    if table is None and os.environ.get("COLAB_MAGICS_CONTENT"):
        return mount.is_mounted()  # a stand-in for Colab, whose Drive may be any folder
    try:
        text = Path(table or "/proc/mounts").read_text(errors="surrogateescape")
    except OSError:
        return False
    rows = [line.split() for line in text.splitlines()]
    # Spaces and the like stand in octal in this table (fstab(5)).
    there = [
        re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), row[1])
        for row in rows
        if len(row) > 2 and row[2].startswith("fuse")
    ]
    return drive_folder() in there


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _wait_for_text(sentinel: Path) -> None:
    """Give another process that makes the sentinel just now the time to fill it; an empty leftover is made anew."""
    for _ in range(20):
        if process.read_json(sentinel):
            return
        time.sleep(0.05)
    if not sentinel.read_bytes().strip():
        process.write_whole(sentinel, new_sentinel())
