"""When a sync ends by itself: nobody needs it any more, or the folder that it keeps is gone for good."""

from __future__ import annotations

import os
import time

from .. import process
from . import state

GONE_SECONDS = 600.0
"""A folder that has been gone for so long does not come back."""


class Ending:
    """Whether a sync is needed.

    Parameters
    ----------
    source : str
        The folder that it keeps.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._gone_since: float | None = None

    def gone(self, held: int | None, *, seconds: float = 0.0) -> str:
        """Say that the folder is gone, for so long; empty when it is not, or the disk that it was on is away, too.

        Parameters
        ----------
        held : int or None
            The folder, opened when it was there last.
        seconds : float
            Between the first look that finds it gone and the one that counts.
        """
        now = time.monotonic()
        if os.path.lexists(self.source) or held is None or os.stat(_above(self.source)).st_dev != os.fstat(held).st_dev:
            self._gone_since = None
            return ""
        self._gone_since = now if self._gone_since is None else self._gone_since
        if now - self._gone_since < seconds:
            return ""
        return f"The folder {self.source} is gone; what was handed over of it is untouched."


def unneeded(config: state.Config, *, moved: float, waits: bool) -> bool:
    """Whether nothing moved for long, nothing waits, and whoever started the sync has ended."""
    if time.time() - moved < config.quiet_end or waits:
        return False
    return all(process.is_alive(one) is False for one in config.starters)


def _above(path: str) -> str:
    """Return the nearest folder above that is there."""
    above = os.path.dirname(path)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    return above
