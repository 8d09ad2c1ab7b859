"""Deletes at the Place: only with ``--delete``, only of what we put there and saw go, into ``.sync_trash`` first.

So many in so much time go by themselves; more at once looks like an accident and waits for the user's word.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from .. import process
from ..transport.places.store import Store
from ..units import show_seconds
from .ledger import Ledger
from .patterns import AGES, TRASH

LEAST, SHARE, WINDOW = 20, 0.25, 600.0
"""Files, or this share of all, within so many seconds."""
TRASH_SECONDS = 86_400.0
"""So long a deleted file stays in the trash at the Place: seconds in which a sync runs, whatever clocks say."""
LOOK_SECONDS = 600.0
MOST_AT_ONCE = 500
"""So many are deleted for good at once; handing over goes first."""
STAMP = "%Y-%m-%d_%H%M%S"


class Trash:
    """What was moved to the trash at the Place, and the budget for it.

    A file there, `AGES`, says for how many seconds syncs have run so far, and at which of them each folder of the trash
    was made.

    Parameters
    ----------
    file : Path
        Where it is written down.
    place_id : str
        The Place's id; at another one nothing of it counts.
    """

    def __init__(self, file: Path, place_id: str) -> None:
        self.file, self.place_id = file, place_id
        found = process.read_json(file) or {}
        found = found if found.get("place") == place_id else {}
        self.items: list[list[Any]] = [one[-2:] for one in found.get("items", [])]
        self._recent: list[list[Any]] = found.get("recent", [])
        self._kept = 0.0
        self._born: dict[str, float] = {}
        self._ticked = time.monotonic()
        self._looked = 0.0

    def summary(self) -> dict[str, int]:
        """Return the numbers for the status."""
        return {"files": len(self.items), "bytes": sum(int(size) for _, size in self.items)}

    def over_budget(self, count: int, known: int) -> str:
        """Say why so many may not be deleted now; empty when they may."""
        now, boot = time.monotonic(), process.boot_id()
        # Of another boot nobody knows how long ago it was: just now, then.
        self._recent = [[boot, at if of == boot else now, n] for of, at, n in self._recent]
        self._recent = [one for one in self._recent if now - one[1] < WINDOW]
        spent, budget = sum(n for _, _, n in self._recent), max(LEAST, int(SHARE * known))
        if spent + count <= budget:
            return ""
        return f"{count} files are gone here at once; up to {budget} in {show_seconds(WINDOW)} go by themselves"

    def take(self, store: Store, names: Iterable[str], ledger: Ledger, *, free: Collection[str] = ()) -> int:
        """Move files of the Place to the trash there; those of `free` do not count against the budget."""
        names, folders = list(names), folders_of(ledger.acknowledged)
        for name in folders.intersection(names):
            # A folder has taken the name of a file that was put aside: what lies in it was just handed over.
            ledger.forget(name)
        folder = f"{TRASH}/{time.strftime(STAMP)}"
        moved = [(name, f"{folder}/{name}", ledger.acknowledged[name].size) for name in names if name not in folders]
        if not moved:
            return 0
        # Written down first: what is moved and not known of would stay in the trash for ever.
        self.items += [[there, size] for _, there, size in moved]
        self._recent.append([process.boot_id(), time.monotonic(), len(set(names).difference(free))])
        self._born.setdefault(folder.rpartition("/")[2], self._age())
        self._save()
        store.move([(name, there) for name, there, _ in moved], aside=folder)
        for name, _, _ in moved:
            ledger.forget(name)
        ledger.flush()
        return len(moved)

    def adopt(self, store: Store) -> None:
        """Take over what earlier runtimes have left in the trash; what is not named as we name it is not ours."""
        self._read_ages(store.get(AGES))
        known = {name for name, _ in self.items}
        left = [[name, size] for name, size in store.below(TRASH).items() if name not in known and _stamp_of(name)]
        if left:
            self.items += left
            self._save()

    def purge(self, store: Store, *, truncate: bool) -> None:
        """Delete what has been in the trash for long; looks now and then only."""
        now = time.monotonic()
        if not self.items or (self._looked and now - self._looked < LOOK_SECONDS):
            return
        self._looked, age = now, self._age()
        old = [name for name, _ in self.items if age - self._born.setdefault(_stamp_of(name), age) > TRASH_SECONDS]
        if len(old) > MOST_AT_ONCE:
            old, self._looked = old[:MOST_AT_ONCE], 0.0  # the rest next time
        if old:
            store.erase(old, truncate=truncate)
            gone = set(old)
            self.items = [item for item in self.items if item[0] not in gone]
            self._save()
        there = {_stamp_of(name) for name, _ in self.items}
        self._born = {folder: born for folder, born in self._born.items() if folder in there}
        if self.items:
            store.put(AGES, (json.dumps({"kept": round(age), "folders": self._born}) + "\n").encode())
        else:
            store.erase([AGES])

    def _age(self) -> float:
        """For how many seconds the Place was kept so far, by this process and those before it."""
        now = time.monotonic()
        self._kept, self._ticked = self._kept + now - self._ticked, now
        return self._kept

    def _read_ages(self, raw: bytes | None) -> None:
        try:
            found = json.loads(raw or b"{}")
            kept = float(found.get("kept", 0.0))
            born = {str(folder): float(at) for folder, at in found.get("folders", {}).items()}
        except (ValueError, TypeError, AttributeError):
            return  # all is as if it had been deleted now
        if math.isfinite(kept) and kept >= self._kept:
            mine = self._kept
            self._kept = kept
            self._born = born | {folder: at - mine + kept for folder, at in self._born.items()}

    def _save(self) -> None:
        # Only ASCII: names may hold bytes that are no text.
        process.write_whole(
            self.file, json.dumps({"place": self.place_id, "items": self.items, "recent": self._recent})
        )


def renamed(gone: Collection[str], ledger: Ledger) -> set[str]:
    """Return those of the files that are gone which the Place has got under another name meanwhile: nothing is lost.

    Size and time of writing tell them, each new file for one of old; of times in whole seconds, which many files may
    share, the last part of the name must be the same, too.
    """
    there = Counter(_looks(name, ledger) for name in ledger.fresh if name not in gone and name in ledger.acknowledged)
    found = set()
    for name in gone:
        looks = _looks(name, ledger)
        if there[looks] > 0:
            there[looks] -= 1
            found.add(name)
    return found


def _looks(name: str, ledger: Ledger) -> tuple[int, int, str]:
    entry = ledger.acknowledged[name]
    exact = entry.mtime % 1_000_000 != 0
    return entry.size, entry.mtime, "" if exact else name.rpartition("/")[2]


def _stamp_of(name: str) -> str:
    """Return the folder of the trash that a file was moved to; empty when its name is not one of ours."""
    parts = name.split("/")
    try:
        time.strptime(parts[1], STAMP)
    except (ValueError, IndexError):
        return ""
    return parts[1] if len(parts) > 2 else ""


def folders_of(names: Iterable[str]) -> set[str]:
    """Return all folders that files of these names lie in."""
    found: set[str] = set()
    for name in names:
        while (name := name.rpartition("/")[0]) and name not in found:
            found.add(name)
    return found
