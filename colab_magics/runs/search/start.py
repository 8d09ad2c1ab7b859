"""From a search's line to a scheduler that chooses its runs, and the board that shows them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ... import process
from ...errors import Busy, ColabMagicsError, InvalidInput
from ...payloads import code
from ...records import metrics, schema
from ...records.names import RECORD, SCHEDULER, SEARCHED, STATE
from ...records.run import Run, runs_of
from ...records.status import Status
from ...ui import Table
from .. import attempts, joined, plan, scheduler
from ..board import GrowingBoard
from ..goal import Goal
from ..order import Order, beginning, hand_over, ready
from ..plan import Plan, Point
from ..scheduler import last_plan
from . import found
from .space import Space
from .study import Rules

_TAKES_ALL = "takes all runs at once, and a search chooses the next by what the others came to"


@dataclass(frozen=True)
class Search:
    """What a line says of its search.

    Parameters
    ----------
    written : mapping
        The space as it was written.
    space : Space
        The same, read.
    rules : Rules
        How points are chosen; a seed of -1 is none that was said.
    runs : int
        How many runs there are to be, with those of earlier calls.
    patience : int or None
        After so many runs that were not better than the best no other is tried.
    time : float or None
        After so many seconds no other run is started.
    """

    written: Mapping[str, Any]
    space: Space
    rules: Rules
    runs: int
    patience: int | None = None
    time: float | None = None


@dataclass(repr=False)  # IPython would take that of this class for what it shows
class SearchBoard(GrowingBoard):
    """The runs of a search, with those that come while a scheduler chooses more.

    Parameters
    ----------
    goal : Goal or None
        What it is to reach, where that is one thing.
    """

    goal: Goal | None = None

    def left_alone(self, job: Path) -> ColabMagicsError:
        """Say that nobody brings runs any more; see `GrowingBoard`."""
        return ColabMagicsError(
            f"Nobody chooses runs for {job.name} any more.",
            "Run the line again: the search goes on where it was.",
        )

    def tells(self, statuses: Sequence[tuple[Run, Status]]) -> list[str]:
        """Draw the best value so far, run by run; see `Board.tells`."""
        if (goal := self.goal) is None:
            return []
        runs = sorted((run for run, status in statuses if status.phase == "done"), key=found.number)
        values = [value for run in runs if (value := goal.value(run)) is not None]
        if len(values) < 2:
            return []
        best = list(itertools.accumulate(values, min if goal.way == "min" else max))
        return [f"{goal} so far  {metrics.sparkline(best)}  {metrics.show_value(best[-1])}"]


def of_job(job_folder: Path) -> SearchBoard:
    """Return the runs of the search that a job's scheduler has."""
    template = schema.read_or_nothing(job_folder / SCHEDULER / SEARCHED / RECORD, schema.Record)
    said = last_plan(job_folder).get("search") or {}
    entry = {**{key: template.get(key) for key in found.SAME}, "search": said.get("space") or {}}
    return board(job_folder, entry, (said.get("rules") or {}).get("goals") or [])


def board(job_folder: Path, entry: Mapping[str, Any], goals: Sequence[str]) -> SearchBoard:
    """Return the runs of a search, by its entry in forks.json."""
    goal = Goal(*goals[0].split(":", 1)) if len(goals) == 1 else None
    return SearchBoard(lambda: found.members(job_folder, entry), job=job_folder, goal=goal)


@dataclass
class _Before:
    """What there is of a search already."""

    runs: list[Run] = field(default_factory=list)
    unfit: list[Run] = field(default_factory=list)
    plan: Plan = field(default_factory=Plan)


def start(order: Order, search: Search) -> tuple[SearchBoard, list[str]]:
    """Have a scheduler choose and execute runs; one that does so already is watched.

    Returns
    -------
    tuple of SearchBoard and list of str
        The runs, and what is to be said of earlier ones.

    Raises
    ------
    ColabMagicsError
        Before anything was started: the code changed, the job's runs are being executed already, and all that
        `submit.submit` says.
    """
    order = order.a_few_at_once(_TAKES_ALL)
    engine, job_folder = ready(order), order.job_folder
    entry = {**{key: order.draft.record().get(key) for key in found.SAME}, "search": dict(search.written)}
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(scheduler.taken(job_folder))
        except Busy as busy:
            _follow(order, search, busy)
            return board(job_folder, entry, search.rules.goals), []
        begun = stack.enter_context(beginning(order, engine))
        before = _before(order, search)
        record = order.record() | order.draft.freeze(job_folder / SCHEDULER, held)
        folders = attempts.write(before.plan, job_folder, order.draft, record)
        try:
            _write_template(order, record)
        except OSError as error:
            raise scheduler.cannot_start(error, job_folder) from error
        joined.remember(job_folder, record, [], goal=order.goal, trend=order.trend, search=search.written)
        adopt = [run.folder for run in before.plan.adopt]
        hand_over(order, held, begun, folders, adopt, search=_for_the_scheduler(order, search, before))
    made = board(job_folder, entry, search.rules.goals)
    made.kept = [run.folder for run in before.plan.keep]
    return made, _words(job_folder, search, before)


