"""The detached process that feeds an engine: ``python -P -m colab_magics.runs.scheduler JOB_FOLDER LOCK_FD``.

It outlives the notebook that started it. Which runs to execute stands in ``<job>/.scheduler/plan.json``; who schedules
in ``<job>/.scheduler/state.json``. A lock on the job's folder, handed over by the submitter as an open file, makes sure
that a job has one scheduler. Kill requests come as verdict.json in a run's folder, from whoever wants a run to end, and
another number of runs at once as workers.json beside the plan.
"""

from __future__ import annotations

import collections
import dataclasses
import fcntl
import itertools
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import process
from ..engines import ENGINES, forking
from ..engines.base import Begun, Engine, Ref
from ..errors import Busy, InvalidInput
from ..session import RUN_VARIABLE
from . import records
from . import workers as said_workers
from .attempts import again
from .plan import since
from .recover import recover
from .run import ENDED, VERDICT, Run, runs_of

FOLDER = ".scheduler"
CURRENT = "current_sub_job_is.txt"
_TICK = 0.1
_BEAT = 5.0


def lock(job_folder: Path) -> int:
    """Take a job for a scheduler.

    Returns
    -------
    int
        File descriptor that holds the lock; `start` hands it over.

    Raises
    ------
    Busy
        When the job's runs are being executed already.
    """
    fd = os.open(job_folder, os.O_RDONLY | os.O_DIRECTORY)
    patience = time.monotonic() + 0.5
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            # A scheduler whose runs have all ended is about to end too.
            over = all(run.status().phase in ENDED for run in runs_of(job_folder))
            if time.monotonic() < patience + (10 if over else 0):
                time.sleep(0.05)
                continue
            os.close(fd)
            raise _busy(job_folder) from None


def _busy(job_folder: Path) -> Busy:
    state = records.read_or_nothing(job_folder / FOLDER / "state.json", records.Scheduler)
    job = job_folder.name
    return Busy(
        f"Other runs of job {job!r} are being executed already{since(state.get('started'))} "
        f"(scheduler {state.get('process', {}).get('pid', '?')}).",
        f"Wait for them (%jobs watch {job}); execute their %fork line again with workers= to have more of them at "
        f"once; or end them: %jobs kill {job}",
    )


def fed(job_folder: Path) -> set[str]:
    """Return the names of the folders of the runs that the scheduler was given."""
    plan = last_plan(job_folder)
    return {*plan.get("runs", ()), *plan.get("adopt", ())}


def last_plan(job_folder: Path) -> dict[str, Any]:
    """Return what the job's last scheduler was given; empty when that cannot be read."""
    return records.read_or_nothing(job_folder / FOLDER / "plan.json", records.Plan)


@dataclass(frozen=True)
class Feed:
    """How an engine is fed.

    Parameters
    ----------
    workers : int
        How many runs at once.
    trial : float or None
        The first run goes alone: for so many seconds (``inf``: until it ends well) before the others start.
    max_failures : int or None
        When so many runs have failed, no other is started.
    retries : int
        How often a run that failed is executed again.
    """

    workers: int = 1
    trial: float | None = None
    max_failures: int | None = None
    retries: int = 0


def start(
    job_folder: Path,
    folders: Sequence[Path],
    fd: int,
    *,
    engine: str,
    feed: Feed,
    adopt: Sequence[Path] = (),
    begun: Begun | None = None,
) -> int:
    """Start the scheduler of a job and hand the lock over.

    Parameters
    ----------
    job_folder : Path
        ``data_job`` of the job.
    folders : sequence of Path
        Run folders in the order of execution.
    fd : int
        What `lock` returned; the caller closes it afterwards.
    engine : str
        Name of the engine.
    feed : Feed
        How to feed it.
    adopt : sequence of Path
        Folders of runs whose scheduler is gone and whose runners live.
    begun : Begun, optional
        What the engine has started; the caller closes its files afterwards.

    Returns
    -------
    int
        The scheduler's process id.
    """
    folder = job_folder / FOLDER
    folder.mkdir(exist_ok=True)
    names = [path.name for path in folders]
    plan = {"runs": names, "adopt": [path.name for path in adopt], "engine": engine, "feed": dataclasses.asdict(feed)}
    plan["by"] = process.identity()
    begun = begun or Begun()
    plan["begun"] = begun.notes
    said_workers.forget(folder)
    process.write_json(folder / "plan.json", plan)
    return process.start_detached(
        process.python("colab_magics.runs.scheduler", job_folder, str(fd)),
        log_file=folder / "log.txt",
        cwd=job_folder,
        env=forking.ROOM,
        pass_fds=(fd, *begun.files),
    )


