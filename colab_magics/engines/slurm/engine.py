"""Runs on a cluster, from its login node: ``on=slurm``.

All runs of a call are tasks of one job array, and one question of ``squeue`` tells how all of them are doing. They
write into their folders themselves: those are on a disk that login node and nodes share. Slurm keeps the runs while
nobody is there: who comes later finds them by their references, or by the keys that stand beside the array's script.

A run that Slurm starts again, because it was preempted or its node failed, is the same attempt in the same folder. A
task of an attempt that another one has replaced starts nothing: it looks for its key in the run's reference.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ... import process
from ...errors import InvalidInput, Unavailable
from ...records import beats, lock
from ...records.names import RECORD
from ...records.run import Run
from ...records.status import ENDED as OVER
from ...ui import UI
from ...units import count
from .. import base
from ..base import EVERY, Engine, Phase, Ref, Resources, Submission, Work
from ..gpus import devices
from . import arrays, asking, ends, options, shared
from .asking import Seen, Task
from .throttle import Throttle

_GRACE = 15.0
"""Seconds that a runner has to interrupt its kernel and save; then all of its task ends."""
_AGAIN = 45.0
"""Seconds until what was ended and is still there is ended again: Slurm itself takes up to 30 for it."""
_SPARE = 300.0
"""Seconds that a run has at Slurm beyond its ``time=``: its own error, which says more, is to come first."""
_LATE = {0: 60.0, 1: 10.0, 2: 10.0}
"""So long after its end, by the status of its exit, a run's last words may be on their way over a network's disk."""
_LONGEST_PAUSE, _LONGEST_REFUSAL = 5.0, 60.0


class SlurmEngine(Engine):
    """Runs are tasks of job arrays of the cluster on whose login node this is.

    A reference is the number of the array, and that of the task in it.
    """

    Options = options.Options
    reads_folders = True

    def __init__(self, where: str = "", options: Any = None) -> None:
        base.nothing_more("slurm", where)
        super().__init__(where, options)
        self._work: Work | None = None
        self._seen: dict[str, Seen | None] = {}
        """What the controller had of each attempt last, by key; None of those that it did not know."""
        self._ended: dict[str, float] = {}
        self._cancelled: dict[str, tuple[float, bool]] = {}
        """When the end of an attempt was asked for, and whether softly."""
        self._pause = 1.0
        self._refused = (0.0, 0.0, "")
        """Until when nothing is submitted, how long that is, and why."""
        self._largest = 0
        self._limits: dict[float, str] = {}
        self._throttle: Throttle | None = None
        """None while nobody has said how many are to execute at once."""

    @property
    def poll_every(self) -> float:  # type: ignore[override]
        """Seconds between two polls: more while nothing happens."""
        return self._pause

    @classmethod
    def at(cls, where: str, options: Any = None) -> Engine:
        """Open it; behind ``@`` stands a login node that ssh reaches."""
        if not where:
            return cls(where, options)
        from .over_ssh import SlurmOverSsh

        return SlurmOverSsh(where, options)

    @classmethod
    def why_not(cls) -> str:
        """Say which of Slurm's programs is not there."""
        return f"there is no {name} on PATH" if (name := asking.missing()) else ""

    def available(self, *, gpus: float = 0) -> None:
        """Return when Slurm's programs are there, and so many GPUs can be asked for."""
        if why := self.why_not():
            raise Unavailable(
                f"on=slurm is for a cluster's login node, and {why} here.",
                "Start the notebook there, or name the login node as ssh does: on=slurm@HOST",
            )
        _whole(gpus)

    def settle(
        self,
        job_folder: Path,
        cwd: Path,
        workers: str | int = "auto",
        gpus: str | float | None = None,
        ui: UI | None = None,
    ) -> Resources:
        """Ask the controller whether it would take such runs, and look whether nodes see the folder; see `Engine`."""
        at_once = None if str(workers) == "auto" else count(workers, name="workers")
        share = None if gpus is None else devices.share(gpus)
        said = [*options.arguments(self.options), *_gpus(share, self.options)]
        self.available(gpus=share or 0)
        with ui.progress("asking Slurm") if ui is not None else contextlib.nullcontext():
            warnings = asking.check(said)
            partition = self.options.partition or os.environ.get("SBATCH_PARTITION")
            warnings.append(shared.warning([job_folder, cwd], partition))
        return Resources(EVERY, share, warnings=list(filter(None, warnings)), at_once=at_once)

    def prepare(self, work: Work) -> None:
        """Ask how large an array may be."""
        self._work, self._throttle = work, Throttle(work.at_once)

    def _prepared(self) -> tuple[Work, Throttle]:
        if self._work is None or self._throttle is None:
            raise TypeError("an engine submits nothing before it was prepared")
        return self._work, self._throttle

    def submit(self, runs: Sequence[Submission]) -> list[Ref | None]:
        """Submit runs as one array, or as several where they are too many for one, or need different things."""
        until, _, why = self._refused
        if time.monotonic() < until:
            raise base.NotSubmitted(why)
        refs: dict[str, Ref] = {}
        throttle = self._prepared()[1]
        for needs, mine in self._groups(runs):
            if (room := throttle.room()) == 0:
                break  # those before it are as many as may execute
            try:
                refs |= self._submit_array(mine, needs, room)
            except asking.Refused as refusal:
                self._is_refused(refusal)
                if not refs:
                    raise base.NotSubmitted(*refusal.args) from refusal
                break
            self._refused = (0.0, 0.0, "")
        self._pause = 1.0
        return [refs.get(run.key) for run in runs]

    def _is_refused(self, refusal: asking.Refused) -> None:
        pause = min(max(2.0, 2 * self._refused[1]), _LONGEST_REFUSAL)
        self._refused = (time.monotonic() + pause, pause, refusal.what)

    def _groups(self, runs: Sequence[Submission]) -> Iterable[tuple[tuple[str, ...], list[Submission]]]:
        """Yield runs that can be tasks of one array, with what such an array is asked for."""
        self._largest = self._largest or max(1, asking.setting("MaxArraySize", 1001) - 1)
        groups: dict[tuple[str, ...], list[Submission]] = {}
        for run in runs:
            groups.setdefault(self._needs(process.read_json(run.folder / RECORD) or {}), []).append(run)
        for needs, mine in groups.items():
            for begin in range(0, len(mine), self._largest):
                yield needs, mine[begin : begin + self._largest]

    def _needs(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        limit = (record.get("payload") or {}).get("time")
        own = "time" in self.options.sbatch
        return (*_gpus(record.get("gpus"), self.options), *([self._time(limit)] if limit and not own else []))

    def _time(self, limit: float) -> str:
        """Return the limit at Slurm: a little more than the run's own, as far as the partition lets."""
        if limit not in self._limits:
            wanted = limit + _SPARE
            with contextlib.suppress(Unavailable):
                most = asking.longest(self.options.partition)
                wanted = max(limit, min(wanted, most)) if most else wanted
            self._limits[limit] = f"--time={math.ceil(wanted / 60)}"
        return self._limits[limit]

    def _submit_array(self, runs: Sequence[Submission], needs: Sequence[str], room: int | None) -> dict[str, Ref]:
        (work, throttle), said = self._prepared(), self.options
        again = {run.key for run in runs}
        for array in arrays.all_of(work.job_folder):
            if again & set(array.attempts()):
                array.void()  # nobody found it: should it come all the same, it starts nothing
        python = os.path.expanduser(said.python or "")
        array = arrays.write(work.job_folder, runs, work.program, setup=said.setup or "", python=python)
        words = [
            f"--array=0-{len(runs) - 1}{f'%{room}' if room else ''}",
            f"--job-name={re.sub(r'[^A-Za-z0-9_.@+-]', '_', work.job_folder.name)[:60]}",
            f"--comment={asking.MARK}{array.key}",
            f"--output={array.printed()}",
            *("--open-mode=append", "--requeue", "--export=ALL", "--input=/dev/null"),
            *needs,
            *options.arguments(said),
            str(array.script),
        ]
        held = lock.take(array.folder)
        try:
            job = asking.submit(words, work.job_folder, work.environment, [held])
        except asking.Refused:
            array.remove()
            raise
        finally:
            os.close(held)
        throttle.submitted(job, len(runs), room)
        return {run.key: {"job": job, "task": number} for number, run in enumerate(runs)}

    def find(self, runs: Sequence[Submission]) -> list[Ref | None]:
        """Look for the arrays whose tasks these are: at the controller, and by what they have left; see `Engine`."""
        known: dict[str, list[tuple[arrays.Array, int]]] = {}
        for array in arrays.all_of(runs[0].folder.parent) if runs else ():
            for number, key in enumerate(array.attempts()):
                known.setdefault(key, []).append((array, number))
        mine = {array.key: array for run in runs for array, _ in known.get(run.key, ())}
        if not mine:
            return [None] * len(runs)
        if any(array.is_being_submitted() for array in mine.values()):
            raise Unavailable("Slurm has not answered to sbatch yet.", "It is asked again.")
        jobs = asking.tasks()[1]
        jobs |= {key: job for key, array in mine.items() if key not in jobs and (job := array.job())}
        refs: list[Ref | None] = []
        for run in runs:
            found = [(jobs[array.key], number) for array, number in known.get(run.key, ()) if array.key in jobs]
            refs.append({"job": found[-1][0], "task": found[-1][1]} if found else None)
        return refs

    def poll(self, runs: Sequence[Submission]) -> list[Phase]:
        """Ask the controller once about all; see `Engine`."""
        if not runs:
            return []
        try:
            known = asking.recent_tasks()[0]
        except Unavailable:
            self._pause = _LONGEST_PAUSE
            return [_without_slurm(run) for run in runs]
        before = {run.key: self._seen.get(run.key) for run in runs}
        self._seen |= {run.key: known.get(task) for run in runs if (task := _task(run)) is not None}
        if self._throttle is not None:
            self._throttle.look(known, {str((run.ref or {}).get("job")) for run in runs})
        phases = [self._phase(run) for run in runs]
        quiet = before == {run.key: self._seen.get(run.key) for run in runs} and not self._cancelled
        self._pause = min(self._pause * 1.3, _LONGEST_PAUSE) if quiet else 1.0
        for run, phase in zip(runs, phases, strict=True):
            if phase == base.ENDED:
                self._ended.setdefault(run.key, time.monotonic())
                self._cancelled.pop(run.key, None)
        return phases

    def _phase(self, run: Submission) -> Phase:
        if _task(run) is None:
            return base.ENDED  # a reference of no task: it is nowhere
        seen = self._seen.get(run.key)
        if seen is None:
            return base.UNKNOWN if _beats(run.folder) else base.ENDED
        if seen.state in ends.ENDED:
            return base.ENDED
        return base.QUEUED if seen.state in ends.QUEUED else base.RUNNING

    def change_at_once(self, number: int) -> bool:
        """Let so many tasks execute at once; see `Engine`. Those that do go on."""
        at_once = number if number < EVERY else None
        if self._throttle is None:
            self._throttle = Throttle(at_once)
        self._throttle.change(at_once)
        return True

    def says(self, run: Submission) -> str:
        """Return Slurm's word for why a run waits, such as ``Priority``, or on which node it executes."""
        seen = self._seen.get(run.key)
        if seen is None or seen.state in ends.ENDED:
            return ""
        if seen.state not in ends.QUEUED:
            return f"node {seen.node}" if seen.node else ""
        return "" if seen.reason == "JobArrayTaskLimit" else seen.reason

    def fetch(self, runs: Sequence[Submission], *, final: bool) -> list[str]:
        """Runs write here; but what a node has written last may take a while over a network's disk. See `Engine`."""
        return [self._awaited(run) if final else "" for run in runs]

    def _awaited(self, run: Submission) -> str:
        with contextlib.suppress(OSError):
            os.utime(run.folder)  # have the disk's server asked what stands in it
        seen = self._seen.get(run.key)
        late = _LATE.get(seen.exit, 0.0) if seen is not None and seen.state in ("COMPLETED", "FAILED") else 0.0
        if not late or _has_spoken(run.folder) or not shared.is_of_network(run.folder):
            return ""
        since = self._ended.setdefault(run.key, time.monotonic())
        return "its last words are not here yet" if time.monotonic() < since + late else ""

    def cancel(self, runs: Sequence[Submission]) -> None:
        """End tasks, softly those that execute: their runners interrupt their kernels and save. See `Engine`."""
        mine = self._ours(runs)
        self._see(mine)
        now = time.monotonic()
        softly, firmly = list[Task](), list[Task]()
        for run in runs:
            if (task := mine.get(run.key)) is None:
                continue
            asked, was_soft = self._cancelled.get(run.key, (-float("inf"), False))
            if now < asked + (_GRACE if was_soft else _AGAIN):
                continue
            seen = self._seen[run.key]
            soft = run.key not in self._cancelled and seen is not None and seen.state == "RUNNING" and _begun(run)
            self._cancelled[run.key] = (now, soft)
            (softly if soft else firmly).append(task)
        for tasks, soft in ((softly, True), (firmly, False)):
            if tasks:
                asking.cancel(tasks, softly=soft)
                self._pause = 1.0

    @staticmethod
    def _ours(runs: Sequence[Submission]) -> dict[str, Task]:
        """Return the tasks of those arrays that were submitted for these folders.

        A reference may come from anywhere, and name any job of this user; the key of an array is known to the
        controller and to the folder of its job alone.
        """
        jobs = asking.recent_tasks()[1]
        known: dict[Path, set[str]] = {}
        for folder in {run.folder.parent for run in runs}:
            known[folder] = {jobs[array.key] for array in arrays.all_of(folder) if array.key in jobs}
        found = {run.key: task for run in runs if (task := _task(run)) is not None}
        return {
            run.key: found[run.key]
            for run in runs
            if run.key in found and found[run.key][0] in known[run.folder.parent]
        }

    def _see(self, tasks: Mapping[str, Task]) -> None:
        """Ask the controller about attempts that this process has not asked about."""
        if any(key not in self._seen for key in tasks):
            known = asking.recent_tasks()[0]
            self._seen |= {key: known.get(task) for key, task in tasks.items()}

    def verdict(self, run: Submission) -> tuple[ends.Word, str]:
        """Say how a run has ended, by what Slurm knows; see `Engine`."""
        task = _task(run)
        printed = ""
        if task is not None:
            with contextlib.suppress(Unavailable):
                self._see({run.key: task})
            array = next((one for one in arrays.all_of(run.folder.parent) if run.key in one.attempts()), None)
            printed = array.said_of(*task) if array is not None else ""
        return ends.verdict(self._seen.get(run.key), printed, run.folder, spoke=_has_spoken(run.folder))

    def finish(self, *, well: bool) -> None:
        """Remove what the arrays have left, unless somebody may want to look at it."""
        if well and self._work is not None:
            arrays.remove_all(self._work.job_folder)


def _whole(gpus: float) -> None:
    if gpus != int(gpus):
        raise InvalidInput(f"gpus={gpus:g}: Slurm gives whole GPUs.", "Write gpus=1")


def _gpus(each: float | None, said: options.Options) -> list[str]:
    if not each or "gres" in said.sbatch:
        return []
    return [f"--gres=gpu:{int(each)}"]


def _task(run: Submission) -> Task | None:
    """Return which task a run is; None for a reference that is none of ours: anybody may have written it."""
    ref = run.ref or {}
    job, task = ref.get("job"), ref.get("task")
    return (job, task) if isinstance(job, str) and job.isdigit() and isinstance(task, int) and task >= 0 else None


def _has_spoken(folder: Path) -> bool:
    return (Run.look(folder).state() or {}).get("phase") in OVER


def _begun(run: Submission) -> bool:
    return Run.look(run.folder).state() is not None


def _beats(folder: Path) -> bool:
    """Whether a run lives by its heartbeat: then its task is there, whatever the controller says."""
    state = Run.look(folder).state() or {}
    return state.get("phase") == "running" and beats.seen.is_fresh(folder, float(state.get("beat") or 0), time.time())


def _without_slurm(run: Submission) -> Phase:
    """Tell how a run is doing while the controller does not answer; what ended by itself is not started again."""
    state = Run.look(run.folder).state() or {}
    return base.ENDED if state.get("phase") in ("done", "stopped", "failed") else base.UNKNOWN
