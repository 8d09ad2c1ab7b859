"""What goes to a relay: in order, kept until the relay says that it took it, and again after a break.

Nothing here knows of threads: `Link` calls it under its lock.
"""

from __future__ import annotations

from collections import deque

from . import wire
from .connection import Connection

PIECE = 1 << 18
"""Bytes written at once, so that what is urgent need not wait for more."""


class Outgoing:
    """Records on their way."""

    def __init__(self) -> None:
        self._number = 0
        self._kept: deque[tuple[int, bytes]] = deque()
        self._out: deque[bytes] = deque()
        self._urgent: deque[bytes] = deque()
        # What is being written belongs to one connection: on the next one records begin anew.
        self._rest = memoryview(b"")

    def add(self, kind: int, payload: bytes) -> None:
        """Number a record, keep it until it was taken, and queue it."""
        self._number += 1
        record = wire.record(kind, payload, self._number)
        self._kept.append((self._number, record))
        self._out.append(record)

    def add_urgent(self, record: bytes) -> None:
        """Queue a record ahead of all others; it is forgotten when the connection breaks."""
        self._urgent.append(record)

    def add_last(self, record: bytes) -> None:
        """Queue a record behind all others; it is forgotten when the connection breaks."""
        self._out.append(record)

    def forget(self, taken: int) -> None:
        """Drop what the relay took."""
        while self._kept and self._kept[0][0] <= taken:
            self._kept.popleft()

    def begin(self, taken: int) -> None:
        """Start over on a new connection: what was not taken goes again, in its order, before anything new."""
        self.forget(taken)
        self._out = deque(record for _, record in self._kept)
        self._urgent.clear()
        self._rest = memoryview(b"")

    def __bool__(self) -> bool:
        return bool(self._rest or self._urgent or self._out)

    def write(self, connection: Connection) -> int:
        """Write what fits, at most a piece; returns how much that was. OSError or ValueError when it is broken."""
        if not self._rest:
            self._rest = memoryview(self._next())
        wrote = connection.write(self._rest[:PIECE])
        self._rest = self._rest[wrote:]
        return wrote

    def _next(self) -> bytes:
        """Take what is written at once: urgent records first, then as many others as fit in a piece."""
        parts: list[bytes] = []
        size = 0
        for queue in (self._urgent, self._out):
            while queue and (not parts or size + len(queue[0]) <= PIECE):
                parts.append(queue.popleft())
                size += len(parts[-1])
        return b"".join(parts)
