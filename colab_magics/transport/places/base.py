"""What a Place is: a root folder that carries a sentinel, `SENTINEL`, with an id.

Whoever found the id once can tell later whether the folder in front of it is still that Place: an unmounted disk is an
empty folder without it. What can be done with the files there is its store's; see `store`.
"""

from __future__ import annotations

import json
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import ClassVar, Self

from ...errors import InvalidInput, Unmounted
from .store import PRIVATE, Mark, Opened, Store

ANSWER_SECONDS = 20.0
"""So long a caller waits for the disk of a Place; whoever asks it directly waits for ever when its mount hangs."""

SENTINEL = ".colab_magics_place.json"


@dataclass(frozen=True)
class Place(ABC):
    """A root folder somewhere, and optionally a folder below it.

    A kind of Place implements the abstract methods; ``target`` and the others never end in a slash.

    Parameters
    ----------
    text : str
        What the user writes for it, with absolute paths: `parse` gives the same Place again, from any folder.
    root : str
        The root folder in the terms of its kind.
    parts : tuple of str
        The folder below the root.
    """

    text: str
    root: str
    parts: tuple[str, ...] = ()

    uploads_later: ClassVar[bool] = False
    """Whether what was written here goes elsewhere later, and nobody can ask when."""
    keeps_links: ClassVar[bool] = True
    """Whether links and modes can be kept there."""
    by_rsync: ClassVar[bool] = True
    """Whether rsync is needed to bring and fetch files."""

    @classmethod
    @abstractmethod
    def from_text(cls, text: str, *, project: str) -> Self:
        """Read what a user wrote; `parse` has chosen this kind."""

    def below(self, *parts: str) -> Self:
        """Return a folder of this Place.

        Raises
        ------
        InvalidInput
            For a part that leads out of it.
        """
        return replace(self, parts=(*self.parts, *(safe_name(part, of=str(self)) for part in parts)))

    @property
    def path(self) -> str:
        """The folder, as its own machine names it."""
        return str(PurePosixPath(self.root, *self.parts))

    @property
    def target(self) -> str:
        """The folder as one text that no other has, as rsync and people write it."""
        return self.path

    def __str__(self) -> str:
        return self.target

    @abstractmethod
    def prepare(self, rights: int = 0o777) -> str:
        """Make the root with its sentinel, unless they are there, and return the Place's id.

        Parameters
        ----------
        rights : int
            The mode of the folder that becomes the mirror, should it be made.

        Raises
        ------
        Unavailable
            When it is not mounted, not reachable or not writable.
        """

    def environment(self) -> dict[str, str]:
        """Return what a process has to have in its environment to open this Place: keys, which are written nowhere.

        Raises
        ------
        Unavailable
            When something is lacking.
        """
        return {}

    @abstractmethod
    def answers(self) -> None:
        """Raise `Unavailable` when the Place does not answer within `ANSWER_SECONDS`; it may still not be there."""

    def check(self, expected: str | None = None) -> None:
        """Make sure that the Place is there.

        Parameters
        ----------
        expected : str, optional
            The id that `prepare` returned.

        Raises
        ------
        Unavailable
            When it is not mounted, not reachable, has no sentinel, or another than `expected`.
        """
        with self.opened(expected):
            pass

    @abstractmethod
    def opened(
        self, expected: str | None = None, *, make: int = 0, known: Mark | None = None
    ) -> AbstractContextManager[Opened]:
        """Check as `check` does and hold on to the root: what runs inside cannot reach another folder of that name.

        Parameters
        ----------
        expected : str, optional
            The id that `prepare` returned.
        make : int, default 0
            Make the folder below the root, with this mode.
        known : tuple of int, optional
            The mark of the sentinel when it was read last: the very same file need not be read again.
        """

    @contextmanager
    def as_it_is(self) -> Iterator[Store]:
        """Make the folder where it is missing and hold on to it, without a sentinel: for files that a user puts there.

        A kind of Place that does not implement it gets one.
        """
        with self.opened(self.prepare(), make=PRIVATE) as opened:
            yield opened.store

    @abstractmethod
    def names(self) -> list[str]:
        """List the folder: names of its files and folders, without ours; empty when there is none."""

    @abstractmethod
    def missing(self, names: Sequence[str]) -> list[str]:
        """Return those of `names` (relative paths) that are not there."""

    def mount_again(self) -> str:
        """Say what to do where its mount has died."""
        return "Mount it again; the sync goes on by itself then."

    def verify(self, sentinel: str | bytes | None, expected: str | None) -> str:
        """Read the sentinel's text and return its id."""
        try:
            found = json.loads(sentinel or "")["id"]
        except (ValueError, KeyError, TypeError):
            raise Unmounted(
                f"{self.text} is not there: {self.root} has no {SENTINEL}, so it is not mounted, or another folder.",
                "Mount it again; if you removed that file on purpose: %sync stop, then %sync",
            ) from None
        if expected is not None and found != expected:
            raise Unmounted(
                f"{self.text} is another Place than before: the id in {self.root}/{SENTINEL} has changed.",
                "If that is meant: %sync stop, then %sync",
            )
        return str(found)


def safe_name(name: str, *, of: str) -> str:
    """Return `name`, a relative path, in its plain form.

    Parameters
    ----------
    name : str
        What the user wrote.
    of : str
        What it has to stay in, for the error.

    Raises
    ------
    InvalidInput
        When it is empty, absolute or climbs out.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise InvalidInput(f"{name!r} leads out of {of}.", "Write a name below it.")
    return str(path)


def new_sentinel() -> str:
    """Return the text of a sentinel with an id of its own."""
    note = "colab_magics knows this folder by this file: without it nothing is written here."
    return json.dumps({"id": uuid.uuid4().hex, "made": time.strftime("%Y-%m-%d %H:%M"), "note": note}) + "\n"
