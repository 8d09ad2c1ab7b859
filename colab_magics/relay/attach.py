"""Gives standard input and output to the relay; starts the relay where there is none. Shipped to the host.

Whoever connects waits for it to start: it imports little, and only what connecting needs.
"""

from __future__ import annotations

import binascii
import json
import os
import select
import signal
import socket
import stat
import struct
import sys
import time

from . import processes_there, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

READY_SECONDS = 150.0
SCOPE_SECONDS = 5.0
"""systemd answers at once, or there is something wrong with it."""
MOST = 1 << 18
PROGRAM = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Failed(Exception):
    """Why there is no connection: a word for the client, and a sentence for the user."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind, self.text = kind, text


def kernels_folder() -> str:
    """Return the folder of all relays of this user on this machine; home folders may be shared by several."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "colab_magics", "kernels", socket.gethostname())


def ours(folder: str) -> None:
    """Refuse a folder that another user made, or can enter."""
    seen = os.lstat(folder)
    if seen.st_uid != os.getuid() or not stat.S_ISDIR(seen.st_mode) or stat.S_IMODE(seen.st_mode) & 0o077:
        raise Failed("foreign", f"{folder} is another user's, or open to others")


def find(home: str, *, to_end: bool = False) -> socket.socket | None:
    """Return a connection to the relay of a folder; None when none runs."""
    try:
        with open(os.path.join(home, "relay.json")) as stream:
            about = json.load(stream)
    except FileNotFoundError:
        return None
    if about.get("protocol") != wire.PROTOCOL and not to_end and processes_there.is_alive(about["relay"]):
        raise Failed("other", "The kernel was started by another version of colab_magics; --new starts another kernel")
    connection = socket.socket(socket.AF_UNIX)
    try:
        ours(os.path.dirname(about["socket"]))
        connection.connect(about["socket"])
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        if processes_there.is_alive(about["relay"]):
            text = "The relay (process {0}) does not answer. End it there: kill {0}".format(about["relay"]["pid"])
            raise Failed("deaf", text)
        return None
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", raw)[1] != os.getuid():
        raise Failed("foreign", "The relay at {} is another user's".format(about["socket"]))
    return connection


def clear(home: str) -> bool:
    """Remove what a relay that was killed left behind; whether there was something."""
    import glob
    import shutil

    try:
        with open(os.path.join(home, "relay.json")) as stream:
            about = json.load(stream)
    except FileNotFoundError:
        return False
    if processes_there.is_alive(about["kernel"]):
        os.killpg(about["kernel"]["pid"], signal.SIGKILL)
    for path in [*glob.glob(os.path.join(glob.escape(home), "spool-*")), os.path.join(home, "relay.json")]:
        os.unlink(path)
    if os.path.isdir(about["sockets"]):
        shutil.rmtree(about["sockets"])
    return True


def end(connection: socket.socket) -> None:
    """Have a relay end, and wait until it has."""
    connection.sendall(wire.note(wire.END))
    connection.settimeout(30)
    while connection.recv(MOST):
        pass


def start(home: str, settings: dict[str, Any]) -> None:
    """Start a relay and wait until its kernel answers."""
    import shutil

    said = b""
    # A scope of systemd's outlives a logout also where processes of the session are killed.
    scope = ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--"]
    private = os.path.join(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}"), "systemd/private")
    prefixes = [scope, []] if shutil.which("systemd-run") and os.path.exists(private) else [[]]
    for prefix in prefixes:
        said = _start(prefix, home, settings)
        if said:
            break
    if said not in (b"ok", b"busy"):
        text = said.decode(errors="replace") or "It ended when it started."
        raise Failed("start", f"{text}\n{_end_of_log(home)}")


def _start(prefix: list[str], home: str, settings: dict[str, Any]) -> bytes:
    ready, told = os.pipe()
    os.set_inheritable(told, True)
    folder = os.path.join(os.path.expanduser("~"), settings["folder"])
    settings = dict(settings, home=home, folder=folder, program=os.path.join(PROGRAM, "kernel.py"))
    words = binascii.b2a_base64(json.dumps(settings).encode(), newline=False).decode()
    argv = [*prefix, sys.executable, PROGRAM, "serve", words, str(told)]
    pid = os.fork()
    if not pid:
        try:
            os.setsid()
            log = os.open(os.path.join(home, "log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            null = os.open(os.devnull, os.O_RDONLY)
            for number, fd in enumerate((null, log, log)):
                os.dup2(fd, number)
            os.execvp(argv[0], argv)
        finally:
            os._exit(127)
    os.close(told)
    said = b""
    if prefix and not select.select([ready], [], [], SCOPE_SECONDS)[0]:
        os.kill(pid, signal.SIGKILL)  # whether it became ours by now or not
    limit = time.monotonic() + READY_SECONDS
    while select.select([ready], [], [], max(0, limit - time.monotonic()))[0]:
        part = os.read(ready, 4096)
        said += part.lstrip(wire.BEGUN)
        if not part or said in (b"ok", b"busy"):
            break
    os.close(ready)
    return said


def _end_of_log(home: str) -> str:
    with open(os.path.join(home, "log"), errors="replace") as stream:
        return stream.read()[-2000:].strip()


def connect(hello: dict[str, Any]) -> socket.socket:
    """Return a connection to the relay that a client asks for."""
    folder = kernels_folder()
    home = os.path.join(folder, hello["name"])
    if (hello["epoch"] or not hello["start"]) and not os.path.isdir(home):
        raise Failed("gone" if hello["epoch"] else "none", "")
    os.umask(0o077)
    os.makedirs(home, mode=0o700, exist_ok=True)
    for part in (os.path.dirname(folder), folder, home):
        ours(part)
    hello.update(started=False, previous="")
    to_end = hello["new"] and not hello["epoch"]
    connection = find(home, to_end=to_end)
    if connection and to_end:
        end(connection)
        connection = None
    if connection:
        return connection
    if hello["epoch"] or not hello["start"]:
        raise Failed("gone" if hello["epoch"] else "none", _end_of_log(home) if hello["epoch"] else "")
    hello["previous"] = "killed" if clear(home) else ""
    hello["started"] = True
    start(home, hello["settings"])
    limit = time.monotonic() + READY_SECONDS
    while connection is None:
        # Another client may have started one at the same time: it is found as soon as its kernel answers.
        connection = find(home)
        if connection is None and time.monotonic() > limit:
            raise Failed("start", "The relay did not come up.")
        time.sleep(0 if connection else 0.05)
    return connection


def hand_over(connection: socket.socket, greeting: bytes) -> None:
    """Give standard input and output to the relay, and wait until it or the client lets go of them."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("2i", 0, 1))
    sent = connection.sendmsg([greeting], [rights])
    connection.sendall(greeting[sent:])
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    poller.register(1, 0)  # told without being asked: that nobody reads there any more
    poller.poll()


def write(data: bytes) -> None:
    """Write all to standard output."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]


def main(words: str) -> None:
    """Serve one client; `words` is its greeting, in base64."""
    hello = json.loads(binascii.a2b_base64(words))
    # An interrupt here is none of the kernel's; a client that went away is no error.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        connection = connect(hello)
        hand_over(connection, wire.note(wire.HELLO, **{k: v for k, v in hello.items() if k != "settings"}))
    except Failed as failed:
        write(wire.note(wire.FAILED, kind=failed.kind, text=failed.text))
    except OSError as error:
        if isinstance(error, (BrokenPipeError, ConnectionResetError)):
            return
        write(wire.note(wire.FAILED, kind="system", text=str(error)))
