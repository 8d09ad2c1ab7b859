"""From points and a notebook to runs that are being executed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkout import git
from ..checkout.project import real_folder
from ..engines import open_engine
from ..engines.base import Engine, Resources
from ..engines.zygotes import Begun, ForksKernels
from ..errors import Busy, ColabMagicsError, InvalidInput
from ..payloads import code, modules
from ..records.names import SCHEDULER, folder_name
from ..records.run import Run
from ..ui import Notebook, Table
from . import attempts, forks, joined, live, plan, scheduler, submitted
from .board import Board
from .forks import Fork
from .plan import Plan, Point
from .scheduler import Feed


@dataclass(frozen=True)
class Order:
    """What is to be executed, and how.

    Parameters
    ----------
    job_folder : Path
        ``data_job`` of the job.
    notebook : Notebook
        The payload; its content as `forks.prepare` makes it.
    fork : Fork
        The fork whose runs these are.
    points : sequence of Point
        The runs.
    cwd : Path
        Folder in which the runs' kernels start.
    checkout : Path
        The project's folder, for the commit that the runs' records name.
    only, first, done_file, resume
        See `plan.make`.
    engine, start, seed : str
        Where runs execute, how their kernels start, and whether live ones keep the notebook's random state.
    feed : Feed
        How many at once, and what failures mean.
    workers : int, optional
        How many at once, where the user said it: then it counts for runs that go on, too.
    resources : Resources
        Which GPUs each run gets.
    limits : dict
        ``time`` and ``cell_time``, in seconds: how long a run, and a cell, may take; None is for ever.
    """

    job_folder: Path
    notebook: Notebook
    fork: Fork
    points: Sequence[Point]
    cwd: Path
    checkout: Path
    only: list[int] | None = None
    first: int = 0
    done_file: str | None = None
    resume: str | None = None
    engine: str = "local"
    start: str = "cold"
    seed: str | None = None
    feed: Feed = field(default_factory=Feed)
    workers: int | None = None
    resources: Resources = field(default_factory=Resources)
    limits: dict[str, float | None] = field(default_factory=dict)

    @functools.cached_property
    def program(self) -> forks.Program:
        """What the runs execute."""
        return forks.program(self.notebook.content, self.fork, self.notebook.running)

    @functools.cached_property
    def hashes(self) -> dict[str, str]:
        """What of the code counts: the cells that the runs execute, and the project's files that they import."""
        content = self.program.content
        sources = [cell.source for cell in code.executed_cells(content)]
        roots = [self.checkout, self.checkout / "src", self.cwd]
        return code.cell_hashes(content) | modules.imported(sources, roots, self.checkout)

    @functools.cached_property
    def whose(self) -> plan.Whose:
        """The notebook and the fork that these runs belong to."""
        others = {}
        for other in forks.find(self.notebook.content, self.notebook.running):
            if other.number != self.fork.number:
                # One whose runs would end above it has none.
                with contextlib.suppress(InvalidInput):
                    others[other.number] = dataclasses.replace(self, fork=other).hashes
        return plan.Whose(
            self.notebook.name,
            self.notebook.path_in(self.checkout),
            self.fork.number or 1,
            others,
            keeps=self.resume == "keep",
        )

    def plan(self, *, resume: str | None = None) -> Plan:
        """Decide which runs are kept, executed, left out; `resume` in place of the user's word."""
        return plan.make(
            self.points,
            self.job_folder,
            self.hashes,
            whose=self.whose,
            only=self.only,
            first=self.first,
            done_file=self.done_file,
            resume=resume or self.resume,
        )

    def kernel(self) -> str | None:
        """Return the kernel of the runs: this notebook's own interpreter, or the kernelspec that another one names."""
        from ..kernels.cold import check_kernel

        return None if self.notebook.current else check_kernel(self.notebook.content, self.notebook.name)

    def record(self) -> dict[str, Any]:
        """Return what the records of all runs share."""
        return {
            "engine": self.engine,
            "start": self.start,
            "gpus": self.resources.gpus,
            "only_free_gpus": self.resources.only_free,
            "cwd": str(self.cwd),
            "commit": commit(self.checkout),
            "payload": {"kind": "notebook", "kernel": self.kernel(), **self.limits},
            "code": self.hashes,
            "notebook_path": self.whose.path,
            "fork": self.whose.fork,
            "others": self.program.others,
        }

    def begin(self, engine: Engine) -> Begun:
        """Start what takes a while: with a warm start, the process that has the modules of the runs."""
        kernel = self.kernel()
        if self.start == "warm":
            from ..kernels import preparation

            preparation.write(self.job_folder / SCHEDULER, kernel, self.notebook)
        return engine.begin(self.job_folder, self.start, kernel) if isinstance(engine, ForksKernels) else Begun()


