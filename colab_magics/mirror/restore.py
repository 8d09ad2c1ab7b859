"""Bringing back what the Place has: nothing is deleted, nothing that only one side has in a newer version is lost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..transport.places import PRIVATE, Hand, Opened, Place
from . import rsync, scan
from .ledger import Ledger
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
    folders: dict[str, int] = field(default_factory=dict)
    """Those that are not here, and their modes; empty ones no file would bring."""
    outward: set[str] = field(default_factory=set)
    """Links that lead out of the folder, and what a link here would take out of it: they stay at the Place alone."""

    @property
    def bytes(self) -> int:
        """How much would be fetched."""
        return sum(one.size for one in self.fetch)


def plan(place: Place, opened: Opened, source: Path, ledger: Ledger, *, exclude: Iterable[str], light: bool) -> Plan:
    """Compare both sides and decide for each file; changes nothing."""
    found = Plan()
    listed = rsync.listing(place, opened, source, exclude=exclude, light=light, folders=found.folders)
    found.there = {one.name for one in listed}
    found.outward = rsync.behind_links(source, found.there)
    for one in listed:
        if one.name in found.outward:
            continue
        here = None if one.new else scan.look(str(source), one.name)
        base = ledger.acknowledged.get(one.name)
        if here is None:
            found.fetch.append(one)
        elif one.alike:
            found.alike.append(one.name)
        else:
            _decide(found, one, here[0], base)
    if outward := rsync.leading_out(place, opened, source, found.fetch):
        found.fetch = [one for one in found.fetch if one.name not in outward]
        found.aside = [name for name in found.aside if name not in outward]
        found.outward |= outward
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
    plan: Plan, place: Place, opened: Opened, source: Path, ledger: Ledger, *, flags: Sequence[str] = ()
) -> None:
    """Fetch what a plan says and write down what both sides hold then.

    Raises
    ------
    CommandFailed
        When rsync failed; what was fetched until then counts.
    """
    rsync.make_folders(source, plan.folders, place)
    stamp = time.strftime("%Y-%m-%d_%H%M%S")
    if plan.aside:
        (source / CONFLICT).mkdir(PRIVATE, exist_ok=True)
    for name in plan.aside:
        loser = source / CONFLICT / stamp / name
        loser.parent.mkdir(parents=True, exist_ok=True)
        os.rename(source / name, loser)
    try:
        rsync.pull(place, opened, source, [one.name for one in plan.fetch], flags=flags)
    finally:
        plan.outward.update(rsync.drop_outward(source, plan.fetch))
        for name in plan.outward:
            ledger.forget(name)  # that it is not here is our doing: it is no file that was deleted
        for one in plan.fetch:
            here = scan.look(str(source), one.name)
            if here is not None and here[0].size == one.size and abs(here[0].seconds - one.mtime) < 2:
                ledger.acknowledge(one.name, here[0])
        _acknowledge_alike(plan, place, opened.hand, source, ledger)
        ledger.flush()


def _acknowledge_alike(plan: Plan, place: Place, hand: Hand, source: Path, ledger: Ledger) -> None:
    unknown = [name for name in plan.alike if name not in ledger.acknowledged]
    # rsync compares whole seconds; where times can be compared exactly, a file that was written twice in one is seen.
    exact = hand.look(unknown) if hand.local is not None and not place.uploads_later else None
    for name in unknown:
        here = scan.look(str(source), name)
        if here is None:
            continue
        if exact is None or (name in exact and abs(exact[name].mtime - here[0].seconds) < 2e-3):
            ledger.acknowledge(name, here[0])
