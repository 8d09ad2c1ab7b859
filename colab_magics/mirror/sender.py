"""A batch of files to the Place: staged under a name that nobody takes for a file, checked, then renamed.

What stands at the Place and is not what we put there is never overwritten: the newer one gets the name, the other goes
to ``.sync_conflict``.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..errors import Unavailable
from ..transport.places import FileThere, Hand, Opened, Place
from ..units import show_size
from . import half_written, native, rsync
from .lease import BUSY, Leases
from .ledger import Ledger
from .native import CHANGED, DONE, GONE, OPEN, OTHER, UNREADABLE, Copied
from .patterns import CONFLICT, INCOMING, TEMPORARY, VERSIONS, Matcher
from .scan import Entry, entry_of

MOST_FILES, MOST_BYTES = 500, 512 << 20
"""A batch ends after so many: then the guard looks again."""
SPARE = 16 << 10
"""Bytes that are left free at the Place."""
ROOMY, ROOM_SECONDS = 1 << 30, 60.0
"""Where so much is free, it is asked for only so often."""

_VERSION = re.compile(rf"{re.escape(VERSIONS)}/(.+)\.\d{{4}}-\d\d-\d\d_\d{{6}}\.\d{{3}}", re.DOTALL)
_REFUSED = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EPERM, errno.EACCES, errno.ELOOP}
"""Errors that concern one name; any other ends the batch."""


class Keep(NamedTuple):
    """How many overwritten versions of which files are kept."""

    number: int
    wanted: Matcher


class Full(Unavailable):
    """A Place that has no room: what needs none goes on."""


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


def alike(seen: FileThere, entry: Entry) -> bool:
    """Whether a file at the Place looks like this version; some Places keep whole seconds only."""
    if seen.size != entry.size:
        return False
    return abs(seen.mtime - entry.seconds) < 2e-3 or seen.mtime == int(entry.seconds)


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
    _number: int = 0
    _stubborn: Collection[str] = ()
    _full: str = ""
    """What did not fit any more of the batch under way."""
    _versions: dict[str, list[str]] = field(default_factory=dict)
    _adopted: bool = False
    _free: int | None = None
    _free_at: float = -ROOM_SECONDS

    def send(
        self,
        opened: Opened,
        names: Sequence[str],
        *,
        open_since: Mapping[str, float],
        urgent: bool = False,
        stubborn: Collection[str] = (),
    ) -> Batch:
        """Hand files over.

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
        seen = opened.hand.look(names)
        try:
            wanted = [name for name in names if not self._is_there(name, seen.get(name), batch)]
            by_rsync = opened.hand.local is None or bool(self.flags)
            stage = self._stage_by_rsync if by_rsync else self._stage
            moves: list[tuple[str, str]] = []
            self._stubborn, self._full = stubborn, ""
            for name, temporary, copied in stage(opened, wanted, open_since, urgent):
                batch.copied[name] = copied
                if copied.outcome != DONE or copied.entry is None:
                    continue
                steps = self._steps(name, temporary, copied.entry, seen.get(name), batch)
                if opened.hand.local is None:
                    moves += steps
                elif not self._publish(opened.hand, steps, name, temporary, batch):
                    continue
                batch.files += 1
                batch.bytes += copied.entry.size
                if opened.hand.local is not None:
                    self.ledger.acknowledge(name, copied.entry)
            if moves:
                opened.hand.move(moves, aside=_aside())
                for name, copied in batch.copied.items():
                    if copied.outcome == DONE and copied.entry is not None:
                        self.ledger.acknowledge(name, copied.entry)
            self._drop_versions(opened.hand)
            batch.full = no_space(self._full) if self._full else None
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
        self.ledger.acknowledge(name, entry_of(here))
        return True

    def _steps(
        self, name: str, temporary: str, entry: Entry, seen: FileThere | None, batch: Batch
    ) -> list[tuple[str, str]]:
        """Decide which renames give the file its name."""
        if seen is None:
            return [(temporary, name)]
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
                return [(name, kept), (temporary, name)]
            return [(temporary, name)]
        batch.conflicts += 1
        loser = f"{_aside()}/{name}"
        if seen.mtime > entry.seconds + 1:
            return [(temporary, loser)]
        return [(name, loser), (temporary, name)]

    def _publish(self, hand: Hand, steps: list[tuple[str, str]], name: str, temporary: str, batch: Batch) -> bool:
        try:
            hand.move(steps, aside=_aside())
        except OSError as error:
            hand.erase([temporary])
            if error.errno not in _REFUSED:
                raise
            batch.refused[name] = error.strerror or str(error)
            return False
        return True

    def _stage(
        self, opened: Opened, names: Sequence[str], open_since: Mapping[str, float], urgent: bool
    ) -> Iterator[tuple[str, str, Copied]]:
        """Copy files one by one."""
        free = self._bytes_free(opened.hand)
        local = opened.hand.local or ""
        begun = False
        for name in names:
            free, fits = self._room(opened, name, free)
            if not fits:
                continue
            if not begun:
                self.ledger.intend(names)
                begun = True
            self._number += 1
            temporary = f"{TEMPORARY}{os.getpid()}.{self._number}"
            copied = native.copy(
                self.source,
                name,
                os.path.join(local, temporary),
                self.leases,
                open_since=open_since.get(name),
                modes=self.place.keeps_links,
                urgent=urgent,
                stubborn=name in self._stubborn,
            )
            if free is not None and copied.outcome == DONE and copied.entry is not None:
                free = self._free = free - copied.entry.size
            yield name, temporary, copied

    def _bytes_free(self, hand: Hand) -> int | None:
        """Return what is free at the Place, as it was a short while ago where it was much."""
        now = time.monotonic()
        if now - self._free_at >= ROOM_SECONDS or self._free is None or self._free < ROOMY:
            self._free, self._free_at = hand.free(), now
        return self._free

    def _room(self, opened: Opened, name: str, free: int | None) -> tuple[int | None, bool]:
        """Say how much is free, and whether there is room for a file beside its old version; note the first without."""
        try:
            size = _space(os.lstat(os.path.join(self.source, name)))
        except OSError:
            return free, True
        if free is not None and size + SPARE > free:
            free = opened.hand.free()
            if free is not None and size + SPARE > free:
                self._full = self._full or f"{name} needs {show_size(size)}, {show_size(free)} are free"
                return free, False
        return free, True

    def _stage_by_rsync(
        self, opened: Opened, names: Sequence[str], open_since: Mapping[str, float], urgent: bool
    ) -> Iterator[tuple[str, str, Copied]]:
        """Copy files by one rsync; those that somebody wrote meanwhile do not count."""
        before = {name: self.resting(name, open_since, urgent) for name in names}
        ready = self._fitting(opened.hand, {n: copied for n, copied in before.items() if copied.outcome == DONE})
        staged: dict[str, FileThere] = {}
        if ready:
            self.ledger.intend(ready)
            rsync.push(self.place, opened, Path(self.source), list(ready), flags=self.flags)
            staged = opened.hand.look([f"{INCOMING}/{name}" for name in ready])
        for name, first in before.items():
            temporary = f"{INCOMING}/{name}"
            if first.outcome == DONE and name not in ready:
                continue
            if first.outcome != DONE:
                yield name, temporary, first
                continue
            again = self.resting(name, open_since, urgent)
            whole = again.entry == first.entry if first.closed else again.outcome == DONE
            if temporary not in staged:
                yield name, temporary, Copied(OTHER, first.entry, why="rsync left it out")
            elif again.outcome == DONE and whole:
                yield name, temporary, first
            else:
                opened.hand.erase([temporary])
                yield name, temporary, Copied(CHANGED, again.entry)

    def _fitting(self, hand: Hand, copies: Mapping[str, Copied]) -> dict[str, Copied]:
        """Choose those for which there is room, and note which of them is the first that has none."""
        free, found = self._bytes_free(hand), {}
        for name, copied in copies.items():
            size = copied.entry.size if copied.entry else 0
            if free is not None and size + SPARE > free:
                self._full = self._full or f"{name} needs {show_size(size)}, {show_size(free)} are free"
                continue
            free = None if free is None else free - size
            found[name] = copied
        self._free = free
        return found

    def resting(self, name: str, open_since: Mapping[str, float], urgent: bool) -> Copied:
        """Say whether a file may be copied now."""
        path = os.path.join(self.source, name)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return Copied(GONE)
        except OSError as error:
            if error.errno == errno.ELOOP and self.place.keeps_links:
                return Copied(DONE, entry_of(os.lstat(path)))
            gone = error.errno == errno.ENOTDIR
            return Copied(GONE if gone else OTHER if error.errno in (errno.ENXIO, errno.ELOOP) else UNREADABLE)
        try:
            seen = os.fstat(fd)
            if not stat.S_ISREG(seen.st_mode):
                return Copied(OTHER)
            with self.leases.on(fd) as lease:
                if half_written.is_now(name, fd, seen, lease, since=open_since.get(name), urgent=urgent):
                    return Copied(OPEN, entry_of(seen))
                return Copied(DONE, entry_of(seen), closed=lease.answer != BUSY)
        finally:
            os.close(fd)

    def adopt_versions(self, hand: Hand) -> None:
        """Count the versions that earlier runtimes have kept too, once."""
        if self.keep is None or self._adopted:
            return
        self._adopted = True
        for kept in hand.below(VERSIONS):
            found = _VERSION.fullmatch(kept)
            if found and self.keep.wanted(found[1], False):
                listed = self._versions.setdefault(found[1], [])
                listed[:] = sorted({*listed, kept})
        self._drop_versions(hand)

    def _drop_versions(self, hand: Hand) -> None:
        """Delete the oldest versions beyond the number to keep."""
        if self.keep is None:
            return
        for kept in self._versions.values():
            old, kept[:] = kept[: -self.keep.number], kept[-self.keep.number :]
            hand.erase(old, truncate=self.place.uploads_later)


def _space(seen: os.stat_result) -> int:
    """Return the bytes that a copy takes: holes take none."""
    return min(seen.st_size, seen.st_blocks * 512) if stat.S_ISREG(seen.st_mode) else seen.st_size


def no_space(what: str) -> Full:
    """Build the error for a Place that is full."""
    return Full(f"No space left at the Place: {what}.", "Free some space there, or leave files out: exclude=")


def _stamp() -> str:
    return time.strftime("%Y-%m-%d_%H%M%S") + f".{time.time_ns() // 1_000_000 % 1000:03d}"


def _aside() -> str:
    # A name may lose as a file and a moment later as a folder.
    return f"{CONFLICT}/{_stamp()}"
