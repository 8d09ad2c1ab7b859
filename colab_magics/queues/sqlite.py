"""A queue in a file: SQLite, for workers of one machine.

The file is in WAL mode: who reads never waits, and a commit is one append. A commit survives whatever happens to a
process; one of the last seconds before the machine itself loses power may be lost (``synchronous=NORMAL``), and then
its run is stale, and executed again, as every lease of another boot is over.

**Who waits for the lock asks again after a short time at random.** SQLite's own busy handler sleeps longer each time,
up to a tenth of a second, while whoever has just committed asks again at once: so a few workers get all, and others
nothing (eight workers on 4,000 runs: 0 to 203 runs of one instead of 500). Pauses at random that do not grow, as in
slotted ALOHA (Abramson, 1970), give each of those who wait the same chance each time.

The clock is `time.CLOCK_BOOTTIME` beside the name of the boot: nobody sets it, it counts on while the machine sleeps,
and all processes that have this file open see the same one.
"""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .. import process
from ..errors import ColabMagicsError, InvalidInput, NotFound, Unavailable
from .local_disk import refuse_network
from .sql import SqlQueue
from .tables import Tables

_PREFIX = "sqlite://"
_PAUSE = 0.005
"""Seconds between two looks at the lock, at most."""
_PATIENCE = 30.0
"""Seconds after which a lock is not waited for any more: no transaction of ours takes as long."""

_BOOT_ID = "/proc/sys/kernel/random/boot_id"

_left_to_parents: list[sqlite3.Connection] = []
"""Connections that came along with a fork. To close one would take away the locks that the parent has."""

T = TypeVar("T")


def path_of(address: str) -> Path:
    """Return the file that an address names: a path, ``sqlite:///relative.db``, ``sqlite:////absolute.db``.

    Raises
    ------
    InvalidInput
        When it names none.
    """
    path = address
    if address.startswith(_PREFIX):
        path = address.removeprefix(_PREFIX)
        if path and not path.startswith("/"):
            raise InvalidInput(f"{address} names a server, and SQLite has none.", f"Write {_PREFIX}/{path}")
        path = path[1:]
    if path in ("", ":memory:") or "\0" in path:
        raise InvalidInput(f"{address!r} names no file.", "Write a path such as runs.db, or sqlite:///runs.db")
    return Path(os.path.abspath(Path(path).expanduser()))


