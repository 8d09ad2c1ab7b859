"""The link of a spreadsheet, as people copy it from their browser."""

from __future__ import annotations

import re
from typing import NamedTuple

from ...errors import InvalidInput

_ID = re.compile(r"https?://docs\.google\.com/spreadsheets/(?:u/\d+/)?d/(?P<id>[A-Za-z0-9_-]{8,})(?:[/?#].*)?$")
_GID = re.compile(r"[?#&]gid=(\d+)")


class Link(NamedTuple):
    """Which spreadsheet, and which of its tabs: None for the first."""

    spreadsheet: str
    gid: int | None


def read(address: str) -> Link:
    """Read a link.

    Raises
    ------
    InvalidInput
        When no spreadsheet is named in it.
    """
    found = _ID.match(address.strip())
    if found is None or found["id"] == "e" or "/d/e/" in address:
        why = "is that of a published copy, which nobody can write to" if "/d/e/" in address else "names no spreadsheet"
        raise InvalidInput(
            f"The link {address} {why}.",
            "Open the sheet and copy the link from the browser: https://docs.google.com/spreadsheets/d/…/edit#gid=0",
        )
    gids = _GID.findall(address)
    return Link(found["id"], int(gids[-1]) if gids else None)  # of two the fragment's is the tab in view
