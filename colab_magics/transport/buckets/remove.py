"""Removing: objects of a bucket, each answer looked at, and files here with the folders that this empties."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ColabMagicsError, CommandFailed, InvalidInput
from ...ui import Table
from ...units import show_size
from ..bulk import Progress, Tell
from ..gather import below
from .access import Address, delete
from .both_sides import Here, Pair, named
from .requests import BATCH

if TYPE_CHECKING:
    from .access import Store


@dataclass
class Gone:
    """What was removed.

    Parameters
    ----------
    names : list of str
        Keys of objects, or paths of files.
    size : int
        Their bytes.
    folders : list of str
        Folders here that were empty then, and are gone too.
    failed : list of (str, str)
        What is still there, and why.
    """

    names: list[str] = field(default_factory=list)
    size: int = 0
    folders: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def table(self, where: str, notes: Sequence[str] = ()) -> Table:
        """Say it in a few lines."""
        number = f"{len(self.names):,} file{'s' if len(self.names) != 1 else ''}, {show_size(self.size)}"
        emptied = [f"folders that were empty then: {', '.join(self.folders[:10])}"] if self.folders else []
        return Table([], [], caption=f"Removed {where}: {number}", notes=[*emptied, *notes])

    def error(self, where: str) -> ColabMagicsError | None:
        """Return the error when something is still there."""
        if not self.failed:
            return None
        lines = "\n".join(named(self.failed, "still there"))
        return CommandFailed(
            f"{len(self.failed):,} of {len(self.names) + len(self.failed):,} were not removed {where}.\n{lines}",
            "Look at the reason, then say it again.",
        )


def remove_there(store: Store, address: Address, pairs: Sequence[Pair], *, tell: Tell) -> Gone:
    """Remove objects, a thousand a request."""
    gone = Gone()
    for first in range(0, len(pairs), BATCH):
        batch = pairs[first : first + BATCH]
        failed = delete(store, address, [pair.key for pair in batch])
        gone.failed += failed.items()
        done = [pair for pair in batch if pair.key not in failed]
        gone.names += [pair.key for pair in done]
        gone.size += sum(pair.there.size for pair in done if pair.there)
        tell(Progress(gone.size, round(100 * (first + len(batch)) / len(pairs)), f"{len(gone.names):,} removed"))
    return gone


def delete_here(root: Path, pairs: Sequence[Pair]) -> Gone:
    """Delete files here, as far as they are as they were when they were shown, and the folders that this empties."""
    gone = Gone()
    folders: set[str] = set()
    for pair in pairs:
        try:
            below(root, os.path.dirname(pair.key) or ".")
            seen = os.lstat(root / pair.key)
            if pair.here != Here(seen.st_size, seen.st_mtime_ns / 1e9):
                raise InvalidInput("it has changed meanwhile", "Say it again.")
            os.unlink(root / pair.key)
        except ColabMagicsError as error:
            gone.failed.append((pair.key, error.what))
        except OSError as error:
            gone.failed.append((pair.key, error.strerror or str(error)))
        else:
            gone.names.append(pair.key)
            gone.size += seen.st_size
            folders.add(os.path.dirname(pair.key))
    for folder in sorted(folders, key=len, reverse=True):
        _drop_empty(root, folder, gone)
    gone.folders.sort()
    return gone


def _drop_empty(root: Path, folder: str, gone: Gone) -> None:
    """Remove a folder that is empty, and those above it that this empties, up to `root`."""
    while folder:
        try:
            os.rmdir(root / folder)
        except OSError:
            return  # something is in it, or somebody else was faster
        gone.folders.append(folder)
        folder = os.path.dirname(folder)