def submit(order: Order) -> tuple[Board, Plan]:
    """Write the runs' folders and start the scheduler; runs that are being executed already are joined.

    Returns
    -------
    tuple of Board and Plan
        The runs, those that are kept among them, and what was decided.

    Raises
    ------
    ColabMagicsError
        Before anything was started: see `plan.make`, `attempts.write`, `scheduler.lock`.
    """
    engine = open_engine(order.engine)
    if order.start not in engine.starts:
        raise InvalidInput(
            f"start={order.start} is not possible on={order.engine}.", f"Possible: {', '.join(sorted(engine.starts))}."
        )
    engine.available()
    job_folder = order.job_folder
    forked = live.check(order.notebook, order.fork) if order.start == "live" else {}
    order.program  # noqa: B018 - what cannot be executed is said before a folder is made
    make_folder(job_folder)
    real_folder(job_folder, SCHEDULER)
    try:
        lock = scheduler.lock(job_folder)
    except Busy as busy:
        return _join_those_that_run(order, busy)
    begun = Begun()
    try:
        scheduler.check_real(job_folder / SCHEDULER)
        (job_folder / SCHEDULER).mkdir(exist_ok=True)
        begun = order.begin(engine)
        record = order.record()
        submitted.settle(job_folder)
        made = order.plan()
        if order.start == "live":
            from ..kernels.live import freeze

            frozen = freeze(job_folder / SCHEDULER, seed=order.seed, close=[lock]) if made.execute else {}
            record["forked"] = {**forked, **frozen}
        folders = attempts.write(
            made, job_folder, content=order.program.content, name=order.notebook.name, common=record
        )
        joined.remember(job_folder, order.whose, made.order)
        if folders or made.adopt:
            adopt = [run.folder for run in made.adopt]
            scheduler.start(job_folder, folders, lock, engine=order.engine, feed=order.feed, adopt=adopt, begun=begun)
    finally:
        begun.close()
        os.close(lock)
    return _board(order, made), made


def _join_those_that_run(order: Order, busy: Busy) -> tuple[Board, Plan]:
    """Watch runs that another call has started, such as one before the kernel was restarted.

    Raises
    ------
    Busy
        When this call has runs that are not among them.
    InvalidInput
        When they execute other code.
    """
    made, fed = order.plan(), scheduler.fed(order.job_folder)
    others = [index for index, _ in made.execute if folder_name(index) not in fed]
    if others or made.aside:
        raise busy
    waiting = [Run.load(order.job_folder / folder_name(index)) for index, _ in made.execute]
    plan.check_code(waiting, order.hashes, order.resume)
    if order.workers is not None:
        scheduler.set_workers(order.job_folder, order.workers)
    joined.remember(order.job_folder, order.whose, made.order)
    made.adopt += waiting
    made.execute, made.resumed = [], {}
    return _board(order, made), made


def _board(order: Order, made: Plan) -> Board:
    return joined.board(order.job_folder, [index for index in made.order if index in made.indices], made.keep)


