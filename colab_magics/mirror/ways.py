"""How a batch gets to a store so that nobody sees half a file: a copy that is renamed, or rsync.

Each way goes through the files it is given, publishes what is whole under the names that `Parcel.steps` says, and
yields what became of each. A file that somebody wrote meanwhile is not published.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from ..transport.folder_store import FolderStore
from ..transport.rsync import RsyncStore
from ..transport.store import TEMPORARY, FileThere, Store
from . import native
from .lease import Leases
from .ledger import Ledger
from .native import CHANGED, DONE, OTHER, Copied
from .patterns import INCOMING
from .room import Room, space
from .scan import Entry

REFUSED = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EPERM, errno.EACCES, errno.ELOOP}
"""Errors that concern one name; any other ends the batch."""


class Steps(NamedTuple):
    """How a file gets its name: renames of what stands there, and the name itself."""

    moves: list[tuple[str, str]]
    target: str


class Sent(NamedTuple):
    """What became of a file; `version` is what the Place calls what it has got, where it does so."""

    name: str
    copied: Copied
    version: str = ""


@dataclass
class Parcel:
    """Files on their way.

    Parameters
    ----------
    source : str
        The folder here.
    leases : Leases
        Where to take leases.
    ledger : Ledger
        Where it is noted what is about to be written.
    room : Room
        What is free at the Place.
    steps : callable
        From a name, its version here and what stands there to the renames that publish it.
    aside : str
        The folder to which what is in the way of a folder is moved.
    links : bool
        Whether links and modes can be kept there.
    open_since : mapping
        Since when files have been open for writing.
    urgent : bool
        Whether logs that are open are copied at once.
    stubborn : collection of str
        Files that changed each time they were copied: of logs what there is counts.
    flags : sequence of str
        The user's for rsync.
    seen : dict
        What stands at the Place; see `Store.look`.
    refused : dict of str to str
        Takes up the names that the Place does not take, and why.
    """

    source: str
    leases: Leases
    ledger: Ledger
    room: Room
    steps: Callable[[str, Entry, FileThere | None], Steps]
    aside: str
    links: bool = True
    open_since: Mapping[str, float] = field(default_factory=dict)
    urgent: bool = False
    stubborn: Collection[str] = ()
    flags: Sequence[str] = ()
    seen: dict[str, FileThere] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def resting(self, name: str) -> Copied:
        """Say whether a file may be copied now."""
        return native.resting(
            self.source, name, self.leases, links=self.links, open_since=self.open_since.get(name), urgent=self.urgent
        )


def alike(seen: FileThere, entry: Entry) -> bool:
    """Whether a file at the Place looks like this version; some Places keep whole seconds only."""
    if seen.size != entry.size:
        return False
    return abs(seen.mtime - entry.seconds) < 2e-3 or seen.mtime == int(entry.seconds)


class Way(Protocol):
    """How a batch gets to a store."""

    def look(self, parcel: Parcel, names: Sequence[str]) -> dict[str, FileThere]:
        """Look at what stands there, as far as that has to be known before anything is sent."""

    def send(self, parcel: Parcel, names: Sequence[str]) -> Iterator[Sent]:
        """Bring files and publish them."""


def way_to(store: Store, flags: Sequence[str]) -> Way:
    """Choose how files get to a store; with a flag of the user's for rsync, rsync has to do it."""
    if isinstance(store, FolderStore) and not flags:
        return ByCopy(store)
    if isinstance(store, RsyncStore):
        return ByRsync(store)
    from ..transport.bucket_store import BucketStore
    from .uploads import ByUpload

    if isinstance(store, BucketStore):
        return ByUpload(store)
    raise NotImplementedError(type(store).__name__)


class ByCopy:
    """Copies files one by one to a folder of this machine, and renames each."""

    _number = 0

    def __init__(self, store: FolderStore) -> None:
        self.store = store

    def look(self, parcel: Parcel, names: Sequence[str]) -> dict[str, FileThere]:
        return self.store.look(names)

    def send(self, parcel: Parcel, names: Sequence[str]) -> Iterator[Sent]:
        begun = False
        for name in names:
            if not parcel.room.fits(self.store, name, space(os.path.join(parcel.source, name))):
                continue
            if not begun:
                parcel.ledger.intend(names)
                begun = True
            ByCopy._number += 1
            temporary = f"{TEMPORARY}{os.getpid()}.{ByCopy._number}"
            copied = native.copy(
                parcel.source,
                name,
                self.store.path(temporary),
                parcel.leases,
                open_since=parcel.open_since.get(name),
                modes=parcel.links,
                urgent=parcel.urgent,
                stubborn=name in parcel.stubborn,
            )
            if copied.outcome == DONE and copied.entry is not None:
                parcel.room.take(copied.entry.size)
                self._publish(parcel, name, temporary, copied.entry)
            yield Sent(name, copied)

    def _publish(self, parcel: Parcel, name: str, temporary: str, entry: Entry) -> None:
        steps = parcel.steps(name, entry, parcel.seen.get(name))
        try:
            self.store.move([*steps.moves, (temporary, steps.target)], aside=parcel.aside)
        except OSError as error:
            self.store.erase([temporary])
            if error.errno not in REFUSED:
                raise
            parcel.refused[name] = error.strerror or str(error)


class ByRsync:
    """Lets rsync bring a batch to a folder aside, and renames all of it at once."""

    def __init__(self, store: RsyncStore) -> None:
        self.store = store

    def look(self, parcel: Parcel, names: Sequence[str]) -> dict[str, FileThere]:
        return self.store.look(names)

    def send(self, parcel: Parcel, names: Sequence[str]) -> Iterator[Sent]:
        before = {name: parcel.resting(name) for name in names}
        ready = [name for name, first in before.items() if first.outcome == DONE and self._fits(parcel, name, first)]
        staged: dict[str, FileThere] = {}
        if ready:
            parcel.ledger.intend(ready)
            self.store.bring(Path(parcel.source), ready, INCOMING, flags=parcel.flags)
            staged = self.store.look([f"{INCOMING}/{name}" for name in ready])
        moves: list[tuple[str, str]] = []
        whole: list[Sent] = []
        for name, first in before.items():
            if first.outcome != DONE:
                yield Sent(name, first)
            elif name in ready:
                copied = self._after(parcel, name, first, f"{INCOMING}/{name}" in staged)
                if copied.outcome != DONE or copied.entry is None:
                    yield Sent(name, copied)
                    continue
                steps = parcel.steps(name, copied.entry, parcel.seen.get(name))
                moves += [*steps.moves, (f"{INCOMING}/{name}", steps.target)]
                whole.append(Sent(name, copied))
        if moves:
            self.store.move(moves, aside=parcel.aside)
        yield from whole

    def _fits(self, parcel: Parcel, name: str, first: Copied) -> bool:
        size = first.entry.size if first.entry else 0
        if not parcel.room.fits(self.store, name, size):
            return False
        parcel.room.take(size)
        return True

    def _after(self, parcel: Parcel, name: str, first: Copied, staged: bool) -> Copied:
        """Say what became of a file that rsync has brought; one that somebody wrote meanwhile does not count."""
        if not staged:
            return Copied(OTHER, first.entry, why="rsync left it out")
        again = parcel.resting(name)
        whole = again.entry == first.entry if first.closed else again.outcome == DONE
        if again.outcome == DONE and whole:
            return first
        self.store.erase([f"{INCOMING}/{name}"])
        return Copied(CHANGED, again.entry)
