"""The detached process that feeds an engine: ``python -P -m colab_magics.runs.feeding JOB_FOLDER LOCK_FD``.

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
from ..engines import ENGINES, forking
from ..engines.base import Engine, Ref
from ..errors import ColabMagicsError
from ..payloads import payload_of
from ..records.names import PLAN, SCHEDULER, STATE
from ..records.run import ENDED, Run, runs_of
from ..session import RUN_VARIABLE
from . import workers as said_workers
from .attempts import renew
from .runner import Runner
from .scheduler import CURRENT, Feed, judge, last_plan
from .sources import Planned, Source

_TICK = 0.1
_BEAT = 5.0
_PATIENCE = 1.0
"""Seconds until what could not be written or started is tried again."""


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
        What is being executed already.
    """

    def __init__(self, job_folder: Path, engine: Engine, source: Source, feed: Feed, adopt: Sequence[Run] = ()) -> None:
        self.job_folder = job_folder
        self.engine = engine
        self.feed = feed
        self.source = source
        self.waiting = collections.deque[Run]()
        """What was taken, or is to be tried again, and not started yet."""
        self.active: list[tuple[Run, Ref, float]] = []
        self.unsettled: list[tuple[Run, Ref]] = []
        """Runs that have ended, and of which something is still to be written."""
        self.no_more = ""
        """Why what waits is not to be started; empty while it is."""
        self.problem = ""
        """Why something had to wait; empty when nothing does."""
        self._again = {"end": 0.0, "start": 0.0}
        for run in adopt:
            # What is no runner of that run has ended.
            self.active.append((run, run.runner() or {}, float((run.state() or {}).get("started") or time.time())))
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
            self._collect_ended()
            self._settle()
            self._cancel_killed()
            self._start_more()
            self._write_state()
            if self._is_left():
                self.engine.wait(_TICK)
        self.engine.finish(well=all(run.status().ended_well for run in runs_of(self.job_folder)))
        self._write_state(force=True)

    def _is_left(self) -> bool:
        return bool(self.waiting or self.active or self.unsettled) or not self.source.exhausted()

    def _waits(self, what: str, error: OSError) -> None:
        """Note why something cannot be done now, and say it once: a moment later it is tried again."""
        self._again[what] = time.monotonic() + _PATIENCE
        problem = f"{error.strerror or error}: {error.filename}" if error.filename else str(error.strerror or error)
        if problem != self.problem:
            self.problem, self._beat = problem, 0.0
            _say(f"waits: {problem}")

    def _collect_ended(self) -> None:
        alive = self.engine.poll([ref for _, ref, _ in self.active])
        still = []
        for (run, ref, began), here in zip(self.active, alive, strict=True):
            if here:
                still.append((run, ref, began))
            else:
                self.engine.collect([run.folder])
                self.unsettled.append((run, ref))
        if len(still) != len(self.active):
            self.active = still
            self._write_current()

    def _settle(self) -> None:
        """Decide about runs that have ended; where that cannot be written, the run waits for it."""
        if not self.unsettled or time.monotonic() < self._again["end"]:
            return
        left, self.unsettled = self.unsettled, []
        for number, (run, ref) in enumerate(left):
            try:
                self._ended(run, ref)
            except OSError as error:
                if run.folder.is_dir():
                    self.unsettled += left[number:]
                    self._waits("end", error)
                    return
                self._is_gone(run)
        self.problem = ""

    def _is_gone(self, run: Run) -> None:
        _say(f"{run.id} is left out: {run.folder} is not there any more")
        self._failed(run)

    def _ended(self, run: Run, ref: Ref) -> None:
        if not run.folder.is_dir():
            self._is_gone(run)
            return
        state = run.state()
        if state is None or state.get("phase") not in ENDED:
            # Its kernel may have outlived it, and would write beside the next attempt's.
            process.end_all_with(RUN_VARIABLE, str(run.folder))
            payload_of(run.record).seal(run.folder)
            if run.verdict() is None:
                judge(run, "lost", self.engine.log(ref))
        status = run.status()
        if status.ended_well or status.phase == "killed":
            self.source.settle(run, status)
            return
        if self.tries[run.folder] < self.feed.retries and not Run.look(run.folder).problem:
            renew(run.folder)
            fresh = Run.load(run.folder)
            self.tries[run.folder] += 1
            self.trial = fresh if self.trial == run else self.trial
            self.waiting.appendleft(fresh)
            return
        self._failed(run)

    def _failed(self, run: Run) -> None:
        self.source.settle(run, run.status())
        self.failed.append(run)
        if self.feed.max_failures is not None and len(self.failed) >= self.feed.max_failures:
            self.no_more = f"{len(self.failed)} failed (max_failures={self.feed.max_failures})"

    def _cancel_killed(self) -> None:
        self.engine.cancel([ref for run, ref, _ in self.active if run.verdict() is not None])
        # Of those that wait the first alone: the others are looked at when their turn comes, or a thousand would be
        # a thousand files to read each time.
        while self.waiting and self.waiting[0].verdict() is not None:
            self.waiting.popleft()

    def _cancel_waiting(self) -> None:
        """Cancel what waits, when a reason was found to start no more."""
        if not self.no_more:
            return
        while self.waiting:
            if (run := self.waiting[0]).verdict() is None and run.folder.is_dir():
                judge(run, "cancelled", self.no_more)
            self.waiting.popleft()
        self.source.cancel(self.no_more)
        self.no_more = ""

    def _start_more(self) -> None:
        if (workers := self._workers.news()) is not None:
            self.feed = dataclasses.replace(self.feed, workers=workers)
        if time.monotonic() < self._again["start"]:
            return
        try:
            self._cancel_waiting()
            room = (1 if self._is_on_trial() else self.feed.workers) - len(self.active)
            if room > len(self.waiting):
                self.waiting += self.source.take(room - len(self.waiting))
            if room > 0 and self.waiting:
                self._submit(room)
        except OSError as error:
            self._waits("start", error)

    def _submit(self, room: int) -> None:
        while self.waiting and not self.waiting[0].folder.is_dir():
            self._is_gone(self.waiting.popleft())
        next_ones = list(itertools.islice((run for run in self.waiting if run.verdict() is None), room))
        ready = set(self.engine.ready([run.folder for run in next_ones]))
        chosen = [run for run in next_ones if run.folder in ready]
        if not chosen:
            return
        refs = self.engine.submit([run.folder for run in chosen])
        # Fewer than asked for: the others could not be started now, and go on waiting.
        started, now = chosen[: len(refs)], time.time()
        for run in started:
            self.waiting.remove(run)
        if self.on_trial and started:
            self.trial = started[0]
        self.active += [(run, ref, now) for run, ref in zip(started, refs, strict=True)]
        self.problem = ""
        self._write_current()

    def _is_on_trial(self) -> bool:
        """Whether the first run still has to show that the others are worth starting."""
        if self.trial is None or self.feed.trial is None:
            return self.on_trial
        status = self.trial.status()
        lived = status.phase == "running" and time.time() - (status.started or time.time()) >= self.feed.trial
        if status.ended_well or lived:
            self.trial, self.on_trial = None, False
        left = [*self.waiting, *(run for run, _ in self.unsettled)]
        if self.trial is not None and status.phase in ENDED and not any(run == self.trial for run in left):
            self.no_more = f"{self.trial.id} did not end well (--try)"
            self._cancel_waiting()
        return self.on_trial

    def _write_current(self) -> None:
        """Write ``current_sub_job_is.txt``: the index first, for notebooks and people that read it."""
        if not self.active:
            return
        run, _, began = self.active[-1]
        lines = [f"{run.i_sub_job}", f"sub-job started {_clock(began)}", f"group started {_clock(self.started)}"]
        lines += [f"running: {run.i_sub_job} since {_clock(began)}" for run, _, began in self.active]
        # For people's eyes: the next one may find room.
        with contextlib.suppress(OSError):
            process.write_whole(self.job_folder / CURRENT, "\n".join(lines) + "\n", durable=False)

    def _write_state(self, *, force: bool = False) -> None:
        if force or time.monotonic() - self._beat > _BEAT:
            self._beat = time.monotonic()
            state = {
                "process": process.identity(),
                "started": self.started,
                "beat": time.time(),
                "phase": "running" if self._is_left() else "ended",
                "workers": self.feed.workers,
                "active": [{"index": run.index, "ref": ref} for run, ref, _ in self.active],
                "problem": self.problem,
            }
            with contextlib.suppress(OSError):
                process.write_json(self.job_folder / SCHEDULER / STATE, state, durable=False)


def _say(text: str) -> None:
    """Write a line to the scheduler's log, where that finds room; not through a buffer that keeps what does not."""
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), f"{_clock(time.time())}  {text}\n".encode())


def _clock(stamp: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stamp))


def main() -> None:
    """Run as a program."""
    job_folder = Path(sys.argv[1])
    plan = last_plan(job_folder)
    if not plan:
        raise ColabMagicsError(f"{job_folder / SCHEDULER / PLAN} cannot be read.", "Run the %fork line again.")
    names = {*plan.get("runs", ()), *plan.get("adopt", ())}
    by_name = {run.folder.name: run for run in runs_of(job_folder) if run.folder.name in names}
    forking.make_room()
    engine: Engine = ENGINES.load(plan["engine"])()
    engine.program = Runner()
    runs = [by_name[name] for name in plan["runs"] if name in by_name]
    adopt = [by_name[name] for name in plan["adopt"] if name in by_name]
    engine.prepare([run.folder for run in runs], [run.folder for run in adopt], plan.get("begun"))
    Scheduler(job_folder, engine, Planned(runs), Feed(**plan["feed"]), adopt).run()
    # Who waits for the job need not wait for this process's end too.
    os.close(int(sys.argv[2]))


if __name__ == "__main__":
    main()
