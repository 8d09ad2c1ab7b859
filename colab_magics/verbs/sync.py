"""``%sync``: keep outputs at a Place."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import session, units
from ..errors import InvalidInput, NotFound, did_you_mean
from . import call_only, subcommand, subcommands

if TYPE_CHECKING:
    from ..mirror.sync import Sync
    from ..transport.places import Place


@call_only("delete", "rsync")
def sync(
    source: str | None = None,
    /,
    *,
    to: str | None = None,
    every: str = "30s",
    exclude: str | None = None,
    rsync: str | None = None,
    delete: bool = False,
    restore: Literal["all", "light", "none"] = "all",
) -> Sync | None:
    """Keep a folder's files at a Place: fetched once now, then sent every interval.

    A process of its own does it; it goes on when the kernel restarts. Nothing is deleted at the Place unless you say
    so, and then only after a restore was complete.

    Parameters
    ----------
    source : str, optional
        The folder to keep; the project's ``data_job`` by default.
    to : str, optional
        Where: drive, a folder, or host:path. By default the project's Place. The outputs of a project go to
        data_job/JOB below it; another folder goes to that very Place.
    every : str, default "30s"
        The interval.
    exclude : str, optional
        Patterns of rsync, with commas between them, that are neither sent nor fetched.
    rsync : str, optional
        Flags of rsync in place of ``-a``, such as "-av --delete".
    delete : bool, default False
        Delete at the Place what is deleted here. On Drive deleted files go to its bin, which counts as used space.
    restore : {"all", "light", "none"}, default "all"
        What to fetch first: all, only files below 10 MB, or nothing. What is newer here stays.

    Returns
    -------
    Sync or None
        A handle that shows state, Place and last success. In a run the one of its job; None when there is none.

    Examples
    --------
    %sync
    %sync every=5m --delete
    %sync results to=/mnt/nas/results
    %sync now
    """
    ui = session.current().ui
    if session.run_folder() is not None:
        try:
            return _chosen(source)[0]
        except NotFound as error:
            ui.warn(f"{error.what} A run starts none: run %sync in the main notebook.")
            return None
    from ..mirror import control

    folder, place, project = _what_and_where(source, to)
    seconds = units.seconds(every, name="every")
    with ui.progress(f"fetching from {place}"):
        handle = control.start(
            folder,
            place,
            every=seconds,
            delete=delete,
            exclude=units.words(exclude),
            rsync=rsync,
            restore=restore,
            project=project,
        )
    if handle.warning:
        ui.warn(handle.warning)
    return handle


@subcommand(sync)
def now(source: str | None = None, /, *, timeout: str = "10m") -> Sync:
    """Send everything at once and wait for it.

    Parameters
    ----------
    source : str, optional
        The folder; the project's ``data_job`` by default.
    timeout : str, default "10m"
        How long to wait at most.

    Returns
    -------
    Sync
        The handle.
    """
    return _each(source, "sending", lambda handle: handle.now(units.seconds(timeout, name="timeout")))


@subcommand(sync)
def wait(source: str | None = None, /, *, timeout: str = "10m") -> Sync:
    """Wait until everything that is here now has been sent, however often that has to be tried.

    Parameters
    ----------
    source : str, optional
        The folder; the project's ``data_job`` by default.
    timeout : str, default "10m"
        How long to wait at most.

    Returns
    -------
    Sync
        The handle.
    """
    return _each(source, "waiting for a sync", lambda handle: handle.wait(units.seconds(timeout, name="timeout")))


@subcommand(sync)
def status(source: str | None = None, /) -> Sync:
    """Show state, Place, last success and last error.

    Parameters
    ----------
    source : str, optional
        The folder; the project's ``data_job`` by default.

    Returns
    -------
    Sync
        The handle, which shows itself.
    """
    return _chosen(source, also_ended=True)[0]


@subcommand(sync)
def restore(source: str | None = None, /) -> Sync:
    """Fetch what the Place has: deletes nothing, overwrites nothing that is newer here.

    Parameters
    ----------
    source : str, optional
        The folder; the project's ``data_job`` by default.

    Returns
    -------
    Sync
        The handle.
    """
    return _each(source, "fetching", lambda handle: handle.restore())


@subcommand(sync)
def stop(source: str | None = None, /, *, timeout: str = "10m") -> Sync:
    """Send a last time, then end the sync.

    Parameters
    ----------
    source : str, optional
        The folder; the project's ``data_job`` by default.
    timeout : str, default "10m"
        How long the last pass may take.

    Returns
    -------
    Sync
        The handle.
    """
    return _each(source, "sending a last time", lambda handle: handle.stop(units.seconds(timeout, name="timeout")))


def _project() -> Any:
    """The project of this session, or the one that the working folder stands in; None without one."""
    from ..checkout.project import find_project

    run = session.run_folder()
    if run is not None:
        return find_project(run)
    return session.current().project or find_project(Path.cwd())


def _folder(source: str) -> Path:
    """Read the folder that a user named."""
    path = Path(source).expanduser()
    if path.is_dir():
        return Path(os.path.realpath(path))
    words = subcommands(sync)
    if "/" not in source and difflib.get_close_matches(source, words, n=1, cutoff=0.6):
        raise did_you_mean(source, words, kind="folder, and no word of %sync")
    raise NotFound(f"There is no folder {path.absolute()}.", "%sync FOLDER to=PLACE keeps a folder that is there.")


def _what_and_where(source: str | None, to: str | None) -> tuple[Path, Place, str]:
    """Decide which folder is kept, where, and for which project."""
    from ..transport.places import parse

    project = _project()
    name = project.name if project else ""
    folder = Path(os.path.realpath(project.data_job)) if project else None
    if source is not None and (named := _folder(source)) != folder:
        if to is None:
            raise InvalidInput(f"Where shall {named} be kept?", f"Say it: %sync {source} to=FOLDER")
        place = parse(to, project=name)
        # Drive's folder belongs to the whole project: another folder of it stands beside data_project and data_job.
        return named, place.below(named.name) if place.text == "drive" else place, name
    if project is None or folder is None:
        raise InvalidInput(
            "There is no project here, so %sync cannot know what to keep.",
            "Run %project first, or name both: %sync FOLDER to=PLACE",
        )
    text = to or project.place
    if text is None:
        raise InvalidInput(
            f"The project {project.name} has no Place, so its outputs stay on this machine only.",
            "Say where to keep them: %sync to=FOLDER, to=drive or to=HOST:FOLDER",
        )
    return folder, parse(text, project=name).below("data_job", project.job), name


def _chosen(source: str | None, *, also_ended: bool = False) -> list[Sync]:
    """Find the syncs that a subcommand means; at least one."""
    from ..mirror import control

    if source is not None:
        folder: Path | None = _folder(source)
    else:
        project = _project()
        folder = Path(os.path.realpath(project.data_job)) if project else None
    found = control.running(folder)
    if not found and also_ended:
        found = control.known(folder)
    if folder is None and len(found) > 1:
        raise InvalidInput(
            "Several folders are synced: " + ", ".join(str(handle.source) for handle in found) + ".",
            "Name one: %sync status FOLDER",
        )
    if not found:
        raise NotFound(f"No sync runs{f' for {folder}' if folder else ''}.", "%sync starts it")
    return found


def _each(source: str | None, what: str, act: Any) -> Sync:
    """Do the same with all syncs of a folder and return the first."""
    found = _chosen(source)
    with session.current().ui.progress(what):
        for handle in found:
            act(handle)
    return found[0]
