"""Files of data_project on their way to a Place, one way: each is there whole, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import InvalidInput
from ..transport.places.base import Place
from ..transport.places.store import rights_of
from .patterns import CONFLICT

_SAME_SECONDS = 2.0


def hand_in(place: Place, source: Path, names: Sequence[str], *, force: bool = False) -> int:
    """Bring files to a Place.

    Parameters
    ----------
    place : Place
        The folder of a Place that holds inputs.
    source : Path
        The folder here.
    names : sequence of str
        Files in it.
    force : bool, default False
        Put them in the place of other versions there.

    Returns
    -------
    int
        How many were not there already.

    Raises
    ------
    InvalidInput
        When another version stands there.
    Unavailable
        When the Place is not there.
    """
    place.answers()
    expected = place.prepare()
    with place.opened(expected, make=rights_of(str(source))) as opened:
        there = opened.store.look(names)
        new = [name for name in names if not _alike(source / name, there.get(name))]
        if (other := [name for name in new if name in there]) and not force:
            raise InvalidInput(f"{other[0]} stands at {place} in another version.", "keep(…, force=True) replaces it.")
        if new:
            opened.store.take(source, new, aside=CONFLICT)
        return len(new)


def _alike(file: Path, there: object) -> bool:
    seen = file.lstat()
    size, mtime = getattr(there, "size", -1), getattr(there, "mtime", 0.0)
    return size == seen.st_size and abs(mtime - seen.st_mtime) <= _SAME_SECONDS
