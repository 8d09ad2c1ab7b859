"""A run's log.txt, which ends no run: what finds no room on the disk is lost, counted, and said when there is some."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any


class LogFile(io.FileIO):
    """A file that takes everything.

    Parameters
    ----------
    path : path
        The file; it is appended to.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(os.fspath(path), "a", opener=_no_link)
        self.lost = 0
        """Bytes that were not written."""
        self.why = ""
        self._unsaid = 0

    def write(self, data: Any) -> int:
        """Write what there is room for; say so of the rest."""
        try:
            if self._unsaid:
                super().write(f"\n── {self._unsaid:,} bytes were not written here: {self.why}\n".encode())
                self._unsaid = 0
            return super().write(data)
        except OSError as error:
            self.why = error.strerror or str(error)
            self.lost += len(data)
            self._unsaid += len(data)
            return len(data)


def _no_link(path: str, flags: int) -> int:
    # Nor does it wait for somebody to read a pipe.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def open_log(path: Path) -> tuple[io.TextIOWrapper, LogFile]:
    """Open a log to append to; one that cannot be opened takes nothing, and everything is lost."""
    try:
        raw = LogFile(path)
    except OSError as error:
        raw = LogFile("/dev/full")
        raw.why = error.strerror or str(error)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace"), raw
