"""How a project shows itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .project import Project


def as_text(project: Project) -> str:
    """Write a project as a readable block."""
    return f"{project.name} · job {project.job}"


def as_html(project: Project) -> str:
    """Write a project as HTML."""
    return f"<pre>{as_text(project)}</pre>"
