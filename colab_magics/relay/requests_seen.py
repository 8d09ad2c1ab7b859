"""Which requests a relay took, and which of them still run. Stands alone: it is shipped to the host."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from typing import Any

from . import wire

MOST = 20_000
"""So many are remembered; a client repeats only what it sent last."""
CODE = 400
"""So much of a cell's text is told again."""
LATE = 1.0
"""A kernel replies before it says that it is idle: so many seconds later no reply comes any more."""

_PLACES = ("reply_at", "end_at")
"""Where in the spool the reply ends, and the end of its output. They come by two channels, either may be first."""


class RequestsSeen:
    """Requests by msg_id, in the order in which they came."""

    def __init__(self) -> None:
        self._all: OrderedDict[str, dict[str, Any]] = OrderedDict()
        # Cells that have not ended: few, while all may be thousands, and it is asked after each message.
        self._open: dict[str, dict[str, Any]] = {}
        self.last_number = 0
        self.session = ""

    def enter(self, session: str) -> None:
        """A client came, or came back: the numbers of its records count from where they were."""
        if session != self.session:
            self.session, self.last_number = session, 0

    def is_new(self, number: int) -> bool:
        """Whether a record was not taken before; remembers that it is now. Number 0 is always new."""
        new = not number or number > self.last_number
        self.last_number = max(number, self.last_number)
        return new

    def begin(self, parts: list[bytes]) -> bool:
        """Note a request to the kernel; False when its msg_id was there before."""
        header = json.loads(parts[0])
        if header["msg_id"] in self._all:
            return False
        kind = header["msg_type"]
        one = {"msg_id": header["msg_id"], "kind": kind, "begun": time.time(), "replied": False, "idle": False}
        if kind == "execute_request":
            content = json.loads(parts[3])
            one.update(code=content.get("code", "")[:CODE], silent=bool(content.get("silent")), started=0.0)
            self._open[header["msg_id"]] = one
        self._all[header["msg_id"]] = one
        while len(self._all) > MOST:
            self._open.pop(self._all.popitem(last=False)[0], None)
        return True

    def note(self, channel: int, parts: list[bytes], end: int) -> None:
        """Look at what the kernel said: replies, and the end of a request's output; `end` is its place in the spool."""
        about_state = channel == wire.IOPUB and (b'"status"' in parts[0] or b'"execute_input"' in parts[0])
        if channel == wire.STDIN or (channel == wire.IOPUB and not about_state):
            return
        one = self._all.get(json.loads(parts[1]).get("msg_id", ""))
        if one is None:
            return
        content = json.loads(parts[3])
        if channel != wire.IOPUB:
            one.update(replied=True, status=content.get("status"), count=content.get("execution_count"))
            one.update(end=end, reply_at=end)
        elif content.get("execution_state") == "idle":
            one.update(idle=True, end=end, end_at=end, idle_at=time.monotonic())
        elif "code" in content or (one.get("silent") and content.get("execution_state") == "busy"):
            one["started"] = time.monotonic()
        if _done(one):
            self._open.pop(one["msg_id"], None)

    def running(self) -> str | None:
        """Return the msg_id of the cell that is being executed."""
        return next(iter(self._open), None)

    def has_ended(self, msg_id: str) -> bool:
        """Whether a request was taken and is over."""
        return msg_id in self._all and _done(self._all[msg_id])

    def told_between(self, start: int, end: int) -> set[str]:
        """Return the requests whose reply or end lies in a part of the spool."""
        return {name for name, one in self._all.items() if any(start < one.get(at, -1) <= end for at in _PLACES)}

    def ends(self, names: set[str]) -> list[dict[str, Any]]:
        """Return what is known of those of these requests that are over."""
        return [dict(one, done=True) for name in names if (one := self._all.get(name)) and _done(one)]

    def begun(self, msg_id: str) -> float:
        """Return for how many seconds the kernel has been at a cell; 0 when it has not begun."""
        started: float = self._all.get(msg_id, {}).get("started") or 0.0
        return time.monotonic() - started if started else 0.0

    def unanswered(self) -> list[str]:
        """Return the cells that the kernel has left without a reply."""
        # An interrupt that hits a kernel in its own code ends the cell, and nobody replies (ipykernel 6 and 7).
        end = time.monotonic() - LATE
        return [name for name, one in self._open.items() if one["idle"] and one["idle_at"] < end]

    def untold(self, position: int) -> list[dict[str, Any]]:
        """Return the cells that run, or whose end lies behind a position of the spool."""
        cells = [one for one in self._all.values() if "code" in one]
        return [dict(one, done=_done(one)) for one in cells if not _done(one) or one["end"] > position]


def _done(one: dict[str, Any]) -> bool:
    return bool(one["replied"] and one["idle"])
