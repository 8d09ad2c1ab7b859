"""Files are read as a whole or not at all: lease, read, check. To a folder of this machine they are copied so.

What is half-written `colab_magics.mirror.half_written` decides; it is not copied.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from . import half_written
from .lease import BUSY, Lease, Leases
from .scan import Entry, entry_of

CHUNK = 4 << 20
DONE, OPEN, CHANGED, GONE, OTHER, UNREADABLE = "done", "open", "changed", "gone", "other", "unreadable"


class Copied(NamedTuple):
    """How the copy of a file went: the outcome, the version, and whether it was closed."""

    outcome: str
    entry: Entry | None = None
    closed: bool = True
    why: str = ""


class SourceError(Exception):
    """A file here cannot be read; others can."""


class Changed(Exception):
    """A file was written while it was read."""


def copy(
    source: str,
    name: str,
    to: str,
    leases: Leases,
    *,
    open_since: float | None,
    modes: bool,
    urgent: bool,
    stubborn: bool = False,
) -> Copied:
    """Copy a file to a temporary name.

    Parameters
    ----------
    source, name : str
        The folder and the file in it.
    to : str
        The temporary file, which is made.
    leases : Leases
        Where to take leases.
    open_since : float or None
        When it was first found open for writing, seconds since the epoch.
    modes : bool
        Whether links and modes can be kept there.
    urgent : bool
        Whether logs that are open are copied at once.
    stubborn : bool, default False
        It changed each time it was copied: of a log what there is counts.

    Returns
    -------
    Copied
        ``done``: the temporary file is whole. In every other case there is none: ``open`` for writing, ``changed``
        meanwhile, ``gone``, ``other`` (a socket or the like), ``unreadable``.

    Raises
    ------
    OSError
        When the temporary file could not be written.
    """

    def copied(fd: int, before: os.stat_result, lease: Lease) -> Copied:
        try:
            return _whole(fd, before, to, name, leases, lease, modes)
        except SourceError as error:
            _drop(to)
            return Copied(UNREADABLE, why=str(error))
        except OSError:
            _drop(to)
            raise

    path = os.path.join(source, name)
    hold = _Hold(name, leases, open_since, urgent, stubborn)
    return hold.on(path, copied, link=lambda: _link(path, to) if modes else Copied(OTHER))


def read(
    source: str,
    name: str,
    leases: Leases,
    take: Callable[[Iterator[bytes], os.stat_result], None],
    *,
    open_since: float | None,
    urgent: bool,
    stubborn: bool = False,
) -> Copied:
    """Read a file as a whole; see `copy`, whose outcomes are the same.

    Parameters
    ----------
    source, name, leases, open_since, urgent, stubborn
        See `copy`.
    take : callable
        Is called with the pieces of the file, each of `CHUNK` bytes at most, and its looks. The pieces end with
        `Changed` instead of the end when somebody wrote the file meanwhile, so that what takes them must not be
        published before they have ended.
    """

    def taken(fd: int, before: os.stat_result, lease: Lease) -> Copied:
        try:
            take(_pieces(fd, before, name, leases, lease), before)
        except Changed:
            return Copied(CHANGED, entry_of(os.fstat(fd)))
        except SourceError as error:
            return Copied(UNREADABLE, why=str(error))
        return Copied(DONE, entry_of(before), closed=lease.answer != BUSY)

    hold = _Hold(name, leases, open_since, urgent, stubborn)
    return hold.on(os.path.join(source, name), taken, link=lambda: Copied(OTHER))


def _pieces(fd: int, before: os.stat_result, name: str, leases: Leases, lease: Lease) -> Iterator[bytes]:
    at = 0
    while at < before.st_size and not lease.broken:
        try:
            data = os.pread(fd, min(CHUNK, before.st_size - at), at)
        except OSError as error:
            raise SourceError(error.strerror) from error
        if not data:
            break
        at += len(data)
        yield data
    if at != before.st_size or half_written.was(name, fd, before, os.fstat(fd), lease, leases):
        raise Changed(name)


class _Hold(NamedTuple):
    """A file, held while it is copied."""

    name: str
    leases: Leases
    open_since: float | None
    urgent: bool
    stubborn: bool

    def on(
        self, path: str, act: Callable[[int, os.stat_result, Lease], Copied], *, link: Callable[[], Copied]
    ) -> Copied:
        """Open a file and let `act` copy it, unless it may be half-written; `link` is asked for links."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ELOOP:
                return link()
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return Copied(GONE)
            if error.errno == errno.ENXIO:  # a socket
                return Copied(OTHER)
            return Copied(UNREADABLE, why=error.strerror or str(error))
        try:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                return Copied(OTHER)
            wanted = not (self.stubborn and half_written.is_log(self.name, fd, before.st_size))
            with self.leases.on(fd, wanted=wanted) as lease:
                since, urgent = self.open_since, self.urgent
                if not self.stubborn and half_written.is_now(self.name, fd, before, lease, since=since, urgent=urgent):
                    return Copied(OPEN, entry_of(before))
                return act(fd, before, lease)
        finally:
            os.close(fd)


