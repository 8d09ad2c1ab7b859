"""Whether a folder and its Place lie in each other: by their paths, and by what is mounted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..errors import InvalidInput
from ..transport.places.base import Place
from ..transport.places.folder import FolderPlace

Spot = tuple[str, PurePosixPath]
"""A file system, and a folder in it."""


def refuse(source: Path, place: Place) -> None:
    """Refuse a Place in the source, which would be copied into itself, and a source in the Place.

    Raises
    ------
    InvalidInput
        When they lie in each other.
    """
    if not isinstance(place, FolderPlace):
        return
    there = Path(os.path.realpath(place.path))
    meet = there.is_relative_to(source) or source.is_relative_to(there)
    mounts = list(_mounts())
    for one in () if meet else _spots(source, mounts):
        meet |= any(one[0] == other[0] and _nested(one[1], other[1]) for other in _spots(there, mounts))
    if meet:
        raise InvalidInput(
            f"{source} and the Place {there} lie in each other.", "Choose a Place beside the folder: to=FOLDER"
        )


def _nested(one: PurePosixPath, other: PurePosixPath) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _spots(folder: Path, mounts: list[tuple[Path, Spot]]) -> Iterator[Spot]:
    """Yield where a folder lies, and what is mounted below it."""
    above = [(point, spot) for point, spot in mounts if folder.is_relative_to(point)]
    if above:
        point, (system, root) = max(above, key=lambda one: len(one[0].parts))
        yield system, root / folder.relative_to(point)
    yield from (spot for point, spot in mounts if point != folder and point.is_relative_to(folder))


def _mounts() -> Iterator[tuple[Path, Spot]]:
    """Yield mount points with what is mounted there (proc_pid_mountinfo(5)); nothing where the system does not say."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, system, root, point, *_ = (re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), w) for w in line.split())
        yield Path(point), (system, PurePosixPath(root))
