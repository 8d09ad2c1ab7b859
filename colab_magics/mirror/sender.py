"""A batch of files to the Place: what stands there decides which renames give each its name.

What stands at the Place and is not what we put there is never overwritten: the newer one gets the name, the other goes
to ``.sync_conflict``. How the files get there is told by `colab_magics.mirror.ways`.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..transport.filters import Matcher
from ..transport.places.base import Place
from ..transport.places.bucket_store import BucketStore
from ..transport.places.folder_store import FolderStore
from ..transport.places.rclone_store import RcloneStore
from ..transport.places.rsync_store import RsyncStore
from ..transport.places.store import FileThere, Opened, Store
from . import native
from .by_copy import ByCopy
from .by_rclone import ByRclone
from .by_rsync import ByRsync
from .by_upload import ByUpload
from .lease import Leases
from .ledger import Ledger
from .native import DONE, Copied
from .patterns import CONFLICT, VERSIONS
from .room import Full, Room, no_space
from .scan import Entry, entry_of
from .ways import Parcel, Steps, Way, alike

MOST_FILES, MOST_BYTES = 500, 512 << 20
"""A batch ends after so many: then the guard looks again."""

_VERSION = re.compile(rf"{re.escape(VERSIONS)}/(.+)\.\d{{4}}-\d\d-\d\d_\d{{6}}\.\d{{3}}", re.DOTALL)


class Keep(NamedTuple):
    """How many overwritten versions of which files are kept."""

    number: int
    wanted: Matcher


@dataclass
class Batch:
    """What became of a batch: files by outcome, and how much was handed over."""

    copied: dict[str, Copied] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0
    conflicts: int = 0
    full: Full | None = None
    """What says that some did not fit."""


def slices(names: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Cut a list into batches."""
    batch: list[str] = []
    total = 0
    for name in names:
        batch.append(name)
        total += sizes.get(name, 0)
        if len(batch) >= MOST_FILES or total >= MOST_BYTES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


