"""The process that talks with a queue for a scheduler: claims, ends and heartbeats, on whatever network.

It is forked from the scheduler before that does anything else, and ends with it. So no reply that is waited for keeps
runs from being started or seen to end, no claim is lost because an engine is waited for, and what the queue's packages
start in their process is in no run's. The two speak over a pipe: the scheduler says `Word`s, and hears `News`.

Before anything is asked for, its ticket is written down: whoever schedules next asks again with that, and gets what a
scheduler has won that was killed before it knew.
"""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import threading
import time
import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ... import process
from ...errors import ColabMagicsError
from ...queues import open_queue
from ...queues.addresses import blotted, shown
from ...queues.base import Beat, Claim, End, Exchanged, Held, Queue, Report, new_ticket
from ...records import metrics, schema
from ...records.names import EXCHANGE, RECORD
from .table import Table

SECRET = "secret:"
_MOMENT = 0.05
"""So long an end waits for the wish for another run, which comes right behind it: both go in one exchange."""
_LONGEST = 1.0
"""Seconds after which this process looks whether its scheduler lives."""


@dataclass(frozen=True)
class Want:
    """A scheduler has room for so many runs; `seen` is how many claims it has heard of when it says so."""

    number: int
    seen: int


@dataclass(frozen=True)
class Hold:
    """A run is to be kept alive in the queue: its folder tells how it does, once it has one."""

    claim: Claim
    folder: Path | None = None


@dataclass(frozen=True)
class News:
    """What a scheduler hears of its queue."""

    claims: list[Claim] = field(default_factory=list)
    """What was won."""
    held: list[tuple[Claim, Held | None]] = field(default_factory=list)
    """What is still this worker's, and what is not."""
    told: list[tuple[End, bool]] = field(default_factory=list)
    """Which ends the queue knows, and whether they counted."""
    empty: bool | None = None
    """Whether nothing was left to claim."""
    stop: str = ""
    """Why this worker is to claim no more."""
    trouble: str | None = None
    """Why the queue cannot be asked now; empty when it can be again."""


@dataclass(frozen=True)
class Orders:
    """What an attending process begins with.

    Parameters
    ----------
    table : Table
        The queue.
    worker : str
        The name by which runs are claimed.
    folder : Path
        The scheduler's.
    again : mapping, optional
        What an earlier scheduler has asked for last, as `EXCHANGE` has it.
    known : collection of (str, int)
        The uid and epoch of each claim of which there is a folder.
    """

    table: Table
    worker: str
    folder: Path
    again: Mapping[str, Any] | None = None
    known: Collection[tuple[str, int]] = ()


@dataclass
class _Asked:
    """An exchange, to be repeated until there is a reply."""

    ends: list[End]
    number: int
    worker: str
    ticket: str = field(default_factory=new_ticket)
    repeated: bool = False


