"""A port of this machine behind which a socket on another one answers, over the connection that is shared."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time

from .. import process
from ..errors import CommandFailed, InvalidInput, Unavailable
from ..pipes import Pipes
from . import ssh

LOCAL = "127.0.0.1"
SECONDS = 30.0
_READY = b"colab_magics-forward: ready"


class Forward:
    """A forwarded port; it ends with this object, with this process, or when the connection is cut.

    Parameters
    ----------
    host : str
        Its name for ssh.
    target : str
        Path of the socket there; without colons.
    port : int
        The port here, at the loopback alone.

    Raises
    ------
    InvalidInput
        When somebody has the port.
    Unavailable
        When the host cannot be reached, or does not forward.
    """

    def __init__(self, host: str, target: str, port: int) -> None:
        self.host, self.port = host, port
        self._words = ["-L", f"{LOCAL}:{port}:{target}"]
        if not is_free(port):
            raise InvalidInput(f"Port {port} is in use here.", "Name another one, or leave port= out.")
        # A session stays open beside it: it ends with us, and keeps the forwarding quick.
        argv = ssh.command(host, ["sh", "-c", f"echo; echo {_READY.decode()}; exec cat"])
        self._pipes = Pipes([argv[0], "-o", "ExitOnForwardFailure=yes", *self._words, *argv[1:]])
        said, end = b"", time.monotonic() + SECONDS
        while _READY not in said:
            ready = select.select([self._pipes.stdout], [], [], max(0.0, end - time.monotonic()))[0]
            data = os.read(self._pipes.stdout, 1 << 16) if ready else b""
            if not data:
                self._pipes.wait(1.0)
                status, errors = self._pipes.close()
                if status == 255 and "forward" not in errors:
                    raise ssh.unreachable(host, errors)
                why = ssh.last_line(errors) or "it did not answer in time"
                raise Unavailable(f"{host} forwards no port: {why}.", f"Ask who runs it, or try: ssh {host}")
            said = (said + data)[-4096:]

    def is_open(self) -> bool:
        """Whether the connection is there, as far as anybody knows."""
        return self._pipes.wait(0) is None

    def close(self) -> None:
        """End it; the shared connection would keep the port open as long as others use it."""
        self._pipes.close()
        with contextlib.suppress(CommandFailed):  # it was cut
            process.run(["ssh", *ssh.options(), "-O", "cancel", *self._words, "--", self.host], timeout=5)


def is_free(port: int) -> bool:
    """Whether nobody has a port of the loopback."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((LOCAL, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as one:
        one.bind((LOCAL, 0))
        return int(one.getsockname()[1])
