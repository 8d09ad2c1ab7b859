"""Who executes the runs of a job, and who executes a run: whoever holds the lock of its folder.

The lock (flock(2)) is on a file in the folder that is opened for writing: a network file system lets nobody lock a
folder for himself, which can only be read. It ends with its holder, however that ends. Where the file cannot be made,
on a full disk, the folder itself is locked, as earlier versions did; whoever asks looks at both.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from .names import LOCK

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def take(folder: Path) -> int:
    """Lock a folder.

    Returns
    -------
    int
        Open file that holds the lock until it is closed here and in all who inherit it.

    Raises
    ------
    BlockingIOError
        When somebody holds it.
    OSError
        When it is not there, or nothing in it can be locked.
    """
    if _is_locked(folder, _FOLDER):
        raise BlockingIOError
    while True:
        try:
            fd = os.open(folder / LOCK, _FILE | os.O_CREAT, 0o666)
        except OSError:
            fd = os.open(folder, _FOLDER)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_there(fd, folder):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # it was removed, and perhaps made anew, before it was ours


def is_held(folder: Path) -> bool:
    """Whether somebody holds a folder's lock, in another container of this machine too; writes nothing."""
    return _is_locked(folder / LOCK, _FILE & ~os.O_RDWR) or _is_locked(folder, _FOLDER)


def _is_locked(path: Path, flags: int) -> bool:
    try:
        fd = os.open(path, flags)
    except OSError:  # not there, or not ours to see
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(fd)
    return False


def _is_there(fd: int, folder: Path) -> bool:
    for path in (folder / LOCK, folder):
        try:
            if os.path.samestat(os.fstat(fd), os.lstat(path)):
                return True
        except OSError:
            continue
    return False