class SqliteQueue(SqlQueue):
    """A queue in a file of SQLite.

    Parameters
    ----------
    address : str
        A path, ``sqlite:///relative.db``, ``sqlite:////absolute.db``.
    lease : float, optional
        See `Queue`.
    """

    _connection: _Connection | None = None

    def __init__(self, address: str, *, lease: float | None = None) -> None:
        super().__init__(address, lease=lease)
        self.path = path_of(address)
        names = {name: f'"runs_{name}"' for name in ("settings", "workers", "tickets", "next_index", "worker_index")}
        self._words = {
            "runs": '"runs"',
            **names,
            "number": "INTEGER PRIMARY KEY AUTOINCREMENT",
            "random": "lower(hex(randomblob(16)))",
            "now": "now_here()",
            "boot": "boot_here()",
            "locked": "",
            "free": "",
        }

    def another(self) -> SqliteQueue:
        return SqliteQueue(self.address, lease=self.lease)

    def in_transaction(self, work: Callable[[Tables], T], *, creates: bool = False, reads: bool = False) -> T:
        with self._lock:
            end = time.monotonic() + _PATIENCE
            while True:
                try:
                    return self._try(work, creates=creates, words="BEGIN" if reads else "BEGIN IMMEDIATE")
                except sqlite3.Error as error:
                    if not _is_busy(error) or time.monotonic() > end:
                        self.close()
                        raise self._told(error) from error
                time.sleep(random.uniform(0, _PAUSE))

    def _try(self, work: Callable[[Tables], T], *, creates: bool, words: str) -> T:
        db = self._connected(creates=creates)
        db.execute(words)
        try:
            done = work(Tables(db, self._words, self.address))
            db.execute("COMMIT")
        except BaseException:
            db.roll_back()
            raise
        return done

    def _connected(self, *, creates: bool) -> _Connection:
        """Return the connection to the file that is there now, which may be another than before."""
        try:
            found = self.path.stat()
        except OSError as error:
            if not creates or not isinstance(error, FileNotFoundError):
                self.close()
                raise self._unreadable(error) from error
            found = None
        now = self._connection
        if now is not None and (found is None or not now.is_of(found)):
            self.close()
        if self._connection is None:
            if found is not None and not stat.S_ISREG(found.st_mode):
                raise InvalidInput(f"{self.path} is no file.", "Name a file: runs.db")
            if not self.path.parent.is_dir():
                raise NotFound(f"There is no folder {self.path.parent}.", f"mkdir -p {self.path.parent}")
            refuse_network(self.path)
            self._connection = self._connect(creates=creates)
        return self._connection

    def _connect(self, *, creates: bool) -> _Connection:
        made = _Connection(self.path, creates=creates)
        try:
            tables = Tables(made, self._words, self.address)
            made.execute("BEGIN")
            if creates:  # only a file that is ours, or nobody's as yet, is changed at all
                self._exists(tables)
            else:
                self._open(tables)
            made.execute("COMMIT")
            if creates:
                made.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            made.close()
            raise
        return made

    def _exists(self, tables: Tables) -> bool:
        there = {str(name) for (name,) in tables.all("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
        if "runs_settings" not in there and there:
            raise InvalidInput(
                f"{self.path} is a database of something else (it has a table {sorted(there)[0]}).",
                "Name another file for the queue.",
            )
        return bool(there)

    def _unreadable(self, error: OSError) -> ColabMagicsError:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return self._absent()
        return Unavailable(f"{self.path} cannot be read: {error.strerror}.", "Look at its rights, and its disk.")

    def _told(self, error: sqlite3.Error) -> ColabMagicsError:
        """Say what an error of SQLite means."""
        text = str(error)
        code = getattr(error, "sqlite_errorname", "")
        if code.startswith("SQLITE_NOTADB"):
            return InvalidInput(f"{self.path} is no database of SQLite.", "Name another file for the queue.")
        if _is_busy(error):
            return Unavailable(
                f"{self.path} has been locked for {_PATIENCE:g} s by another program.",
                "End what has a transaction open there, such as a shell of sqlite3.",
            )
        if code.startswith("SQLITE_FULL"):
            return Unavailable(f"The disk of {self.path} is full.", "Free some room there; all is as it was.")
        if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
            return Unavailable(f"{self.path} cannot be written: {text}.", "Look at the rights of it and of its folder.")
        if code.startswith("SQLITE_CORRUPT"):
            return Unavailable(
                f"{self.path} is damaged: {text}.", f"Save what can be read: sqlite3 {self.path} .recover"
            )
        return Unavailable(f"{self.path}: {text}.", "Try again; what was not said to be done is as it was.")


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")


def _clock() -> tuple[Callable[[], float], str]:
    """Return the clock of this boot, and the boot's name; in a sandbox that has no name for it, the one that is set."""
    if not os.access(_BOOT_ID, os.R_OK):
        return time.time, ""
    return lambda: time.clock_gettime(time.CLOCK_BOOTTIME), process.boot_id()


class _Connection:
    """A connection to a file, whose transactions wait as the module says.

    Parameters
    ----------
    path : Path
        The file.
    creates : bool
        Whether to make it where it is not there.
    """

    def __init__(self, path: Path, *, creates: bool) -> None:
        self._db = sqlite3.connect(
            f"{path.as_uri()}?mode={'rwc' if creates else 'rw'}",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
        )
        self._pid = os.getpid()
        try:
            found = path.stat()
            self._file = found.st_dev, found.st_ino
            clock, boot = _clock()
            self._db.create_function("now_here", 0, clock)
            self._db.create_function("boot_here", 0, lambda: boot, deterministic=True)
            self._db.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            self._db.close()
            raise

    def is_of(self, found: os.stat_result) -> bool:
        """Whether it is this process's, and to this very file."""
        return self._file == (found.st_dev, found.st_ino) and self._pid == os.getpid()

    def execute(self, words: str) -> None:
        """Execute a word of a transaction."""
        self._db.execute(words)

    def roll_back(self) -> None:
        """Undo what a transaction has done, where one is open."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def all(self, words: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See `tables.Connection`."""
        return self._db.execute(words, values).fetchall()

    def run(self, words: str, *values: Sequence[Any]) -> None:
        """See `tables.Connection`."""
        for one in values:
            self._db.execute(words, one)

    def close(self) -> None:
        """Let go of the file, unless it is a parent's."""
        if self._pid == os.getpid():
            self._db.close()
        else:
            _left_to_parents.append(self._db)
