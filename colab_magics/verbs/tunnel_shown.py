"""What users see of a tunnel: the handle, and what is said once when it was opened."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Unavailable

if TYPE_CHECKING:
    from ..records.run import Run
    from ..tunnels.folder import Folder

_NAMES = {"lab": "JupyterLab", "code": "code-server", "ssh": "A shell"}
_SECRETS = {"lab": "token", "code": "password"}
_PATHS = {"lab": "/lab", "code": "/"}


@dataclass(frozen=True)
class Tunnel:
    """A tunnel; the handle of ``%tunnel``.

    Parameters
    ----------
    name : str
        ``lab``, ``code``, ``ssh``, or the port.
    folder : Folder or None
        Its folder; None where nothing runs for it.
    page : str
        Where Colab's own proxy shows it; empty with other ways.
    """

    name: str
    folder: Folder | None
    page: str = ""

    @classmethod
    def of(cls, folder: Folder) -> Tunnel:
        """Return the handle of a tunnel that is open."""
        return cls(str(folder.settings().get("name")), folder)

    @property
    def settings(self) -> dict[str, Any]:
        """What it is to do."""
        return {} if self.folder is None else self.folder.settings()

    @property
    def state(self) -> dict[str, Any]:
        """How it stands."""
        return {} if self.folder is None else self.folder.state()

    @property
    def phase(self) -> str:
        """``open``, ``cut`` while it is being opened again, ``closed``."""
        if self.folder is None:
            return "open"
        return str(self.state.get("phase")) if self.folder.is_alive() else "closed"

    @property
    def way(self) -> str:
        """What ``via=`` said."""
        return str(self.settings.get("way", "colab"))

    @property
    def run(self) -> Run | None:
        """The run that it is."""
        from .tunnel_open import run_of

        return None if self.folder is None else run_of(self.folder)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return "" if (run := self.run) is None else run.id

    @property
    def address(self) -> str:
        """Where it begins, without a path: ``https://NAME``, or ``tcp://127.0.0.1:PORT`` of the relay."""
        return self.page or str(self.state.get("address") or "")

    @property
    def _relay_port(self) -> str:
        """The port of the relay's own loopback; empty where the address is one for all."""
        place = self.address.removeprefix("tcp://127.0.0.1:")
        return place if place != self.address else ""

    @property
    def place(self) -> str:
        """The address for people."""
        port = self._relay_port
        return f"port {port} of {self.settings['relay']}" if port else self.address

    @property
    def url(self) -> str:
        """What a browser opens, without the secret; empty for a shell."""
        if self.name == "ssh" or not self.address:
            return ""
        start = f"http://localhost:{self._relay_port}" if self._relay_port else self.address
        return start + _PATHS.get(self.name, "/")

    @property
    def token(self) -> str:
        """The token or password of the server, from its file; empty where there is none."""
        return "" if self.folder is None else self.folder.secret()

    @property
    def command(self) -> str:
        """The line for your own machine: it logs in, or brings the relay's port there; empty for a public URL."""
        port = self._relay_port
        if self.name != "ssh":
            return f"ssh -N -L {port}:127.0.0.1:{port} {_relay(self.settings['relay'], whole=True)}" if port else ""
        from ..tunnels import sshd

        if self.folder is None or not self.address:
            return ""
        host, _, at = self.address.removeprefix("tcp://").rpartition(":")
        jump = ["-J", _relay(self.settings["relay"])] if port else []
        mark = sshd.fingerprint(self.folder).partition(":")[2]
        # A name for the host key that no other machine behind that address and port has.
        alias = f"HostKeyAlias=tunnel-{''.join(filter(str.isalnum, mark))[:12]}"
        return shlex.join(["ssh", *jump, "-p", at, "-o", alias, f"{sshd.user()}@{host}"])

    def wait_for_end(self) -> None:
        """Wait a while until its process has ended."""
        end = time.monotonic() + 20
        while self.folder is not None and self.folder.is_alive() and time.monotonic() < end:
            time.sleep(0.05)

    def stay(self) -> None:
        """Keep it open until Ctrl-C.

        Raises
        ------
        Unavailable
            When it has ended.
        """
        try:
            while self.folder is not None and self.folder.is_alive():
                time.sleep(0.5)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("The tunnel ends with this shell, unless another session has it too.") from None
        if self.folder is not None:
            raise Unavailable(self.state.get("what") or "The tunnel was closed.", self.state.get("mend") or "")

    def __str__(self) -> str:
        if self.phase == "closed":
            return f"The tunnel {self.name} is closed."
        lines = [*self._where()]
        if self.phase == "cut":
            lines.insert(0, f"The connection was cut ({self.state.get('why', '')}) and is being opened again. It was:")
        if self.folder is None:
            return "\n".join(lines)
        kind = _SECRETS.get(self.name)
        if kind:
            lines.append(f"Its {kind}: cat {shlex.quote(str(self.folder.path / 'token'))}")
        lines.append(f"It is the run {self.run_id}, and ends with this session; %tunnel close {self.name} ends it now.")
        return "\n".join(lines)

    def _where(self) -> Iterator[str]:
        title = _NAMES.get(self.name, f"Port {self.name}")
        if self.name == "ssh":
            from ..tunnels import sshd

            yield f"A shell on this machine, for your key:\n  {self.command}"
            if shutil.which("tmux"):
                yield "With -t tmux new -A -s main behind it what runs there goes on when the line is cut."
            if self.folder is not None:
                yield f"The first time ssh shows the fingerprint of its key: {sshd.fingerprint(self.folder)}"
        elif self.command:
            yield f"{title} is at {self.place}. On your own machine say"
            yield f"  {self.command}\nand open\n  {self.url}"
        else:
            yield f"{title} is at\n  {self.url}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


