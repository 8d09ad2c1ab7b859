"""Many runs at a glance: the table of them, watching until they have ended."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ColabMagicsError, Unavailable
from ..mirror import control
from ..payloads import payload_of
from ..payloads.base import NOTEBOOK, kind_of
from ..records import metrics, schema
from ..records.names import LOG, SCHEDULER
from ..records.run import LOCAL, Run, runs_of
from ..records.status import ENDED, Status
from ..ui import UI, Table
from ..units import show_seconds, show_time, without_controls
from . import compare, scheduler, usage
from .compare import Result
from .plan import count_phases
from .select import reread

_NOT_THE_USERS = re.compile(r"── |══ |\[IPKernelApp\]|run .+: i_sub_job = ")
"""How lines of a log begin that the run's cells did not print: ours, the kernel's last words, %fork's one line."""
_MANY = 60
"""Beyond so many rows a table leaves out the runs that are done."""
_WIDE = 12
"""More parameters, or metrics, than this share one column."""


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
    """

    find: Callable[[], list[Run]]
    notes: list[str] = field(default_factory=list)
    kept: Collection[Path] = ()
    shown: bool = field(default=False, compare=False)
    """Whether what the runs printed was shown until they ended: a face shows nothing more."""
    on_screen: tuple[UI, int] | None = field(default=None, compare=False)
    """The face, and the number of its cell, whose live table has shown these runs: as its value they need not again."""

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
        return compare.frame(self.find())

    def best(self, metric: str, which: str = "min") -> Result:
        """Return the finished run with the least last value of a metric, or with the greatest (``"max"``).

        Raises
        ------
        InvalidInput, NotFound
            When no finished run has such a number; lists the metrics there are.
        """
        return compare.best(self.find(), metric, which)

    def overview(self) -> Table:
        """Return how the runs stand as text, a column for each parameter and each metric."""
        statuses = self.statuses()
        return as_table(statuses, [*self.notes, *_job_notes(statuses)], kept=self.kept, wide=True)

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
        return self.overview()._repr_html_()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

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
        quiet = False
        with ui.live() as live:
            while True:
                began = time.monotonic()
                # Before the look: a scheduler that ends after it has left nothing undone that this look can miss.
                jobs, more = {run.folder.parent for run in self.find()}, self.waits_for_more()
                fed = more or any(scheduler.is_running(job) for job in jobs)
                statuses = self.statuses()
                notices = [*(note for job in jobs for note in control.notices(job)), *self.tells(statuses)]
                live.show(as_table(statuses, [*self.notes, *notices, *_job_notes(statuses)], kept=self.kept))
                if not more and all(status.phase in ENDED for _, status in statuses):
                    # A scheduler may be about to execute a failed run again: it gets until the next look.
                    if quiet or not fed:
                        self.on_screen = None if ui.where in ("script", "terminal") else (ui, ui.cell)
                        return statuses
                    quiet = not any(run.runner_lives() for run, _ in statuses)
                if not fed and not any(status.phase == "running" for _, status in statuses):
                    raise ColabMagicsError(
                        f"Nobody executes the runs any more ({count_phases(statuses)}).\n{_last_words(jobs)}",
                        "Run the %fork line again: finished runs are kept, the others go on.",
                    )
                # Looking at a thousand runs must not take from them what they need themselves.
                _pause(max(every, 10 * (time.monotonic() - began)), jobs if fed else set())

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
                f"%jobs kill {words} ends them."
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


def kill(runs: Sequence[Run], ui: UI) -> Board:
    """End runs that have not ended, and wait until their processes are gone."""
    asked = scheduler.kill(runs)
    board = Board.of(runs)
    if not asked:
        board.notes.append("Nothing to kill: all of them have ended.")
        return board
    with ui.progress(f"ending {len(asked)} runs"):
        if not Board.of(asked).wait(30):
            board.notes.append("Some still run: look again with %jobs in a minute.")
    return board


def _job_notes(statuses: Sequence[tuple[Run, Status]]) -> list[str]:
    jobs = {run.folder.parent for run, status in statuses if status.phase not in ENDED}
    fed = [job for job in jobs if scheduler.is_running(job)]
    notes = [note for job in fed for note in [*usage.gpu_notes(job), *scheduler.waits_for(job)]]
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


def _pause(seconds: float, jobs: set[Path]) -> None:
    """Wait so long; less when the last scheduler of these jobs ends meanwhile."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.02))
        if jobs and not any(scheduler.is_running(job) for job in jobs):
            return


def _last_words(jobs: set[Path]) -> str:
    logs = [job / SCHEDULER / LOG for job in jobs]
    return "\n".join(tail(log, lines=15) for log in logs if log.is_file())


