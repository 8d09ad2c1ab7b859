"""The ports of a Jupyter connection file, behind which a kernel on another machine answers.

Any client that reads the file finds a kernel here: requests are checked, go to `RemoteKernel`, and what they bring
comes back signed with the file's key. Interrupts and the end are done here: the relay has better than messages for
them.

One thread has the sockets; the link's threads hand on what they have by a queue.
"""

from __future__ import annotations

import collections
import hashlib
import hmac
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import zmq

from ..errors import ColabMagicsError, Unavailable
from .messages import Message, as_output
from .remote_kernel import RemoteKernel
from .state import State

log = logging.getLogger("colab_magics")

DELIMITER = b"<IDS|MSG>"
KINDS = {"shell": zmq.ROUTER, "control": zmq.ROUTER, "stdin": zmq.ROUTER, "iopub": zmq.PUB, "hb": zmq.ROUTER}
BIND_SECONDS = 10.0
"""A kernel that is restarted gets the ports of the one before, which may still be closing them."""
LINGER = 2000
TICK = 1.0
MOST_AT_ONCE = 500
"""So many messages are handed on before anybody else is heard: an interrupt need not wait for the end of a flood."""


class Received(NamedTuple):
    """A message of a client: who sent it, its header, and its parts without the signature."""

    sender: list[bytes]
    header: dict[str, Any]
    parts: list[bytes]


class Ports:
    """The sockets of a connection file.

    Parameters
    ----------
    file : dict
        What the connection file says.
    """

    def __init__(self, file: dict[str, Any]) -> None:
        self._key = str(file.get("key") or "").encode()
        self._digest = str(file.get("signature_scheme") or "hmac-sha256").removeprefix("hmac-")
        self._session = uuid.uuid4().hex
        self._context = zmq.Context()
        separator = ":" if file["transport"] == "tcp" else "-"
        address = f"{file['transport']}://{file['ip']}{separator}"
        self.sockets = {name: self._bound(kind, f"{address}{file[f'{name}_port']}") for name, kind in KINDS.items()}

    def _bound(self, kind: int, address: str) -> Any:
        one = self._context.socket(kind)
        # Nothing is dropped for a client that reads late.
        one.set_hwm(0)
        one.linger = LINGER
        limit = time.monotonic() + BIND_SECONDS
        while True:
            try:
                one.bind(address)
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE or time.monotonic() > limit:
                    raise Unavailable(f"{address} cannot be used: {error}.", "Start the kernel again.") from None
                time.sleep(0.05)
            else:
                return one

    def receive(self, name: str) -> Received | None:
        """Return the next message of a channel that is in order; None when none waits."""
        while True:
            try:
                frames = self.sockets[name].recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return None
            if name == "hb":
                self.sockets[name].send_multipart(frames)
                continue
            at = frames.index(DELIMITER) if DELIMITER in frames else len(frames)
            parts = frames[at + 2 :]
            if len(parts) < 4 or not hmac.compare_digest(self._signature(parts), frames[at + 1]):
                log.warning("a message without the kernel's key came to its %s port and was dropped", name)
                continue
            return Received(frames[:at], json.loads(parts[0]), parts)

    def send(self, name: str, to: Sequence[bytes], parts: Sequence[bytes]) -> None:
        """Send a message: header, parent, metadata, content, buffers."""
        self.sockets[name].send_multipart([*to, DELIMITER, self._signature(parts), *parts])

    def say(self, name: str, to: Sequence[bytes], kind: str, parent: dict[str, Any], content: dict[str, Any]) -> None:
        """Send a message of our own."""
        self.send(name, to, [json.dumps(part).encode() for part in (self.header(msg_type=kind), parent, {}, content)])

    def header(self, **fields: Any) -> dict[str, Any]:
        """Return a header with all that clients expect in one."""
        own = {"msg_id": uuid.uuid4().hex, "session": self._session, "username": "", "version": "5.3"}
        return {**own, "date": datetime.now(UTC).isoformat(), **fields}

    def _signature(self, parts: Sequence[bytes]) -> bytes:
        if not self._key:
            return b""
        made = hmac.new(self._key, digestmod=getattr(hashlib, self._digest))
        for part in parts[:4]:
            made.update(part)
        return made.hexdigest().encode()

    def close(self) -> None:
        """Send what waits, then close."""
        for one in self.sockets.values():
            one.close()
        self._context.term()


