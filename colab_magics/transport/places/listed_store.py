"""Stores that list what they have, and are compared with a folder here by us."""

from __future__ import annotations

import os
import stat
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ...errors import InvalidInput
from .. import filters
from ..buckets import access
from .store import LIGHT, TEMPORARY, Known, Store, There, unknown

FOLDER = f"{TEMPORARY}folder"
"""The file that stands for an empty folder, where a store knows no folders."""


class ListedStore(Store):
    """A store that lists what it has; links and modes are not kept there."""

    def __init__(self) -> None:
        self._left_out: dict[str, str] = {}

    @abstractmethod
    def listing(self, below: str = "", *, exactly: bool = False) -> Iterator[There]:
        """Yield what is there, not as new; what can be no file here goes to `leave_out`.

        Parameters
        ----------
        below : str
            Only this folder; with `exactly` also a file of that name.
        exactly : bool, default False
            See `below`.
        """

    @abstractmethod
    def times(self, names: Sequence[str]) -> Mapping[str, float]:
        """Return when files were written, where the listing told another time, such as that of the upload."""

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
        left_out = filters.matcher(hidden)
        there: dict[str, There] = {}
        empty: dict[str, int] = {}
        for one in self._wanted(names):
            above, _, last = one.name.rpartition("/")
            if last == FOLDER:
                if above and not filters.within(above, left_out) and not (folder / above).is_dir():
                    empty[above] = 0o755
            elif not filters.within(one.name, left_out) and not (light and one.size > LIGHT):
                there[one.name] = one
        self._refuse_doubles(there)
        if folders is not None:
            folders.update(empty)
        if fetch:
            return self._compared(folder, there, known)
        here = {name: there.get(name, There(name, False, True, 0, 0.0)) for name in _files(folder, left_out)}
        return self._compared(folder, here, known)

    def _wanted(self, names: Iterable[str] | None) -> Iterator[There]:
        if names is None:
            yield from self.listing()
        else:
            for name in names:
                yield from self.listing(name, exactly=True)

    def _refuse_doubles(self, there: dict[str, There]) -> None:
        """Leave out files that have the name of a folder: a bucket can have both."""
        folders = {name[:at] for name in there for at in _slashes(name)}
        for name in folders.intersection(there):
            self.leave_out(name, "a folder has the same name")
            del there[name]

    def unfit(self) -> dict[str, str]:
        return dict(self._left_out)

    def odd(self, name: str) -> str:
        """Return why a name can be none there; empty when it can."""
        return access.odd(name)

    def refuse_odd(self, names: Iterable[str]) -> None:
        """Refuse names that can be none there, before anything is sent.

        Raises
        ------
        InvalidInput
            For the first of them.
        """
        for name in names:
            if why := self.odd(name):
                raise InvalidInput(f"{name!r} can be no name there: {why}.", "Rename it; nothing was sent.")

    def leave_out(self, name: str, why: str) -> None:
        """Leave a name out, as it can be no file here."""
        self._left_out[name] = why

    def _compared(self, folder: Path, listed: Mapping[str, There], known: Known) -> list[There]:
        """Say what is alike: by size and time, which is asked for where nobody knows it."""
        found, doubtful = [], []
        for one in listed.values():
            try:
                here = os.lstat(folder / one.name)
            except OSError:
                found.append(one._replace(new=True))
                continue
            if one.new or not stat.S_ISREG(here.st_mode):
                found.append(one)
                continue
            if (told := known(one.name)) is not None and told[0] == one.version:
                found.append(_judged(one, here, told[1]))
            else:
                doubtful.append((one, here))
        times = self.times([one.name for one, _ in doubtful])
        return found + [_judged(one, here, times.get(one.name, one.mtime)) for one, here in doubtful]


def _judged(one: There, here: os.stat_result, mtime: float) -> There:
    # Some keep whole seconds only.
    alike = one.size == here.st_size and (abs(mtime - here.st_mtime) < 2e-3 or mtime == int(here.st_mtime))
    return one._replace(alike=alike, new=False, mtime=mtime)


def _files(folder: Path, left_out: filters.Matcher) -> Iterator[str]:
    """Yield the plain files of a folder that are not left out."""
    waiting = [""]
    while waiting:
        above = waiting.pop()
        with os.scandir(folder / above) as entries:
            for entry in entries:
                name = f"{above}/{entry.name}" if above else entry.name
                is_folder = entry.is_dir(follow_symlinks=False)
                if left_out(name, is_folder):
                    continue
                if is_folder:
                    waiting.append(name)
                elif entry.is_file(follow_symlinks=False):
                    yield name


def _slashes(name: str) -> Iterator[int]:
    at = name.find("/")
    while at > 0:
        yield at
        at = name.find("/", at + 1)
