"""Read what a kernel says: all that is here at once, and without a future for each message.

A message is checked and unpacked as jupyter_client does it (`jupyter_client.session.Session.deserialize`), but for its
date, which is read as what kernels write and not as any date there may be; and no signatures are remembered, because
these sockets lie in a folder of this user's alone. pyzmq reads a socket for asyncio with a future, two looks and a
timer each; here the event of its file leads to the messages, as ZeroMQ's manual says (ZMQ_FD): it comes once for all
of them, and after a look or a sending it may not come at all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from hmac import compare_digest
from types import TracebackType
from typing import Any

import zmq
from jupyter_client.adapter import adapt

USES = {
    "zmq.asyncio.Socket": ("_init_io_state", "_current_loop"),
    "jupyter_client.session.Session": ("sign", "unpack", "auth"),
}
"""What this module relies on, for the canary tests."""

_BURST = 64
"""Messages after which others get their turn."""
_VERSION = "5"
"""Of the protocol, which kernels have spoken since 2014."""


class Inbox:
    """Reads a channel while it is open; entered where an event loop runs.

    Parameters
    ----------
    channel : ZMQSocketChannel
        Of an asynchronous client.
    take : callable
        Gets each message.
    failed : callable
        Gets what `take` raised, or the check of a message; nothing more is read then.
    """

    def __init__(
        self, channel: Any, take: Callable[[dict[str, Any]], None], failed: Callable[[Exception], None]
    ) -> None:
        self._channel, self._take, self._failed = channel, take, failed
        self._socket: zmq.Socket[bytes] = zmq.Socket.shadow(channel.socket.underlying)
        self._file = int(self._socket.getsockopt(zmq.FD))
        self._open = False

    def __enter__(self) -> Inbox:
        """Read from now on, in place of pyzmq."""
        self._open = True
        asyncio.get_running_loop().add_reader(self._file, self.look)
        self.soon()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the socket to pyzmq again."""
        self._open = False
        asyncio.get_running_loop().remove_reader(self._file)
        if self._channel.socket._current_loop is not None:
            self._channel.socket._init_io_state()  # it was reading; otherwise it begins at its first use

    def soon(self) -> None:
        """Look soon: something was sent, which may have taken the event."""
        asyncio.get_running_loop().call_soon(self.look)

    def look(self) -> None:
        """Take what is here."""
        if not self._open:
            return
        try:
            for _ in range(_BURST):
                try:
                    frames = self._socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    return
                self._take(message_of(self._channel.session, frames))
        except Exception as error:  # noqa: BLE001 - whoever waits for messages is told
            self._open = False
            self._failed(error)
            return
        self.soon()


def message_of(session: Any, frames: list[bytes]) -> dict[str, Any]:
    """Check and unpack a message.

    Parameters
    ----------
    session : Session
        Knows the key.
    frames : list of bytes
        As they arrive.

    Raises
    ------
    ValueError, TypeError
        For one that is not signed by that key, or is none.
    """
    _, parts = session.feed_identities(frames)
    if len(parts) < 5:
        raise TypeError(f"a message of {len(parts)} parts")
    if session.auth is not None and not compare_digest(parts[0], session.sign(parts[1:5])):
        raise ValueError("Invalid Signature")
    header, parent, metadata, content = (session.unpack(part) for part in parts[1:5])
    if not str(header.get("version", "")).startswith(_VERSION):
        return dict(adapt(_assembled(header, parent, metadata, content, parts[5:])))
    return _assembled(header, parent, metadata, content, parts[5:])


def _assembled(header: Any, parent: Any, metadata: Any, content: Any, buffers: list[bytes]) -> dict[str, Any]:
    with contextlib.suppress(KeyError, TypeError, ValueError):
        # Python 3.10 does not know Z.
        header["date"] = datetime.fromisoformat(header["date"].replace("Z", "+00:00"))
    return {
        "header": header,
        "msg_id": header["msg_id"],
        "msg_type": header["msg_type"],
        "parent_header": parent,
        "metadata": metadata,
        "content": content,
        "buffers": [memoryview(buffer) for buffer in buffers],
    }


async def until(condition: Callable[[], object], news: asyncio.Event, seconds: float | None = None) -> bool:
    """Wait until something is so, which only news can change; returns whether it was within so many seconds."""
    late = False

    def end() -> None:
        nonlocal late
        late = True
        news.set()

    timer = None if seconds is None else asyncio.get_running_loop().call_later(max(seconds, 0.0), end)
    try:
        while not condition() and not late:
            news.clear()
            await news.wait()
    finally:
        if timer is not None:
            timer.cancel()
    return bool(condition())
