"""What came and was not fetched yet, for a request or for none. One thread fills it, another one fetches."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable

from .messages import Message, own

MOST_MERGED = 1 << 18
"""Characters of a stream that are handed on at once."""
MOST_NEWS = 64 << 20
"""Bytes of `News` that are kept."""


class Arrived:
    """A message that nobody fetched yet. What follows it in the same stream is added, and fetched with it."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self._more: list[str] | None = [] if message.header.get("msg_type") == "stream" else None
        self._size = 0

    def add(self, message: Message) -> bool:
        """Add a message that says more in the same stream; False when it does not."""
        first = self._message
        if self._more is None or message.header.get("msg_type") != "stream" or self._size > MOST_MERGED:
            return False
        if message.content.get("name") != first.content.get("name") or message.parent != first.parent:
            return False
        self._more.append(message.content["text"])
        self._size += len(self._more[-1])
        return True

    def fetch(self) -> Message:
        """Return the message; nothing is added to it any more."""
        message, more, self._more = self._message, self._more, None
        if not more:
            return message
        text = "".join([message.content["text"], *more])
        return message._replace(content={**message.content, "text": text}, packed=b"")


class Request:
    """What came for one request; `to` takes it at once, in place of whoever fetches."""

    def __init__(self, to: Callable[[Message], None] | None = None) -> None:
        self.waiting: queue.SimpleQueue[Arrived | None] = queue.SimpleQueue()
        self.newest: Arrived | None = None
        self.give = to or self._keep
        self.replied = self.idle = False

    def _keep(self, message: Message) -> None:
        """Have a message wait, together with what waits of the same stream."""
        if self.newest is None or not self.newest.add(message):
            self.newest = Arrived(message)
            self.waiting.put(self.newest)


class News:
    """What belongs to no request of ours, such as the output of threads, until somebody shows it.

    Nobody may ever: the oldest goes first, and how much that was is told.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: deque[tuple[Arrived, list[int]]] = deque()
        self._size = self._lost = self._lost_size = 0

    def put(self, message: Message) -> None:
        """Have a message wait, together with what waits of the same stream."""
        size = len(message.packed)
        with self._lock:
            if not (self._all and self._all[-1][0].add(message)):
                self._all.append((Arrived(message), []))
            self._all[-1][1].append(size)
            self._size += size
            while self._size > MOST_NEWS and len(self._all) > 1:
                sizes = self._all.popleft()[1]
                self._size -= sum(sizes)
                self._lost_size += sum(sizes)
                self._lost += len(sizes)

    def take(self) -> list[Message]:
        """Return what waits, with a message ``output_lost`` ahead of it where something is missing."""
        with self._lock:
            lost = {"bytes": self._lost_size, "messages": self._lost, "here": True}
            found = [own("output_lost", lost)] if self._lost else []
            found += [arrived.fetch() for arrived, _ in self._all]
            self._all.clear()
            self._size = self._lost = self._lost_size = 0
            return found
