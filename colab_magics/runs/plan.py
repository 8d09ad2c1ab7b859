"""From what ``%fork`` was told to a plan: which runs are kept, which are executed, and in which folders.

A finished run is reused by its parameters, never by its index, and never overwritten. A rerun moves the old folder
aside; a run that did not finish goes on in its own folder, so that its checkpoints serve.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import Busy, InvalidInput
from ..payloads import code
from ..payloads.base import NOTEBOOK, Owner, kind_of
from ..records import metrics
from ..records.names import folder_name, number_of
from ..records.plain import linked
from ..records.run import LOCAL, Run, runs_of
from ..records.status import ENDED, Status
from ..units import show_time


@dataclass(frozen=True)
class Point:
    """What one run is to compute.

    Parameters
    ----------
    repeat : int
        Which repetition, from 0. With ``n=`` alone it is all that tells runs apart.
    parameters : mapping
        The run's own values; empty with ``n=`` alone.
    record : mapping
        What its record says besides, and that of no other run: what people call it, what its engine is told.
    """

    repeat: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    def i_sub_job(self, index: int) -> int:
        """Return the number that users know this point's run by, in folder `index`."""
        return index if self.parameters else self.repeat


def resume_word(resume: Literal["keep", "rerun"] | None, *, force: bool) -> Literal["keep", "rerun"] | None:
    """Read ``resume=`` and ``--force``, which is its ``rerun``."""
    if force and resume == "keep":
        raise InvalidInput("resume=keep and --force say the opposite of one another.", "Leave one of them out.")
    return "rerun" if force else resume


@dataclass
class Plan:
    """What will happen to each run of a call.

    Parameters
    ----------
    execute : list of (int, Point)
        Index and point of the runs to execute.
    keep : list of Run
        Finished runs that are reused.
    skip : list of (int, str)
        Index and reason of runs that the user left out.
    adopt : list of Run
        Runs that are being executed, though their scheduler is gone: they are watched, not started.
    resumed : dict of int to str
        Which of `execute` were started before, and how far they came by what they reported: ``epoch 37``, or empty.
    aside : list of Run
        Runs whose folders move aside, because ``resume=rerun`` was said.
    order : list of int
        Indices of the runs of all points, in the order of the points.
    taken : list of Run
        Those among them that another notebook made, or this one at another place.
    strangers : list of str
        Other notebooks whose runs the job holds too: these stay as they are.
    """

    execute: list[tuple[int, Point]] = field(default_factory=list)
    keep: list[Run] = field(default_factory=list)
    skip: list[tuple[int, str]] = field(default_factory=list)
    adopt: list[Run] = field(default_factory=list)
    resumed: dict[int, str] = field(default_factory=dict)
    aside: list[Run] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    taken: list[Run] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    @property
    def indices(self) -> list[int]:
        """Indices of the runs that are executed, watched or kept."""
        return sorted([index for index, _ in self.execute] + [run.index for run in self.keep + self.adopt])

    def __str__(self) -> str:
        reached = list(dict.fromkeys(text for text in self.resumed.values() if text))
        resumed = f"resumed at {', '.join(reached[:3])}{', …' if len(reached) > 3 else ''}" if reached else "resumed"
        parts = [(len(self.keep), "kept"), (len(self.adopt), "still running"), (len(self.resumed), resumed)]
        parts += [(len(self.skip), "left out"), (len(self.execute) - len(self.resumed), "to go")]
        text = ", ".join(f"{number} {word}" for number, word in parts if number) or "nothing to do"
        made_by = dict.fromkeys(map(_notebook_of, self.taken))
        return f"{text} (made by {', '.join(made_by)})" if made_by else text


