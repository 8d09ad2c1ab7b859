"""The runs that a shell means: those of its project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import session
from ..checkout.project import MARKER, Project, find_project
from ..errors import NotFound
from . import select as by_words
from .recover import recover
from .run import Run


def project() -> Project:
    """Return the project of this session, or the one that the current folder stands in, or just above.

    Raises
    ------
    NotFound
        When there is none.
    """
    found: Project | None = session.current().project or find_project(Path.cwd())
    if found is None:
        below = [path.parent for path in Path.cwd().glob(f"*/{MARKER}")]
        found = find_project(below[0]) if len(below) == 1 else None
    if found is None:
        raise NotFound(
            f"No project was set up in {Path.cwd()} or above it.",
            "Change into the project's folder, or set it up: %project",
        )
    return found


def job_names() -> list[str]:
    """Return the jobs of the project."""
    return by_words.job_names(project().data_job.parent)


def choices(ids: Sequence[str], also: Sequence[str] = ()) -> list[by_words.Choice]:
    """Read ids one by one; see `select.choices`."""
    mine = project()
    return by_words.choices(mine.data_job.parent, ids, job=mine.job, also=also)


def select(ids: Sequence[str], mine: Project | None = None) -> list[Run]:
    """Return the runs that ids name; all of them without ids."""
    mine = mine or project()
    runs = by_words.select(mine.data_job.parent, ids, job=mine.job)
    for run in runs:
        recover(run.folder)
    return runs


def none(ids: Sequence[str], mine: Project | None = None) -> str:
    """Say that there are no such runs."""
    mine = mine or project()
    if not ids:
        return f"No runs yet in {mine.root}: %fork n=5 makes some."
    return f"No such runs: {' '.join(map(str, ids))}. The current job is {mine.job}; JOB/failed names runs of another."


def some(ids: Sequence[str]) -> list[Run]:
    """Return the runs that ids name.

    Raises
    ------
    NotFound
        When there is none.
    """
    runs = select(ids)
    if not runs:
        raise NotFound(none(ids), "%jobs lists the runs there are.")
    return runs


def the(word: str) -> Run:
    """Return the one run that a word names."""
    return by_words.one(select([word]), [word])


def latest() -> list[Run]:
    """Return the run that started last."""
    return [max(some(()), key=lambda run: (run.status().started or 0.0, run.index))]
