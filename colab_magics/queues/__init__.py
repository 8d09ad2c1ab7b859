"""Tables of runs that workers claim: where they are kept, by their address.

A backend is one file plus one line here, or an entry point of group ``colab_magics.queue``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from ..registry import Registry

if TYPE_CHECKING:
    from .base import Queue

QUEUES = Registry(
    "queue",
    {
        "sqlite": "colab_magics.queues.sqlite:SqliteQueue",
        "postgresql": "colab_magics.queues.postgresql:PostgresqlQueue",
        "sheets": "colab_magics.queues.sheets.queue:SheetsQueue",
    },
    {"postgresql": "sql", "sheets": "sheets"},
)

_SHEETS = re.compile(r"https?://docs\.google\.com/spreadsheets/")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://")
# Up to the last @: a password may hold any character that somebody forgot to escape.
_USER = re.compile(r"^([a-z][a-z0-9+.-]*://[^:@/?#]*):.*@", re.S)
_SECRET = re.compile(r"([?&])(?:ssl)?password=[^&]*&?")


def kind_of(address: str) -> str:
    """Name the backend of an address: a path, ``sqlite:///PATH``, ``postgresql://…``, the link of a sheet."""
    if _SHEETS.match(address):
        return "sheets"
    found = _SCHEME.match(address)
    scheme = found[1] if found else "sqlite"
    return "postgresql" if scheme == "postgres" else scheme


def without_password(address: str) -> str:
    """Return an address as it may be shown, logged and kept: all of it but a password."""
    if kind_of(address) in ("sqlite", "sheets"):
        return address
    return _USER.sub(r"\1@", _SECRET.sub(r"\1", address)).rstrip("?&")


def open_queue(address: str, *, lease: float | None = None) -> Queue:
    """Return the queue of an address; nothing is read or written yet.

    Parameters
    ----------
    address : str
        See `kind_of`.
    lease : float, optional
        Seconds for which a claim holds without a heartbeat; by default what suits the backend.

    Raises
    ------
    InvalidInput
        For an address that no backend reads.
    Unavailable
        When a package is missing.
    """
    return cast("Queue", QUEUES.load(kind_of(address))(address, lease=lease))
