"""Folders for sockets: private, with a short path, and gone with whoever made them, however that ended.

A process that is killed removes nothing. So each folder is locked by who uses it, and whoever comes later removes those
that nobody holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

_PREFIXES = ("cmk-", "cmz-", "cms-")
_YOUNG = 60.0
"""Seconds in which a folder that nobody holds may be one that is being made."""


def make(prefix: str) -> tuple[Path, int]:
    """Make a folder.

    Parameters
    ----------
    prefix : str
        How its name begins: ``cmk-`` for a kernel's sockets, ``cmz-`` for those of what kernels are forked from.

    Returns
    -------
    tuple of Path and int
        The folder, and the open file that holds it: for this process, and for those that inherit it.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=_base()))
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(fd, fcntl.LOCK_SH)
    return folder, fd


def _base() -> str:
    # A unix socket's path is limited to 107 bytes.
    base = tempfile.gettempdir()
    return base if len(os.fsencode(base)) < 60 else "/tmp"


def sweep() -> None:
    """Remove the folders that nobody holds any more."""
    with contextlib.suppress(OSError), os.scandir(_base()) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIXES) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):  # gone meanwhile, or held
                    _remove_if_left(entry)


def _remove_if_left(entry: os.DirEntry[str]) -> None:
    found = entry.stat(follow_symlinks=False)
    if found.st_uid != os.getuid() or time.time() - found.st_mtime < _YOUNG:
        return
    fd = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(entry.path, ignore_errors=True)
    finally:
        os.close(fd)
