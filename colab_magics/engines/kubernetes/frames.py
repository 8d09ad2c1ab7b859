"""What a run tells through its container's log, for people and for the engine alike.

What the run prints stands there as it is. All else is lines of our own, each with a mark in front, a word and base64:
lines that are not whole or not plain, its state, its metrics, and at its end the files that it has written. A line of
sizes tells how much there should have been, so that what a cluster did not keep is noticed.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MARK = "\x1ecolab-magics "
_MORE = 60
"""Seconds of the log that are asked for a second time: two machines' clocks run alike, but a log may lag."""
_PIECE = 6000
"""Bytes of a line: longer ones are cut into pieces by container runtimes, too."""
LOG, METRICS, STATE, FILES, SIZES, END = "log", "metrics", "state", "files", "sizes", "end"


def of_log(data: bytes) -> Iterator[str]:
    """Yield the lines that tell what was printed."""
    for line in data.splitlines(keepends=True):
        text = line[:-1].decode("utf-8", "replace")
        if line.endswith(b"\n") and len(line) < _PIECE and text.isprintable() and text.encode() == line[:-1]:
            yield text
        else:
            yield from frames(LOG, line)


def frames(kind: str, data: bytes) -> Iterator[str]:
    """Yield the lines that hold data, in pieces; those after the first have a plus behind their word."""
    for start in range(0, max(len(data), 1), _PIECE):
        yield f"{MARK}{kind}{'+' if start else ''} {base64.b64encode(data[start : start + _PIECE]).decode()}"


@dataclass
class Reader:
    """What has come of one pod."""

    log: bytearray = field(default_factory=bytearray)
    metrics: bytearray = field(default_factory=bytearray)
    files: bytearray = field(default_factory=bytearray)
    state: bytes = b""
    ended: bool = False
    expected: int = 0
    """Bytes of the files that it has written, packed."""
    lost: int = 0
    """Bytes of the log that the cluster did not keep."""
    _last: tuple[int, int] = (0, 0)
    _at_last: int = 0
    asked: float | None = None
    """When the log was asked for last, by this process's clock."""

    def since(self, now: float) -> int | None:
        """Return how many seconds of the log to ask for: what came since the last time, and some more."""
        return None if self.asked is None else int(now - self.asked) + _MORE

    def feed(self, text: str) -> None:
        """Take a log with the time of each line; what came before is not taken twice."""
        seen, count = (0, 0), 0
        for line in text.split("\n"):
            stamp, space, rest = line.partition(" ")
            when = _moment(stamp) if space else None
            if when is None:
                continue
            count = count + 1 if when == seen else 1
            seen = when
            if when < self._last or (when == self._last and count <= self._at_last):
                continue
            self._last, self._at_last = when, count
            self._take(rest)

    def _take(self, line: str) -> None:
        if not line.startswith(MARK):
            self.log += line.encode() + b"\n"
            return
        word, _, packed = line.removeprefix(MARK).partition(" ")
        kind = word.removesuffix("+")
        try:
            data = base64.b64decode(packed, validate=True)
        except (binascii.Error, ValueError):
            return  # cut off in the middle: the sizes tell
        if kind in (LOG, METRICS, FILES):
            getattr(self, kind).extend(data)
        elif kind == STATE:
            self.state = self.state + data if word != kind else data
        elif kind == SIZES:
            self._compare(data)
        elif kind == END:
            self.ended = True
            self.expected = _number(data)

    def _compare(self, data: bytes) -> None:
        try:
            said: Any = json.loads(data)
            missing = int(said[LOG]) - len(self.log) - self.lost
        except (ValueError, KeyError, TypeError):
            return
        self.lost += max(0, missing)


def _number(data: bytes) -> int:
    return int(data) if data.isdigit() else 0


def _moment(stamp: str) -> tuple[int, int] | None:
    """Read a time such as ``2026-01-02T03:04:05.000000001Z``, to be compared with others of the same clock."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    digits = "".join(letter for letter in whole if letter.isdigit())
    if not stamp.endswith("Z") or len(digits) != 14:
        return None
    return int(digits), int((fraction + "0" * 9)[:9]) if (fraction or "0").isdigit() else 0
