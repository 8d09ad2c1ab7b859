"""From a queue's address and a draft to a scheduler that takes its runs from there, and the board that shows them."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ... import process
from ...errors import Busy, ColabMagicsError, InvalidInput
from ...payloads import code
from ...payloads.checks import what_is_unused
from ...queues.addresses import shown
from ...queues.base import DONE, FAILED, READY, RUNNING, STALE, Row
from ...records import schema
from ...records.names import DRAIN, QUEUED, RECORD, SCHEDULER, STATE, named_folder
from ...records.run import Run
from ...records.status import ENDED, Status
from ...ui import UI, Table
from .. import joined, plan, scheduler
from ..board import GrowingBoard
from ..order import Order, beginning, hand_over, ready
from ..scheduler import last_plan
from . import claims
from .table import Table as Source

_MOST_SHOWN, _MOST_WORDS = 100, 3
_PATIENCE = 5.0
"""Seconds in which a scheduler hears that it is to claim no more."""


@dataclass(repr=False)  # IPython would take that of this class for what it shows
class QueueBoard(GrowingBoard):
    """The runs of a queue that a job has here, with those that come while a scheduler claims more.

    Parameters
    ----------
    queue : str
        The queue's address as it may be shown.
    before : mapping of Path to int
        Runs that had ended before the call that made this board, and their attempts.
    """

    queue: str = ""
    before: Mapping[Path, int] = field(default_factory=dict)

    def watch(self, ui: UI, *, every: float = 0.5) -> list[tuple[Run, Status]]:
        """Show the runs until nothing is left to claim; return those of this call. See `Board.watch`."""
        statuses = super().watch(ui, every=every)
        self.kept = [run.folder for run, _ in statuses if self.before.get(run.folder) == run.attempt]
        return [(run, status) for run, status in statuses if run.folder not in self.kept]

    def left_alone(self, job: Path) -> ColabMagicsError:
        """Say that nobody brings runs any more; see `GrowingBoard`."""
        return ColabMagicsError(
            f"Nobody claims runs of {self.queue} for {job.name} any more.",
            "Run the line again: what goes on goes on, and the others are claimed.",
        )

    def tells(self, statuses: Sequence[tuple[Run, Status]]) -> list[str]:
        """Say why nothing happens: the queue is away, or nothing is ready there; see `Board.tells`."""
        if self.job is None or any(status.phase not in ENDED for _, status in statuses):
            return []  # what is to be said of runs that go on is said with them
        away = scheduler.waits_for(self.job)
        watches = last_plan(self.job).get("watch") and scheduler.is_running(self.job)
        return away or ([f"Waits for runs that become ready in {self.queue}."] if watches else [])


def board(job_folder: Path, queue: str) -> QueueBoard:
    """Return the runs of a queue that a job has here."""
    return QueueBoard(lambda: claims.runs(job_folder, queue), job=job_folder, queue=queue)


def taken_from(job_folder: Path) -> str:
    """Return the queue that a job's scheduler takes runs from now, as it may be shown; empty when none does."""
    return str(last_plan(job_folder).get("queue") or "") if scheduler.is_running(job_folder) else ""


def is_searched(job_folder: Path) -> bool:
    """Whether a job's scheduler chooses its runs now."""
    return bool(last_plan(job_folder).get("search")) and scheduler.is_running(job_folder)


def drain(job_folder: Path, reason: str) -> str:
    """Have a job's scheduler take no more runs, and wait until it has heard that; returns from where, if it does."""
    queue = taken_from(job_folder) or ("its search" if is_searched(job_folder) else "")
    if queue:
        try:
            process.write_json(job_folder / SCHEDULER / DRAIN, {"note": reason}, durable=False)
        except OSError as error:
            raise ColabMagicsError(
                f"{job_folder} cannot be written: {error.strerror}.", "Make room, and say it again."
            ) from error
        end = time.monotonic() + _PATIENCE
        while scheduler.is_running(job_folder) and time.monotonic() < end and not _heard(job_folder):
            time.sleep(0.05)
    return queue


def _heard(job_folder: Path) -> bool:
    state = schema.read_or_nothing(job_folder / SCHEDULER / STATE, schema.Scheduler)
    return bool(state.get("drained"))


def start(order: Order, source: Source, rows: Sequence[Row]) -> QueueBoard:
    """Have a scheduler take runs from a queue, whose rows these are; one that does so already is watched.

    Raises
    ------
    ColabMagicsError
        Before anything was started: the code does not use a parameter, the job's runs are being
        executed already, and all that `submit.submit` says.
    """
    engine, job_folder, name = ready(order), order.job_folder, shown(source.address)
    unused = check_columns(order, rows)
    found = board(job_folder, name)
    found.before = {run.folder: run.attempt for run in found.runs if run.status().ended}
    found.notes += [what_is_unused(unused)] if unused else []
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(scheduler.taken(job_folder))
        except Busy as busy:
            _follow(order, name, busy)
            return found
        begun = stack.enter_context(beginning(order, engine))
        adopt = _adopted(order, name)
        record = order.record() | order.draft.freeze(job_folder / SCHEDULER, held)
        try:
            _write_template(order, record, unused)
        except OSError as error:
            raise scheduler.cannot_start(error, job_folder) from error
        joined.remember(job_folder, record, [], queue=name, goal=order.goal, trend=order.trend)
        hand_over(order, held, begun, [], adopt, queue=source)
    return found


