"""Many runs at a glance: the table of them, watching until they have ended."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ColabMagicsError, InvalidInput, Unavailable
from ..mirror import control
from ..records import schema
from ..records.names import LOG, SCHEDULER, STATE
from ..records.run import LOCAL, Run, runs_of
from ..records.status import ENDED, Status
from ..ui import UI, Table
from . import compare, notifying, pausing, scheduler, usage
from .compare import Result
from .glance import as_table, tail
from .goal import wanted
from .looking import Looks, pause
from .plan import count_phases
from .select import reread

_SHARE, _LONGEST = 0.012, 5.0
"""So much of a processor's time looks may take; and so many seconds lie between two of them at most."""


@dataclass
class Board:
    """Runs to look at; the handle that ``%fork``, ``%join`` and ``%jobs`` return.

    It is a table too: `table` is a pandas DataFrame, ``runs["loss"]`` a column of it, and what a board has not itself
    (``runs.sort_values("loss")``, ``runs.groupby("lr")``, ``runs.loss``) is done by that frame, read anew each time.
    ``len(runs)``, ``for run in runs`` and ``runs.runs`` are about the runs themselves, in the same order.

    Parameters
    ----------
    find : callable
        Returns the runs, read anew at each look; their order is kept.
    notes : list of str
        Lines to show below the table.
    kept : collection of Path
        Folders of runs that had finished before the call that made this board: their times are not its times.
    trend : sequence of str
        The metrics that its table draws; those that the runs' line said, by default.
    """

    find: Callable[[], list[Run]]
    notes: list[str] = field(default_factory=list)
    kept: Collection[Path] = ()
    trend: Sequence[str] = ()
    shown: bool = field(default=False, compare=False)
    """Whether what the runs printed was shown until they ended: a face shows nothing more."""
    on_screen: tuple[UI, int] | None = field(default=None, compare=False)
    """The face, and the number of its cell, whose live table has shown these runs: as its value they need not again."""
    links_from: Path | None = field(default=None, compare=False)
    """Where the front end in front reads links from, as its face says."""

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Board:
        """Make a board of these very runs, however they stand later."""
        chosen = list(runs)
        return cls(lambda: reread(chosen))

    @property
    def runs(self) -> list[Run]:
        """The runs as their folders tell now."""
        return self.find()

    def statuses(self) -> list[tuple[Run, Status]]:
        """Return each run with how it stands now."""
        now = time.time()
        return [(run, run.status(now=now)) for run in self.find()]

    def table(self) -> Any:
        """Return the runs as a pandas DataFrame: run, state, seconds, each parameter, the last value of each metric.

        Raises
        ------
        Unavailable
            When pandas is not installed.
        """
        return compare.frame(compare.rows(self.find()))

    def best(self, metric: str | None = None, which: str = "min") -> Result:
        """Return the finished run with the least last value of a metric, or with the greatest (``"max"``).

        Without a metric it is the runs' ``goal=``.

        Raises
        ------
        InvalidInput, NotFound
            When no finished run has such a number; lists the metrics there are.
        """
        if metric is None:
            goal = wanted(self.statuses()).goal
            if goal is None:
                raise InvalidInput("These runs have no goal to be the best by.", 'Write runs.best("loss").')
            metric, which = goal.metric, goal.way
        return compare.best(self.find(), metric, which)

    def overview(self) -> Table:
        """Return how the runs stand as text: the table that is shown while they execute, too."""
        statuses = self.statuses()
        return as_table(statuses, [*self.notes, *_job_notes(statuses)], kept=self.kept, trend=self.trend)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in self.__dataclass_fields__:
            raise AttributeError(name)
        try:
            table = self.table()
        except Unavailable as problem:
            raise AttributeError(str(problem)) from problem
        if not hasattr(table, name):
            raise AttributeError(f"runs have no {name!r}, nor has their table; its columns: {', '.join(table.columns)}")
        return getattr(table, name)

    def __getitem__(self, key: Any) -> Any:
        return self.table()[key]

    def __iter__(self) -> Iterator[Run]:
        return iter(self.find())

    def __len__(self) -> int:
        return len(self.find())

    def __str__(self) -> str:
        return str(self.overview())

    def _ipython_display_(self) -> None:
        if self.shown:
            self.shown = False
            return
        if self.on_screen is None or self.on_screen[0].cell != self.on_screen[1]:
            # IPython's word for "show it in the usual way".
            raise NotImplementedError
        self.on_screen = None

    def _repr_html_(self) -> str:
        return self.overview().html(self.links_from)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self.on_terminal())

    def on_terminal(self) -> str:
        """Write the table as text, not wider than the terminal when standard output is one."""
        return self.overview().on_terminal()

    def watch(self, ui: UI, *, every: float = 0.5) -> list[tuple[Run, Status]]:
        """Show the runs until all have ended.

        Parameters
        ----------
        ui : UI
            Where to show them.
        every : float, default 0.5
            Seconds between two looks.

        Returns
        -------
        list of (Run, Status)
            How they ended.

        Raises
        ------
        ColabMagicsError
            When nobody executes what is left.
        """
        quiet, looks, start = False, Looks(self.find), time.monotonic()
        jobs = {run.folder.parent for run in self.find()}
        with ui.live(screen=True) as live:
            while True:
                began = time.thread_time()
                # Before the look: a scheduler that ends after it has left nothing undone that this look can miss.
                more = self.waits_for_more()
                fed = more or any(scheduler.is_running(job) for job in jobs)
                statuses = looks.statuses()
                if not fed or _have_ended(statuses):
                    statuses = self.statuses()  # what is decided by is read anew
                jobs = {run.folder.parent for run, _ in statuses}
                notices = [*(note for job in jobs for note in control.notices(job)), *self.tells(statuses)]
                # Lines of a pipe stay, and the table at the end has its own notes.
                told = [*(self.notes if live.stays else ()), *notices, *_job_notes(statuses)]
                live.show(as_table(statuses, told, kept=self.kept, trend=self.trend))
                if not more and _have_ended(statuses):
                    # A scheduler may be about to execute a failed run again: it gets until the next look.
                    if quiet or not fed:
                        self.on_screen = (ui, ui.cell) if live.stays else None
                        self.shown = live.stays and ui.where == "script"
                        notifying.watched(ui, statuses, took=time.monotonic() - start)
                        return statuses
                    quiet = not any(run.runner_lives() for run, _ in statuses)
                if not fed and not any(status.phase == "running" for _, status in statuses):
                    raise ColabMagicsError(
                        f"Nobody executes the runs any more ({count_phases(statuses)}).\n{_last_words(jobs)}",
                        "Run the %fork line again: finished runs are kept, the others go on.",
                    )
                # Looking at a thousand runs must not take from them what they need themselves.
                used = time.thread_time() - began
                pause(max(every, min(used / _SHARE, _LONGEST)), jobs if fed else ())

    def waits_for_more(self) -> bool:
        """Whether other runs may come; not to a board of these."""
        return False

    def tells(self, statuses: Sequence[tuple[Run, Status]]) -> list[str]:
        """Say what is waited for besides the runs that are there; nothing for a board of these."""
        return []

    def wait(self, timeout: float) -> bool:
        """Wait until all have ended and their processes are gone; return whether they are."""
        end = time.monotonic() + timeout
        while any(run.runner_lives() or run.status().phase not in ENDED for run in self.find()):
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def watch_or_stop(self, ui: UI) -> list[tuple[Run, Status]]:
        """Show the runs until all have ended; an interrupt ends the watching, and Run All, and no run."""
        try:
            return self.watch(ui)
        except KeyboardInterrupt:
            words = self.job_words()
            ui.stop(
                f"Stopped watching ({count_phases(self.statuses())}). The runs go on: %jobs watch {words} shows them, "
                f"%jobs kill {words} ends them.",
                interrupted=True,
            )

    def job_words(self) -> str:
        """Write these runs as words of a line: a job where all of it that has not ended is here, else the runs."""
        jobs: dict[Path, list[Run]] = {}
        for run in self.find():
            jobs.setdefault(run.folder.parent, []).append(run)
        words = []
        for folder, mine in jobs.items():
            here = {run.folder for run in mine}
            left = {run.folder for run in runs_of(folder) if run.status().phase not in ENDED}
            numbers = ",".join(str(run.index) for run in sorted(mine, key=lambda run: run.index) if not run.is_named)
            some = [*([numbers] if numbers else []), *(run.word for run in mine if run.is_named)]
            words += [folder.name] if left <= here else [f"{folder.name}/{word}" for word in some]
        return " ".join(f'"{word}"' if " " in word else word for word in words)


