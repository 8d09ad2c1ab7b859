"""How ``%tunnel`` opens one: the way, the consent, the server, the run; and what it shows of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import process, session
from ..errors import InvalidInput, NotFound, Unavailable
from ..units import count
from .tunnel_shown import Tunnel, first_words

if TYPE_CHECKING:
    from ..checkout.project import Project
    from ..records.run import Run
    from ..tunnels.folder import Folder
    from ..tunnels.servers import Server

_OPEN_SECONDS = 160.0
"""Longer than its process takes to say that it could not."""
_END_SECONDS = 20.0
_WAYS = "Name it: via=ssh:HOST (any sshd that you reach, localhost.run, serveo.net, a.pinggy.io), or via=ngrok"


@dataclass(frozen=True)
class Way:
    """What a line says of the way.

    Parameters
    ----------
    via : str or None
        ``colab``, ``ngrok``, ``ssh:HOST``; None for what is usual here.
    relay_port : int or None
        The port wanted of a plain sshd.
    token : str or None
        ``secret:NAME``.
    terms : str or None
        Whether Colab's terms were accepted in the line itself.
    """

    via: str | None
    relay_port: int | None
    token: str | None
    terms: str | None

    def kind(self, where: str) -> str:
        """Return ``colab``, ``ngrok`` or ``ssh``.

        Raises
        ------
        InvalidInput
            When nothing is said and nothing is usual, or what is said cannot be.
        """
        from ..colab.runtime import front_end_answers

        kind = (self.via or ("colab" if front_end_answers(where) else "")).partition(":")[0]
        if not kind:
            raise InvalidInput("Outside of Colab a tunnel has no default way.", _WAYS)
        if kind not in ("colab", "ngrok", "ssh") or (kind == "ssh") != bool(self.relay):
            raise InvalidInput(f"via={self.via} is no way.", _WAYS.removeprefix("Name it: ").capitalize())
        if self.relay_port is not None and kind != "ssh":
            raise InvalidInput(f"relay_port= is the port of an sshd, and via={kind} has none.", "Leave it out.")
        if self.token is not None and kind != "ngrok":
            raise InvalidInput(f"token= is for ngrok, and via={kind} wants none.", "Leave it out.")
        return kind

    @property
    def relay(self) -> str:
        """The sshd; empty for other ways."""
        kind, _, relay = (self.via or "").partition(":")
        return relay if kind == "ssh" else ""


def open_tunnel(what: str | int, way: Way, *, port: int | None = None, key: str | None = None) -> Tunnel | None:
    """Open a tunnel, or return the one that is open; see ``%tunnel``.

    Parameters
    ----------
    what : str or int
        ``lab``, ``code``, ``ssh``, or a port of the user's.
    way : Way
        The way.
    port : int, optional
        Where a server of ours listens.
    key : str, optional
        Who logs in.
    """
    from ..checkout.project import find_project
    from ..runs import in_run, which_job

    here = session.current()
    if in_run.is_run(here.ui):
        here.ui.say("A run opens no tunnel: %tunnel is the main notebook's.")
        return None
    if what not in ("lab", "code", "ssh"):
        what = _port(what, "port")
    wanted = None if port is None else _port(port, "port")
    project: Project | None = here.project or find_project(Path.cwd(), warn=here.warn_once)
    before = None if project is None else _same(_folder(project, what), what, way, wanted, key)
    if before is not None:
        return before
    kind = way.kind(here.ui.where)
    if kind == "colab" and isinstance(what, int):
        return _by_colab_alone(what)
    opening = _Opening(what, way, kind, wanted, key)
    opening.check()
    return opening.open(which_job.of_commands(here))


def _port(value: int | str, name: str) -> int:
    found = count(value, name=name)
    if found > 65535:
        raise InvalidInput(f"{name}={found}: ports go up to 65535.", "Write the port that your program listens at.")
    return found


def _folder(project: Project, what: str | int) -> Folder:
    from ..tunnels.folder import Folder

    return Folder.of(root(), project.root, str(what))


def root() -> Path:
    """Return the folder of the folders of all tunnels of this user on this machine."""
    from ..mirror import state

    return state.root().parent / "tunnel"


def opened() -> list[Tunnel]:
    """Return the tunnels that are open: of this project, or without one those of all."""
    from ..checkout.project import find_project
    from ..tunnels.folder import every

    here = session.current()
    project = here.project or find_project(Path.cwd(), warn=here.warn_once)
    found = [Tunnel.of(folder) for folder in every(root())]
    return [one for one in found if project is None or one.settings.get("project") == str(project.root)]


def _same(folder: Folder, what: str | int, way: Way, port: int | None, key: str | None) -> Tunnel | None:
    """Return the tunnel that is open, if the line means it; one that is about to end is waited for."""
    from ..tunnels import sshd

    end = time.monotonic() + _END_SECONDS
    while folder.is_alive() and folder.state().get("phase") in ("closing", "failed") and time.monotonic() < end:
        time.sleep(0.05)
    if not folder.is_alive():
        return None
    found = Tunnel.of(folder)
    again = f"%tunnel close {found.name}"
    if way.via not in (None, found.way) or (way.relay_port not in (None, found.settings.get("relay_port"))):
        raise InvalidInput(f"tunnel-{found.name} is open via={found.way}.", f"Close that one first: {again}")
    if port not in (None, found.settings.get("port")):
        raise InvalidInput(f"tunnel-{found.name} is at port {found.settings.get('port')}.", f"Close it first: {again}")
    if key is not None and what == "ssh":
        sshd.authorize(folder, sshd.keys(key))
    folder.join()
    _wait(folder, lambda: found.run)
    return _with_page(found)


def _with_page(found: Tunnel) -> Tunnel:
    """Ask Colab's page where it shows the tunnel, where it goes through that."""
    from ..colab import proxy

    if found.way != "colab":
        return found
    return replace(found, page=proxy.address(int(found.settings["port"]), session.current().ui.where))


