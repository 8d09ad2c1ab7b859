"""A queue's tables within one transaction: rows that are read, with their locks, and statements that write."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from string import Template
from typing import Any, Protocol

from ..errors import InvalidInput, NotFound, did_you_mean
from . import statements as text
from .base import FAILED, MOST_ATTEMPTS, STALE, New
from .records import Record
from .values import clean, unpack

_CHUNK = 400
_PAUSES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Seconds between looks at rows that others have locked just now."""


class Connection(Protocol):
    """What is needed of a database's connection, in a transaction."""

    def all(self, words: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute a statement that reads; returns its rows."""

    def run(self, words: str, *values: Sequence[Any]) -> None:
        """Execute a statement that writes, once for each of these values."""


class Tables:
    """The tables of a queue, in one transaction.

    Parameters
    ----------
    db : Connection
        The transaction's connection.
    words : mapping of str to str
        What stands for `$words` of `statements`: the tables' names, and the database's own words.
    address : str
        The queue's, for errors.
    """

    def __init__(self, db: Connection, words: Mapping[str, str], address: str) -> None:
        self._db = db
        self._words = tuple(words.items())
        self._address = address

    def all(self, words: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute a statement of `statements` that reads."""
        return self._db.all(_filled(words, self._words), values)

    def run(self, words: str, *values: Sequence[Any]) -> None:
        """Execute a statement of `statements` that writes, once for each of these values."""
        if values:
            self._db.run(_filled(words, self._words), *values)

    def records(self, column: str, wanted: Iterable[str]) -> list[Record]:
        """Return the rows that have one of these values, locked."""
        values = sorted(value for value in set(wanted) if clean(value) == value)
        chunks = (values[at : at + _CHUNK] for at in range(0, len(values), _CHUNK))
        return [Record(*row) for some in chunks for row in self.all(text.records_where(column, len(some)), *some)]

    def defaults(self) -> dict[str, Any]:
        """Return the queue's defaults.

        Raises
        ------
        InvalidInput
            When somebody wrote something else there.
        """
        ((packed,),) = self.all(text.DEFAULTS)
        try:
            return unpack(packed)
        except ValueError as error:
            raise InvalidInput(
                f"The defaults of {self._address} are no JSON object: {error}.",
                f"Write them anew into the column defaults of {dict(self._words)['settings']}.",
            )

    def next(self, number: int, stop: str) -> list[Record]:
        """Return the next rows to claim, locked: none only when there are none, not when others look at them as well.

        Parameters
        ----------
        number : int
            How many at most.
        stop : str
            What their `stop` has to be: empty, or the word of a trial's row.
        """
        rows = self._next(number, stop, text.FREE)
        if dict(self._words)["free"]:
            for pause in _PAUSES:
                # A row that is only locked may be there for us yet, when its transaction comes to nothing.
                if rows or not self._next(1, stop, ""):
                    break
                time.sleep(pause)
                rows = self._next(number, stop, text.FREE)
        records = [Record(*row) for row in rows]
        return sorted(records, key=lambda one: (-one.priority, one.number))[:number]

    def _next(self, number: int, stop: str, lock: str) -> list[tuple[Any, ...]]:
        ready = self.all(text.NEXT + lock, stop, number)
        return ready + self.all(text.NEXT_STALE + lock, stop, MOST_ATTEMPTS, number)

    def names_for(self, runs: Sequence[New]) -> list[str]:
        """Return names for runs that are to be added: their own, or chosen ones.

        Raises
        ------
        InvalidInput
            When one is there already.
        """
        unnamed = sum(not new.name for new in runs)
        given = {new.name for new in runs if new.name}
        # Written before it is read: who adds at the same time waits here.
        self.run(text.NAME_SOME, (0,))
        if taken := sorted(one.name for one in self.records("name", given)):
            raise InvalidInput(f"There is a run {taken[0]!r} already ({len(taken)} of these names).", "Choose others.")
        chosen: list[str] = []
        while len(chosen) < unnamed:
            ((named,),) = self.all(text.NAMED)
            wanted = [f"run_{named + number:03d}" for number in range(1, unnamed - len(chosen) + 1)]
            self.run(text.NAME_SOME, (len(wanted),))
            there = given | {one.name for one in self.records("name", wanted)}
            chosen += [name for name in wanted if name not in there]
        left = iter(chosen)
        return [new.name or next(left) for new in runs]

    def chosen(self, which: Sequence[str]) -> list[Record]:
        """Return the rows that words, names or uids mean, locked, in the table's order.

        Raises
        ------
        NotFound
            For one that is not there.
        """
        words = {FAILED, STALE} & set(which)
        names = set(which) - words
        found = [*self.records("name", names), *self.records("uid", names)]
        known = {one.name for one in found} | {one.uid for one in found}
        if absent := [name for name in which if name in names and name not in known]:
            everybody = [Record(*row).name for row in self.all(text.ALL)]
            hint = did_you_mean(absent[0], everybody[:50], kind="run").mend
            raise NotFound(f"There is no run {absent[0]!r} in {self._address}.", hint)
        if words:
            over = [Record(*row) for row in self.all(text.BY_STATUS)]
            found += [one for one in over if (STALE if one.stale else one.status) in words]
        return sorted({one.uid: one for one in found}.values())

    def check(self) -> None:
        """Refuse tables that are not ours, or of a version that this one does not know.

        Raises
        ------
        InvalidInput
            Says which.
        """
        found = self.all(text.SETTINGS)
        if len(found) != 1 or found[0][0] != text.OURS:
            raise InvalidInput(f"What stands at {self._address} is no queue of ours.", "Choose another place for it.")
        if found[0][1] > text.VERSION:
            raise InvalidInput(
                f"The queue at {self._address} was made by a newer version (its tables are of version {found[0][1]}, "
                f"known here is {text.VERSION}).",
                "pip install --upgrade colab-magics",
            )


@lru_cache(maxsize=512)
def _filled(words: str, meaning: tuple[tuple[str, str], ...]) -> str:
    return Template(words).substitute(dict(meaning))
