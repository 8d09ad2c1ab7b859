"""How a link to a relay stands."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from ..errors import ColabMagicsError


@dataclass(frozen=True)
class State:
    """How a link stands.

    Parameters
    ----------
    kind : {"connected", "offline", "gone"}
        Offline: it connects again by itself. Gone: for good.
    since : float
        Seconds since the epoch.
    reason : str
        Why it is not connected.
    error : Exception, optional
        The error for whoever uses a link that is gone.
    """

    kind: Literal["connected", "offline", "gone"]
    since: float
    reason: str = ""
    error: ColabMagicsError | None = None

    def __str__(self) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(self.since))
        return f"{self.kind} since {clock}{f' ({self.reason})' if self.reason else ''}"
