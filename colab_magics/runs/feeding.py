"""Feeding an engine with the runs of a job, in a process of its own (`colab_magics.runs.feed`).

What a run does to its folder ends no other run: where something cannot be written, or no process be started, it waits a
moment and tries again, and what can go on goes on. It says so in ``<job>/.scheduler/log.txt`` and ``state.json``.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .. import process
from ..engines import base
from ..engines.base import Engine, Phase, Ref, Submission
from ..errors import Unavailable
from ..payloads import payload_of
from ..records.names import SCHEDULER, STATE
from ..records.run import LOCAL, Run, runs_of
from ..records.status import ENDED
from ..session import RUN_VARIABLE
from . import early, pausing, submitted
from . import workers as said_workers
from .attempts import renew
from .scheduler import CURRENT, Feed
from .sources import Source

_TICK = 0.1
_SOON = 0.01
_LONGEST_TICK = 1.0
"""Seconds until a kill is seen, where the engine is asked less often."""
_BEAT = 5.0
_PATIENCE = 1.0
"""Seconds until what could not be written or started is tried again."""


@dataclasses.dataclass
class Active:
    """A run that the engine has."""

    run: Run
    submission: Submission
    began: float
    seen: Phase | None = None
    says: str = ""
    """What was written of it last."""


class Scheduler:
    """Feeds an engine with the runs of one job until all have ended.

    Parameters
    ----------
    job_folder : Path
        ``data_job`` of the job.
    engine : Engine
        Where runs execute.
    source : Source
        What to execute.
    feed : Feed
        How to feed it.
    adopt : sequence of Run
        What an earlier scheduler has submitted.
    """

    def __init__(self, job_folder: Path, engine: Engine, source: Source, feed: Feed, adopt: Sequence[Run] = ()) -> None:
        self.job_folder = job_folder
        self.engine = engine
        self.feed = feed
        self.source = source
        self.waiting = collections.deque[Run]()
        """What was taken, or is to be tried again, and not started yet."""
        self.active: list[Active] = []
        self.sought: list[Active] = []
        """Runs of which nobody knows whether they were submitted: they have a key and no reference."""
        self.announced: dict[Path, Submission] = {}
        """Those that wait and have a key."""
        self.unsettled: list[Active] = []
        """Runs that have ended, and whose results are to come home, or of which something is still to be written."""
        self.no_more = ""
        """Why what waits is not to be started; empty while it is."""
        self.problem = self._told = self._heard = ""
        """Why something had to wait; empty when nothing does."""
        self._drained, self._told_early = False, set[str]()
        self._again = {"end": 0.0, "start": 0.0, "find": 0.0, "cancel": 0.0}
        self._asked = -float("inf")
        for run in adopt:
            # Of an earlier version, or one that was started by hand; what is no runner of that run has ended.
            submission = submitted.known(run) or Submission(run.folder, "", run.runner() or {})
            began = float((run.state() or {}).get("started") or time.time())
            (self.sought if submission.ref is None else self.active).append(Active(run, submission, began))
        self.on_trial = feed.trial is not None
        self.trial: Run | None = None
        """The run that goes alone, once there is one."""
        self.failed: list[Run] = []
        self.tries: collections.Counter[Path] = collections.Counter()
        self.started = time.time()
        self._beat = 0.0
        self._workers = said_workers.Said(job_folder / SCHEDULER)

    def run(self) -> None:
        """Work until nothing is left."""
        while self._is_left():
            self.source.tend()
            self._ask()
            self._settle()
            self._end_some()
            self._find()
            self._start_more()
            self._write_state()
            if self._is_left():
                longest = _SOON if self.source.soon else _LONGEST_TICK
                self.engine.wait(min(max(_TICK, self.engine.poll_every), longest))

    def finish(self) -> None:
        """Say that nothing is left."""
        with contextlib.suppress(OSError):  # it holds for what was left then, not for what is said later
            pausing.go(self.job_folder)
        self.engine.finish(well=all(run.status().ended_well for run in runs_of(self.job_folder)))
        self._write_state(force=True)

    def _is_left(self) -> bool:
        return bool(self.waiting or self.active or self.sought or self.unsettled) or not self.source.exhausted()

    def _waits(self, what: str, error: OSError | Unavailable) -> None:
        """Note why something cannot be done now, and say it once: a moment later it is tried again."""
        self._again[what] = time.monotonic() + _PATIENCE
        if isinstance(error, Unavailable):
            problem = error.what.rstrip(".")
        else:
            problem = f"{error.strerror or error}: {error.filename}" if error.filename else str(error.strerror or error)
        if problem != self.problem:
            self.problem = problem
            say(f"waits: {problem}")

    def _ask(self) -> None:
        """Ask the engine how the runs are doing, as often as it wishes; what they have written comes home."""
        if time.monotonic() < self._asked + self.engine.poll_every:
            return
        self._asked = time.monotonic()
        phases = self.engine.poll([one.submission for one in self.active])
        ended = [one for one, phase in zip(self.active, phases, strict=True) if phase == base.ENDED]
        for one, phase in zip(self.active, phases, strict=True):
            self._see(one, phase)
        if ended:
            self.unsettled += ended
            self.active = [one for one in self.active if one not in ended]
            self._write_current()
        if self.active:
            self.engine.fetch([one.submission for one in self.active], final=False)

    def _see(self, one: Active, phase: Phase) -> None:
        """Write down what was seen of a run, for those who read its folder; of this machine's that tells itself."""
        says = self.engine.says(one.submission)
        if one.run.engine == LOCAL or phase == base.ENDED or (phase, says) == (one.seen, one.says):
            return
        with contextlib.suppress(OSError):  # for people's eyes: the next one may find room
            submitted.note(one.run, one.submission, phase, says)
            one.seen, one.says = phase, says

    def _settle(self) -> None:
        """Bring home what has ended, and decide about it; where that cannot be written, the run waits for it."""
        if not self.unsettled or time.monotonic() < self._again["end"]:
            return
        left, self.unsettled = self.unsettled, []
        troubles = self.engine.fetch([one.submission for one in left], final=True)
        problem = ""
        for one, trouble in zip(left, troubles, strict=True):
            try:
                if trouble:
                    raise OSError(0, trouble)
                self._ended(one)
            except OSError as error:
                if one.run.folder.is_dir():
                    self.unsettled.append(one)
                    self._waits("end", error)
                    problem = self.problem
                else:
                    self._is_gone(one.run)
        self.problem = problem

    def _is_gone(self, run: Run) -> None:
        say(f"{run.id} is left out: {run.folder} is not there any more")
        self._failed(run)

    def _ended(self, one: Active) -> None:
        run = one.run
        if not run.folder.is_dir():
            self._is_gone(run)
            return
        if not submitted.is_over(run):
            # Its kernel may have outlived it, and would write beside the next attempt's.
            process.end_all_with(RUN_VARIABLE, str(run.folder))
            with contextlib.suppress(OSError):  # without room it is done by who opens it, or tries it again
                payload_of(run.record).seal(run.folder)
        submitted.judge(run, self.engine, one.submission)
        status = run.status(is_home=True)
        went_wrong = not status.ended_well and status.phase not in ("killed", "cancelled")
        if went_wrong and self.tries[run.folder] < self.feed.retries and not Run.look(run.folder).problem:
            renew(run.folder)
            fresh = Run.load(run.folder)
            self.tries[run.folder] += 1
            self.trial = fresh if self.trial == run else self.trial
            self.waiting.appendleft(fresh)
            return
        # Not before: whoever watches takes the run for ended then.
        if run.engine != LOCAL:
            submitted.note(run, one.submission, base.ENDED)
        if went_wrong:
            self._failed(run)
        else:
            self.source.settle(run, status)

    def _failed(self, run: Run) -> None:
        self.source.settle(run, run.status())
        self.failed.append(run)
        if self.feed.max_failures is not None and len(self.failed) >= self.feed.max_failures:
            self.no_more = f"{len(self.failed)} failed (max_failures={self.feed.max_failures})"

    def _end_some(self) -> None:
        """End what was killed, and have end early what cannot win."""
        # Of those that wait the first alone: the others are looked at when their turn comes, or a thousand would be
        # a thousand files to read each time.
        while self.waiting and self.waiting[0].verdict() is not None:
            self._drop()
        if time.monotonic() < self._again["cancel"]:
            return
        try:
            if killed := [one.submission for one in self.active if one.run.verdict() is not None]:
                self.engine.cancel(killed)
            for line in early.stop(self.engine, self.active, self.source.losing(), self._told_early):
                say(line)
        except (OSError, Unavailable) as error:
            self._waits("cancel", error)

    def _drop(self) -> None:
        """Let go of the first that waits: it will not be executed."""
        run = self.waiting.popleft()
        self.source.settle(run, run.status())

    def _cancel_waiting(self) -> None:
        """Cancel what waits, when a reason was found to start no more."""
        if not self.no_more:
            return
        while self.waiting:
            if (run := self.waiting[0]).verdict() is None and run.folder.is_dir():
                run.judge("cancelled", self.no_more)
            self._drop()
        for one in self.active:
            # Those that a cluster has, and that wait there; should one begin meanwhile, its runner reads this.
            if one.seen == base.QUEUED and one.run.state() is None and one.run.verdict() is None:
                one.run.judge("cancelled", self.no_more)
        self.source.cancel(self.no_more)
        self.no_more = ""

    def _start_more(self) -> None:
        if (workers := self._workers.news()) is not None and not self.engine.change_at_once(workers):
            self.feed = dataclasses.replace(self.feed, workers=workers)
        if time.monotonic() < self._again["start"]:
            return
        try:
            self._cancel_waiting()
            if pausing.is_paused(self.job_folder):
                self._take(0)  # a queue hears that there is no room
                return
            room = (1 if self._is_on_trial() else self.feed.workers) - len(self.active) - len(self.sought)
            room -= len(self.unsettled) if self.source.learns else 0
            if room > len(self.waiting):
                self._take(room - len(self.waiting))
            if room > 0 and self.waiting:
                self._submit(room)
        except (OSError, Unavailable) as error:
            self._waits("start", error)

    def _take(self, number: int) -> None:
        """Take runs from the source; one that is to be tried again already is not taken twice."""
        had = {one.run.folder for one in (*self.active, *self.sought, *self.unsettled)}
        had |= {run.folder for run in self.waiting}
        for run in self.source.take(number):
            if run.folder not in had:
                had.add(run.folder)
                self.tries.pop(run.folder, None)
                self.waiting.append(run)

    def _submit(self, room: int) -> None:
        while self.waiting and not self.waiting[0].folder.is_dir():
            self._is_gone(self.waiting.popleft())
        chosen = list(itertools.islice((run for run in self.waiting if run.verdict() is None), room))
        if not chosen:
            return
        now = time.time()
        for run in chosen:
            if run.folder not in self.announced:
                self.announced[run.folder] = submitted.announce(run)
        tried = [Active(run, self.announced[run.folder], now) for run in chosen]
        try:
            refs = self.engine.submit([one.submission for one in tried])
        except (OSError, Unavailable) as error:
            if not isinstance(error, base.NotSubmitted):  # it may have heard of them all the same
                for one in tried:
                    self.waiting.remove(one.run)
                self.sought += tried
            raise
        for one, ref in zip(tried, refs, strict=True):
            # Those without one could not be started now, and go on waiting.
            if ref is not None:
                self.waiting.remove(one.run)
                self._submitted(one, ref)
        self.problem = ""
        self._write_current()

    def _submitted(self, one: Active, ref: Ref) -> None:
        self.announced.pop(one.run.folder, None)
        one.submission = dataclasses.replace(one.submission, ref=ref)
        self.active.append(one)
        if self.on_trial and self.trial is None:
            self.trial = one.run
        with contextlib.suppress(OSError):  # whoever comes later looks for it by its key
            submitted.confirm(one.run, one.submission, ref)

    def _find(self) -> None:
        """Look for the runs of which nobody knows whether they were submitted."""
        if not self.sought or time.monotonic() < self._again["find"]:
            return
        try:
            refs = self.engine.find([one.submission for one in self.sought])
        except (OSError, Unavailable) as error:
            self._waits("find", error)
            return
        sought, self.sought = self.sought, []
        for one, ref in reversed(list(zip(sought, refs, strict=True))):
            if ref is None:
                self.waiting.appendleft(one.run)
            else:
                self._submitted(one, ref)

    def _is_on_trial(self) -> bool:
        """Whether the first run still has to show that the others are worth starting."""
        if self.trial is None or self.feed.trial is None:
            return self.on_trial
        status = self.trial.status()
        lived = status.phase == "running" and time.time() - (status.started or time.time()) >= self.feed.trial
        if status.ended_well or lived:
            self.trial, self.on_trial = None, False
        left = [*self.waiting, *(one.run for one in (*self.unsettled, *self.sought))]
        if self.trial is not None and status.phase in ENDED and not any(run == self.trial for run in left):
            self.no_more = f"{self.trial.id} did not end well (--try)"
            self._cancel_waiting()
        return self.on_trial

    def _write_current(self) -> None:
        """Write ``current_sub_job_is.txt``: the index first, for notebooks and people that read it."""
        if not self.active:
            return
        last = self.active[-1]
        lines = [f"{last.run.i_sub_job}", f"sub-job started {_clock(last.began)}"]
        lines += [f"group started {_clock(self.started)}"]
        lines += [f"running: {one.run.i_sub_job} since {_clock(one.began)}" for one in self.active]
        # For people's eyes: the next one may find room.
        with contextlib.suppress(OSError):
            process.write_whole(self.job_folder / CURRENT, "\n".join(lines) + "\n", durable=False)

    def _write_state(self, *, force: bool = False) -> None:
        if self.source.problem != self._heard:
            self._heard = self.source.problem
            say(f"{self._heard}; runs go on, and it is asked again" if self._heard else "the queue answers again")
            force = True
        force = force or self.source.drained != self._drained
        if force or self.problem != self._told or time.monotonic() - self._beat > _BEAT:
            self._beat, self._told, self._drained = time.monotonic(), self.problem, self.source.drained
            state = {
                "process": process.identity(),
                "started": self.started,
                "beat": time.time(),
                "phase": "running" if self._is_left() else "ended",
                "workers": self.feed.workers,
                "active": [{"index": one.run.index, "ref": one.submission.ref} for one in self.active],
                "problem": self.problem,
                "source": self.source.problem,
                "drained": self.source.drained,
                "note": self.source.note,
            }
            with contextlib.suppress(OSError):
                process.write_json(self.job_folder / SCHEDULER / STATE, state, durable=False)


def say(text: str) -> None:
    """Write a line to the scheduler's log, where that finds room; not through a buffer that keeps what does not."""
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), f"{_clock(time.time())}  {text}\n".encode())


def _clock(stamp: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stamp))
