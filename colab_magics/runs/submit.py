"""From points and a notebook to runs that are being executed."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkout import git
from ..checkout.project import real_folder
from ..engines import open_engine
from ..engines.base import Engine, Resources, Work
from ..engines.zygotes import Begun
from ..errors import Busy, ColabMagicsError, InvalidInput
from ..payloads.base import Draft
from ..records.names import SCHEDULER, folder_name
from ..records.run import LOCAL, Run
from ..ui import Table
from . import attempts, joined, plan, scheduler, submitted
from .plan import Plan, Point
from .scheduler import Feed

if TYPE_CHECKING:
    from .board import Board


@dataclass(frozen=True)
class Order:
    """What is to be executed, and how.

    Parameters
    ----------
    job_folder : Path
        ``data_job`` of the job.
    draft : Draft
        What the runs execute.
    points : sequence of Point
        The runs.
    cwd : Path
        Folder in which they start.
    checkout : Path
        The project's folder, for the commit that the runs' records name.
    only, first, done_file, resume
        See `plan.make`.
    engine : str
        Where runs execute.
    options : mapping
        What the line says to that engine alone.
    feed : Feed
        How many at once, and what failures mean.
    workers : int, optional
        How many at once, where the user said it: then it counts for runs that go on, too.
    resources : Resources
        Which GPUs each run gets.
    outputs : sequence of str
        Patterns of files of the project that runs on other machines write, and that come home.
    goal, trend
        What tables mark the best run by (``min:loss``), and the metrics that they draw.
    """

    job_folder: Path
    draft: Draft
    points: Sequence[Point]
    cwd: Path
    checkout: Path
    only: list[int] | None = None
    first: int = 0
    done_file: str | None = None
    resume: str | None = None
    engine: str = "local"
    options: Mapping[str, Any] = field(default_factory=dict)
    feed: Feed = field(default_factory=Feed)
    secrets: Sequence[str] = ()
    workers: int | None = None
    resources: Resources = field(default_factory=Resources)
    outputs: Sequence[str] = ()
    goal: str = ""
    trend: Sequence[str] = ()

    @property
    def at_once(self) -> str:
        """How many execute at once, for people."""
        return dataclasses.replace(self.resources, workers=self.feed.workers).at_once_in_words

    def plan(self, *, resume: str | None = None) -> Plan:
        """Decide which runs are kept, executed, left out; `resume` in place of the user's word."""
        return plan.make(
            self.points,
            self.job_folder,
            self.draft.hashes,
            whose=self.draft.whose,
            only=self.only,
            first=self.first,
            done_file=self.done_file,
            resume=resume or self.resume,
        )

    def record(self) -> dict[str, Any]:
        """Return what the records of all runs share."""
        return {
            "engine": self.engine,
            **({"options": dict(self.options)} if self.options else {}),
            "gpus": self.resources.gpus,
            "only_free_gpus": self.resources.only_free,
            **({"lease": dict(self.resources.lease)} if self.resources.lease is not None else {}),
            "cwd": str(self.cwd),
            "commit": commit(self.checkout),
            **({"outputs": list(self.outputs)} if self.outputs else {}),
            "code": dict(self.draft.hashes),
            **self.draft.record(),
        }


def submit(order: Order) -> tuple[Board, Plan]:
    """Write the runs' folders and start the scheduler; runs that are being executed already are joined.

    Returns
    -------
    tuple of Board and Plan
        The runs, those that are kept among them, and what was decided.

    Raises
    ------
    ColabMagicsError
        Before anything was started: see `plan.make`, `attempts.write`, `scheduler.taken`.
    """
    engine, job_folder = ready(order), order.job_folder
    while True:
        with contextlib.ExitStack() as stack:
            if order.draft.queues and _is_queued(stack, job_folder):
                return _queue(order)
            try:
                held = stack.enter_context(scheduler.taken(job_folder))
            except Busy as busy:
                if not order.draft.queues:
                    return _join_those_that_run(order, busy)
                continue  # another line has just started a scheduler, which takes these, too
            return _start(order, engine, held)


def ready(order: Order) -> Engine:
    """Check what is asked for, and make the job's folder; returns where runs execute.

    Raises
    ------
    ColabMagicsError
        When they cannot be executed there, or the folder cannot be written.
    """
    engine = open_engine(order.engine, order.options)
    if order.draft.start not in engine.starts:
        raise InvalidInput(
            f"start={order.draft.start} is not possible on={order.engine}.",
            f"Possible: {', '.join(sorted(engine.starts))}.",
        )
    engine.available()
    job_folder = order.job_folder
    submitted.say(job_folder, order.engine)
    order.draft.check()
    make_folder(job_folder)
    real_folder(job_folder, SCHEDULER)
    scheduler.check_real(job_folder / SCHEDULER)
    make_folder(job_folder / SCHEDULER)
    if order.engine != LOCAL:
        submitted.wait_for_killed(job_folder)
    return engine


