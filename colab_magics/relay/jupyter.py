"""A kernel on another machine as a client of jupyter_client, for programs that know those alone.

`blocking_client` and `async_client` return a real ``BlockingKernelClient`` or ``AsyncKernelClient``: what runs on one
(nbclient, papermill, ``execute_interactive``) runs on them. Their channels are jupyter_client's own; in place of ports
they have sockets within this process, which nobody else can reach.

There is no kernel manager, provisioner or kernelspec here: a kernel is started, interrupted and ended by
`RemoteKernel`. nbclient asks its manager for ``has_kernel``, ``client`` and ``interrupt_kernel`` only. A client sees
the output of its own requests and what belongs to no request, but not that of others; and not what was missed
(`RemoteKernel.missed`).
"""

from __future__ import annotations

import json
import threading
from typing import Any

import zmq
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.channelsabc import HBChannelABC
from jupyter_client.session import DELIM

from .messages import Message, as_output
from .remote_kernel import RemoteKernel

_NAMES = ("shell", "iopub", "stdin", "control")


class _Heart(HBChannelABC):  # type: ignore[misc]
    """In place of the heartbeat: whether the kernel there is still ours. A cut connection is no death."""

    time_to_dead = 1.0

    def __init__(self, kernel: RemoteKernel) -> None:
        self._kernel, self._started = kernel, False

    def start(self) -> None:
        self._started = True

    def stop(self) -> None:
        self._started = False

    def is_alive(self) -> bool:
        return self._started

    def pause(self) -> None:
        """Nothing beats here."""

    def unpause(self) -> None:
        """Nothing beats here."""

    def is_beating(self) -> bool:
        return self._kernel.lives


class _Ends:
    """The inner ends of a client's channels; the link's thread writes what comes, whole messages, to them."""

    def __init__(self, kernel: RemoteKernel, session: Any, context: Any) -> None:
        self.kernel, self.session = kernel, session
        self._context: Any = zmq.Context.shadow(context.underlying)
        self._sockets: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._before = kernel.on_message
        kernel.on_message = self.take

    def open(self, name: str, outer: Any) -> Any:
        """Join a new socket of the client to one of ours."""
        inner = self._context.socket(zmq.PAIR)
        for socket in (inner, outer):
            # Whoever fetches late must not stop the link.
            socket.set_hwm(0)
            socket.linger = 0
        address = f"inproc://{id(self)}-{name}"
        with self._lock:
            inner.bind(address)
            self._sockets[name] = inner
        outer.connect(address)
        return outer

    def send(self, name: str, message: dict[str, Any]) -> None:
        """Send a message of the client."""
        parts = [bytes(part) for part in self.session.serialize(message)]
        buffers = [bytes(buffer) for buffer in message.get("buffers") or []]
        self.kernel.forward(name, message["header"], [*parts[parts.index(DELIM) + 2 :], *buffers], to=self.take)

    def take(self, message: Message) -> None:
        """Hand a message to the client."""
        if message.channel == "relay":
            self._before(message)
            message = as_output(message)
        wanted = (message.header, message.parent, message.metadata, message.content)
        parts = [json.dumps(part).encode() for part in wanted]
        with self._lock:
            socket = self._sockets.get(message.channel)
            if socket is not None:
                socket.send_multipart([DELIM, self.session.sign(parts), *parts, *message.buffers])

    def close(self) -> None:
        """Close all of them; what comes now goes where it went before."""
        self.kernel.on_message = self._before
        with self._lock:
            for socket in self._sockets.values():
                socket.close()
            self._sockets.clear()


class _Within:
    """What both clients have in common; goes before jupyter_client's class.

    Parameters
    ----------
    kernel : RemoteKernel
        Where requests go.
    """

    def __init__(self, kernel: RemoteKernel, **options: Any) -> None:
        super().__init__(**options)
        self._kernel = kernel
        self._ends = _Ends(kernel, self.session, self.context)  # type: ignore[attr-defined]
        self._hb_channel = _Heart(kernel)
        for name in _NAMES:
            base = getattr(self, f"{name}_channel_class")
            setattr(self, f"{name}_channel_class", _sending(base, name, self._ends))

    def _connected(self, name: str) -> Any:
        return self._ends.open(name, self.context.socket(zmq.PAIR))  # type: ignore[attr-defined]

    def connect_shell(self, identity: bytes | None = None) -> Any:
        return self._connected("shell")

    def connect_iopub(self, identity: bytes | None = None) -> Any:
        return self._connected("iopub")

    def connect_stdin(self, identity: bytes | None = None) -> Any:
        return self._connected("stdin")

    def connect_control(self, identity: bytes | None = None) -> Any:
        return self._connected("control")

    def stop_channels(self) -> None:
        """Stop; the kernel stays connected."""
        self._ends.close()
        super().stop_channels()  # type: ignore[misc]


def _sending(base: type[Any], name: str, ends: _Ends) -> type[Any]:
    """Return a channel's class whose messages go to the kernel there."""

    def send(self: Any, msg: dict[str, Any]) -> None:
        ends.send(name, msg)

    return type(f"{name.title()}Channel", (base,), {"send": send})


class _Blocking(_Within, BlockingKernelClient):  # type: ignore[misc]
    pass


class _Async(_Within, AsyncKernelClient):  # type: ignore[misc]
    pass


def blocking_client(kernel: RemoteKernel) -> BlockingKernelClient:
    """Return a client whose methods wait.

    Parameters
    ----------
    kernel : RemoteKernel
        Connected. It has one client at a time; its ``messages`` go on to serve requests of its own.

    Returns
    -------
    BlockingKernelClient
        Start its channels, as ever.
    """
    return _Blocking(kernel)


def async_client(kernel: RemoteKernel) -> AsyncKernelClient:
    """Return a client whose methods are awaited; see `blocking_client`."""
    return _Async(kernel)
