"""The address of a queue as it may be shown and kept: without its password, and the same from every folder."""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import InvalidInput
from . import kind_of, without_password

_SECRET = ("password", "sslpassword")
_FILE = re.compile(r"sqlite:(///)?")


def absolute(address: str) -> str:
    """Return an address that means the same from every folder: a file's real path.

    Raises
    ------
    InvalidInput
        For an empty one.
    """
    text = str(address).strip()
    if not text:
        raise InvalidInput("Which queue?", "Write a file, such as runs.db, or its link.")
    if kind_of(text) != "sqlite":
        return text
    return os.path.realpath(os.path.expanduser(_FILE.sub("", text, count=1)))


def shown(address: str) -> str:
    """Return an address without what must not be read by others: its password."""
    return without_password(address)


def blotted(text: str, address: str) -> str:
    """Return a text in which an address stands without its password, and the password nowhere."""
    if "://" not in address:
        return text
    parts = urlsplit(address)
    secret = [parts.netloc.rpartition("@")[0].partition(":")[2]]
    secret += [value for name, value in parse_qsl(parts.query) if name in _SECRET]
    text = text.replace(address, shown(address))
    for one in filter(None, [*secret, *map(unquote, secret)]):
        text = text.replace(one, "…")
    return text
