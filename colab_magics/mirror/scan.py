"""The truth: what is in the folder now, beside what was handed over."""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterator
from typing import NamedTuple

from ..transport.filters import Matcher


class Entry(NamedTuple):
    """What tells one version of a file from every other.

    The time of the last change of the inode tells apart what was written twice within one tick of the clock, or whose
    time of writing was set back.
    """

    size: int
    mtime: int
    ctime: int

    @property
    def seconds(self) -> float:
        """Time of writing in seconds."""
        return self.mtime / 1e9


PLAIN, LINK, OTHER = "plain", "link", "other"


def kind_of(mode: int) -> str:
    """Say whether a mode is that of a plain file, a link, or something that cannot be kept."""
    return PLAIN if stat.S_ISREG(mode) else LINK if stat.S_ISLNK(mode) else OTHER


def entry_of(seen: os.stat_result) -> Entry:
    """Return what tells this version of a file."""
    return Entry(seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def look(root: str, name: str) -> tuple[Entry, str] | None:
    """Look at one file, and not through links in it; None when it is gone or a folder."""
    try:
        seen = os.lstat(os.path.join(root, name))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None if stat.S_ISDIR(seen.st_mode) else (entry_of(seen), kind_of(seen.st_mode))


def version(root: str, name: str) -> Entry | None:
    """Return the version of a file; None when it is gone."""
    found = look(root, name)
    return found[0] if found else None


class Unreadable(NamedTuple):
    """Folders that could not be listed: what was in them is not gone."""

    folders: list[str]

    def hides(self, name: str) -> bool:
        """Whether a file lies in one of them."""
        return any(name.startswith(f"{folder}/") for folder in self.folders)


def walk(
    root: str,
    left_out: Matcher,
    unreadable: Unreadable,
    empty: set[str] | None = None,
    modes: dict[str, int] | None = None,
) -> Iterator[tuple[str, Entry, str]]:
    """Yield name, version and kind of everything below a folder that is no folder.

    Parameters
    ----------
    root : str
        The folder.
    left_out : callable
        See `colab_magics.transport.filters.matcher`.
    unreadable : Unreadable
        Takes up the folders that cannot be listed.
    empty : set of str, optional
        Takes up the folders that hold nothing.
    modes : dict of str to int, optional
        Takes up the modes of the folders, of `root` by an empty name; those that cannot be listed have one too.
    """
    if modes is not None:
        modes[""] = os.stat(root).st_mode
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = os.scandir(os.path.join(root, folder))
        except FileNotFoundError:
            continue
        except OSError:
            if not folder:
                raise
            unreadable.folders.append(folder)
            continue
        holds = False
        with entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                is_folder = entry.is_dir(follow_symlinks=False)
                if left_out(name, is_folder):
                    continue
                holds = True
                if is_folder:
                    waiting.append(name)
                    if modes is None:
                        continue
                try:
                    seen = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except PermissionError:  # its names can be listed, and nothing else
                    unreadable.folders.append(folder)
                    break
                if is_folder and modes is not None:
                    modes[name] = seen.st_mode
                    continue
                yield name, entry_of(seen), kind_of(seen.st_mode)
        if not holds and folder and empty is not None:
            empty.add(folder)


def below(root: str, folder: str, left_out: Matcher, known: Container[str]) -> list[str]:
    """List files of a folder that are not known yet."""
    return [
        f"{folder}/{name}"
        for name, _, _ in walk(os.path.join(root, folder), lambda n, d: left_out(f"{folder}/{n}", d), Unreadable([]))
        if f"{folder}/{name}" not in known
    ]
