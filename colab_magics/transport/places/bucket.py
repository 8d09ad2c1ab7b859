"""Buckets as Places: ``s3://BUCKET/FOLDER``, ``gs://BUCKET/FOLDER``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Self

from ...errors import Unavailable
from ...process import log
from ..buckets import access
from ..buckets import files as bucket_files
from ..buckets.access import Address
from ..buckets.errors import explain
from .base import SENTINEL, Place, new_sentinel
from .bucket_store import Bucket, BucketStore, Clash
from .store import FileThere, Mark, Opened


@dataclass(frozen=True)
class BucketPlace(Place):
    """A folder of a bucket."""

    keeps_links: ClassVar[bool] = False
    by_rsync: ClassVar[bool] = False

    @classmethod
    def from_text(cls, text: str, *, project: str) -> Self:
        address = Address.parse(text)
        return cls(text=str(address), root=str(address))

    @property
    def path(self) -> str:
        return "/".join([self.root, *self.parts])

    def environment(self) -> dict[str, str]:
        return dict(access.settings(Path.cwd()))

    def _bucket(self) -> Bucket:
        left_out: list[str] = []
        # Those who keep a folder for days are told by their environment alone, so a yes to a file cannot reach them.
        given = access.settings(Path.cwd(), warn=left_out.append)
        address = Address.parse(self.root)
        try:
            return _open(address.scheme, address.bucket, frozenset(given.items()), os.getpid())
        except Unavailable as error:
            if not left_out:
                raise
            raise Unavailable(
                f"{error.what} The .env here is tracked by git, so it does not say where outputs go.",
                "Put the keys into the environment, into ~/.aws, or into a .env that git does not track.",
            ) from None

    def _store(self, *parts: str) -> BucketStore:
        return BucketStore(self._bucket(), Address.parse(self.root).below(*parts).key)

    def answers(self) -> None:
        bucket = self._bucket()
        access.check(bucket.objects, bucket.address)

    def prepare(self, rights: int = 0o777) -> str:
        store = self._store()
        found = store.get(SENTINEL)
        if found is None:
            try:
                store.bring(SENTINEL, new_sentinel().encode(), mtime=time.time_ns(), conditional=True)
            except Clash:
                log.debug("%s has been prepared by another meanwhile", self.text)
            except Exception as error:
                raise explain(error, f"writing to {self.text}") from error
            found = store.get(SENTINEL)  # of two that prepare at once one has made it
        return self.verify(found, None)

    @contextmanager
    def opened(self, expected: str | None = None, *, make: int = 0, known: Mark | None = None) -> Iterator[Opened]:
        top = self._store()
        found = top.get(SENTINEL)
        self.verify(found, expected)
        if top.bucket.conditional is None and found is not None:
            top.bucket.conditional = _obeys_conditions(top, found)
        yield Opened(self._store(*self.parts))

    @contextmanager
    def as_it_is(self) -> Iterator[BucketStore]:
        self.answers()
        yield self._store(*self.parts)

    def names(self) -> list[str]:
        return [name for name in self._store(*self.parts).tops() if name != SENTINEL]

    def missing(self, names: Sequence[str]) -> list[str]:
        store = self._store(*self.parts)
        return [name for name in names if next(store.listing(name, exactly=True), None) is None]


def _obeys_conditions(store: BucketStore, sentinel: bytes) -> bool:
    """Try whether the server obeys conditions: some ignore them, and write. What is written is what is there."""
    head = bucket_files.head(store.objects, store.key(SENTINEL))
    if head is None:
        return False
    mtime = int(head.modified if head.mtime is None else head.mtime) * 10**9
    for version, stands in (("0" * 32, False), ("", False), (head.etag, True)):
        there = FileThere(head.size, head.modified, version=version) if version else None
        try:
            store.bring(SENTINEL, sentinel, mtime=mtime, instead_of=there, conditional=True)
            written = True
        except Clash:
            written = False
        except Exception as error:  # noqa: BLE001 - a server that knows no conditions may say anything
            log.info("%s knows no conditions: %s", store.bucket.address, error)
            return False
        if written is not stands:
            return False
    return True


@lru_cache(maxsize=8)
def _open(scheme: str, bucket: str, given: frozenset[tuple[str, str]], pid: int) -> Bucket:
    address = Address(scheme, bucket)
    return Bucket(address, access.connect(address, given=dict(given)))
