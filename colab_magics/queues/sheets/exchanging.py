"""Ends and claims in one batch, in a sheet whose rows move between a read and a write.

Google applies the requests of one batch together, or none of them, and returns the tab as it is then; it knows no
precondition, and a row has no name: people sort, insert and delete rows at any time. So there is one kind of write
that may meet a row which moved, `requests.swap`: replace a cell's whole text if it is exactly that.

**A claim** swaps ``ready`` for a `Token` in the one cell where the candidate stood when it was last read. Whichever
row stands there now: if it is ready it is claimed, and the reply shows where the token is. That row is the run. Of
those who try it at once one finds ``ready``. This holds if Google applies batches one after another, which is how
it behaves, but nowhere promised: ``%queue probe`` tries it on the user's own sheet.

**Every later write** of a claim looks for a text that this run's row holds and no other: its token, its record, its
marked worker's name. They go with the row wherever it is sorted to, so that nothing can be written into another row.
Where the text is not there any more, the claim is lost (the fencing of `queues.base`): the token of the next claim
differs in epoch and tag, and a claim changes the record, too.

**Empty cells** hold nothing to look for: a new record and the worker's name have to come into them first. That
happens in the batch of the claim, in the row where the candidate stood, and only where the cell is empty (``^$``).
Since a batch is applied as a whole, a claim that is won there is of that same row. A claim that is lost, in a row that
came there meanwhile, may leave a record and a marked name in cells that were empty. Nobody takes them for anything: the
token is not beside them. Whoever sees them takes them back with the next batch, also when the loser is dead.
That a search for ``^$`` finds an empty cell is what people tell of Sheets, not what Google documents; if it did not,
the run would be claimed and ended all the same, without its worker's name and record, and the probe says so.

**A lost reply**: the tab is read. The token names the exchange by its tag, so that what was won is seen; what comes to
pass later is given back by who sees it, or is stale after a lease.

**Stale** is a token that we saw unchanged for a lease; heartbeats count in it. To take over is to swap that token.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..base import DONE, MOST_ATTEMPTS, READY, Claim, End, Exchanged, Value
from .requests import Request, swap
from .tab import PREFIX, Claimed, Tab, checked, given_back, patience_is_over
from .table import RECORD, STATUS, WORKER, Line, Table
from .texts import Record, Token, clean, marked, new_uid, tag_of, unmarked

_FLUSHES = 3
_TRIES = "abcdefghijklmnopqrstuvwxyz"


@dataclass
class _Ending:
    """How far the end of a run has come.

    Parameters
    ----------
    end : End
        What is to be written.
    written : bool or None
        None as long as nobody knows.
    tried : bool
        Whether it may have been written by an answer that was lost.
    """

    end: End
    written: bool | None = None
    tried: bool = False

    @property
    def claim(self) -> Claimed:
        return self.end.claim.uid, self.end.claim.worker, self.end.claim.epoch

    @property
    def status(self) -> str:
        return clean(self.end.status) or DONE


class Exchange:
    """One exchange of one worker; see the module and `base.Queue.exchange`.

    Parameters
    ----------
    tab : Tab
        The tab.
    worker, ticket, ends, number, own :
        See `base.Queue.exchange`.
    patience : float
        Seconds for which lost answers are borne.
    """

    def __init__(
        self,
        tab: Tab,
        worker: str,
        ticket: str,
        ends: Sequence[End],
        number: int,
        own: Mapping[str, Value] | None,
        *,
        patience: float,
    ) -> None:
        self._tab, self._worker, self._own, self._patience = tab, worker, own, patience
        self._endings = [_Ending(end) for end in ends]
        self._tags = [tag_of(ticket, index) for index in range(number)]
        self._tries = 0
        self._wanted: list[tuple[tuple[int, int], str, dict[str, str]]] = []
        self._barren: set[int] = set()

    def run(self, *, look_first: bool, young: float) -> Exchanged:
        """Do it.

        Parameters
        ----------
        look_first : bool
            Whether something of this ticket may stand in the tab already.
        young : float
            Seconds for which the last reply is good enough to choose a row by.
        """
        seen = self._tab.replies
        self._tab.asking = set(self._tags)
        at_work = bool(self._endings) or bool(self._tab.accepted)
        table = self._tab.usable(at_work=at_work)
        if self._tags:
            table = self._tab.prepare()
            # Where others claim all the time, what the last reply showed is as good as a look that costs a call.
            look_first = look_first or not self._tab.others(self._worker) or self._tab.age() > young
        if look_first and self._tab.replies == seen:
            table = self._tab.look()
        fresh, began = self._tab.replies > seen, time.monotonic()
        while True:
            checked(table, at_work=at_work)
            self._settle(table, fresh=fresh)
            requests, swapped = self._requests(table)
            if not requests:
                if fresh or not (self._tags or any(one.written is None for one in self._endings)):
                    break
                table, fresh = self._tab.look(), True
                continue
            answer = self._tab.change(requests)
            table, fresh = answer.table, True
            for ending, index in swapped:
                if answer.done and answer.done[index]:
                    ending.written = True
                ending.tried = ending.tried or not answer.done
            if not answer.done:
                self._tab.expect(self._tags)
                if time.monotonic() - began > self._patience:
                    raise patience_is_over()
            self._after_claims(table, sure=bool(answer.done))
        for _ in range(_FLUSHES):
            if self._tab.has_to_take_back():
                table = self._tab.change([]).table
        return self._result(table)

    def _result(self, table: Table) -> Exchanged:
        lines = self._mine(table)
        self._tab.asking = set()
        for line in lines:
            if line.token is not None:
                self._tab.accepted.add(line.token.claim)
        claims = [
            Claim(
                token.uid, table.called(line), token.worker, token.epoch, table.config(line, self._own), token.attempts
            )
            for line in lines
            if (token := line.token) is not None
        ]
        claims += [
            Claim(
                record.uid, table.called(line), record.by, record.epoch, table.config(line, self._own), record.attempts
            )
            for line in self._past(table)
            if (record := line.record) is not None
        ]
        return Exchanged([bool(one.written) for one in self._endings], claims, self._stop(table))

    def _stop(self, table: Table) -> str:
        """Say why this worker is to claim no more."""
        rows = (line for line in table.lines if self._worker in (line.who, line.token.worker if line.token else ""))
        return next((why for line in rows if (why := table.stop(line, worker_only=True))), "")

    def _mine(self, table: Table) -> list[Line]:
        """Return the rows that this exchange has claimed."""
        tags = set(self._tags)
        return [
            line
            for line in table.lines
            if line.token and line.token.worker == self._worker and line.token.tag[:PREFIX] in tags
        ]

    def _past(self, table: Table) -> list[Line]:
        """Return the rows that this exchange claimed when it was asked before, and that have ended since."""
        rows = ((line, line.record) for line in table.lines if line.token is None)
        tags = set(self._tags)
        ended = ((line, own) for line, own in rows if own and own.end not in ("", READY) and own.by == self._worker)
        return [line for line, own in ended if own.tag[:PREFIX] in tags]

    def _requests(self, table: Table) -> tuple[list[Request], list[tuple[_Ending, int]]]:
        """Return what is to be changed now, and which request is which end."""
        requests: list[Request] = []
        swapped = []
        for ending in self._endings:
            line = table.held(ending.claim) if ending.written is None else None
            if line is not None:
                swapped.append((ending, len(requests)))
                requests += self._end(line, ending)
            elif ending.written:
                requests += self._mended_end(table, ending)
        mine = self._mine(table)
        number = 0 if self._stop(table) else len(self._tags) - len(self._past(table))
        for line in mine[number:]:
            if line.token is not None:
                requests += self._swaps(given_back(line, line.token))
        mine = mine[:number]
        for line in mine:
            requests += self._mended_claim(line)
        if len(mine) < number:
            taken = {line.token.tag[:PREFIX] for line in mine if line.token}
            free = [tag for tag in self._tags if tag not in taken][: number - len(mine)]
            requests += self._claims(table, free)
        return requests, swapped

    # Ends

    def _settle(self, table: Table, *, fresh: bool) -> None:
        """Decide of ends whose token is not there what that means."""
        for ending in self._endings:
            if ending.written is not None or not fresh or table.held(ending.claim) is not None:
                continue
            uid, worker, epoch = ending.claim
            line = table.by_uid(uid)
            record = line.record if line is not None else None
            if record is not None:
                ending.written = (record.by, record.epoch, record.end) == (worker, epoch, ending.status)
            else:  # a row without a record: nobody can have begun anew with it, if nobody has
                ending.written = ending.tried and (line is None or line.token is None)

    def _end(self, line: Line, ending: _Ending) -> list[Request]:
        """Return what ends a run in its row."""
        found = {line.status: ending.status}
        name, was_marked = unmarked(line.worker)
        if was_marked:
            found[line.worker] = "" if ending.status == READY else name
        new = self._ended_record(line, ending)
        if new:
            found[line.record_text] = new
        return self._swaps(found)

    def _ended_record(self, line: Line, ending: _Ending) -> str:
        """Return the record of a run that has ended; empty when it has none."""
        old, end = line.record, ending.end
        if old is None or (old.uid, old.by) != (end.claim.uid, end.claim.worker):
            return ""
        attempts = max(0, end.claim.attempts - 1) if ending.status == READY else end.claim.attempts
        told = replace(old, epoch=max(old.epoch, end.claim.epoch), attempts=attempts, end=ending.status)
        return str(told.told(end.report, error=end.error))

    def _mended_end(self, table: Table, ending: _Ending) -> list[Request]:
        """Return what is missing in the row of a run whose end was written: its record had changed meanwhile."""
        line = table.by_uid(ending.claim[0])
        if line is None or line.token is not None or line.record is None or line.record.end:
            return []
        new = self._ended_record(line, ending)
        return self._swaps({line.record_text: new}) if new and new != line.record_text else []

    # Claims

    def _claims(self, table: Table, tags: Sequence[str]) -> list[Request]:
        """Return what claims so many rows, as far as there are candidates."""
        ready = [line for line in table.lines if line.is_ready and line.number not in self._barren]
        ready.sort(key=table.priority, reverse=True)
        chosen = _choose(ready, self._tab.others(self._worker), self._worker, len(tags))
        stale = [line for line in table.lines if self._may_be_taken(line)]
        chosen += stale[: len(tags) - len(chosen)]
        suffix = _TRIES[self._tries % len(_TRIES)]
        self._tries += 1
        requests: list[Request] = []
        self._wanted = []
        for line, tag in zip(chosen, tags, strict=False):
            requests += self._claim(table, line, f"{tag}{suffix}")
        return requests

    def _may_be_taken(self, line: Line) -> bool:
        token = line.token
        return token is not None and token.attempts < MOST_ATTEMPTS and self._tab.is_stale(line)

    def _claim(self, table: Table, line: Line, tag: str) -> list[Request]:
        """Return what claims a row, and remember what is to be taken back if it does not."""
        old, record = line.token, line.record
        epoch = 1 + max(old.epoch if old else 0, record.epoch if record else 0)
        # Who gave a run back did not attempt it; after any other end it has become ready anew.
        had = old.attempts if old else record.attempts if record and record.end == READY else 0
        uid = old.uid if old else record.uid if record else new_uid()
        token = Token(self._worker, epoch, had + 1, uid, tag, self._tab.lease)
        new = str(Record(uid, epoch, had + 1, by=self._worker, tag=tag))
        name = marked(self._worker, tag)
        cells = [(STATUS, line.status, str(token))]
        if RECORD in table.columns and (not line.record_text or Record.read(line.record_text)):
            cells.append((RECORD, line.record_text, new))
        if WORKER in table.columns and (not line.worker or unmarked(line.worker)[1]):
            cells.append((WORKER, line.worker, name))
        self._wanted.append(
            ((line.number, table.columns[STATUS]), str(token), {after: before for _, before, after in cells[1:]})
        )
        if old is not None:  # its texts are unique, and go with the row
            return self._swaps({before: after for _, before, after in cells if before})
        row, columns, gid = line.number - 1, table.columns, self._tab.gid
        return [swap(gid, before, after, row=row, column=columns[key]) for key, before, after in cells]

    def _after_claims(self, table: Table, *, sure: bool) -> None:
        """Have taken back what lost claims have left, and leave alone what looks ready and cannot be claimed."""
        there = {line.status for line in table.lines if line.token}
        ready = {(line.number, table.columns[STATUS]) for line in table.lines if line.is_ready}
        for where, token, seeds in self._wanted:
            if token in there:
                continue
            for new, old in seeds.items():
                if table.holds(new):
                    self._tab.take_back(new, old)
            if sure and where in ready:  # a formula, say
                self._barren.add(where[0])
        self._wanted = []

    def _mended_claim(self, line: Line) -> list[Request]:
        """Return what makes a claim that of the row where it was won: another one may have stood there meanwhile."""
        token, record = line.token, line.record
        if token is None or record is None or (record.uid, record.tag) == (token.uid, token.tag):
            return []
        attempts = 1 + (record.attempts if record.end == READY else 0)
        new = replace(token, uid=record.uid, epoch=record.epoch + 1, attempts=attempts)
        told = Record(record.uid, new.epoch, attempts, by=token.worker, tag=token.tag)
        return self._swaps({line.status: str(new), line.record_text: str(told)})

    def _swaps(self, texts: Mapping[str, str]) -> list[Request]:
        return [swap(self._tab.gid, old, new) for old, new in texts.items()]


def _choose(ready: Sequence[Line], others: set[str], worker: str, number: int) -> list[Line]:
    """Return which rows a worker is to try for, of those that are ready, the first of them first.

    Who is alone begins at the top. Of several each has rows among the first that are its own, by a hash that all of
    them reckon alike (rendezvous hashing): a view that is some seconds old is still right about them, and nobody else
    wants them. Who has none there takes any of the first, at random.
    """
    if not others:
        return list(ready[:number])
    first = ready[: 4 * (len(others) + 1) * number]
    own = [line for line in first if _owner(line, {worker, *others}) == worker][:number]
    rest = [line for line in first[: 2 * (len(others) + 1) * number] if line not in own]
    return own + random.sample(rest, min(number - len(own), len(rest)))


def _owner(line: Line, workers: set[str]) -> str:
    """Return whose row it is."""
    row = line.name or line.place
    return max(workers, key=lambda worker: hashlib.blake2b(f"{worker} {row}".encode(), digest_size=8).digest())
