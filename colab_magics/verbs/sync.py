"""``%sync``: keep outputs at a Place."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from .. import session, units
from ..errors import ColabMagicsError, NotFound, Unavailable
from ..ui import Table, who
from . import call_only, subcommand
from . import sync_which as of_line

if TYPE_CHECKING:
    from ..mirror.sync import Sync, Syncs


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
        A handle that says on one line how it stands; ``%sync status`` says all. In a run the one of its job; None when
        there is none.

    Examples
    --------
    %sync
    %sync every=5m --delete
    %sync to=drive,/mnt/nas/net
    %sync results to=/mnt/nas/results
    %sync now
    """
    shell = session.current()
    ui = shell.ui
    if session.run_folder() is not None:
        try:
            return _one(of_line.chosen(source))
        except NotFound as error:
            ui.warn(f"{error.what} A run starts none: run %sync in the main notebook.")
            return None
    from ..mirror import control
    from ..mirror.state import Config, keep_of, large_of

    folder, places, project = of_line.what_and_where(source, to)
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
                handle = control.start(Config.of(folder, place, **options), take_over=take_over, by=who(ui))
                if mounted:
                    # What it knew before is of a Drive that was not there. It looks on when it needs longer.
                    with suppress(ColabMagicsError):
                        handle.now(_LOOK_SECONDS)
        except Unavailable as error:
            failed.append(error)  # the other Places are kept all the same
            continue
        handles.append(handle)
    for key, text in control.news(shell.told):
        shell.told.add(key)
        ui.warn(text)
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
    """Show all about a sync: who started it, what waits, what is open, what is wrong; and a line for each other one.

    Parameters
    ----------
    source : str, optional
        The folder; by default the one that the working folder lies in, else the project's ``data_job``.

    Returns
    -------
    Sync or Syncs
        The handle, which shows itself.
    """
    from ..mirror import control
    from ..mirror.sync import Syncs

    running = control.running()
    if of_line.which(source) is None and len(running) > 1:
        return Syncs(running)
    found = of_line.chosen(source, also_ended=True)
    mine = {one.folder for one in found}
    for one in found:
        one.detailed = True
    if source is None:
        found[-1].others = [one for one in running if one.folder not in mine]
    return _one(found)


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
    for handle in of_line.chosen(source):
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
    found = of_line.chosen(source, also_ended=True)  # a flush that took too long is tried again
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


def _each(source: str | None, what: str, act: Callable[[Sync], Any]) -> Sync | Syncs:
    """Do the same with all syncs of a folder."""
    found = of_line.chosen(source)
    for handle in found:
        _mount(handle.config.place)
        with session.current().ui.progress(f"{what}: {handle.place}"):
            act(handle)
    return _one(found)
