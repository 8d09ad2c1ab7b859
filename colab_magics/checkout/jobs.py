"""Which job of a project a notebook uses."""

from __future__ import annotations

import os
from pathlib import Path

from .project import DEFAULT_JOB, read_marker


def notebook_key(notebook: str | Path, root: Path) -> str:
    """Name a notebook within a project: by its path below the project's folder, else by its file name."""
    path, base = Path(os.path.realpath(notebook)), Path(os.path.realpath(root))
    inside = os.path.isabs(notebook) and path.is_relative_to(base)
    return str(path.relative_to(base)) if inside else Path(notebook).name


def job_of(root: Path, notebook: str | None, *, remembered: bool = True) -> str:
    """Return the job that a notebook uses when nobody names one.

    Parameters
    ----------
    root : Path
        The project's folder.
    notebook : str or None
        The notebook; see `notebook_key`. None when nothing tells which it is.
    remembered : bool
        Whether the job that it used last counts.

    Returns
    -------
    str
        The job that it used last; else one of the notebook's own name, so that notebooks do not share their runs.
    """
    if notebook is None:
        marker = read_marker(root) if remembered else None
        return (marker.job if marker is not None else None) or DEFAULT_JOB
    used = jobs_of(root).get(notebook) if remembered else None
    if used is not None:
        return used
    # A file's name may be what a job's may not: hidden, an option, with line breaks.
    name = "".join(one if one.isprintable() and one != "\\" else " " for one in Path(notebook).stem).strip(" .-")
    return name.encode()[:200].decode(errors="ignore").strip() or DEFAULT_JOB


def jobs_of(root: Path) -> dict[str, str]:
    """Return the job that each notebook of a project used last; see `notebook_key`."""
    marker = read_marker(root)
    return marker.jobs if marker is not None else {}
