"""Bringing back what the Place has: nothing is deleted, nothing that only one side has in a newer version is lost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..transport.places import Hand, Opened, Place
from . import rsync, scan
from .journal import Journal
from .patterns import CONFLICT
from .rsync import There
from .scan import Entry


@dataclass
class Plan:
    """What a restore does: names to fetch, those whose version here is moved aside first, and those alike."""

    fetch: list[There] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)
    there: set[str] = field(default_factory=set)
    folders: list[str] = field(default_factory=list)
    """Those that are not here; empty ones no file would bring."""

    @property
    def bytes(self) -> int:
        """How much would be fetched."""
        return sum(one.size for one in self.fetch)


def plan(place: Place, opened: Opened, source: Path, journal: Journal, *, exclude: Iterable[str], light: bool) -> Plan:
    """Compare both sides and decide for each file; changes nothing."""
    found = Plan()
    for one in rsync.listing(place, opened, source, exclude=exclude, light=light, folders=found.folders):
        found.there.add(one.name)
        here = None if one.new else scan.look(str(source), one.name)
        base = journal.acknowledged.get(one.name)
        if here is None:
            found.fetch.append(one)
        elif one.alike:
            found.alike.append(one.name)
        else:
            _decide(found, one, here[0], base)
    return found


def _decide(found: Plan, one: There, here: Entry, base: Entry | None) -> None:
    changed_here = base is None or base != here
    changed_there = base is None or base.size != one.size or abs(base.seconds - one.mtime) >= 2
    if not changed_here:
        found.fetch.append(one) if changed_there else found.alike.append(one.name)
    elif not changed_there or one.mtime <= here.seconds:
        # Newer here: sent by and by; if the Place's changed too, that one is moved aside then.
        found.kept.append(one.name)
    else:
        found.aside.append(one.name)
        found.fetch.append(one)


def carry_out(
    plan: Plan, place: Place, opened: Opened, source: Path, journal: Journal, *, flags: Sequence[str] = ()
) -> None:
    """Fetch what a plan says and write down what both sides hold then.

    Raises
    ------
    CommandFailed
        When rsync failed; what was fetched until then counts.
    """
    for name in plan.folders:
        # Only where no link of the user's leads elsewhere.
        if os.path.realpath(source / name) == os.path.join(os.path.realpath(source), name):
            with suppress(FileExistsError, NotADirectoryError):
                (source / name).mkdir(parents=True)
    stamp = time.strftime("%Y-%m-%d_%H%M%S")
    for name in plan.aside:
        loser = source / CONFLICT / stamp / name
        loser.parent.mkdir(parents=True, exist_ok=True)
        os.rename(source / name, loser)
    try:
        rsync.pull(place, opened, source, [one.name for one in plan.fetch], flags=flags)
    finally:
        for one in plan.fetch:
            here = scan.look(str(source), one.name)
            if here is not None and here[0].size == one.size and abs(here[0].seconds - one.mtime) < 2:
                journal.acknowledge(one.name, here[0])
        _acknowledge_alike(plan, place, opened.hand, source, journal)
        journal.flush()


def _acknowledge_alike(plan: Plan, place: Place, hand: Hand, source: Path, journal: Journal) -> None:
    unknown = [name for name in plan.alike if name not in journal.acknowledged]
    # rsync compares whole seconds; where times can be compared exactly, a file that was written twice in one is seen.
    exact = hand.look(unknown) if hand.local is not None and not place.uploads_later else None
    for name in unknown:
        here = scan.look(str(source), name)
        if here is None:
            continue
        if exact is None or (name in exact and abs(exact[name].mtime - here[0].seconds) < 2e-3):
            journal.acknowledge(name, here[0])
