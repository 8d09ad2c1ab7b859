"""From what ``%fork`` was told to runs on disk: which are kept, which are executed, and their folders.

A finished run is reused by its parameters, never by its index, and never overwritten. A rerun moves the old folder
aside; a run that did not finish goes on in its own folder, so that its checkpoints serve.
"""

from __future__ import annotations

import copy
import itertools
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import process
from ..errors import Busy, ColabMagicsError, InvalidInput
from ..units import show_time
from . import code, metrics
from .recover import recover
from .run import NOTEBOOK, RECORD, SOURCE, STATE, VERDICT, Run, Status, ended_attempts, folder_name, runs_of

SUPERSEDED = ".superseded"
"""Folder of a job that keeps what reruns moved aside."""


@dataclass(frozen=True)
class Point:
    """What one run is to compute.

    Parameters
    ----------
    repeat : int
        Which repetition, from 0. With ``n=`` alone it is all that tells runs apart.
    parameters : mapping
        The run's own values; empty with ``n=`` alone.
    """

    repeat: int
    parameters: Mapping[str, Any] = field(default_factory=dict)


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
        Finished runs whose folders move aside, because their code changed and ``resume=rerun`` was said.
    """

    execute: list[tuple[int, Point]] = field(default_factory=list)
    keep: list[Run] = field(default_factory=list)
    skip: list[tuple[int, str]] = field(default_factory=list)
    adopt: list[Run] = field(default_factory=list)
    resumed: dict[int, str] = field(default_factory=dict)
    aside: list[Run] = field(default_factory=list)

    @property
    def indices(self) -> list[int]:
        """Indices of the runs that are executed, watched or kept."""
        return sorted([index for index, _ in self.execute] + [run.index for run in self.keep + self.adopt])

    def __str__(self) -> str:
        reached = list(dict.fromkeys(text for text in self.resumed.values() if text))
        resumed = f"resumed at {', '.join(reached[:3])}{', …' if len(reached) > 3 else ''}" if reached else "resumed"
        parts = [(len(self.keep), "kept"), (len(self.adopt), "still running"), (len(self.resumed), resumed)]
        parts += [(len(self.skip), "left out"), (len(self.execute) - len(self.resumed), "to go")]
        return ", ".join(f"{number} {word}" for number, word in parts if number) or "nothing to do"


def make(
    points: Sequence[Point],
    job_folder: Path,
    hashes: Mapping[str, str],
    *,
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
        `code.cell_hashes` of the notebook.
    only, first : sequence of int, int
        Leave out indices that are not among `only`, or are below `first`.
    done_file : str, optional
        A file in a run's folder whose existence says that the run is finished.
    resume : {None, "keep", "rerun"}
        What to do with finished runs whose code changed; None asks, by an error.

    Returns
    -------
    Plan

    Raises
    ------
    InvalidInput
        When finished runs had other code and `resume` was not said, or `only` names runs that are not there.
    """
    plan = Plan()
    existing = runs_of(job_folder)
    known = {_key(run.record.get("repeat", run.index), run.parameters): run for run in existing}
    # A folder without a readable record may still hold results: its number is taken as well.
    taken = {int(folder.name[8:]) for folder in job_folder.glob("sub_job_*") if folder.name[8:].isdigit()}
    others = {run.index for run in existing if run.parameters}
    free = (index for index in itertools.count() if index not in taken)
    changed: list[tuple[Run, list[str]]] = []
    for point in points:
        run = known.get(_key(point.repeat, point.parameters))
        # With n= alone the number is the parameter: run 3 of five is number 3, as users of sub-jobs expect.
        plain = not point.parameters and point.repeat not in others
        index = run.index if run else point.repeat if plain else next(free)
        folder = job_folder / folder_name(index)
        if only is not None and index not in only:
            plan.skip.append((index, "not in only="))
        elif index < first:
            plan.skip.append((index, f"below first={first}"))
        elif done_file and (folder / done_file).exists():
            plan.skip.append((index, f"{done_file} is there"))
        elif run is not None and run.status().phase == "running":
            plan.adopt.append(_ours(run))
        elif run is None or not run.status().ended_well:
            plan.execute.append((index, point))
            if run is not None and run.status().started:
                plan.resumed[index] = _reached(run)
        elif not (cells := code.changed_cells(run.record.get("code", {}), hashes)) or resume == "keep":
            plan.keep.append(run)
        elif resume == "rerun":
            plan.aside.append(run)
            plan.execute.append((index, point))
        else:
            changed.append((run, cells))
    if changed:
        raise _code_changed(changed)
    if only is not None and (missing := sorted(set(only) - {index for index, _ in plan.skip} - set(plan.indices))):
        raise InvalidInput(
            f"only={','.join(map(str, missing))}: there are no such runs.",
            f"This call has the runs 0 to {len(points) - 1}.",
        )
    return plan


def _reached(run: Run) -> str:
    """Say how far a run came, by its last report of an epoch or a step."""
    values = metrics.last(metrics.recent(run.folder))
    return next((f"{name} {values[name]}" for name in ("epoch", metrics.STEP) if name in values), "")