def _follow(order: Order, name: str, busy: Busy) -> None:
    """Check that the scheduler that is there does what this line says; raises `busy` where it does something else."""
    template = schema.read_or_nothing(order.job_folder / SCHEDULER / QUEUED / RECORD, schema.Record)
    if last_plan(order.job_folder).get("queue") != name:
        raise busy
    if cells := code.changed_cells(template.get("code", {}), order.draft.hashes):
        raise InvalidInput(
            f"Runs of {name} are being executed with other code ({code.where_changed(cells)}).",
            f"Wait for them, or end them first: %jobs kill {order.job_folder.name}",
        )
    if order.workers is not None:
        scheduler.set_workers(order.job_folder, order.workers)
    joined.remember(order.job_folder, order.record(), [], queue=name, goal=order.goal, trend=order.trend)


def _adopted(order: Order, name: str) -> list[Path]:
    """Return the runs of a scheduler that is gone which go on."""
    found = []
    for run, _, _ in claims.held(order.job_folder, name):
        status = run.status()
        if status.ended_well or not (status.phase == "running" or plan.is_out(run, status)):
            continue
        found.append(plan.ours(run))
    order.check_goes_on(found)
    plan.check_code(found, order.draft.hashes, order.resume)
    return [run.folder for run in found]


def _write_template(order: Order, record: Mapping[str, Any], unused: Sequence[str]) -> None:
    """Write what each run's folder gets, and which unused columns were told already; raises OSError."""
    template = order.job_folder / SCHEDULER / QUEUED
    if template.is_dir():
        shutil.rmtree(template)
    template.mkdir()
    order.draft.write(template)
    process.write_json(template / RECORD, {"index": 0, **record, "uses": order.draft.uses.record, "unused": unused})


def check_columns(order: Order, rows: Sequence[Row]) -> list[str]:
    """Check that what runs execute uses the parameters of those that are to be claimed; returns those it does not.

    Raises
    ------
    InvalidInput
        When none is used, or a cell below assigns one again: all its values would compute the same.
    """
    claimed = [row for row in rows if row.status in (READY, STALE)]
    used, unused = order.draft.uses.without_unused(dict.fromkeys(name for row in claimed for name in row.config))
    if claimed and (problem := order.draft.uses.refusal(used)) is not None:
        raise problem
    return unused


def preview(order: Order, rows: Sequence[Row]) -> Table:
    """Show what would be claimed; nothing is."""
    unused = check_columns(order, rows)
    texts = [
        [
            row.name,
            row.status,
            ", ".join(f"{name}={value!r} ({type(value).__name__})" for name, value in row.config.items()),
            named_folder(row.name) if row.status in (READY, STALE) else "",
            row.remark or row.error.partition("\n")[0],
        ]
        for row in rows
    ]
    notes = [f"… and {len(texts) - _MOST_SHOWN} more"] if len(texts) > _MOST_SHOWN else []
    notes.append(", ".join(filter(None, [order.at_once, str(order.resources)])) + ".")
    notes += [what_is_unused(unused)] if unused else []
    notes.append(f"Folders are in {order.job_folder}. Nothing was claimed (--dry-run).")
    return Table(
        ["run", "status", "parameters", "folder", ""], texts[:_MOST_SHOWN], caption=count(rows) + ".", notes=notes
    )


def count(rows: Sequence[Row]) -> str:
    """Write how many runs of a queue stand how."""
    words = [row.status for row in rows]
    theirs = set(words) - {READY, RUNNING, DONE, FAILED, STALE}
    if len(theirs) > _MOST_WORDS or any(not word.isidentifier() for word in theirs):
        words = ["other" if word in theirs else word for word in words]
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(sorted(words))) or "no runs"


def others(job_folder: Path, address: str, rows: Sequence[Row]) -> str:
    """Say how a whole queue stands, and how many of its runs other workers have."""
    name = shown(address)
    mine = {(claims.read(run.folder, name) or {}).get("uid") for run in claims.runs(job_folder, name)}
    ours = {row.worker for row in rows if row.uid in mine} - {""}  # a run's folder may be gone
    theirs = [row for row in rows if row.uid not in mine and row.worker not in ours]
    elsewhere = sum(row.status in (DONE, FAILED, RUNNING) for row in theirs)
    by = f"; {elsewhere} of them by other workers" if elsewhere else ""
    note = schema.read_or_nothing(job_folder / SCHEDULER / STATE, schema.Scheduler).get("note", "")
    return f"{name}: {count(rows)}{by}." + (f" {note}." if note else "")
