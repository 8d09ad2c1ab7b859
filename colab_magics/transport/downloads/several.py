"""Several files at once: fetched, remembered, unpacked; what fails stops no other. Stands alone: shipped to hosts.

Beside the files a hidden note says which of them came whole from which address: a line that is said again asks nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ...archives import entries, unpacking
from ...errors import ColabMagicsError, InvalidInput
from ...files import plain
from .fetch import Fetched, Wanted, fetch
from .part import Stopped, Watch, digest, write_note

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .fetch import Remote

NOTES = ".~colab_magics.downloads.json"
_LOOK_SECONDS = 0.1
_END_SECONDS = 3.0


class Job(NamedTuple):
    """One file to fetch.

    Parameters
    ----------
    shown : str
        What to call it in messages: no login and no token.
    wanted : Wanted
        What becomes of it.
    remote : Remote
        Where it is.
    """

    shown: str
    wanted: Wanted
    remote: Remote


class Outcome(NamedTuple):
    """What became of a file.

    Parameters
    ----------
    shown : str
        What to call it.
    path : str
        Where it is; empty when it is not there.
    size, came : int
        Its bytes, and how many of them came just now.
    note : str
        What the user should know.
    folder : str
        What it was unpacked to; empty when it was not.
    error : tuple of (str, str, str) or None
        What failed: the error's kind, what happened, the mend.
    """

    shown: str
    path: str = ""
    size: int = 0
    came: int = 0
    note: str = ""
    folder: str = ""
    error: tuple[str, str, str] | None = None


class Progress(NamedTuple):
    """How far all are.

    Parameters
    ----------
    files, ready : int
        How many there are, and how many of them are done.
    have, total : int
        Bytes that are there, and those of all; 0 while that is not known.
    rate : float
        Bytes a second, of late.
    says : str
        What one of them waits for.
    """

    files: int
    ready: int
    have: int
    total: int
    rate: float
    says: str


def fetch_all(
    jobs: Sequence[Job],
    *,
    unpack: bool,
    big: bool,
    workers: int,
    tell: Callable[[Progress], None],
    stop: threading.Event,
) -> list[Outcome]:
    """Fetch several files at once.

    Parameters
    ----------
    jobs : sequence of Job
        The files.
    unpack, big : bool
        Unpack what is an archive; also one that becomes very big.
    workers : int
        How many at once.
    tell : callable
        Is told how far they are, ten times a second.
    stop : threading.Event
        Ends all when set.

    Returns
    -------
    list of Outcome
        In the order of `jobs`.

    Raises
    ------
    KeyboardInterrupt
        When it was ended; parts are kept, and it says so.
    """
    work = _Work(jobs, unpack, big, stop)
    # Not a pool of Python's: it would wait for a dead connection when the interpreter ends.
    threads = [threading.Thread(target=work.run, daemon=True) for _ in range(min(workers, len(jobs)))]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            tell(work.progress())
            threads[0].join(_LOOK_SECONDS) if threads[0].is_alive() else stop.wait(_LOOK_SECONDS)
            if stop.is_set():
                raise KeyboardInterrupt
    except BaseException as error:
        work.end()
        limit = time.monotonic() + _END_SECONDS
        for thread in threads:
            thread.join(max(0.0, limit - time.monotonic()))
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(work.ended()) from None
        raise
    return work.outcomes()


class _Work:
    """What the threads share."""

    def __init__(self, jobs: Sequence[Job], unpack: bool, big: bool, stop: threading.Event) -> None:
        self._jobs, self._unpack, self._big, self._stop = jobs, unpack, big, stop
        self._watches = [Watch(stop) for _ in jobs]
        self._outcomes: dict[int, Outcome] = {}
        self._waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(len(jobs)):
            self._waiting.put(number)
        self._claimed: dict[str, int] = {}
        self._lock = threading.Lock()
        self._seen: list[tuple[float, int]] = []
        self._defect: BaseException | None = None

    def run(self) -> None:
        """Take one job after the other."""
        with contextlib.suppress(queue.Empty):
            while not self._stop.is_set():
                number = self._waiting.get_nowait()
                try:
                    self._outcomes[number] = self._one(number)
                except (Stopped, KeyboardInterrupt):
                    return
                except BaseException as error:  # noqa: BLE001 - raised again where the user sees it
                    self._defect = self._defect or error

    def _one(self, number: int) -> Outcome:
        job, watch = self._jobs[number], self._watches[number]
        notes = Notes(job.wanted.folder, self._lock)
        path, size, came, note = "", 0, 0, ""
        try:
            found = self._known(job, notes, watch, number)
            if found is None:
                found = fetch(job.remote, job.wanted, watch, lambda path: self._claim(path, number))
                notes.keep(job.wanted, found)
            path, size, came, note = found.path, found.size, found.came, found.note
            if self._unpack:
                watch.says = f"unpacking {os.path.basename(path)}"
                folder, said = self._unpacked(job.wanted, path, notes)
                watch.says = ""
                return Outcome(job.shown, path, size, came, "; ".join(filter(None, [note, said])), folder)
            return Outcome(job.shown, path, size, came, note)
        except ColabMagicsError as error:
            return Outcome(job.shown, path, size, came, note, "", (type(error).__name__, error.what, error.mend))
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            told = ("Unavailable", f"{job.shown}: {error.strerror or error}{where}.", "Free space or rights there.")
            return Outcome(job.shown, path, size, came, note, "", told)

    def _known(self, job: Job, notes: Notes, watch: Watch, number: int) -> Fetched | None:
        found = None if job.wanted.force else notes.known(job.wanted, watch)
        if found is not None:
            self._claim(found.path, number)
            watch.have = watch.total = found.size
        return found

    def _claim(self, path: str, number: int) -> None:
        """Let no two addresses of one line be the same file."""
        with self._lock:
            other = self._claimed.setdefault(os.path.realpath(path), number)
        if other != number:
            raise InvalidInput(
                f"{self._jobs[number].shown} would have the same name as {self._jobs[other].shown}: "
                f"{os.path.basename(path)}.",
                "Fetch one of them in a line of its own: to=FILE",
            )

    def _unpacked(self, wanted: Wanted, path: str, notes: Notes) -> tuple[str, str]:
        name = os.path.basename(path)
        if not entries.kind_of(path):
            if entries.looks_like_one(name):
                raise InvalidInput(
                    f"{name} is no archive, although its name says so.", "Look into it; --force fetches it anew."
                )
            return "", "no archive, so nothing is unpacked"
        target, looks = unpacking.target_of(path), _looks(path)
        if unpacking.is_there(target):
            before = notes.unpacked(target)
            if wanted.force:
                unpacking.move_aside(target)
            elif before is None:
                return target, f"{os.path.basename(target)} was there already, and is left as it is"
            elif before != looks:
                raise InvalidInput(
                    f"{os.path.basename(target)} is there, unpacked from an earlier {name}.",
                    "Move it away; --force does so, fetches anew and unpacks.",
                )
            else:
                return target, "unpacked already"
        done = unpacking.unpack(path, target, big=self._big, stop=self._stop)
        if not done.new:
            return target, "unpacked by somebody else meanwhile"
        notes.keep_unpacked(target, looks)
        return target, f"unpacked, {done.files:,} file{'s' if done.files != 1 else ''}"

    def progress(self) -> Progress:
        """Say how far all are."""
        came, now = sum(watch.came for watch in self._watches), time.monotonic()
        self._seen = [*(one for one in self._seen if now - one[0] < 5.0), (now, came)]
        (first, before), span = self._seen[0], now - self._seen[0][0]
        begun = [w for n, w in enumerate(self._watches) if w.total or n in self._outcomes]
        total = sum(watch.total for watch in self._watches) if len(begun) == len(self._watches) else 0
        says = next((watch.says for n, watch in enumerate(self._watches) if watch.says and n not in self._outcomes), "")
        rate = (came - before) / span if span > 0 and first else 0.0
        have = sum(watch.have for watch in self._watches)
        return Progress(len(self._jobs), len(self._outcomes), have, total, rate, says)

    def end(self) -> None:
        """End all; connections that say nothing are broken."""
        self._stop.set()
        for job in self._jobs:
            job.remote.abort()

    def ended(self) -> str:
        """Say what is kept after an interrupt."""
        ready = sum(outcome.error is None for outcome in self._outcomes.values())
        return f"Stopped: {ready} of {len(self._jobs)} are whole. Say the line again: the parts wait, and go on."

    def outcomes(self) -> list[Outcome]:
        """Return what became of all."""
        if self._defect is not None:
            raise self._defect
        return [self._outcomes[number] for number in range(len(self._jobs))]


class Notes:
    """Which files of a folder came whole from which address; by keys that tell nothing of it.

    Parameters
    ----------
    folder : str
        The folder.
    lock : threading.Lock
        Held while it is written.
    """

    def __init__(self, folder: str, lock: threading.Lock) -> None:
        self._folder, self._file, self._lock = folder, os.path.join(folder, NOTES), lock

    def known(self, wanted: Wanted, watch: Watch) -> Fetched | None:
        """Return a file that came whole and is as it came; None for all others."""
        note = self._read().get("files", {}).get(wanted.key)
        if not isinstance(note, dict):
            return None
        name = str(note.get("name", ""))
        path = os.path.join(self._folder, name)
        if not name or os.path.basename(name) != name or _looks(path) != note.get("looks"):
            return None
        kind, _, value = wanted.check.partition("=")
        if kind and wanted.check != note.get("check") and digest(path, kind, watch).hexdigest() != value:
            return None
        return Fetched(path, os.path.getsize(path), 0, "", "there already")

    def keep(self, wanted: Wanted, found: Fetched) -> None:
        """Note a file that is whole."""
        name = os.path.basename(found.path)
        self._write("files", wanted.key, {"name": name, "looks": _looks(found.path), "check": wanted.check})

    def unpacked(self, target: str) -> Any:
        """Return the looks of the archive that a folder was unpacked from; None when it is not known."""
        return self._read().get("unpacked", {}).get(os.path.basename(target))

    def keep_unpacked(self, target: str, looks: Any) -> None:
        """Note what a folder was unpacked from."""
        self._write("unpacked", os.path.basename(target), looks)

    def _read(self) -> dict[str, Any]:
        try:
            with open(self._file, encoding="utf-8", opener=plain) as stream:
                found = json.load(stream)
        except (OSError, ValueError, RecursionError):
            return {}
        sound = isinstance(found, dict) and all(isinstance(value, dict) for value in found.values())
        return found if sound else {}

    def _write(self, kind: str, key: str, value: Any) -> None:
        with self._lock:
            found = self._read()
            found.setdefault(kind, {})[key] = value
            write_note(self._file, found)


def _looks(path: str) -> list[int] | None:
    """Return what of a file tells that it changed, but where it is: a copy of its folder has the same."""
    try:
        seen = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return [seen.st_size, seen.st_mtime_ns]
