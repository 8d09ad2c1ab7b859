"""Make a project's folders, keep them out of git, and let notebooks import its code."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from ..errors import InvalidInput, NotFound, Unavailable
from . import git
from .project import DATA_JOB, DATA_PROJECT, MARKER, Project, keep_within

DEFAULT_NOTEBOOKS = "notebooks"


def make(project: Project) -> None:
    """Make the folders of inputs and outputs.

    Raises
    ------
    Unavailable
        When they cannot be written.
    """
    for folder in (project.data_project, project.data_job):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"The folder {folder} cannot be made: {error.strerror}.",
                "Free the path, or set the project up elsewhere: root=FOLDER",
            ) from error
        if not os.access(folder, os.W_OK):
            raise Unavailable(f"The folder {folder} cannot be written.", f"chmod u+w {folder}")


def exclude(root: Path) -> None:
    """Tell git, in this checkout alone, that the data and the marker are no part of the code."""
    path = git.ask("rev-parse", "--git-path", "info/exclude", cwd=root)
    prefix = git.ask("rev-parse", "--show-prefix", cwd=root)
    if path is None or prefix is None or not prefix.isprintable():
        return
    # A linked worktree and a submodule have theirs elsewhere; git answers relative to the folder it was asked in.
    file = root / path
    before = re.sub(r"([\\*?\[])", r"\\\1", prefix)
    wanted = [f"/{before}{DATA_PROJECT}/", f"/{before}{DATA_JOB}/", f"/{before}{MARKER}"]
    text = file.read_text(encoding="utf-8", errors="surrogateescape") if file.is_file() else ""
    new = [line for line in wanted if line not in text.splitlines()]
    if not new:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "a", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write("\n" * (bool(text) and not text.endswith("\n")) + "\n".join(new) + "\n")
    except OSError as error:
        raise Unavailable(
            f"{file} cannot be written: {error.strerror}.",
            f"chmod u+w {file}, or move data_project elsewhere: root=FOLDER",
        ) from error


def notebooks_folder(root: Path, notebooks: str | None) -> Path:
    """Return the folder in which a project's notebooks run: the one asked for, else the project's own.

    Raises
    ------
    InvalidInput, NotFound
        When a folder was named that is outside of the project, or not there.
    """
    wanted = str(notebooks or DEFAULT_NOTEBOOKS)
    folder = Path(os.path.normpath(root / wanted))
    if "\0" in wanted or not folder.is_relative_to(root):
        raise InvalidInput(
            f"notebooks={wanted} is outside of the project {root}.",
            "Write a folder of the project: notebooks=notebooks",
        )
    keep_within(root, folder)
    if folder.is_dir():
        return folder
    if wanted != DEFAULT_NOTEBOOKS:
        raise NotFound(
            f"The project has no folder {wanted} ({folder}).", "Write a folder of the project, or leave notebooks= out."
        )
    return root


def enter(project: Project) -> bool:
    """Let this kernel import the project's code, and change into the folder of its notebooks.

    A project of data folders alone has no notebooks: the working folder stays.

    Returns
    -------
    bool
        Whether the working folder changed.
    """
    code = [str(folder) for folder in (project.root, project.root / "src") if folder.is_dir()]
    sys.path[:0] = [folder for folder in code if folder not in sys.path]
    before = Path.cwd()
    if (project.root / ".git").exists():
        os.chdir(project.notebooks)
    return Path.cwd() != before
