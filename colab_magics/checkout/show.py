"""How a project shows itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import units
from ..ui import Table
from . import git

if TYPE_CHECKING:
    from .project import Project

_SHOWN_FILES = 10
_KINDS = {"A": "new", "M": "changed", "D": "deleted", "R": "renamed", "C": "copied", "T": "changed"}


def table(project: Project) -> Table:
    """Return a project as a table: its names, folders, Place and sync, and the last commit with its files."""
    rows = [("job", project.job), ("code", str(project.root))]
    if project.url:
        rows.append(("from", project.url))
    rows += [("data_project", str(project.data_project)), ("data_job", str(project.data_job))]
    kept, warnings = _kept(project)
    rows += [*kept, *_last_commit(project)]
    return Table(columns=("project", project.name), rows=rows, notes=[*project.notes, *warnings])


def _kept(project: Project) -> tuple[list[tuple[str, str]], list[str]]:
    """Return rows about the Place and the sync, and what is wrong with them."""
    if project.place is None:
        return [("kept at", "this machine only; to=PLACE keeps a copy")], []
    from ..mirror import control

    rows, warnings = [("kept at" if i == 0 else "", text) for i, text in enumerate(project.places)], []
    without = len(rows)
    for sync in control.running(project.data_job):
        rows.append(("sync", f"{sync.state()}, every {units.show_seconds(sync.config.every)}, to {sync.place}"))
        warnings += sync.warning.splitlines()
    if len(rows) == without:
        rows.append(("sync", "none runs now; %project starts it"))
    return rows, warnings


def _last_commit(project: Project) -> list[tuple[str, str]]:
    """Return rows for the last commit and its files; none without a checkout."""
    # The first parent: a merge shows what it brought.
    command = ["-c", "core.quotePath=false", "log", "-1", "-m", "--first-parent", "--name-status", "-z"]
    told = git.ask(*command, "--format=%h %s (%an, %ar)", cwd=project.root)
    if not told:
        return []
    title, *fields = told.strip("\0").split("\0")
    files, words = [], iter([field.strip("\n") for field in fields])
    for status in words:
        kind = status[:1]
        name = next(words, "")
        if kind in ("R", "C"):
            name = next(words, name)
        files.append(f"{name} ({_KINDS.get(kind, kind)})")
    more = len(files) - _SHOWN_FILES
    shown = files[:_SHOWN_FILES] + ([f"and {more} more"] if more > 0 else [])
    return [("last commit", title), *(("" if i else "its files", name) for i, name in enumerate(shown))]
