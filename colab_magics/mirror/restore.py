"""Bringing back what the Place has: nothing is deleted, nothing that only one side has in a newer version is lost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..transport.places.base import Place
from ..transport.places.store import PRIVATE, Store, There
from . import notices, scan
from .ledger import Ledger
from .patterns import CONFLICT, OURS, THERE
from .scan import Entry


@dataclass
class Plan:
    """What a restore does: names to fetch, those whose version here is moved aside first, and those alike."""

    fetch: list[There] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    alike: list[There] = field(default_factory=list)
    there: set[str] = field(default_factory=set)
    folders: dict[str, int] = field(default_factory=dict)
    """Those that are not here, and their modes; empty ones no file would bring."""
    unfit: dict[str, str] = field(default_factory=dict)
    """Names at the Place that can be no files here, and why."""
    outward: set[str] = field(default_factory=set)
    """Links that lead out of the folder, and what a link here would take out of it: they stay at the Place alone."""

    @property
    def bytes(self) -> int:
        """How much would be fetched."""
        return sum(one.size for one in self.fetch)


def plan(store: Store, source: Path, ledger: Ledger, *, exclude: Iterable[str], light: bool) -> Plan:
    """Compare both sides and decide for each file; changes nothing."""
    found = Plan()
    hidden = [*OURS, *THERE, *exclude]
    listed = store.compare(source, hidden=hidden, light=light, folders=found.folders, known=ledger.known)
    found.unfit = store.unfit()
    found.there = {one.name for one in listed}
    found.outward = _behind_links(source, found.there)
    for one in listed:
        if one.name in found.outward:
            continue
        here = None if one.new else scan.look(str(source), one.name)
        base = ledger.acknowledged.get(one.name)
        if here is None:
            found.fetch.append(one)
        elif one.alike:
            found.alike.append(one)
        else:
            _decide(found, one, here[0], base)
    if outward := store.outward(source, found.fetch):
        found.fetch = [one for one in found.fetch if one.name not in outward]
        found.aside = [name for name in found.aside if name not in outward]
        found.outward |= outward
    return found


def _decide(found: Plan, one: There, here: Entry, base: Entry | None) -> None:
    changed_here = base is None or base != here
    changed_there = base is None or base.size != one.size or abs(base.seconds - one.mtime) >= 2
    if not changed_here:
        found.fetch.append(one) if changed_there else found.alike.append(one)
    elif not changed_there or one.mtime <= here.seconds:
        # Newer here: sent by and by; if the Place's changed too, that one is moved aside then.
        found.kept.append(one.name)
    else:
        found.aside.append(one.name)
        found.fetch.append(one)


def carry_out(
    plan: Plan, place: Place, store: Store, source: Path, ledger: Ledger, *, flags: Sequence[str] = ()
) -> None:
    """Fetch what a plan says and write down what both sides hold then.

    Raises
    ------
    CommandFailed
        When it failed; what was fetched until then counts.
    """
    _make_folders(source, plan.folders, place)
    stamp = time.strftime("%Y-%m-%d_%H%M%S")
    if plan.aside:
        (source / CONFLICT).mkdir(PRIVATE, exist_ok=True)
    for name in plan.aside:
        loser = source / CONFLICT / stamp / name
        loser.parent.mkdir(parents=True, exist_ok=True)
        os.rename(source / name, loser)
    times: Mapping[str, float] = {}
    try:
        times = store.fetch(source, [one.name for one in plan.fetch], flags=flags)
    finally:
        plan.outward.update(_drop_outward(source, plan.fetch))
        for name in plan.outward:
            ledger.forget(name)  # that it is not here is our doing: it is no file that was deleted
        for one in plan.fetch:
            here, at = scan.look(str(source), one.name), times.get(one.name, one.mtime)
            if here is not None and here[0].size == one.size and abs(here[0].seconds - at) < 2:
                ledger.acknowledge(one.name, here[0], one.version)
        _acknowledge_alike(plan, place, store, source, ledger)
        ledger.flush()


def _acknowledge_alike(plan: Plan, place: Place, store: Store, source: Path, ledger: Ledger) -> None:
    unknown = {
        one.name: one
        for one in plan.alike
        if one.name not in ledger.acknowledged or ledger.versions.get(one.name, "") != one.version
    }
    # rsync compares whole seconds; where times can be compared exactly, a file that was written twice in one is seen.
    exact = store.look(list(unknown)) if store.local is not None and not place.uploads_later else None
    for name, one in unknown.items():
        here = scan.look(str(source), name)
        if here is None:
            continue
        if exact is None or (name in exact and abs(exact[name].mtime - here[0].seconds) < 2e-3):
            ledger.acknowledge(name, here[0], one.version)


def fetch(
    place: Place, into: Path, *, expected: str | None, names: Sequence[str] | None, warn: Callable[[str], None]
) -> int:
    """Fetch a folder of a Place, one way; see `colab_magics.mirror.control.fetch`."""
    into.mkdir(parents=True, exist_ok=True)
    folders: dict[str, int] = {}
    with place.opened(expected) as opened:
        if not place.names():
            return 0
        store = opened.store
        found = store.compare(into, hidden=[*OURS, *THERE], names=names, folders=folders)
        wanted = [one for one in found if not one.alike and (one.new or _is_newer(one, into))]
        outward = store.outward(into, wanted) | _behind_links(into, [one.name for one in wanted])
        wanted = [one for one in wanted if one.name not in outward]
        _make_folders(into, folders, place)
        store.fetch(into, [one.name for one in wanted])
        if lost := sorted([*outward, *_drop_outward(into, wanted)]):
            warn(f"Not fetched from {place}, as links lead out of the folder: {notices.some(lost, len(lost))}.")
        if unfit := store.unfit():
            names = [f"{name} ({why})" for name, why in sorted(unfit.items())]
            warn(f"Not fetched from {place}, as they can be no files here: {notices.some(names, len(names))}.")
        return len(wanted)


def _make_folders(into: Path, folders: Mapping[str, int], place: Place) -> None:
    """Make the folders that a listing found, never through a link, with no more rights than they have there."""
    for name, mode in sorted(folders.items()):
        if not _behind_links(into, [name]):
            with suppress(FileExistsError, NotADirectoryError):
                os.makedirs(into / name, mode & 0o755 | PRIVATE if place.keeps_links else 0o777)


def _behind_links(folder: Path, names: Iterable[str]) -> set[str]:
    """Return those of the names that a link here, in place of a folder above them, leads elsewhere."""
    top, names = os.path.realpath(folder), list(names)
    parents = {os.path.dirname(name) for name in names}
    led = {one for one in parents if os.path.realpath(folder / one) != os.path.normpath(os.path.join(top, one))}
    return {name for name in names if os.path.dirname(name) in led}


def _drop_outward(into: Path, fetched: Iterable[There]) -> list[str]:
    """Take away links that lead out of the folder through other links: rsync reads the text of each alone."""
    top, dropped = os.path.realpath(into), []
    for one in fetched:
        path = into / one.name
        if one.link and path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(top):
            path.unlink()
            dropped.append(one.name)
    return dropped


def _is_newer(one: There, into: Path) -> bool:
    try:
        return one.mtime > os.lstat(into / one.name).st_mtime
    except OSError:
        return True