def _by_colab_alone(port: int) -> Tunnel:
    """Show a port of the user's by Colab's own proxy: nothing runs for that."""
    from ..colab import proxy
    from ..tunnels.servers import listens

    ui = session.current().ui
    if not listens(port):
        ui.warn(f"Nothing listens at port {port} of this machine yet.")
    page = proxy.address(port, ui.where)
    proxy.show(port, ui.where)
    return Tunnel(str(port), None, page)


@dataclass
class _Opening:
    """A tunnel that is being opened; see `open_tunnel`."""

    what: str | int
    way: Way
    kind: str
    wanted: int | None
    key: str | None

    def check(self) -> None:
        """Refuse what cannot be, and ask for the consent, before anything is written or started."""
        from ..tunnels import links, relays, servers, sshd

        self.secret, self.keys, tcp = "", [], self.what == "ssh"
        if tcp:
            if self.kind == "colab":
                raise InvalidInput("Colab's own proxy shows web pages only.", _WAYS)
            if self.key is None:
                raise InvalidInput(
                    "Whose key is let in?",
                    'Show it where you log in from (cat ~/.ssh/id_ed25519.pub), and write key="ssh-ed25519 …"',
                )
            self.keys = sshd.keys(self.key)
            sshd.need()
        elif isinstance(self.what, str):
            servers.need(self.what)
        if self.kind == "ssh":
            relay = relays.Relay.named(self.way.relay, tcp=tcp)
            if self.way.relay_port is not None:
                _port(self.way.relay_port, "relay_port")
                if relay.service is not None:
                    raise InvalidInput(f"{self.way.relay} chooses the port itself.", "Leave relay_port= out.")
        elif self.kind == "ngrok":
            links.load_ngrok()
            self.secret = self._authtoken()
        self._consent()
        self.port = self._own_port()

    def _authtoken(self) -> str:
        from ..checkout.setup import Login

        if self.way.token is None:
            raise InvalidInput(
                "ngrok wants your authtoken (https://dashboard.ngrok.com/get-started/your-authtoken).",
                "Keep it as a secret, and name that: token=secret:NGROK_AUTHTOKEN",
            )
        found = Login(self.way.token, session.current().ui.where).token()
        return "" if found is None else found.value

    def _consent(self) -> None:
        from ..colab import terms

        here = session.current()
        if self.kind != "colab":
            where = "ngrok" if self.kind == "ngrok" else self.way.relay
            why = f"%tunnel {self.what} makes this runtime reachable from elsewhere, through {where}."
            terms.accept(here.ui, here.said, why, said_now=self.way.terms)

    def _own_port(self) -> int:
        """Return the port of the loopback."""
        from ..transport import forward

        if isinstance(self.what, int):
            return self.what
        if self.wanted is None:
            return forward.free_port()
        if not forward.is_free(self.wanted):
            raise InvalidInput(f"Port {self.wanted} is in use here.", "Name another one, or leave port= out.")
        return self.wanted

    def open(self, project: Project) -> Tunnel:
        """Open it, unless another session was quicker."""
        from ..mirror import state

        self.project, self.folder = project, _folder(project, self.what)
        root().mkdir(mode=0o700, parents=True, exist_ok=True)
        with state.locked(self.folder.path.with_suffix(".lock"), wait=True):
            before = _same(self.folder, self.what, self.way, self.wanted, self.key)
            return before or self._open()

    def _open(self) -> Tunnel:
        """Write what is to be done, start it, and wait until it is open."""
        from ..tunnels.keeper import NGROK_TOKEN

        ui, folder = session.current().ui, self.folder
        folder.prepare()
        if self.secret:
            folder.write(NGROK_TOKEN, f"{self.secret}\n")
        folder.keep(self._settings())
        folder.join()
        run = self._submit()
        try:
            with ui.progress(f"opening the tunnel ({run.id})"):
                _wait(folder, lambda: run)
            made = _with_page(Tunnel.of(folder))
        except BaseException:
            from ..runs import scheduler

            if folder.state().get("phase") != "failed":  # else it ends by itself, and says why
                scheduler.kill([run])
            raise
        for text in first_words(made, self._start_in()):
            ui.say(text)
        return made

    def _settings(self) -> dict[str, Any]:
        return {
            "name": str(self.what),
            "what": self.what if isinstance(self.what, str) else "port",
            "via": self.kind,
            "way": self.way.via or self.kind,
            "relay": self.way.relay,
            "relay_port": None if self.way.relay_port is None else int(self.way.relay_port),
            "tcp": self.what == "ssh",
            "port": self.port,
            "project": str(self.project.root),
            "start_in": str(self._start_in()),
            "server": self._server().command,
        }

    def _start_in(self) -> Path:
        from ..runs import which_job

        return which_job.folder_of_commands(self.project)

    def _server(self) -> Server:
        """Write the server's settings and its secret; nothing to start for a port of the user's."""
        import os

        from ..tunnels import servers, sshd

        where = self._start_in()
        if self.what == "lab":
            return servers.jupyterlab(self.folder, self.port, where, through_colab=self.kind == "colab")
        if self.what == "code":
            return servers.code_server(self.folder, self.port, where)
        if self.what == "ssh":
            sshd.authorize(self.folder, self.keys)
            return sshd.prepare(self.folder, self.port, where, os.environ)
        return servers.Server()

    def _submit(self) -> Run:
        from ..engines import open_engine
        from ..payloads.command import CommandDraft
        from ..runs import scheduler, submit
        from ..runs.order import Order
        from ..runs.plan import Point
        from ..runs.scheduler import Feed

        ui = session.current().ui
        project, code = replace(self.project, job=f"tunnel-{self.what}"), self._start_in()
        end = time.monotonic() + _END_SECONDS
        while scheduler.is_running(project.data_job) and time.monotonic() < end:
            time.sleep(0.05)  # that of the one before, which has ended
        order = Order(
            project.data_job,
            CommandDraft(
                process.python("colab_magics.tunnels.keeper", self.folder.path),
                code,
                shown=f"%tunnel {self.what} via={self.way.via or self.kind}",
            ),
            [Point(0)],
            code,
            project.root,
            resume="rerun",
            feed=Feed(workers=1),
            resources=open_engine("local").settle(project.data_job, code, 1, 0, ui),
        )
        board, _ = submit.submit(order)
        return board.runs[-1]


