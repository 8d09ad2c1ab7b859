"""A folder of a bucket, seen past everything of ours: by obstore alone, with the methods of a path that tests use."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from buckets_server import Server


@lru_cache(maxsize=64)
def _opened(server: Server, bucket: str) -> Any:
    return server.store(bucket)


@lru_cache(maxsize=100_000)
def _sum(server: Server, bucket: str, key: str, etag: str) -> str:
    """Read an object that has this ETag, and say what it holds."""
    return hashlib.sha256(bytes(_opened(server, bucket).get(key).bytes())).hexdigest()


@dataclass(frozen=True)
class BucketFolder:
    """A key of a bucket, and what lies below it.

    Parameters
    ----------
    server : Server
        Who keeps it.
    bucket, key : str
        Where.
    """

    server: Server
    bucket: str
    key: str

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def _objects(self) -> Any:
        return _opened(self.server, self.bucket)

    def joinpath(self, *parts: str) -> BucketFolder:
        """Return the key below this one."""
        return BucketFolder(self.server, self.bucket, "/".join(part for part in (self.key, *parts) if part))

    def __truediv__(self, name: object) -> BucketFolder:
        return self.joinpath(str(name))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def names(self) -> dict[str, str]:
        """Return all keys below this one, relative to it, and their ETags."""
        top = f"{self.key}/" if self.key else ""
        pages = self._objects.list(self.key or None)
        return {one["path"][len(top) :]: one["e_tag"] for page in pages for one in page if one["path"].startswith(top)}

    def read_bytes(self) -> bytes:
        """Read it."""
        return bytes(self._objects.get(self.key).bytes())

    def read_text(self) -> str:
        """Read it as text."""
        return self.read_bytes().decode()

    def write_bytes(self, data: bytes) -> None:
        """Write it."""
        self._objects.put(self.key, data)

    def write_text(self, text: str) -> None:
        """Write it as text."""
        self.write_bytes(text.encode())

    def mkdir(self, *, parents: bool = False) -> None:
        """Do nothing: a bucket needs no folders."""

    def unlink(self) -> None:
        """Delete it."""
        self._objects.delete(self.key)

    def exists(self) -> bool:
        """Whether it is there, as an object or as a folder that holds some."""
        try:
            self._objects.head(self.key)
        except FileNotFoundError:
            return bool(self.names())
        return True

    def glob(self, pattern: str) -> Iterator[BucketFolder]:
        """Yield what lies in this folder and fits."""
        yield from (self / name for name in self.names() if "/" not in name and fnmatch.fnmatch(name, pattern))

    def rglob(self, pattern: str) -> Iterator[BucketFolder]:
        """Yield what lies below this folder and fits."""
        yield from (self / name for name in self.names() if fnmatch.fnmatch(name.rpartition("/")[2], pattern))

    def relative_to(self, other: BucketFolder) -> str:
        """Return the key relative to that of another."""
        return self.key[len(other.key) + 1 :]

    def picture(self, left_out: tuple[bytes, ...]) -> dict[bytes, str]:
        """Return what `faults.kit.picture` returns of a folder; parts that begin with one of these are left out."""
        found: dict[bytes, str] = {}
        for name, etag in self.names().items():
            parts = name.encode().split(b"/")
            for n in range(1, len(parts)):
                if not any(part.startswith(left_out) for part in parts[:n]) or not left_out:
                    found[b"/".join(parts[:n])] = "folder"
            if not left_out or not any(part.startswith(left_out) for part in parts):
                try:
                    found[name.encode()] = _sum(self.server, self.bucket, (self / name).key, etag)
                except FileNotFoundError:
                    continue  # it went meanwhile
        return found
