"""How a batch gets to a bucket: several uploads at a time, each of which shows when it is whole.

What stands there is looked at first where the server obeys no conditions, and where a file goes in parts, as no
condition can be put on those. Elsewhere what the ledger says is taken for granted, and the server refuses an upload
when something else is there; then it is looked at. So a file that changed costs one request.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from ..transport.places.bucket_store import AT_ONCE, BucketStore, Clash
from ..transport.places.store import FileThere
from . import native
from .native import DONE, Copied
from .scan import Entry, entry_of
from .ways import Parcel, Sent, Steps, alike

IN_PARTS = 8 << 20
"""Larger files go in parts, one after the other; bytes."""
IN_MEMORY = 64 << 20
"""Bytes of files that wait to be sent."""


class ByUpload:
    """Uploads files; small ones are read as a whole and checked before they go."""

    def __init__(self, store: BucketStore) -> None:
        self.store = store
        self.conditional = bool(store.bucket.conditional)
        self._waiting: dict[Future[str], tuple[_Upload, Copied]] = {}

    def look(self, parcel: Parcel, names: Sequence[str]) -> dict[str, FileThere]:
        if not self.conditional:
            return self.store.look(names)
        known, doubtful = {}, []
        for name in names:
            version, entry = parcel.ledger.versions.get(name), parcel.ledger.acknowledged.get(name)
            if _size(parcel, name) > IN_PARTS:
                doubtful.append(name)
            elif version and entry is not None:
                known[name] = FileThere(entry.size, entry.seconds, version=version)
            elif entry is not None or name in parcel.ledger.intended:
                doubtful.append(name)
        return known | self.store.look(doubtful)

    def send(self, parcel: Parcel, names: Sequence[str]) -> Iterator[Sent]:
        names = [name for name in names if not self._is_odd(parcel, name)]
        if names:
            parcel.ledger.intend(names)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                for name in names:
                    if _size(parcel, name) > IN_PARTS:
                        yield from self._done(parcel, 0)
                        yield self._in_parts(parcel, name)
                        continue
                    yield from self._done(parcel, IN_MEMORY)
                    copied, data = _whole(parcel, name)
                    if copied.outcome != DONE or copied.entry is None:
                        yield Sent(name, copied)
                        continue
                    one = _Upload(name, copied.entry, data, parcel.seen.get(name))
                    steps = parcel.steps(name, one.entry, one.seen)
                    self._waiting[pool.submit(self._publish, one, steps, self.conditional)] = one, copied
                yield from self._done(parcel, 0)
            finally:
                pool.shutdown(cancel_futures=True)
                self._waiting.clear()

    def _is_odd(self, parcel: Parcel, name: str) -> bool:
        why = self.store.odd(name)
        if why:
            parcel.refused[name] = why
        return bool(why)

    def _done(self, parcel: Parcel, most: int) -> Iterator[Sent]:
        """Yield what has been sent, until at most so many bytes wait."""
        while self._waiting and sum(len(one.data) for one, _ in self._waiting.values()) >= most:
            ready, _ = wait(self._waiting, return_when=FIRST_COMPLETED)
            for future in ready:
                one, copied = self._waiting.pop(future)
                try:
                    version = future.result()
                except Clash:
                    version = self._once_more(parcel, one)
                yield Sent(one.name, copied, version)

    def _once_more(self, parcel: Parcel, one: _Upload) -> str:
        """Publish what the bucket has refused, as something else stands there than was taken for granted."""
        seen = self.store.look([one.name]).get(one.name)
        if seen is not None and alike(seen, one.entry):
            return seen.version
        return self._publish(one, parcel.steps(one.name, one.entry, seen), conditional=False)

    def _publish(self, one: _Upload, steps: Steps, conditional: bool) -> str:
        """Bring a small file; returns what the bucket calls it when it has got its name."""
        ours = steps.target == one.name
        self.store.copy(steps.moves)
        version = self.store.bring(
            steps.target, one.data, mtime=one.entry.mtime, instead_of=one.seen, conditional=conditional and ours
        )
        return version if ours else ""

    def _in_parts(self, parcel: Parcel, name: str) -> Sent:
        version = ""

        def publish(pieces: Iterator[bytes], before: os.stat_result) -> None:
            nonlocal version
            entry = entry_of(before)
            steps = parcel.steps(name, entry, parcel.seen.get(name))
            self.store.copy(steps.moves)
            told = self.store.bring(steps.target, pieces, mtime=entry.mtime)
            version = told if steps.target == name else ""

        return Sent(name, _read(parcel, name, publish), version)


class _Upload(NamedTuple):
    """A small file that was read as a whole."""

    name: str
    entry: Entry
    data: bytes
    seen: FileThere | None


def _whole(parcel: Parcel, name: str) -> tuple[Copied, bytes]:
    read: list[bytes] = []
    copied = _read(parcel, name, lambda pieces, seen: read.extend(pieces))
    return copied, b"".join(read)


def _read(parcel: Parcel, name: str, take: Callable[[Iterator[bytes], os.stat_result], None]) -> Copied:
    return native.read(
        *(parcel.source, name, parcel.leases, take),
        open_since=parcel.open_since.get(name),
        urgent=parcel.urgent,
        stubborn=name in parcel.stubborn,
    )


def _size(parcel: Parcel, name: str) -> int:
    try:
        return os.lstat(os.path.join(parcel.source, name)).st_size
    except OSError:
        return 0
