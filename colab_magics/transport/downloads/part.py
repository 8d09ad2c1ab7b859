"""What has come of a file so far, on the disk and in numbers. Stands alone: shipped to hosts."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import threading
from typing import Any

from ...errors import InvalidInput
from ...files import plain

TEMPORARY = ".~colab_magics.get-"
"""How the names of parts begin; a sync leaves them out."""
REPLACE = "--force fetches it anew and puts it in that one's place; to=FILE gives it another name."
_BLOCK = 1 << 20
_CHECKS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}


class Watch:
    """What is told of one file while it comes, and the word to stop.

    Parameters
    ----------
    stop : threading.Event
        Ends it when set; what has come is kept.
    """

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self.name, self.total, self.have, self.came, self.says = "", 0, 0, 0, ""

    def pause(self, seconds: float) -> None:
        """Wait, unless it is to stop."""
        if self.stop.wait(seconds):
            raise Stopped


class Stopped(Exception):
    """It was to stop."""


def check_of(text: str) -> str:
    """Return a checksum in its plain form, ``sha256=…``.

    Raises
    ------
    InvalidInput
        When it cannot be one.
    """
    kind, _, value = text.partition("=")
    kind, value = kind.strip().lower().replace("-", ""), value.strip().lower()
    if kind not in _CHECKS:
        raise InvalidInput(f"{text!r} is no checksum.", f"Known: {', '.join(f'{one}=…' for one in _CHECKS)}.")
    if not re.fullmatch(f"[0-9a-f]{{{_CHECKS[kind]}}}", value):
        raise InvalidInput(
            f"{kind}={value} is no checksum: it has {_CHECKS[kind]} digits.", f"{kind}sum FILE shows it."
        )
    return f"{kind}={value}"


def digest(path: str, check: str, watch: Watch | None = None, size: int | None = None) -> Any:
    """Return the running checksum of the first `size` bytes of a file, all by default."""
    found = hashlib.new(check.partition("=")[0])
    with open(path, "rb", buffering=0) as stream:
        block = memoryview(bytearray(_BLOCK))
        left = os.fstat(stream.fileno()).st_size if size is None else size
        while left > 0 and (count := stream.readinto(block[: min(left, _BLOCK)])):
            found.update(block[:count])
            left -= count
            if watch is not None and watch.stop.is_set():
                raise Stopped
    return found


class Part:
    """What has come of a file, held by one process at a time, with a note of what it is a part of."""

    def __init__(self, path: str) -> None:
        self.path, self._state = path, f"{path}.json"
        self.name = self.version = ""
        self.total: int | None = None
        self._fd = -1
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self._size

    def hold(self, watch: Watch) -> None:
        """Open it, and wait until no other process has it."""
        while True:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                while not self._locked():
                    watch.says = "another process fetches it"
                    watch.pause(0.2)
                if self._is_named():
                    break
            except BaseException:
                os.close(self._fd)
                raise
            os.close(self._fd)  # the other one has published it
        watch.says = ""
        self._size = os.fstat(self._fd).st_size
        self._read_note()

    def _locked(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # a mount without locks: nothing can be done
        return True

    def _is_named(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def _read_note(self) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            with open(self._state, encoding="utf-8", opener=plain) as stream:
                note = json.load(stream)
            self.name, self.version, self.total = str(note["name"]), str(note["version"]), note["total"]
        if not self.version or not isinstance(self.total, int) or self._size > self.total:
            self.version, self.total = "", None

    def note(self, name: str, version: str, total: int | None) -> None:
        """Write down what it is a part of, before the first byte of it."""
        note = {"name": name, "version": version, "total": total}
        self.version = version
        write_note(self._state, note)

    def cut(self) -> None:
        """Forget all of it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._state)
        self.version = ""
        if os.fstat(self._fd).st_size:  # ext4 writes a file out at its close that was ever cut to nothing
            os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._size = 0

    def write(self, data: memoryview) -> None:
        """Append."""
        while data:
            count = os.pwrite(self._fd, data, self._size)
            self._size += count
            data = data[count:]

    def publish(self, path: str, *, replace: bool) -> None:
        """Give it its name; what has it already stays, unless it is to be replaced."""
        if replace:
            os.replace(self.path, path)
        else:
            try:
                os.link(self.path, path)
            except FileExistsError:
                raise InvalidInput(f"{path} has come to be there meanwhile.", REPLACE) from None
            except OSError:
                os.rename(self.path, path)  # a mount without links
            else:
                os.unlink(self.path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._state)

    def drop(self) -> None:
        """Take it away: nobody needs it any more."""
        for one in (self.path, self._state):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(one)

    def let_go(self) -> None:
        """Let others have it; nothing stays of one that nobody could go on with."""
        if (not self._size or not self.version) and self._is_named():
            self.drop()
        os.close(self._fd)


def write_note(path: str, note: Any) -> None:
    """Write a small file as a whole."""
    temporary = f"{path}.{os.getpid()}.{threading.get_ident()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    with open(temporary, "x", encoding="utf-8", errors="backslashreplace") as stream:
        json.dump(note, stream)
    os.replace(temporary, path)


def key_of(text: str) -> str:
    """Return the key of an address; see `fetch.Wanted`."""
    return hashlib.sha256(text.encode()).hexdigest()[:20]
