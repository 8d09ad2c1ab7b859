"""How a project shows itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    rows.append(("kept at", _kept(project)))
    rows += _last_commit(project)
    return Table(columns=("project", project.name), rows=rows, notes=project.notes)


def _kept(project: Project) -> str:
    if project.place is None:
        return "this machine only; to=PLACE keeps a copy"
    from ..mirror import control

    for sync in control.running(project.data_job):
        return f"{project.place} · sync: {sync.state()}"
    return f"{project.place} · no sync runs now; %project starts it"


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
