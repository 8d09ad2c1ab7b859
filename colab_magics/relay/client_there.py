"""A client as its relay sees it: where its records come from and where they go. Stands alone: shipped to the host.

`attach.py` hands over the standard input and output that it was started with. So no process stands between ssh and the
relay; it only waits until the relay, or the client, lets go of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from . import wire

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 1 << 20
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ, which Python knows from 3.10 on
_TWO = struct.Struct("2i")


class Client:
    """The connection of one client.

    Parameters
    ----------
    connection : socket
        That of `attach.py`.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.source = self.sink = connection.fileno()
        self.reader = wire.Reader()
        self.out = bytearray()
        """Records beside the spool: they go before its next piece."""
        self.position: int | None = None
        self.writes = False
        self.hello: dict[str, Any] = {}
        self.closing = False
        self.told: set[str] = set()
        """Cells of whose end it was told beside the spool."""
        # What is being sent: it is finished before anything else.
        self._rest = memoryview(b"")

    def receive(self, fd: int) -> bytes | None:
        """Return what came through a descriptor; None for nothing, nothing for the end. May exchange `source`."""
        try:
            if fd != self.socket.fileno():
                return os.read(fd, MOST)
            room = socket.CMSG_SPACE(_TWO.size)
            data, about, _, _ = self.socket.recvmsg(MOST, room, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        for level, kind, packed in about:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(packed) == _TWO.size:
                self.source, self.sink = _TWO.unpack(packed)
                os.set_blocking(self.source, False)
                os.set_blocking(self.sink, False)
                # More at once wakes fewer programs on the way. Not every kind of pipe knows that, nor grants it.
                with contextlib.suppress(OSError):
                    fcntl.fcntl(self.sink, _SET_PIPE_SIZE, MOST)
        return data

    def flush(self, piece: Callable[[Client], bytes]) -> bool:
        """Send what fits; whether something is left. `piece` returns what comes next of the spool, as a record."""
        while True:
            if not self._rest:
                data = bytes(self.out)
                self.out.clear()
                self._rest = memoryview(data or piece(self))
                if not self._rest:
                    return False
            try:
                self._rest = self._rest[os.write(self.sink, self._rest) :]
            except BlockingIOError:
                return True

    def finish(self, seconds: float) -> None:
        """Send what is left beside the spool, if it is taken in time."""
        limit = time.monotonic() + seconds
        while (
            self.flush(lambda client: b"") and select.select([], [self.sink], [], max(0, limit - time.monotonic()))[1]
        ):
            pass

    def close(self) -> None:
        """Let go of it."""
        for fd in {self.source, self.sink} - {self.socket.fileno()}:
            os.close(fd)
        self.socket.close()
