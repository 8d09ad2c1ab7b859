"""A folder of a bucket as a store. An object shows when its last byte has arrived: nobody sees half a file.

A file's time stands in the metadata of its object, as rclone writes it (``mtime``); a listing does not tell it, so that
only what is in doubt is asked for. Links and modes are not kept, and an empty folder is an object named `FOLDER` in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import ColabMagicsError, CommandFailed, NotFound
from ..buckets import access
from ..buckets import files as bucket_files
from ..buckets.errors import explain
from .listed_store import FOLDER, ListedStore
from .store import FileThere, There

if TYPE_CHECKING:
    from ..buckets.access import Address

AT_ONCE = 16
"""Requests under way at a time."""
LARGEST_COPY = 5 << 30
"""What is larger S3 does not copy by one request; bytes."""
_SHARE = 10
"""A page of a listing costs as much as looking at so many objects, as those are looked at `AT_ONCE`."""

Result = TypeVar("Result")


@dataclass
class Bucket:
    """A bucket that is open.

    Parameters
    ----------
    address : Address
        The bucket.
    objects : obstore store
        See `buckets.connect`.
    """

    address: Address
    objects: Any
    conditional: bool | None = None
    """Whether it obeys a condition on what it replaces; None as long as nobody knows."""


class Clash(Exception):
    """Something else stands at the Place than what was taken for granted."""


class BucketStore(ListedStore):
    """What can be done below a key of a bucket.

    Parameters
    ----------
    bucket : Bucket
        The bucket.
    prefix : str
        The key; empty for all of the bucket.
    """

    def __init__(self, bucket: Bucket, prefix: str = "") -> None:
        super().__init__()
        self.bucket, self.prefix = bucket, prefix
        self.objects = bucket.objects

    def key(self, name: str) -> str:
        """Return the key of a file."""
        return f"{self.prefix}/{name}" if self.prefix else name

    # ── listing and comparing ─────────────────────────────────────────────────────────────────────────────────────

    def listing(self, below: str = "", *, exactly: bool = False) -> Iterator[There]:
        """Yield what is there, by the order of the keys; times are those of the upload.

        Parameters
        ----------
        below : str
            Only this folder; with `exactly` also a file of that name.
        exactly : bool, default False
            See `below`.
        """
        top = f"{self.prefix}/" if self.prefix else ""
        start = f"{top}{below}/" if below and not exactly else f"{top}{below}"
        for one in access.keys_below(self.objects, self.bucket.address, start):
            name = one.key[len(top) :]
            if exactly and name != below and not name.startswith(f"{below}/"):
                continue
            if name.endswith("/") and not one.size:
                name += FOLDER  # as others write empty folders
            if why := access.odd(name):
                self.leave_out(name, why)
                continue
            yield There(name, False, False, one.size, one.modified, version=one.etag)

    def times(self, names: Sequence[str]) -> Mapping[str, float]:
        heads = self._each(names, lambda name: bucket_files.head(self.objects, self.key(name)))
        return {name: one.mtime for name, one in heads.items() if one is not None and one.mtime is not None}

    def look(self, names: Sequence[str]) -> dict[str, FileThere]:
        listed = self._listed(names)
        heads = self._each(names if listed is None else [name for name in names if name in listed], self._head)
        return {name: found for name, found in heads.items() if found is not None}

    def _head(self, name: str) -> FileThere | None:
        if access.odd(name):
            return None
        found = bucket_files.head(self.objects, self.key(name))
        if found is None:
            return None
        return FileThere(found.size, found.modified if found.mtime is None else found.mtime, version=found.etag)

    def _listed(self, names: Sequence[str]) -> set[str] | None:
        """Return what is there of many names, when a listing tells it sooner than looking at each."""
        most = len(names) // _SHARE
        if not most:
            return None
        top = os.path.commonpath([os.path.dirname(name) for name in names])
        found = set()
        for number, one in enumerate(self.listing(top)):
            if number >= most * 1000:
                return None
            found.add(one.name)
        return found

    def below(self, folder: str) -> dict[str, int]:
        return {one.name: one.size for one in self.listing(folder)}

    def tops(self) -> list[str]:
        """List the names at the top: each costs one request, whatever it holds."""
        found: list[str] = []
        top, after = (f"{self.prefix}/" if self.prefix else ""), ""
        while True:
            page = access.keys_below(self.objects, self.bucket.address, top, after=after, most=1)
            key = next((one.key for one in page), None)
            if key is None:
                return found
            first, slash, _ = key[len(top) :].partition("/")
            found += [first] if first else []
            after = f"{top}{first}/\U0010ffff" if slash else key

    # ── bringing and fetching ─────────────────────────────────────────────────────────────────────────────────────

    def fetch(self, into: Path, names: Sequence[str], *, flags: Sequence[str] = ()) -> Mapping[str, float]:
        failed: dict[str, str] = {}

        def bring(name: str) -> float | None:
            try:
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                got = bucket_files.get_file(self.objects, self.key(name), into / name)
            except NotFound:
                return None  # it went away meanwhile
            except OSError as error:
                failed[name] = f"{error.strerror or error}: {into / name}"
                return None
            return got.modified if got.mtime is None else got.mtime

        times = self._each(names, bring)
        if None in times.values():
            next(self.listing(), None)  # raises when it is the bucket that went
        if failed:
            some = "\n".join(list(failed.values())[:3])
            more = f" … and {len(failed) - 3} more" if len(failed) > 3 else ""
            raise CommandFailed(some + more, returncode=1, output=some)
        return {name: time for name, time in times.items() if time is not None}

    def odd(self, name: str) -> str:
        return access.odd(self.key(name))

    def take(self, source: Path, names: Sequence[str], *, aside: str) -> None:
        self.refuse_odd(names)
        self._each(names, lambda name: bucket_files.put_file(self.objects, self.key(name), source / name))

    def bring(
        self,
        name: str,
        data: bytes | Iterator[bytes],
        *,
        mtime: int,
        instead_of: FileThere | None = None,
        conditional: bool = False,
    ) -> str:
        """Bring a file; what was there is replaced when all of it has come.

        Parameters
        ----------
        name : str
            The file.
        data : bytes or iterator of bytes
            What it holds. When the iterator raises, nothing is published.
        mtime : int
            When it was written, nanoseconds.
        instead_of : FileThere, optional
            What is there, as far as is known.
        conditional : bool, default False
            Only if that is so, and only with bytes.

        Returns
        -------
        str
            What the bucket calls this version.

        Raises
        ------
        Clash
            When something else is there.
        """
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        words: dict[str, Any] = {"attributes": {bucket_files.MTIME: bucket_files.write_time(mtime)}}
        if conditional and instead_of is not None:
            words["mode"] = {"e_tag": f'"{instead_of.version}"'}
        elif conditional:
            words["mode"] = "create"
        words["use_multipart"] = not isinstance(data, bytes)
        if words["use_multipart"]:
            words |= {"chunk_size": bucket_files.PART, "max_concurrency": 4}
        try:
            done = self.objects.put(self.key(name), data, **words)
        except (AlreadyExistsError, PreconditionError):
            raise Clash(name) from None
        except (BaseError, FileNotFoundError, PermissionError) as error:
            raise explain(error, f"writing {self.key(name)}") from error
        return (done["e_tag"] or "").strip('"')

    def copy(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Copy files within the folder; returns those that were there."""
        return [old for old, done in self._each([old for old, _ in pairs], self._copier(dict(pairs))).items() if done]

    def _copier(self, targets: Mapping[str, str]) -> Callable[[str], bool]:
        def copy(old: str) -> bool:
            source, target = self.key(old), self.key(targets[old])
            try:
                found = bucket_files.head(self.objects, source)
                if found is None:
                    return False
                if found.size < LARGEST_COPY:
                    self.objects.copy(source, target)
                else:
                    got = self.objects.get(source)
                    size = bucket_files.part_size(found.size)
                    told = {name: text for name, text in found.metadata.items() if name == bucket_files.MTIME}
                    self.objects.put(target, got.stream(min_chunk_size=size), attributes=told, chunk_size=size)
            except Exception as error:
                raise explain(error, f"copying {source}") from error
            return True

        return copy

    def move(self, pairs: Sequence[tuple[str, str]], *, aside: str) -> None:
        self.erase(self.copy(pairs))

    def erase(self, names: Sequence[str], *, truncate: bool = False) -> None:
        if names and (failed := access.delete(self.objects, self.bucket.address, [self.key(name) for name in names])):
            key, why = next(iter(failed.items()))
            raise CommandFailed(f"{len(failed)} objects could not be deleted, such as {key}: {why}")

    def make_folders(self, names: Sequence[str]) -> None:
        self._each([f"{name}/{FOLDER}" for name in names if not access.odd(name)], lambda name: self.put(name, b""))

    def drop_folders(self, names: Sequence[str]) -> None:
        self.erase([f"{name}/{FOLDER}" for name in names if not access.odd(name)])

    def set_rights(self, folders: Mapping[str, int], *, less: bool) -> list[str]:
        return []

    def get(self, name: str) -> bytes | None:
        try:
            return bytes(self.objects.get(self.key(name)).bytes())
        except FileNotFoundError:
            return None
        except Exception as error:
            raise explain(error, f"reading {self.key(name)}") from error

    def put(self, name: str, data: bytes) -> None:
        try:
            self.objects.put(self.key(name), data, use_multipart=False)
        except Exception as error:
            raise explain(error, f"writing {self.key(name)}") from error

    def free(self) -> int | None:
        return None

    def _each(self, items: Sequence[str], act: Callable[[str], Result]) -> dict[str, Result]:
        """Do something with many, several at a time; the first error ends it."""
        if not items:
            return {}
        with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
            try:
                return dict(zip(items, pool.map(act, items), strict=True))
            except (ColabMagicsError, OSError):
                pool.shutdown(cancel_futures=True)
                raise
