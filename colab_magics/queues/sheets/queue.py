"""A Google Sheet as a queue: the contract of `queues.base`, by the modules of this package."""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import ClassVar

from ...errors import ColabMagicsError, InvalidInput
from ..base import MOST_ATTEMPTS, RUNNING, STALE, Beat, End, Exchanged, Held, New, Probed, Queue, Report, Row, Value
from . import adding, auth, beating, link, probing, requeueing
from .budget import Limits
from .client import Client
from .exchanging import Exchange
from .tab import Claimed, Tab
from .table import Line, Table

_ANSWERS = 200
"""So many exchanges are remembered, for those who ask again."""
_YOUNG = 1 / 3
"""Minutes for which rows are chosen by what the last reply showed."""
_LEFT = f"its workers died {MOST_ATTEMPTS} times; look why, then: %queue requeue"


class SheetsQueue(Queue):
    """A tab of a Google Sheet: row 1 keys, row 2 defaults, rows 3 and below a run each.

    A run is ready when its status is exactly ``ready`` and no worker is named; any other row is a draft. Row 2 has a
    value for each empty cell. While a run is executed, its status shows how far it is, and who holds it in brackets. A
    sheet that was made for others needs no change: the column ``run_record``, and columns for results, are added when
    they are needed. In the columns ``manual_run_stop`` and ``manual_worker_stop`` people stop a run, or its worker.

    How the claim works, and what of it Google promises, says `exchanging`.

    Parameters
    ----------
    address : str
        The sheet's link; ``#gid=`` names the tab, without it the first counts.
    lease : float, default 300
        Seconds; a heartbeat is a call, and Google allows 60 a minute.
    limits : Limits, optional
        How often Google may be asked.
    """

    default_lease: ClassVar[float] = 300.0

    def __init__(self, address: str, *, lease: float | None = None, limits: Limits | None = None) -> None:
        super().__init__(address, lease=lease)
        self._link = link.read(address)
        self._limits = limits or Limits()
        self._named, self._where = "", ""
        self._lock, self._pid = threading.RLock(), os.getpid()
        self._opened: Tab | None = None
        self._own: dict[Claimed, Mapping[str, Value]] = {}
        self._answers: OrderedDict[str, Exchanged] = OrderedDict()
        self._unanswered: set[str] = set()

    def sign_in(self, where: str, credentials: str = "") -> None:
        """Find who asks Google, now; on Colab its user is asked for consent. See `base.Queue.sign_in`."""
        with self._alone:
            if (where, credentials) != (self._where, self._named):
                self._where, self._named, self._opened = where, credentials, None
            self._tab()

    @property
    def _alone(self) -> threading.RLock:
        """The lock of what is kept here; a fork of the process has one, and connections, of its own."""
        if self._pid != os.getpid():
            self._lock, self._pid, self._opened = threading.RLock(), os.getpid(), None
        return self._lock

    @property
    def calls(self) -> Counter[str]:
        """How often Google was asked: ``read``, ``write``."""
        return Counter(self._opened.client.calls) if self._opened else Counter()

    def _tab(self) -> Tab:
        if self._opened is None:
            found, who = auth.credentials(self._where, self._named)
            client = Client(self._link.spreadsheet, found, who, self._limits)
            self._opened = Tab(client, self._link.gid, self.lease)
        return self._opened

    def create(self, defaults: Mapping[str, Value] | None = None) -> None:
        """See `base.Queue.create`; the spreadsheet itself is made by people, who share it."""
        with self._alone:
            adding.create(self._tab(), dict(defaults or {}))

    def add(self, runs: Sequence[New]) -> list[str]:
        """See `base.Queue.add`; new parameters get a column each."""
        with self._alone:
            return adding.add(self._tab(), runs, patience=self._limits.patience)

    def rows(self) -> list[Row]:
        """See `base.Queue.rows`."""
        with self._alone:
            tab = self._tab()
            table = tab.look().check()
            return [self._row(tab, table, line) for line in table.lines]

    def _row(self, tab: Tab, table: Table, line: Line) -> Row:
        token, record = line.token, line.record
        report = record.report if record else Report()
        if token is not None and token.text != RUNNING:
            report = Report(token.text, report.output, report.commit, report.metrics)
        return Row(
            place=line.place,
            uid=line.uid,
            name=line.name,
            status=STALE if tab.is_stale(line) else line.state,
            config=table.config(line),
            worker=line.who or (token.worker if token else ""),
            epoch=max(token.epoch if token else 0, record.epoch if record else 0),
            attempts=token.attempts if token else record.attempts if record else 0,
            priority=table.priority(line),
            error=record.error if record else "",
            report=report,
            lease_left=max(0.0, token.lease - tab.unchanged(line)) if token else None,
            remark=_LEFT if token and token.attempts >= MOST_ATTEMPTS and tab.is_stale(line) else line.remark,
        )

    def exchange(
        self,
        worker: str,
        *,
        ticket: str,
        ends: Sequence[End] = (),
        number: int = 0,
        own: Mapping[str, Value] | None = None,
    ) -> Exchanged:
        """See `base.Queue.exchange`; one call where nobody else wants the same row."""
        if not worker or set(worker) & set("[]#·"):
            raise InvalidInput(f"{worker!r} cannot be a worker's name in a sheet.", "Use letters and digits.")
        with self._alone:
            if ticket in self._answers:
                return self._answers[ticket]
            again = ticket in self._unanswered
            self._unanswered.add(ticket)
            asked = Exchange(self._tab(), worker, ticket, ends, number, own, patience=self._limits.patience)
            answer = asked.run(look_first=again, young=_YOUNG * self._limits.minute)
            self._unanswered.discard(ticket)
            self._answers[ticket] = answer
            while len(self._answers) > _ANSWERS:
                self._answers.popitem(last=False)
            for claim in answer.claims:
                self._own[claim.uid, claim.worker, claim.epoch] = dict(own or {})
            for end in ends:
                self._own.pop((end.claim.uid, end.claim.worker, end.claim.epoch), None)
            self._show([end.claim.uid for end in ends])
            return answer

    def heartbeat(self, beats: Sequence[Beat]) -> list[Held | None]:
        """See `base.Queue.heartbeat`; one call for all."""
        if not beats:
            return []
        with self._alone:
            held = beating.beat(self._tab(), beats, self._own, patience=self._limits.patience)
            self._show([one.claim.uid for one in beats])
            return held

    def _show(self, uids: Sequence[str]) -> None:
        """Add columns for what these runs have reported, where that is new."""
        tab = self._tab()
        for uid in uids:
            line = tab.last().by_uid(uid)
            if line is not None and line.record is not None:
                try:
                    tab.show(line.record)
                except ColabMagicsError:
                    # What was to be written is; that it is not shown in columns of its own loses nothing.
                    return

    def requeue(self, which: Sequence[str]) -> list[str]:
        """See `base.Queue.requeue`; a run is stale whose token this process saw unchanged for a lease."""
        with self._alone:
            return requeueing.requeue(self._tab(), which)

    def probe(self, *, clients: int = 8, rounds: int = 25) -> Probed:
        """See `base.Queue.probe`; in a tab of its own, which is deleted afterwards."""
        with self._alone:
            return probing.probe(self._tab().client, clients=clients, rounds=rounds)

    def close(self) -> None:
        """Let go of the connection."""
        with self._alone:
            if self._opened is not None:
                self._opened.client.close()
