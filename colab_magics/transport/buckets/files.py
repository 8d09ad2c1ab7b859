"""Single files and objects: brought up or down as a whole, with their times, and compared.

A file's time stands in the object's metadata as rclone writes it: ``mtime``, seconds since the epoch with a fraction.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import Busy, Unavailable
from ...files import plain
from ..places.store import TEMPORARY
from .access import etag_is_checksum
from .errors import explain
from .sums import PART, Sums, part_size, parts_that_fit, same

if TYPE_CHECKING:
    from .access import Store

__all__ = [
    "PART",
    "Head",
    "Sums",
    "get_file",
    "head",
    "part_size",
    "parts_that_fit",
    "put_file",
    "read_time",
    "same",
    "write_time",
]
MTIME = "mtime"
_AT_ONCE = 6
_BLOCK = 1 << 20
Count = Callable[[int], None]


def _uncounted(size: int) -> None:
    """Nobody counts."""


class Head(NamedTuple):
    """An object: `mtime` is its file's time, where its metadata says one; `modified` when it came to the store."""

    key: str
    size: int
    etag: str
    modified: float
    mtime: float | None = None
    metadata: Mapping[str, str] = {}


def head(store: Store, key: str) -> Head | None:
    """Look at an object, its metadata included; None when it is not there.

    Raises
    ------
    ColabMagicsError
        When the store refuses: "may not" is not "absent".
    """
    try:
        return _head(key, store.get(key, options={"head": True}))
    except FileNotFoundError:
        return None
    except Exception as error:
        raise explain(error, f"looking at {key}") from error


def _head(key: str, got: Any) -> Head:
    meta, attributes = got.meta, {name.lower(): value for name, value in got.attributes.items()}
    etag = (meta["e_tag"] or "").strip('"')
    return Head(key, meta["size"], etag, meta["last_modified"].timestamp(), read_time(attributes), attributes)


def read_time(metadata: Mapping[str, str]) -> float | None:
    """Return the time that stands in an object's metadata, in seconds; None without one that can be right."""
    text = metadata.get(MTIME, "")
    seconds = float(text) if re.fullmatch(r"-?\d{1,11}(\.\d{1,12})?", text) else None
    return seconds


def write_time(nanoseconds: int) -> str:
    """Write a time for an object's metadata: decimal seconds, as exact as the file system has it."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{seconds}.{rest:09d}".rstrip("0").rstrip(".")


def put_file(
    store: Store, key: str, file: Path, *, metadata: Mapping[str, str] | None = None, count: Count = _uncounted
) -> Head:
    """Bring a file to a bucket as a whole, or not at all.

    Large files go in parts (`part_size`) from an iterator. Measured with obstore 0.12 against rclone, moto and Ceph:
    when an iterator given to ``obstore.put(..., use_multipart=True)`` raises, after whatever number of parts, that very
    error comes out of ``put``, the upload is aborted at the server (no parts are left), and nothing is published: an
    object that stood there stays as it was. So content is checked after its last block, and before it is published.
    A process that is killed leaves parts that nobody sees but may pay for; a rule of the bucket's life cycle ends them.

    Parameters
    ----------
    store : obstore store
        See `buckets.connect`.
    key : str
        The object's full key.
    file : Path
        A plain file; not through a link.
    metadata : mapping, optional
        Further metadata of the object.
    count : callable
        Is told how many bytes were read since it was told last.

    Returns
    -------
    Head
        What stands there now.

    Raises
    ------
    Busy
        When the file changed while it was read; the object is as it was.
    OSError
        When the file cannot be read.
    ColabMagicsError
        What the store says, see `explain`.
    """
    with open(file, "rb", opener=plain) as stream:
        before = os.fstat(stream.fileno())
        attributes = {**(metadata or {}), MTIME: write_time(before.st_mtime_ns)}

        def blocks(size: int) -> Iterator[bytes]:
            read = 0
            # Never more than the file had: one that grows would be read for ever.
            while data := stream.read(min(size, before.st_size - read)):
                read += len(data)
                count(len(data))
                yield data
            now = os.stat(file, follow_symlinks=False)
            as_before = (now.st_size, now.st_mtime_ns, now.st_ino) == (
                before.st_size,
                before.st_mtime_ns,
                before.st_ino,
            )
            if read != before.st_size or not as_before:
                raise Busy(f"{file.name} changed while it was read; there it is as it was.", "Say it again.")

        size = part_size(before.st_size)
        try:
            if before.st_size <= size:
                done = store.put(key, b"".join(blocks(size)), attributes=attributes, use_multipart=False)
            else:
                done = store.put(
                    key,
                    blocks(size),
                    attributes=attributes,
                    use_multipart=True,
                    chunk_size=size,
                    max_concurrency=_AT_ONCE,
                )
        except OSError as error:
            # obstore says "not found" in the same words as the file system.
            if error.errno is not None:
                raise
            raise explain(error, f"uploading {key}") from error
        except Exception as error:
            raise explain(error, f"uploading {key}") from error
    etag = (done["e_tag"] or "").strip('"')
    if not etag and (there := head(store, key)) is not None:
        return there  # Ceph says no checksum of what came in parts
    return Head(key, before.st_size, etag, 0.0, before.st_mtime_ns / 1e9, attributes)


def get_file(store: Store, key: str, file: Path, *, count: Count = _uncounted) -> Head:
    """Bring an object to a file: to a name of its own beside it, then renamed; with the time of its file.

    Parameters
    ----------
    store : obstore store
        See `buckets.connect`.
    key : str
        The object's full key.
    file : Path
        Where it comes to; the folder is there already. What stands there is replaced when all has come and fits.
    count : callable
        Is told how many bytes have come since it was told last.

    Returns
    -------
    Head
        The object.

    Raises
    ------
    Unavailable
        When what came is not what the store says that it has.
    OSError
        When the file cannot be written.
    ColabMagicsError
        What the store says, see `explain`.
    """
    try:
        got = store.get(key)
    except Exception as error:
        raise explain(error, f"downloading {key}") from error
    there = _head(key, got)
    waiting = file.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    try:
        handle = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with open(handle, "wb") as stream:  # buffered: a plain write may write a part alone
            sums = Sums(there.etag, there.size)
            for data in _blocks_of(got, key):
                stream.write(data)
                if sums.decides:
                    sums.add(data)
                count(len(data))
            size = stream.tell()
            stream.flush()
        if size != there.size or (sums.differ() and etag_is_checksum(store, key)):
            raise Unavailable(
                f"{key} came damaged ({size} bytes of {there.size}); nothing was changed.", "Say it again."
            )
        moment = _nanoseconds(there)
        with contextlib.suppress(OverflowError):
            os.utime(waiting, ns=(moment, moment))
        os.replace(waiting, file)
    except BaseException:
        waiting.unlink(missing_ok=True)
        raise
    return there


def _nanoseconds(there: Head) -> int:
    """Return a file's time as exactly as the metadata has it: a float is some hundred nanoseconds off."""
    if there.mtime is None:
        return int(there.modified * 1e9)
    whole, _, rest = there.metadata[MTIME].lstrip("-").partition(".")
    exact = int(whole) * 10**9 + int(rest.ljust(9, "0")[:9])
    return -exact if there.metadata[MTIME].startswith("-") else exact


def _blocks_of(got: Any, key: str) -> Iterator[Any]:
    try:
        for block in got.stream(min_chunk_size=_BLOCK):
            yield memoryview(block)
    except OSError:
        raise
    except Exception as error:
        raise explain(error, f"downloading {key}") from error
