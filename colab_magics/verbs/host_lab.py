"""The word of ``%host`` that is about JupyterLab: a server on another machine, behind a port of this one."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import session
from ..errors import Unavailable
from ..units import count
from . import subcommand
from .host import host as verb

if TYPE_CHECKING:
    from ..checkout.project import Project
    from ..engines.base import Resources
    from ..records.run import Run
    from ..relay.lab import Prepared
    from ..transport.forward import Forward

_START_SECONDS = 120.0


@dataclass(frozen=True)
class Lab:
    """A JupyterLab on another machine; the handle of ``%host lab``.

    Parameters
    ----------
    host : str
        The machine.
    folder : str
        Where it works there.
    run : Run
        The run that it is.
    page : Path
        A page of yours alone that logs in; the token lies beside it.
    forward : Forward
        The port here.
    """

    host: str
    folder: str
    run: Run
    page: Path
    forward: Forward

    @property
    def url(self) -> str:
        """Its address, without the token."""
        return f"http://127.0.0.1:{self.forward.port}/lab"

    @property
    def token(self) -> str:
        """The token, from its file."""
        return self.page.with_name("token").read_text().strip()

    def stay(self) -> None:
        """Keep the port open until Ctrl-C; the server goes on.

        Raises
        ------
        Unavailable
            When the connection was cut.
        """
        again = f"colab-magics host lab {self.host}"
        try:
            while self.forward.is_open():
                time.sleep(0.5)
        except KeyboardInterrupt:
            self.forward.close()
            raise KeyboardInterrupt(f"JupyterLab goes on there; {again} comes back to it.") from None
        raise Unavailable(f"The connection to {self.host} was cut; JupyterLab goes on there.", f"Say it again: {again}")

    def __str__(self) -> str:
        return (
            f"JupyterLab is on {self.host}, in {self.folder}; here it is at\n"
            f"  {self.url}\n"
            f"To log in, open {self.page} in a browser, or give it the token: cat {self.page.with_name('token')}\n"
            f"It is the run {self.run.id}: %jobs logs {self.run.id}, %jobs kill {self.run.id}. The port is open as "
            f"long as this session; %host lab {self.host} comes back to it, also after the connection was cut."
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


@subcommand(verb)
def lab(host: str, /, *, port: int | None = None) -> Lab:
    """Open JupyterLab on a machine, behind a port of this one.

    It is a run like any other, of a job of its own: ``%jobs`` lists it, shows its log and ends it, and it goes on when
    this session has ended. Saying it again comes back to the same server. It works in the project's folder there, which
    is that of ``%remote`` and ``%host put``, and sees all GPUs. Nobody else gets in: it listens on a socket of yours
    alone, and asks for a token that stands in a file of yours alone.

    Parameters
    ----------
    host : str
        As ``ssh`` knows it.
    port : int, optional
        The port here; the one that it had the last time, or any that is free, by default.

    Returns
    -------
    Lab
        Where it is; without the token, so that it may stay in a notebook.

    Raises
    ------
    NotFound
        When JupyterLab is not installed there; the text says how to install it.
    Unavailable
        When the machine cannot be reached, or the server does not start.
    """
    from ..engines import open_engine
    from ..mirror import state
    from ..relay import lab as room
    from ..relay.code import folder_there
    from ..relay.environment import spelled
    from ..runs import which_job
    from ..transport import forward, hosts

    here = session.current()
    name, wanted = hosts.check(host), None if port is None else count(port, name="port")
    project = which_job.of_commands(here)
    project = replace(project, job=f"lab-{spelled(name)}")
    there = folder_there(project.root)
    mine = state.root().parent / "lab" / f"{room.name_of(there)}-{room.name_of(name)}"
    before: Lab | None = here.labs.get(str(mine))
    if before is not None:
        same = wanted in (None, before.forward.port)
        if same and before.forward.is_open() and room.answers(before.forward.port, before.token):
            return before
        before.forward.close()
    code, run = which_job.folder_of_commands(project), _alive(project)
    if run is None:
        machine = open_engine(f"ssh:{name}").settle(project.data_job, code, 1, 0, here.ui)  # prepares it, too
    with here.ui.progress(f"preparing JupyterLab on {name}"):
        server = room.prepare(name, there)
    if run is None:
        run = _submitted(project, code, f"ssh:{name}", server, machine)
    chosen = forward.Forward(name, server.socket, wanted or _port(mine))
    try:
        with here.ui.progress(f"JupyterLab starts on {name}"):
            _wait(name, run, chosen, server.token)
        page = room.keep_here(mine, chosen.port, server.token)
    except BaseException:
        chosen.close()
        raise
    made = here.labs[str(mine)] = Lab(name, server.folder, run, page, chosen)
    return made


def _alive(project: Project) -> Run | None:
    """Return the run that is the server, while it goes on; whoever looked after it may be gone."""
    from ..records.run import runs_of
    from ..records.status import ENDED
    from ..runs import retry, scheduler, submitted

    runs = runs_of(project.data_job)
    retry.attend(runs, session.current().secrets)
    submitted.wait_for_killed(project.data_job)
    alive = [run for run in runs if run.is_out() or run.status().phase not in ENDED]
    return alive[-1] if alive and scheduler.is_running(project.data_job) else None


def _submitted(project: Project, code: Path, on: str, server: Prepared, machine: Resources) -> Run:
    from ..payloads.command import CommandDraft
    from ..runs import submit
    from ..runs.order import Order
    from ..runs.plan import Point
    from ..runs.scheduler import Feed

    draft = CommandDraft(server.words, code)
    order = Order(
        project.data_job,
        draft,
        [Point(0)],
        code,
        project.root,
        resume="rerun",
        engine=on,
        feed=Feed(workers=1),
        resources=machine,
    )
    board, _ = submit.submit(order)
    return board.runs[-1]


def _port(folder: Path) -> int:
    """Return the port of the last time, if it is free, or another one."""
    from ..transport import forward

    try:
        last = int((folder / "port").read_text())
    except (OSError, ValueError):
        return forward.free_port()
    return last if 0 < last < 65536 and forward.is_free(last) else forward.free_port()


def _wait(host: str, run: Run, chosen: Forward, token: str) -> None:
    """Wait until the server answers."""
    from ..records.status import ENDED
    from ..relay import lab as room
    from ..runs.glance import tail

    end = time.monotonic() + _START_SECONDS
    while not room.answers(chosen.port, token):
        status = run.status()
        if status.phase in ENDED:
            raise Unavailable(
                f"JupyterLab on {host} {status.text}:\n{tail(run.log, lines=10)}", f"All of it: %jobs logs {run.id}"
            )
        if time.monotonic() > end or not chosen.is_open():
            raise Unavailable(
                f"JupyterLab on {host} does not answer ({run.id} {status.text}).",
                "Say it again; the sshd there must allow forwarding to sockets (AllowStreamLocalForwarding).",
            )
        time.sleep(0.2)
