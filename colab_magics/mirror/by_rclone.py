"""How a batch gets to a cloud by rclone: copies that were checked are put together here, then go as one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from ..transport.buckets.access import odd
from ..transport.places.rclone_store import RcloneStore
from ..transport.places.store import FileThere
from . import native
from .native import DONE
from .room import space
from .ways import Parcel, Sent


class ByRclone:
    """Lets rclone bring a batch."""

    def __init__(self, store: RcloneStore) -> None:
        self.store = store

    def look(self, parcel: Parcel, names: Sequence[str]) -> dict[str, FileThere]:
        return self.store.look(names)

    def send(self, parcel: Parcel, names: Sequence[str]) -> Iterator[Sent]:
        whole: list[Sent] = []
        kept: list[tuple[str, str]] = []
        with self.store.staging() as folder:
            for name in names:
                if why := odd(name):
                    parcel.refused[name] = why
                    continue
                if not parcel.room.fits(self.store, name, space(os.path.join(parcel.source, name))):
                    continue
                copied = native.copy(
                    *(parcel.source, name, str(folder / "copied"), parcel.leases),
                    open_since=parcel.open_since.get(name),
                    modes=False,
                    urgent=parcel.urgent,
                    stubborn=name in parcel.stubborn,
                )
                if copied.outcome != DONE or copied.entry is None:
                    yield Sent(name, copied)
                    continue
                steps = parcel.steps(name, copied.entry, parcel.seen.get(name))
                kept += steps.moves
                target = folder / "batch" / steps.target
                target.parent.mkdir(parents=True, exist_ok=True)
                os.rename(folder / "copied", target)
                parcel.room.take(copied.entry.size)
                whole.append(Sent(name, copied))
            if whole:
                parcel.ledger.intend([one.name for one in whole])
                self.store.copy(kept)
                self.store.bring(folder / "batch", aside=parcel.aside)
        yield from whole