def is_running(job_folder: Path) -> bool:
    """Whether a scheduler holds the job."""
    try:
        fd = os.open(job_folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def set_workers(job_folder: Path, workers: int) -> bool:
    """Let so many runs of a job go at once from now on; those that run go on.

    Returns
    -------
    bool
        Whether a scheduler is there to hear it; the next one takes the number that it is started with.

    Raises
    ------
    InvalidInput
        For less than one.
    """
    if workers < 1:
        raise InvalidInput(f"workers={workers}: no run would ever start.", "Write workers=1 or more.")
    if not is_running(job_folder):
        return False
    said_workers.write(job_folder / FOLDER, workers)
    return True


def kill(runs: Sequence[Run]) -> list[Run]:
    """Ask for the end of runs that have not ended.

    Their scheduler sees the request, cancels those that run and drops those that wait. Without a scheduler, runners on
    this machine are ended here.

    Returns
    -------
    list of Run
        The runs that had not ended.
    """
    asked = [run for run in runs if run.status().phase not in ENDED]
    for run in asked:
        _judge(run, "killed")
    for job_folder in {run.folder.parent for run in asked}:
        if not is_running(job_folder):
            for run in asked:
                who = (run.state() or {}).get("process") or {}
                if run.folder.parent == job_folder and process.is_alive(who):
                    process.end_tree(who["pid"], grace=12.0)
    return asked


class Scheduler:
    """Feeds an engine with the runs of one job until all have ended.

    Parameters
    ----------
    job_folder : Path
        ``data_job`` of the job.
    engine : Engine
        Where runs execute.
    runs : sequence of Run
        What to execute, in order.
    feed : Feed
        How to feed it.
    adopt : sequence of Run
        What is being executed already.
    """

    def __init__(
        self, job_folder: Path, engine: Engine, runs: Sequence[Run], feed: Feed, adopt: Sequence[Run] = ()
    ) -> None:
        self.job_folder = job_folder
        self.engine = engine
        self.feed = feed
        self.waiting = collections.deque(runs)
        self.active: list[tuple[Run, Ref, float]] = []
        for run in adopt:
            state = run.state() or {}
            self.active.append((run, state.get("process") or {}, float(state.get("started") or time.time())))
        self.trial: Run | None = runs[0] if runs and feed.trial is not None else None
        self.failed: list[Run] = []
        self.tries: collections.Counter[Path] = collections.Counter()
        self.started = time.time()
        self._beat = 0.0
        self._workers = said_workers.Said(job_folder / FOLDER)

    def run(self) -> None:
        """Work until nothing is left."""
        while self.waiting or self.active:
            self._collect_ended()
            self._cancel_killed()
            self._start_more()
            self._write_state()
            if self.waiting or self.active:
                self.engine.wait(_TICK)
        self.engine.finish(well=all(run.status().ended_well for run in runs_of(self.job_folder)))
        self._write_state(force=True)

    def _collect_ended(self) -> None:
        alive = self.engine.poll([ref for _, ref, _ in self.active])
        still = []
        for (run, ref, began), here in zip(self.active, alive, strict=True):
            if here:
                still.append((run, ref, began))
            else:
                self.engine.collect([run.folder])
                self._ended(run, ref)
        if len(still) != len(self.active):
            self.active = still
            self._write_current()

    def _ended(self, run: Run, ref: Ref) -> None:
        state = run.state()
        if state is None or state.get("phase") not in ENDED:
            # Its kernel may have outlived it, and would write beside the next attempt's.
            process.end_all_with(RUN_VARIABLE, str(run.folder))
            recover(run.folder)
            if run.verdict() is None:
                _judge(run, "lost", self.engine.log(ref))
        status = run.status()
        if status.ended_well or status.phase == "killed":
            return
        if self.tries[run.folder] < self.feed.retries:
            self.tries[run.folder] += 1
            again(run.folder)
            fresh = Run.load(run.folder)
            self.trial = fresh if self.trial == run else self.trial
            self.waiting.appendleft(fresh)
            return
        self.failed.append(run)
        if self.feed.max_failures is not None and len(self.failed) >= self.feed.max_failures:
            self._cancel_waiting(f"{len(self.failed)} failed (max_failures={self.feed.max_failures})")

    def _cancel_killed(self) -> None:
        self.engine.cancel([ref for run, ref, _ in self.active if run.verdict() is not None])
        # Of those that wait the first alone: the others are looked at when their turn comes, or a thousand would be
        # a thousand files to read each time.
        while self.waiting and self.waiting[0].verdict() is not None:
            self.waiting.popleft()

    def _cancel_waiting(self, reason: str) -> None:
        for run in self.waiting:
            if run.verdict() is None:
                _judge(run, "cancelled", reason)
        self.waiting.clear()

    def _start_more(self) -> None:
        if (workers := self._workers.news()) is not None:
            self.feed = dataclasses.replace(self.feed, workers=workers)
        room = (1 if self._on_trial() else self.feed.workers) - len(self.active)
        if room <= 0 or not self.waiting:
            return
        next_ones = list(itertools.islice((run for run in self.waiting if run.verdict() is None), room))
        ready = set(self.engine.ready([run.folder for run in next_ones]))
        chosen = [run for run in next_ones if run.folder in ready]
        for run in chosen:
            self.waiting.remove(run)
        if chosen:
            refs = self.engine.submit([run.folder for run in chosen])
            now = time.time()
            self.active += [(run, ref, now) for run, ref in zip(chosen, refs, strict=True)]
            self._write_current()

    def _on_trial(self) -> bool:
        """Whether the first run still has to show that the others are worth starting."""
        if self.trial is None or self.feed.trial is None:
            return False
        status = self.trial.status()
        lived = status.phase == "running" and time.time() - (status.started or time.time()) >= self.feed.trial
        if status.ended_well or lived:
            self.trial = None
        elif status.phase in ENDED and not any(run == self.trial for run in self.waiting):
            self._cancel_waiting(f"{self.trial.id} did not end well (--try)")
        return self.trial is not None

    def _write_current(self) -> None:
        """Write ``current_sub_job_is.txt``: the index first, for notebooks and people that read it."""
        if not self.active:
            return
        run, _, began = self.active[-1]
        lines = [f"{run.i_sub_job}", f"sub-job started {_clock(began)}", f"group started {_clock(self.started)}"]
        lines += [f"running: {run.i_sub_job} since {_clock(began)}" for run, _, began in self.active]
        process.write_whole(self.job_folder / CURRENT, "\n".join(lines) + "\n", durable=False)

    def _write_state(self, *, force: bool = False) -> None:
        if force or time.monotonic() - self._beat > _BEAT:
            self._beat = time.monotonic()
            process.write_json(
                self.job_folder / FOLDER / "state.json",
                {
                    "process": process.identity(),
                    "started": self.started,
                    "beat": time.time(),
                    "phase": "running" if self.waiting or self.active else "ended",
                    "workers": self.feed.workers,
                    "active": [{"index": run.index, "ref": ref} for run, ref, _ in self.active],
                },
                durable=False,
            )


def _judge(run: Run, verdict: str, reason: str = "") -> None:
    """Write what the scheduling side has to say of a run."""
    process.write_json(
        run.folder / VERDICT,
        {"attempt": run.attempt, "verdict": verdict, "at": time.time(), "reason": reason, "by": process.identity()},
    )


def _clock(stamp: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stamp))


def main() -> None:
    """Run as a program."""
    job_folder = Path(sys.argv[1])
    plan: dict[str, Any] = process.read_json(job_folder / FOLDER / "plan.json") or {}
    names = {*plan["runs"], *plan["adopt"]}
    by_name = {run.folder.name: run for run in runs_of(job_folder) if run.folder.name in names}
    forking.make_room()
    engine: Engine = ENGINES.load(plan["engine"])()
    engine.dedicated = True
    runs = [by_name[name] for name in plan["runs"] if name in by_name]
    adopt = [by_name[name] for name in plan["adopt"] if name in by_name]
    engine.prepare([run.folder for run in runs], [run.folder for run in adopt], plan.get("begun"))
    Scheduler(job_folder, engine, runs, Feed(**plan["feed"]), adopt).run()
    # Who waits for the job need not wait for this process's end too.
    os.close(int(sys.argv[2]))


if __name__ == "__main__":
    main()
