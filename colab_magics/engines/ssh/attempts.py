"""What a machine knows of the attempts at runs that came to it: where each is, and which process executes it.

``keys/<key>.json`` is written before an attempt is started, and again when its process is known; a key that was
cancelled before it came stays, too. So whoever asks later, in whatever process, gets the answer, and nothing is
started a second time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ... import files, process
from ...errors import InvalidInput
from ...records import lock
from ...records.names import STATE, number_of
from ...records.status import ENDED
from ...session import RUN_VARIABLE
from .. import base
from ..base import Engine, Phase, Submission
from ..local import LocalEngine
from .folders import OF_HOME

STAGED = ".staged"
"""Begins the name of a folder with what is to be copied home."""


class Attempts:
    """The attempts below a folder.

    Parameters
    ----------
    folder : Path
        Where ``keys`` and the sessions of schedulers lie.
    others : Engine, optional
        Knows of runs that this process has not started; a local one by default.
    """

    def __init__(self, folder: Path, others: Engine | None = None) -> None:
        self.folder = folder
        self._others = others or LocalEngine()
        self._mine: dict[str, Engine] = {}
        self._over: set[str] = set()
        (folder / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)

    def _file(self, key: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{16,64}", key):
            raise InvalidInput(f"{key!r} is no run's key.")
        return self.folder / "keys" / f"{key}.json"

    def folder_of(self, session: str, job: str, name: str) -> Path:
        """Return a run's folder.

        Raises
        ------
        InvalidInput
            For words that are none of a run.
        """
        plain = job and "/" not in job and job not in (".", "..", "keys") and "\0" not in job
        if not re.fullmatch(r"[0-9a-f]{8,64}", session) or number_of(name) is None or not plain:
            raise InvalidInput(f"{job}/{name} is no folder of a run.")
        return self.folder / session / job / name

    def known(self, key: str) -> dict[str, Any] | None:
        """Return what is written of an attempt: ``folder``, ``who`` executes it, …; None of one that never came."""
        known = process.read_json(self._file(key))
        if known is None or known.get("cancelled"):
            return None
        folder = Path(str(known.get("folder")))
        return known if folder.is_relative_to(self.folder) and ".." not in folder.parts else None

    def is_cancelled(self, key: str) -> bool:
        """Whether an attempt was cancelled before it came."""
        return bool((process.read_json(self._file(key)) or {}).get("cancelled"))

    def note(self, key: str, **known: Any) -> None:
        """Write down what is known of an attempt."""
        process.write_json(self._file(key), known, durable=False)

    def forget(self, key: str) -> None:
        """Take back what was not started."""
        self._file(key).unlink(missing_ok=True)

    def begun(self, key: str, engine: Engine) -> None:
        """Note that this process has started an attempt."""
        self._mine[key] = engine

    def sought(self, key: str) -> dict[str, Any] | None:
        """Return what is known of an attempt that was started; one that was only announced is looked for."""
        known = self.known(key)
        if known is not None and not known.get("who"):
            who = self._others.find([submission(key, known)])[0]
            if who is None and not (Path(known["folder"]) / STATE).exists():
                return None
            known["who"] = who or {}
            self.note(key, **known)
        return known

    def phases(self, known: Mapping[str, Mapping[str, Any]]) -> dict[str, Phase]:
        """Tell how attempts are doing, by their keys; each engine is asked once."""
        return {key: self._phase(key, known[key], phase) for key, phase in self._polled(known).items()}

    def _polled(self, known: Mapping[str, Mapping[str, Any]]) -> dict[str, Phase]:
        phases: dict[str, Phase] = dict.fromkeys(known, base.ENDED)
        for engine, mine in self._by_engine(known):
            phases |= zip((one.key for one in mine), engine.poll(mine), strict=True)
        return phases

    def _by_engine(self, known: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[Engine, list[Submission]]]:
        """Yield engines with those attempts that they have started."""
        by_engine: dict[int, tuple[Engine, list[Submission]]] = {}
        for key, one in known.items():
            if one.get("who"):
                engine = self._mine.get(key, self._others)
                by_engine.setdefault(id(engine), (engine, []))[1].append(submission(key, one))
        yield from by_engine.values()

    def phase(self, key: str, known: Mapping[str, Any]) -> Phase:
        """Tell how an attempt is doing; what one has left behind whose runner was killed ends with it."""
        return self.phases({key: known})[key]

    def _phase(self, key: str, known: Mapping[str, Any], phase: Phase) -> Phase:
        if phase == base.ENDED and key not in self._over:
            self._over.add(key)
            if not _said_its_end(Path(known["folder"])) and not lock.is_held(Path(known["folder"])):
                process.end_all_with(RUN_VARIABLE, str(known["folder"]))
        return phase

    def cancel(self, *keys: str) -> None:
        """End attempts; what comes later under one of these keys is not to be started."""
        sought = {key: self.sought(key) for key in keys}
        for key in [key for key, known in sought.items() if known is None]:
            self.note(key, cancelled=True, began=time.time())
        for engine, mine in self._by_engine({key: known for key, known in sought.items() if known is not None}):
            engine.cancel(mine)

    def engine_of(self, key: str) -> Engine:
        """Return the engine that has an attempt."""
        return self._mine.get(key, self._others)

    def look(self) -> bool:
        """Look at those that this process has started; whether one of them has ended."""
        process.reap()
        before = len(self._mine)
        known = {key: known for key in self._mine if (known := self.known(key)) is not None}
        phases = self.phases(known)
        self._mine = {key: one for key, one in self._mine.items() if phases.get(key, base.ENDED) != base.ENDED}
        return len(self._mine) < before

    def came_home(self, key: str, *, remove: bool) -> None:
        """Note that all of an attempt that has ended is at home, or remove it."""
        known = self.known(key)
        if known is None or self.phase(key, known) != base.ENDED:
            return
        self._mine.pop(key, None)
        if remove:
            self._remove(key, Path(known["folder"]))
        else:
            self.note(key, **{**known, "home": time.time()})

    def _remove(self, key: str, folder: Path) -> None:
        shutil.rmtree(folder.with_name(f"{STAGED}-{key}"), ignore_errors=True)
        self.forget(key)
        others = ((process.read_json(file) or {}).get("folder") for file in (self.folder / "keys").glob("*.json"))
        known = [Path(str(one)) for one in others]
        if folder not in known:  # of another attempt, too
            shutil.rmtree(folder, ignore_errors=True)
        if not any(one.is_relative_to(folder.parent) for one in known):
            # What is left are results of other forks, which came along.
            shutil.rmtree(folder.parent, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.parent.parent.rmdir()

    def sweep(self, seconds: float) -> set[str]:
        """Remove what came home, or was cancelled, so long ago; returns the folders of code that others work in."""
        now, used = time.time(), set[str]()
        for file in (self.folder / "keys").glob("*.json"):
            known, key = process.read_json(file) or {}, file.stem
            over = known.get("home") or (known.get("began") if known.get("cancelled") else None)
            if not over or now - float(over) < seconds:
                used.add(str(known.get("code")))
            elif known.get("cancelled"):
                self.forget(key)
            elif self.known(key) is not None:
                self._remove(key, Path(known["folder"]))
        return used


def _said_its_end(folder: Path) -> bool:
    return (process.read_json(folder / STATE) or {}).get("phase") in ENDED


def submission(key: str, known: Mapping[str, Any]) -> Submission:
    """Return an attempt as its engine knows it; what is known of it may be nothing."""
    return Submission(Path(str(known.get("folder") or "")), key, known.get("who"))


def read(path: Path, start: int, most: int) -> bytes:
    """Return so many bytes of a file from `start`; none of one that is not there, or is a link."""
    try:
        fd = files.plain(path, os.O_RDONLY)
    except OSError:
        return b""
    with open(fd, "rb") as stream:
        stream.seek(start)
        return stream.read(most)


def inside(folder: Path, name: str) -> Path:
    """Return a file of a folder.

    Raises
    ------
    InvalidInput
        For one that is outside of it.
    """
    path = folder / name
    if os.path.isabs(name) or ".." in Path(name).parts or not path.parent.resolve().is_relative_to(folder.resolve()):
        raise InvalidInput(f"{name!r} is not in that folder.")
    return path


def listed(folder: Path, *, quiet: bool) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of change of what a run has written; while it lives what is being written is left."""
    for at, folders, names in os.walk(folder):
        if at == str(folder):
            folders[:] = [name for name in folders if not name.startswith(STAGED)]
        for name in (*names, *(one for one in folders if os.path.islink(os.path.join(at, one)))):
            path = os.path.join(at, name)
            own = os.path.relpath(path, folder)
            if own in OF_HOME:
                continue
            with contextlib.suppress(OSError):
                seen = os.lstat(path)
                if stat.S_ISLNK(seen.st_mode) or (stat.S_ISREG(seen.st_mode) and (quiet or not _is_written(path))):
                    yield own, seen.st_size, seen.st_mtime_ns


def _is_written(path: str) -> bool:
    """Whether somebody has a file open to write it, as far as the file system can tell; see fcntl(2), leases."""
    fd = files.plain(path, os.O_RDONLY)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        pass
    finally:
        os.close(fd)
    return False
