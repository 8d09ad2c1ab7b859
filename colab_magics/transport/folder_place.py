"""Folders as Places, Google Drive among them.

``COLAB_MAGICS_MOUNTS`` names another table of mounts than ``/proc/mounts``, for tests.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Self

from .. import files, process
from ..colab import mount
from ..colab.runtime import my_drive, on_colab
from ..errors import ColabMagicsError, CommandFailed, InvalidInput, Unavailable, Unmounted
from .places import ANSWER_SECONDS, PRIVATE, SENTINEL, FileThere, Hand, Mark, Opened, Place, new_sentinel, safe_name

TICK = 3.0
"""Within so many seconds two versions of a file may look alike: some file systems keep whole seconds."""


_NO_SUCH_NAME = {errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EPERM, errno.EACCES}
"""A folder of that name cannot be made; others can."""
_NO_SUCH_RIGHTS = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
"""The rights of a folder cannot be changed: it is another's, or its file system has none."""


class FolderHand(Hand):
    """What can be done in a folder of this machine.

    Parameters
    ----------
    folder : str
        A path that leads through the open root, so that nothing can be written beside it.
    """

    def __init__(self, folder: str) -> None:
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
        return _read(Path(self.path(name)))

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


@dataclass(frozen=True)
class FolderPlace(Place):
    """A folder of this machine, or of a disk that is mounted here."""

    @classmethod
    def from_text(cls, text: str, *, project: str) -> Self:
        path = os.path.abspath(os.path.expanduser(text))
        return cls(text=path, root=path)

    @property
    def rsync_options(self) -> list[str]:
        return ["-l", "-p"]

    def mounted(self) -> None:
        """Raise `Unavailable` when it can be known that the disk is not there; a folder has the sentinel alone."""

    def answers(self) -> None:
        # Another process, which is left behind if need be: one that waits for a dead mount cannot even be killed.
        who = process.identity(process.start_detached(["stat", "--", self.root], log_file=os.devnull))
        end = time.monotonic() + ANSWER_SECONDS
        while process.is_alive(who):
            if time.monotonic() > end:
                raise Unavailable(
                    f"{self.text} does not answer: {self.root} hangs.",
                    "Mount it again. On Colab: drive.mount('/content/drive', force_remount=True)",
                )
            time.sleep(0.002)
        process.reap()

    def prepare(self, rights: int = 0o777) -> str:
        self.mounted()
        sentinel = Path(self.root, SENTINEL)
        try:
            os.makedirs(self.root, 0o777 if self.parts else rights, exist_ok=True)
            try:
                with open(sentinel, "x", encoding="utf-8") as stream:
                    stream.write(new_sentinel())
            except FileExistsError:
                _wait_for_text(sentinel)
            return self.verify(sentinel.read_bytes(), None)
        except OSError as error:
            raise self._unusable(error) from error

    @contextmanager
    def opened(self, expected: str | None = None, *, make: int = 0, known: Mark | None = None) -> Iterator[Opened]:
        self.mounted()
        try:
            handle = os.open(self.root, os.O_PATH | os.O_DIRECTORY)  # to list it is not asked for
        except OSError as error:
            raise self._unusable(error) from error
        try:
            # Everything goes through the open folder: when the disk is unmounted meanwhile, nothing lands in the
            # empty folder that is left under its name.
            here = f"/proc/{os.getpid()}/fd/{handle}"
            try:
                sentinel = os.path.join(here, SENTINEL)
                mark = _mark(sentinel)
                if mark is None or mark != known:
                    self.verify(_read(Path(sentinel)), expected)
                if make:
                    os.makedirs(os.path.join(here, *self.parts), make, exist_ok=True)
            except OSError as error:
                raise self._unusable(error) from error
            try:
                yield Opened(here, os.path.join(".", *self.parts), FolderHand(os.path.join(here, *self.parts)), mark)
            except (OSError, ColabMagicsError) as error:
                _name(error, here, self.root)
                raise
        finally:
            os.close(handle)

    def names(self) -> list[str]:
        try:
            return sorted(set(os.listdir(self.path)) - {SENTINEL})
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from error

    def missing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if not os.path.lexists(os.path.join(self.path, name))]

    def _unusable(self, error: OSError) -> Unavailable:
        return Unavailable(
            f"{self.text} cannot be used: {error.strerror or error}.", f"Is it mounted and yours? ls -ld {self.root}"
        )