def _wait(folder: Folder, run: Callable[[], Run | None]) -> None:
    """Wait until a tunnel is open, or cut and being opened again.

    Raises
    ------
    Unavailable
        When it could not be opened; says why.
    """
    from ..records.status import ENDED
    from ..runs.glance import tail

    end = time.monotonic() + _OPEN_SECONDS
    while (phase := (state := folder.state()).get("phase")) not in ("open", "cut"):
        if phase == "failed":
            raise Unavailable(state["what"], state["mend"])
        found = run()
        status = None if found is None else found.status()
        if found is not None and status is not None and status.phase in ENDED:
            if folder.state().get("phase") == "failed":
                continue  # it was said just now
            raise Unavailable(
                f"The tunnel {status.text}:\n{tail(found.log, lines=10)}", f"All of it: %jobs logs {found.id}"
            )
        if time.monotonic() > end:
            raise Unavailable(
                "The tunnel does not open.", f"Look why: %jobs logs tunnel-{folder.settings().get('name')}"
            )
        time.sleep(0.1)


def run_of(folder: Folder) -> Run | None:
    """Return the run that a tunnel is; None when its folder is gone."""
    from ..records.run import Run

    where = folder.state().get("run")
    try:
        return Run.load(Path(where)) if where else None
    except NotFound:
        return None