def make_folder(folder: Path) -> None:
    """Make a folder for results.

    Raises
    ------
    ColabMagicsError
        When it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ColabMagicsError(
            f"{folder} cannot be written: {error.strerror}.",
            "Nothing was started. Choose another folder: %project name=… root=FOLDER",
        ) from error


def claim(order: Order, label: int) -> Claimed:
    """Make the folder of one run and its record, and start nothing: somebody executes it by hand.

    The folder of a run that is done stays as it is: its results count. Another one is made, unless ``resume=keep`` was
    said.

    Parameters
    ----------
    order : Order
        The call.
    label : int
        The run's ``i_sub_job``.

    Raises
    ------
    InvalidInput
        When the order has no such run.
    Busy
        When it is being executed.
    """
    whole = dataclasses.replace(order, only=None, first=0, done_file=None)
    made = whole.plan(resume=order.resume or "keep")
    numbers = {point.i_sub_job(index): (index, point) for index, point in zip(made.order, order.points, strict=True)}
    if label not in numbers:
        raise InvalidInput(f"here={label}: there is no such run.", plan.these(list(numbers)))
    index, point = numbers[label]
    name = f"{order.job_folder.name}/{index}"
    folder, parameters = order.job_folder / folder_name(index), dict(point.parameters)
    for run in made.adopt:
        if run.index == index:
            raise Busy(f"{run.id} is being executed.", f"End it first: %jobs kill {run.id}")
    make_folder(order.job_folder)
    if index in [run.index for run in made.keep]:
        if order.resume == "keep":
            return Claimed(folder, parameters, name)
        beside = real_folder(order.job_folder, f"here_{folder.name}")
        make_folder(beside)
        return Claimed(beside, parameters, name, beside=folder)
    aside = [run for run in made.aside if run.index == index]
    chosen = Plan(execute=[(index, point)], aside=aside, taken=[run for run in made.taken if run.index == index])
    attempts.write(
        chosen, order.job_folder, content=order.program.content, name=order.notebook.name, common=order.record()
    )
    return Claimed(folder, parameters, name)


@dataclass(frozen=True)
class Claimed:
    """A run that is executed by hand.

    Parameters
    ----------
    folder : Path
        Its ``data_job``.
    parameters : dict
        Its own values.
    name : str
        The run's id.
    beside : Path or None
        The folder of the finished run that is left alone.
    """

    folder: Path
    parameters: dict[str, Any]
    name: str
    beside: Path | None = None


def preview(order: Order) -> Table:
    """Show what `submit` would do: each run with its values, their types, its folder, and what is left out and why."""
    made = order.plan()
    states = {run.index: "kept" for run in made.keep} | {run.index: "still running" for run in made.adopt}
    states |= dict.fromkeys((index for index, _ in made.execute), "to go")
    states |= {index: f"left out: {reason}" for index, reason in made.skip}
    texts = [
        [
            f"{order.job_folder.name}/{index}",
            states[index],
            str(point.i_sub_job(index)),
            ", ".join(f"{name}={value!r} ({type(value).__name__})" for name, value in point.parameters.items()),
            folder_name(index),
        ]
        for index, point in zip(made.order, order.points, strict=True)
    ]
    shown = texts[:100]
    notes = [f"… and {len(texts) - len(shown)} more"] if len(texts) > len(shown) else []
    notes.append(", ".join(filter(None, [f"{order.feed.workers} at once", str(order.resources)])) + ".")
    notes.append(f"Folders are in {order.job_folder}. Nothing was started (--dry-run).")
    return Table(["run", "state", "i_sub_job", "parameters", "folder"], shown, caption=str(made), notes=notes)


def commit(root: Path) -> str | None:
    """Return the commit of a checkout, with ``+edits`` when files differ from it; None outside of git."""
    head = git.ask("rev-parse", "HEAD", cwd=root)
    edits = git.ask(*git.STATUS, cwd=root)
    if head is None or edits is None:
        return None
    return f"{head}+edits" if edits else head
