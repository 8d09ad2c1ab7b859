"""The ``.env`` of a checkout: counts after a yes when git tracks it, because then it came with a clone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from ..transport.buckets import settings as bucket_settings
from .trust import Request, Warn, unheard


def consent(file: Path, values: Mapping[str, str]) -> bool:
    """Whether the user has said yes to these values of this file."""
    return _request(file, values).allowed


def request(start: Path, warn: Warn = unheard) -> Request | None:
    """Return what the ``.env`` that counts in a folder sets, where it needs a yes; None where it does not."""
    file = bucket_settings.find_dotenv(start)
    if file is None or not bucket_settings.came_with_a_clone(file):
        return None
    return _request(file, bucket_settings.read_dotenv(file, warn))


def _request(file: Path, values: Mapping[str, str]) -> Request:
    # What is secret is shown, and remembered, by a part of its checksum: another secret needs another yes.
    return Request(
        file,
        {
            name: f"sha256:{hashlib.sha256(value.encode()).hexdigest()[:16]}"
            if bucket_settings.is_secret(name)
            else value
            for name, value in values.items()
        },
    )