def make(
    points: Sequence[Point],
    job_folder: Path,
    hashes: Mapping[str, str],
    *,
    whose: Owner,
    only: Sequence[int] | None = None,
    first: int = 0,
    done_file: str | None = None,
    resume: str | None = None,
) -> Plan:
    """Decide what happens to each point.

    Parameters
    ----------
    points : sequence of Point
        What the user asked for.
    job_folder : Path
        ``data_job`` of the job, with the folders of earlier runs.
    hashes : mapping
        `code.cell_hashes` of what the runs execute.
    whose : Owner
        Tells which runs are this line's.
    only, first : sequence of int, int
        Leave out the points whose ``i_sub_job`` is not among `only`, or is below `first`.
    done_file : str, optional
        A file in a run's folder whose existence says that the run is finished.
    resume : {None, "keep", "rerun"}
        What to do with runs whose code changed; None asks, by an error. ``rerun`` executes all of them anew.

    Returns
    -------
    Plan

    Raises
    ------
    InvalidInput
        When runs had other code and `resume` was not said, or `only` names runs that are not there.
    Busy
        When a run is being executed elsewhere, or was to be executed anew.
    """
    plan = Plan()
    known = _known(points, runs_of(job_folder), whose, hashes, plan)
    changed: list[tuple[Run, list[str]]] = []
    for point, index in _numbered(points, known, job_folder):
        run = known.get(_key(point.repeat, point.parameters))
        plan.order.append(index)
        if reason := _left_out(point.i_sub_job(index), job_folder / folder_name(index), only, first, done_file):
            plan.skip.append((index, reason))
            continue
        status = run.status() if run is not None else None
        if run is None or status is None:
            plan.execute.append((index, point))
        elif resume == "rerun":
            plan.aside.append(_at_rest(run))
            plan.execute.append((index, point))
        elif status.phase != "running" and not status.ended_well and not is_out(run, status):
            plan.execute.append((index, point))
            if status.started and run.holds_results():
                plan.resumed[index] = _reached(run)
        elif (cells := code.changed_cells(run.record.get("code", {}), hashes)) and resume != "keep":
            changed.append((run, cells))
        elif not status.ended_well:
            plan.adopt.append(ours(run))
        else:
            plan.keep.append(run)
    if changed:
        raise _code_changed(changed)
    labels = [point.i_sub_job(index) for point, index in zip(points, plan.order, strict=True)]
    if only is not None and (missing := sorted(set(only) - set(labels))):
        raise InvalidInput(f"only={','.join(map(str, missing))}: there are no such runs.", these(labels))
    return plan


def these(labels: Sequence[int]) -> str:
    """Say which runs a call has."""
    ordered = sorted(labels)
    whole = ordered == list(range(ordered[0], ordered[-1] + 1))
    names = f"{ordered[0]} to {ordered[-1]}" if whole else ", ".join(map(str, ordered))
    return f"This call has the runs {names}."


def _known(
    points: Sequence[Point], existing: Sequence[Run], whose: Owner, hashes: Mapping[str, str], plan: Plan
) -> dict[tuple[Any, ...], Run]:
    """Find the runs of the points that there are; those that something else made stand in the plan's `taken`."""
    wanted = {_key(point.repeat, point.parameters) for point in points}
    existing = [run for run in existing if not run.problem and not run.is_named]  # a queue's are the queue's
    candidates = [(key, run) for run in existing if (key := _key_of(run)) in wanted]
    known = {key: run for key, run in candidates if whose.made(run, hashes)}
    for key, run in candidates:
        if key not in known and whose.may_take(run, hashes):
            known[key] = run
            plan.taken.append(run)
    strangers = (run for run in existing if not whose.is_maker_of(run) and run not in plan.taken)
    plan.strangers += dict.fromkeys(map(_notebook_of, strangers))
    return known


def _numbered(
    points: Sequence[Point], known: Mapping[tuple[Any, ...], Run], job_folder: Path
) -> Iterator[tuple[Point, int]]:
    """Give each point the number of its folder.

    With n= alone the number is the parameter: run 3 of five is number 3, as users of sub-jobs expect, unless another
    run has that folder.
    """
    # A folder without a readable record may still hold results: its number is taken as well.
    taken = {number_of(folder.name) for folder in job_folder.glob("sub_job_*")}
    of_runs = {run.index for run in runs_of(job_folder) if not run.problem or linked(run.folder)}
    plain = {point.repeat for point in points if not point.parameters}
    free = (index for index in itertools.count() if index not in taken and index not in plain)
    for point in points:
        run = known.get(_key(point.repeat, point.parameters))
        if run is not None:
            yield point, run.index
        elif not point.parameters and point.repeat not in of_runs:
            yield point, point.repeat
        else:
            yield point, next(free)


