"""Copies of files to a folder of this machine, Drive among them: lease, temporary file, check; never a torn one."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from typing import NamedTuple

from .lease import BUSY, GRANTED, Lease, Leases
from .scan import Entry, entry_of

CHUNK = 4 << 20
DONE, OPEN, CHANGED, GONE, OTHER, UNREADABLE = "done", "open", "changed", "gone", "other", "unreadable"

LOG_SECONDS = 10.0
"""A log that is open for so long is copied as far as it goes."""
QUIET_SECONDS = 60.0
"""Any file that is open for writing, and was not written for so long, is copied as it is."""
_LOGS = re.compile(
    r"\.(log|txt|out|err|jsonl|ndjson|csv|tsv|md)(\.\d+)?$|\.tfevents\.|(^|/)(stdout|stderr|nohup)[^/]*$", re.IGNORECASE
)


class Copied(NamedTuple):
    """How the copy of a file went: the outcome, the version, and whether it was closed."""

    outcome: str
    entry: Entry | None = None
    closed: bool = True
    why: str = ""


class SourceError(Exception):
    """A file here cannot be read; others can."""


def is_log(name: str, fd: int, size: int) -> bool:
    """Whether a file is one that is only ever appended to: by its name, and text without zeros inside."""
    if not _LOGS.search(name):
        return False
    if ".tfevents." in name:
        return True
    return b"\0" not in os.pread(fd, 4096, 0) + os.pread(fd, 4096, max(0, size - 4096))


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
    path = os.path.join(source, name)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return _link(path, to) if modes else Copied(OTHER)
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return Copied(GONE)
        if error.errno == errno.ENXIO:  # a socket
            return Copied(OTHER)
        return Copied(UNREADABLE, why=error.strerror or str(error))
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            return Copied(OTHER)
        with leases.on(fd, wanted=not (stubborn and is_log(name, fd, before.st_size))) as lease:
            if lease.answer == BUSY and not stubborn and not may_be_copied_open(name, fd, before, open_since, urgent):
                return Copied(OPEN, entry_of(before))
            try:
                return _whole(fd, before, to, name, leases, lease, modes)
            except SourceError as error:
                _drop(to)
                return Copied(UNREADABLE, why=str(error))
            except OSError:
                _drop(to)
                raise
    finally:
        os.close(fd)


def may_be_copied_open(name: str, fd: int, seen: os.stat_result, since: float | None, urgent: bool) -> bool:
    """Whether a file that is open for writing may be copied all the same: a log, or one that rests for long."""
    now = time.time()
    if is_log(name, fd, seen.st_size):
        return urgent or (since is not None and now - since >= LOG_SECONDS)
    return since is not None and now - since >= QUIET_SECONDS and abs(now - seen.st_mtime) >= QUIET_SECONDS


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
    is_open = lease.answer == BUSY
    if lease.answer == GRANTED:
        good = leases.check(fd, lease)
    elif is_open and is_log(name, fd, size):
        good = after.st_size >= size  # what was there when we began is there still
    else:
        # Nobody can say whether it is open: what was written a moment ago may not be all.
        good = entry_of(after) == entry_of(before) and (is_open or time.time() - after.st_mtime > 1.0 or _later(after))
    if not good or at != size:
        _drop(to)
        return Copied(CHANGED, entry_of(after))
    os.utime(to, ns=(before.st_atime_ns, before.st_mtime_ns))
    return Copied(DONE, entry_of(before), closed=not is_open)


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


def _later(seen: os.stat_result) -> bool:
    """Whether a time of writing lies in the future: the clock was set back."""
    return seen.st_mtime > time.time() + 1.0


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
