"""A queue in a database of SQL: the protocol of `base`, in transactions.

What an exchange, a heartbeat or a requeue does is one transaction. It reads the rows that it is about, locked where the
database has locks of rows, decides here, and writes. So a worker that is killed between any two lines has either
done all of it or nothing, and no two have decided on the same state of a row. SQLite has one writer at a time, who
holds the lock from the transaction's first word on; PostgreSQL locks rows, and who claims passes by those that others
have locked (``FOR UPDATE SKIP LOCKED``, which its manual names as the way to have many consumers of one queue).

An exchange writes its answer down beside its ticket, in the same transaction, as services do with the keys that make a
payment safe to ask for twice. Who repeats it gets that answer. What is sent again because a connection broke is always
of this kind.

The clock is the store's: that of the database's server, or, in SQLite, that of the machine, which nobody sets.
"""

from __future__ import annotations

import json
import math
import threading
import uuid
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ..errors import Busy, InvalidInput, NotFound
from . import statements as text
from .base import (
    READY,
    RUNNING,
    STALE,
    Beat,
    Claim,
    End,
    Exchanged,
    Held,
    New,
    Probed,
    Queue,
    Row,
    Value,
    new_ticket,
    worker_name,
)
from .records import Record, mark, row_of, to_answer
from .tables import Tables
from .values import LONGEST, as_text, checked_word, clean, pack, unpack

T = TypeVar("T")


