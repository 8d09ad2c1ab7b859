"""A proxy in front of any server on the loopback that lets connections break.

with lossy_proxy(server.port) as proxy:
    proxy.rule = lambda data: "reply" if b"COMMIT" in data else None
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

LOCAL = "127.0.0.1"

Fate = Literal["reply", "request"] | None
"""``reply``: what was sent arrives, and as soon as it is answered, the connection breaks in place of the answer;
``request``: the connection breaks before it arrives; None: all is well."""


@dataclass
class LossyProxy:
    """A running proxy.

    Parameters
    ----------
    port, to : int
        Where it listens, and where the server does.
    rule : callable
        Decides the fate of what a client has sent just now.
    lost : int
        How many connections it broke.
    """

    port: int
    to: int
    rule: Callable[[bytes], Fate] = lambda data: None
    lost: int = 0
    open: set[socket.socket] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def lose(self, count: int, word: bytes = b"COMMIT", fate: Fate = "reply") -> None:
        """Break the next connections that send a word, so many."""
        left = [fate] * count

        def rule(data: bytes) -> Fate:
            with self.lock:
                return left.pop() if word in data and left else None

        self.rule = rule


@contextmanager
def lossy_proxy(to: int) -> Iterator[LossyProxy]:
    """Run a proxy in front of a port of this machine until the block ends."""
    listener = socket.create_server((LOCAL, 0), backlog=128)
    proxy = LossyProxy(listener.getsockname()[1], to)
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # closed: the block has ended
                return
            threads.append(threading.Thread(target=_serve, args=(proxy, client), daemon=True))
            threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield proxy
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(10)
        for one in list(proxy.open):
            _break(one)
        for thread in threads:
            thread.join(10)


def _serve(proxy: LossyProxy, client: socket.socket) -> None:
    with client, socket.create_connection((LOCAL, proxy.to)) as server:
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        proxy.open |= {client, server}
        breaks = threading.Event()

        def back() -> None:
            with contextlib.suppress(OSError):
                while data := server.recv(1 << 16):
                    if breaks.is_set():
                        break
                    client.sendall(data)
            _break(client)

        answering = threading.Thread(target=back, daemon=True)
        answering.start()
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                fate = proxy.rule(data)
                if fate is not None:
                    proxy.lost += 1
                    breaks.set()
                if fate == "request":
                    break
                server.sendall(data)
        _break(server)
        answering.join()
        proxy.open -= {client, server}


def _break(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
