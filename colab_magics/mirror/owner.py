"""One owner a job at a Place: a small file there says who keeps it, and is written anew as long as that goes on.

Who comes second waits, and takes over when the first was silent for `SILENT` seconds, or when the user says so. Clocks
of machines differ: what counts is whether the file changes, as seen from here.
"""

from __future__ import annotations

import json
import time
from typing import Any

from .. import process
from ..transport.places.store import Store
from ..units import show_seconds, show_time
from .patterns import OWNER

BEAT = 60.0
"""Seconds between two signs of life."""
SILENT = 180.0
"""Seconds without one after which an owner counts as gone."""
OLD = 86_400.0
"""An owner whose last sign is that old by the clock is not waited for: no clocks of two machines differ that much."""


class Ownership:
    """Whether this process keeps a folder of a Place.

    Parameters
    ----------
    me : str
        The name of this sync on this machine, the same after a restart.
    """

    def __init__(self, me: str) -> None:
        self.me = me
        self.since: float | None = None
        self.other: dict[str, Any] = {}
        self._beat = 0.0
        self._looked: float | None = None
        self._changed = 0.0

    def claim(self, store: Store, *, take_over: bool = False, least: float = BEAT / 2) -> dict[str, Any]:
        """Say that we keep the folder, unless somebody else does.

        Parameters
        ----------
        store : Store
            The folder at the Place.
        take_over : bool, default False
            Whether the user said so.
        least : float
            Do not look again within so many seconds.

        Returns
        -------
        dict
            Who keeps it instead; empty when we do.
        """
        now = time.monotonic()
        if self.since is not None and self._looked is not None and now - self._looked < least and not take_over:
            return {}
        self._looked = now
        found = _read(store)
        if found.get("who") not in (None, self.me) and not take_over and self._lives(found, now):
            self.since = None
            return self.other
        self.other = {}
        if self.since is None or found.get("who") != self.me:
            self.since = time.time()
            self._beat = 0.0
        if not self._beat or now - self._beat >= BEAT:
            store.put(OWNER, (json.dumps(self._record()) + "\n").encode())
            self._beat = now
        return {}

    def release(self, store: Store) -> None:
        """Say that nobody keeps the folder any more."""
        if self.since is not None and _read(store).get("who") == self.me:
            store.erase([OWNER])
        self.since = None

    def _record(self) -> dict[str, Any]:
        return {
            "who": self.me,
            "host": process.host(),
            "since": self.since,
            "beat": time.time(),
            "identity": process.identity(),
        }

    def _lives(self, found: dict[str, Any], now: float) -> bool:
        if found.get("beat") != self.other.get("beat") or found.get("who") != self.other.get("who"):
            self.other, self._changed = found, now
        if process.is_alive(found.get("identity") or {}) is False:
            return False
        if abs(time.time() - _number(found.get("beat"))) > OLD:
            return False
        return now - self._changed < SILENT


def told(other: dict[str, Any]) -> str:
    """Say who keeps the folder."""
    beat = _number(other.get("beat"))
    return (
        f"another session keeps it: {other.get('host')}, since {show_time(_number(other.get('since')))}, "
        f"last sign {show_seconds(max(0.0, time.time() - beat))} ago"
    )


TAKE_OVER = (
    f"It is taken over by itself when the other was silent for {show_seconds(SILENT)}; at once by %sync --take-over"
)


def _read(store: Store) -> dict[str, Any]:
    try:
        value = json.loads(store.get(OWNER) or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
