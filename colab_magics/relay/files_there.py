"""Files that a client sends ahead of a cell, written below the kernel's folder. Stands alone: shipped to the host."""

from __future__ import annotations

import os
import stat
from typing import Any


class Refused(Exception):
    """A path that does not stay below the folder."""


class Sent:
    """The files that clients have sent, so that nothing of them stays when the kernel is ended.

    Parameters
    ----------
    folder : str
        The kernel's folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._looks: dict[str, tuple[int, int]] = {}
        self._found: set[str] = set()
        """Those that were there before: not ours to remove."""

    def put(self, head: dict[str, Any], data: bytes) -> None:
        """Write or remove one file; see `put`."""
        path = head["path"]
        if path not in self._looks and os.path.lexists(os.path.join(self.folder, path)):
            self._found.add(path)
        put(self.folder, head, data)
        self._looks.pop(path, None)
        if not head.get("remove") and path not in self._found:
            self._looks[path] = self._look(path)

    def _look(self, path: str) -> tuple[int, int]:
        seen = os.lstat(os.path.join(self.folder, path))
        return seen.st_mtime_ns, seen.st_size

    def take_away(self) -> None:
        """Remove them, but for those that somebody has changed since, and the folders that are empty then."""
        folders = set()
        for path, looks in self._looks.items():
            above, _, name = path.rpartition("/")
            while above:
                folders.add(above)
                above = above.rpartition("/")[0]
            try:
                if self._look(path) == looks:
                    put(self.folder, {"path": path, "remove": True}, b"")
                    self._remove_compiled(path[: -len(name)], name)
            except (OSError, Refused):
                continue  # gone, or not ours any more
        for folder in sorted(folders, reverse=True):
            self._drop(folder)
        self._drop("")

    def _remove_compiled(self, above: str, name: str) -> None:
        cache = f"{above}__pycache__"
        if not name.endswith(".py") or not os.path.isdir(os.path.join(self.folder, cache)):
            return
        for one in os.listdir(os.path.join(self.folder, cache)):
            if one.startswith(name[:-2]) and one.endswith(".pyc"):
                put(self.folder, {"path": f"{cache}/{one}", "remove": True}, b"")
        self._drop(cache)

    def _drop(self, folder: str) -> None:
        try:
            os.rmdir(os.path.join(self.folder, folder))
        except OSError:
            return  # others have something there


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
