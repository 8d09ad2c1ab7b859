"""Decide which folder a project is: the checkout that the notebook stands in, one that is there, or a new one."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from .. import process
from ..colab import runtime
from ..errors import InvalidInput, NotFound
from . import git
from .project import Project, check_name, find_project, read_marker
from .trust import Warn, unheard


@dataclass(frozen=True)
class Spot:
    """Where a project is, or will be.

    Parameters
    ----------
    name : str
        The project's name.
    root : Path
        Its folder.
    url : str or None
        Where its code comes from, without credentials.
    clone : Source or None
        What has to be cloned to `root` first; None when it is there, or has no code.
    notes : list of str
        What the user should know about the choice.
    """

    name: str
    root: Path
    url: str | None = None
    clone: git.Source | None = None
    notes: list[str] = field(default_factory=list)


def find(
    source: git.Source | None, name: str | None, root: str | None, known: Project | None, warn: Warn = unheard
) -> Spot:
    """Find the folder of a project.

    Parameters
    ----------
    source : Source or None
        The repository that was asked for.
    name, root : str or None
        The name and the parent folder that were asked for.
    known : Project or None
        The project that this shell set up before.
    warn : callable
        Is told what is not read, and why.

    Raises
    ------
    InvalidInput, NotFound
        When no folder follows from that, or what is there is something else.
    """
    parent = Path(root) if root else None
    if root is not None and (not str(root).strip() or "\0" in str(root)):
        raise InvalidInput(
            "root= is empty, or no path.", "Write the folder below which the project is to stand: root=FOLDER"
        )
    if parent is None and runtime.on_colab():
        parent = runtime.content()
    if source is not None:
        process.need("git")
        spot = _of_repository(source, check_name(name or source.name, option="name"), parent, known)
        return _told_of(root, spot) if root is not None else spot
    if name is not None:
        return _of_name(check_name(name, option="name"), root is not None, parent or Path.cwd(), known, warn)
    if root is not None:
        raise InvalidInput(f"root={root} needs a project's name.", "Add git=URL, or name=NAME for data folders alone.")
    return _of_here(known, warn)


def _of_repository(source: git.Source, name: str, parent: Path | None, known: Project | None) -> Spot:
    if not (runtime.on_colab() and parent == runtime.content()):
        here = git.toplevel(Path.cwd())
        before = known.root if known is not None and known.name == name else None
        for top in dict.fromkeys(folder for folder in (here, before) if folder is not None):
            origin = git.origin(top)
            if git.same(origin, source):
                return Spot(name, top, source.text)
            if source.kind == "local" and os.path.realpath(top) == source.key:
                return _checkout(top, name)
            if name in (top.name, _name_of(origin)):
                shown = git.hide_credentials(origin) if origin else None
                note = f"The checkout {top} is used; its origin is {shown or 'not set'}, not {source.text}."
                return Spot(name, top, shown, notes=[note])
    if parent is None:
        raise InvalidInput(
            f"Where shall {name} be? {Path.cwd()} stands in no checkout of {source.text}.",
            f"Write root=FOLDER: it is cloned to FOLDER/{name}. Or start the notebook in a checkout of it.",
        )
    return _at(parent / name, source, name)


def _told_of(root: str, spot: Spot) -> Spot:
    """Add a note where the checkout in use stands elsewhere than was asked for; none where that is within it."""
    asked, used = os.path.realpath(root), os.path.realpath(spot.root)
    if os.path.dirname(used) == asked or Path(asked).is_relative_to(used):
        return spot
    return replace(spot, notes=[*spot.notes, f"root={root} is left aside: the checkout {spot.root} is used."])


def _at(target: Path, source: git.Source, name: str) -> Spot:
    """Use a folder for a clone of `source`: it must be free, or be one."""
    if not os.path.lexists(target) or (target.is_dir() and not any(target.iterdir())):
        return Spot(name, target, source.text, clone=source)
    top = git.toplevel(target)
    if top is None or not top.samefile(target):
        raise InvalidInput(
            f"{target} is there already and is no checkout of {source.text}.",
            "Move it away, or set the project up elsewhere: root=FOLDER",
        )
    origin = git.origin(target)
    if not git.same(origin, source):
        raise InvalidInput(
            f"{target} is a checkout of another repository: "
            f"{git.hide_credentials(origin) if origin else 'without an origin'}, not {source.text}.",
            "Give this one another name or place: name=NAME or root=FOLDER",
        )
    return Spot(name, target, source.text)


def _of_name(name: str, placed: bool, parent: Path, known: Project | None, warn: Warn) -> Spot:
    """Find or plan a project of data folders alone."""
    if not placed:
        for project in (known, find_project(Path.cwd(), tell=False, warn=warn)):
            if project is not None and project.name == name:
                return Spot(name, project.root, project.url)
        top = git.toplevel(Path.cwd())
        if top is not None and name in (top.name, _name_of(git.origin(top))):
            return _checkout(top, name)
    target = parent / name
    marker = read_marker(target)
    other = marker.name if marker is not None else name
    if other != name or (target.exists() and not target.is_dir()):
        what = f"the project {other!r}" if other != name else "a file"
        raise InvalidInput(f"{target} is {what}.", "Give this one another name or place: name=NAME or root=FOLDER")
    return _checkout(target, name) if (target / ".git").exists() else Spot(name, target)


def _of_here(known: Project | None, warn: Warn) -> Spot:
    """Find the project in use, or the one that the notebook stands in."""
    if known is not None:
        return Spot(known.name, known.root, known.url)
    process.need("git")
    marked, top = find_project(Path.cwd(), tell=False, warn=warn), git.toplevel(Path.cwd())
    # The innermost one: a checkout within a project's folders is a project of its own.
    if marked is not None and (top is None or len(marked.root.parts) >= len(top.parts)):
        return Spot(marked.name, marked.root, marked.url)
    if top is None:
        raise NotFound(
            f"There is no project here: {Path.cwd()} stands in no checkout.",
            "Write git=URL, or name=NAME for a project of data folders alone.",
        )
    return _checkout(top, check_name(_name_of(git.origin(top)) or top.name, option="name"))


def _checkout(top: Path, name: str) -> Spot:
    origin = git.origin(top)
    return Spot(name, top, git.hide_credentials(origin) if origin else None)


def _name_of(origin: str | None) -> str | None:
    try:
        return git.parse(git.hide_credentials(origin)).name if origin else None
    except InvalidInput:
        return None
