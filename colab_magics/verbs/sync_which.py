"""Which folder, Places and syncs a line of ``%sync`` means."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import session
from ..errors import InvalidInput, NotFound, did_you_mean
from . import subcommands

if TYPE_CHECKING:
    from ..mirror.sync import Sync
    from ..transport.places.base import Place


def _project() -> Any:
    """The project of this session, or the one that the working folder stands in; None without one."""
    from ..checkout.project import find_project, of_run

    if (run := session.run_folder()) is not None:
        return of_run(run)
    shell = session.current()
    return shell.project or find_project(Path.cwd(), warn=shell.warn_once)


def _folder(source: str) -> Path:
    """Read the folder that a user named."""
    from ..checkout.project import keep_within

    path = Path(source).expanduser()
    if path.is_dir():
        project = _project()
        return keep_within(project.root, path) if project else Path(os.path.realpath(path))
    from .sync import sync

    words = subcommands(sync)
    if "/" not in source and difflib.get_close_matches(source, words, n=1, cutoff=0.6):
        raise did_you_mean(source, words, kind="folder, and no word of %sync")
    raise NotFound(f"There is no folder {path.absolute()}.", "%sync FOLDER to=PLACE keeps a folder that is there.")


def what_and_where(source: str | None, to: str | None) -> tuple[Path, list[Place], str]:
    """Decide which folder is kept, at which Places, and for which project."""
    from ..transport.places import parse_all

    project = _project()
    name = project.name if project else ""
    folder = Path(os.path.realpath(project.data_job)) if project else None
    if source is not None and (named := _folder(source)) != folder:
        if to is None:
            raise InvalidInput(f"Where shall {named} be kept?", f"Say it: %sync {source} to=FOLDER")
        # Drive's folder belongs to the whole project: another folder of it stands beside data_project and data_job.
        places = parse_all(to, project=name)
        return named, [place.below(named.name) if place.text == "drive" else place for place in places], name
    if project is None or folder is None:
        raise InvalidInput(
            "There is no project here, so %sync cannot know what to keep.",
            "Run %project first, or name both: %sync FOLDER to=PLACE",
        )
    text = to or project.place
    if text is None:
        raise InvalidInput(
            f"The project {project.name} has no Place, so its outputs stay on this machine only.",
            "Say where to keep them: %sync to=FOLDER, to=drive or to=HOST:FOLDER",
        )
    return folder, [place.below("data_job", project.job) for place in parse_all(text, project=name)], name


def chosen(source: str | None, *, also_ended: bool = False) -> list[Sync]:
    """Find the syncs that a subcommand means; at least one."""
    from ..mirror import control

    folder = which(source)
    found = control.running(folder)
    if not found and also_ended:
        found = control.known(folder)
    if folder is None and len({handle.source for handle in found}) > 1:
        raise InvalidInput(
            "Several folders are synced: " + ", ".join(str(handle.source) for handle in found) + ".",
            "Name one, or stand in it: %sync now FOLDER",
        )
    if not found:
        raise NotFound(f"No sync runs{f' for {folder}' if folder else ''}.", "%sync starts it")
    return found


def which(source: str | None) -> Path | None:
    """Return the folder that a subcommand means: the one named, else the one stood in, else the project's."""
    from ..mirror import control

    if source is not None:
        named = Path(os.path.realpath(Path(source).expanduser()))
        # One that is gone is known by its name.
        return named if not named.is_dir() and control.known(named) else _folder(source)
    project, here = _project(), Path.cwd()
    outputs = Path(os.path.realpath(project.data_job)) if project else None
    if project is not None and here in (project.notebooks, session.current().start_folder):
        return outputs  # where a notebook stands nobody has gone to
    around = [one.source for one in control.running() if here.is_relative_to(one.source)]
    stood_in = max(around, key=lambda folder: len(folder.parts), default=None)
    if stood_in is None or (project is not None and project.root.is_relative_to(stood_in)):
        return outputs
    return stood_in