class SqlQueue(Queue):
    """A queue in a database of SQL; see the module, and `Queue` for what its methods do."""

    default_lease = 60.0
    _connection: Any = None

    def __init__(self, address: str, *, lease: float | None = None) -> None:
        super().__init__(address, lease=lease)
        self._lock = threading.RLock()

    @abstractmethod
    def in_transaction(self, work: Callable[[Tables], T], *, creates: bool = False, reads: bool = False) -> T:
        """Do what reads and writes in one transaction, and again when it came to nothing or nobody knows.

        Parameters
        ----------
        work : callable
            What to do. It has to be safe to repeat, by a ticket or by its nature.
        creates : bool, default False
            Whether the queue may be absent as yet.
        reads : bool, default False
            Whether it does nothing but read.
        """

    @abstractmethod
    def _exists(self, tables: Tables) -> bool:
        """Whether the queue is there.

        Raises
        ------
        InvalidInput
            When something else stands in its place.
        """

    @abstractmethod
    def another(self) -> SqlQueue:
        """Return the same queue with a connection of its own."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r})"

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is None:
            return
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def create(self, defaults: Mapping[str, Value] | None = None) -> None:
        packed = pack(defaults or {}, whose="the defaults")

        def work(tables: Tables) -> None:
            if self._exists(tables):
                tables.check()
                return
            for words in text.MAKE:
                tables.run(words, ())
            tables.run(text.SET_UP, (text.OURS, text.VERSION, packed))

        self.in_transaction(work, creates=True)

    def _open(self, tables: Tables) -> None:
        """Look what stands there, on a new connection.

        Raises
        ------
        NotFound
            When nothing does.
        InvalidInput
            When it is not ours, or newer.
        """
        if not self._exists(tables):
            raise self._absent()
        tables.check()

    def _absent(self) -> NotFound:
        return NotFound(f"There is no queue at {self.address} yet.", f"%queue create {self.address}")

    def add(self, runs: Sequence[New]) -> list[str]:
        packed = [_packed(new) for new in runs]
        twice = [name for name, count in Counter(new.name for new in runs if new.name).items() if count > 1]
        if twice:
            raise InvalidInput(f"The name {twice[0]!r} is there twice.", "Give each run a name of its own, or none.")

        def work(tables: Tables) -> dict[str, Any]:
            names = tables.names_for(runs)
            rows = zip(names, runs, packed, strict=True)
            tables.run(text.ADD, *((uuid.uuid4().hex, name, *_told(new), config) for name, new, config in rows))
            return {"names": names}

        return list(self._once(new_ticket(), "", work)["names"]) if runs else []

    def rows(self) -> list[Row]:
        def work(tables: Tables) -> list[Row]:
            defaults = tables.defaults()
            return [row_of(Record(*row), defaults) for row in tables.all(text.ALL)]

        return self.in_transaction(work, reads=True)

    def exchange(
        self,
        worker: str,
        *,
        ticket: str,
        ends: Sequence[End] = (),
        number: int = 0,
        own: Mapping[str, Value] | None = None,
    ) -> Exchanged:
        checked_word(worker, what="the name of a worker")
        packed = pack(own or {}, whose="the worker's own defaults")
        for end in ends:
            checked_word(end.status, what="the status of a run")
            if end.status in ("", RUNNING, STALE):
                raise InvalidInput(f"A run cannot end as {end.status!r}.", "Say done, failed or a word of your own.")

        def work(tables: Tables) -> dict[str, Any]:
            ended = self._end(tables, ends)
            found = tables.all(text.WORKER, worker)
            if not found:
                tables.run(text.ADD_WORKER, (worker,))
            stop = str(found[0][0]) if found else ""
            claims = self._claim(tables, worker, number, packed) if number > 0 and not stop else []
            return to_answer(ended, claims, stop)

        answer = self._once(ticket, worker, work)
        return Exchanged(answer["ended"], [Claim(**one) for one in answer["claims"]], answer["stop"])

    def _end(self, tables: Tables, ends: Sequence[End]) -> list[bool]:
        """Write how runs have ended; returns for each whether it stands there."""
        there = {one.uid: one for one in tables.records("uid", {end.claim.uid for end in ends})}
        told, written = [], []
        for end in ends:
            record = there.get(end.claim.uid)
            if record is None or not record.held_by(end.claim):
                told.append(record is not None and record.ended == mark(end))
                continue
            told.append(True)
            # Given back it was no attempt, and nobody's.
            worker, attempts = ("", record.attempts - 1) if end.status == READY else (record.worker, record.attempts)
            beside = (clean(end.error), mark(end), *record.reported(end.report))
            written.append((end.status, worker, attempts, *beside, record.uid))
            there[record.uid] = record._replace(status=end.status, ended=mark(end))
        tables.run(text.FINISH, *written)
        return told

    def _claim(self, tables: Tables, worker: str, number: int, own: str, stop: str = "") -> list[Claim]:
        """Claim the next rows whose `stop` is this."""
        claims: list[Claim] = []
        defaults = tables.defaults()
        while len(claims) < number and (records := tables.next(number - len(claims), stop)):
            written, spoilt = [], []
            for record in records:
                try:
                    config = record.all_values(defaults, unpack(own))
                except ValueError as error:
                    spoilt.append((f"its config is no JSON object: {clean(str(error))}", record.uid))
                    continue
                # Who wrote "ready" over an end by hand wants as many attempts as ever.
                before = 0 if record.status == READY and record.worker else record.attempts
                claim = Claim(record.uid, record.name, worker, record.epoch + 1, config, before + 1)
                written.append((worker, claim.epoch, claim.attempts, own, self.lease, record.uid))
                claims.append(claim)
            tables.run(text.CLAIM, *written)
            tables.run(text.SPOILT, *spoilt)
        return claims

    def heartbeat(self, beats: Sequence[Beat]) -> list[Held | None]:
        def work(tables: Tables) -> list[Held | None]:
            there = {one.uid: one for one in tables.records("uid", {beat.claim.uid for beat in beats})}
            defaults = tables.defaults()
            told: list[Held | None] = []
            written = []
            for beat in beats:
                record = there.get(beat.claim.uid)
                if record is None or not record.held_by(beat.claim):
                    told.append(None)
                    continue
                written.append((*record.reported(beat.report), self.lease, record.uid))
                told.append(Held(_config_now(record, defaults, beat.claim), record.stop))
            tables.run(text.BEAT, *written)
            return told

        return self.in_transaction(work) if beats else []

    def requeue(self, which: Sequence[str]) -> list[str]:
        def work(tables: Tables) -> dict[str, Any]:
            chosen = tables.chosen(which)
            if held := [one for one in chosen if one.status == RUNNING and not one.stale]:
                raise Busy(
                    f"Run {held[0].name!r} is being executed by worker {held[0].worker}.",
                    f"Wait for its end, or until nothing has been heard of it for {self.lease:g} s.",
                )
            tables.run(text.PUT_BACK, *((one.uid,) for one in chosen))
            return {"names": [one.name for one in chosen]}

        return list(self._once(new_ticket(), "", work)["names"]) if which else []

    def stop(self, which: Sequence[str], why: str = "stopped by hand") -> list[str]:
        def work(tables: Tables) -> list[str]:
            chosen = tables.chosen(which)
            tables.run(text.STOP, *((clean(why)[:LONGEST], one.uid) for one in chosen))
            return [one.name for one in chosen]

        return self.in_transaction(work)

    def stop_worker(self, worker: str, why: str = "stopped by hand") -> None:
        checked_word(worker, what="the name of a worker")

        def work(tables: Tables) -> None:
            tables.run(text.ADD_WORKER, (worker,))
            tables.run(text.STOP_WORKER, (clean(why)[:LONGEST], worker))

        self.in_transaction(work)

    def probe(self, *, clients: int = 8, rounds: int = 25) -> Probed:
        from .trial import probe

        return probe(self, clients=clients, rounds=rounds)

    def claim_trial(self, stop: str) -> list[Claim]:
        """Claim the row whose `stop` is this word; see `trial`."""
        return self.in_transaction(lambda tables: self._claim(tables, worker_name(), 1, "{}", stop))

    def _once(self, ticket: str, worker: str, work: Callable[[Tables], dict[str, Any]]) -> dict[str, Any]:
        """Do what has a ticket, or return what came of it when it has been done."""

        def first(tables: Tables) -> dict[str, Any]:
            if told := tables.all(text.TICKET, ticket):
                return dict(json.loads(told[0][0]))
            answer = work(tables)
            tables.run(text.KEEP_TICKET, (ticket, worker, as_text(answer)))
            tables.run(text.DROP_TICKETS, (worker, worker))
            return answer

        return self.in_transaction(first)


def _packed(new: New) -> str:
    """Return a new run's config as it is kept, when all of it can be.

    Raises
    ------
    InvalidInput
        Says what cannot.
    """
    called = f"run {new.name!r}" if new.name else "a run"
    checked_word(new.name, what="the name of a run")
    checked_word(new.status, what="the status of a run")
    if not math.isfinite(new.priority):
        raise InvalidInput(f"{called}: priority {new.priority} is no number to sort by.", "Give it a finite number.")
    if new.status in (RUNNING, STALE):
        raise InvalidInput(f"{called} cannot be added as {new.status!r}.", f"Write {READY!r}, or any word for a draft.")
    return pack(new.config, whose=called)


def _told(new: New) -> tuple[str, float]:
    return new.status, float(new.priority)


def _config_now(record: Record, defaults: Mapping[str, Value], claim: Claim) -> Mapping[str, Value]:
    try:
        return record.all_values(defaults)
    except ValueError:  # somebody is not done with writing it
        return claim.config
