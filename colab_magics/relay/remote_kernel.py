"""A kernel on another machine, with the requests of jupyter_client's client; `jupyter` makes a client of it.

What a request brings is fetched by `RemoteKernel.messages`; what belongs to no request of this client goes to
`on_message`: output of threads that go on, and what was said while nobody was connected.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from ..errors import InvalidInput, Unavailable
from . import wire
from .arrived import Request
from .environment import Environment, spelled
from .link import PING_SECONDS, Link
from .messages import Cell, Message, Requests, own
from .state import State

CAP = 2_000_000_000
END_SECONDS = 20.0
KEPT_DONE = 1000
"""So many requests that ended and were not fetched are remembered."""


class RemoteKernel(Requests):
    """A kernel on a host; `attach` makes one.

    Parameters
    ----------
    host : str
        Its name for ssh; empty for this machine.
    name : str
        Which of the kernels there: letters, digits, dots, dashes; other names are spelled so.
    python, env : str
        The Python there; see `Environment`.
    folder : str
        Where it works; below the home folder unless it is absolute. The home folder by default.
    cap : int
        Bytes of output that are kept there while nobody takes them.
    idle : float
        Seconds without a client and without work after which it ends; 0 for never.
    once : bool
        Whether no other kernel will ever have this name: nothing of it stays there when it has ended.
    ping : float
        Seconds without an answer after which the connection is made anew.
    on_message : callable, optional
        Called, in a thread, with each `Message` that belongs to no request of this client.
    on_state : callable, optional
        Called, in a thread, with each new `State` of the connection.
    """

    def __init__(
        self,
        host: str,
        name: str = "main",
        *,
        python: str = "",
        env: str = "",
        folder: str = "",
        cap: int = CAP,
        idle: float = 0.0,
        once: bool = False,
        ping: float = PING_SECONDS,
        on_message: Callable[[Message], None] = lambda message: None,
        on_state: Callable[[State], None] = lambda state: None,
    ) -> None:
        self.host, self.name = host, name
        self.on_message, self.on_state = on_message, on_state
        self.session = uuid.uuid4().hex
        self.welcome: dict[str, Any] = {}
        self.missed: list[Cell] = []
        self.started = False
        settings = {"folder": folder, "cap": cap, "idle": idle, "once": once}
        _check(settings)
        self._link = Link(
            host,
            spelled(name),
            Environment(python, env, folder),
            settings,
            on_record=self._take,
            on_state=self._changed,
            ping=ping,
        )
        self._lock = threading.Lock()
        self._requests: dict[str, Request] = {}
        self._done: deque[str] = deque()
        self.asked_input: dict[str, Any] = {}
        self._death: Unavailable | None = None

    def __repr__(self) -> str:
        return f"<kernel {self.name} on {self._link.place}: {self._link.state}>"

    # connection

    def connect(
        self, *, new: bool = False, start: bool = True, tell: Callable[[str], None] = lambda text: None
    ) -> RemoteKernel:
        """Connect; `attach` does."""
        self.welcome = self._link.open(new=new, start=start, tell=tell)
        self.started = self.welcome["started"]
        for cell in self.welcome["cells"]:
            self.missed.append(Cell(cell["msg_id"], cell["code"], cell["begun"], cell["done"]))
            self._requests[cell["msg_id"]] = Request()
        self._link.listen()
        return self

    @property
    def state(self) -> State:
        """How the connection stands."""
        return self._link.state

    @property
    def lives(self) -> bool:
        """Whether the kernel is there for this client, as far as anybody knows; also while offline."""
        return self._death is None and self._link.state.kind != "gone"

    @property
    def connection_pid(self) -> int | None:
        """Process id of the ssh that is joined to the relay now."""
        connection = self._link._connection
        return connection.pid if connection else None

    def status(self, timeout: float = 5.0) -> dict[str, Any]:
        """Say how kernel and connection stand.

        Returns
        -------
        dict
            ``state``, ``since``, ``reason``, ``host``, ``name``, ``last_seen``, ``rtt``; and of the relay, as it said
            last: ``pid``, ``age`` (seconds), ``memory`` and ``spool`` (bytes), ``running`` (msg_id or None),
            ``folder``, ``python``, ``version``, ``hostname``, ``idle``, ``cap``.
        """
        fresh = self._link.status(timeout)
        known = {key: value for key, value in self.welcome.items() if key != "cells"}
        self.welcome.update(fresh or {})
        state = self._link.state
        own = {"state": state.kind, "since": state.since, "reason": state.reason, "host": self.host, "name": self.name}
        return {**known, **(fresh or {}), **own, "last_seen": self._link.last_seen, "rtt": self._link.rtt}

    def close(self) -> None:
        """Leave the kernel running there, and disconnect."""
        self._link.close()
        self._wake()

    # requests, as jupyter_client's

    def send(
        self,
        msg_type: str,
        content: dict[str, Any],
        *,
        channel: str = "shell",
        parent: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        buffers: list[bytes] | None = None,
    ) -> str:
        """Send a message of any type, such as ``comm_msg``; returns its msg_id."""
        header = {"msg_id": uuid.uuid4().hex, "session": self.session, "username": "", "msg_type": msg_type}
        header.update(version="5.3", date=datetime.now(UTC).isoformat())
        parts = [json.dumps(part).encode() for part in (header, parent or {}, metadata or {}, content)]
        self.forward(channel, header, [*parts, *(buffers or [])])
        return header["msg_id"]

    def forward(
        self, channel: str, header: dict[str, Any], parts: list[bytes], to: Callable[[Message], None] | None = None
    ) -> None:
        """Send a message that was made elsewhere: its four parts and its buffers; what it brings goes to `to`."""
        if header["msg_type"].endswith("_request"):
            if self._death:
                raise self._death
            with self._lock:
                self._requests[header["msg_id"]] = Request(to)
        self._link.send(wire.CHANNELS.index(channel), wire.frames(parts))

    def interrupt(self, msg_id: str | None = None) -> bool:
        """Interrupt what runs there, or only this request; False when offline, and then nothing is interrupted."""
        return self._link.send_now(wire.SIGNAL, signal=2, of=msg_id)

    def write_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file below the kernel's folder, before any request that is sent later is executed.

        One that cannot be written arrives as a message ``file_error`` at `on_message`.
        """
        head = json.dumps({"path": path, "mode": mode}).encode()
        self._link.send(wire.FILE, wire.frames([head, data]))

    def remove_file(self, path: str) -> None:
        """Remove a file below the kernel's folder; see `write_file`."""
        self._link.send(wire.FILE, wire.frames([json.dumps({"path": path, "remove": True}).encode(), b""]))

    def change(self, **settings: float) -> None:
        """Have the relay take other settings, ``idle`` or ``cap``; while it is offline they wait.

        `status` says which it has. A relay that an earlier version started takes none, and says no ``cap``.
        """
        _check(settings)
        self._link.send(wire.SETTINGS, wire.frames([json.dumps(settings).encode()]))

    def shutdown(self, restart: bool = False, timeout: float = END_SECONDS) -> None:
        """End the kernel and its relay, and delete what it kept there.

        Raises
        ------
        Unavailable
            When there is no connection, or the relay does not say that it ended.
        """
        if restart:
            raise InvalidInput("A kernel there is not restarted in place.", "Attach with new=True.")
        if not self._link.send_now(wire.END):
            raise Unavailable(
                f"There is no connection to {self._link.place}: the kernel goes on there.",
                "Wait until it is connected again.",
            )
        end = time.monotonic() + timeout
        while self._link.state.kind != "gone":
            if time.monotonic() > end:
                raise Unavailable(f"The kernel on {self._link.place} did not say that it ended.", "Look at it there.")
            time.sleep(0.01)
        self._link.close()

    # delivery

    def messages(self, msg_id: str, timeout: float | None = None) -> Iterator[Message]:
        """Yield what a request brings, until its reply and its end have come. May be called again after an interrupt.

        Text that came faster than it is fetched is joined to one message for each stretch of the same stream.

        Parameters
        ----------
        msg_id : str
            Of a request of this client, or of `missed`.
        timeout : float, optional
            Seconds without any message after which it raises TimeoutError.

        Raises
        ------
        Unavailable
            When the relay or the kernel has ended.
        """
        with self._lock:
            request = self._requests.get(msg_id)
            if request is None:
                raise InvalidInput(f"{msg_id!r} is no request that waits.", "Each is fetched once.")
        while True:
            if not (request.replied and request.idle) or not request.waiting.empty():
                self._raise_if_ended(request)
                try:
                    arrived = request.waiting.get(timeout=timeout)
                except queue.Empty:
                    raise TimeoutError(f"no message in {timeout:g} s") from None
                if arrived is not None:
                    with self._lock:
                        message = arrived.fetch()
                    yield message
                continue
            with self._lock:
                self._requests.pop(msg_id, None)
            return

    def _raise_if_ended(self, request: Request) -> None:
        if request.waiting.empty():
            error = self._death or self._link.state.error
            if error is not None:
                raise error
            if self._link.state.kind == "gone":
                raise Unavailable(f"The kernel on {self._link.place} was left.", "Connect again: %remote HOST")

    def _changed(self, state: State) -> None:
        if state.kind == "gone":
            self._wake()
        self.on_state(state)

    def _wake(self) -> None:
        with self._lock:
            for request in self._requests.values():
                request.waiting.put(None)

    def _take(self, kind: int, payload: bytes) -> None:
        """Sort what came; in the link's thread."""
        if kind == wire.LOST:
            self._lost(json.loads(payload))
            return
        if kind == wire.NOTE:
            self._note(wire.parse(payload))
            return
        parts = wire.split(payload)
        header, parent, metadata, content = (json.loads(part) for part in parts[:4])
        message = Message(wire.CHANNELS[kind], header, parent, metadata, content, parts[4:], parts[3])
        if message.header["msg_type"] == "input_request":
            self.asked_input = message.header
        self._deliver(message.parent.get("msg_id", ""), message)

    def _deliver(self, msg_id: str, message: Message) -> None:
        with self._lock:
            request = self._requests.get(msg_id)
            if request is not None and not (request.replied and request.idle):
                # First the message, then the mark: whoever fetches sees no end before the last message.
                request.give(message)
                if message.channel in ("shell", "control"):
                    request.replied = True
                elif message.header["msg_type"] == "status" and message.content["execution_state"] == "idle":
                    request.idle = True
                if request.replied and request.idle:
                    self._keep_few(msg_id)
                return
        self.on_message(message)

    def _keep_few(self, msg_id: str) -> None:
        """Forget replies that nobody fetches."""
        self._done.append(msg_id)
        while len(self._done) > KEPT_DONE:
            self._requests.pop(self._done.popleft(), None)

    def _note(self, words: dict[str, Any]) -> None:
        if "file" in words:
            self.on_message(own("file_error", {"path": words["file"], "error": words["error"]}))
            return
        self._death = Unavailable(
            f"The kernel on {self._link.place} died ({words['died']}).",
            "SIGKILL is often the end of memory there. Start a new one: %remote HOST --new",
        )
        self._wake()
        self.on_message(own("kernel_died", {"how": words["died"]}))

    def _lost(self, lost: dict[str, Any]) -> None:
        """Output was dropped there: say so, and end the requests whose end was among it."""
        content = {"bytes": lost["bytes"], "messages": lost["messages"], "disk": lost["disk"]}
        if lost["bytes"]:
            self.on_message(own("output_lost", content))
        for cell in lost["ended"]:
            parent = {"msg_id": cell["msg_id"], "msg_type": cell["kind"]}
            reply = {"status": cell.get("status", "ok"), "execution_count": cell.get("count"), "lost": True}
            kind = cell["kind"].replace("_request", "_reply")
            with self._lock:
                request = self._requests.get(cell["msg_id"])
            if request is None:
                continue
            if not request.replied:
                self._deliver(cell["msg_id"], Message("shell", {"msg_type": kind}, parent, {}, reply, []))
            if not request.idle:
                idle = {"execution_state": "idle"}
                self._deliver(cell["msg_id"], Message("iopub", {"msg_type": "status"}, parent, {}, idle, []))


def _check(settings: dict[str, Any]) -> None:
    if settings.get("cap", CAP) < 1 << 16 or settings.get("idle", 0.0) < 0:
        raise InvalidInput(
            "spool= or idle= is too small.", "The spool holds at least 64 KiB; idle= is no negative time."
        )


def attach(
    host: str,
    name: str = "main",
    *,
    new: bool = False,
    start: bool = True,
    tell: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> RemoteKernel:
    """Connect to the kernel of this name on a host, or start one.

    Parameters
    ----------
    host : str
        Its name for ssh.
    name : str, default "main"
        Which of the kernels there.
    new : bool
        End the one that runs, and start afresh.
    start : bool, default True
        Start one where none runs.
    tell : callable
        Is told what takes time, such as the first preparation of a host.
    **options
        See `RemoteKernel`.

    Returns
    -------
    RemoteKernel
        Connected; ``started`` says whether it is a new kernel, ``missed`` which cells' output nobody took yet, and
        ``welcome`` how old it is (``age``) and what it holds (``memory``).
    """
    return RemoteKernel(host, name, **options).connect(new=new, start=start, tell=tell)