@dataclass
class Sender:
    """Hands batches over.

    Parameters
    ----------
    source : str
        The folder here.
    place : Place
        The folder there.
    ledger : Ledger
        What was handed over.
    leases : Leases
        Where to take leases.
    keep : Keep or None
        Which overwritten versions to keep.
    flags : sequence of str
        Flags of the user's for rsync; with any, rsync is what copies.
    """

    source: str
    place: Place
    ledger: Ledger
    leases: Leases
    keep: Keep | None = None
    flags: Sequence[str] = ()
    room: Room = field(default_factory=Room)
    _versions: dict[str, list[str]] = field(default_factory=dict)
    _adopted: bool = False

    def send(
        self,
        opened: Opened,
        names: Sequence[str],
        *,
        open_since: Mapping[str, float],
        urgent: bool = False,
        stubborn: Collection[str] = (),
    ) -> Batch:
        """Store files over.

        Parameters
        ----------
        opened : Opened
            The Place, which the guard has looked at.
        names : sequence of str
            The files.
        open_since : mapping
            Since when files have been open for writing.
        urgent : bool, default False
            Whether logs that are open are copied at once.
        stubborn : collection of str
            Files that changed each time they were copied: of logs what there is counts.

        Returns
        -------
        Batch
            What became of each.

        Raises
        ------
        OSError, CommandFailed
            When the Place fails; what was handed over until then is acknowledged.
        """
        batch = Batch()
        store = opened.store
        way = _way_to(store, self.flags)
        parcel = Parcel(
            *(self.source, self.leases, self.ledger, self.room),
            steps=lambda name, entry, seen: self._steps(name, entry, seen, batch),
            aside=_aside(),
            links=self.place.keeps_links,
            open_since=open_since,
            urgent=urgent,
            stubborn=stubborn,
            flags=self.flags,
            refused=batch.refused,
        )
        try:
            parcel.seen = way.look(parcel, names)
            wanted = [name for name in names if not self._is_there(name, parcel.seen.get(name), batch)]
            self.room.begin(store)
            for name, copied, version in way.send(parcel, wanted):
                batch.copied[name] = copied
                if copied.outcome == DONE and copied.entry is not None and name not in batch.refused:
                    batch.files += 1
                    batch.bytes += copied.entry.size
                    self.ledger.acknowledge(name, copied.entry, version)
            self._drop_versions(store)
            batch.full = no_space(self.room.lacking) if self.room.lacking else None
        finally:
            self.ledger.flush()
        return batch

    def _is_there(self, name: str, seen: FileThere | None, batch: Batch) -> bool:
        """Whether the Place has this very version already, though nobody had written that down."""
        if seen is None or not seen.plain or name in self.ledger.acknowledged:
            return False
        try:
            here = os.lstat(os.path.join(self.source, name))
        except OSError:
            return False
        if not stat.S_ISREG(here.st_mode) or not alike(seen, entry_of(here)):
            return False
        batch.copied[name] = Copied(DONE, entry_of(here))
        self.ledger.acknowledge(name, entry_of(here), seen.version)
        return True

    def _steps(self, name: str, entry: Entry, seen: FileThere | None, batch: Batch) -> Steps:
        """Decide which renames give the file its name."""
        if seen is None:
            return Steps([], name)
        known = self.ledger.acknowledged.get(name)
        # A process that was killed between the rename and the line that tells of it: what is there is ours.
        ours = (known is not None and alike(seen, known)) or (
            name in self.ledger.intended and seen.mtime <= entry.seconds and seen.plain
        )
        if not ours and seen.plain and known is None and alike(seen, entry):
            ours = True
        if ours or (known is not None and not seen.plain):
            if self.keep is not None and self.keep.wanted(name, False):
                kept = f"{VERSIONS}/{name}.{_stamp()}"
                self._versions.setdefault(name, []).append(kept)
                return Steps([(name, kept)], name)
            return Steps([], name)
        batch.conflicts += 1
        loser = f"{_aside()}/{name}"
        if seen.mtime > entry.seconds + 1:
            return Steps([], loser)
        return Steps([(name, loser)], name)

    def resting(self, name: str, open_since: Mapping[str, float], urgent: bool) -> Copied:
        """Say whether a file may be copied now."""
        return native.resting(
            *(self.source, name, self.leases),
            links=self.place.keeps_links,
            open_since=open_since.get(name),
            urgent=urgent,
        )

    def adopt_versions(self, store: Store) -> None:
        """Count the versions that earlier runtimes have kept too, once."""
        if self.keep is None or self._adopted:
            return
        self._adopted = True
        for kept in store.below(VERSIONS):
            found = _VERSION.fullmatch(kept)
            if found and self.keep.wanted(found[1], False):
                listed = self._versions.setdefault(found[1], [])
                listed[:] = sorted({*listed, kept})
        self._drop_versions(store)

    def _drop_versions(self, store: Store) -> None:
        """Delete the oldest versions beyond the number to keep."""
        if self.keep is None:
            return
        for kept in self._versions.values():
            old, kept[:] = kept[: -self.keep.number], kept[-self.keep.number :]
            store.erase(old, truncate=self.place.uploads_later)


def _way_to(store: Store, flags: Sequence[str]) -> Way:
    """Choose how files get to a store; with a flag of the user's for rsync, rsync has to do it."""
    if isinstance(store, FolderStore) and not flags:
        return ByCopy(store)
    if isinstance(store, RsyncStore):
        return ByRsync(store)
    if isinstance(store, BucketStore):
        return ByUpload(store)
    if isinstance(store, RcloneStore):
        return ByRclone(store)
    raise TypeError(f"nobody knows how files get to a {type(store).__name__}")


def _stamp() -> str:
    return time.strftime("%Y-%m-%d_%H%M%S") + f".{time.time_ns() // 1_000_000 % 1000:03d}"


def _aside() -> str:
    # A name may lose as a file and a moment later as a folder.
    return f"{CONFLICT}/{_stamp()}"
