"""How many runs of a job go at once, said while they go: ``<job>/.scheduler/workers.json``, ``{"workers": 3}``.

Whoever wishes writes it; the job's scheduler reads it when it has changed. It counts until the next start.
"""

from __future__ import annotations

import os
from pathlib import Path

from .. import process
from ..records import schema

NAME = "workers.json"


def write(folder: Path, workers: int) -> None:
    """Say how many, in a scheduler's folder."""
    process.write_json(folder / NAME, {"workers": workers}, durable=False)


def forget(folder: Path) -> None:
    """Take back what was said to the scheduler before."""
    (folder / NAME).unlink(missing_ok=True)


class Said:
    """What was said last.

    Parameters
    ----------
    folder : Path
        The scheduler's.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / NAME
        self._seen = (0, 0)

    def news(self) -> int | None:
        """Return a number that was said since the last call; None when there is none."""
        try:
            found = os.stat(self.file)
        except OSError:
            return None
        # Written by rename: another number is another file, also within one tick of the clock.
        seen = (found.st_ino, found.st_mtime_ns)
        if seen == self._seen:
            return None
        self._seen = seen
        return schema.read_or_nothing(self.file, schema.Fed).get("workers")
