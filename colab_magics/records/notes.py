"""What people write about a run: a note and tags, in note.json of its folder. Runners and schedulers leave it alone."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple, TypedDict

from .. import process
from ..errors import InvalidInput
from ..units import without_controls
from . import schema
from .names import NOTE

_LONGEST, _LONGEST_TAG, _MOST_TAGS = 2000, 40, 50


class _File(TypedDict, total=False):
    """note.json."""

    note: str
    tags: list[str]
    at: schema.Moment


class Noted(NamedTuple):
    """A note, empty when there is none, and tags in the order in which they came."""

    note: str = ""
    tags: tuple[str, ...] = ()


def read(folder: Path) -> Noted:
    """Read what was noted of the run in a folder."""
    found = schema.read_or_nothing(folder / NOTE, _File)
    tags = (without_controls(tag)[:_LONGEST_TAG] for tag in found.get("tags") or ())
    return Noted(without_controls(str(found.get("note") or ""))[:_LONGEST], tuple(dict.fromkeys(filter(None, tags))))


def write(folder: Path, note: str | None = None, *, add: Iterable[str] = (), remove: Collection[str] = ()) -> Noted:
    """Change what is noted of the run in a folder; a `note` of None stays as it is.

    Raises
    ------
    InvalidInput
        For more than a few tags; see `checked_note` and `checked_tag` for the others.
    OSError
        When it cannot be written.
    """
    before = read(folder)
    tags = tuple(tag for tag in dict.fromkeys([*before.tags, *add]) if tag not in remove)
    if len(tags) > _MOST_TAGS:
        raise InvalidInput(f"{len(tags)} tags are too many: a run has {_MOST_TAGS} at most.", "Write a note instead.")
    after = Noted(before.note if note is None else note, tags)
    if after != before:
        process.write_json(folder / NOTE, {"note": after.note, "tags": list(tags), "at": time.time()})
    return after


def checked_note(text: str) -> str:
    """Return a note as it is kept.

    Raises
    ------
    InvalidInput
        For one that is no note any more.
    """
    if len(text) > _LONGEST:
        raise InvalidInput(
            f"A note of {len(text):,} characters is too long.", "Write it to a file in the run's folder."
        )
    return without_controls(text).strip()


def checked_tag(text: str) -> str:
    """Return a tag as it is kept: one word.

    Raises
    ------
    InvalidInput
        For what is none.
    """
    tag = str(text).strip()
    plain = tag.isprintable() and not any(char.isspace() or char in ",'\"`" for char in tag)
    if not tag or not plain or tag.startswith("-") or len(tag) > _LONGEST_TAG:
        raise InvalidInput(
            f"{tag!r} is no tag: one word of at most {_LONGEST_TAG} characters, without commas and quotes.",
            '%jobs note 3 "…" takes sentences; --remove takes a tag away.',
        )
    return tag
