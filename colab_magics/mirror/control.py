"""Start syncs, find those that run, fetch inputs."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import process
from ..errors import Busy, ColabMagicsError, CommandFailed, InvalidInput, NotFound, Unavailable
from ..transport.places.base import Place, safe_name
from ..transport.places.store import TEMPORARY, rights_of
from . import guard, overlap, restore, state
from .sync import LOOK_SECONDS, Sync

START_SECONDS, FLUSH_SECONDS, FOLLOW_SECONDS = 60.0, 600.0, 10.0


def start(config: state.Config, *, take_over: bool = False, by: str = "") -> Sync:
    """Restore a folder from its Place, then keep it there by a process that outlives this one.

    Parameters
    ----------
    config : state.Config
        The folder, the Place, and how it is kept; see `state.Config.of`. The folder is made when it is missing.
    take_over : bool, default False
        Keep the folder at the Place also when another session does so.
    by : str
        Who starts it, for people: a notebook, a terminal.

    Returns
    -------
    Sync
        Its handle. When a process keeps this folder at this Place already, that one, with the new options. When the
        restore failed, `Sync.warning` says so; the process goes on and deletes nothing.

    Raises
    ------
    Unavailable
        When the Place is not there and no process runs yet.
    Busy
        When another folder is kept at that folder of the Place.
    InvalidInput
        When source and Place lie in each other, or for flags that rsync does not know.
    """
    source, place = Path(config.source), config.target()
    if place.by_rsync:
        process.need("rsync")
    if config.rsync is not None:
        if not place.by_rsync:
            raise InvalidInput(f"rsync= means nothing to {place}: rsync does not reach it.", "Leave it out.")
        guard.check_flags(config.rsync)
    if config.restore not in ("all", "light", "none"):
        raise InvalidInput(f"restore={config.restore} is no way to restore.", "Write restore=all, light or none.")
    place.answers()
    overlap.refuse(source, place)
    try:
        source.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"{source} cannot be made: {error.strerror}.", "Choose a folder that you may write."
        ) from error
    folder = state.folder_for(source, place)
    sync = Sync(folder)
    # One at a time: whoever comes second finds the process of the first.
    with state.locked(folder / "start.lock", wait=True):
        if sync.alive and sync.state() != "FLUSHING":
            before = sync.config
            replace(config, place_id=before.place_id, starters=_starters(before.starters)).save(folder)
            state.note_starter(folder, by, anew=False)
            if take_over:
                sync.ask("take_over")
            sync.ask("push")
        else:
            sync.wait_for_end(FLUSH_SECONDS)  # one that was told to end may still be at its last pass
            _refuse_second(place, folder)
            place_id = place.prepare(rights_of(str(source)))
            replace(config, place_id=place_id, starters=_starters()).save(folder)
            state.note_starter(folder, by, anew=True)
            state.forget_what_is_over()
            _spawn(sync)
            if take_over:
                sync.ask("take_over")
                sync.ask("push")
    sync.until(lambda found: bool(found.get("restore")), None, "the restore")
    _until_it_follows(sync, config)
    # A kernel that ends asks for a pass; it does not wait for it. Once is enough, however often this is called.
    atexit.unregister(_ask_all)
    atexit.register(_ask_all, os.getpid())
    return sync


def _until_it_follows(sync: Sync, config: state.Config) -> None:
    """Wait until deletions are followed, or not any more, so that it holds for those that come after the call."""
    deleting = config.delete or (config.rsync is not None and bool(guard.split_flags(config.rsync)[1]))
    # A copy of a big file may keep it from hearing; what goes until then is named, and stays.
    with suppress(CommandFailed):
        sync.until(
            lambda found: bool(found.get("following")) is deleting or found.get("state") in ("HELD", "BACKOFF"),
            FOLLOW_SECONDS,
            "the first look",
        )


def _starters(before: Iterable[dict[str, Any]] = ()) -> tuple[dict[str, Any], ...]:
    """Return the processes for which a sync works: this one and those of before that live."""
    me = process.identity()
    return (*(one for one in before if one != me and process.is_alive(one) is not False), me)


def notices(source: Path) -> list[str]:
    """Return what the user must see of all syncs of a folder."""
    return [one["text"] for sync in running(source) for one in sync.notices()]


def news(told: Container[object]) -> list[tuple[object, str]]:
    """Return the notices, with a key each, of the syncs that this process started, without those told already."""
    me = process.identity()
    return [
        ((str(sync.folder), one["key"], one["at"]), one["text"])
        for sync in running()
        if me in sync.config.starters
        for one in sync.notices()
        if (str(sync.folder), one["key"], one["at"]) not in told
    ]


def hand_over(source: Path, *, timeout: float) -> str | None:
    """Hand over what changed in a folder, to all its Places, and wait for it a while; raises nothing.

    Returns
    -------
    str or None
        Why it was not handed over, empty when it was; None when no sync keeps the folder.
    """
    found = running(source)
    end, trouble = time.monotonic() + timeout, "" if found else None
    for sync in found:
        try:
            sync.now(max(0.1, end - time.monotonic()))
        except (ColabMagicsError, OSError) as error:
            trouble = f"{sync.place}: {getattr(error, 'what', error)}"
    return trouble


def nudge(source: Path) -> None:
    """Ask all syncs of a folder for a pass, and wait for none."""
    _ask(running(source))


def running(source: Path | None = None) -> list[Sync]:
    """Find the syncs whose process works on this machine, whoever started them.

    Parameters
    ----------
    source : Path, optional
        Only those of this folder.
    """
    return [sync for sync in known(source) if sync.alive]


def known(source: Path | None = None) -> list[Sync]:
    """Find all syncs that were ever started on this machine; see `running`."""
    wanted = None if source is None else os.path.realpath(source)
    return [
        Sync(folder)
        for folder in state.folders()
        if (config := state.Config.load(folder)) is not None and wanted in (None, config.source)
    ]


def has_files(place: Place) -> bool:
    """Whether the folder of a Place holds anything of a user's.

    Raises
    ------
    Unavailable
        When the Place is not there.
    """
    place.answers()
    place.prepare()
    return any(not name.startswith((".sync_", ".colab_magics", TEMPORARY)) for name in place.names())


def fetch(
    place: Place, into: Path, names: Sequence[str] | None, *, warn: Callable[[str], None] = process.log.warning
) -> int:
    """Fetch inputs, one way; what is newer here stays.

    Parameters
    ----------
    place : Place
        The folder of a Place that holds them.
    into : Path
        The folder here; made when it is missing.
    names : sequence of str or None
        Only these files and folders; None for all.
    warn : callable
        Is told what was not fetched.

    Returns
    -------
    int
        How many files were copied.

    Raises
    ------
    NotFound
        When a named one is not there; lists what is.
    InvalidInput
        When a name leads out of the folder, or both folders lie in each other.
    Unavailable
        When the Place is not there.
    """
    wanted = None if names is None else [safe_name(name, of=str(place)) for name in names]
    overlap.refuse(Path(os.path.realpath(into)), place)
    expected = place.prepare()
    if wanted is not None and (missing := place.missing(wanted)):
        there = place.names()
        shown = ", ".join(there[:20]) + (f" … ({len(there)} in all)" if len(there) > 20 else "")
        raise NotFound(
            f"{', '.join(map(repr, missing))} is not in {place}.",
            f"There is: {shown}" if there else "That folder is empty: put the inputs there first.",
        )
    return restore.fetch(place, Path(into), expected=expected, names=wanted, warn=warn)


def _spawn(sync: Sync) -> None:
    """Start the process and wait for its first word."""
    (sync.folder / "status.json").unlink(missing_ok=True)
    log = sync.folder / "log.txt"
    env = {**_import_path(), **sync.config.target().environment()}
    pid = process.start_detached(process.python("colab_magics.mirror.daemon", sync.folder), log_file=log, env=env)
    who, end = process.identity(pid), time.monotonic() + START_SECONDS
    while not sync.alive:
        if time.monotonic() > end or not process.is_alive(who):
            process.reap()
            said = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise CommandFailed(f"The process that syncs {sync.source} did not start.\n{said}", f"Its log: {log}")
        time.sleep(LOOK_SECONDS)


def _import_path() -> dict[str, str]:
    """Let a new interpreter find this package where only a path of this one leads to it, such as a checkout."""
    package = Path(__file__).resolve().parents[2]
    if package.name in ("site-packages", "dist-packages"):
        return {}
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(package)]
    return {"PYTHONPATH": os.pathsep.join([str(package), *others])}


def _refuse_second(place: Place, folder: Path) -> None:
    """Two folders that are kept at one would overwrite and delete each other's files."""
    for other in running():
        if other.folder != folder and other.config.target().target == place.target:
            raise Busy(
                f"{place} is the mirror of {other.source} already.",
                "Choose another Place, or stop that sync first: %sync stop " + str(other.source),
            )


def _ask_all(owner: int) -> None:
    """Ask every sync of this machine for a pass, and wait for none."""
    if os.getpid() != owner:
        return  # a fork of the notebook ends, not the notebook
    _ask(running())


def _ask(syncs: Iterable[Sync]) -> None:
    for sync in syncs:
        try:
            sync.ask("push")
        except (Unavailable, OSError) as error:
            process.log.debug("no last request: %s", error)
