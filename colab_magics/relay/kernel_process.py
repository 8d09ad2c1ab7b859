"""The relay's ipykernel: started over unix sockets in a folder of its own. Stands alone: it is shipped to the host.

No port is opened, and the key that signs messages never leaves the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import hmac
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import zmq

from .processes_there import how

DELIMITER = b"<IDS|MSG>"
PORTS = {"shell": 1, "iopub": 2, "stdin": 3, "control": 4, "hb": 5}
CHANNELS = ("shell", "control", "stdin", "iopub")
READY_SECONDS = 120.0
MOST_AT_ONCE = 256


class Kernel:
    """A running kernel with its four channels.

    Parameters
    ----------
    program : str
        The Python file that is the kernel.
    sockets : str
        A folder of ours that nobody else can enter; its path is short, as unix sockets need it.
    folder : str
        Where the kernel works.
    """

    def __init__(self, program: str, sockets: str, folder: str) -> None:
        self._key = uuid.uuid4().hex.encode()
        file = os.path.join(sockets, "kernel.json")
        ports = {f"{name}_port": port for name, port in PORTS.items()}
        self._ip = os.path.join(sockets, "k")
        settings = {"transport": "ipc", "ip": self._ip, "key": self._key.decode(), "kernel_name": "python3"}
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump({**settings, **ports, "signature_scheme": "hmac-sha256"}, stream)
        self.pid = _start([sys.executable, program, "-f", file], folder, os.path.join(sockets, "forked"))
        self.status: int | None = None
        self._context = zmq.Context()
        identity = uuid.uuid4().hex.encode()
        kinds = (zmq.DEALER, zmq.DEALER, zmq.DEALER, zmq.SUB)
        self.sockets = [self._connect(kinds[i], PORTS[name], identity) for i, name in enumerate(CHANNELS)]

    def _connect(self, kind: int, port: int, identity: bytes) -> Any:
        one = self._context.socket(kind)
        one.setsockopt(zmq.IDENTITY, identity)
        one.setsockopt(zmq.LINGER, 0)
        # Nothing is dropped, however slow we are.
        one.setsockopt(zmq.RCVHWM, 0)
        one.setsockopt(zmq.SNDHWM, 0)
        one.setsockopt(zmq.RECONNECT_IVL, 10)
        if kind == zmq.SUB:
            one.setsockopt(zmq.SUBSCRIBE, b"")
        one.connect(f"ipc://{self._ip}-{port}")
        return one

    def wait_until_ready(self) -> str:
        """Wait until it answers and what it publishes arrives; returns "" or why it does not."""
        end = time.monotonic() + READY_SECONDS
        self.request("kernel_info_request", 0)
        while not self.sockets[3].poll(50):
            if self.has_ended():
                return f"The kernel ended when it started ({how(self.status)})."
            if time.monotonic() > end:
                return f"The kernel did not answer within {READY_SECONDS:g} s."
            # An answer without a publication: the subscription had not arrived yet.
            if self.sockets[0].poll(0):
                self.sockets[0].recv_multipart()
                self.request("kernel_info_request", 0)
        # What belongs to our own requests is nobody's output.
        self.request("kernel_info_request", 0)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and self.sockets[0].poll(1000):
            self.sockets[0].recv_multipart()
            if not self.sockets[0].poll(20):
                break
        while self.sockets[3].poll(30):
            self.sockets[3].recv_multipart()
        return ""

    def send(self, channel: int, parts: list[bytes]) -> None:
        """Send a message: header, parent, metadata, content, buffers."""
        signature = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in parts[:4]:
            signature.update(part)
        self.sockets[channel].send_multipart([DELIMITER, signature.hexdigest().encode(), *parts])

    def request(self, kind: str, channel: int, content: bytes = b"{}") -> None:
        """Send a request of the relay's own."""
        header = {"msg_id": uuid.uuid4().hex, "session": "relay", "username": "", "msg_type": kind, "version": "5.3"}
        header["date"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.send(channel, [json.dumps(header).encode(), b"{}", b"{}", content])

    def said(self, channel: int) -> Iterator[list[bytes]]:
        """Yield the messages that wait on a channel."""
        for _ in range(MOST_AT_ONCE):
            try:
                parts = self.sockets[channel].recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if DELIMITER in parts:
                yield parts[parts.index(DELIMITER) + 2 :]

    def signal(self, number: int) -> None:
        """Send a signal to the kernel and the programs that it runs."""
        # It may have ended meanwhile, which is told as such.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def has_ended(self) -> bool:
        """Collect its exit status, once."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
        return self.status is not None

    def end(self, grace: float = 5.0) -> None:
        """Ask it to shut down; after `grace` seconds it is terminated, after two more killed."""
        if not self.has_ended():
            self.request("shutdown_request", 1, b'{"restart": false}')
        for number, seconds in ((0, grace), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0)):
            if self.has_ended():
                break
            if number:
                self.signal(number)
            limit = time.monotonic() + seconds
            while not self.has_ended() and time.monotonic() < limit:
                time.sleep(0.02)
        # Programs that it left in its group end with it.
        self.signal(signal.SIGKILL)
        for one in self.sockets:
            one.close()
        self._context.term()

    def memory(self) -> int:
        """Bytes that the kernel and the programs below it hold (resident)."""
        total = 0
        for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
            if name.isdigit():
                total += _memory_in_session(name, self.pid)
        return total


def _memory_in_session(pid: str, session: int) -> int:
    try:
        # A system call: to read a file for each process of a large machine would take long.
        if os.getsid(int(pid)) != session:
            return 0
        with open(f"/proc/{pid}/stat") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM):
            return 0
        raise
    # proc(5): field 24 is rss, in pages
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


def _start(argv: list[str], folder: str, pipe: str) -> int:
    """Start a program as the leader of its own session; it dies with this process."""
    environment = dict(os.environ, JPY_PARENT_PID=str(os.getpid()), COLAB_MAGICS_KERNEL_PIPE=pipe)
    here = os.path.dirname(sys.executable)
    # `!pip` and `!python` mean the kernel's own.
    environment["PATH"] = os.pathsep.join([here, environment.get("PATH", os.defpath)])
    if os.path.exists(os.path.join(os.path.dirname(here), "pyvenv.cfg")):
        environment["VIRTUAL_ENV"] = os.path.dirname(here)
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if libc is not None:
            libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nobody could reach it without us
        os.chdir(folder)
        os.execve(argv[0], argv, environment)
    except OSError as error:
        os.write(2, (f"the kernel cannot be started: {error}\n").encode())
    finally:
        os._exit(127)
