"""The second look, on the machine itself: a run that was promised room starts when the room is there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from ...errors import Unavailable
from ...transport import host_leases, pick

_LOOK_SECONDS = 10.0
"""A machine without room is not looked at again before that."""


class Room:
    """What this machine keeps free for runs; see `colab_magics.transport.host_leases`."""

    def __init__(self) -> None:
        self._none: dict[str, tuple[float, str]] = {}
        self._given: set[str] = set()
        """GPUs of runs that have not started yet."""

    def take(self, record: dict[str, Any]) -> str:
        """Keep free what a run needs, and note the GPUs that it uses; returns why that cannot be now."""
        if not (lease := record.get("lease")):
            return ""
        until, problem = self._none.get(str(lease), (0.0, ""))
        if time.monotonic() < until:
            return problem
        try:
            record["devices"] = pick.start_here(lease, self._given)
        except Unavailable as error:
            self._none[str(lease)] = time.monotonic() + _LOOK_SECONDS, error.what.rstrip(".")
            return error.what.rstrip(".")
        self._given |= set(record["devices"])
        return ""

    def started(self, record: Mapping[str, Any], who: Mapping[str, Any] | None) -> None:
        """Note which process has it; None when it could not be started."""
        if lease := record.get("lease"):
            self._given -= set(record["devices"])
            with contextlib.suppress(OSError):  # then it counts until it lapses
                if who is not None:
                    host_leases.hold(str(lease["id"]), who, record["devices"])
