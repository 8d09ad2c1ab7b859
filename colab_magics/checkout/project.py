"""The handle of a project, and the marker by which a fresh shell finds it again.

Layout: ``<root>/data_project`` holds the inputs that all jobs share, ``<root>/data_job/<job>`` the outputs of one job,
``<root>/.colab_magics.json`` (the marker) says that this folder is a project and how it was set up last.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, NotFound
from ..process import read_json, write_json

MARKER = ".colab_magics.json"
DATA_PROJECT = "data_project"
DATA_JOB = "data_job"
DEFAULT_JOB = "default"


@dataclass
class Project:
    """Code, inputs and the outputs of one job.

    Parameters
    ----------
    name : str
        The project's name.
    job : str
        The job whose outputs stand in `data_job`.
    root : Path
        The project's folder.
    notebooks : Path
        The folder that notebooks run in.
    place : str or None
        The Place that keeps the data, as absolute text, or several with commas between them; None when they stay on
        this machine only.
    url : str or None
        Where the code comes from; None for a project of data folders alone.
    notes : list of str
        What the user should know about the last set-up, such as packages that are missing.
    brief : bool
        It shows itself in one line, and asks neither git nor a sync for it.
    """

    name: str
    job: str
    root: Path
    notebooks: Path
    place: str | None = None
    url: str | None = None
    notes: list[str] = field(default_factory=list, compare=False)
    brief: bool = field(default=False, compare=False)

    @property
    def places(self) -> list[str]:
        """The Places that keep the data, one by one."""
        from ..transport.places import split

        return split(self.place) if self.place else []

    @property
    def data_project(self) -> Path:
        """Folder of the inputs that all jobs of the project share; see `real_folder`."""
        return real_folder(self.root, DATA_PROJECT)

    @property
    def data_job(self) -> Path:
        """Folder of the outputs of this job; see `real_folder`."""
        return real_folder(self.root, DATA_JOB, self.job)

    def save(self, *, notebook: str | None = None, **more: Any) -> None:
        """Write the marker: this set-up is complete. `notebook` (see `notebook_key`) uses this job from now on."""
        old = read_json(self.root / MARKER) or {}
        if notebook is not None:
            more["jobs"] = {**jobs_of(self.root), notebook: self.job}
        notebooks = str(self.notebooks.relative_to(self.root))
        own = {"name": self.name, "job": self.job, "place": self.place, "url": self.url, "notebooks": notebooks}
        if (new := {**old, **own, **more}) != old:
            write_json(self.root / MARKER, new)

    def __str__(self) -> str:
        if self.brief:
            return f"project {self.name}, job {self.job}: {self.root}"
        from .show import table

        return str(table(self))

    def _repr_html_(self) -> str | None:
        if self.brief:
            return None
        from .show import table

        return table(self)._repr_html_()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        # What an IPython terminal shows.
        printer.text(f"Project({self.name!r}, …)" if cycle else str(self))


def real_folder(root: Path, *parts: str) -> Path:
    """Return a folder below another one, which need not be there yet, but must not be elsewhere.

    A repository may hold links: through one that leads out of it, files of the user would be overwritten or sent away.

    Raises
    ------
    InvalidInput
        When a link leads to it; names the link.
    """
    folder = Path(root, *parts)
    if os.path.realpath(folder) != os.path.join(os.path.realpath(root), *parts):
        above = [Path(root, *parts[: number + 1]) for number in range(len(parts))]
        link = next(filter(os.path.islink, above), folder)
        raise InvalidInput(
            f"{link} is a link to {os.path.realpath(link)}: what a project writes stays in its own folders.",
            f"Take the link away (rm {shlex.quote(str(link))}). For data on another disk set the project up there: "
            "root=FOLDER",
        )
    return folder


def find_project(start: Path) -> Project | None:
    """Find the project that a folder stands in, by the marker in it or above it.

    Parameters
    ----------
    start : Path
        A folder; below ``data_job/<job>`` the project is of that job, else of the job that was set up last.

    Returns
    -------
    Project or None
        None when no project was set up there.
    """
    start = Path(start).absolute()
    for root in (start, *start.parents):
        marker = read_json(root / MARKER)
        if marker is None or not isinstance(marker.get("name"), str):
            continue
        inside = start.relative_to(root).parts
        job = inside[1] if len(inside) > 1 and inside[0] == DATA_JOB else marker.get("job") or DEFAULT_JOB
        notebooks = root / str(marker.get("notebooks") or ".")
        return Project(
            name=marker["name"],
            job=str(job),
            root=root,
            notebooks=notebooks if notebooks.is_dir() else root,
            place=marker.get("place"),
            url=marker.get("url"),
        )
    return None


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
    marker = read_json(root / MARKER) or {}
    if notebook is None:
        return str(marker.get("job") or DEFAULT_JOB) if remembered else DEFAULT_JOB
    used = jobs_of(root).get(notebook) if remembered else None
    if used is not None:
        return used
    # A file's name may be what a job's may not: hidden, an option, with line breaks.
    name = "".join(letter if letter.isprintable() else " " for letter in Path(notebook).stem).strip(" .-\\")
    return name.encode()[:200].decode(errors="ignore").strip() or DEFAULT_JOB


def jobs_of(root: Path) -> dict[str, str]:
    """Return the job that each notebook of a project used last; see `notebook_key`."""
    jobs = (read_json(root / MARKER) or {}).get("jobs")
    return {str(key): str(job) for key, job in jobs.items()} if isinstance(jobs, dict) else {}


def project_of(run: Path) -> Project:
    """Return the project of a run, which shows itself there in one line.

    Raises
    ------
    NotFound
        When its folder belongs to no project.
    """
    project = find_project(run)
    if project is None:
        raise NotFound(
            f"The run {run} belongs to no project: no folder above it holds {MARKER}.",
            "Run %project in the main notebook before %fork.",
        )
    project.brief = True
    return project


def check_name(value: str, *, option: str) -> str:
    """Check a name that becomes a folder's.

    Parameters
    ----------
    value : str
        The name of a project or a job; spaces, quotes and any letters are fine.
    option : str
        The option it was given by, for the error.

    Returns
    -------
    str
        The name.

    Raises
    ------
    InvalidInput
        When it is empty, hidden, an option, longer than a file name may be, or more than one path part.
    """
    name = str(value)
    bad = (
        "is empty"
        if not name.strip()
        else "has blanks at its ends"
        if name != name.strip()
        else "starts with a dot"
        if name.startswith(".")
        else "starts with a dash"
        if name.startswith("-")
        else "is no single folder name"
        if "/" in name or "\\" in name
        else "holds a line break or a control character"
        if not name.isprintable()
        else "is too long"
        if len(name.encode()) > 200
        else ""
    )
    if bad:
        raise InvalidInput(f"{option}={name!r} {bad}.", f"Write one word or a few, without slashes: {option}=baseline")
    return name
