"""``%host``: other machines, as ssh's configuration names them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import session
from ..errors import InvalidInput
from ..units import seconds
from . import call_only, subcommand

if TYPE_CHECKING:
    from ..runs.show import Text
    from ..transport.probed import Probed
    from ..ui import Table


def host() -> Table:
    """List the machines that ssh's configuration names.

    Returns
    -------
    Table
        Name, address, the host through which it is reached, and the line where it stands.
    """
    from ..transport import hosts
    from ..ui import Table

    named = hosts.names()
    if not named:
        return Table([], [], caption="ssh's configuration names no host.", notes=["Add one: %host add NAME user@host"])
    with session.current().ui.progress("reading ssh's configuration"):
        found = hosts.machines(named)
    rows = [[one.name, str(machine.direct), machine.jump, one.where] for one, machine in zip(named, found, strict=True)]
    return Table(["host", "address", "through", "stands in"], rows)


@subcommand(host, "list")
def list_() -> Table:
    """List hosts; the same as ``%host``."""
    return host()


@subcommand(host)
@call_only("fingerprint")
def add(
    name: str, address: str, /, *, key: str | None = None, jump: str | None = None, fingerprint: str | None = None
) -> Table:
    """Add a machine to ssh's configuration, after a login that worked.

    ssh, git, rsync and editors know it from then on. What you wrote there stays as it is: one line includes a file of
    ours. A machine that is there already under any name is refused, and so is one that does not let us in.

    Parameters
    ----------
    name : str
        Its name from now on.
    address : str
        ``user@host`` or ``user@host:2222``.
    key : str, optional
        The file of the private key, where ssh would not find it by itself.
    jump : str, optional
        The host through which it is reached; several with commas between them.
    fingerprint : str, optional
        What its owner says that the fingerprint of its key is (``SHA256:…``), for a key that is not known here yet.

    Returns
    -------
    Table
        The host.
    """
    from ..transport import hosts_file
    from ..transport.hosts_file import Address, Greeting
    from ..ui import Table

    ui = session.current().ui

    def accept(seen: Greeting) -> bool:
        return ui.ask(f"{address} shows the key {seen.kind} {seen.fingerprint}. Is that what its owner says?")

    wanted = Address.from_text(address, key=key, jump=jump)
    ui.say(f"Logging in to {address} …")  # no progress: it would count through the question
    machine = hosts_file.add(name, wanted, fingerprint=fingerprint, accept=accept)
    return Table(["host", "address"], [[name, str(machine)]], caption=f"{name} is known to ssh from now on.")


@subcommand(host)
def rm(name: str, /) -> None:
    """Take a machine out of ssh's configuration that ``%host add`` has added.

    Parameters
    ----------
    name : str
        Its name.
    """
    from ..transport import hosts_file

    hosts_file.remove(name)
    session.current().ui.say(f"{name} is not in ssh's configuration any more; the machine is as it was.")


@subcommand(host)
def probe(*hosts: str, need: str | None = None, timeout: str = "20s", folder: str = "colab_magics") -> Probed:
    """Show what machines have to give now: GPU memory, load, RAM, disk, and how far away they are.

    All are asked at once, each by one ssh command; those that are dead say why.

    Parameters
    ----------
    *hosts : str
        Their names, or ``user@name``; all that ssh's configuration names by default.
    need : str, optional
        What work needs, such as ``need="3GB disk, 1.5GB gpu, 2 cpu"`` (or ``8GB ram``, ``2 gpu``): names the host that
        has just enough, and says of each other one why it lost. GPU memory counts on one GPU. Of disk and memory a
        tenth more must be free.
    timeout : str, default "20s"
        How long one of them may take.
    folder : str, default "colab_magics"
        The folder there whose disk counts, from the home folder or from ``/``.

    Returns
    -------
    Probed
        The reports and the choice; shows itself as a table.
    """
    from ..transport import hosts as room
    from ..transport import probe as asking
    from ..transport.choose import choose
    from ..transport.need import Need
    from ..transport.probed import Probed

    wanted = Need.from_text(need) if need is not None else None
    limit = seconds(timeout, name="timeout")
    asked = list(dict.fromkeys(hosts)) or [one.name for one in room.names()]
    if not asked:
        raise InvalidInput("ssh's configuration names no host.", "Name one: %host probe HOST, or %host add")
    with session.current().ui.progress(f"asking {asked[0] if len(asked) == 1 else f'{len(asked)} hosts'}"):
        reports = asking.probe(asked, folder=folder, seconds=limit)
    return Probed(reports, choose(reports, wanted) if wanted is not None else None)


@subcommand(host)
def install(
    *packages: str,
    host: str | None = None,
    requirements: str | None = None,
    python: str = "",
    env: str = "",
    folder: str | None = None,
) -> Table:
    """Install what the project needs on a machine, into an environment of the project's own there.

    What it needs stands in its requirements.txt or pyproject.toml. Where there is no such file, a requirements.txt is
    written from what its modules and notebooks import, in the versions that are installed here. ``%remote`` uses that
    environment from its next kernel on. A machine that reaches no package index gets wheels that are fetched here.

    Parameters
    ----------
    *packages : str
        Packages to install in place of all that, as pip takes them: ``numpy 'torch>=2.3'``.
    host : str
        Which machine.
    requirements : str, optional
        A requirements file, from the project's folder.
    python, env : str, optional
        The Python there, as for ``%remote``: ``python=3.12``, or ``env=PATH`` for an environment of yours.
    folder : str, optional
        The project's folder there, as for ``%remote``: each has an environment of its own.

    Returns
    -------
    Table
        What was installed, and where.

    Raises
    ------
    CommandFailed
        When it cannot be installed; holds the last lines of what was said there.
    """
    from ..checkout import elsewhere
    from ..relay import install_there
    from ..relay.code import folder_there
    from ..relay.environment import Environment, prepare
    from ..transport import hosts
    from ..ui import Table

    ui, name, root = session.current().ui, hosts.check(host), _root()
    environment = Environment(python, env, folder or folder_there(root))
    needs = elsewhere.of_packages(packages) if packages else elsewhere.of_project(root, requirements)
    with ui.progress(f"preparing {name}"):
        there = prepare(name, environment, own=True)
    with ui.progress(f"{name} installs {needs.what}"):
        install_there.install(name, there, needs.words, needs.files, tell=ui.say)
    kernel = f"A kernel that runs there already goes on as it is; a new one has it: %remote {name} --new"
    return Table([], [], caption=f"{name} has installed {needs.what}, for {there}", notes=[*needs.notes, kernel])


@subcommand(host)
@call_only("force")
def put(*paths: str, host: str | None = None, folder: str | None = None, force: bool = False) -> Table:
    """Copy files and folders of the project to a machine: big data, weights, anything that is no code.

    They go to the same path in the project's folder there, which is the one of ``%remote``. A copy that was cut goes on
    where it stopped when you say it again; nothing is deleted there. Secrets (``.env``, keys) in a folder stay here.

    Parameters
    ----------
    *paths : str
        Files and folders, from the project's folder; a secret goes when you name it.
    host : str
        Where to.
    folder : str, optional
        The project's folder there; by default its path here, below ``colab_magics`` in the home folder.
    force : bool, default False
        Copy also over what is newer there.

    Returns
    -------
    Table
        What was copied, and what stayed.
    """
    return _copy(paths, host, folder, force, to_there=True)


@subcommand(host)
@call_only("force")
def get(*paths: str, host: str | None = None, folder: str | None = None, force: bool = False) -> Table:
    """Copy files and folders of the project from a machine to the same path here; nothing is deleted here.

    Parameters
    ----------
    *paths : str
        Files and folders, from the project's folder there.
    host : str
        Where from.
    folder : str, optional
        The project's folder there, as for ``%host put``.
    force : bool, default False
        Copy also over what is newer here.

    Returns
    -------
    Table
        What was copied, and what stayed.
    """
    return _copy(paths, host, folder, force, to_there=False)


def _copy(paths: Sequence[str], host: str | None, folder: str | None, force: bool, *, to_there: bool) -> Table:
    from ..relay.code import folder_there
    from ..transport import bulk, hosts

    here, word = session.current(), "put" if to_there else "get"
    if not paths:
        raise InvalidInput("Which files?", f"Write %host {word} data_project/train.csv host=NAME")
    name, root = hosts.check(host), _root()
    there = folder or folder_there(root)
    move, preposition = (bulk.put, "to") if to_there else (bulk.get, "from")
    with bulk.shown(here.ui, f"copying {preposition} {name}") as tell:
        moved = move(name, root, paths, there, force=force, tell=tell)
    return moved.table(f"{preposition} {name}:{there}")


@subcommand(host)
def shell(host: str, /, *, folder: str | None = None) -> Text:
    """Return the line for a terminal that opens a shell in the project's folder on a machine.

    In tmux where that is there: the same line later, also from elsewhere, comes back to what runs in it.

    Parameters
    ----------
    host : str
        Which machine.
    folder : str, optional
        The project's folder there, as for ``%host put``.

    Returns
    -------
    Text
        The line.
    """
    from ..relay.code import folder_there
    from ..runs.show import Text
    from ..transport import hosts

    root = _root()
    return Text(hosts.shell_line(hosts.check(host), folder or folder_there(root), root.name))


def _root() -> Path:
    """Return the folder of the project in use, of the one that we stand in, or where the session began."""
    from ..checkout.project import find_project

    here = session.current()
    project = here.project or find_project(Path.cwd(), warn=here.warn_once)
    return Path(project.root) if project is not None else here.start_folder


from . import host_kernel, host_lab  # noqa: E402, F401 - they hang their words on this verb
