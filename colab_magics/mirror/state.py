"""What is written down about a sync: one folder on this machine for each (source, Place), never in the data.

Files and their one writer each: ``config.json`` (whoever starts or changes the sync, under ``start.lock``),
``started.json`` (the same), ``status.json``, ``heartbeat``, ``journal.jsonl``, ``trash.json``, ``log.txt`` (the
daemon), ``*.request`` (whoever asks; see `Sync.ask`). ``lock`` is held by the daemon as long as it lives.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import process, units
from ..errors import InvalidInput

if TYPE_CHECKING:
    from ..transport.places.base import Place

QUIET_END = 12 * 3600.0
LEAST_EVERY = 0.2
LARGE = (200_000_000, 900.0)
"""On Drive each rewrite of a file leaves the old one in the bin: big ones go only so often."""

RestoreMode = Literal["all", "light", "none"]


@dataclass(frozen=True)
class Config:
    """What a sync is to do; `of` makes one.

    Parameters
    ----------
    source : str
        The folder whose files are kept.
    place : str
        The Place as text; see `colab_magics.transport.places.parse`.
    parts : tuple of str
        The folder of the Place that becomes the mirror of `source`.
    project : str
        The project's name.
    every : float
        Seconds between two looks at everything; what Linux tells goes within a second.
    delete : bool
        Move to the trash there what is deleted here.
    exclude : tuple of str
        Patterns of rsync that are neither sent nor fetched.
    rsync : str or None
        Flags of rsync; those that delete mean `delete`, those that choose or change files make rsync copy them.
    restore : {"all", "light", "none"}
        What to fetch first.
    large : tuple of (int, float) or None
        Files of so many bytes that were handed over before go only so often, in seconds.
    keep : tuple of (int, str) or None
        Keep so many overwritten versions of files that match the pattern.
    place_id : str
        The id in the Place's sentinel; `control.start` fills it in.
    starters : tuple of dict
        The processes that started it, see `process.identity`; `control.start` fills them in.
    quiet_end : float
        When all of these have ended and nothing changed for so many seconds, the sync ends too.
    """

    source: str
    place: str
    parts: tuple[str, ...]
    project: str
    every: float
    delete: bool = False
    exclude: tuple[str, ...] = ()
    rsync: str | None = None
    restore: RestoreMode = "all"
    large: tuple[int, float] | None = None
    keep: tuple[int, str] | None = None
    place_id: str = ""
    starters: tuple[dict[str, Any], ...] = ()
    quiet_end: float = QUIET_END

    @classmethod
    def of(cls, source: Path, place: Place, *, every: float, exclude: Iterable[str] = (), **more: Any) -> Config:
        """Make one for a folder and the folder of a Place; `more` is as the class has it.

        Big files go seldom by default on Drive, and on Drive alone.
        """
        return cls(
            source=os.path.realpath(source),
            place=place.text,
            parts=place.parts,
            every=max(float(every), LEAST_EVERY),
            exclude=tuple(exclude),
            **{"large": LARGE if place.uploads_later else None, **more},
        )

    def target(self) -> Place:
        """Return the folder at the Place."""
        from ..transport import places

        return places.parse(self.place, project=self.project).below(*self.parts)

    def save(self, folder: Path) -> None:
        """Write ``config.json``."""
        process.write_json(folder / "config.json", asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Config | None:
        """Read ``config.json``; None when there is none, or one of another version."""
        found = process.read_json(folder / "config.json")
        try:
            if found is None:
                return None
            lists = {key: tuple(value) for key, value in found.items() if isinstance(value, list)}
            return cls(**{**found, **lists})
        except TypeError:
            return None


def root() -> Path:
    """Return the folder that holds all syncs of this user on this machine."""
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "colab_magics" / "sync"


def folder_for(source: Path, place: Place) -> Path:
    """Return the folder of one sync, made when it is new."""
    # The host counts too: homes are shared between the machines of a cluster.
    key = "\0".join((process.host(), str(source), place.target))
    folder = root() / hashlib.sha256(os.fsencode(key)).hexdigest()[:16]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def folders() -> list[Path]:
    """Return the folders of all syncs that were ever started here; who may not look there has started none."""
    try:
        return sorted(path.parent for path in root().glob("*/config.json"))
    except PermissionError:
        return []


def forget_what_is_over() -> None:
    """Remove what is written down of syncs of this machine that were stopped, and whose source is no more."""
    for folder in folders():
        config, found = Config.load(folder), status(folder)
        if config is None or found.get("state") != "STOPPED" or not (found.get("flushed") or found.get("gone")):
            continue
        # A disk that is not mounted takes along the folder above, too.
        gone = not os.path.lexists(config.source) and os.path.isdir(os.path.dirname(config.source))
        if gone and (found.get("identity") or {}).get("host") == process.host():
            with locked(folder / "start.lock", wait=False) as ours:
                if ours:
                    shutil.rmtree(folder, ignore_errors=True)


def status(folder: Path) -> dict[str, Any]:
    """Read ``status.json``; empty before the daemon's first word."""
    return process.read_json(folder / "status.json") or {}


def write_status(folder: Path, status: dict[str, Any]) -> None:
    """Write ``status.json`` by rename; not forced to the disk: it describes a process, and ends with the machine."""
    temporary = folder / f".status.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(status, default=str), encoding="utf-8")
    os.replace(temporary, folder / "status.json")


def note_starter(folder: Path, by: str, *, anew: bool) -> None:
    """Write down who started a sync, or changed what it does, and with which Python; `anew` forgets who did before."""
    before = [] if anew else starters(folder)
    me = {"by": by or "a script", "python": sys.prefix}
    kept = [one for one in before if {key: one.get(key) for key in me} != me or one is before[0]]
    if kept and {key: kept[0].get(key) for key in me} == me:
        return
    process.write_json(folder / "started.json", {"by": [*kept[:1], *kept[1:][-2:], {**me, "at": time.time()}]})


def starters(folder: Path) -> list[dict[str, Any]]:
    """Return who started a sync, and then who changed it last; empty where nobody knows."""
    found = (process.read_json(folder / "started.json") or {}).get("by")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def alive(found: dict[str, Any]) -> bool:
    """Whether the daemon that wrote this status still works."""
    return bool(found) and found.get("state") != "STOPPED" and process.is_alive(found.get("identity") or {}) is True


@contextmanager
def locked(file: Path, *, wait: bool) -> Iterator[bool]:
    """Hold an exclusive lock while the block runs; yields False when another process has it and `wait` is false."""
    with open(file, "ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def large_of(text: str) -> tuple[int, float] | None:
    """Read ``large=SIZE:TIME``."""
    if text.lower() == "none":
        return None
    size, colon, time = text.partition(":")
    if not colon:
        raise InvalidInput(f"large={text} names no size and time.", "Write large=200MB:15m, or large=none.")
    return units.size(size, name="large"), units.seconds(time, name="large")


def keep_of(text: str | None) -> tuple[int, str] | None:
    """Read ``keep=N:PATTERN``."""
    if text is None:
        return None
    number, colon, pattern = text.partition(":")
    if not colon or not pattern:
        raise InvalidInput(f"keep={text} names no number and pattern.", "Write keep=3:*.pt")
    return units.count(number, name="keep"), pattern
