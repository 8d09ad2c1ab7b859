"""What a kernel said and nobody has taken yet: files, one after another. Stands alone: it is shipped to the host.

Positions count all bytes that were ever appended. The oldest files go when the client has taken what they hold, or when
all together would pass the cap.
"""

from __future__ import annotations

import os

PIECE = 1 << 18
"""Bytes sent at once, so that an answer to a ping need not wait for more."""
_LITTLE = 1 << 16


class _File:
    """One file of the spool: where it begins, how far it goes, how many messages it holds."""

    def __init__(self, folder: str, start: int) -> None:
        self.path = os.path.join(folder, f"spool-{start:016d}")
        # Outputs may hold secrets.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open(self.path, flags, 0o600)
        self.start = self.end = start
        self.messages = 0

    def append(self, data: bytes, messages: int) -> None:
        """Write all of it, or raise OSError and leave the file as it was."""
        at, rest = self.end - self.start, memoryview(data)
        try:
            while rest:
                wrote = os.pwrite(self.fd, rest, at)
                at, rest = at + wrote, rest[wrote:]
        except OSError:
            os.ftruncate(self.fd, self.end - self.start)
            raise
        self.end += len(data)
        self.messages += messages

    def empty_if_taken(self, position: int) -> None:
        """Give its room back when all of it was taken; not for a little."""
        if self.end == position and self.end - self.start >= _LITTLE:
            os.ftruncate(self.fd, 0)
            self.start, self.messages = self.end, 0

    def remove(self) -> None:
        os.close(self.fd)
        os.unlink(self.path)


class Spool:
    """All that was said, from `start` to `end`.

    Parameters
    ----------
    folder : str
        Where its files lie.
    cap : int
        Bytes that they may hold together.
    """

    def __init__(self, folder: str, cap: int) -> None:
        self.folder = folder
        self.files: list[_File] = [_File(folder, 0)]
        self.taken = 0
        self.full_at = 0
        """What lay before this position was dropped because the disk was full."""
        self._dropped: list[tuple[int, int]] = []
        self.limit(cap)

    def limit(self, cap: int) -> None:
        """Hold so many bytes from now on; what is beyond them goes at once, the oldest first."""
        self.cap, self.per_file = cap, max(1 << 16, min(1 << 26, cap // 8))
        while self.end - self.start > cap and self._drop_oldest():
            pass

    @property
    def start(self) -> int:
        """Position of the oldest byte that is still there."""
        return self.files[0].start

    @property
    def end(self) -> int:
        """Position after the newest byte."""
        return self.files[-1].end

    def append(self, data: bytes, messages: int) -> bool:
        """Add records; False when the disk has no room for them, even without all that is older."""
        last = self.files[-1]
        while True:
            try:
                if last.end > last.start and last.end - last.start + len(data) > self.per_file:
                    last = _File(self.folder, last.end)
                    self.files.append(last)
                last.append(data, messages)
                break
            except OSError:
                if not self._make_room():
                    return False
                last = self.files[-1]
        while self.end - self.start > self.cap and self._drop_oldest():
            pass
        return True

    def _make_room(self) -> bool:
        """Drop the oldest file because the disk is full; one that is alone makes way for an empty one."""
        last = self.files[-1]
        if len(self.files) == 1 and last.end > last.start:
            try:
                self.files.append(_File(self.folder, last.end))
            except OSError:
                return False
        self.full_at = max(self.full_at, self.files[0].end)
        return self._drop_oldest()

    def _drop_oldest(self) -> bool:
        if len(self.files) < 2:
            return False
        oldest = self.files.pop(0)
        oldest.remove()
        self._dropped.append((oldest.end, oldest.messages))
        return True

    def lost(self, position: int) -> int:
        """Return how many messages were dropped in the files that end after a position."""
        return sum(messages for end, messages in self._dropped if end > position)

    def take(self, position: int) -> None:
        """The client has all up to here: what lies before may go."""
        self.taken = max(self.taken, min(position, self.end))
        while len(self.files) > 1 and self.files[0].end <= self.taken:
            self.files.pop(0).remove()
        self.files[0].empty_if_taken(self.taken)
        self._dropped = [(end, messages) for end, messages in self._dropped if end > self.taken]

    def read(self, position: int) -> bytes:
        """Return what can be sent next from a position; nothing when there is nothing."""
        for file in self.files:
            if file.start <= position < file.end:
                return os.pread(file.fd, min(PIECE, file.end - position), position - file.start)
        return b""

    def remove(self) -> None:
        """Delete all of it."""
        while self.files:
            self.files.pop().remove()
