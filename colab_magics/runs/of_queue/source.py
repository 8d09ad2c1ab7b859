"""Runs that a scheduler takes from a queue: each claim becomes a run's folder, and each end goes back into the table.

What the runs execute stands in ``<job>/.scheduler/of_queue``, as the line has left it, and is written into the folder
of each. `attending` talks with the queue.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import multiprocessing
import shutil
import time
from collections.abc import Collection, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ... import process
from ...errors import ColabMagicsError, NotFound
from ...payloads.checks import Uses, what_is_unused
from ...queues.addresses import shown
from ...queues.base import DONE, FAILED, READY, Claim, End, Held, Report, Value, worker_name
from ...queues.values import changed
from ...records import schema
from ...records.names import DRAIN, EXCHANGE, QUEUED, RECORD, SCHEDULER, number_of
from ...records.run import GONE, Run, ended_attempts
from ...records.status import Status
from .. import attempts
from ..feeding import say
from ..grid import plain_value, why_no_parameter
from ..sources import Source
from . import attending, claims
from .attending import Hold, News, Orders, Want
from .claims import KILLED, STOPPED
from .table import Table

_PATIENCE = 600.0
"""Seconds for which ends wait for a queue that is away when nothing else is left; the next scheduler tells them."""
_SOON = 0.5
"""Seconds within which an answer is looked for all the time."""
_AGAIN = 1.0
"""Seconds until the attending process is started anew that has died."""


class Queued(Source):
    """The runs of a queue; see the module.

    Parameters
    ----------
    job_folder : Path
        ``data_job`` of the job.
    table : Table
        The queue.
    adopt : collection of Path
        Folders of runs that the scheduler has from an earlier one, and that go on.
    close : collection of int
        Open files that the attending process must not keep.
    """

    def __init__(
        self, job_folder: Path, table: Table, adopt: Collection[Path] = (), close: Collection[int] = ()
    ) -> None:
        self._job_folder, self._scheduler = job_folder, job_folder / SCHEDULER
        self._table, self._close, self._name = table, close, shown(table.address)
        self._template = schema.read_or_nothing(self._scheduler / QUEUED / RECORD, schema.Record)
        self._uses = Uses.read(self._template.get("uses") or {})
        self._held: dict[Path, Claim] = {}
        """Runs that the scheduler has, and those that wait for it."""
        self._again: dict[Path, Run] = {}
        """Runs of an earlier scheduler that wait for the word that they are still held here."""
        self._claimed = collections.deque[Claim]()
        self._ready = collections.deque[Run]()
        self._untold: dict[Path, End] = {}
        self._lost: set[Path] = set()
        self._seen = self._said = 0
        self._empty = False
        self._stop = self._drain = ""
        self._why: dict[Path, str] = {}
        """Why runs were ended, by what stands in the table."""
        self.problem = ""
        self._alone_since = self._died = self._spoke = 0.0
        self._worker, again, known = self._before(adopt)
        self._pipe = self._attend(again, known)
        for folder, claim in self._held.items():
            self._say(Hold(claim, folder))
        for end in self._untold.values():
            self._say(end)

    def _before(self, adopt: Collection[Path]) -> tuple[str, Mapping[str, Any] | None, set[tuple[str, int]]]:
        """Take up what an earlier scheduler has left; returns the worker's name, what it asked last, what it got."""
        known = set()
        for run in claims.runs(self._job_folder, self._name):
            said = claims.read(run.folder, self._name) or {}
            known.add((said.get("uid", ""), said.get("epoch", 0)))
        for run, claim, fresh in claims.held(self._job_folder, self._name):
            status = run.status()
            if run.folder in adopt:
                self._held[run.folder] = claim
            elif status.phase in ("done", "failed", "killed", "cancelled"):
                self._untold[run.folder] = self._end_of(run, status, claim)
            elif status.phase == "interrupted" or (fresh and status.phase == "waiting"):
                self._held[run.folder], self._again[run.folder] = claim, run
        asked = schema.read_or_nothing(self._scheduler / EXCHANGE, schema.Asked)
        mine = asked.get("queue") == self._name and asked.get("boot") == process.boot_id()
        # Another name: somebody may have told the one before to claim no more.
        return worker_name(), asked if mine else None, known

    def _attend(self, again: Mapping[str, Any] | None, known: set[tuple[str, int]]) -> Connection:
        ours, theirs = multiprocessing.Pipe()
        orders = Orders(self._table, self._worker, self._scheduler, again, known)
        attending.start(orders, theirs, [ours.fileno(), *self._close])
        theirs.close()
        self._seen = self._said = 0
        return ours

    def _say(self, word: Want | End | Hold) -> None:
        self.soon, self._spoke = self.soon or not isinstance(word, Hold), time.monotonic()
        try:
            self._pipe.send(word)
        except OSError:
            self._died = self._died or time.monotonic()

    def tend(self) -> None:
        """Hear what the queue has said meanwhile."""
        while (news := self._news()) is not None:
            self.soon = False
            self._hear(news)
        self.soon = self.soon and time.monotonic() < self._spoke + _SOON
        for folder, why in list(self._why.items()):
            # On a full disk it is tried again.
            with contextlib.suppress(OSError):
                if folder in self._held and (run := Run.look(folder)).verdict() is None:
                    run.judge("killed", why)
        if self._died and time.monotonic() > self._died + _AGAIN:
            self._attend_anew()
        if not self._drain:
            self._drain = schema.read_or_nothing(self._scheduler / DRAIN, schema.Scheduler).get("note", "")
            if self._drain:
                self.drained = True
                self._give_back()

    def _news(self) -> News | None:
        try:
            found: News | None = self._pipe.recv() if not self._died and self._pipe.poll(0) else None
        except (EOFError, OSError):
            self._died = time.monotonic()
            return None
        return found

    def _attend_anew(self) -> None:
        """Start another attending process, and tell it all: the one before was killed."""
        self._pipe.close()
        asked = schema.read_or_nothing(self._scheduler / EXCHANGE, schema.Asked)
        claimed = {(claim.uid, claim.epoch) for claim in (*self._held.values(), *self._claimed)}
        known = {(said["uid"], said["epoch"]) for run in claims.runs(self._job_folder, self._name)
                 if (said := claims.read(run.folder))}  # fmt: skip
        self._died = 0.0
        self._pipe = self._attend(asked or None, known | claimed)
        for folder, claim in self._held.items():
            self._say(Hold(claim, folder))
        for end in self._untold.values():
            self._say(end)

    def _hear(self, news: News) -> None:
        self._seen += len(news.claims)
        self._said = max(0, self._said - len(news.claims))
        self._claimed += news.claims
        for claim, held in news.held:
            self._is_held(claim, held)
        for end, counted in news.told:
            self._told(end, counted=counted)
        if news.empty is not None:
            self._empty = news.empty
        if news.stop and not self._stop:
            self._stop = news.stop
            self.note = f"This worker ({self._worker}) was told to claim no more: {news.stop}"
            say(self.note)
        if news.trouble is not None:
            self.problem = news.trouble
        if self._drain or self._stop:
            self._give_back()

    def _is_held(self, claim: Claim, held: Held | None) -> None:
        """Note whether a run is still this worker's, and end it where it is not, or is to end."""
        folder = next((one for one, mine in self._held.items() if _same(mine, claim)), None)
        if folder is None:
            if held is None:
                self._claimed = collections.deque(one for one in self._claimed if not _same(one, claim))
        elif folder in self._again:
            self._goes_on(folder, claim, held is not None, held.stop if held is not None else "")
        elif held is None:
            self._lost.add(folder)
            self._why.setdefault(folder, "its lease was over, and the run is not this worker's any more")
        else:
            self._edited(folder, held.config)
            if held.stop:
                self._why.setdefault(folder, held.stop)

    def _edited(self, folder: Path, config: Mapping[str, Value]) -> None:
        """Write down what people have changed in a run's row; its own code asks for that."""
        if changed(self._held[folder].config, config):
            edited = dataclasses.replace(self._held[folder], config=config)
            with contextlib.suppress(OSError):  # on a full disk it is tried again with the next heartbeat
                claims.write(folder, self._name, edited)
                self._held[folder] = edited

    def _goes_on(self, folder: Path, claim: Claim, ours: bool, stop: str) -> None:
        """Have a run of an earlier scheduler executed, where it is still this worker's and is to be."""
        run = self._again.pop(folder)
        try:
            if ours and not stop and folder.is_dir():
                if run.status().phase != "waiting":
                    attempts.renew(folder)
                self._ready.append(Run.load(folder))
                return
            if run.verdict() is None and folder.is_dir():
                run.judge("superseded", stop or "its lease was over")
            if not ours and folder.is_dir():
                claims.write(folder, self._name, claim, over=True)
        except (OSError, NotFound) as error:
            # On a full disk it is looked at again with the next heartbeat.
            say(f"{folder.name} waits: {error}")
            self._again[folder] = run
            return
        del self._held[folder]
        if ours:
            self._send(folder, End(claim, STOPPED, stop) if stop else End(claim, READY))

    def _told(self, end: End, *, counted: bool) -> None:
        folder = next((one for one, mine in self._untold.items() if _same(mine.claim, end.claim)), None)
        if folder is None:
            return
        del self._untold[folder]
        if folder.is_dir() and folder not in self._held:
            with contextlib.suppress(OSError):  # without room it is told again, which changes nothing
                claims.write(folder, self._name, end.claim, over=True)
        if not counted and end.status != READY:
            say(f"{folder.name}: its end came too late for the queue, which has given the run to somebody else")

    def take(self, number: int) -> list[Run]:
        """Return what was claimed, at most so many; ask for as many as are missing."""
        self.tend()
        taken: list[Run] = []
        while self._ready and len(taken) < number:
            taken.append(self._ready.popleft())
        while self._claimed and len(taken) < number and not self._is_over:
            claim = self._claimed[0]
            if folder := next((one for one, mine in self._held.items() if mine.uid == claim.uid), None):
                if folder in self._lost or not self._renew(folder, claim):
                    break  # what goes on there was somebody else's meanwhile, and ends first
                continue
            run = self._make(claim)
            self._claimed.popleft()
            if run is not None:
                self._held[run.folder] = claim
                self._why.pop(run.folder, None)
                self._say(Hold(claim, run.folder))
                taken.append(run)
        self._ask_for(number - len(taken) - len(self._claimed) - len(self._again))
        return taken

    def _renew(self, folder: Path, claim: Claim) -> bool:
        """Hold a run anew that goes on here, whose lease was over, and which nobody else has had."""
        if Run.look(folder).verdict() is not None:
            return False
        claims.write(folder, self._name, claim)
        self._claimed.popleft()
        self._held[folder] = claim
        self._say(Hold(claim, folder))
        return True

    def _ask_for(self, missing: int) -> None:
        """Say for how many runs there is room, when that is something new."""
        missing = 0 if self._is_over else max(0, missing)
        if missing != self._said and (self._table.watch or not self._empty):
            self._said = missing
            self._say(Want(missing, self._seen))

    @property
    def _is_over(self) -> bool:
        return bool(self._drain or self._stop)

    def _make(self, claim: Claim) -> Run | None:
        """Write the folder of a run; None for one that cannot be executed, and is told to have failed."""
        try:
            folder = claims.folder_of(self._job_folder, self._name, claim)
            parameters = self._parameters(claim)
        except ColabMagicsError as problem:
            folder = self._job_folder / f".{claim.uid}.{claim.epoch}"  # none that is made
            self._untold[folder] = End(claim, FAILED, str(problem))
            self._say(self._untold[folder])
            return None
        folder.mkdir(parents=True, exist_ok=True)
        before, attempt = ended_attempts(folder), attempts.next_attempt(folder)
        claims.write(folder, self._name, claim)
        index = number_of(folder.name)
        own: dict[str, Any] = {
            "index": index,
            "name": claim.name,
            "i_sub_job": index,
            "repeat": 0,
            "parameters": parameters,
        }
        own |= {"attempt": attempt, "attempts": before, "submitted": time.time()}
        common = {name: value for name, value in self._template.items() if name not in ("uses", "unused")}
        for file in sorted((self._scheduler / QUEUED).iterdir()):
            if file.name != RECORD:
                shutil.copyfile(file, folder / file.name)
        process.write_json(folder / RECORD, {**common, **own})
        return Run.load(folder)

    def _parameters(self, claim: Claim) -> dict[str, Any]:
        used, unused = self._uses.without_unused(claim.config)
        for why in (self._uses.refusal(used), *map(why_no_parameter, used)):
            if why is not None:
                raise why
        if new := [name for name in unused if name not in self._template.get("unused", ())]:
            self.note = self.note or what_is_unused(new).rstrip(".")
        named = {name: value for name, value in claim.config.items() if why_no_parameter(name) is None}
        return {name: plain_value(value, name) for name, value in named.items()}

    def settle(self, run: Run, status: Status) -> None:
        """Tell the queue how a run has ended."""
        claim = self._held.pop(run.folder, None)
        if claim is None:
            return
        if run.folder in self._lost:
            self._lost.discard(run.folder)
            claims.write(run.folder, self._name, claim, over=True)
            return
        self._send(run.folder, self._end_of(run, status, claim))

    def _send(self, folder: Path, end: End) -> None:
        self._untold[folder] = end
        self._empty = False
        self._say(end)

    def _end_of(self, run: Run, status: Status, claim: Claim) -> End:
        report = attending.report_of(run.folder) if run.folder.is_dir() else Report()
        if status.ended_well:
            return End(claim, DONE, report=report)
        never = status.started is None
        if never and (status.phase == "cancelled" or self._is_over):
            return End(claim, READY)
        if status.phase == "killed":
            why = self._why.get(run.folder, "")
            return End(claim, STOPPED if why else KILLED, why or status.text, report)
        return End(claim, FAILED, _why(run, status), report)

    def exhausted(self) -> bool:
        """Whether nothing is left, as far as the queue says, and it knows all ends."""
        self.tend()
        over = self._is_over or (self._empty and not self._table.watch)
        if not over or self._ready or self._again or (self._claimed and not self._is_over):
            self._alone_since = 0.0
            return False
        if not self._untold:
            return True
        # Their folders hold the results, and the next scheduler tells of them.
        self._alone_since = self._alone_since or time.monotonic()
        return bool(self.problem) and time.monotonic() > self._alone_since + _PATIENCE

    def cancel(self, reason: str) -> None:
        """Claim no more, and give back what was claimed and not taken."""
        self._drain = self._drain or reason
        self._give_back()

    def _give_back(self) -> None:
        """Give back what was claimed and has not begun."""
        self._said = 0
        self._say(Want(0, self._seen))
        while self._claimed:
            claim = self._claimed.popleft()
            folder = self._job_folder / f".{claim.uid}.{claim.epoch}"
            self._untold[folder] = End(claim, READY)
            self._say(self._untold[folder])
        while self._ready:
            run = self._ready.popleft()
            with contextlib.suppress(OSError):  # without room it shows as waiting, and the queue knows better
                if run.verdict() is None:
                    run.judge("cancelled", self._drain or self._stop)
            self.settle(run, run.status())


def _same(one: Claim, other: Claim) -> bool:
    return (one.uid, one.epoch) == (other.uid, other.epoch)


def _why(run: Run, status: Status) -> str:
    if not run.folder.is_dir():
        return GONE
    error = status.error or {}
    said = ": ".join(str(part) for part in (error.get("ename"), error.get("evalue")) if part)
    where = status.text.partition(":")[0] if error else status.text
    return f"{said} ({where})" if said else (where or status.phase)