class Served:
    """A kernel that is served at ports, until it is not wanted any more or has ended.

    Parameters
    ----------
    ports : Ports
        Where clients are.
    """

    def __init__(self, ports: Ports) -> None:
        self.ports = ports
        self.asked_to_end = False
        self.error: ColabMagicsError | None = None
        """Why there is no kernel any more."""
        self.died = False
        """Whether the kernel there has died, whose relay stays until it hears that this was heard."""
        self._kernel: RemoteKernel | None = None
        self._came: collections.deque[tuple[Received | None, Message | State]] = collections.deque()
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waker, False)
        self._cells: dict[str, Received] = {}
        """Cells that were sent there and have not ended, the oldest first."""
        self._asker: Received | None = None
        self._interrupts: str | None = None
        self._offline = self._over = self._asked_to_interrupt = False
        self._ends: Received | None = None

    # from the link's threads

    def on_message(self, message: Message) -> None:
        """Take what belongs to no request; see `RemoteKernel`."""
        self._put(None, message)

    def on_state(self, state: State) -> None:
        """Take a new state of the connection; see `RemoteKernel`."""
        self._put(None, state)

    def _put(self, of: Received | None, what: Message | State) -> None:
        self._came.append((of, what))
        self.wake()

    def interrupt_soon(self) -> None:
        """Interrupt the cell that runs, as `interrupt` does; for signal handlers."""
        self._asked_to_interrupt = True
        self.wake()

    def wake(self) -> None:
        """Have the loop look around; also for signal handlers."""
        try:
            os.write(self._waker, b"x")
        except BlockingIOError:
            return  # it will look

    # in the thread that has the sockets

    def serve(
        self, kernel: RemoteKernel, ahead: Callable[[RemoteKernel], list[str]], wanted: Callable[[], bool]
    ) -> None:
        """Serve until a client asks for the end, the kernel has ended, or `wanted` says no.

        Parameters
        ----------
        kernel : RemoteKernel
            Connected, with this object's `on_message` and `on_state`.
        ahead : callable
            Called before each cell is sent; returns what its user should read.
        wanted : callable
            Asked once a second, and after `wake`.
        """
        self._kernel = kernel
        poller = zmq.Poller()
        names = {one: name for name, one in self.ports.sockets.items() if name != "iopub"}
        for source in (*names, self._woken):
            poller.register(source, zmq.POLLIN)
        while self.error is None and not self.asked_to_end and wanted():
            for source, _ in poller.poll(0 if self._came else int(1000 * TICK)):
                if source == self._woken:
                    os.read(self._woken, 4096)
                else:
                    self._take(names[source], kernel, ahead)
            if self._asked_to_interrupt:
                self._asked_to_interrupt = False
                self.interrupt()
            self.hand_on()

    def _take(self, name: str, kernel: RemoteKernel, ahead: Callable[[RemoteKernel], list[str]]) -> None:
        while not self.asked_to_end and (one := self.ports.receive(name)) is not None:
            kind = one.header["msg_type"]
            if kind == "interrupt_request":
                self.interrupt()
                self.ports.say(name, one.sender, "interrupt_reply", one.header, {"status": "ok"})
            elif kind == "shutdown_request":
                self._ends, self.asked_to_end = one, True
            else:
                if kind == "execute_request":
                    self._cells[one.header["msg_id"]] = one
                    self._asker = one
                    for text in ahead(kernel):
                        self._tell(f"⚠ {text}", one.header)
                self._forward(name, kernel, one)

    def _forward(self, name: str, kernel: RemoteKernel, one: Received) -> None:
        try:
            kernel.forward(name, one.header, one.parts, to=lambda message: self._put(one, message))
        except Unavailable as error:
            self.error = error

    def interrupt(self) -> None:
        """Interrupt the cell that runs; while there is no connection, as soon as there is one."""
        self._interrupts = next(iter(self._cells), None)
        if self._interrupts and self._kernel is not None and self._kernel.interrupt(self._interrupts):
            self._interrupts = None

    def hand_on(self) -> None:
        """Hand to the clients what came, but not all of a flood."""
        for _ in range(min(len(self._came), MOST_AT_ONCE)):
            of, what = self._came.popleft()
            if isinstance(what, State):
                if not self._over:
                    self._note(what)
            elif what.channel == "relay":
                self._tell(as_output(what).content["text"].strip(), self._of_running())
                if what.header["msg_type"] == "kernel_died":
                    self.error, self.died = Unavailable(f"The kernel died ({what.content['how']})."), True
            else:
                self._hand(of, what)

    def _hand(self, of: Received | None, message: Message) -> None:
        """Send a message of the kernel to whoever asked for it, or published to all; `of` is what it answers."""
        kind, header, parent = message.header["msg_type"], message.header, message.parent
        if "msg_id" not in header:
            # Made by the link, in place of an end that was dropped there.
            header, parent = self.ports.header(**header), of.header if of else parent
        if message.channel == "iopub":
            to = [f"kernel.{kind}".encode()]
            if kind == "status" and message.content["execution_state"] == "idle":
                self._cells.pop(parent.get("msg_id", ""), None)
        else:
            # A thread may ask for input when its cell has ended.
            asker = of or (self._asker if message.channel == "stdin" else None)
            if asker is None:
                return
            to = asker.sender
        known = [json.dumps(part).encode() for part in (header, parent, message.metadata)]
        packed = message.packed or json.dumps(message.content).encode()
        self.ports.send(message.channel, to, [*known, packed, *message.buffers])

    def _note(self, state: State) -> None:
        if state.kind == "gone" and state.error is not None:
            self.error = Unavailable(state.error.what, "Restart the kernel.")
            self._tell(f"⚠ {self.error}", self._of_running())
        elif state.kind == "offline":
            self._offline = True
            log.warning("%s; the kernel goes on there", state)
        elif state.kind == "connected" and self._offline:
            self._offline = False
            log.warning("%s again", state)
            if self._interrupts in self._cells:
                self.interrupt()

    def _of_running(self) -> dict[str, Any]:
        return next((one.header for one in self._cells.values()), {})

    def _tell(self, text: str, parent: dict[str, Any]) -> None:
        """Show words of our own in a cell, as the kernel's standard error."""
        self.ports.say("iopub", [b"kernel.stream"], "stream", parent, {"name": "stderr", "text": f"{text}\n"})

    def finish(self) -> None:
        """Hand on what is left, answer whoever asked for the end, and close the ports; the kernel was left before."""
        self._over = True
        while self._came:
            self.hand_on()
        if self._ends is not None:
            content = {"status": "ok", "restart": json.loads(self._ends.parts[3]).get("restart", False)}
            self.ports.say("control", self._ends.sender, "shutdown_reply", self._ends.header, content)
            self.ports.say("iopub", [b"kernel.shutdown_reply"], "shutdown_reply", self._ends.header, content)
        self.ports.close()
