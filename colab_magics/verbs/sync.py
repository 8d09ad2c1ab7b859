"""``%sync``: keep outputs at a Place."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import session, units
from ..errors import ColabMagicsError, InvalidInput, NotFound, Unavailable, did_you_mean
from ..ui import Table
from . import call_only, subcommand, subcommands

if TYPE_CHECKING:
    from ..mirror.sync import Sync, Syncs
    from ..transport.places.base import Place


_LOOK_SECONDS = 10.0
"""So long the first look after Drive was mounted again is waited for."""


@call_only("delete", "rsync", "take_over")
def sync(
    source: str | None = None,
    /,
    *,
    to: str | None = None,
    every: str = "30s",
    exclude: str | None = None,
    large: str | None = None,
    keep: str | None = None,
    rsync: str | None = None,
    delete: bool = False,
    restore: Literal["all", "light", "none"] = "all",
    take_over: bool = False,
) -> Sync | Syncs | None:
    """Keep a folder's files at a Place: fetched once now, then each change is handed over within a second.

    A process of its own does it; it goes on when the kernel restarts. A file is copied when nobody writes it, as a
    whole or not at all; of a log that stays open goes what there is. Nothing is deleted at the Place unless you say so.
    What stands there in a newer version is not overwritten: what loses goes to ``.sync_conflict`` there.

    Parameters
    ----------
    source : str, optional
        The folder to keep; the project's ``data_job`` by default.
    to : str, optional
        Where: drive, drive:Shareddrives/NAME/FOLDER, a folder, host:path, s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, or
        rclone:NAME:FOLDER; several with commas between them. By default the project's Place. The outputs of a project
        go to data_job/JOB below it; another folder goes to that very Place. Outside of Colab rclone reaches drive.
    every : str, default "30s"
        How often to look at everything, for changes that the system did not tell. Of a big folder less often.
    exclude : str, optional
        Patterns of rsync, with commas between them, that are neither sent nor fetched.
    large : str, optional
        Files that were handed over before and are at least so big go only so often, such as "200MB:15m" (the default
        for Drive, whose bin they would fill), or "none".
    keep : str, optional
        Keep so many overwritten versions of files that match a pattern (``3:*.pt``), in ``.sync_versions`` there.
    rsync : str, optional
        Flags of rsync, such as "-av --delete" or "--chmod=g+r". With flags that change what is sent rsync does all
        the copying.
    delete : bool, default False
        Move to ``.sync_trash`` at the Place what is deleted here from now on; after a day of syncing it goes. Many
        deletes at once wait for your word; what was gone before is named, and stays.
    restore : {"all", "light", "none"}, default "all"
        What to fetch first: all, only files below 10 MB, or nothing. What is newer here stays.
    take_over : bool, default False
        Keep the folder at the Place although another session does; that one stops writing.

    Returns
    -------
    Sync, Syncs or None
        A handle that shows state, Place and last success. In a run the one of its job; None when there is none.

    Examples
    --------
    %sync
    %sync every=5m --delete
    %sync to=drive,/mnt/nas/net
    %sync results to=/mnt/nas/results
    %sync now
    """
    ui = session.current().ui
    if session.run_folder() is not None:
        try:
            return _one(_chosen(source))
        except NotFound as error:
            ui.warn(f"{error.what} A run starts none: run %sync in the main notebook.")
            return None
    from ..mirror import control
    from ..mirror.state import Config, keep_of, large_of

    folder, places, project = _what_and_where(source, to)
    options: dict[str, Any] = {
        "project": project,
        "every": units.seconds(every, name="every"),
        "delete": delete,
        "exclude": units.words(exclude),
        "keep": keep_of(keep),
        "rsync": rsync,
        "restore": restore,
    }
    if large is not None:
        options["large"] = large_of(large)
    handles, failed = [], []
    for place in places:
        try:
            mounted = _mount(place.text)
            with ui.progress(f"fetching from {place}"):
                handle = control.start(Config.of(folder, place, **options), take_over=take_over)
                if mounted:
                    # What it knew before is of a Drive that was not there. It looks on when it needs longer.
                    with suppress(ColabMagicsError):
                        handle.now(_LOOK_SECONDS)
        except Unavailable as error:
            failed.append(error)  # the other Places are kept all the same
            continue
        if handle.warning:
            ui.warn(handle.warning)
        handles.append(handle)
    if failed:
        also = f" Kept all the same: {', '.join(str(handle.place) for handle in handles)}." if handles else ""
        raise type(failed[0])(failed[0].what + also, failed[0].mend)
    return _one(handles)


@subcommand(sync)
@call_only("delete", "delete_earlier")
def now(
    source: str | None = None, /, *, timeout: str = "10m", delete: bool = False, delete_earlier: bool = False
) -> Sync | Syncs:
    """Hand over everything that has changed, and wait for it.

    Parameters
    ----------
    source : str, optional
        The folder; the project's ``data_job`` by default.
    timeout : str, default "10m"
        How long to wait at most.
    delete : bool, default False
        Delete at the Place also what waits for your word (see ``%sync status``).
    delete_earlier : bool, default False
        Delete at the Place also what was gone here before ``--delete`` was said.

    Returns
    -------
    Sync or Syncs
        The handle.
    """
    seconds = units.seconds(timeout, name="timeout")
    return _each(source, "handing over", lambda one: one.now(seconds, delete=delete, earlier=delete_earlier))


@subcommand(sync)
def wait(source: str | None = None, /, *, timeout: str = "10m") -> Sync | Syncs:
    """Wait until everything that is here now has been handed over, however often that has to be tried.

    Parameters
    ----------
    source : str, optional
        The folder; the project's ``data_job`` by default.
    timeout : str, default "10m"
        How long to wait at most.

    Returns
    -------
    Sync or Syncs
        The handle.
    """
    return _each(source, "waiting for a sync", lambda handle: handle.wait(units.seconds(timeout, name="timeout")))


@subcommand(sync)
def status(source: str | None = None, /) -> Sync | Syncs:
    """Show state, Place, last success, what waits, and what is wrong.

    Parameters
    ----------
    source : str, optional
        The folder; the project's ``data_job`` by default.

    Returns
    -------
    Sync or Syncs
        The handle, which shows itself.
    """
    return _one(_chosen(source, also_ended=True))


@subcommand(sync)
def verify(source: str | None = None, /, *, timeout: str = "1h") -> Sync | Syncs:
    """Compare everything with the Place, by size and time; what is not alike there is handed over again.

    Parameters
    ----------
    source : str, optional
        The folder; the project's ``data_job`` by default.
    timeout : str, default "1h"
        How long to wait at most.

    Returns
    -------
    Sync or Syncs
        The handle.
    """

    def compare(handle: Sync) -> None:
        lacking = handle.verify(units.seconds(timeout, name="timeout"))
        told = f"{lacking} files are handed over again" if lacking else "all files are there, alike in size and time"
        session.current().ui.say(f"{handle.place}: {told}")

    return _each(source, "comparing", compare)


@subcommand(sync)
def restore(source: str | None = None, /, *, dry_run: bool = False) -> Sync | Syncs | Table:
    """Fetch what the Place has: deletes nothing, overwrites nothing that is newer here.

    Parameters
    ----------
    source : str, optional
        The folder; the project's ``data_job`` by default.
    dry_run : bool, default False
        Show what would be fetched, and fetch nothing.

    Returns
    -------
    Sync, Syncs or Table
        The handle; with ``--dry-run`` the files.
    """
    if not dry_run:
        return _each(source, "fetching", lambda handle: handle.restore())
    rows, size = [], 0
    for handle in _chosen(source):
        plan = handle.plan()
        size += plan.bytes
        for one in plan.fetch:
            what = "fetched; the older one here goes to .sync_conflict" if one.name in plan.aside else "fetched"
            rows.append([one.name, units.show_size(one.size), what])
        rows += [[name, "", "kept as it is here"] for name in plan.kept]
    return Table(["file", "size", "would be"], rows, caption=f"{units.show_size(size)} would be fetched")


@subcommand(sync)
def flush(source: str | None = None, /, *, timeout: str = "30m") -> Sync | Syncs:
    """Hand over a last time and end the sync; of Drive also wait until it has uploaded everything, and unmount it.

    Parameters
    ----------
    source : str, optional
        The folder; the project's ``data_job`` by default.
    timeout : str, default "30m"
        How long each of both may take.

    Returns
    -------
    Sync or Syncs
        The handle.
    """
    from ..colab import mount
    from ..mirror import control
    from ..transport.places.drive import is_drive

    ui, seconds = session.current().ui, units.seconds(timeout, name="timeout")
    found = _chosen(source, also_ended=True)  # a flush that took too long is tried again
    drive = any(is_drive(handle.config.place) for handle in found)
    if drive:
        # Unmounted it is for all of them.
        known = {handle.folder for handle in found}
        found += [one for one in control.running() if is_drive(one.config.place) and one.folder not in known]
    with ui.progress("handing over a last time"):
        for handle in found:
            handle.stop(seconds)
    if drive:
        with ui.progress("waiting for Drive's uploads"):
            mount.flush(seconds)
        ui.say("Drive has taken up everything and is unmounted; %sync mounts it again.")
    return _one(found)


@subcommand(sync)
def stop(source: str | None = None, /, *, timeout: str = "10m") -> Sync | Syncs:
    """Hand over a last time, then end the sync.

    Parameters
    ----------
    source : str, optional
        The folder; the project's ``data_job`` by default.
    timeout : str, default "10m"
        How long the last pass may take.

    Returns
    -------
    Sync or Syncs
        The handle.
    """
    return _each(source, "handing over a last time", lambda handle: handle.stop(units.seconds(timeout, name="timeout")))


def _mount(place: str) -> bool:
    """Mount Drive where that can be done (its user has to be asked, from the notebook itself); say whether it was."""
    from ..colab import mount, runtime
    from ..transport.places.drive import drive_works, is_drive

    if is_drive(place) and runtime.front_end_answers(where := session.current().ui.where):
        was_there = drive_works()
        mount.ensure_drive(where, drive_works)
        return not was_there
    return False


def _one(found: list[Sync]) -> Sync | Syncs:
    from ..mirror.sync import Syncs

    return found[0] if len(found) == 1 else Syncs(found)


def _project() -> Any:
    """The project of this session, or the one that the working folder stands in; None without one."""
    from ..checkout.project import find_project, of_run

    if (run := session.run_folder()) is not None:
        return of_run(run)
    shell = session.current()
    return shell.project or find_project(Path.cwd(), warn=shell.warn_once)


def _folder(source: str) -> Path:
    """Read the folder that a user named."""
    from ..checkout.project import keep_within

    path = Path(source).expanduser()
    if path.is_dir():
        project = _project()
        return keep_within(project.root, path) if project else Path(os.path.realpath(path))
    words = subcommands(sync)
    if "/" not in source and difflib.get_close_matches(source, words, n=1, cutoff=0.6):
        raise did_you_mean(source, words, kind="folder, and no word of %sync")
    raise NotFound(f"There is no folder {path.absolute()}.", "%sync FOLDER to=PLACE keeps a folder that is there.")


def _what_and_where(source: str | None, to: str | None) -> tuple[Path, list[Place], str]:
    """Decide which folder is kept, at which Places, and for which project."""
    from ..transport.places import parse_all

    project = _project()
    name = project.name if project else ""
    folder = Path(os.path.realpath(project.data_job)) if project else None
    if source is not None and (named := _folder(source)) != folder:
        if to is None:
            raise InvalidInput(f"Where shall {named} be kept?", f"Say it: %sync {source} to=FOLDER")
        # Drive's folder belongs to the whole project: another folder of it stands beside data_project and data_job.
        places = parse_all(to, project=name)
        return named, [place.below(named.name) if place.text == "drive" else place for place in places], name
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
    return folder, [place.below("data_job", project.job) for place in parse_all(text, project=name)], name


def _chosen(source: str | None, *, also_ended: bool = False) -> list[Sync]:
    """Find the syncs that a subcommand means; at least one."""
    from ..mirror import control

    project = _project() if source is None else None
    folder = Path(os.path.realpath(project.data_job)) if project else None if source is None else _folder(source)
    found = control.running(folder)
    if not found and also_ended:
        found = control.known(folder)
    if folder is None and len({handle.source for handle in found}) > 1:
        raise InvalidInput(
            "Several folders are synced: " + ", ".join(str(handle.source) for handle in found) + ".",
            "Name one: %sync status FOLDER",
        )
    if not found:
        raise NotFound(f"No sync runs{f' for {folder}' if folder else ''}.", "%sync starts it")
    return found


def _each(source: str | None, what: str, act: Callable[[Sync], Any]) -> Sync | Syncs:
    """Do the same with all syncs of a folder."""
    found = _chosen(source)
    for handle in found:
        _mount(handle.config.place)
        with session.current().ui.progress(f"{what}: {handle.place}"):
            act(handle)
    return _one(found)
