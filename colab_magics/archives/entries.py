"""What an archive holds, one entry after the other, whichever kind of archive it is. Stands alone: shipped to hosts."""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import os
import re
import stat
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import IO, Any, NamedTuple

from ..errors import InvalidInput, Unavailable

FILE, FOLDER, LINK, SAME = "file", "folder", "link", "same"
_MAGIC = {b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}
_MAGIC[b"\x28\xb5\x2f\xfd"] = "zst"
_OTHERS = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!": "rar"}
_ENDING = re.compile(r"(\.tar)?\.(gz|bz2|xz|zst)$|\.(tar|tgz|tbz2?|txz|tzst|zip)$", re.IGNORECASE)
_OF_TAR = re.compile(r"\.(tar|tgz|tbz2?|txz|tzst)$|\.tar\.\w+$", re.IGNORECASE)
_DOS, _ENCRYPTED, _LEAST_HEADER, _LONGEST_LINK = 0, 1, 30, 4096
KNOWN = "zip, tar, tar.gz, tar.bz2, tar.xz, tar.zst, gz, bz2, xz, zst"

DAMAGED = (
    EOFError,
    OverflowError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
)
"""What readers raise for archives that end early or were never whole."""


class Entry(NamedTuple):
    """One thing in an archive.

    Parameters
    ----------
    name : str
        Its path as the archive says it: nothing is checked yet.
    kind : str
        `FILE`, `FOLDER`, `LINK` (symbolic), `SAME` (a file that was there before, under another name).
    mode : int
        Its rights; 0 where the archive has none.
    mtime : float
        When it was changed last, in seconds since the epoch; 0 where the archive does not say.
    to : str
        Where a link leads, or which file it is.
    data : file object or None
        What a file holds, to be read before the next entry.
    """

    name: str
    kind: str
    mode: int = 0
    mtime: float = 0.0
    to: str = ""
    data: Any = None


def looks_like_one(name: str) -> bool:
    """Whether a file is an archive by its name."""
    return _ENDING.search(name) is not None


def stem(name: str) -> str:
    """Return an archive's name without the endings that make it one: ``x.tar.gz`` and ``x.zip`` are both ``x``."""
    return _ENDING.sub("", name) or name


def kind_of(path: str) -> str:
    """Return what a file is by its first bytes: ``zip``, ``tar``, ``gz``, ``bz2``, ``xz``, ``zst``; empty for others.

    Raises
    ------
    Unavailable
        For kinds that other programs unpack.
    """
    with open(path, "rb") as stream:
        head = stream.read(512)
    for magic, kind in _OTHERS.items():
        if head.startswith(magic):
            raise Unavailable(
                f"{os.path.basename(path)} is a {kind} archive, which Python does not read.",
                "Unpack it by its own program: apt-get install p7zip-full, then 7z x FILE.",
            )
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    return "tar" if _is_tar(head, os.path.basename(path)) else ""


def _is_tar(head: bytes, name: str) -> bool:
    # Old tars carry no mark: their name has to do.
    return head[257:262] == b"ustar" or (len(head) == 512 and _OF_TAR.search(name) is not None)


@contextmanager
def opened(path: str) -> Iterator[tuple[Iterator[Entry], int]]:
    """Open an archive: yields its entries, and how many bytes they say they hold (0 where only reading tells).

    Raises
    ------
    InvalidInput
        When it is none, or one that has entries within each other.
    Unavailable
        When this Python cannot read it.
    """
    kind = kind_of(path)
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            infos = _sound(archive, path)
            with closing(_of_zip(archive, infos)) as found:
                yield found, sum(info.file_size for info in infos)
        return
    with _plain(path, kind) as stream:
        head = _Ahead(stream)
        if _is_tar(head.start, os.path.basename(path)):
            # As a stream: nothing in it can send the reader back and forth.
            with ExitStack() as stack:
                tar = stack.enter_context(tarfile.open(fileobj=head, mode="r|"))  # type: ignore[call-overload]
                yield stack.enter_context(closing(_of_tar(tar))), 0
        else:
            yield iter([Entry(stem(os.path.basename(path)), FILE, data=head)]), 0


