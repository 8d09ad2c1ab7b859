"""Stores: what can be done with files in a folder of a Place, whatever keeps them.

A store lists (`Store.compare`), fetches, takes small files, renames and deletes, and says what is free. How whole files
get there so that nobody sees half of one is its own: a folder of this machine takes a copy beside the name and renames
it, a folder of another machine lets rsync bring a batch aside first, a bucket shows an object when its last byte has
arrived. What is copied, deleted, moved aside and brought back, and when, is not decided here but by the mirror.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

PRIVATE = 0o700
TEMPORARY = ".~colab_magics."
"""How the names of copies begin that are not finished; none of them is ever kept at a Place or fetched."""
INCOMING = f"{TEMPORARY}incoming"
"""The folder at a Place in which files wait until all of them have come."""
LIGHT = 10 << 20
"""Files above this size are left out of a light restore; bytes."""

Known = Callable[[str], "tuple[str, float] | None"]
"""From a name to the version of it that the store had when we put it there, and its time of writing."""


def unknown(name: str) -> None:
    """Know of no file; see `Known`."""


class FileThere(NamedTuple):
    """What a file at a Place looks like."""

    size: int
    mtime: float
    plain: bool = True
    version: str = ""
    """What the Place calls this version of it, where it does so."""


class There(NamedTuple):
    """A file in a listing: whether both sides hold it alike, whether only one does, and its looks."""

    name: str
    alike: bool
    new: bool
    size: int
    mtime: float
    link: bool = False
    version: str = ""
    """What the Place calls this version of it, where it does so."""


class Store(ABC):
    """What can be done in the folder of a Place that was found to be there; names are relative to that folder."""

    local: str | None = None
    """The folder as a path of this machine, where it has one."""
    source: str | None = None
    """The folder here whose files are brought."""

    def rights(self, folder: str) -> int:
        """Return the mode of a folder that is made: that of the one it is a copy of; what is ours is for its owner."""
        return rights_of(os.path.join(self.source, folder)) if self.source is not None else PRIVATE

    @abstractmethod
    def compare(
        self,
        folder: Path,
        *,
        hidden: Iterable[str] = (),
        light: bool = False,
        fetch: bool = True,
        names: Iterable[str] | None = None,
        folders: dict[str, int] | None = None,
        known: Known = unknown,
    ) -> list[There]:
        """Compare a folder here with this one, by size and time in whole seconds, and change nothing.

        Parameters
        ----------
        folder : Path
            The folder here.
        hidden : iterable of str
            Patterns that are left out, as rsync reads them.
        light : bool, default False
            Leave files above `LIGHT` out.
        fetch : bool, default True
            List what is there; otherwise what is here.
        names : iterable of str, optional
            Compare only these files and folders.
        folders : dict of str to int, optional
            Takes up the folders that only the side has which is listed, and their modes.
        known : callable
            Spares a store that is slow to tell times the question; see `Known`.

        Returns
        -------
        list of There
            Files and links.

        Raises
        ------
        Unavailable
            When the store names what would lie outside of the folder.
        """

    def outward(self, folder: Path, found: Iterable[There]) -> set[str]:
        """Return those of the listed links that lead out of this folder; a store without links has none."""
        return set()

    def unfit(self) -> dict[str, str]:
        """Return the names that comparisons left out, as they can be no files here, and why."""
        return {}

    @abstractmethod
    def fetch(self, into: Path, names: Sequence[str], *, flags: Sequence[str] = ()) -> Mapping[str, float]:
        """Fetch files, each as a whole; deletes nothing.

        Parameters
        ----------
        into : Path
            The folder here.
        names : sequence of str
            What to fetch.
        flags : sequence of str
            Further flags of the user's for rsync, where that is what fetches.

        Returns
        -------
        mapping of str to float
            Times of writing that the listing did not know.

        Raises
        ------
        CommandFailed
            When it failed; what was fetched until then stays.
        """

    @abstractmethod
    def take(self, source: Path, names: Sequence[str], *, aside: str) -> None:
        """Take files of a folder here that nobody writes now; each shows when it is whole, in the place of another.

        Parameters
        ----------
        source : Path
            The folder here.
        names : sequence of str
            Files in it.
        aside : str
            The folder there to which what is in the way of a folder is moved.

        Raises
        ------
        ColabMagicsError
            When it failed; those that were whole by then may be there.
        """

    @abstractmethod
    def look(self, names: Sequence[str]) -> dict[str, FileThere]:
        """Look at files; those that are not there are left out."""

    @abstractmethod
    def move(self, pairs: Sequence[tuple[str, str]], *, aside: str) -> None:
        """Rename files within the folder.

        Folders are made; what is gone, or is a folder by now, is left out; a file that stands there is replaced; a
        folder, or a link in place of a folder, is moved to the folder `aside`.
        """

    @abstractmethod
    def erase(self, names: Sequence[str], *, truncate: bool = False) -> None:
        """Delete files, emptied first where `truncate`; what is gone is no error."""

    @abstractmethod
    def make_folders(self, names: Sequence[str]) -> None:
        """Make folders; where something else than a folder has the name, or that of one above, nothing is done."""

    @abstractmethod
    def set_rights(self, folders: Mapping[str, int], *, less: bool) -> list[str]:
        """Change the rights of folders; returns those whose rights the Place does not let us change.

        What is not there, is no folder, or lies behind a link is left out.

        Parameters
        ----------
        folders : mapping of str to int
            Their names, an empty one for the folder itself, and their modes: of the nine bits, the owner's three set.
        less : bool
            Only take away what they have beyond their modes.
        """

    @abstractmethod
    def drop_folders(self, names: Sequence[str]) -> None:
        """Delete folders, as far as they are empty; those within others first, in whatever order they come."""

    @abstractmethod
    def below(self, folder: str) -> dict[str, int]:
        """List the plain files below a folder with their sizes, not through links; empty when there is none."""

    @abstractmethod
    def get(self, name: str) -> bytes | None:
        """Read a small file; None when it is not there."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Write a small file as a whole."""

    @abstractmethod
    def free(self) -> int | None:
        """Bytes that can still be written; None where nobody can know."""


Mark = tuple[int, ...]
"""What tells the sentinel's file from every other one, without reading it."""


class Opened(NamedTuple):
    """A Place that was found to be there."""

    store: Store
    mark: Mark | None = None
    """The sentinel's, where it can be told."""


def rights_of(folder: str) -> int:
    """Return the mode for a copy of a folder: what it grants, and its owner may write; 0700 when it is not there."""
    try:
        seen = os.lstat(folder)
    except OSError:
        return PRIVATE
    return granted(seen.st_mode) if stat.S_ISDIR(seen.st_mode) else PRIVATE


def granted(mode: int) -> int:
    """Return the mode for a copy of a folder that has this one."""
    return mode & 0o777 | PRIVATE
