"""Whether a file here is half-written. A file goes to a Place as a whole or not at all, and here that is decided.

In the order in which it is asked: does it rest (`rests_at`); does somebody write it now (`is_now`); was it written
while it was copied (`was`).
"""

from __future__ import annotations

import os
import re
import time

from .lease import BUSY, GRANTED, Lease, Leases
from .scan import entry_of

QUIET, LONGEST = 0.3, 3.0
"""Seconds without a change until a file goes; a file that never rests goes after so many."""
LOG_SECONDS = 10.0
"""A log that is open for so long is copied as far as it goes."""
QUIET_SECONDS = 60.0
"""Any file that is open for writing, and was not written for so long, is copied as it is."""
_LOGS = re.compile(
    r"\.(log|txt|out|err|jsonl|ndjson|csv|tsv|md)(\.\d+)?$|\.tfevents\.|(^|/)(stdout|stderr|nohup)[^/]*$", re.IGNORECASE
)


def rests_at(first: float, last: float) -> float:
    """When a file rests that was told to have changed at these moments, or has been waited for long enough."""
    return min(last + QUIET, first + LONGEST)


def is_log(name: str, fd: int, size: int) -> bool:
    """Whether a file is one that is only ever appended to: by its name, and text without zeros inside."""
    if not _LOGS.search(name):
        return False
    if ".tfevents." in name:
        return True
    return b"\0" not in os.pread(fd, 4096, 0) + os.pread(fd, 4096, max(0, size - 4096))


def is_now(name: str, fd: int, seen: os.stat_result, lease: Lease, *, since: float | None, urgent: bool) -> bool:
    """Whether somebody has a file open for writing, so that it may be half-written, and it is none that goes open.

    Parameters
    ----------
    name, fd, seen
        The file.
    lease : Lease
        What Linux said to the lease on it.
    since : float or None
        When it was first found open for writing, seconds since the epoch.
    urgent : bool
        Whether logs that are open go at once.
    """
    return lease.answer == BUSY and not _goes_open(name, fd, seen, since, urgent)


def _goes_open(name: str, fd: int, seen: os.stat_result, since: float | None, urgent: bool) -> bool:
    """Whether a file that is open for writing goes all the same: a log, or one that rests for long."""
    now = time.time()
    if is_log(name, fd, seen.st_size):
        return urgent or (since is not None and now - since >= LOG_SECONDS)
    return since is not None and now - since >= QUIET_SECONDS and abs(now - seen.st_mtime) >= QUIET_SECONDS


def was(name: str, fd: int, before: os.stat_result, after: os.stat_result, lease: Lease, leases: Leases) -> bool:
    """Whether a file was written while it was copied, or may have been."""
    if lease.answer == GRANTED:
        return not leases.check(fd, lease)
    is_open = lease.answer == BUSY
    if is_open and is_log(name, fd, before.st_size):
        return after.st_size < before.st_size  # else what was there when we began is there still
    # Nobody can say whether it is open: what was written a moment ago may not be all.
    rested = is_open or time.time() - after.st_mtime > 1.0 or _later(after)
    return entry_of(after) != entry_of(before) or not rested


def _later(seen: os.stat_result) -> bool:
    """Whether a time of writing lies in the future: the clock was set back."""
    return seen.st_mtime > time.time() + 1.0
