"""Hints: Linux tells what changes. They make a sync quick; what is true the scan finds.

Not trusted: events are lost when Linux's queue overflows, in folders that are moved in, and where the limit of
watches is reached. Each of these, as far as it can be noticed, asks for a scan and a fresh observer.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from watchdog import events
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyFullEmitter

log = logging.getLogger("colab_magics.mirror")

# Without "opened" and "modified" reading a tree, or writing a file in small pieces, causes no event at all.
_WANTED: list[type[events.FileSystemEvent]] = [
    events.FileClosedEvent,
    events.FileCreatedEvent,
    events.FileMovedEvent,
    events.FileDeletedEvent,
    events.DirCreatedEvent,
    events.DirMovedEvent,
    events.DirDeletedEvent,
]
LEAST_BETWEEN = 5.0
"""Seconds between two fresh observers."""
FULL_SECONDS = 600.0
"""Where there are no watches left, it is tried again so often: the limit may have been raised."""
FULL = "off in new folders: the limit of watched folders is reached"
NONE = "off: the limit of watched folders is reached"


class _Emitter(InotifyFullEmitter):
    """Watchdog's, with answers to what it keeps to itself."""

    # "Full": a folder that is moved in is told apart from one that is made; only the latter gets watched.

    def refuses(self, folder: str) -> bool:
        """Whether the limit of watches keeps a folder from being watched: watchdog says nothing of it."""
        reader = getattr(self._inotify, "_inotify", None)
        if reader is None:
            return False  # it ends
        try:
            # A folder has one watch of an instance, however often it is asked for. One of another instance would
            # take room, maybe the last there is, at the moment when watchdog wants it for the next folder.
            reader.add_watch(os.fsencode(folder))
        except OSError as error:
            return error.errno == errno.ENOSPC
        return False

    @property
    def reads(self) -> bool:
        """Whether events still come: its second thread ends of errors without a word."""
        reader = self._inotify
        return self.is_alive() and not (isinstance(reader, threading.Thread) and not reader.is_alive())


def _queue_size() -> int:
    try:
        return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    except (OSError, ValueError):
        return 16384


def _emitters(observer: BaseObserver | None) -> list[_Emitter]:
    return [one for one in (observer.emitters.copy() if observer else ()) if isinstance(one, _Emitter)]


class Watch(events.FileSystemEventHandler):
    """What Linux tells of a folder, collected until somebody takes it.

    Parameters
    ----------
    root : str
        The folder.
    wake : callable
        Called, from another thread, when there is something new.
    """

    def __init__(self, root: str, wake: Callable[[], None]) -> None:
        self.root = root
        self.state = "off"
        self.restarts = -1
        self._wake = wake
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._last = 0.0
        self._count = 0
        self._burst = _queue_size() // 2
        self._suspect = ""
        self._observer: BaseObserver | None = None
        self._started = 0.0

    def start(self) -> None:
        """Watch the folder; where that is not possible, `state` says why."""
        self.close()
        self._started = time.monotonic()
        self.restarts += 1
        observer = BaseObserver(_Emitter)
        # Before it starts: of a folder that is made now it tells at once.
        self._observer, self.state = observer, "watching"
        try:
            observer.schedule(self, self.root, recursive=True, event_filter=_WANTED)
            observer.start()
        except OSError as error:
            full = error.errno == errno.ENOSPC
            self.state = NONE if full else f"off: {error.strerror or error}"
            log.warning("no events: %s", error)
            self._observer = None
            observer.unschedule_all()

    def close(self) -> None:
        """Watch no more."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(10)

    def dispatch(self, event: events.FileSystemEvent) -> None:
        """Note an event; called by watchdog's thread."""
        names, folder_moved = [], False
        for raw in (event.src_path, event.dest_path):
            path = os.fsdecode(raw)
            if path.startswith(self.root + os.sep):
                names.append(path[len(self.root) + 1 :])
        if isinstance(event, events.DirMovedEvent) and not event.src_path:
            folder_moved = True
        is_new = self.state == "watching" and isinstance(event, events.DirCreatedEvent)
        if is_new and self._is_refused(os.fsdecode(event.src_path)):
            self.state = FULL
            log.warning("events: %s", FULL)
        with self._lock:
            first = not self._names and not self._suspect
            self._names.update(names)
            self._last = time.monotonic()
            self._count += 1
            if folder_moved:
                self._suspect = "a folder was moved in"
            elif self._count >= self._burst:
                self._suspect = "so much changed that events may be lost"
        if first:
            self._wake()

    def _is_refused(self, folder: str) -> bool:
        """Whether a new folder cannot be watched, or one in it, which has no event then."""
        emitters = _emitters(self._observer)
        try:
            with os.scandir(folder) as found:
                inner = [one.path for one in found if one.is_dir(follow_symlinks=False)]
        except OSError:
            inner = []  # it is gone, or closed to us
        return any(emitter.refuses(one) for one in (folder, *inner) for emitter in emitters)

    def take(self) -> tuple[set[str], float]:
        """Return the names that were told since the last call, and when the last of them was."""
        with self._lock:
            names, self._names = self._names, set()
            return names, self._last

    def suspicion(self) -> str:
        """Say why events cannot be trusted now; empty when they can."""
        with self._lock:
            found = self._suspect
        if self._observer is not None and not found:
            alive = self._observer.is_alive() and all(one.reads for one in _emitters(self._observer))
            found = "" if alive else "the observer has ended"
        if not found and self.state == FULL and time.monotonic() - self._started > FULL_SECONDS:
            found = "there may be watches again"
        if found and time.monotonic() - self._started < LEAST_BETWEEN:
            return ""  # it stays, and is answered a little later
        return found

    def suspect(self, why: str) -> None:
        """Note from outside that events were missed."""
        with self._lock:
            self._suspect = self._suspect or why

    def renew(self, why: str) -> None:
        """Make a fresh observer; a scan has to follow."""
        log.info("a fresh observer: %s", why)
        with self._lock:
            self._suspect, self._count = "", 0
        self.start()

    def scanned(self) -> None:
        """Note that a scan begins: what was lost before it is found by it."""
        with self._lock:
            self._count = 0
