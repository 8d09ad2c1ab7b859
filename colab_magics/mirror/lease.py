"""Read leases: Linux says whether anybody writes a file, and tells us before somebody begins to.

A lease is refused while a file is open for writing. A writer that comes later waits until we let go, so a thread lets
go at once when Linux says so (SIGIO): an open is slowed down by less than a millisecond, whatever the copy does.
"""

from __future__ import annotations

import errno
import fcntl
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

GRANTED, BUSY, UNKNOWN = "granted", "busy", "unknown"


class Lease:
    """A lease on one open file.

    Parameters
    ----------
    answer : str
        ``granted``; ``busy`` when somebody has the file open for writing; ``unknown`` where the file system has no
        leases, or the file is not ours.
    """

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.broken = False

    @property
    def holds(self) -> bool:
        """Whether nobody can have written since it was granted."""
        return self.answer == GRANTED and not self.broken


class Leases:
    """Takes leases, one at a time, and lets go of them when a writer comes.

    To be made in the main thread before any other thread is started: the signal has to be blocked in all of them.
    """

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
        self._lock = threading.Lock()
        self._held: tuple[int, Lease] | None = None
        threading.Thread(target=self._let_go, name="leases", daemon=True).start()

    @contextmanager
    def on(self, fd: int, *, wanted: bool = True) -> Iterator[Lease]:
        """Take a lease on a file that is open for reading while the block runs; not `wanted`, it counts as busy."""
        lease = Lease(GRANTED if wanted else BUSY)
        with self._lock:
            try:
                if not wanted:
                    raise BlockingIOError(errno.EAGAIN, "not wanted")
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
                self._held = fd, lease
            except OSError as error:
                lease.answer = BUSY if error.errno == errno.EAGAIN else UNKNOWN
        try:
            yield lease
        finally:
            if lease.answer == GRANTED:
                with self._lock:
                    self._held = None
                    # A writer that waits at this moment breaks the lease too.
                    if not lease.broken and fcntl.fcntl(fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK:
                        lease.broken = True
                    _release(fd)

    def check(self, fd: int, lease: Lease) -> bool:
        """Whether a lease holds until this very moment."""
        with self._lock:
            return lease.holds and bool(fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK)

    def _let_go(self) -> None:
        while True:
            signal.sigwait({signal.SIGIO})
            with self._lock:
                if self._held is not None and fcntl.fcntl(self._held[0], fcntl.F_GETLEASE) != fcntl.F_RDLCK:
                    self._held[1].broken = True
                    _release(self._held[0])


def _release(fd: int) -> None:
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EINVAL):  # there is none any more
            raise