def as_table(
    statuses: Sequence[tuple[Run, Status]],
    notes: Sequence[str] = (),
    *,
    kept: Collection[Path] = (),
    wide: bool = False,
) -> Table:
    """Write runs as rows: name, state, time, parameters, last metrics, what they use, last line of the log.

    Parameters
    ----------
    statuses : sequence of (Run, Status)
        The runs.
    notes : sequence of str
        Lines below the table.
    kept : collection of Path
        See `Board`.
    wide : bool, default False
        A column for each parameter and each metric, not one for all; where there are not too many of them.
    """
    shown, notes = list(statuses), list(notes)
    if len(shown) > _MANY:
        shown = [(run, status) for run, status in statuses if status.phase != "done"][:_MANY]
        notes.append(f"{len(statuses) - len(shown)} more runs are not shown; %jobs list ID shows them.")
    runs = [run for run, _ in shown]
    devices = {job: usage.known_devices(job) for job in {run.folder.parent for run in runs}}
    columns: list[tuple[str, list[str]]] = [("run", [run.id for run in runs])]
    columns.append(("state", [status.full for _, status in shown]))
    columns.append(("time", [_time(status, kept=run.folder in kept) for run, status in shown]))
    columns.append(("command", [_command(run) for run in runs]))
    columns += _columns(compare.places(runs))
    columns += _values(runs, wide=wide)
    columns += _columns(
        [usage.columns(r.state(), devices[r.folder.parent], running=status.phase == "running") for r, status in shown]
    )
    columns.append(("last line", [last_line(run.log) for run in runs]))
    # Columns in which nothing stands take room from those that matter.
    always = ("run", "state", "time", "last line")
    columns = [(name, cells) for name, cells in columns if name in always or any(cells)] if runs else []
    rows = [list(row) for row in zip(*(cells for _, cells in columns), strict=True)]
    return Table([name for name, _ in columns], rows, caption=caption(statuses), notes=notes)


def caption(statuses: Sequence[tuple[Run, Status]]) -> str:
    """Say how many runs are in which phase; and when that was so, while it still changes: tables stay on the screen."""
    moving = any(status.phase not in ENDED for _, status in statuses)
    return count_phases(statuses) + (f", as of {show_time(time.time())}" if moving else "")


def _command(run: Run) -> str:
    """Write what a run executes; nothing for a notebook, which is known."""
    if run.problem or kind_of(run.record) == NOTEBOOK:
        return ""
    return metrics.one_line(payload_of(run.record).title(run.record)[1], width=60)


def _time(status: Status, *, kept: bool) -> str:
    if not status.started:
        return ""
    took = show_seconds((status.ended or time.time()) - status.started)
    return f"kept ({took})" if kept else took


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    return [(name, [str(row.get(name, "")) for row in rows]) for name in compare.columns(rows)]


def _values(runs: Sequence[Run], *, wide: bool) -> list[tuple[str, list[str]]]:
    """Write parameters and last metrics: each in a column of its own, or all in one."""
    parameters, reported = compare.values(runs, metrics.recent)
    found = []
    for title, rows, one in (("parameters", parameters, show_parameters), ("metrics", reported, show_metrics)):
        names = compare.columns(rows)
        if not wide or len(names) > _WIDE:
            found.append((title, [one(run) for run in runs]))
            continue
        for name in names:
            cells = [metrics.show_value(row[name]) if name in row else "" for row in rows]
            if rows is reported and name == names[0]:
                cells = ["  ".join(filter(None, pair)) for pair in zip(cells, map(_trend, runs), strict=True)]
            found.append((metrics.one_line(name, width=40), cells))
    return found


def show_parameters(run: Run) -> str:
    """Write a run's own values on one line."""
    return metrics.one_line(", ".join(f"{key}={value}" for key, value in run.parameters.items()))


def show_metrics(run: Run) -> str:
    """Write the last values that a run reported on one line, with the trend of the first of them."""
    values = metrics.one_line(metrics.show(metrics.compared(metrics.recent(run.folder))), width=100)
    return "  ".join(filter(None, [values, _trend(run)]))


def _trend(run: Run) -> str:
    """Draw how the first metric that a run reported went."""
    lines = metrics.recent(run.folder)
    names = metrics.numeric_names(lines)
    trend = [y for _, y in metrics.series(lines, names[0])] if names else []
    return metrics.sparkline(trend, width=10) if len(trend) > 1 else ""


def last_line(log: Path, *, width: int = 80) -> str:
    """Return the last line that a run printed, without colours; of a progress bar its newest state."""
    lines = [line for line in tail(log, lines=8).splitlines() if line.strip() and not _NOT_THE_USERS.match(line)]
    text = lines[-1].strip() if lines else ""
    return text if len(text) <= width else text[: width - 1] + "…"


def tail(log: Path, *, lines: int) -> str:
    """Return the last lines of a log, without colours."""
    try:
        raw = schema.read_bytes(log, start=-200 * lines - 4000) or b""
    except OSError:
        return ""
    text = without_controls(raw.decode("utf-8", "replace"))
    # What a carriage return overwrote on a terminal is no line of its own.
    kept = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return "\n".join(kept[-lines - 1 :]).strip("\n")