def _ours(run: Run) -> Run:
    """Return a run that this machine executes.

    Raises
    ------
    Busy
        When another machine does.
    """
    if run.runner_lives():
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


def _code_changed(changed: Sequence[tuple[Run, list[str]]]) -> InvalidInput:
    numbers = sorted({cell for _, cells in changed for cell in cells}, key=lambda cell: (len(cell), cell))
    where = "a cell is gone" if numbers == ["removed"] else "cell " + ", ".join(n for n in numbers if n != "removed")
    runs = "1 run" if len(changed) == 1 else f"{len(changed)} runs"
    return InvalidInput(
        f"{runs} finished with other code ({where}).",
        "Say resume=keep to keep their results, or resume=rerun to run them again (the old folders move aside).",
    )


def write(
    plan: Plan, job_folder: Path, *, content: Mapping[str, Any], name: str, common: Mapping[str, Any]
) -> list[Path]:
    """Write the folders of the runs to execute.

    Parameters
    ----------
    plan : Plan
        What `make` decided.
    job_folder : Path
        ``data_job`` of the job.
    content : mapping
        The notebook as it stands now.
    name : str
        Its file name.
    common : mapping
        What all records of this call share: payload, engine, start, cwd, code, commit.

    Returns
    -------
    list of Path
        Folders in the order of execution.

    Raises
    ------
    ColabMagicsError
        When a folder cannot be written.
    """
    source = without_outputs(content)
    folders = []
    try:
        for run in plan.aside:
            _move_aside(run, job_folder)
        for index, point in plan.execute:
            folder = job_folder / folder_name(index)
            folder.mkdir(parents=True, exist_ok=True)
            before, attempt = ended_attempts(folder), _next_attempt(folder)
            process.write_json(folder / SOURCE, source)
            record = {
                "format": 1,
                "index": index,
                "repeat": point.repeat,
                "parameters": dict(point.parameters),
                "attempt": attempt,
                "attempts": before,
                "notebook": name,
                "submitted": time.time(),
                **common,
            }
            process.write_json(folder / RECORD, record)
            folders.append(folder)
    except OSError as error:
        raise ColabMagicsError(
            f"The runs' folders cannot be written: {error.strerror}: {error.filename or job_folder}.",
            "Nothing was started. Make room, or choose another folder by %project root=.",
        ) from error
    return folders


def without_outputs(content: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a notebook without outputs, execution counts and papermill's injected cells."""
    bare: dict[str, Any] = {key: copy.deepcopy(value) for key, value in content.items() if key != "cells"}
    bare.setdefault("nbformat", 4)
    bare.setdefault("nbformat_minor", 5)
    bare.setdefault("metadata", {})
    bare["cells"] = []
    for cell in content.get("cells", []):
        if "injected-parameters" in cell.get("metadata", {}).get("tags", []):
            continue
        cell = {key: copy.deepcopy(value) for key, value in cell.items() if key not in ("outputs", "execution_count")}
        if cell.get("cell_type") == "code":
            cell |= {"outputs": [], "execution_count": None}
        bare["cells"].append(cell)
    return bare


def again(folder: Path) -> None:
    """Make a run that ended ready for another attempt, as it is."""
    record, before = process.read_json(folder / RECORD) or {}, ended_attempts(folder)
    fresh = {"attempt": _next_attempt(folder), "attempts": before, "submitted": time.time()}
    process.write_json(folder / RECORD, {**record, **fresh})


def _next_attempt(folder: Path) -> int:
    """Return the number of the attempt to come, and keep the notebook of the one before."""
    before = process.read_json(folder / RECORD)
    if before is None:
        return 1
    attempt = int(before.get("attempt", 1))
    said = [process.read_json(folder / name) or {} for name in (STATE, VERDICT)]
    if all(value.get("attempt") != attempt for value in said):
        # It never came to that attempt: neither a runner nor a scheduler has said anything.
        return attempt
    executed = folder / NOTEBOOK
    recover(folder)
    if executed.exists():
        executed.replace(folder / f"attempt_{attempt}.ipynb")
    return attempt + 1


def _move_aside(run: Run, job_folder: Path) -> None:
    base = job_folder / SUPERSEDED
    base.mkdir(exist_ok=True)
    for number in itertools.count(1):
        target = base / f"{run.folder.name}.{number}"
        if not target.exists():
            shutil.move(run.folder, target)
            return


def describe(statuses: Sequence[tuple[Run, Status]]) -> str:
    """Write one line on how many runs are in which phase."""
    counts: dict[str, int] = {}
    for _, status in statuses:
        counts[status.phase] = counts.get(status.phase, 0) + 1
    order = ("done", "running", "waiting", "failed", "killed", "interrupted", "cancelled")
    return ", ".join(f"{counts[phase]} {phase}" for phase in order if phase in counts) or "no runs"


def since(stamp: float | None) -> str:
    """Write when something began, for messages."""
    return f" since {show_time(stamp)}" if stamp else ""