@dataclass(repr=False)  # IPython would take that of this class for what it shows
class GrowingBoard(Board, ABC):
    """The runs of a job whose scheduler brings more of them: a queue's, a search's.

    Parameters
    ----------
    job : Path or None
        ``data_job`` of the job; None where no more are waited for.
    """

    job: Path | None = None

    def waits_for_more(self) -> bool:
        """Whether a scheduler may bring more runs.

        Raises
        ------
        ColabMagicsError
            When there is none any more that has come to its end.
        """
        if self.job is None or scheduler.is_running(self.job):
            return self.job is not None
        state = schema.read_or_nothing(self.job / SCHEDULER / STATE, schema.Scheduler)
        if state.get("phase") != "ended" and not scheduler.is_running(self.job):
            raise self.left_alone(self.job)
        return False

    @abstractmethod
    def left_alone(self, job: Path) -> ColabMagicsError:
        """Return the error for a job whose scheduler is gone before its end."""


def kill(runs: Sequence[Run], ui: UI) -> Board:
    """End runs that have not ended, and wait until their processes are gone."""
    asked = scheduler.kill(runs)
    board = Board.of(runs)
    if not asked:
        board.notes.append("Nothing to kill: all of them have ended.")
        return board
    with ui.progress(f"ending {len(asked)} {'run' if len(asked) == 1 else 'runs'}"):
        if not Board.of(asked).wait(30):
            board.notes.append("Some still run: look again with %jobs in a minute.")
    return board


