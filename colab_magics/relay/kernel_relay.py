"""The relay: owns one kernel, spools what it says, serves one client at a time. Stands alone: shipped to the host.

It runs detached, in `serving.py`, as long as the kernel is wanted. A client that goes away costs nothing: the kernel
goes on, and the next one is sent what was not taken.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
import uuid
from typing import Any

import zmq

from . import files_there, kernel_process, processes_there, wire
from .client_there import Client
from .requests_seen import RequestsSeen
from .spool import Spool

TICK = 1.0
OWN_CODE_SECONDS = 0.05
"""So long ipykernel and IPython are at a cell before its own lines are executed; they swallow interrupts then."""
UNMET_SECONDS = 60.0
"""So long a relay waits for its first client: whoever had it started may be gone."""
AFTER_DEATH = 3600.0
"""So long a relay whose kernel died waits for somebody to be told."""


class Relay:
    """One kernel and who listens to it.

    Parameters
    ----------
    settings : dict
        ``home`` (its own folder), ``folder`` (the kernel's), ``program``, ``cap``, ``idle``.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.home = settings["home"]
        self.epoch = uuid.uuid4().hex
        self.began = self.active = time.time()
        # Paths of unix sockets are short, and no unix socket works on every home folder.
        self.sockets = tempfile.mkdtemp(prefix="colab_magics-", dir="/tmp")
        self.seen = RequestsSeen()
        self.clients: list[Client] = []
        self.by_descriptor: dict[int, Client] = {}
        self.ending = self.asked_to_end = False
        self.interrupted: str | None = None
        self.unkept = {"messages": 0, "bytes": 0}
        self.holes: set[str] = set()
        """Requests whose reply or end was dropped, or taken by a client that is gone."""
        self.told_unkept = 0.0
        self.died = 0.0
        self.poller = zmq.Poller()
        self.spool = Spool(self.home, settings["cap"])
        self.sent = files_there.Sent(settings["folder"])
        self.listener = socket.socket(socket.AF_UNIX)

    def start(self) -> str:
        """Start the kernel; returns "" or why it did not start."""
        os.makedirs(self.settings["folder"], 0o700, exist_ok=True)
        self.kernel = kernel_process.Kernel(self.settings["program"], self.sockets, self.settings["folder"])
        address = os.path.join(self.sockets, "s")
        self.listener.bind(address)
        problem = self.kernel.wait_until_ready()
        if problem:
            return problem
        self.listener.listen(8)
        self.listener.setblocking(False)
        self.wake, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self.wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "ending", True))
        # A session that logs out must not take the kernel along.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for source in (*self.kernel.sockets, self.listener, self.wake):
            self.poller.register(source, zmq.POLLIN)
        # A slow start is no idle time.
        self.active = time.time()
        about: dict[str, Any] = {"socket": address, "epoch": self.epoch, "protocol": wire.PROTOCOL}
        about.update(relay=processes_there.identity(os.getpid()), folder=self.settings["folder"])
        about.update(kernel=processes_there.identity(self.kernel.pid), sockets=self.sockets)
        write_json(os.path.join(self.home, "relay.json"), about)
        return ""

    def run(self) -> None:
        """Serve until the kernel is not wanted any more."""
        channels = {one: number for number, one in enumerate(self.kernel.sockets)}
        while not self.ending:
            for source, event in self.poller.poll(
                int(1000 * (TICK if self.interrupted is None else OWN_CODE_SECONDS / 4))
            ):
                if source in channels:
                    self._take(channels[source])
                elif source == self.listener.fileno():
                    self._accept()
                elif source == self.wake:
                    os.read(self.wake, 4096)
                elif source in self.by_descriptor:
                    self._serve(self.by_descriptor[source], source, event)
            self._look()
            for client in list(self.clients):
                self._flush(client)

    def _take(self, channel: int) -> None:
        """Spool what the kernel said."""
        records: list[bytes] = []
        size = count = 0
        for parts in self.kernel.said(channel):
            record = wire.message(channel, parts)
            length = sum(map(len, record))
            if records and size + length > self.spool.per_file:
                # What stands in one file goes as a whole when the cap is reached.
                self._append(b"".join(records), count)
                records, size, count = [], 0, 0
            size, count = size + length, count + 1
            self.seen.note(channel, parts, self.spool.end + size)
            records += record
        if records:
            self.active = time.time()
            self._append(b"".join(records), count)

    def _reply_for_kernel(self, msg_id: str) -> None:
        """End a cell that the kernel has dropped: an interrupt hit it outside of the cell's code."""
        header = {"msg_id": uuid.uuid4().hex, "session": "relay", "username": "", "msg_type": "execute_reply"}
        header.update(version="5.3", date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        parent = {"msg_id": msg_id, "msg_type": "execute_request", "session": "", "username": "", "version": "5.3"}
        content: dict[str, Any] = {"status": "error", "ename": "KeyboardInterrupt", "evalue": ""}
        content["traceback"] = ["KeyboardInterrupt: it hit the kernel outside of the cell's own lines."]
        parts = [json.dumps(part).encode() for part in (header, parent, {}, content)]
        record = wire.record(wire.SHELL, wire.frames(parts))
        self.seen.note(wire.SHELL, parts, self.spool.end + len(record))
        self._append(record, 1)

    def _append(self, records: bytes, count: int) -> None:
        begin = self.spool.end
        if not self.spool.append(records, count):
            self.unkept["messages"] += count
            self.unkept["bytes"] += len(records)
            self.holes |= self.seen.told_between(begin, 1 << 62)

    def _tell_unkept(self) -> None:
        """Say what the disk had no room for, once a second; and to each client, in time, which cells are over.

        A client that leaves may not have read it: the next one is told of every cell again.
        """
        clients = [client for client in self.clients if client.hello]
        due = self.unkept["bytes"] and time.monotonic() - self.told_unkept >= TICK
        if not clients or not (due or any(self.holes - client.told for client in clients)):
            return
        told = False
        for client in clients:
            over = self.seen.ends(self.holes - client.told)
            # Not before what is left of its output.
            over = [one for one in over if (client.position or 0) >= min(one["end"], self.spool.end)]
            if over or due:
                client.out += wire.note(wire.LOST, position=None, disk=True, ended=over, **self.unkept)
                client.told.update(one["msg_id"] for one in over)
                told = True
        if told:
            self.told_unkept = time.monotonic()
            self.unkept = {"messages": 0, "bytes": 0}

    def _look(self) -> None:
        """See whether the kernel lives, and whether anybody wants it."""
        now = time.time()
        self._interrupt_when_due()
        self._tell_unkept()
        for msg_id in self.seen.unanswered():
            self._reply_for_kernel(msg_id)
        if not self.died and self.kernel.has_ended():
            for channel in range(4):
                self._take(channel)
            self.died = now
            self._append(wire.note(wire.NOTE, died=processes_there.how(self.kernel.status)), 1)
        if any(client.hello for client in self.clients) or self.seen.running():
            self.active = now
        idle = self.settings["idle"] if self.seen.session else UNMET_SECONDS
        told = self.spool.taken >= self.spool.end
        if self.died:
            self.ending = self.ending or (told and not self.clients) or now - self.died > AFTER_DEATH
        elif idle and now - self.active > idle:
            self.ending = True

    def _accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", raw)[1] != os.getuid():
            connection.close()
            return
        client = Client(connection)
        self.clients.append(client)
        self._hear(client, connection.fileno())

    def _hear(self, client: Client, fd: int) -> None:
        self.by_descriptor[fd] = client
        self.poller.register(fd, zmq.POLLIN)

    def _drop(self, client: Client) -> None:
        if client not in self.clients:
            return
        self.clients.remove(client)
        for fd in {client.socket.fileno(), client.source, client.sink}:
            if self.by_descriptor.pop(fd, None) is not None:
                self.poller.unregister(fd)
        client.close()

    def _serve(self, client: Client, fd: int, event: int) -> None:
        if not event & (zmq.POLLIN | zmq.POLLERR):
            return
        heard = client.source
        if fd == client.sink != heard:
            return  # it is full, or nobody reads at its end: writing tells
        data = client.receive(fd)
        if data and fd == heard:
            if client.source != heard:
                self._hear(client, client.source)
            self._obey(client, data)
        elif data is not None:
            self._leave(client)

    def _leave(self, client: Client) -> None:
        """A client has gone: what it sent before counts."""
        while client in self.clients and (data := client.receive(client.source)):
            self._obey(client, data)
        self._drop(client)

    def _obey(self, client: Client, data: bytes) -> None:
        # One that was sent away is read, so that its end is seen, and has no say.
        if not client.closing:
            for kind, number, payload in client.reader.feed(data):
                self._handle(client, kind, number, payload)

    def _handle(self, client: Client, kind: int, number: int, payload: bytes) -> None:
        if kind == wire.HELLO:
            self._welcome(client, wire.parse(payload))
        elif kind == wire.PING:
            client.out += wire.note(wire.PONG, taken=self.seen.last_number, **wire.parse(payload))
        elif kind == wire.STATUS:
            client.out += wire.note(wire.PONG, taken=self.seen.last_number, status=self._status())
        elif kind == wire.ACK:
            self.spool.take(wire.parse(payload)["position"])
        elif kind == wire.END:
            self.ending = self.asked_to_end = True
        elif kind == wire.SIGNAL:
            self._interrupt(wire.parse(payload).get("of"))
        elif client.hello and self.seen.is_new(number):
            self._do(kind, wire.split(payload))

    def _interrupt(self, of: str | None) -> None:
        """Interrupt the cell that runs, or this one alone; one that has not begun yet is interrupted when it begins.

        What is urgent overtakes: the cell itself may still be on its way.
        """
        wanted = of or self.seen.running()
        if not self.died and wanted is not None:
            self.interrupted = wanted
            self._interrupt_when_due()

    def _interrupt_when_due(self) -> None:
        of = self.interrupted
        if of is None:
            return
        if self.seen.has_ended(of):
            self.interrupted = None
        elif self.seen.begun(of) >= OWN_CODE_SECONDS:
            self.interrupted = None
            self.kernel.signal(signal.SIGINT)

    def _do(self, kind: int, parts: list[bytes]) -> None:
        """Hand a message to the kernel, write a file that comes before it, or take other settings."""
        if kind == wire.FILE:
            head = json.loads(parts[0])
            try:
                self.sent.put(head, parts[1])
            except (OSError, files_there.Refused) as error:
                self._append(wire.note(wire.NOTE, file=head["path"], error=str(error)), 1)
        elif kind == wire.SETTINGS:
            self.settings.update(json.loads(parts[0]))
            self.spool.limit(self.settings["cap"])
        elif kind <= wire.STDIN and not self.died and (kind == wire.STDIN or self.seen.begin(parts)):
            self.kernel.send(kind, parts)

    def _welcome(self, client: Client, hello: dict[str, Any]) -> None:
        for other in list(self.clients):
            if other is not client and (other.closing or other.hello.get("client") == hello["client"]):
                self._drop(other)
            elif other is not client and other.hello:
                other.out += wire.note(wire.TAKEN, by=hello["who"])
                other.hello, other.closing = {}, True
                self._flush(other)
        client.hello = hello
        self.seen.enter(hello["session"])
        client.position = hello["position"] if hello["epoch"] == self.epoch else self.spool.taken
        about: dict[str, Any] = {"protocol": wire.PROTOCOL, "epoch": self.epoch, "position": client.position}
        about.update(started=hello["started"], previous=hello["previous"], taken=self.seen.last_number)
        about.update(cells=self.seen.untold(client.position), **self._status())
        self.holes |= self.seen.told_between(-1, client.position) & {cell["msg_id"] for cell in about["cells"]}
        client.out += wire.note(wire.WELCOME, **about)

    def _status(self) -> dict[str, Any]:
        now = time.time()
        status: dict[str, Any] = {"pid": self.kernel.pid, "age": now - self.began, "memory": self.kernel.memory()}
        waits = self.spool.end - max(self.spool.start, self.spool.taken)
        status.update(spool=waits, running=self.seen.running(), idle=self.settings["idle"], cap=self.settings["cap"])
        status.update(hostname=socket.gethostname(), folder=self.settings["folder"], python=sys.executable)
        status.update(version=sys.version.split()[0], dead=processes_there.how(self.kernel.status) if self.died else "")
        return status

    def _flush(self, client: Client) -> None:
        """Send what fits: records beside the spool first, then pieces of the spool."""
        try:
            wants = client.flush(self._next_piece)
        except OSError:
            self._leave(client)
            return
        if client.closing and not wants:
            self._drop(client)
        elif wants != client.writes:
            client.writes = wants
            self._hear_of_room(client, wants)

    def _hear_of_room(self, client: Client, wants: bool) -> None:
        if client.sink == client.source:
            self.poller.modify(client.sink, zmq.POLLIN | zmq.POLLOUT if wants else zmq.POLLIN)
        elif wants:
            self.by_descriptor[client.sink] = client
            self.poller.register(client.sink, zmq.POLLOUT)
        else:
            del self.by_descriptor[client.sink]
            self.poller.unregister(client.sink)

    def _next_piece(self, client: Client) -> bytes:
        """Return what comes next of the spool for a client, as a record."""
        position = client.position
        if position is None or client.closing:
            return b""
        start = self.spool.start
        if position < start:
            lost: dict[str, Any] = {"bytes": start - position, "messages": self.spool.lost(position)}
            self.holes |= self.seen.told_between(position, start)
            client.position = start
            return wire.note(wire.LOST, position=start, disk=position < self.spool.full_at, ended=[], **lost)
        data = self.spool.read(position)
        client.position = position + len(data)
        return wire.record(wire.DATA, data, position) if data else b""

    def finish(self) -> None:
        """End the kernel and delete what was kept."""
        about = os.path.join(self.home, "relay.json")
        if os.path.exists(about):
            os.unlink(about)
        self.listener.close()
        if hasattr(self, "kernel"):
            self.kernel.end()
        if self.asked_to_end and not processes_there.others_work_in(self.settings["folder"], self.home):
            self.sent.take_away()
        self.spool.remove()
        shutil.rmtree(self.sockets)
        for client in list(self.clients):
            client.out += wire.note(wire.ENDED)
            # Whoever is gone need not be told.
            with contextlib.suppress(OSError):
                client.finish(2.0)
            self._drop(client)


def write_json(path: str, value: dict[str, Any]) -> None:
    """Write a file by rename."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json.dump(value, stream)
    os.replace(temporary, path)
