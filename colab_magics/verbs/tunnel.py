"""``%tunnel``: a port of this machine, JupyterLab, code-server or a shell, reached from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .. import process, session
from ..errors import InvalidInput, did_you_mean
from ..units import show_time
from . import call_only, subcommand, subcommands

if TYPE_CHECKING:
    from ..runs.board import Board
    from ..ui import Table
    from .tunnel_shown import Tunnel


@call_only("colab_terms")
def tunnel(
    port: int | str | None = None,
    /,
    *,
    via: str | None = None,
    relay_port: int | None = None,
    token: str | None = None,
    colab_terms: Literal["accepted"] | None = None,
) -> Tunnel | Table | None:
    """Reach a port of this machine from elsewhere; without a port, list what is open.

    ``%tunnel lab``, ``%tunnel code`` and ``%tunnel ssh`` start the server, too, with a secret of its own; what listens
    at a port of yours is reached as it is, by everybody who has the address. A tunnel is a run: ``%jobs`` lists it,
    shows its log and ends it. It is opened again when it was cut, ends with the session that opened it, or by
    ``%tunnel close``, and the same line said again shows the same one.

    Parameters
    ----------
    port : int, optional
        A port of this machine's loopback.
    via : str, optional
        The way. ``colab`` is Colab's own proxy, and the default there: you alone see it, while the notebook is open.
        ``ssh:HOST`` is any sshd that you reach, as ``ssh`` knows it, and of public services ``ssh:localhost.run``,
        ``ssh:serveo.net`` and ``ssh:a.pinggy.io``. ``ngrok`` is that service, by its package.
    relay_port : int, optional
        With ``ssh:HOST``, the port there; any that is free by default. It is asked for at the loopback of that machine.
    token : str, optional
        With ``ngrok``, ``secret:NAME``: your authtoken, in Colab's secrets or the environment variable NAME.
    colab_terms : {"accepted"}, optional
        On Colab with any way but its own: you have read what its terms forbid, and your plan allows it.

    Returns
    -------
    Tunnel, Table or None
        Where it is; without secrets, so that it may stay in a notebook. What is open; None in a run.

    Raises
    ------
    InvalidInput, NotFound, Unavailable
        When it cannot be opened; nothing is left of it then.
    """
    from .tunnel_open import Way, open_tunnel

    if port is None:
        return list_()
    if not str(port).isdecimal():
        raise did_you_mean(str(port), [*subcommands(tunnel), "PORT"], kind="word of %tunnel")
    return open_tunnel(port, Way(via, relay_port, token, colab_terms))


@subcommand(tunnel)
@call_only("colab_terms")
def lab(
    *,
    port: int | None = None,
    via: str | None = None,
    relay_port: int | None = None,
    token: str | None = None,
    colab_terms: Literal["accepted"] | None = None,
) -> Tunnel | None:
    """Start JupyterLab on the loopback, in the project's folder, and reach it from elsewhere.

    It has a token of its own, which is shown once with the address and stands in a file of yours alone.

    Parameters
    ----------
    port : int, optional
        Where it listens; at any port that is free by default.
    via, relay_port, token, colab_terms : str, int, str, str
        See ``%tunnel``.

    Returns
    -------
    Tunnel or None
        Where it is; see ``%tunnel``.
    """
    from .tunnel_open import Way, open_tunnel

    return open_tunnel("lab", Way(via, relay_port, token, colab_terms), port=port)


@subcommand(tunnel)
@call_only("colab_terms")
def code(
    *,
    port: int | None = None,
    via: str | None = None,
    relay_port: int | None = None,
    token: str | None = None,
    colab_terms: Literal["accepted"] | None = None,
) -> Tunnel | None:
    """Start code-server on the loopback, in the project's folder, and reach it from elsewhere.

    It must be on the PATH. It has a password of its own, which is shown once with the address.

    Parameters
    ----------
    port, via, relay_port, token, colab_terms : int, str, int, str, str
        See ``%tunnel lab``.

    Returns
    -------
    Tunnel or None
        Where it is; see ``%tunnel``.
    """
    from .tunnel_open import Way, open_tunnel

    return open_tunnel("code", Way(via, relay_port, token, colab_terms), port=port)


@subcommand(tunnel)
@call_only("colab_terms")
def ssh(
    *,
    key: str | None = None,
    port: int | None = None,
    via: str | None = None,
    relay_port: int | None = None,
    token: str | None = None,
    colab_terms: Literal["accepted"] | None = None,
) -> Tunnel | None:
    """Start an sshd of your own on the loopback, and show the command that logs in to it from elsewhere.

    It lets in your keys alone, and has a host key of its own. Shells begin in the project's folder, and find what this
    notebook finds: programs, libraries of the GPU, git's settings. Nothing is written into ``~/.ssh`` or ``/etc``.

    Parameters
    ----------
    key : str
        Your public key: the line (``key="ssh-ed25519 …"``) or a file. Said again with another one, that is let in, too.
    port, via, relay_port, token, colab_terms : int, str, int, str, str
        See ``%tunnel lab``; Colab's own proxy takes no ssh.

    Returns
    -------
    Tunnel or None
        The command; see ``%tunnel``.
    """
    from .tunnel_open import Way, open_tunnel

    return open_tunnel("ssh", Way(via, relay_port, token, colab_terms), port=port, key=key)


@subcommand(tunnel, "list")
def list_() -> Table:
    """List the tunnels of this machine that are open; the same as ``%tunnel``."""
    from ..ui import Table
    from .tunnel_open import opened

    rows = [
        [
            one.name,
            one.phase,
            one.place or one.state.get("why", ""),
            one.way,
            show_time(one.state.get("since", 0.0)),
            one.run_id,
        ]
        for one in opened()
    ]
    if not rows:
        return Table([], [], caption="No tunnel is open.", notes=["%tunnel lab via=ssh:HOST opens one: see %tunnel?"])
    return Table(["tunnel", "state", "address", "via", "since", "run"], rows, notes=["%tunnel close NAME ends one."])


@subcommand(tunnel)
def close(*names: str, all: bool = False) -> Board | None:
    """End tunnels, with the servers that were started for them.

    Parameters
    ----------
    *names : str
        ``lab``, ``code``, ``ssh`` or the port; needed where several are open.
    all : bool, default False
        End all of them.

    Returns
    -------
    Board or None
        The runs that they were.
    """
    from ..runs.board import kill
    from .tunnel_open import opened

    here = session.current()
    there = {one.name: one for one in opened()}
    wanted = [name.removeprefix("tunnel-").partition("/")[0] for name in map(str, names)]
    if unknown := [name for name in wanted if name not in there]:
        raise InvalidInput(f"No tunnel {unknown[0]!r} is open.", f"Open: {', '.join(there) or 'none'}.")
    if not there:
        here.ui.say("No tunnel is open.")
        return None
    if not wanted and not all and len(there) > 1:
        raise InvalidInput(f"Which one? Open: {', '.join(there)}.", f"Name it: %tunnel close {next(iter(there))}")
    ended = [there[name] for name in (wanted or there)]
    runs = [one.run for one in ended]
    for one, run in zip(ended, runs, strict=True):
        if run is None and "process" in one.state:  # somebody has removed the run's folder
            process.end_tree(one.state["process"]["pid"])
    board = kill([run for run in runs if run is not None], here.ui)
    for one in ended:
        one.wait_for_end()
    return board
