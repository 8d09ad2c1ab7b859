"""Which project and job a notebook's runs belong to, where its ``%project`` line was not executed here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checkout import git
from ..checkout.jobs import job_of, jobs_of, notebook_key
from ..checkout.project import (
    DATA_JOB,
    DEFAULT_JOB,
    Project,
    check_name,
    find_project,
    real_folder,
)
from ..checkout.trust import Warn
from ..errors import ColabMagicsError, InvalidInput, NotFound
from ..line import split
from ..mirror import control
from ..payloads.code import changed_cells, code_cells
from ..records.run import runs_of
from ..session import Session
from ..ui import Notebook

_LINE = re.compile(r"(?:[\w.]+\s*=\s*)?%project\b(.*)")
_CELL = re.compile(r"%%project\b(.*)")


def which(here: Session, notebook: Notebook) -> Project:
    """Return the project whose job gets the runs of a notebook, and use it from now on.

    It is the one that this shell set up; else the one that the notebook's own ``%project`` line names; else the one
    that the notebook stands in. Without any the current folder is made one of data folders alone. The job is the
    line's, else the one that this notebook used last, else that of the notebook's own name.

    Raises
    ------
    NotFound
        When the line names a project that is not here.
    InvalidInput
        When the line's job is known to the notebook alone.
    """
    if here.project is not None:
        known: Project = here.project
        return known
    words = project_line(notebook.content)
    found = _find(notebook, words or {}, here.warn_once)
    key = notebook_key(notebook.path or notebook.name, found.root)
    job = (words or {}).get("job")
    if job is not None:
        job = check_name(job, option="job")
    fresh = bool(words and ("git" in words or "name" in words))
    found.job = job or job_of(found.root, key, remembered=not fresh)
    try:
        found.save(notebook=key)
    except OSError as error:
        raise ColabMagicsError(
            f"{found.root} cannot be written: {error.strerror}.",
            "Nothing was started. Choose another folder: %project name=… root=FOLDER",
        ) from error
    if not control.running(source=found.data_job):
        here.ui.say(f"No %project was set up here: results go to {found.data_job}, on this machine only.")
    here.project = found
    return found


def of_commands(here: Session) -> Project:
    """Return the project whose job gets the runs of commands: that of this shell, of the folder, or a new one here."""
    found: Project | None = here.project or find_project(Path.cwd(), warn=here.warn_once)
    if found is None:
        cwd = Path.cwd()
        found = Project(name=cwd.name or "project", job=DEFAULT_JOB, root=cwd, notebooks=cwd)
        try:
            found.save()
        except OSError as error:
            raise ColabMagicsError(
                f"{cwd} cannot be written: {error.strerror}.",
                "Nothing was started. Choose another folder: %project name=… root=FOLDER",
            ) from error
        here.ui.say(f"No %project was set up here: results go to {found.data_job}, on this machine only.")
    here.project = found
    return found


def folder_of_commands(project: Project) -> Path:
    """Return where commands start: in the project, unless it holds data alone and the code is where the user is."""
    here = Path.cwd()
    of_code = project.url is not None or (project.root / ".git").exists()
    return project.root if of_code or here.is_relative_to(project.root.resolve()) else here


def _find(notebook: Notebook, words: Mapping[str, str], warn: Warn) -> Project:
    """Find the project that a notebook's ``%project`` line, or its folder, names."""
    folders = list(dict.fromkeys([*([notebook.path.parent] if notebook.path else []), Path.cwd()]))
    found = next(filter(None, (find_project(folder, warn=warn) for folder in folders)), None)
    name = words.get("name") or (git.parse(words["git"]).name if "git" in words else None)
    if name is None or (found is not None and found.name == name):
        cwd = Path.cwd()
        return found or Project(name=cwd.name or "project", job="", root=cwd, notebooks=cwd)
    for folder in folders:
        root = folder / Path(words.get("root") or ".").expanduser() / name
        there = find_project(root, warn=warn)
        if there is not None and there.root == root.absolute() and there.name == name:
            return there
    raise NotFound(
        f"{notebook.name} sets up the project {name!r}, and there is none of that name here.",
        "Execute its %project line first, in the notebook or as: colab-magics project …",
    )


def of_former_name(project: Project, notebook: Notebook, hashes: Mapping[str, str]) -> str:
    """Say where the runs of this notebook are, if it seems to have been renamed: to a job of its former name.

    Parameters
    ----------
    project : Project
        The project, with the job of the notebook's name.
    notebook : Notebook
        The notebook.
    hashes : mapping
        What of its code counts.

    Returns
    -------
    str
        A line for the user; empty when there is nothing to say.
    """
    if runs_of(project.data_job):
        return ""
    folder = notebook.path.parent if notebook.path is not None else Path.cwd()
    for former, job in jobs_of(project.root).items():
        gone = not (project.root / former).exists() and not (folder / former).exists()
        runs = runs_of(real_folder(project.root, DATA_JOB, job)) if gone and job != project.job else []
        same = [run for run in runs if not changed_cells(run.record.get("code", {}), hashes)]
        if same:
            return (
                f"{former} is not there any more, and {len(same)} runs of it have the code of this notebook: "
                f"%project job={job} goes on with them."
            )
    return ""


def project_line(content: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the options of a notebook's first ``%project``; None when it has none.

    Raises
    ------
    InvalidInput
        When one that decides where runs go takes its value from the notebook's variables.
    """
    for cell in code_cells(content):
        text = cell.source.strip()
        if whole := _CELL.match(text):
            options = _options(whole[1])
            try:
                body = tomllib.loads(text.partition("\n")[2])
            except tomllib.TOMLDecodeError as error:
                raise InvalidInput(f"The %%project cell {cell.number} is no TOML: {error}.", "Mend it first.") from None
            options |= {key: str(value) for key, value in body.items()}
        elif lines := [match for line in text.splitlines() if (match := _LINE.match(line))]:
            options = _options(lines[0][1])
        else:
            continue
        for key in ("job", "name", "git", "root"):
            if re.search(r"[${]", options.get(key, "")):
                raise InvalidInput(
                    f"Cell {cell.number} says {key}={options[key]}, whose value only the running notebook knows.",
                    f"Execute that cell and %fork in the notebook, or write {key}= in full there.",
                )
        return options
    return None


def _options(text: str) -> dict[str, str]:
    words = [token.as_option().text for token in split(text).tokens]
    pairs = [word[2:].partition("=") for word in words if word.startswith("--")]
    return {key.replace("-", "_"): value for key, _, value in pairs}
