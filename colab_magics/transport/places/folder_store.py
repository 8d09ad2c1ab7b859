"""A folder of this machine as a store; also one that is a mounted Drive, or a disk."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ... import files
from .rsync_store import RsyncStore
from .store import PRIVATE, FileThere

_NO_SUCH_NAME = {errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EPERM, errno.EACCES}
"""A folder of that name cannot be made; others can."""
_NO_SUCH_RIGHTS = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
"""The rights of a folder cannot be changed: it is another's, or its file system has none."""


class FolderStore(RsyncStore):
    """What can be done in a folder of this machine.

    Parameters
    ----------
    folder : str
        A path that leads through the open root, so that nothing can be written beside it.
    target, cwd, options
        See `RsyncStore`; by default rsync gets the same path.
    """

    def __init__(self, folder: str, *, target: str = "", cwd: str | None = None, options: Sequence[str] = ()) -> None:
        super().__init__(target or folder, cwd=cwd, options=options)
        self.local: str = folder
        self._made: set[str] = set()

    def path(self, name: str) -> str:
        """Return a name as a path."""
        return os.path.join(self.local, name)

    def look(self, names: Sequence[str]) -> dict[str, FileThere]:
        found = {}
        for name in names:
            if not self._is_within(os.path.dirname(name)):
                continue
            try:
                seen = os.lstat(self.path(name))
            except (FileNotFoundError, NotADirectoryError):
                continue
            found[name] = FileThere(seen.st_size, seen.st_mtime, stat.S_ISREG(seen.st_mode))
        return found

    def move(self, pairs: Sequence[tuple[str, str]], *, aside: str) -> None:
        for old, new in pairs:
            if not self._is_within(os.path.dirname(old)) or self._is_within(old):
                continue  # a folder that took a file's name holds other files, which nobody means
            self._make_way(os.path.dirname(new), aside)
            try:
                try:
                    os.rename(self.path(old), self.path(new))
                except OSError as error:
                    if error.errno not in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
                        raise
                    self._put_aside(new, aside)
                    os.rename(self.path(old), self.path(new))
            except (FileNotFoundError, NotADirectoryError):
                if os.path.lexists(self.path(old)):
                    raise

    def _is_within(self, folder: str) -> bool:
        """Whether a folder is there and no link leads to it: what lies behind one is not the Place's."""
        if not folder or folder in self._made:
            return True
        if not self._is_within(os.path.dirname(folder)):
            return False
        try:
            within = stat.S_ISDIR(os.lstat(self.path(folder)).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if within:
            self._made.add(folder)
        return within

    def _make_way(self, folder: str, aside: str) -> None:
        """Make a folder below ours, never through a link: that would lead out of the Place."""
        if not folder or folder in self._made:
            return
        self._make_way(os.path.dirname(folder), aside)
        try:
            if not stat.S_ISDIR(os.lstat(self.path(folder)).st_mode):
                self._put_aside(folder, aside)
                os.mkdir(self.path(folder), self.rights(folder))
        except FileNotFoundError:
            os.mkdir(self.path(folder), self.rights(folder))
        self._made.add(folder)

    def _put_aside(self, name: str, aside: str) -> None:
        there, top = f"{aside}/{name}", aside.partition("/")[0]
        if not self._is_within(top):
            os.mkdir(self.path(top), PRIVATE)  # a link of that name is an error: it leads out
        os.makedirs(os.path.dirname(self.path(there)), exist_ok=True)
        os.rename(self.path(name), self.path(there))
        self._made = {folder for folder in self._made if folder != name and not folder.startswith(f"{name}/")}

    def erase(self, names: Sequence[str], *, truncate: bool = False) -> None:
        for name in names:
            path = self.path(name)
            if not self._is_within(os.path.dirname(name)):
                continue
            try:
                if truncate and stat.S_ISREG(os.lstat(path).st_mode):
                    os.truncate(path, 0)
                os.unlink(path)
            except FileNotFoundError:
                continue
            parent = os.path.dirname(name)
            while parent:  # folders that are empty now
                try:
                    os.rmdir(self.path(parent))
                except OSError:
                    break
                self._made.discard(parent)
                parent = os.path.dirname(parent)

    def make_folders(self, names: Sequence[str]) -> None:
        for name in names:
            parts = name.split("/")
            for folder in ("/".join(parts[: n + 1]) for n in range(len(parts))):
                if not self._is_within(folder):
                    try:
                        os.mkdir(self.path(folder), self.rights(folder))
                    except OSError as error:
                        if error.errno not in _NO_SUCH_NAME:
                            raise
                        break
                    self._made.add(folder)

    def set_rights(self, folders: Mapping[str, int], *, less: bool) -> list[str]:
        refused = []
        for name, wanted in folders.items():
            if not self._is_within(name):
                continue
            try:
                # Our own folder is reached through an open one, which is a link in /proc.
                files.set_rights(self.path(name or "."), wanted, less=less)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                if error.errno not in _NO_SUCH_RIGHTS:
                    raise
                refused.append(name)
        return refused

    def drop_folders(self, names: Sequence[str]) -> None:
        for name in sorted(names, reverse=True):
            if self._is_within(name):
                try:
                    os.rmdir(self.path(name))
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR):
                        raise
                else:
                    self._made.discard(name)

    def below(self, folder: str) -> dict[str, int]:
        found = {}
        for top, _, names in os.walk(self.path(folder)) if self._is_within(folder) else ():
            for path in (os.path.join(top, name) for name in names):
                if stat.S_ISREG((seen := os.lstat(path)).st_mode):
                    found[os.path.relpath(path, self.local)] = seen.st_size
        return found

    def get(self, name: str) -> bytes | None:
        return read(self.path(name))

    def put(self, name: str, data: bytes) -> None:
        temporary = self.path(f".~colab_magics.{os.getpid()}.{name.replace('/', '_')}")
        try:
            with open(temporary, "wb") as stream:
                stream.write(data)
            os.replace(temporary, self.path(name))
        except OSError as error:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # Where nothing new fits, in the room of the old one: in one go, so that nobody reads half of it.
            with open(self.path(name), "r+b", buffering=0, opener=files.plain) as stream:
                stream.write(data.ljust(os.fstat(stream.fileno()).st_size))

    def free(self) -> int | None:
        found = os.statvfs(self.local)
        return found.f_bavail * found.f_frsize if found.f_blocks else None


def read(path: str) -> bytes | None:
    """Read a small file; None when it is not there."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
