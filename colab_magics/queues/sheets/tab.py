"""One tab as it was last seen, and the changes that may be made to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...errors import InvalidInput, NotFound, Unavailable
from ..base import READY
from .client import Client, Unsure
from .requests import Request, colours, new_columns, shown_column, swap
from .table import METRIC, RECORD, SHOWN, STATUS, Line, Table
from .texts import Record, Token, tag_of, unmarked

Claimed = tuple[str, str, int]
"""Uid, worker and epoch of a claim."""
PREFIX = len(tag_of("", 0))
"""So much of a tag names the exchange; the rest counts its tries."""


class Answer(NamedTuple):
    """What came of a change.

    Parameters
    ----------
    table : Table
        The tab after it.
    done : list of int
        For each request how many cells it has changed; empty when the answer was lost.
    """

    table: Table
    done: list[int]


class Tab:
    """A tab of a spreadsheet; not for several threads at once.

    Parameters
    ----------
    client : Client
        Whom to ask.
    gid : int or None
        Which tab; None for the first.
    lease : float
        Seconds for which claims made here hold: a token that nobody was seen to change for its lease is nobody's.
    clock : callable
        Seconds of this machine; for tests.
    """

    def __init__(
        self, client: Client, gid: int | None, lease: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.client, self.lease = client, lease
        self._gid, self._clock = gid, clock
        self._seen: Table | None = None
        self._seen_at = 0.0
        self.replies = 0
        self._since: dict[Claimed, tuple[str, float]] = {}
        self._undo: dict[str, str] = {}
        self._lost: set[str] = set()
        self._workers: dict[str, float] = {}
        self._columns_tried: set[str] = set()
        self.accepted: set[Claimed] = set()
        self.asking: set[str] = set()
        """What names the exchange that is being made now."""

    @property
    def gid(self) -> int:
        """The tab's id."""
        if self._gid is None:
            tabs = [tab.get("properties", {}) for tab in self.client.tabs().get("sheets") or []]
            first = min(tabs, key=lambda tab: int(tab.get("index", 0)), default=None)
            if first is None:
                raise NotFound("The spreadsheet has no tab.", "Add one, and copy its link.")
            self._gid = int(first.get("sheetId", 0))
        return self._gid

    def last(self) -> Table:
        """Return it as it was last seen; looks when nobody has yet."""
        return self._seen or self.look()

    def usable(self, *, at_work: bool) -> Table:
        """Return it as it was last seen, or as it is where that was no table of runs; see `checked`."""
        try:
            return self.last().check()
        except (InvalidInput, NotFound):
            return checked(self.look(), at_work=at_work)

    def look(self) -> Table:
        """Return it as it is."""
        gid = self.gid
        try:
            return self._note(Table(self.client.read(gid), gid))
        except NotFound as error:
            tabs = [tab.get("properties", {}) for tab in self.client.tabs().get("sheets") or []]
            if any(int(tab.get("sheetId", 0)) == gid for tab in tabs):
                raise
            names = ", ".join(f"{tab.get('title')} (gid={tab.get('sheetId', 0)})" for tab in tabs)
            raise NotFound(f"The spreadsheet has no tab with gid={gid}.", f"It has: {names or 'none'}.") from error

    def change(self, requests: Sequence[Request]) -> Answer:
        """Make changes, after what is to be taken back, and return what stands there then.

        Where the answer is lost, the tab is read again: it may show the changes, or not, or not yet.
        """
        self._give_back_what_came_too_late()
        before = [swap(self.gid, old, new) for old, new in self._undo.items()]
        title = self.last().title
        try:
            found = self.client.batch([*before, *requests], title)
        except NotFound:  # the tab has got another name
            found = self.client.batch([*before, *requests], self.look().title)
        except Unsure:
            return Answer(self.look(), [])
        self._undo.clear()
        table = self._note(Table(found.get("updatedSpreadsheet") or {}, self.gid))
        counts = [int((one.get("findReplace") or {}).get("occurrencesChanged", 0)) for one in found.get("replies", [])]
        counts += [0] * (len(before) + len(requests) - len(counts))
        return Answer(table, counts[len(before) :])

    def age(self) -> float:
        """Return how many seconds ago it was last seen."""
        return self._clock() - self._seen_at

    def others(self, worker: str) -> set[str]:
        """Return who else has executed runs of this tab in the time of a lease."""
        now = self._clock()
        return {other for other, seen in self._workers.items() if now - seen < self.lease} - {worker}

    def take_back(self, old: str, new: str) -> None:
        """Have a text replaced with the next change, wherever it stands then: what a lost race has left."""
        self._undo[old] = new

    def has_to_take_back(self) -> bool:
        """Whether something of a lost race still stands there."""
        return bool(self._undo)

    def expect(self, tags: Sequence[str]) -> None:
        """Remember that claims of an exchange may still come to pass whose answer was lost."""
        self._lost |= set(tags)

    def unchanged(self, line: Line) -> float:
        """Return for how many seconds its token was not seen to change."""
        known = self._since.get(line.token.claim) if line.token else None
        return self._clock() - known[1] if known else 0.0

    def is_stale(self, line: Line) -> bool:
        """Whether it is being executed by somebody who has not been heard of for a lease."""
        return line.token is not None and self.unchanged(line) >= line.token.lease

    def prepare(self) -> Table:
        """Add the column of records and the colours, when they are not there; by one worker, once."""
        table = self.last().check()
        if RECORD in table.columns or RECORD in self._columns_tried:
            return table
        self._columns_tried.add(RECORD)
        header = {"userEnteredValue": {"stringValue": RECORD}}
        asked = new_columns(self.gid, [header], [RECORD], len(table.headers), table.column_count)
        table = self._once([*asked, *colours(self.gid, table.columns[STATUS], table.rules)]).check()
        if RECORD not in table.columns:  # the answer was lost, and it was not made, or not yet
            self._columns_tried.discard(RECORD)
        return table

    def show(self, record: Record) -> None:
        """Add columns that show what a record says, for each kind of thing that has none yet."""
        table = self.last()
        said = {"output": record.report.output, "commit": record.report.commit, "error": record.error}
        wanted = {SHOWN[key]: (key, False) for key, value in said.items() if value}
        wanted |= {f"{METRIC}{name}": (name, True) for name in record.report.metrics}
        new = [key for key in wanted if key not in table.columns and key not in self._columns_tried]
        at = table.columns.get(RECORD)
        if at is None or not new:
            return
        self._columns_tried |= set(new)
        headers = [shown_column(wanted[key][0], key, at, number=wanted[key][1]) for key in new]
        self._once(new_columns(self.gid, headers, new, len(table.headers), table.column_count))

    def _once(self, requests: list[Request]) -> Table:
        try:
            return self.change(requests).table
        except InvalidInput:  # somebody else has made that column just now; two have no room side by side
            return self.look()

    def _give_back_what_came_too_late(self) -> None:
        """Give back claims whose answer was lost, and which came to pass after they had been given up."""
        for line in self.last().lines if self._lost else ():
            token = line.token
            given_up = self._lost - self.asking
            if token is not None and token.tag[:PREFIX] in given_up and token.claim not in self.accepted:
                self._undo |= given_back(line, token)

    def _note(self, table: Table) -> Table:
        """Remember what was seen, and since when."""
        self._undo |= table.left_over()
        now, before = self._clock(), self._since
        self._seen, self._seen_at = table, now
        self.replies += 1
        self._since = {}
        if STATUS not in table.columns:
            return table
        for line in table.lines:
            token = line.token
            if token is None:
                continue
            known = before.get(token.claim)
            same = known is not None and known[0] == line.status
            self._workers[token.worker] = now
            self._since[token.claim] = known if same and known else (line.status, now)
        return table


def given_back(line: Line, token: Token) -> dict[str, str]:
    """Return what is to be replaced in a run's row so that it is ready again, and was not attempted."""
    found = {line.status: READY}
    if unmarked(line.worker)[1]:  # a plain name stands in other rows as well
        found[line.worker] = ""
    record = line.record
    if record is not None:
        left = max(0, token.attempts - 1)
        new = Record(record.uid, max(record.epoch, token.epoch), left, record.by, record.tag, READY)
        found[line.record_text] = str(new)
    return found


def checked(table: Table, *, at_work: bool) -> Table:
    """Return a table in which runs can be told.

    Raises
    ------
    InvalidInput, NotFound
        See `Table.check`.
    Unavailable
        The same, where a run is being executed: somebody is just changing the columns, and it goes on meanwhile.
    """
    try:
        return table.check()
    except (InvalidInput, NotFound) as error:
        if not at_work:
            raise
        raise Unavailable(error.what, error.mend) from error


def patience_is_over() -> Unavailable:
    """Build the error for answers that are lost again and again."""
    return Unavailable("Google Sheets does not answer: replies to changes are lost.", "Say it again later.")