def _before(order: Order, search: Search) -> _Before:
    """Decide what becomes of the runs that there are: what has ended counts, what was cut off goes on."""
    hashes, whose = order.draft.hashes, order.draft.whose
    all_of_it = [run for run in runs_of(order.job_folder) if found.is_of_search(run)]
    mine = [run for run in all_of_it if whose.made(run, hashes) or whose.may_take(run, hashes)]
    mine.sort(key=found.number)
    before = _Before([run for run in mine if search.space.holds(run.parameters)])
    before.unfit = [run for run in mine if run not in before.runs]
    if running := [run for run in before.unfit if run.status().phase == "running"]:
        raise Busy(
            f"{running[0].id} is being executed, and its values are not in the space any more.",
            f"Wait for it, or end it first: %jobs kill {running[0].id}",
        )
    points = [Point(0, run.parameters, {"search": dict(run.record["search"])}) for run in before.runs]
    before.plan = made = plan.make(points, order.job_folder, hashes, whose=whose, resume=order.resume)
    if made.aside:
        # All anew: what is chosen then is chosen anew, too.
        made.execute, before.runs = [], []
    ended = {run.index: run for run in before.runs if run.status().phase == "failed"}
    _check_code(list(ended.values()), order)
    made.keep += [ended[index] for index, _ in made.execute if index in ended]
    made.execute = [(index, point) for index, point in made.execute if index not in ended]
    order.check_goes_on(made.adopt)
    return before


def _check_code(failed: Sequence[Run], order: Order) -> None:
    """Check that what has failed has failed with this code: other code may do better.

    Raises
    ------
    InvalidInput
        When it has not, and ``resume=`` was not said.
    """
    changed = [run for run in failed if code.changed_cells(run.record.get("code", {}), order.draft.hashes)]
    if changed and order.resume is None:
        raise InvalidInput(
            f"{len(changed)} runs of this search failed with other code.",
            "Say resume=keep to count them, resume=rerun to begin anew, or %jobs rm failed to try others instead.",
        )


def _for_the_scheduler(order: Order, search: Search, before: _Before) -> dict[str, Any]:
    seeds = [run.record["search"].get("seed", 0) for run in before.runs]
    seed = search.rules.seed
    if seed < 0:
        seed = seeds[-1] if seeds else random.SystemRandom().randrange(2**31)
    rules = dataclasses.replace(search.rules, seed=seed, parallel=order.feed.workers > 1)
    return {
        "space": dict(search.written),
        "rules": dataclasses.asdict(rules),
        "runs": search.runs,
        "patience": search.patience,
        "until": None if search.time is None else time.time() + search.time,
        "least": 1 + max((found.number(run) for run in [*before.runs, *before.unfit]), default=-1),
        "before": [run.folder.name for run in before.runs],
    }


def _words(job_folder: Path, search: Search, before: _Before) -> list[str]:
    """Say what becomes of earlier runs."""
    notes, made = [], before.plan
    if before.runs:
        counts = {"count": len(made.keep), "are running": len(made.adopt), "go on": len(made.execute)}
        parts = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
        left = max(0, search.runs - len(before.runs))
        notes.append(f"{job_folder.name}: of {len(before.runs)} runs of this search {parts}; {left} more to choose.")
    if before.unfit:
        ids = ", ".join(run.id for run in before.unfit[:5]) + (", …" if len(before.unfit) > 5 else "")
        notes.append(f"{len(before.unfit)} runs are not in the space any more, and do not count: {ids}")
    return notes