class Attendant:
    """Talks with a queue; see the module.

    Parameters
    ----------
    orders : Orders
        What to do.
    pipe : Connection
        To the scheduler.
    """

    def __init__(self, orders: Orders, pipe: Connection) -> None:
        self.orders, self.pipe = orders, pipe
        self.words = queue.SimpleQueue[Want | End | Hold | None]()
        """What the scheduler has said; None when it is gone."""
        self.queue: Queue = open_queue(orders.table.address)
        self.signed_in = False
        self.held: dict[str, Hold] = {}
        self.ends = collections.deque[End]()
        self.wanted = self.sent = 0
        self.asked: _Asked | None = None
        if (again := orders.again) is not None:
            self.asked = _Asked([], again.get("number", 1), again["worker"], again["ticket"], repeated=True)
        self.idle = False
        """Whether there was nothing to claim, and nothing has changed since."""
        self.trouble, self.pause = "", 0.0
        self.beat_at, self.ask_at = time.monotonic(), 0.0

    def run(self) -> None:
        """Work until the scheduler is gone."""
        parent = os.getppid()
        # A scheduler never waits until it is heard: a thread hears it while the queue is waited for.
        threading.Thread(target=self._listen, name="listening", daemon=True).start()
        while os.getppid() == parent and self._heard(self._until_next()):
            try:
                now = time.monotonic()
                if self.held and now >= self.beat_at:
                    self._try(self._beat)
                if self._is_to_ask() and now >= self.ask_at:
                    self._try(self._exchange)
            except (BrokenPipeError, ConnectionResetError):
                break
        self.queue.close()

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self.words.put(self.pipe.recv())
        self.words.put(None)

    def _heard(self, patience: float) -> bool:
        """Take up what the scheduler says within so many seconds; return whether it is still there."""
        with contextlib.suppress(queue.Empty):
            word = self.words.get(timeout=patience) if patience else self.words.get_nowait()
            while word is not None:
                self._hear(word)
                word = self.words.get_nowait()
            return False
        return True

    def _until_next(self) -> float:
        moments = [self.beat_at] if self.held else []
        moments += [self.ask_at] if self._is_to_ask() else []
        return max(0.0, min(_LONGEST, min(moments, default=_LONGEST + time.monotonic()) - time.monotonic()))

    def _is_to_ask(self) -> bool:
        return self.asked is not None or bool(self.ends) or (self.wanted > 0 and not self.idle)

    def _hear(self, word: Want | End | Hold) -> None:
        now = time.monotonic()
        if isinstance(word, Want):
            wanted = max(0, word.number - (self.sent - word.seen))
            if wanted > self.wanted and not self.orders.table.watch:
                self.idle = False
            self.wanted = wanted
            if self.ends and not self.trouble:
                self.ask_at = min(self.ask_at, now)  # nothing more comes with them
        elif isinstance(word, Hold):
            had = self.held.get(word.claim.uid)
            self.held[word.claim.uid] = word
            if had is None or had.claim.epoch != word.claim.epoch:  # it is an earlier scheduler's
                self.beat_at = min(self.beat_at, now)
        else:
            held = self.held.get(word.claim.uid)
            if held is not None and held.claim.epoch == word.claim.epoch:
                del self.held[word.claim.uid]
            self.ends.append(word)
            self.idle = False
            if not self.trouble:
                self.ask_at = now + _MOMENT

    def _try(self, work: Any) -> None:
        """Do something with the queue; where that cannot be now, say why, once, and have it tried again."""
        problem = ""
        try:
            if not self.signed_in:
                sign_in(self.queue, self.orders.table)
                self.signed_in = True
            work()
        except ColabMagicsError as error:
            problem = error.what.rstrip(".")
        except (BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:  # noqa: BLE001 - a driver's own; the runs go on whatever it is
            traceback.print_exc()
            problem = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        if problem:
            self.pause = min(max(1.0, 2 * self.pause), self.queue.beat)
            self.ask_at = time.monotonic() + self.pause
            self.beat_at = max(self.beat_at, self.ask_at)
        elif self.trouble:
            self.pause = 0.0
        if problem != self.trouble:
            self.trouble = problem
            where = shown(self.orders.table.address)
            told = (
                f"the queue {where} does not answer ({blotted(problem, self.orders.table.address)})" if problem else ""
            )
            self.pipe.send(News(trouble=told))

    def _beat(self) -> None:
        held = list(self.held.values())
        beats = [Beat(one.claim, report_of(one.folder) if one.folder is not None else Report()) for one in held]
        answers = self.queue.heartbeat(beats)
        self.beat_at = time.monotonic() + self.queue.beat
        for one, answer in zip(held, answers, strict=True):
            if answer is None:
                self.held.pop(one.claim.uid, None)
        self.pipe.send(News(held=[(one.claim, answer) for one, answer in zip(held, answers, strict=True)]))

    def _exchange(self) -> None:
        if self.asked is None:
            self.asked = _Asked(list(self.ends), self.wanted, self.orders.worker)
        asked = self.asked
        if not asked.repeated:
            self._note(asked)
        reply = self.queue.exchange(asked.worker, ticket=asked.ticket, ends=asked.ends, number=asked.number)
        if asked.repeated:
            reply = Exchanged([], self._still_ours(reply.claims))  # what it was told was for that one
        self.asked = None
        for _ in asked.ends:
            self.ends.popleft()
        told = list(zip(asked.ends, reply.ended, strict=True))
        self.sent += len(reply.claims)
        if not self.held:
            self.beat_at = time.monotonic() + self.queue.beat
        self.held |= {claim.uid: Hold(claim) for claim in reply.claims}
        self.wanted = max(0, self.wanted - len(reply.claims))
        empty = None if asked.repeated or not asked.number else len(reply.claims) < asked.number
        self._when_next(empty=bool(empty))
        self.pipe.send(News(reply.claims, told=told, empty=empty, stop=reply.stop))

    def _when_next(self, *, empty: bool) -> None:
        """Wait where nothing was left: longer each time, but no longer than a heartbeat."""
        self.idle = empty and not self.orders.table.watch
        self.pause = min(max(1.0, 1.5 * self.pause), self.queue.beat) if empty else 0.0
        self.ask_at = time.monotonic() + (self.pause if empty and self.orders.table.watch else 0.0)

    def _still_ours(self, claims: list[Claim]) -> list[Claim]:
        """Leave out those that have a folder, and those that were lost meanwhile."""
        fresh = [claim for claim in claims if (claim.uid, claim.epoch) not in self.orders.known]
        if not fresh:
            return []
        answers = self.queue.heartbeat([Beat(claim) for claim in fresh])
        return [claim for claim, answer in zip(fresh, answers, strict=True) if answer is not None]

    def _note(self, asked: _Asked) -> None:
        said: dict[str, Any] = {
            "queue": shown(self.orders.table.address),
            "worker": asked.worker,
            "ticket": asked.ticket,
        }
        said |= {"number": asked.number, "boot": process.boot_id()}
        # Without room for it a kill in the next moment leaves claims to their leases.
        with contextlib.suppress(OSError):
            process.write_json(self.orders.folder / EXCHANGE, said, durable=False)


def sign_in(queue: Queue, table: Table) -> None:
    """Say who asks, where nobody can be asked any more: what its user has consented to, or a key that came along."""
    if table.secret:
        os.environ[table.credentials.removeprefix(SECRET)] = table.secret
    queue.sign_in("", table.credentials)


def report_of(folder: Path) -> Report:
    """Return what there is to tell of a run, by what it has reported and by its record."""
    record = schema.read_or_nothing(folder / RECORD, schema.Record)
    lines = [line for line in metrics.recent(folder) if line.attempt == record.get("attempt", 1)]
    numbers = {name: metrics.as_number(value) for name, value in metrics.compared(lines).items()}
    steps = [line for line in lines if line.step is not None]
    text = ""
    if steps:
        total = steps[-1].total
        text = f"{steps[-1].step:.12g} / {total}" if total is not None else f"step {steps[-1].step:.12g}"
    found = {name: value for name, value in numbers.items() if value is not None and name != metrics.STEP}
    return Report(text, str(folder), str(record.get("commit") or ""), found)


def start(orders: Orders, theirs: Connection, close: Collection[int]) -> int:
    """Fork the process; returns its id. `close` are open files that it must not keep."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        process.expect(pid)
        return pid
    status = 1
    try:
        for fd in close:
            with contextlib.suppress(OSError):
                os.close(fd)
        if os.getppid() == parent:
            Attendant(orders, theirs).run()
        status = 0
    except BaseException:  # noqa: BLE001 - it ends in the scheduler's log, and the scheduler starts another
        traceback.print_exc()
    finally:
        os._exit(status)
