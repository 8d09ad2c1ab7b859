"""``keep()``: a result becomes an input of the project. A function of the user's own code, and no verb of lines."""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from .. import session
from ..errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from ..checkout.project import Project

_TEMPORARY = ".~colab_magics.keep-"


def keep(path: str | os.PathLike[str], to: str | None = None, *, force: bool = False) -> Path:
    """Copy a result to the inputs that all jobs of the project share: ``keep(best.folder / "model.pt")``.

    It is in ``data_project`` as a whole or not at all, and goes to the project's Places at once, where ``%project``
    fetches inputs from: so the next session has it. What is there already in the same version is left as it is.

    Parameters
    ----------
    path : str or path
        A file or a folder.
    to : str, optional
        Its name below ``data_project``, such as ``"models/first.pt"``; its own name by default.
    force : bool, default False
        Put it in the place of another version, here and at the Places.

    Returns
    -------
    Path
        Where it is in ``data_project``.

    Raises
    ------
    NotFound
        When there is no project, or nothing at `path`.
    InvalidInput
        When another version is there, or the name leads out of ``data_project``.
    Unavailable
        When a Place is not there; the copy in ``data_project`` is.
    """
    from ..transport.places.base import safe_name

    source, ui = Path(path).expanduser().absolute(), session.current().ui
    if not source.exists():
        raise NotFound(f"There is no {source}.", "Name a file or a folder that is there.")
    project = _project()
    base = project.data_project
    name = safe_name(to if to is not None else source.name, of="data_project")
    target = base / name
    if not Path(os.path.realpath(target)).is_relative_to(os.path.realpath(base)):
        raise InvalidInput(f"{target} leads out of data_project through a link.", "Choose another name.")
    if os.path.realpath(source) != os.path.realpath(target):
        _refuse_within(source, base)
        with ui.progress(f"copying {source.name}"):
            _copy(source, target, force=force)
    _hand_in(project, target, name, force=force)
    return target


def _refuse_within(source: Path, base: Path) -> None:
    if Path(os.path.realpath(base)).is_relative_to(os.path.realpath(source)):
        raise InvalidInput(f"{source} holds data_project itself.", "Name a file or a folder of results.")


def _copy(source: Path, target: Path, *, force: bool) -> None:
    there = os.path.lexists(target)
    if there and _same(source, target):
        return
    if there and not force:
        raise InvalidInput(f"{target} is there, and is another version.", "keep(…, force=True) replaces it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f"{_TEMPORARY}{os.getpid()}")
    before = target.with_name(f"{_TEMPORARY}{os.getpid()}-before")
    try:
        if source.is_dir():
            shutil.copytree(source, work, symlinks=True, ignore=shutil.ignore_patterns(".~colab_magics.*"))
        else:
            shutil.copy2(source, work)
        if there and (work.is_dir() or target.is_dir()):
            os.rename(target, before)
        os.replace(work, target)
    finally:
        for one in (work, before):
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            else:
                one.unlink(missing_ok=True)


def _same(one: Path, other: Path) -> bool:
    """Whether two files, or all in two folders, are alike byte by byte."""
    if one.is_dir() != other.is_dir() or other.is_symlink():
        return False
    if not one.is_dir():
        return filecmp.cmp(one, other, shallow=False)
    mine, theirs = _files(one), _files(other)
    return mine == theirs and all(_alike(one / name, other / name) for name in mine)


def _alike(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and os.readlink(one) == os.readlink(other)
    return filecmp.cmp(one, other, shallow=False)


def _files(folder: Path) -> list[str]:
    found = (Path(top, name) for top, _, names in os.walk(folder) for name in names)
    return sorted(str(one.relative_to(folder)) for one in found if not one.name.startswith(".~colab_magics."))


def _hand_in(project: Project, target: Path, name: str, *, force: bool) -> None:
    """Bring it to the project's Places."""
    from ..mirror import inputs
    from ..transport.places import parse_all

    if project.place is None:
        return
    files = [f"{name}/{one}" for one in _files(target)] if target.is_dir() else [name]
    for place in parse_all(project.place, project=project.name):
        with session.current().ui.progress(f"handing {name} to {place}"):
            inputs.hand_in(place.below("data_project"), project.data_project, files, force=force)


def _project() -> Project:
    """Return the project, with its Place: also in a run, which starts no sync but may keep a result."""
    from ..checkout.project import find_project, project_of, read_marker

    here = session.current()
    if (run := session.run_folder()) is not None:
        project = project_of(run)
        marker = read_marker(project.root, here.warn_once)
        return marker.project(project.job) if marker is not None else project
    found = here.project or find_project(Path.cwd(), warn=here.warn_once)
    if found is None:
        raise NotFound("There is no project here, so there are no inputs of one.", "Run %project first.")
    known: Project = found
    return known
