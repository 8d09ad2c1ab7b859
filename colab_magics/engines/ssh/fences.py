"""Attempts that were killed while their host was away: they count as ended, and are ended there when it is back.

Who kills a run has decided that it is over, also when its machine is never seen again. ``<job>/.scheduler/fenced.json``
remembers what is still to be ended: whoever speaks to such a host for that job does it first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from ... import process
from ...records.names import FENCED, SCHEDULER


class Fences:
    """The fenced attempts of one job.

    Parameters
    ----------
    job_folder : Path
        The job.
    """

    def __init__(self, job_folder: Path) -> None:
        self._file = job_folder / SCHEDULER / FENCED
        known = (process.read_json(self._file) or {}).get("attempts")
        known = known if isinstance(known, dict) else {}
        self._host_of = {str(key): str(host) for key, host in known.items()}

    def __contains__(self, key: str) -> bool:
        return key in self._host_of

    def add(self, host: str, keys: Iterable[str]) -> None:
        """Remember attempts."""
        self._host_of |= dict.fromkeys(keys, host)
        self._write()

    def of(self, host: str) -> list[str]:
        """Return those of a host."""
        return [key for key, name in self._host_of.items() if name == host]

    def lift(self, keys: Iterable[str]) -> None:
        """Forget attempts: their host has heard of their end."""
        for key in keys:
            self._host_of.pop(key, None)
        self._write()

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # without room this process alone knows
            process.write_json(self._file, {"attempts": self._host_of})
