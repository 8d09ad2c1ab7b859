"""From points and a notebook to runs that are being executed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import process
from ..engines import ENGINES
from ..engines.base import Begun, Engine
from ..errors import Busy, ColabMagicsError, CommandFailed, InvalidInput, Unavailable
from ..ui import Notebook, Table
from . import code, live, plan, scheduler
from .board import Board
from .plan import Plan, Point
from .resources import Resources
from .run import folder_name, runs_of
from .scheduler import Feed


@dataclass(frozen=True)
class Order:
    """What is to be executed, and how.

    Parameters
    ----------
    job_folder : Path
        ``data_job`` of the job.
    notebook : Notebook
        The payload.
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
    resources : Resources
        Which GPUs each run gets.
    limits : dict
        ``time`` and ``cell_time``, in seconds: how long a run, and a cell, may take; None is for ever.
    """

    job_folder: Path
    notebook: Notebook
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
    resources: Resources = field(default_factory=Resources)
    limits: dict[str, float | None] = field(default_factory=dict)

    def plan(self) -> Plan:
        """Decide which runs are kept, executed, left out."""
        hashes = code.cell_hashes(self.notebook.content)
        return plan.make(
            self.points,
            self.job_folder,
            hashes,
            only=self.only,
            first=self.first,
            done_file=self.done_file,
            resume=self.resume,
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
            "code": code.cell_hashes(self.notebook.content),
        }

    def begin(self, engine: Engine) -> Begun:
        """Start what takes a while: with a warm start, the process that has the modules of the runs."""
        kernel = self.kernel()
        if self.start == "warm":
            from ..kernels import preparation

            preparation.write(self.job_folder / scheduler.FOLDER, kernel, self.notebook)
        return engine.begin(self.job_folder, self.start, kernel)


def submit(order: Order) -> tuple[Board, Plan]:
    """Write the runs' folders and start the scheduler.

    Returns
    -------
    tuple of Board and Plan
        The runs, those that are kept among them, and what was decided.

    Raises
    ------
    ColabMagicsError
        Before anything was started: see `plan.make`, `plan.write`, `scheduler.lock`.
    """
    engine = ENGINES.load(order.engine)()
    if order.start not in engine.starts:
        raise InvalidInput(
            f"start={order.start} is not possible on={order.engine}.", f"Possible: {', '.join(sorted(engine.starts))}."
        )
    engine.available()
    job_folder = order.job_folder
    forked = live.check(order.notebook) if order.start == "live" else {}
    make_folder(job_folder)
    lock = scheduler.lock(job_folder)
    begun = Begun()
    try:
        (job_folder / scheduler.FOLDER).mkdir(exist_ok=True)
        begun = order.begin(engine)
        record = order.record()
        made = order.plan()
        notebook = order.notebook
        if order.start == "live":
            from ..kernels.live import freeze

            frozen = freeze(job_folder / scheduler.FOLDER, seed=order.seed, close=[lock]) if made.execute else {}
            record["forked"] = {**forked, **frozen}
        folders = plan.write(made, job_folder, content=notebook.content, name=notebook.name, common=record)
        if folders or made.adopt:
            adopt = [run.folder for run in made.adopt]
            scheduler.start(job_folder, folders, lock, engine=order.engine, feed=order.feed, adopt=adopt, begun=begun)
    finally:
        begun.close()
        os.close(lock)
    chosen = set(made.indices)
    return Board(lambda: [run for run in runs_of(job_folder) if run.index in chosen]), made


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


def claim(order: Order, index: int) -> tuple[Path, dict[str, Any]]:
    """Make the folder of one run and its record, and start nothing: somebody executes it by hand.

    Returns
    -------
    tuple of Path and dict
        The run's folder and its parameters.

    Raises
    ------
    InvalidInput
        When the order has no such run.
    Busy
        When it is being executed.
    """
    made = dataclasses.replace(order, resume="keep", only=None, first=0, done_file=None).plan()
    for run in made.keep:
        if run.index == index:
            return run.folder, run.parameters
    for run in made.adopt:
        if run.index == index:
            raise Busy(f"{run.id} is being executed.", f"End it first: %jobs kill {run.id}")
    chosen = Plan(execute=[(number, point) for number, point in made.execute if number == index])
    if not chosen.execute:
        known = made.indices
        raise InvalidInput(f"here={index}: there is no such run.", f"This call has the runs {known[0]} to {known[-1]}.")
    make_folder(order.job_folder)
    notebook = order.notebook
    plan.write(chosen, order.job_folder, content=notebook.content, name=notebook.name, common=order.record())
    return order.job_folder / folder_name(index), dict(chosen.execute[0][1].parameters)


def preview(order: Order) -> Table:
    """Show what `submit` would do: each run with its values, their types, its folder, and what is left out and why."""
    made = order.plan()
    skipped = dict(made.skip)
    rows = [(run.index, "kept", run.parameters) for run in made.keep]
    rows += [(run.index, "still running", run.parameters) for run in made.adopt]
    rows += [(index, "to go", dict(point.parameters)) for index, point in made.execute]
    rows += [(index, f"left out: {reason}", {}) for index, reason in skipped.items()]
    texts = [
        [
            f"{order.job_folder.name}/{index}",
            state,
            ", ".join(f"{name}={value!r} ({type(value).__name__})" for name, value in parameters.items()),
            folder_name(index),
        ]
        for index, state, parameters in sorted(rows, key=lambda row: row[0])
    ]
    shown = texts[:100]
    notes = [f"… and {len(texts) - len(shown)} more"] if len(texts) > len(shown) else []
    notes.append(", ".join(filter(None, [f"{order.feed.workers} at once", str(order.resources)])) + ".")
    notes.append(f"Folders are in {order.job_folder}. Nothing was started (--dry-run).")
    return Table(["run", "state", "parameters", "folder"], shown, caption=str(made), notes=notes)


def commit(root: Path) -> str | None:
    """Return the commit of a checkout, with ``+edits`` when files differ from it; None outside of git."""
    try:
        head = process.run(["git", "rev-parse", "HEAD"], cwd=root).stdout.strip()
        edits = process.run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=root).stdout.strip()
    except (CommandFailed, Unavailable):
        return None
    return f"{head}+edits" if edits else head
