"""Names that are ours in a folder that is kept, and at its Place: which of them are never sent, or never fetched."""

from __future__ import annotations

from ..transport.places.base import SENTINEL
from ..transport.places.store import TEMPORARY

TRASH, CONFLICT, VERSIONS = ".sync_trash", ".sync_conflict", ".sync_versions"
OWNER, AGES = ".colab_magics_owner.json", ".colab_magics_trash.json"

_NOT_RENAMED = ".*.[0-9]*.[0-9]*.tmp"  # what `process.write_whole` writes to
_LOCK = ".colab_magics.lock"  # see `colab_magics.records.names`
OURS = (f"/{SENTINEL}", f"/{OWNER}", f"/{AGES}", f"{TEMPORARY}*", ".~rsync-part", _LOCK, _NOT_RENAMED)
"""Never sent and never fetched."""
THERE = (f"/{TRASH}", f"/{VERSIONS}", f"/{CONFLICT}")
"""Never fetched."""
NOT_SENT = (f"/{TRASH}", f"/{VERSIONS}")
