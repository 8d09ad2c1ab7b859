"""Unpack archives that anybody may have made: nothing gets out of the folder, and no half looks whole.

Everything is written into a hidden folder beside the target, which gets its name when all of it is there. Links are
made last, so that no file is ever written through one. Stands alone: shipped to hosts.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import threading
from contextlib import suppress
from typing import NamedTuple

from ..errors import InvalidInput, Unavailable
from ..units import show_size
from .entries import DAMAGED, FILE, FOLDER, KNOWN, LINK, SAME, Entry, is_single, kind_of, opened, stem

TEMPORARY = ".~colab_magics.unpack-"
"""How the names of folders begin that are not whole; a sync leaves them out."""
CALM = 1_000_000_000
"""So many bytes are nobody's bomb, however small their archive is."""
RATIO = 100
ENTRIES = 2_000_000
_RESERVE = 64_000_000
_BLOCK = 1 << 20


class Unpacked(NamedTuple):
    """What became of an archive.

    Parameters
    ----------
    path : str
        The folder, or the file where the archive holds one without a name.
    files, size : int
        How many files were written, and their bytes; 0 when it was there already.
    new : bool
        Whether it was unpacked just now.
    """

    path: str
    files: int = 0
    size: int = 0
    new: bool = True


def target_of(path: str, to: str | None = None) -> str:
    """Return where an archive is unpacked to: ``x.zip`` to ``x`` beside it, or to what `to` says."""
    return to or os.path.join(os.path.dirname(path) or ".", stem(os.path.basename(path)))


def is_there(target: str) -> bool:
    """Whether something stands at a target already; an empty folder is nothing."""
    if not os.path.lexists(target):
        return False
    return os.path.islink(target) or not os.path.isdir(target) or bool(os.listdir(target))


def move_aside(target: str) -> str:
    """Give what stands at a target another name beside it, and return that."""
    number = 1
    while os.path.lexists(f"{target}.old{number}"):
        number += 1
    os.rename(target, f"{target}.old{number}")
    return f"{target}.old{number}"


def unpack(path: str, to: str | None = None, *, big: bool = False, stop: threading.Event | None = None) -> Unpacked:
    """Unpack an archive, if its target is not there.

    Parameters
    ----------
    path : str
        The archive.
    to : str, optional
        The folder that gets what it holds, or the file for ``x.csv.gz``; `target_of` by default. Of an archive that
        holds one folder alone, named like `to`, what is in that folder.
    big : bool, default False
        Unpack also what becomes `RATIO` times as big as the archive, or holds over `ENTRIES` entries.
    stop : threading.Event, optional
        Ends it when set.

    Raises
    ------
    InvalidInput
        When it is no archive, is damaged, or would write outside of its folder.
    Unavailable
        When the disk has no room, or this Python cannot read it.
    """
    if not kind_of(path):
        raise InvalidInput(f"{os.path.basename(path)} is no archive that can be unpacked.", f"Known: {KNOWN}.")
    target = os.path.abspath(target_of(path, to))
    if target == os.path.abspath(path):
        raise InvalidInput(f"{path} would be unpacked over itself.", "Say where to: to=FOLDER")
    if is_there(target):
        return Unpacked(target, new=False)
    above, name = os.path.split(target)
    os.makedirs(above, exist_ok=True)
    _sweep(above, name)
    work = os.path.join(above, f"{TEMPORARY}{_mark(name)}-{os.getpid()}-{threading.get_ident()}")
    os.mkdir(work, 0o700)
    held = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some mounts know no locks
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        writer = _Writer(work, path, big, stop)
        try:
            single = is_single(path)
            with opened(path) as (entries, announced):
                writer.expect(announced)
                for entry in entries:
                    writer.write(entry)
            writer.end()
        except (*DAMAGED, OSError, NotImplementedError, RuntimeError) as error:
            if isinstance(error, InvalidInput) or getattr(error, "errno", None) is not None:
                raise
            raise InvalidInput(
                f"{os.path.basename(path)} cannot be unpacked: {str(error).rstrip('.') or 'it ends early'}.",
                "It is damaged, or not what its name says; fetch it anew (%download URL --force).",
            ) from error
        return _publish(work, target, single, writer)
    finally:
        os.close(held)
        _remove(work)


def _mark(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:12]