def _job_notes(statuses: Sequence[tuple[Run, Status]]) -> list[str]:
    jobs = {run.folder.parent for run, status in statuses if status.phase not in ENDED}
    fed = [job for job in jobs if scheduler.is_running(job)]
    notes = [note for job in fed for note in [*usage.gpu_notes(job), *scheduler.waits_for(job)]]
    notes += [pausing.note(job) for job in jobs - set(fed) if pausing.is_paused(job)]
    alone = [run for run, _ in statuses if run.engine != LOCAL and run.folder.parent not in fed and run.is_out()]
    for job in dict.fromkeys(run.folder.parent for run in alone):
        where, named = next((run.engine, run.is_named) for run in alone if run.folder.parent == job)
        how = "the line with runs= again" if named else f"%jobs watch {job.name}"
        notes.append(
            f"Nobody looks after the runs of {job.name} on {where}, and this is what was seen last: "
            f"{how} asks there and brings results home."
        )
    claimed = {run.folder.parent for run, status in statuses if run.is_named and status.phase == "running"}
    return notes + [
        f"Nobody holds the runs of {job.name} in their queue any more, and others may claim them: say the line with "
        "runs= again, which goes on with them."
        for job in sorted(claimed - {*fed, *(run.folder.parent for run in alone)})
    ]


def _have_ended(statuses: Sequence[tuple[Run, Status]]) -> bool:
    return all(status.phase in ENDED for _, status in statuses)


def _last_words(jobs: set[Path]) -> str:
    logs = [job / SCHEDULER / LOG for job in jobs]
    return "\n".join(tail(log, lines=15) for log in logs if log.is_file())
