"""Not more calls than Google allows: 60 reads and 60 writes a minute for each user.

The processes of this machine that ask as the same user share one file, which says when the next call of each kind may
be made; whoever calls takes a turn first (the generic cell rate algorithm). What other machines do is not known here:
they are told by 429, and everybody backs off.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ... import process
from ...files import plain


@dataclass(frozen=True)
class Limits:
    """How much may be asked, and for how long one waits.

    Parameters
    ----------
    per_minute : float, default 57
        Calls of each kind.
    burst : int, default 3
        Calls that may be made at once; together they stay within 60 in any minute.
    minute : float, default 60
        Seconds of a minute; tests have shorter ones.
    timeout : float, default 60
        Seconds that an answer may take.
    patience : float, default 180
        Seconds for which a call is tried again before it counts as `errors.Unavailable`.
    """

    per_minute: float = 57.0
    burst: int = 3
    minute: float = 60.0
    timeout: float = 60.0
    patience: float = 180.0


class Budget:
    """Turns to call.

    Parameters
    ----------
    user : str
        Whose quota it is.
    limits : Limits
        How much it is.
    clock, sleep : callable
        Of this machine since its start, the same for all of its processes; for tests.
    """

    def __init__(
        self,
        user: str,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limits, self._clock, self._sleep = limits, clock, sleep
        # Homes are shared between the machines of a cluster; clocks are not, and begin anew with the machine.
        name = hashlib.sha256(f"{process.host()} {process.boot_id()} {user}".encode()).hexdigest()[:16]
        self._path = _folder() / f"{name}.json"
        self._own: dict[str, float] = {}

    def take(self, kind: str, number: int = 1) -> None:
        """Wait until so many calls of a kind (``read``, ``write``) may be made at once."""
        interval = self._limits.minute / self._limits.per_minute
        with self._turns() as turns:
            now = self._clock()
            turns[kind] = max(turns.get(kind, 0.0), now) + number * interval
            wait = turns[kind] - now - max(self._limits.burst, number) * interval
        if wait > 0:
            self._sleep(wait)

    @contextlib.contextmanager
    def _turns(self) -> Iterator[dict[str, float]]:
        """Hold the turns of all processes; those of this one alone where no file can be kept."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = plain(self._path, os.O_RDWR | os.O_CREAT)
        except OSError:
            yield self._own
            return
        with os.fdopen(fd, "r+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            turns = _read(stream.read(10_000))
            yield turns
            stream.seek(0)
            stream.truncate()
            stream.write(json.dumps(turns))


def _read(text: str) -> dict[str, float]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(name): float(value) for name, value in found.items() if isinstance(value, int | float)}


def _folder() -> Path:
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "colab_magics" / "sheets"
