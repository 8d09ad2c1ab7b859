"""Many runs at a glance: which runs a word names, the table of them, watching until they have ended."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ColabMagicsError, InvalidInput, NotFound, RunsFailed, did_you_mean
from ..ui import UI, Table
from ..units import indices, show_seconds
from . import scheduler
from .plan import describe
from .run import ENDED, Run, Status, runs_of

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_MANY = 60
"""Beyond so many rows a table leaves out the runs that are done."""


@dataclass
class Board:
    """Runs to look at; the handle that ``%fork`` and ``%jobs`` return.

    Parameters
    ----------
    find : callable
        Returns the runs, read anew at each look.
    notes : list of str
        Lines to show below the table.
    """

    find: Callable[[], list[Run]]
    notes: list[str] = field(default_factory=list)

    @property
    def runs(self) -> list[Run]:
        """The runs as their folders tell now."""
        return self.find()

    def statuses(self) -> list[tuple[Run, Status]]:
        """Return each run with how it stands now."""
        now = time.time()
        return [(run, run.status(now=now)) for run in self.find()]

    def table(self) -> Table:
        """Return the runs as a table."""
        return as_table(self.statuses(), self.notes)

    def __len__(self) -> int:
        return len(self.find())

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

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
                # Before the look: a scheduler that ends after it has left nothing undone that this look can miss.
                jobs = {run.folder.parent for run in self.find()}
                fed = any(scheduler.is_running(job) for job in jobs)
                statuses = self.statuses()
                live.show(as_table(statuses, self.notes))
                if all(status.phase in ENDED for _, status in statuses):
                    # A scheduler may be about to execute a failed run again: it gets until the next look.
                    if quiet or not fed:
                        return statuses
                    quiet = not any(run.runner_lives() for run, _ in statuses)
                if not fed and not any(status.phase == "running" for _, status in statuses):
                    raise ColabMagicsError(
                        f"Nobody executes the runs any more ({describe(statuses)}).\n{_last_words(jobs)}",
                        "Run the %fork line again: finished runs are kept, the others go on.",
                    )
                time.sleep(every)


def _last_words(jobs: set[Path]) -> str:
    logs = [job / scheduler.FOLDER / "log.txt" for job in jobs]
    return "\n".join(tail(log, lines=15) for log in logs if log.is_file())


def as_table(statuses: Sequence[tuple[Run, Status]], notes: Sequence[str] = ()) -> Table:
    """Write runs as rows: name, state, time, parameters, last line of the log."""
    shown, notes = list(statuses), list(notes)
    if len(shown) > _MANY:
        shown = [(run, status) for run, status in statuses if status.phase != "done"][:_MANY]
        notes.append(f"{len(statuses) - len(shown)} more runs are not shown; %jobs list ID shows them.")
    with_parameters = any(run.parameters for run, _ in shown)
    columns = ["run", "state", "time", *(["parameters"] if with_parameters else []), "last line"]
    now = time.time()
    rows = []
    for run, status in shown:
        took = show_seconds((status.ended or now) - status.started) if status.started else ""
        parameters = ", ".join(f"{key}={value}" for key, value in run.parameters.items())
        rows.append([run.id, status.text, took, *([parameters] if with_parameters else []), last_line(run.log)])
    return Table(columns if rows else [], rows, caption=describe(statuses), notes=notes)


def last_line(log: Path, *, width: int = 80) -> str:
    """Return the last line that a run printed, without colours; of a progress bar its newest state."""
    lines = [line for line in tail(log, lines=5).splitlines() if line.strip() and not line.startswith(("── ", "══ "))]
    text = lines[-1].strip() if lines else ""
    return text if len(text) <= width else text[: width - 1] + "…"


def tail(log: Path, *, lines: int) -> str:
    """Return the last lines of a log, without colours."""
    try:
        with open(log, "rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - 200 * lines - 4000))
            raw = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    text = _ANSI.sub("", raw)
    # What a carriage return overwrote on a terminal is no line of its own.
    kept = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return "\n".join(kept[-lines - 1 :]).strip("\n")


def select(data_job: Path, words: Sequence[str], *, job: str) -> list[Run]:
    """Find the runs that words name.

    Parameters
    ----------
    data_job : Path
        Folder of all jobs of the project, ``<root>/data_job``.
    words : sequence of str
        ``baseline`` (a job), ``baseline/3``, ``baseline/3-5``, and with the current job's name left out ``3``,
        ``7-9,12``. No words: every run of every job.
    job : str
        The current job.

    Returns
    -------
    list of Run

    Raises
    ------
    InvalidInput, NotFound
        When a word names nothing; lists the jobs there are.
    """
    jobs = (
        sorted(path.name for path in data_job.iterdir() if path.is_dir() and not path.name.startswith("."))
        if data_job.is_dir()
        else []
    )
    if not words:
        return [run for name in jobs for run in runs_of(data_job / name)]
    found: dict[Path, Run] = {}
    for word in words:
        name, slash, which = word.partition("/")
        if not slash and word not in jobs:
            name, which = job, word
            if not re.fullmatch(r"[\d\s,–-]+", word):
                raise did_you_mean(word, jobs, kind="job or run (write JOB, JOB/3 or 3-5)")
        elif name not in jobs:
            raise did_you_mean(name, jobs, kind="job")
        runs = runs_of(data_job / name)
        wanted = indices(which, name="ID") if which else None
        chosen = [run for run in runs if wanted is None or run.index in wanted]
        if wanted and (missing := set(wanted) - {run.index for run in chosen}):
            there = f"0 to {runs[-1].index}" if runs else "none"
            raise NotFound(f"Job {name!r} has no run {', '.join(map(str, sorted(missing)))}.", f"It has: {there}.")
        found |= {run.folder: run for run in chosen}
    return list(found.values())


def one(runs: Sequence[Run], words: Sequence[str]) -> Run:
    """Return the single run that words name.

    Raises
    ------
    InvalidInput
        When they name none or several.
    """
    if len(runs) != 1:
        raise InvalidInput(
            f"{' '.join(words) or 'Nothing'} names {len(runs)} runs; one is needed.",
            "Write JOB/INDEX, such as baseline/3.",
        )
    return runs[0]


def failure(statuses: Sequence[tuple[Run, Status]]) -> RunsFailed | None:
    """Build the error for runs that did not end well; None when all did."""
    bad = [(run, status) for run, status in statuses if not status.ended_well]
    if not bad:
        return None
    lines = [f"{len(bad)} of {len(statuses)} runs did not end well:"]
    for run, status in bad[:10]:
        what = status.text
        if status.error:
            message = str(status.error.get("evalue", "")).strip().splitlines() or [""]
            what += f": {message[0]}" if message[0] else ""
        lines += [f"  {run.id}  {what}", f"      log {run.log}", f"      notebook {run.notebook}"]
    if len(bad) > 10:
        lines.append(f"  … and {len(bad) - 10} more: %jobs")
    return RunsFailed("\n".join(lines), "Mend the cell and run the %fork line again: finished runs are kept.")
