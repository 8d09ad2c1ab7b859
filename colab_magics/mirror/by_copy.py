"""How a batch gets to a folder of this machine: each file is copied beside its name, then renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence

from ..transport.places.folder_store import FolderStore
from ..transport.places.store import TEMPORARY, FileThere
from . import native
from .native import DONE
from .room import space
from .scan import Entry
from .ways import Parcel, Sent

REFUSED = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EPERM, errno.EACCES, errno.ELOOP}
"""Errors that concern one name; any other ends the batch."""


class ByCopy:
    """Copies files one by one to a folder of this machine, and renames each."""

    _number = 0

    def __init__(self, store: FolderStore) -> None:
        self.store = store

    def look(self, parcel: Parcel, names: Sequence[str]) -> dict[str, FileThere]:
        return self.store.look(names)

    def send(self, parcel: Parcel, names: Sequence[str]) -> Iterator[Sent]:
        begun = False
        for name in names:
            if not parcel.room.fits(self.store, name, space(os.path.join(parcel.source, name))):
                continue
            if not begun:
                parcel.ledger.intend(names)
                begun = True
            ByCopy._number += 1
            temporary = f"{TEMPORARY}{os.getpid()}.{ByCopy._number}"
            copied = native.copy(
                parcel.source,
                name,
                self.store.path(temporary),
                parcel.leases,
                open_since=parcel.open_since.get(name),
                modes=parcel.links,
                urgent=parcel.urgent,
                stubborn=name in parcel.stubborn,
            )
            if copied.outcome == DONE and copied.entry is not None:
                parcel.room.take(copied.entry.size)
                self._publish(parcel, name, temporary, copied.entry)
            yield Sent(name, copied)

    def _publish(self, parcel: Parcel, name: str, temporary: str, entry: Entry) -> None:
        steps = parcel.steps(name, entry, parcel.seen.get(name))
        try:
            self.store.move([*steps.moves, (temporary, steps.target)], aside=parcel.aside)
        except OSError as error:
            self.store.erase([temporary])
            if error.errno not in REFUSED:
                raise
            parcel.refused[name] = error.strerror or str(error)