def is_single(path: str) -> bool:
    """Whether what it holds is one file without a name: ``x.csv.gz``."""
    kind = kind_of(path)
    if kind in ("", "zip", "tar"):
        return False
    with _plain(path, kind) as stream:
        return not _is_tar(_Ahead(stream).start, os.path.basename(path))


@contextmanager
def _plain(path: str, kind: str) -> Iterator[IO[bytes]]:
    openers: dict[str, Any] = {"tar": open, "gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
    with _zst(path) if kind == "zst" else openers[kind](path, "rb") as stream:
        yield stream


def _zst(path: str) -> Any:
    """Open a file of zstd: Python knows it from 3.14 on."""
    for module in ("compression.zstd", "backports.zstd", "zstandard"):
        try:
            return importlib.import_module(module).open(path, "rb")
        except ImportError:
            continue
    raise Unavailable(
        f"{os.path.basename(path)} is packed by zstd, which Python {sys.version_info[0]}.{sys.version_info[1]} does "
        "not read by itself.",
        "pip install zstandard, then say it again.",
    )


class _Ahead:
    """A stream whose first bytes were read already, and are read again."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.start = stream, b""
        while len(self.start) < 512 and (more := stream.read(512 - len(self.start))):
            self.start += more
        self._left = self.start

    def read(self, size: int = -1) -> bytes:
        if not self._left:
            return self._stream.read(size)
        data, self._left = (self._left, b"") if size < 0 else (self._left[:size], self._left[size:])
        return data + self._stream.read() if size < 0 else data


def _sound(archive: zipfile.ZipFile, path: str) -> list[zipfile.ZipInfo]:
    """Return the entries of a zip that share no bytes with each other: a small file could hold any amount so."""
    infos = archive.infolist()
    name = os.path.basename(path)
    by_place = sorted(infos, key=lambda info: info.header_offset)
    end = 0
    for info in by_place:
        if info.header_offset < end:
            raise InvalidInput(f"{name} is crafted: {info.filename!r} lies within another entry.", "Do not use it.")
        end = info.header_offset + _LEAST_HEADER + info.compress_size
        if info.flag_bits & _ENCRYPTED:
            raise Unavailable(f"{name} is locked by a password.", f"Unpack it in a terminal: unzip {name}")
    seen: set[str] = set()
    for info in infos:
        if info.filename in seen:
            raise InvalidInput(f"{name} holds {info.filename!r} twice.", "Ask who made it which of both is meant.")
        seen.add(info.filename)
    return infos


def _of_zip(archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> Generator[Entry, None, None]:
    for info in infos:
        mode, name = info.external_attr >> 16, info.filename
        if info.create_system == _DOS and "/" not in name:
            name = name.replace("\\", "/")  # some programs of Windows write their own separator
        if name.endswith("/"):
            yield Entry(name, FOLDER, mode & 0o777)
            continue
        with archive.open(info) as data:
            if stat.S_ISLNK(mode):
                yield Entry(name, LINK, to=os.fsdecode(data.read(_LONGEST_LINK)))
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                yield Entry(name, "device")
            else:
                yield Entry(name, FILE, mode & 0o777, _time_of(info), data=data)


def _time_of(info: zipfile.ZipInfo) -> float:
    try:
        return time.mktime((*info.date_time, 0, 0, -1))
    except (ValueError, OverflowError):
        return 0.0


def _of_tar(tar: tarfile.TarFile) -> Generator[Entry, None, None]:
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # else it keeps all of them, and there may be millions
        if member.isdir():
            yield Entry(member.name, FOLDER, member.mode & 0o777)
        elif member.issym():
            yield Entry(member.name, LINK, to=member.linkname)
        elif member.islnk():
            yield Entry(member.name, SAME, to=member.linkname)
        elif member.isreg():
            yield Entry(member.name, FILE, member.mode & 0o777, float(member.mtime), data=tar.extractfile(member))
        else:
            yield Entry(member.name, "device")
