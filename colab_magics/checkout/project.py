"""The handle of a project, and the marker by which a fresh shell finds it again.

Layout: ``<root>/data_project`` holds the inputs that all jobs share, ``<root>/data_job/<job>`` the outputs of one job,
``<root>/.colab_magics.json`` (the marker) says that this folder is a project and how it was set up last.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, NotFound
from ..process import write_json
from ..session import CODE_VARIABLE
from . import trust
from .trust import Warn, unheard

MARKER = ".colab_magics.json"
DATA_PROJECT = "data_project"
DATA_JOB = "data_job"
DEFAULT_JOB = "default"
UNKEPT = "none"
"""The Place of a project whose user said ``to=none``."""


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
        if os.environ.get(CODE_VARIABLE) == str(self.root):
            return Path(os.path.realpath(self.root / DATA_PROJECT))  # one for all states of the code there
        return real_folder(self.root, DATA_PROJECT)

    @property
    def data_job(self) -> Path:
        """Folder of the outputs of this job; see `real_folder`."""
        return real_folder(self.root, DATA_JOB, self.job)

    def save(self, *, notebook: str | None = None, unkept: bool = False, **more: Any) -> None:
        """Write the marker: this set-up is complete. `notebook` (see `jobs.notebook_key`) uses this job from now on.

        The Place of a project is one that the user said or allowed, so the marker that names it counts here; so is
        that there is none (`unkept`).
        """
        marker = read_marker(self.root)
        old = dict(marker.values) if marker is not None else {}
        if notebook is not None:
            more["jobs"] = {**(marker.jobs if marker is not None else {}), notebook: self.job}
        notebooks = str(self.notebooks.relative_to(self.root))
        # What did not count stays to be allowed.
        place = UNKEPT if unkept else self.place
        kept = marker.claimed if marker is not None and place is None and marker.place is None else place
        own = {"name": self.name, "job": self.job, "place": kept, "url": self.url, "notebooks": notebooks}
        if place is not None:
            trust.Request(self.root / MARKER, {"place": place}).note("yes")
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


def keep_within(root: Path, folder: Path) -> Path:
    """Return a folder with links resolved; one that stands in `root` must not lead out of it (see `real_folder`)."""
    inside, real = Path(os.path.abspath(folder)), Path(os.path.realpath(folder))
    for base in (root, Path(os.path.realpath(root))):
        if inside.is_relative_to(base) and not real.is_relative_to(os.path.realpath(root)):
            real_folder(base, *inside.relative_to(base).parts)
    return real


@dataclass(frozen=True)
class Marker:
    """What the marker of a project says, checked as what users type.

    Parameters
    ----------
    root : Path
        The project's folder.
    values : dict
        All that it holds.
    name : str
        The project's name.
    job : str or None
        The job that was set up last.
    jobs : dict of str to str
        The job that each notebook used last; see `jobs.notebook_key`.
    """

    root: Path
    values: dict[str, Any]
    name: str
    job: str | None
    jobs: dict[str, str]

    @property
    def claimed(self) -> str | None:
        """The Place that it names, whether or not that counts."""
        return self.values.get("place")

    @property
    def request(self) -> trust.Request:
        """What of it counts with the user's word only."""
        return trust.Request(self.root / MARKER, {} if self.claimed is None else {"place": self.claimed})

    @property
    def place(self) -> str | None:
        """The Place: one that this user's own call wrote there, or allowed."""
        if not self.request.answer and self.claimed is not None and self._kept_before():
            self.request.note("yes")
        return self.claimed if self.request.allowed else None

    def _kept_before(self) -> bool:
        """Whether this user's syncs have kept outputs of this project there: earlier versions noted no yes."""
        from ..mirror import control
        from ..transport.places import split

        outputs = os.path.join(os.path.realpath(self.root), DATA_JOB)
        kept = {one.config.place for one in control.known() if one.source.is_relative_to(outputs)}
        return set(split(str(self.claimed))) <= kept

    @property
    def notebooks(self) -> Path:
        """The folder of the notebooks; the project's own when it is not one within."""
        said = self.values.get("notebooks")
        if not isinstance(said, str) or not said.isprintable():
            return self.root
        folder = self.root / said
        within = Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(self.root))
        # Not Path.is_dir, which raises for a name that is too long.
        return folder if within and os.path.isdir(folder) else self.root

    @property
    def url(self) -> str | None:
        """Where the code came from, for people."""
        url = self.values.get("url")
        return url if isinstance(url, str) and url.isprintable() else None

    def left_out(self) -> str:
        """Write the line about what does not count; empty when all does."""
        return trust.left_out(self.root / MARKER, ["place"]) if self.place != self.claimed else ""

    def project(self, job: str | None = None, *, placed: bool = True) -> Project:
        """Return the project with a job of it, by default the one that was set up last; with its Place, or without."""
        place = self.place if placed and self.place != UNKEPT else None
        return Project(self.name, job or self.job or DEFAULT_JOB, self.root, self.notebooks, place, self.url)