def _is_queued(stack: contextlib.ExitStack, job_folder: Path) -> bool:
    """Whether runs go to a scheduler that is there; then nobody else decides about them until the stack is left."""
    with contextlib.ExitStack() as held:
        held.enter_context(scheduler.planning(job_folder))
        if scheduler.is_running(job_folder):
            stack.push(held.pop_all())
            return True
    return False


def _start(order: Order, engine: Engine, held: list[int]) -> tuple[Board, Plan]:
    """Write the runs' folders and start the scheduler, to whom the lock goes."""
    job_folder, begun = order.job_folder, Begun()
    try:
        begun = order.draft.begin(engine, job_folder / SCHEDULER)
        record = order.record()
        submitted.settle(job_folder, [order.engine])
        made = order.plan()
        for run in made.adopt:
            if run.engine != order.engine:
                raise Busy(
                    f"{run.id} is being executed with on={run.engine}.",
                    f"Say on={run.engine} to go on with it, or end it first: %jobs kill {run.id}",
                )
        if made.execute:
            record |= order.draft.freeze(job_folder / SCHEDULER, held)
        folders = attempts.write(made, job_folder, order.draft, record)
        joined.remember(job_folder, record, made.order, goal=order.goal, trend=order.trend)
        if folders or made.adopt:
            adopt = [run.folder for run in made.adopt]
            scheduler.start(
                job_folder,
                folders,
                held[0],
                engine=order.engine,
                options=order.options,
                feed=order.feed,
                at_once=order.resources.at_once,
                secrets=order.secrets,
                adopt=adopt,
                begun=begun,
            )
    finally:
        begun.close()
    return _board(order, made), made


def _queue(order: Order) -> tuple[Board, Plan]:
    """Give the runs to the scheduler that executes others of this job; they come when it is their turn."""
    scheduler.check_addable(order.job_folder, order.feed, order.engine, order.options)
    made, fed = order.plan(), scheduler.fed(order.job_folder)
    if made.aside:
        raise Busy(
            f"Runs of {order.job_folder.name} are being executed: none can be executed anew now.",
            f"Wait for them: %jobs watch {order.job_folder.name}",
        )
    waiting = {index for index, _ in made.execute if folder_name(index) in fed and _waits(order, index)}
    made.adopt += [Run.load(order.job_folder / folder_name(index)) for index in sorted(waiting)]
    made.execute = [(index, point) for index, point in made.execute if index not in waiting]
    folders = attempts.write(made, order.job_folder, order.draft, order.record())
    scheduler.add(order.job_folder, folders)
    if order.workers is not None:
        scheduler.set_workers(order.job_folder, order.resources.at_once or order.workers)
    return _board(order, made), made


def _waits(order: Order, index: int) -> bool:
    return Run.look(order.job_folder / folder_name(index)).status().phase == "waiting"


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
    plan.check_code(waiting, order.draft.hashes, order.resume)
    if order.workers is not None:
        scheduler.set_workers(order.job_folder, order.resources.at_once or order.workers)
    joined.remember(order.job_folder, order.record(), made.order, goal=order.goal, trend=order.trend)
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
    attempts.write(chosen, order.job_folder, order.draft, order.record())
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
    notes.append(", ".join(filter(None, [order.at_once, str(order.resources)])) + ".")
    notes += _of_engine(order, made)
    notes.append(f"Folders are in {order.job_folder}. Nothing was started (--dry-run).")
    return Table(["run", "state", "i_sub_job", "parameters", "folder"], shown, caption=str(made), notes=notes)


def _of_engine(order: Order, made: Plan) -> list[str]:
    """Have the engine show what it would be given, where it can."""
    engine = open_engine(order.engine, order.options)
    if not engine.previews or not made.execute:
        return []
    from .runner import Runner

    with tempfile.TemporaryDirectory() as elsewhere:
        folders = attempts.write(
            Plan(execute=made.execute), Path(elsewhere, order.job_folder.name), order.draft, order.record()
        )
        names = dict.fromkeys(order.secrets, "")
        work = Work(order.job_folder, Runner(), folders, environment=names, at_once=order.resources.at_once)
        return list(engine.preview(work))


def commit(root: Path) -> str | None:
    """Return the commit of a checkout, with ``+edits`` when files differ from it; None outside of git."""
    head = git.ask("rev-parse", "HEAD", cwd=root)
    edits = git.ask(*git.STATUS, cwd=root)
    if head is None or edits is None:
        return None
    return f"{head}+edits" if edits else head
