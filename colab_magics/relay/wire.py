"""What travels between a relay and its client. Stands alone: it is shipped to the host, where Python may be 3.8.

Both ways a *record* is ``!IBQ``: length of the payload, kind, number; then the payload. Those of the kernel (`SHELL` to
`IOPUB`) carry the frames of a Jupyter message without signature; the others carry JSON, and perhaps further frames.

From the client, records with a number above 0 are kept there until the relay has said that it took them, are sent again
after a break, and are taken once. From the relay, what is spooled travels as `DATA`: pieces of the spool, cut anywhere,
whose position the client counts; all else (`WELCOME`, `PONG`, …) goes beside it and is not repeated.
"""

from __future__ import annotations

import json
import struct

TYPE_CHECKING = False  # that of typing costs an import where every millisecond is waited for
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

PROTOCOL = 1
GREETING = b"colab_magics-relay:"
"""Begins the line that comes before the first record: a login shell may print what it likes above it."""

BEGUN = b"."
"""Says a relay to whoever started it, before it says how its kernel does."""

SHELL, CONTROL, STDIN, IOPUB = range(4)
CHANNELS = ("shell", "control", "stdin", "iopub")
NOTE = 8
"""Spooled words of the relay itself: the kernel ended, a file could not be written."""
FILE, SIGNAL, PING, ACK, END, HELLO, STATUS, SETTINGS = range(16, 24)
"""Of the client."""
DATA, WELCOME, PONG, LOST, TAKEN, FAILED, ENDED = range(32, 39)
"""Of the relay."""

HEAD = struct.Struct("!IBQ")


def frames(parts: Sequence[bytes]) -> bytes:
    """Join frames to one payload."""
    return b"".join([_lengths(parts), *parts])


def _lengths(parts: Sequence[bytes]) -> bytes:
    return struct.pack(f"!H{len(parts)}I", len(parts), *[len(part) for part in parts])


def split(payload: bytes) -> list[bytes]:
    """Return the frames of a payload."""
    (count,) = struct.unpack_from("!H", payload)
    at = 2 + 4 * count
    found = []
    for length in struct.unpack_from(f"!{count}I", payload, 2):
        found.append(payload[at : at + length])
        at += length
    return found


def record(kind: int, payload: bytes, number: int = 0) -> bytes:
    """Return a record."""
    return HEAD.pack(len(payload), kind, number) + payload


def message(kind: int, parts: Sequence[bytes]) -> list[bytes]:
    """Return a record of frames in pieces, to be joined once: frames may be large."""
    lengths = _lengths(parts)
    return [HEAD.pack(len(lengths) + sum(map(len, parts)), kind, 0), lengths, *parts]


def note(kind: int, /, *, number: int = 0, **content: Any) -> bytes:
    """Return a record that carries JSON."""
    return record(kind, json.dumps(content).encode(), number)


def parse(payload: bytes) -> dict[str, Any]:
    """Return the JSON of a payload."""
    value = json.loads(payload)
    return value if isinstance(value, dict) else {}


class Reader:
    """Cuts a stream of bytes into records."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield kind, number and payload of each record that is whole now."""
        waiting = self._waiting
        waiting += data
        at = 0
        try:
            while len(waiting) - at >= HEAD.size:
                length, kind, number = HEAD.unpack_from(waiting, at)
                end = at + HEAD.size + length
                if len(waiting) < end:
                    break
                with memoryview(waiting) as view:
                    payload = bytes(view[at + HEAD.size : end])
                at = end
                yield kind, number, payload
        finally:
            del waiting[:at]

    def clear(self) -> None:
        """Forget a record that is not whole."""
        self._waiting = bytearray()
