"""Files that a client sends ahead of a cell, written below the kernel's folder. Stands alone: shipped to the host."""

from __future__ import annotations

import os
import stat
from typing import Any


class Refused(Exception):
    """A path that does not stay below the folder."""


def put(folder: str, head: dict[str, Any], data: bytes) -> None:
    """Write or remove one file.

    Parameters
    ----------
    folder : str
        The kernel's folder.
    head : dict
        ``path``, relative to it; ``mode``; ``remove`` true to remove it.
    data : bytes
        What it holds.
    """
    parts = head["path"].split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise Refused("{!r} is no path below the kernel's folder".format(head["path"]))
    if os.path.realpath(folder) == os.path.realpath(os.path.expanduser("~")):
        raise Refused("{!r} would be written into the home folder".format(head["path"]))
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            at = _step(at, part, make=not head.get("remove"), name=head["path"])
        if head.get("remove"):
            _remove(at, parts[-1])
        else:
            _write(at, parts[-1], data, int(head.get("mode", 0o644)) & 0o777)
    except FileNotFoundError:
        if not head.get("remove"):
            raise
    finally:
        os.close(at)


def _step(at: int, part: str, make: bool, name: str) -> int:
    """Enter a folder without following a link out of the tree."""
    try:
        if make:
            os.mkdir(part, 0o700, dir_fd=at)
    except FileExistsError:
        pass
    try:
        inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    except NotADirectoryError:
        raise Refused(f"{name!r} leads through {part!r}, which is no folder, or a link")
    os.close(at)
    return inner


def _write(at: int, name: str, data: bytes, mode: int) -> None:
    """Write by rename: what reads the file meanwhile sees the old one or the new one."""
    temporary = f".{os.getpid()}.colab_magics.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=at)
    try:
        with open(fd, "wb") as stream:
            stream.write(data)
            os.fchmod(stream.fileno(), mode)
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    except OSError:
        os.unlink(temporary, dir_fd=at)
        raise


def _remove(at: int, name: str) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
        return  # a folder of that name now: not what was sent
    os.unlink(name, dir_fd=at)
