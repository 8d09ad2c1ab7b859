"""What has changed: Linux's hints, and the look at everything that is the truth."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import Unavailable
from ..foreign import looks_secret
from ..transport import filters
from ..transport.filters import Matcher
from ..transport.places.base import Place
from . import scan
from .ledger import Ledger
from .pending import Pending
from .rights import FolderRights
from .scan import LINK, Entry
from .sender import Sender
from .watch import Watch


@dataclass
class Findings:
    """What a keeper remembers of files beside the ledger."""

    open_since: dict[str, float] = field(default_factory=dict)
    whole: dict[str, float] = field(default_factory=dict)
    """When a file that is now and then open was handed over whole."""
    skipped: set[str] = field(default_factory=set)
    refused: dict[str, tuple[Entry | None, str]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    earlier: set[str] = field(default_factory=set)
    """Files that were handed over and were gone before this sync followed deletions: they stay at the Place."""
    empty: set[str] = field(default_factory=set)
    """Folders that hold nothing."""
    secrets: set[str] = field(default_factory=set)


class Looker:
    """Finds what has to be handed over; `colab_magics.mirror.keeper.Keeper` makes all that it works with."""

    source: str
    place: Place
    ledger: Ledger
    pending: Pending
    seen: Findings
    watch: Watch
    sender: Sender
    rights: FolderRights
    left_out: Matcher
    deleting: bool = False
    status: dict[str, Any]
    say: Callable[[str], None]
    scan_began: float | None
    scan_cpu: float
    saw_all: bool = False
    """Whether all that is acknowledged was here in the life of this process: a complete restore brought it."""

    def follow(self) -> None:
        """Begin to follow deletions: what is gone by now stays at the Place."""
        self.seen.earlier = {name for name in self.ledger.acknowledged if self._is_gone(name)}
        self._tell_earlier()

    def _is_gone(self, name: str) -> bool:
        try:
            return scan.look(self.source, name) is None
        except OSError:
            return True  # nobody knows

    def _tell_earlier(self) -> None:
        names = self.seen.earlier if self.deleting else set()
        self.status["earlier"] = {"count": len(names), "names": heapq.nsmallest(5, names)} if names else ""
        self.status["following"] = self.deleting

    def take_hints(self) -> None:
        """Look at the names that Linux told."""
        names, at = self.watch.take()
        folders_gone = []
        for name, found in self._looks(name for name in names if not filters.within(name, self.left_out)):
            if name in self.seen.open_since and name in self.pending.waiting:
                self.pending.waiting[name].not_before = 0.0
            if found is not None:
                self._note(name, *found, at=at)
            elif name in self.ledger.acknowledged:
                self.pending.drop(name)
                self.seen.gone.add(name)
            elif os.path.isdir(os.path.join(self.source, name)):
                for one in scan.below(self.source, name, self.left_out, self.pending.waiting):
                    if (inner := scan.look(self.source, one)) is not None:
                        self._note(one, *inner, at=at)
            else:
                self.pending.drop(name)
                folders_gone.append(name)
        if folders_gone and self.deleting:
            self._all_gone_below(set(folders_gone))

    def _looks(self, names: Iterable[str]) -> Iterator[tuple[str, tuple[Entry, str] | None]]:
        """Look at files; those in a folder that is closed to us are left to the look at everything."""
        for name in names:
            try:
                found = scan.look(self.source, name)
            except PermissionError:
                self.pending.drop(name)
                continue
            yield name, found

    def _all_gone_below(self, folders: set[str]) -> None:
        for name in self.ledger.acknowledged:
            at = name.rfind("/")
            while at > 0:
                if name[:at] in folders:
                    self.seen.gone.add(name)
                    break
                at = name.rfind("/", 0, at)

    def _note(self, name: str, entry: Entry, kind: str, *, quiet: bool = False, at: float | None = None) -> bool:
        """Note a file that may have changed; returns whether it has."""
        self.seen.earlier.discard(name)
        if kind == scan.OTHER or (kind == LINK and not self.place.keeps_links):
            self.seen.skipped.add(name)
            return False
        if self.ledger.acknowledged.get(name) == entry:
            self.pending.drop(name)
            return False
        if name in self.seen.refused and self.seen.refused[name][0] == entry:
            return False
        if looks_secret(name):
            self.seen.secrets.add(name)
        self.pending.add(name, size=entry.size, quiet=quiet, at=at)
        return True

    def scan(self) -> None:
        """Look at everything."""
        self.say("SCANNING")
        self.ledger.looked()
        began, cpu, wall = time.monotonic(), time.process_time(), time.time()
        first = self.scan_began is None
        why = self.watch.suspicion()
        if first or why:
            self.watch.renew(why or "the first")
        else:
            self.watch.scanned()
        unreadable = scan.Unreadable([])
        missing = set(self.ledger.acknowledged) if self.deleting or first else set()
        self.seen.skipped.clear()
        self.seen.empty.clear()
        modes: dict[str, int] | None = {} if self.place.keeps_links else None
        count, surprises = 0, []
        if not os.path.isdir(self.source):
            raise Unavailable(
                f"The folder {self.source} is gone; what was handed over of it is untouched.",
                f"If that is meant: %sync stop {self.source}",
            )
        for name, entry, kind in scan.walk(self.source, self.left_out, unreadable, self.seen.empty, modes):
            count += 1
            missing.discard(name)
            known = name in self.pending.waiting
            if self._note(name, entry, kind, quiet=entry.seconds < wall - 1) and not known:
                base = self.ledger.acknowledged.get(name)
                if entry.ctime / 1e9 < wall - 2 and (base is None or base.mtime != entry.mtime):
                    surprises.append(name)
        gone = {name for name in missing if not unreadable.hides(name)}
        if first and not self.saw_all:
            # This process never saw them: whether they were deleted or lost nobody knows.
            self.seen.earlier |= gone
        else:
            self.seen.gone |= gone
            if not first:
                self._doubt(surprises)
        self.seen.refused = {
            **{name: one for name, one in self.seen.refused.items() if not name.endswith("/")},
            **{f"{folder}/": (None, "the folder cannot be read") for folder in unreadable.folders},
        }
        if modes is not None:
            self.rights.looked(modes, unreadable)
        self.seen.earlier &= self.ledger.acknowledged.keys()
        self._tell_earlier()
        self.scan_began, self.scan_cpu = began, time.process_time() - cpu
        self.status["scan"] = {"at": wall, "seconds": round(time.monotonic() - began, 3), "files": count}

    def _doubt(self, surprises: list[str]) -> None:
        """Doubt the events when a look finds what none of them told."""
        if self.watch.state != "watching":
            return
        told, _ = self.watch.take()
        for name, found in self._looks(told):
            if found is not None and not filters.within(name, self.left_out):
                self._note(name, *found)
        for name in surprises:
            if name not in told and self.sender.resting(name, {}, False).closed:
                self.watch.suspect("a change came without an event")
                return