def resting(source: str, name: str, leases: Leases, *, links: bool, open_since: float | None, urgent: bool) -> Copied:
    """Say whether a file may be copied now; see `copy`. A link may, where `links` can be kept."""
    path = os.path.join(source, name)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Copied(GONE)
    except OSError as error:
        if error.errno == errno.ELOOP and links:
            return Copied(DONE, entry_of(os.lstat(path)))
        gone = error.errno == errno.ENOTDIR
        return Copied(GONE if gone else OTHER if error.errno in (errno.ENXIO, errno.ELOOP) else UNREADABLE)
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            return Copied(OTHER)
        with leases.on(fd) as lease:
            if half_written.is_now(name, fd, seen, lease, since=open_since, urgent=urgent):
                return Copied(OPEN, entry_of(seen))
            return Copied(DONE, entry_of(seen), closed=lease.answer != BUSY)
    finally:
        os.close(fd)


def _whole(fd: int, before: os.stat_result, to: str, name: str, leases: Leases, lease: Lease, modes: bool) -> Copied:
    """Copy an open file and make sure that nobody wrote it meanwhile."""
    size, at = before.st_size, 0
    sparse = modes and before.st_blocks * 512 < size
    end = 0 if sparse else size
    # Never more rights than the source, not while it is written either.
    out = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, before.st_mode & 0o777)
    try:
        while at < size:
            if lease.broken:
                break
            if at >= end:
                at, end = _next_data(fd, at, size)
                os.lseek(out, at, os.SEEK_SET)
                continue
            count = _piece(fd, out, at, min(CHUNK, end - at))
            if count == 0:
                break
            at += count
        if sparse and at == size:
            os.ftruncate(out, size)
        if modes:
            os.fchmod(out, stat.S_IMODE(before.st_mode) & 0o777)
    finally:
        # Drive tells only here that the disk is full.
        os.close(out)
    after = os.fstat(fd)
    if at != size or half_written.was(name, fd, before, after, lease, leases):
        _drop(to)
        return Copied(CHANGED, entry_of(after))
    os.utime(to, ns=(before.st_atime_ns, before.st_mtime_ns))
    return Copied(DONE, entry_of(before), closed=lease.answer != BUSY)


def _next_data(fd: int, at: int, size: int) -> tuple[int, int]:
    """Return where data begin behind a hole, and where the next hole does."""
    try:
        start = os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            return at, size  # holes cannot be asked for here
        return size, size
    if start >= size:
        return size, size
    return start, min(size, os.lseek(fd, start, os.SEEK_HOLE))


def _piece(fd: int, out: int, at: int, count: int) -> int:
    """Copy a piece; whose fault an error is decides what to do about it."""
    try:
        return os.sendfile(out, fd, at, count)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EIO, errno.EOVERFLOW):
            raise
    try:
        data = os.pread(fd, count, at)
    except OSError as error:
        raise SourceError(error.strerror) from error
    written = 0
    while written < len(data):
        written += os.pwrite(out, data[written:], at + written)
    os.lseek(out, at + written, os.SEEK_SET)
    return written


def _link(path: str, to: str) -> Copied:
    try:
        seen, target = os.lstat(path), os.readlink(path)
    except FileNotFoundError:
        return Copied(GONE)
    os.symlink(target, to)
    os.utime(to, ns=(seen.st_atime_ns, seen.st_mtime_ns), follow_symlinks=False)
    return Copied(DONE, entry_of(seen))


def _drop(to: str) -> None:
    try:
        os.unlink(to)
    except FileNotFoundError:
        return
