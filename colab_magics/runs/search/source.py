"""Runs that a search has chosen: each point becomes a run's folder, and what came of it goes into the next choice.

What the runs execute stands in ``<job>/.scheduler/of_search``, as the line has left it, and is written into the folder
of each. The study itself is kept nowhere; see `study`.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ... import process
from ...records import metrics, schema
from ...records.names import DRAIN, RECORD, SCHEDULER, SEARCHED, folder_name
from ...records.run import Run
from ...records.status import Status
from .. import attempts
from ..sources import Source
from . import found, space
from .study import Rules, Study, Tried

_LOOK = 0.5
"""Seconds between two looks at what runs report."""
_AGAIN = 3
"""So many attempts that were cut off are followed by another one at once; the next line goes on anyhow."""
_NEW = "of_search.new"


class Searched(Source):
    """The runs of a search; see the module.

    Parameters
    ----------
    job_folder : Path
        ``data_job`` of the job.
    said : mapping
        What `start.Search` has written of it.
    runs : sequence of Run
        Points of an earlier scheduler that are to be executed, or go on.
    adopt : sequence of Run
        Those that are being executed.
    """

    learns = True

    def __init__(
        self,
        job_folder: Path,
        said: Mapping[str, Any],
        runs: Sequence[Run] = (),
        adopt: Sequence[Run] = (),
    ) -> None:
        self._job_folder, self._said = job_folder, said
        self._template = job_folder / SCHEDULER / SEARCHED
        self._drain = job_folder / SCHEDULER / DRAIN
        self._waiting = collections.deque(runs)
        self._live = {run.folder: run for run in adopt}
        self._rules = Rules(**said["rules"])
        self._study: Study | None = None
        self._next: Tried | None = None
        """A point whose folder could not be written yet."""
        self._count = len(said["before"])
        self._scores: list[float] = []
        """What ended well, in the order of its end, as a number that is to be small."""
        self._missing = 0
        self._over = ""
        self._given_up = False
        self._seen: dict[Path, tuple[int, int]] = {}
        self._losing: dict[Path, str] = {}
        """Why runs are to be stopped early."""
        self._looked = 0.0
        self._index = itertools.count()

    @property
    def study(self) -> Study:
        """The study, made from the folders at the first call: it takes a second."""
        if self._study is None:
            steps = bool(self._rules.stop)
            known = [Run.look(self._job_folder / name) for name in self._said["before"]]
            known = [run for run in known if found.is_of_search(run)]
            before = [found.tried(run, self._rules.goals, steps=steps) for run in known]
            by_end = sorted((run.status().ended or 0.0, i) for i, run in enumerate(known) if before[i].end is not None)
            self._study = Study(space.read(self._said["space"]), self._rules, before, self._said.get("least", 0))
            for _, i in by_end:
                self._score(before[i])
        return self._study

    def tend(self) -> None:
        """Look at what the runs report, and stop those that cannot win; hear whether no others are wanted."""
        if not self.drained and (why := schema.read_or_nothing(self._drain, schema.Scheduler).get("note")):
            with contextlib.suppress(OSError):  # on a full disk it is tried again
                self.cancel(str(why))
                self.drained = True
        if not self._rules.stop or not self._live or time.monotonic() < self._looked + _LOOK:
            return
        self._looked = time.monotonic()
        for folder, run in list(self._live.items()):
            try:
                now = os.stat(metrics.file_of(folder))
            except OSError:
                continue
            if (seen := (now.st_size, now.st_mtime_ns)) != self._seen.get(folder):
                self._seen[folder] = seen
                self._judge(run)

    def _judge(self, run: Run) -> None:
        series = found.series(run, self._rules.goals[0])
        step = self.study.report(found.number(run), [(x, y) for x, y in series if not math.isnan(y)])
        if step is not None:
            self._losing[run.folder] = f"by step {step} it could not win (stop={self._rules.stop})"

    def losing(self) -> Mapping[Path, str]:
        """Return those that cannot win; see `Source`."""
        return self._losing

    def take(self, number: int) -> list[Run]:
        """Return runs that go on, then new ones."""
        while len(self._waiting) < number and not self._is_over():
            self._next = self._next or self.study.ask()
            if self._next is None:
                self._over = f"all {self._count} points of the space were tried"
                break
            self._waiting.append(self._make(self._next))
            self._next = None
            self._count += 1
        taken: list[Run] = []
        while self._waiting and len(taken) < number:
            if (run := self._waiting.popleft()).verdict() is None:
                taken.append(run)
        self._live |= {run.folder: run for run in taken}
        return taken

    def _make(self, one: Tried) -> Run:
        """Write the folder of a run: whole, or not at all."""
        new = self._job_folder / SCHEDULER / _NEW
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(self._template, new)
        common = schema.read_or_nothing(self._template / RECORD, schema.Record)
        index = next(i for i in self._index if not os.path.lexists(self._job_folder / folder_name(i)))
        folder = self._job_folder / folder_name(index)
        own: dict[str, Any] = {
            "format": 1,
            "index": index,
            "i_sub_job": index,
            "repeat": 0,
            "attempt": 1,
            "attempts": [],
        }
        own |= {"parameters": dict(one.parameters), "submitted": time.time()}
        own |= {"search": {"number": one.number, "told": list(one.told), "seed": self._rules.seed}}
        process.write_json(new / RECORD, {**common, **own})
        os.rename(new, folder)
        return Run.load(folder)

    def settle(self, run: Run, status: Status) -> None:
        """Tell the study how a run has ended."""
        self._live.pop(run.folder, None)
        self._losing.pop(run.folder, None)
        fresh = Run.look(run.folder)
        if status.phase == "interrupted" and not self._given_up and fresh.attempt <= _AGAIN and not fresh.problem:
            # Its machine or its runner has died, which says nothing of its point.
            attempts.renew(run.folder)
            self._waiting.appendleft(Run.load(run.folder))
        elif found.is_of_search(fresh):
            one = found.tried(fresh, self._rules.goals, status, steps=bool(self._rules.stop))
            self.study.tell(one)
            self._score(one)

    def _score(self, one: Tried) -> None:
        if one.end == "done" and one.values is None:
            self._missing += 1
        elif one.end == "done" and one.values is not None and len(one.values) == 1:
            self._scores.append(one.values[0] if self._rules.goals[0].startswith("min:") else -one.values[0])
        names = " and ".join(goal.partition(":")[2] for goal in self._rules.goals)
        runs = "1 run" if self._missing == 1 else f"{self._missing} runs"
        self.note = f"{runs} ended well and reported no number as {names}: nothing was learnt of them" * bool(
            self._missing
        )

    def _is_over(self) -> bool:
        """Whether no other point is to be tried."""
        patience, until = self._said.get("patience"), self._said.get("until")
        if not self._over and self._count >= self._said["runs"]:
            self._over = "all runs were chosen"
        if not self._over and until is not None and time.time() >= until:
            self._over = "time= is over"
        if not self._over and patience and self._scores:
            since = len(self._scores) - 1 - self._scores.index(min(self._scores))
            self._over = f"the last {since} runs were not better than the best (patience={patience})" * (
                since >= patience
            )
        return bool(self._over)

    @property
    def why_over(self) -> str:
        """Why no other point is tried, for people."""
        return self._over

    def exhausted(self) -> bool:
        """Whether no run waits, and no other point is to be tried."""
        while self._waiting and self._waiting[0].verdict() is not None:
            self._waiting.popleft()
        return not self._waiting and self._is_over()

    def cancel(self, reason: str) -> None:
        """Try no other point, and judge what waits."""
        self._over, self._given_up = self._over or reason, True
        while self._waiting:
            if (run := self._waiting[0]).verdict() is None and run.folder.is_dir():
                run.judge("cancelled", reason)
            self._waiting.popleft()
