"""What has changed and is not handed over yet, and when each of it may go."""

from __future__ import annotations

import re
import time
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from . import half_written

RUN_SECONDS = 60.0
"""On Drive what a run writes of itself while it goes on, a heartbeat every few seconds, goes this often."""
_OF_RUNS = re.compile(r"(^|/)sub_job_[^/]+/(state\.json|run\.json|log\.txt|metrics\.jsonl)$")
YOUNG_SECONDS = 10.0
HOT_SECONDS = 10.0
"""On Drive each rewrite leaves a file in the bin: a small file that is rewritten all the time goes this often."""


@dataclass
class Waiting:
    """A file that waits.

    Parameters
    ----------
    since : float
        When the change was noticed, seconds since the epoch.
    first, last : float
        First and last hint, on the monotonic clock.
    not_before : float
        When to try again, on the monotonic clock.
    size : int
        Bytes, where they are known.
    tries : int
        How often it changed while it was copied.
    """

    since: float
    first: float
    last: float
    not_before: float = 0.0
    size: int = 0
    tries: int = 0

    def due(self) -> float:
        """When it may go."""
        return max(half_written.rests_at(self.first, self.last), self.not_before)


@dataclass
class Pending:
    """All files that wait.

    Parameters
    ----------
    large : tuple of (int, float) or None
        From which size on a file that was handed over before goes only so often, in seconds.
    hot : float
        The least time between two copies of one file.
    """

    large: tuple[int, float] | None = None
    hot: float = 0.0
    waiting: dict[str, Waiting] = field(default_factory=dict)
    handed: dict[str, float] = field(default_factory=dict)
    """When a file was handed over last, on the monotonic clock; only of those that may be held back."""

    def add(self, name: str, *, size: int = 0, quiet: bool = False, at: float | None = None) -> Waiting:
        """Note that a file changed, `at` a moment of the monotonic clock; `quiet` when it is known to rest already."""
        now = time.monotonic() if at is None else at
        found = self.waiting.get(name)
        if found is None:
            found = self.waiting[name] = Waiting(time.time(), now, now - half_written.QUIET if quiet else now)
        elif not quiet:
            found.last = now
        found.size = size or found.size
        return found

    def hold_back(self, name: str, size: int) -> None:
        """Let a file wait that was handed over not long ago."""
        last = self.handed.get(name)
        if last is None:
            return
        least = max(self.hot, RUN_SECONDS) if self.hot and _OF_RUNS.search(name) else self.hot
        if self.large is not None and size >= self.large[0]:
            least = max(least, self.large[1])
        self.waiting[name].not_before = max(self.waiting[name].not_before, last + least)

    def later(self, name: str, seconds: float) -> None:
        """Try a file again after a while."""
        if name in self.waiting:
            self.waiting[name].not_before = time.monotonic() + seconds

    def done(self, name: str, size: int) -> None:
        """Note that a file was handed over."""
        self.waiting.pop(name, None)
        if self.hot or (self.large is not None and size >= self.large[0]):
            self.handed[name] = time.monotonic()
            if len(self.handed) > 10_000:
                limit = time.monotonic() - max(RUN_SECONDS, self.hot, self.large[1] if self.large else 0.0)
                self.handed = {key: at for key, at in self.handed.items() if at > limit}

    def drop(self, name: str) -> None:
        """Forget a file."""
        self.waiting.pop(name, None)

    def ready(self) -> list[str]:
        """Return those that may go now, small ones first."""
        now = time.monotonic()
        return self._sorted(name for name, one in self.waiting.items() if one.due() <= now)

    def all(self) -> list[str]:
        """Return all, small ones first."""
        return self._sorted(self.waiting)

    def _sorted(self, names: Iterable[str]) -> list[str]:
        return sorted(names, key=lambda name: self.waiting[name].size)

    def is_young(self, known: Container[str]) -> bool:
        """Whether a file waits since a short while ago that is not among those known."""
        now = time.time()
        return any(abs(now - one.since) < YOUNG_SECONDS and name not in known for name, one in self.waiting.items())

    def next_due(self) -> float | None:
        """When the next one may go, on the monotonic clock."""
        return min((one.due() for one in self.waiting.values()), default=None)

    def summary(self) -> dict[str, float | int | None]:
        """Return the numbers for the status."""
        return {
            "files": len(self.waiting),
            "bytes": sum(one.size for one in self.waiting.values()),
            "oldest": min((one.since for one in self.waiting.values()), default=None),
        }