def read_marker(root: Path, warn: Warn = unheard) -> Marker | None:
    """Read the marker in a folder; None when there is none that makes it a project.

    Raises
    ------
    InvalidInput
        When it holds a name that cannot be.
    """
    data = trust.read(root / MARKER, warn)
    return None if data is None else _checked(root, data)


def _checked(root: Path, data: bytes) -> Marker | None:
    try:
        values = json.loads(data)
        json.dumps(values, ensure_ascii=False).encode()  # half a character, say, could not be written again
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not isinstance(values.get("name"), str):
        return None
    job, jobs, place = values.get("job"), values.get("jobs"), values.get("place")
    jobs = jobs if isinstance(jobs, dict) else {}
    try:
        for name in filter(None, (job, *jobs.values())):
            check_name(name, option="job")
        if values["name"] != root.name:  # a folder may be named as nobody would type it
            check_name(values["name"], option="name")
        if not isinstance(place, str | None):
            raise InvalidInput(f"place={place!r} is no Place.")
    except InvalidInput as error:
        raise InvalidInput(f"{root / MARKER}: {error.what}", "Take that file away: %project writes it anew.") from None
    return Marker(root, values, values["name"], str(job) if job else None, {k: str(v) for k, v in jobs.items() if v})


def find_marker(start: Path, warn: Warn = unheard) -> Marker | None:
    """Find the marker in a folder or above it; see `trust.upward` for how far up."""
    for file, data in trust.upward(start, MARKER, warn):
        if (marker := _checked(file.parent, data)) is not None:
            return marker
    return None


def find_project(start: Path, *, tell: bool = True, warn: Warn = unheard) -> Project | None:
    """Find the project that a folder stands in, by the marker in it or above it.

    Parameters
    ----------
    start : Path
        A folder; below ``data_job/<job>`` the project is of that job, else of the job that was set up last.
    tell : bool, default True
        Tell also what of the marker does not count.
    warn : callable
        Is told what is not read, and why.

    Returns
    -------
    Project or None
        None when no project was set up there.
    """
    marker = find_marker(start, warn)
    if marker is None:
        return None
    if tell and (line := marker.left_out()):
        warn(line)
    inside = Path(start).absolute().relative_to(marker.root).parts
    return marker.project(inside[1] if len(inside) > 1 and inside[0] == DATA_JOB else None)


def of_run(run: Path) -> Project | None:
    """Return the project of a run's folder, ``<root>/data_job/<job>/<run>``: what lies in it hides nothing.

    A run starts no sync, and has no use for the Place. On another machine its project is said by the environment.
    """
    root = [Path(there)] if (there := os.environ.get(CODE_VARIABLE)) else Path(run).absolute().parents[2:3]
    marker = read_marker(root[0]) if root else None
    return marker.project(Path(run).absolute().parent.name, placed=False) if marker is not None else None


def project_of(run: Path) -> Project:
    """Return the project of a run, which shows itself there in one line.

    Raises
    ------
    NotFound
        When its folder belongs to no project.
    """
    project = of_run(run)
    if project is None:
        raise NotFound(
            f"The run {run} belongs to no project: the folder of its jobs stands beside no {MARKER}.",
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
