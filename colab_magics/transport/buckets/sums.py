"""Whether a file and an object have the same content: checksums, also of what went in parts."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import plain

if TYPE_CHECKING:
    from .files import Head

PART = 8 << 20
"""Bytes of a part of a large upload; a file of at most so many goes in one request."""
_MOST_PARTS = 9000
_PARTS_OF_OTHERS = (5 << 20, 8 << 20, 15 << 20, 16 << 20, 32 << 20, 50 << 20, 64 << 20, 100 << 20, 128 << 20)
"""Of obstore, rclone, aws, and those that people set."""
_BLOCK = 1 << 20


def part_size(size: int) -> int:
    """Return the size of the parts in which a file of a size goes, in bytes."""
    return max(PART, -(-size // _MOST_PARTS // _BLOCK) * _BLOCK)


@dataclass
class Sums:
    """What the checksum of an object can be held against while its bytes pass.

    Parameters
    ----------
    etag : str
        The object's: MD5 of the whole, or that of its parts' MD5 with their number (``hex32-N``).
    size : int
        Its bytes.
    """

    etag: str
    size: int
    _sums: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in parts_that_fit(self.etag, self.size):
            self._sums[part] = _InParts(part) if part else hashlib.md5(usedforsecurity=False)

    @property
    def known(self) -> bool:
        """Whether there is anything to hold against the bytes."""
        return bool(self._sums)

    @property
    def decides(self) -> bool:
        """Whether bytes that do not fit are others, for certain: else hashing them as they pass proves nothing."""
        return 0 in self._sums

    def add(self, data: Any) -> None:
        """Take bytes that pass."""
        for one in self._sums.values():
            one.update(data)

    def fit(self) -> bool:
        """Whether the bytes are those of the object, for certain."""
        return any(one.hexdigest() == self.etag.lower() for one in self._sums.values())

    def differ(self) -> bool:
        """Whether the bytes are not those of the object, for certain.

        An ETag of parts whose size is a guess proves equality alone. One that looks like MD5 is something else where
        the store encrypts with a key of somebody's: see `buckets.etag_is_checksum`.
        """
        return self.decides and not self.fit()


def parts_that_fit(etag: str, size: int) -> list[int]:
    """Return sizes of parts with which an object's ETag may have been made; 0 is the whole; none: it is no checksum."""
    if re.fullmatch(r"[0-9a-fA-F]{32}", etag):
        return [0]
    found = re.fullmatch(r"[0-9a-fA-F]{32}-(\d{1,5})", etag)
    if found is None:
        return []
    number = int(found[1])
    likely = dict.fromkeys((part_size(size), *_PARTS_OF_OTHERS))
    return [part for part in likely if max(1, -(-size // part)) == number]


class _InParts:
    """MD5 of the MD5 of parts, as S3 has it."""

    def __init__(self, part: int) -> None:
        self._part, self._in, self._done = part, 0, b""
        self._number, self._now = 0, hashlib.md5(usedforsecurity=False)

    def update(self, data: Any) -> None:
        view = memoryview(data).cast("B")
        while len(view):
            take = view[: self._part - self._in]
            self._now.update(take)
            self._in += len(take)
            view = view[len(take) :]
            if self._in == self._part:
                self._end()

    def _end(self) -> None:
        self._done, self._number = self._done + self._now.digest(), self._number + 1
        self._now, self._in = hashlib.md5(usedforsecurity=False), 0

    def hexdigest(self) -> str:
        if self._in or not self._number:
            self._end()
        return f"{hashlib.md5(self._done, usedforsecurity=False).hexdigest()}-{self._number}"


def same(
    file: Path,
    size: int,
    etag: str,
    more: Callable[[], Head | None],
    counts: Callable[[], bool] = lambda: True,
) -> bool:
    """Whether a file and an object have the same content.

    The size decides first, then the checksum: an ETag that is MD5, or that of parts of a size that fits; else what
    rclone has written of large files (``md5chksum``); else the time in the metadata.

    Parameters
    ----------
    file : Path
        A file here.
    size, etag : int, str
        The object's, as a listing has them.
    more : callable
        Looks at the object (`head`); called only where its metadata are needed.
    counts : callable
        Whether the ETag is a checksum (`buckets.etag_is_checksum`); called only where size and time are the same and it
        is not.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    here = os.stat(file, follow_symlinks=False)
    if not stat.S_ISREG(here.st_mode) or here.st_size != size:
        return False
    sums = Sums(etag, size)
    if sums.known:
        _pass(file, sums)
        if sums.fit():
            return True
    there = more()
    if there is None or there.etag != etag:
        return False
    same_time = there.mtime is not None and abs(there.mtime - here.st_mtime_ns / 1e9) < 1e-3
    if sums.differ():
        return same_time and not counts()
    if written := there.metadata.get("md5chksum"):
        sums = Sums(_hexadecimal(written), size)
        if sums.known:
            _pass(file, sums)
            return sums.fit()
    return same_time


def _pass(file: Path, sums: Sums) -> None:
    with open(file, "rb", opener=plain) as stream:
        while data := stream.read(_BLOCK):
            sums.add(data)


def _hexadecimal(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).hex()
    except ValueError:
        return ""