@dataclass(frozen=True)
class DrivePlace(FolderPlace):
    """The user's Google Drive as Colab mounts it: the project's folder in ``MyDrive/colab_data``."""

    uploads_later: ClassVar[bool] = True
    keeps_links: ClassVar[bool] = False

    @classmethod
    def from_text(cls, text: str, *, project: str) -> Self:
        if not project:
            raise InvalidInput("to=drive needs a project: its folder there is named after it.", "Run %project first.")
        return cls(text="drive", root=str(my_drive() / "colab_data" / safe_name(project, of="Drive")))

    @property
    def rsync_options(self) -> list[str]:
        # Drive's file system has no links, modes or owners.
        return ["--no-perms", "--no-owner", "--no-group", "--no-links", "--no-D", "--timeout=120"]

    def mounted(self) -> None:
        if not drive_is_mounted():
            raise Unmounted(f"Google Drive is not mounted at {drive_folder()}.", _mend_of_drive())

    def _unusable(self, error: OSError) -> Unavailable:
        if error.errno in files.DEAD_MOUNT:
            return Unmounted(f"The mount of Google Drive has died: {error.strerror}.", _mend_of_drive())
        return super()._unusable(error)

    def __str__(self) -> str:
        return f"Drive ({PurePosixPath('colab_data', PurePosixPath(self.root).name, *self.parts)})"


def _name(error: OSError | ColabMagicsError, here: str, root: str) -> None:
    """Let an error name a folder as people know it, and not by the number of an open file."""
    if isinstance(error, OSError):
        for name in ("filename", "filename2"):
            if (file := getattr(error, name)) is not None:
                setattr(error, name, os.fsdecode(file).replace(here, root, 1))
        return
    error.what, error.mend = error.what.replace(here, root), error.mend.replace(here, root)
    error.args = (error.what, error.mend)
    if isinstance(error, CommandFailed):
        error.output = error.output.replace(here, root)


def drive_folder() -> str:
    """Return where Google Drive is mounted, or would be."""
    return str(my_drive().parent)


def drive_is_mounted() -> bool:
    """Whether Google Drive is mounted: its folder alone proves nothing, an unmounted one is an empty folder."""
    table = os.environ.get("COLAB_MAGICS_MOUNTS")
    if table is None and os.environ.get("COLAB_MAGICS_CONTENT"):
        return mount.is_mounted()  # a stand-in for Colab, whose Drive may be any folder
    try:
        text = Path(table or "/proc/mounts").read_text(errors="surrogateescape")
    except OSError:
        return False
    rows = [line.split() for line in text.splitlines()]
    # Spaces and the like stand in octal in this table (fstab(5)).
    there = [
        re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), row[1])
        for row in rows
        if len(row) > 2 and row[2].startswith("fuse")
    ]
    return drive_folder() in there


def drive_works() -> bool:
    """Whether Google Drive is mounted, and its mount answers: a dead one is still in the table of mounts."""
    return drive_is_mounted() and mount.is_mounted()


def _mend_of_drive() -> str:
    if on_colab():
        return "%sync in the notebook mounts it again; Colab asks you."
    return "Mount it: from google.colab import drive; drive.mount('/content/drive')"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _mark(sentinel: str) -> Mark | None:
    """Return what tells this file from every other one; None where that cannot be said, as of one written just now."""
    try:
        seen = os.lstat(sentinel)
    except FileNotFoundError:
        return None
    if abs(time.time() - max(seen.st_mtime, seen.st_ctime)) < TICK:
        return None
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _wait_for_text(sentinel: Path) -> None:
    """Give another process that makes the sentinel just now the time to fill it; an empty leftover is made anew."""
    for _ in range(20):
        if process.read_json(sentinel):
            return
        time.sleep(0.05)
    if not sentinel.read_bytes().strip():
        process.write_whole(sentinel, new_sentinel())
