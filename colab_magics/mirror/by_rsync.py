"""How a batch gets to another machine: rsync brings it to a folder aside, and all of it is renamed at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..transport.places.rsync_store import RsyncStore
from ..transport.places.store import INCOMING, FileThere
from .native import CHANGED, DONE, OTHER, Copied
from .ways import Parcel, Sent


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