def _follow(order: Order, search: Search, busy: Busy) -> None:
    """Check that the scheduler that is there does what this line says; raises `busy` where it does something else."""
    template = schema.read_or_nothing(order.job_folder / SCHEDULER / SEARCHED / RECORD, schema.Record)
    had = last_plan(order.job_folder).get("search") or {}
    mine = order.draft.record()
    if had.get("space") != dict(search.written) or any(template.get(key) != mine.get(key) for key in found.SAME):
        raise busy
    if had.get("runs") != search.runs or (had.get("rules") or {}).get("goals") != list(search.rules.goals):
        raise InvalidInput(
            f"This search is being executed with search={had.get('runs')} and another goal, or other numbers.",
            f"Say the same to watch it, or end it first: %jobs kill {order.job_folder.name}",
        )
    if cells := code.changed_cells(template.get("code", {}), order.draft.hashes):
        raise InvalidInput(
            f"Runs of this search are being executed with other code ({code.where_changed(cells)}).",
            f"Wait for them, or end them first: %jobs kill {order.job_folder.name}",
        )
    if order.workers is not None:
        scheduler.set_workers(order.job_folder, order.workers)
    joined.remember(order.job_folder, order.record(), [], goal=order.goal, trend=order.trend, search=search.written)


def _write_template(order: Order, record: Mapping[str, Any]) -> None:
    """Write what each run's folder gets; raises OSError."""
    template = order.job_folder / SCHEDULER / SEARCHED
    if template.is_dir():
        shutil.rmtree(template)
    template.mkdir()
    order.draft.write(template)
    process.write_json(template / RECORD, {"index": 0, **record})


def preview(order: Order, search: Search) -> Table:
    """Show what would be chosen from; nothing is."""
    rows = []
    for branch in search.space.branches:
        when = " and ".join(f"{name}={' or '.join(map(str, values))}" for name, values in branch.conditions.items())
        rows += [[name, str(getattr(one, "text", one)), when] for name, one in branch.parameters.items()]
    rules = search.rules
    notes = [f"goal={', '.join(rules.goals)}, sampler={rules.sampler}" + (f", stop={rules.stop}" if rules.stop else "")]
    notes.append(", ".join(filter(None, [order.at_once, str(order.resources)])) + ".")
    notes.append(f"Folders are in {order.job_folder}. Nothing was started (--dry-run).")
    return Table(["parameter", "values", "when"], rows, caption=f"A search of {search.runs} runs.", notes=notes)


def chosen(order: Order, search: Search) -> list[Run]:
    """Return the runs of a search that there are."""
    record = order.draft.record()
    return found.members(order.job_folder, {**{key: record.get(key) for key in found.SAME}, "search": search.written})


def best(runs: Sequence[Run], search: Search) -> Run | None:
    """Return the finished run that is nearest to the goal, to the first of several."""
    goal = Goal(*search.rules.goals[0].split(":", 1))
    return goal.best([run for run in runs if run.status().phase == "done"])


def last_words(made: SearchBoard, search: Search) -> list[str]:
    """Say how a search has ended: the best point, ready to be pasted, and what is to be known of the others."""
    lines = []
    if made.job is not None:
        state = schema.read_or_nothing(made.job / SCHEDULER / STATE, schema.Scheduler)
        lines += [f"{state['note']}."] if state.get("note") else []
    if len(search.rules.goals) > 1:
        lines.append(_front(made.runs, search.rules.goals))
    else:
        goal = search.rules.goals[0]
        if (run := best(made.runs, search)) is not None:
            values = "; ".join(f"{name} = {value!r}" for name, value in run.parameters.items())
            lines.append(f"Best by {goal}: {run.id}. Its values: {values}")
        else:
            lines.append(f"No run that finished has reported a number as {goal[4:]}.")
    return lines


def _front(runs: Sequence[Run], goals: Sequence[str]) -> str:
    """Name the runs that none is better than in all goals."""
    tried = [(run, found.tried(run, goals).values) for run in runs if run.status().phase == "done"]
    signs = [1 if goal.startswith("min:") else -1 for goal in goals]
    points = [(run, [s * v for s, v in zip(signs, values, strict=True)]) for run, values in tried if values is not None]
    best = [
        run.id
        for run, mine in points
        if not any(other != mine and all(o <= m for o, m in zip(other, mine, strict=True)) for _, other in points)
    ]
    names = " and ".join(goals)
    return (
        f"None is better by {names} than: {', '.join(best)}" if best else f"No run that finished has reported {names}."
    )