def _sweep(above: str, name: str) -> None:
    """Take away what earlier attempts left that were killed."""
    for one in os.listdir(above):
        if not one.startswith(f"{TEMPORARY}{_mark(name)}-"):
            continue
        try:
            held = os.open(os.path.join(above, one), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(os.path.join(above, one))
        except OSError:
            continue  # somebody is at it
        finally:
            os.close(held)


def _remove(work: str) -> None:
    shutil.rmtree(work, ignore_errors=True)


def _publish(work: str, target: str, single: bool, writer: _Writer) -> Unpacked:
    source, names = work, os.listdir(work)
    if single or (len(names) == 1 and names[0] == os.path.basename(target) and not _is_link(work, names[0])):
        source = os.path.join(work, names[0])
    if source == work:
        os.chmod(work, 0o777 & ~_umask())
    try:
        if os.path.isdir(source):
            os.rename(source, target)  # an empty folder there gives way, any other does not
        else:
            os.link(source, target)
    except OSError:
        if is_there(target):  # somebody else was quicker
            return Unpacked(target, new=False)
        os.rename(source, target)
    return Unpacked(target, writer.files, writer.size)


def _is_link(folder: str, name: str) -> bool:
    return os.path.islink(os.path.join(folder, name))


def _umask() -> int:
    # The only way to read it, and not one for many threads, is to set it.
    try:
        with open("/proc/self/status") as stream:
            return next((int(line.split()[1], 8) for line in stream if line.startswith("Umask:")), 0o022)
    except OSError:
        return 0o022


class _Writer:
    """Writes entries below a folder that nobody else writes in."""

    def __init__(self, folder: str, path: str, big: bool, stop: threading.Event | None) -> None:
        self.files = self.size = self._entries = 0
        self._folder, self._big, self._stop = folder, big, stop
        self._archive, self._packed = os.path.basename(path), os.path.getsize(path)
        disk = shutil.disk_usage(folder)
        self._free = disk.free - min(_RESERVE, disk.total // 100)
        self._links: list[tuple[str, str]] = []
        self._umask = _umask()

    def expect(self, size: int) -> None:
        """Look whether so many bytes may come, and have room."""
        if size > self._free:
            raise Unavailable(
                f"{self._archive} becomes {show_size(size)} or more, and {show_size(max(self._free, 0))} are free.",
                "Free some space, or unpack it on another disk: to=FOLDER",
            )
        if size > CALM and size > RATIO * self._packed and not self._big:
            raise InvalidInput(
                f"{self._archive} ({show_size(self._packed)}) becomes over {RATIO} times as big: {show_size(size)} or "
                "more. Archives that are made to fill disks look so.",
                "If you know where it comes from: --big",
            )

    def write(self, entry: Entry) -> None:
        """Write one entry; links wait for the end."""
        self._entries += 1
        if self._entries > ENTRIES and not self._big:
            raise InvalidInput(
                f"{self._archive} holds over {ENTRIES:,} entries.", "If you know where it comes from: --big"
            )
        if self._stop is not None and self._stop.is_set():
            raise KeyboardInterrupt
        parts = self._parts(entry.name)
        path = os.path.join(self._folder, *parts)
        if entry.kind == FOLDER:
            self._make(path, entry)
            return
        if not parts:
            raise self._refused(entry, "has no name")
        if entry.kind not in (FILE, LINK, SAME):
            raise self._refused(entry, "is a device or a pipe")
        self._make(os.path.dirname(path), entry)
        if os.path.isdir(path):
            raise self._refused(entry, "is a folder and a file")
        if entry.kind == LINK:
            self._links.append((path, entry.to))
            return
        with suppress(FileNotFoundError):
            os.unlink(path)  # in a tar the later one of two counts
        if entry.kind == SAME:
            self._same(entry, path)
        else:
            self._file(entry, path)
        self.files += 1

    def _same(self, entry: Entry, path: str) -> None:
        other = os.path.join(self._folder, *self._parts(entry.to))
        if not os.path.isfile(other):
            raise self._refused(entry, f"is to be the file {entry.to!r}, which is not in it")
        os.link(other, path)

    def _file(self, entry: Entry, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        # Who may execute it is all that counts of its rights: no setuid, nothing that others may write.
        mode = (0o777 if entry.mode & 0o111 else 0o666) & ~self._umask
        handle = os.open(path, flags, mode)
        try:
            while data := entry.data.read(_BLOCK):
                self.size += len(data)
                self.expect(self.size)
                if self._stop is not None and self._stop.is_set():
                    raise KeyboardInterrupt
                view = memoryview(data)
                while view:
                    view = view[os.write(handle, view) :]
            if entry.mtime > 0:
                with suppress(OSError, OverflowError, ValueError):
                    os.utime(handle, (entry.mtime, entry.mtime))
        finally:
            os.close(handle)

    def _make(self, path: str, entry: Entry) -> None:
        try:
            os.makedirs(path, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise self._refused(entry, "lies in what is a file, or is one") from None

    def _parts(self, name: str) -> list[str]:
        """Return the parts of a path that stays below."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise InvalidInput(
                f"{self._archive} is refused: {name!r} leads out of the folder.",
                "Nothing of it was unpacked. Do not use it, or unpack by hand what you trust.",
            )
        return parts

    def _refused(self, entry: Entry, why: str) -> InvalidInput:
        return InvalidInput(
            f"{self._archive} is refused: {entry.name!r} {why}.",
            "Nothing of it was unpacked. Do not use it, or unpack by hand what you trust.",
        )

    def end(self) -> None:
        """Make the links, and look where each leads, also through others."""
        top = os.path.realpath(self._folder)
        for path, to in self._links:
            entry = Entry(os.path.relpath(path, self._folder), LINK)
            if not to or to.startswith("/") or "\0" in to:
                raise self._refused(entry, f"is a link to {to!r}")
            if os.path.lexists(path):
                if not os.path.islink(path):
                    raise self._refused(entry, "is a link and something else")
                os.unlink(path)
            os.symlink(to, path)
        for path, to in self._links:
            real = os.path.realpath(path)
            lexical = os.path.normpath(os.path.join(os.path.dirname(path), to))
            if not all(
                one == base or one.startswith(base + "/") for one, base in ((real, top), (lexical, self._folder))
            ):
                raise self._refused(Entry(os.path.relpath(path, self._folder), LINK), f"is a link to {to!r}")
        for folder, names, _ in os.walk(self._folder):
            for name in names:
                one = os.path.join(folder, name)
                if stat.S_ISDIR(os.lstat(one).st_mode):
                    os.chmod(one, 0o777 & ~self._umask)
