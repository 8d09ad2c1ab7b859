"""How much room a Place has: what does not fit is not begun."""

from __future__ import annotations

import os
import stat
import time

from ..errors import Unavailable
from ..transport.places.store import Store
from ..units import show_size

SPARE = 16 << 10
"""Bytes that are left free at the Place."""
ROOMY, ROOM_SECONDS = 1 << 30, 60.0
"""Where so much is free, it is asked for only so often."""


class Full(Unavailable):
    """A Place that has no room: what needs none goes on."""


class Room:
    """What is free at a Place."""

    def __init__(self) -> None:
        self.lacking = ""
        """What of the batch under way was the first that did not fit."""
        self._free: int | None = None
        self._asked = -ROOM_SECONDS

    def begin(self, store: Store) -> None:
        """Begin a batch."""
        self.lacking = ""
        now = time.monotonic()
        if now - self._asked >= ROOM_SECONDS or self._free is None or self._free < ROOMY:
            self._free, self._asked = store.free(), now

    def fits(self, store: Store, name: str, size: int) -> bool:
        """Whether there is room for a file beside its old version."""
        if self._free is None or size + SPARE <= self._free:
            return True
        self._free = store.free()
        if self._free is None or size + SPARE <= self._free:
            return True
        self.lacking = self.lacking or f"{name} needs {show_size(size)}, {show_size(self._free)} are free"
        return False

    def take(self, size: int) -> None:
        """Note that so much is free no more."""
        if self._free is not None:
            self._free -= size


def space(path: str) -> int:
    """Return the bytes that a copy of a file takes: holes take none; 0 for what is gone."""
    try:
        seen = os.lstat(path)
    except OSError:
        return 0
    return min(seen.st_size, seen.st_blocks * 512) if stat.S_ISREG(seen.st_mode) else seen.st_size


def no_space(what: str) -> Full:
    """Build the error for a Place that is full."""
    return Full(f"No space left at the Place: {what}.", "Free some space there, or leave files out: exclude=")