def _relay(host: str, *, whole: bool = False) -> str:
    """Return a relay as another machine knows it: what the configuration here says of a name is not known there."""
    from ..transport import ssh

    known = ssh.resolved(host)
    _, _, name = host.rpartition("@")
    if known.get("hostname") == name and known.get("port") == "22":
        return host
    port = f":{known['port']}" if known.get("port") != "22" else ""
    there = f"{known.get('user')}@{known.get('hostname')}{port}"
    return f"ssh://{there}" if whole and port else there


def first_words(made: Tunnel, folder: Path) -> Iterator[str]:
    """Yield what is said once: the secret, who else gets in, and what is missing for work there."""
    from ..checkout import git
    from ..colab import terms
    from ..engines.gpus import devices
    from ..tunnels.servers import listens

    kind, place = _SECRETS.get(made.name), f"port {made.settings.get('port')}"
    if made.name == "lab":
        yield f"With its token, shown this once: {made.url}?token={made.token}"
    elif kind:
        yield f"Its {kind}, shown this once: {made.token}"
    own = made.way == "colab"
    who = "has the address"
    if "https:" not in made.place:
        who = f"reaches {made.place} (its other users; everybody, if its sshd has GatewayPorts on)"
    if kind and not own:
        yield f"⚠ Whoever {who} and has the {kind} works here as you."
    elif made.name != "ssh" and not own:
        yield f"⚠ Whoever {who} reaches what listens at {place}: no password of ours is before it."
        if not listens(int(made.settings["port"])):
            yield f"⚠ Nothing listens at {place} of this machine yet."
    if made.name in _NAMES:
        if terms.counts() and not devices.there():
            yield "This runtime has no GPU. Another one is chosen by Runtime → Change runtime type, which starts anew."
        known = [git.ask("config", f"user.{word}", cwd=folder) for word in ("name", "email")]
        if not all(known):
            yield 'git does not know who commits here: !git config --global user.name "…" (and user.email)'
