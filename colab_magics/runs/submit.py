"""From points and a notebook to runs that are being executed."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..engines import open_engine
from ..engines.base import Engine, Work
from ..errors import Busy
from ..records.names import SCHEDULER, folder_name
from ..records.run import Run
from ..ui import Table
from . import attempts, joined, plan, scheduler
from .order import Order, beginning, hand_over, ready
from .plan import Plan

if TYPE_CHECKING:
    from .board import Board


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
    job_folder = order.job_folder
    with beginning(order, engine) as begun:
        record = order.record()
        made = order.plan()
        order.check_goes_on(made.adopt)
        if made.execute:
            record |= order.draft.freeze(job_folder / SCHEDULER, held)
        folders = attempts.write(made, job_folder, order.draft, record)
        joined.remember(job_folder, record, made.order, goal=order.goal, trend=order.trend)
        if folders or made.adopt:
            hand_over(order, held, begun, folders, [run.folder for run in made.adopt])
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
