"""``%remote``: from here on the cells run on another machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import session
from ..errors import InvalidInput, NotFound
from ..units import seconds, show_seconds, show_size, show_time, size, words
from . import body, call_only, subcommand

if TYPE_CHECKING:
    from ..relay.arrived import News
    from ..relay.code import Code
    from ..relay.remote_kernel import RemoteKernel
    from ..ui import Table


@body("cell")
@call_only("new")
def remote(
    host: str | None = None,
    /,
    *,
    cell: str | None = None,
    name: str | None = None,
    python: str = "",
    env: str = "",
    folder: str | None = None,
    include: str | None = None,
    exclude: str | None = None,
    idle: str | None = None,
    spool: str | None = None,
    new: bool = False,
) -> Remote | None:
    """Run the cells on another machine from here on.

    Every cell below runs there, in a kernel of its own, until ``%remote off``; cells that hold a verb of ours, and
    those that begin with ``%%local``, run here. ``%%remote gpu1`` runs one cell there. Output, plots, progress bars,
    questions and interrupts go to and fro; a cut connection costs nothing, and after a restart of this kernel the same
    line attaches again and shows what was missed. The project's code goes along before each cell, without what git
    ignores, and without keys, ``.env`` and the like.

    Parameters
    ----------
    host : str, optional
        As ``ssh`` knows it: an alias, ``user@name``; jump hosts, keys and agents are those of its configuration.
    cell : str, optional
        Code to run there once; the cell below ``%%remote``.
    name : str, optional
        Which kernel there; by default one for each notebook.
    python, env : str, optional
        The Python there: ``python=3.12`` for an environment of ours with that version, ``env=conda:NAME`` or
        ``env=PATH`` for one of yours that has ipykernel.
    folder : str, optional
        Where it works there; by default the project's path, below ``colab_magics`` in the home folder.
    include, exclude : str, optional
        Patterns of files that are sent although git ignores them, or by their very name although they look like
        secrets (``include=.env``), and that are not sent. On a host that is connected
        they count from the next cell on; what is excluded later stays there. The project's ``.recompute/include`` and
        ``.recompute/exclude`` say the same, a pattern a line, but for secrets.
    idle : str, optional
        The kernel ends by itself when nobody is connected and nothing runs for so long: ``8h`` if you say nothing,
        ``0`` for never. Said again, it counts for the kernel that runs.
    spool : str, optional
        So much output is kept there while nobody takes it: ``2GB`` if you say nothing. Said again, it counts, too.
    new : bool, default False
        End the kernel that runs there and start afresh.

    Returns
    -------
    Remote
        The kernel there, as a handle.

    Raises
    ------
    Unavailable
        When the host cannot be reached, or has no Python to use; the text says what to do.
    """
    from ..relay.code import folder_there

    here = session.current()
    if host is None:
        host = _current(here)
    held = here.remotes.get(host)
    other = held is not None and name not in (None, held.kernel.name)
    if held is None or new or other or held.kernel.state.kind == "gone":
        held = _connect(
            here,
            host,
            name,
            {"include": include, "exclude": exclude},
            new=new,
            python=python,
            env=env,
            folder=folder if folder is not None else folder_there(_root(here)),
            settings=_settings(idle, spool),
        )
    else:
        _change(here, held, include, exclude, {"python": python, "env": env, "folder": folder})
        _set(here, held, _settings(idle, spool))
    if cell is not None:
        here.ui.run_elsewhere(held, cell)
        return None
    here.ui.cells_go_to(held)
    return held


@dataclass
class Remote:
    """A kernel on another machine, and the code that goes along; the handle of ``%remote``.

    Parameters
    ----------
    kernel : RemoteKernel
        The connection.
    code : Code or None
        What is sent ahead of each cell; None sends nothing.
    news : News
        What belongs to no cell that is waited for, such as the output of threads; filled by another thread.
    """

    kernel: RemoteKernel
    code: Code | None
    news: News

    @property
    def host(self) -> str:
        """Its name for ssh."""
        return self.kernel.host

    def __str__(self) -> str:
        now = self.kernel.status(timeout=2.0)
        parts = [f"{self.host}: {now['state']}"]
        if now.get("age") is not None:
            parts.append(f"kernel {now.get('pid')} up {show_seconds(now['age'])}")
        if now.get("memory"):
            parts.append(f"holds {show_size(now['memory'])}")
        if now.get("rtt"):
            parts.append(f"{1000 * now['rtt']:.0f} ms away")
        if now.get("spool"):
            parts.append(f"{show_size(now['spool'])} of output kept there")
        return ", ".join(parts)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


@subcommand(remote)
def status() -> Table:
    """Show the kernels on other machines that this notebook holds.

    Returns
    -------
    Table
        Host, state, what the kernel holds, how far away it is, and whether cells go there.
    """
    from ..ui import Table

    here = session.current()
    if not here.remotes:
        raise NotFound("This notebook has no kernel on another machine.", "Connect to one: %remote HOST")
    rows = []
    for host, held in here.remotes.items():
        now = held.kernel.status(timeout=2.0)
        state = now["state"] if now["state"] == "connected" else f"{now['state']} since {show_time(now['since'])}"
        rows.append(
            [
                host,
                state,
                show_seconds(now["age"]) if now.get("age") is not None else "",
                show_size(now["memory"]) if now.get("memory") else "",
                f"{1000 * now['rtt']:.0f} ms" if now.get("rtt") else "",
                show_size(now["spool"]) if now.get("spool") else "",
                "yes" if here.ui.cells_are_at() == host else "",
            ]
        )
    return Table(["host", "state", "kernel up", "holds", "away", "output kept", "cells go there"], rows)


@subcommand(remote)
def off(host: str | None = None, /) -> None:
    """Execute cells here again; what runs there stays there.

    Parameters
    ----------
    host : str, optional
        Only when cells go to this one.
    """
    here = session.current()
    kernels = list(here.remotes.values()) if host is None else [_held(here, host)]
    if host in (None, here.ui.cells_are_at()):
        here.ui.cells_go_to(None)
    for held in kernels:
        now = held.kernel.status(timeout=2.0)
        keeps = f"keeps {show_size(now['memory'])}" if now.get("memory") else "stays"
        here.ui.say(f"The kernel on {held.host} {keeps}: %remote end {held.host} ends it.")


@subcommand(remote)
def end(host: str | None = None, /) -> None:
    """End a kernel on another machine, and delete what was kept there.

    Parameters
    ----------
    host : str, optional
        Which one; the one that cells go to by default.
    """
    here = session.current()
    host = host or _current(here)
    held = here.remotes.get(host) or _attach(host, _name(here), start=False)
    if here.ui.cells_are_at() == host:
        here.ui.cells_go_to(None)
    held.kernel.shutdown()
    here.remotes.pop(host, None)
    here.ui.say(f"The kernel on {host} has ended.")


@subcommand(remote)
@call_only("pickle")
def push(*names: str, host: str | None = None, pickle: bool = False) -> None:
    """Copy variables of this notebook to the kernel there.

    Parameters
    ----------
    *names : str
        The variables. JSON values, numpy arrays and tables go as they are.
    host : str, optional
        Where to; the one that cells go to by default.
    pickle : bool, default False
        Allow pickles for what nothing else holds: reading one there executes what this side put in.
    """
    from ..relay import values

    here = session.current()
    held = _held(here, host)
    for name in _names(names):
        value = here.ui.get_variable(name)
        kind, data = values.pack(name, value, pickle=pickle)
        here.ui.run_elsewhere(held, values.push_code(name, kind, data), silent=True)


@subcommand(remote)
@call_only("pickle")
def pull(*names: str, host: str | None = None, pickle: bool = False) -> None:
    """Copy variables of the kernel there to this notebook.

    Parameters
    ----------
    *names : str
        The variables. JSON values, numpy arrays and tables come as they are.
    host : str, optional
        Where from; the one that cells go to by default.
    pickle : bool, default False
        Allow pickles: reading one here executes what the other machine put in.
    """
    from ..relay import values

    here = session.current()
    held = _held(here, host)
    for name in _names(names):
        found = here.ui.run_elsewhere(held, values.pull_code(name, pickle=pickle), silent=True)
        for message in found:
            value = values.unpack(name, message.content["kind"], bytes(message.buffers[0]), pickle=pickle)
            here.ui.set_variables({name: value})


def _names(names: tuple[str, ...]) -> list[str]:
    found = [name for text in names for name in words(text)]
    if not found:
        raise InvalidInput("Which variables?", "Write %remote push x y")
    for name in found:
        if not name.isidentifier():
            raise InvalidInput(f"{name!r} is no variable's name.", "Name variables alone: %remote push x y")
    return found


def _connect(
    here: session.Session,
    host: str,
    name: str | None,
    patterns: dict[str, str | None],
    settings: dict[str, Any],
    **options: Any,
) -> Remote:
    """Attach in place of what this notebook held there, with its name and patterns where none are said."""
    before: Remote | None = here.remotes.get(host)
    chosen: dict[str, Any] = {word: words(value) for word, value in patterns.items() if value is not None}
    if before is not None:
        name = name or before.kernel.name
        chosen = {"include": before.code.include, "exclude": before.code.exclude, **chosen} if before.code else chosen
    held = _attach(host, name or _name(here), **chosen, **{**_settings("8h", "2GB"), **settings}, **options)
    if before is not None:
        before.kernel.close()
    here.remotes[host] = held
    if here.ui.cells_are_at() == host:
        here.ui.cells_go_to(held)
    if not held.kernel.started:
        _set(here, held, settings)
    return held


def _attach(
    host: str, name: str, *, include: Any = (), exclude: Any = (), start: bool = True, **options: Any
) -> Remote:
    from ..checkout import recompute
    from ..relay.arrived import News
    from ..relay.code import Code
    from ..relay.remote_kernel import attach

    here = session.current()
    code = None
    if start:
        listed = recompute.read(_root(here), here.warn_once)
        code = Code(_root(here), include, exclude, listed.include, listed.exclude)
    news = News()
    with here.ui.progress(f"connecting to {host}"):
        kernel = attach(host, name, start=start, tell=here.ui.say, on_message=news.put, **options)
    held = Remote(kernel, code, news)
    if not kernel.started and start:
        age, memory = kernel.welcome.get("age") or 0, kernel.welcome.get("memory") or 0
        here.ui.say(
            f"Attached to the kernel on {host} that has run for {show_seconds(age)} and holds {show_size(memory)}; "
            "--new starts afresh."
        )
    here.ui.show_missed(held)
    return held


def _current(here: session.Session) -> str:
    host = here.ui.cells_are_at()
    if host is None:
        raise InvalidInput("Which machine?", "Write %remote HOST, as you would say to ssh.")
    return host


def _held(here: session.Session, host: str | None) -> Remote:
    name = host or _current(here)
    held: Remote | None = here.remotes.get(name)
    if held is None:
        raise NotFound(f"This notebook has no kernel on {name}.", f"Connect first: %remote {name}")
    return held


def _name(here: session.Session) -> str:
    """Name the kernel after the notebook, so that it is found again after a restart here."""
    run = session.run_folder()
    return f"{run.parent.name}-{run.name}" if run is not None else here.ui.notebook_label()


def _change(
    here: session.Session, held: Remote, include: str | None, exclude: str | None, fixed: dict[str, str | None]
) -> None:
    """Take what may change on a host that is connected; what was not said stays as it is."""
    from ..checkout import recompute

    if said := [f"{word}=" for word, value in fixed.items() if value]:
        here.ui.say(f"The kernel on {held.host} runs already: {' and '.join(said)} count for a new one (--new).")
    if held.code is None:
        return
    listed = recompute.read(held.code.root, here.warn_once)
    before = (held.code.listed, held.code.unlisted)
    if include is None and exclude is None and (listed.include, listed.exclude) == before:
        return
    held.code.listed, held.code.unlisted = listed.include, listed.exclude
    left = held.code.choose(
        include=None if include is None else words(include), exclude=None if exclude is None else words(exclude)
    )
    if left:
        number = f"{left} file{'s' if left > 1 else ''}"
        here.ui.say(f"{number} that went to {held.host} before will not be sent any more; what is there stays.")


def _settings(idle: str | None, spool: str | None) -> dict[str, Any]:
    """Return what was said of them, as the relay knows it."""
    ends = {} if idle is None else {"idle": 0.0 if idle in ("0", "never") else seconds(idle, name="idle")}
    return ends if spool is None else {**ends, "cap": size(spool, name="spool")}


def _set(here: session.Session, held: Remote, settings: dict[str, Any]) -> None:
    """Have a kernel that runs already take other settings; says so when they were others."""
    now = held.kernel.status(timeout=2.0)
    if all(now.get(word) == value for word, value in settings.items()):
        return
    if "cap" not in now:
        here.ui.say(f"An earlier version started the kernel on {held.host}: idle= and spool= need a new one (--new).")
        return
    held.kernel.change(**settings)
    now.update(settings)
    ends = f"ends when idle for {show_seconds(now['idle'])}" if now["idle"] else "does not end by itself"
    when = "" if now["state"] == "connected" else " as soon as it is connected again"
    here.ui.say(f"The kernel on {held.host} {ends}, and keeps up to {show_size(now['cap'])} of output{when}.")


def _root(here: session.Session) -> Path:
    return Path(here.project.root) if here.project is not None else here.start_folder
