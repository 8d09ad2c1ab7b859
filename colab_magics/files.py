"""Files and folders of ours where others write too: opened as what they are, never through a link."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

DEAD_MOUNT = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV, errno.ESTALE})
"""What a mount answers whose process or server has died; ``ECONNABORTED`` to a request on its way just then."""


def plain(path: str | os.PathLike[str], flags: int) -> int:
    """Open a plain file, and nothing else of its name: ``open(path, "a", opener=plain)``.

    Raises
    ------
    OSError
        For a link, which would lead out of the folder, and for a pipe or the like, which would never answer.
    """
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, which is not followed", os.fspath(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no plain file", os.fspath(path))
    return fd


def read(path: Path) -> bytes:
    """Read a plain file; see `plain`."""
    with open(path, "rb", opener=plain) as stream:
        return stream.read()


def set_rights(folder: str, mode: int, *, less: bool = False) -> None:
    """Give a folder the nine bits of a mode, or, `less`, take away what it has beyond; others, as setgid, stay."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        now = stat.S_IMODE(os.fstat(fd).st_mode)
        new = now & (mode | 0o7000) if less else mode | now & 0o7000
        if new != now:
            os.fchmod(fd, new)
    finally:
        os.close(fd)
