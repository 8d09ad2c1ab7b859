"""How a batch gets to a store so that nobody sees half a file: what all ways share; each has a module, ``by_…``.

Each way goes through the files it is given, publishes what is whole under the names that `Parcel.steps` says, and
yields what became of each. A file that somebody wrote meanwhile is not published.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from ..transport.places.rsync_store import RsyncStore
from ..transport.places.store import INCOMING, TEMPORARY, FileThere, Store
from . import native
from .lease import Leases
from .ledger import Ledger
from .native import Copied
from .room import Room
from .scan import Entry


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


def sweep(store: Store, source: Path) -> None:
    """Take away the copies that an earlier process did not finish; those of files that are still here come again."""
    if store.local is not None:
        left = [name for name in os.listdir(store.local) if name.startswith(TEMPORARY) and name != INCOMING]
    elif isinstance(store, RsyncStore):
        left = [
            name for name in store.below(INCOMING) if not os.path.lexists(source / name.removeprefix(f"{INCOMING}/"))
        ]
    else:
        return  # nothing that is not whole has a name there
    store.erase(left)
