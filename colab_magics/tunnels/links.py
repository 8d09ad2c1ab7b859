"""The connection that a tunnel goes through, while it lasts: an ssh, or ngrok's package in this process."""

from __future__ import annotations

import contextlib
import os
import re
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ..errors import ColabMagicsError, Unavailable
from ..pipes import Pipes
from ..transport import ssh
from ..transport.forward import LOCAL
from ..units import without_controls
from .folder import Folder
from .relays import Relay
from .sshd import make_key

_MOST_LOG = 1 << 20
_REFUSED = 255
"""ssh's own exit status; others are of the session."""


class Link(Protocol):
    """A connection."""

    address: str
    """Where the tunnel begins: ``https://NAME``, ``tcp://NAME:PORT``; empty while that is not known."""

    def wait(self, seconds: float) -> bool:
        """Look what comes for so long, or until the address changes; False when the connection has ended."""

    def close(self) -> ColabMagicsError:
        """End it, and say why it has ended."""


class SshLink:
    """An ``ssh -R``.

    Parameters
    ----------
    relay : Relay
        The server.
    port : int
        The port here.
    folder : Folder
        The tunnel's.
    there : int
        The port wanted of a plain sshd; 0 for any.
    with_session : bool
        Whether a session is opened on a plain sshd: it keeps the forwarding quick, and not every account has one.
    tell : callable
        Gets each line that a service prints.
    """

    def __init__(
        self, relay: Relay, port: int, folder: Folder, there: int, with_session: bool, tell: Callable[[str], None]
    ) -> None:
        self.relay, self.address, self._tell = relay, "", tell
        self._log = folder.path / "ssh.log"
        self._log.unlink(missing_ok=True)
        # Neither the user's agent nor the screen is a relay's.
        options = ["-a", "-x", *ssh.own_connection(), "-o", "ExitOnForwardFailure=yes", "-v", "-E", str(self._log)]
        if relay.service is not None:
            options += key_options(relay.host, folder.path)
        command = ["exec cat"] if relay.service is None and with_session else []
        kind = ["-N"] if relay.service is None and not with_session else ["-T"]
        words = ["ssh", *options, *relay.words(port, there), *kind, "--", relay.host, *command]
        # What a service complains is read as what it prints.
        self._pipes = Pipes(["sh", "-c", 'exec "$@" 2>&1', "sh", *words])
        self._said = b""
        self._last = ""
        self.status: int | None = None

    def wait(self, seconds: float) -> bool:
        """Look what comes; see `Link`."""
        end, before = time.monotonic() + seconds, self.address
        while True:
            left = end - time.monotonic()
            if select.select([self._pipes.stdout], [], [], max(0.0, min(left, 0.1)))[0]:
                data = os.read(self._pipes.stdout, 1 << 16)
                if not data:
                    self.status = self._pipes.wait(2.0)
                    return False
                self._take(data)
            self._look()
            if left <= 0 or self.address != before:
                return True

    def _take(self, data: bytes) -> None:
        *lines, self._said = (self._said + data).split(b"\n")
        self._said = self._said[-4096:]
        for raw in lines:
            line = without_controls(raw.decode("utf-8", "replace")).strip()
            if re.search(r"[A-Za-z]{2}", line):  # and not the picture of a code
                self._last = line
                self._tell(line)
            self.address = self.relay.address(line) or self.address

    def _look(self) -> None:
        """Read ssh's own words as long as they are of use; they would grow with each connection."""
        if self.relay.service is not None or self.address:
            with contextlib.suppress(FileNotFoundError):
                if self._log.stat().st_size > _MOST_LOG:
                    os.truncate(self._log, 0)
            return
        port = self.relay.port(self._words_of_ssh())
        if port is not None:
            self.address = f"tcp://{LOCAL}:{port}"

    def _words_of_ssh(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self._log.read_text(errors="replace")
        return ""

    @property
    def session_was_refused(self) -> bool:
        """Whether the port was forwarded, and the session that was opened beside it has ended at once."""
        return bool(self.address) and self.status not in (None, _REFUSED)

    def close(self) -> ColabMagicsError:
        """End it; see `Link`."""
        self._pipes.close()
        said = [line for line in self._words_of_ssh().splitlines() if not re.match(r"debug\d: |OpenSSH_", line)]
        output = "\n".join(said)
        if "remote port forwarding failed" in output:
            return Unavailable(
                f"{self.relay.host} forwards no such port: {ssh.last_line(output)}.",
                "Name another one, or leave relay_port= out; its sshd must allow remote forwarding "
                "(AllowTcpForwarding).",
            )
        if self.status is not None and self.status != _REFUSED:
            said_last = f": {self._last}" if self._last else ""
            return Unavailable(f"{self.relay.host} has ended the session{said_last}.", "Say it again in a while.")
        return ssh.unreachable(self.relay.host, output)


def key_options(host: str, folder: Path) -> list[str]:
    """Return ssh's options for a key of the tunnel's own, where the user has none at all: services take any."""
    if os.environ.get("SSH_AUTH_SOCK"):
        return []
    named = ssh.resolved_all(host).get("identityfile", [])
    if any(os.path.exists(os.path.expanduser(one)) for one in named):
        return []
    make_key(folder / "identity")
    return ["-i", str(folder / "identity")]


class NgrokLink:
    """ngrok's package, which connects anew by itself.

    Parameters
    ----------
    port : int
        The port here.
    tcp : bool
        Whether more than web pages is to go through.
    token : str
        The user's at ngrok.

    Raises
    ------
    Unavailable
        When the package is missing, or ngrok refuses.
    """

    def __init__(self, port: int, *, tcp: bool, token: str) -> None:
        ngrok = load_ngrok()
        self._ngrok = ngrok
        try:
            self._listener = ngrok.forward(f"{LOCAL}:{port}", proto="tcp" if tcp else "http", authtoken=token)
        except (ValueError, RuntimeError, OSError) as error:
            said = ": ".join(map(str, error.args)).replace(token, "***")
            raise Unavailable(
                f"ngrok opens no tunnel: {said}", "Look at your account: https://dashboard.ngrok.com"
            ) from None
        self.address: str = self._listener.url()

    def wait(self, seconds: float) -> bool:
        """Wait; see `Link`."""
        time.sleep(min(seconds, 0.5))
        return True

    def close(self) -> ColabMagicsError:
        """End it; see `Link`."""
        self._ngrok.disconnect(self.address)
        return Unavailable("ngrok's connection has ended.", "Say it again.")


def load_ngrok() -> Any:
    """Import ngrok's package.

    Raises
    ------
    Unavailable
        When it is not installed.
    """
    try:
        import ngrok
    except ModuleNotFoundError as error:
        raise Unavailable(
            "via=ngrok needs the package 'ngrok', which is not installed.", "pip install 'colab-magics[ngrok]'"
        ) from error
    return ngrok