def _left_out(label: int, folder: Path, only: Sequence[int] | None, first: int, done_file: str | None) -> str:
    """Say why the user leaves a run out; nothing when it takes part."""
    if only is not None and label not in only:
        return "not in only="
    if label < first:
        return f"below first={first}"
    return f"{done_file} is there" if done_file and (folder / done_file).exists() else ""


def _reached(run: Run) -> str:
    """Say how far a run came, by its last report of an epoch or a step."""
    values = metrics.last(metrics.recent(run.folder))
    return next((f"{name} {values[name]}" for name in ("epoch", metrics.STEP) if name in values), "")


def _at_rest(run: Run) -> Run:
    """Return a run whose folder may move aside.

    Raises
    ------
    Busy
        When it is being executed.
    """
    status = run.status()
    if status.phase == "running" or is_out(run, status):
        raise Busy(f"{run.id} is being executed: it cannot be executed anew now.", f"End it first: %jobs kill {run.id}")
    return run


def is_out(run: Run, status: Status) -> bool:
    """Whether an engine has it; of what has ended on this machine nothing is read for that."""
    return (run.engine != LOCAL or status.phase not in ENDED) and run.is_out()


def ours(run: Run) -> Run:
    """Return a run that this machine executes, or an engine has that can be asked.

    Raises
    ------
    Busy
        When another machine does.
    """
    if run.runner_lives() or run.is_out():
        return run
    state = run.state() or {}
    who, beat = state.get("process") or {}, show_time(float(state.get("beat") or 0))
    raise Busy(
        f"{run.id} is being executed on {who.get('host', 'another machine')} (heard from it at {beat}).",
        f"Wait for it, or end it there: %jobs kill {run.id}. A minute after it fell silent this line takes it over.",
    )


def _key(repeat: int, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes a run this run; types count (1 is not 1.0, nor True)."""
    return (repeat, *sorted((name, type(value).__name__, repr(value)) for name, value in parameters.items()))


def check_code(runs: Sequence[Run], hashes: Mapping[str, str], resume: str | None) -> None:
    """Check that runs that have not ended execute this code.

    Raises
    ------
    InvalidInput
        When one does not, and ``resume=keep`` was not said.
    """
    differ = [(run, cells) for run in runs if (cells := code.changed_cells(run.record.get("code", {}), hashes))]
    if differ and resume != "keep":
        raise _code_changed(differ)


def _notebook_of(run: Run) -> str:
    if (kind := kind_of(run.record)) != NOTEBOOK:
        return f"{kind}s"
    return str(run.record.get("notebook_path") or run.record.get("notebook"))


def _key_of(run: Run) -> tuple[Any, ...]:
    return _key(run.record.get("repeat", run.index), run.parameters)


def _code_changed(changed: Sequence[tuple[Run, list[str]]]) -> InvalidInput:
    where = code.where_changed([part for _, parts in changed for part in parts])
    moving = [run for run, _ in changed if not run.status().ended_well]
    runs = "1 run" if len(changed) == 1 else f"{len(changed)} runs"
    if moving:
        return InvalidInput(
            f"{runs} were started with other code ({where}), and {len(moving)} of them go on.",
            f"Say resume=keep to keep them, or end them first: %jobs kill {moving[0].job}",
        )
    return InvalidInput(
        f"{runs} finished with other code ({where}).",
        "Say resume=keep to keep their results, or resume=rerun to run all of this line again (the old folders move "
        "aside).",
    )


def count_phases(statuses: Sequence[tuple[Run, Status]]) -> str:
    """Write one line on how many runs are in which phase."""
    counts: dict[str, int] = {}
    for _, status in statuses:
        counts[status.phase] = counts.get(status.phase, 0) + 1
    order = ("done", "stopped", "running", "waiting", "failed", "killed", "interrupted", "cancelled", "unreadable")
    return ", ".join(f"{counts[phase]} {phase}" for phase in order if phase in counts) or "no runs"


def since(stamp: float | None) -> str:
    """Write when something began, for messages."""
    return f" since {show_time(stamp)}" if stamp else ""
