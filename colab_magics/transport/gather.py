"""What of a project is copied when somebody names files and folders of it, and what stays here."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import foreign
from ..errors import InvalidInput, NotFound

PARTIAL = ".~rsync-part"
"""The folder in which a copy that was cut waits."""
BY_MACHINES = {".git", ".venv", "venv", "node_modules", "__pycache__", ".ipynb_checkpoints", ".tox", PARTIAL}
BY_MACHINES |= {".mypy_cache", ".pytest_cache", ".ruff_cache"}
"""Names below a folder that do not go with it: programs make them, for the machine they are on."""


@dataclass(frozen=True)
class Gathered:
    """What is copied, and what is not.

    Parameters
    ----------
    names : list of str
        Files, links and folders, relative to the project.
    secret : list of str
        Files that look like secrets.
    links : list of str
        Links that lead out of the project.
    """

    names: list[str] = field(default_factory=list)
    secret: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


def below(root: Path, name: str) -> str:
    """Return a path relative to the project; ``.`` for the project itself.

    Raises
    ------
    InvalidInput
        When it leads out of the project, by its name or through a link.
    """
    path = Path(os.path.normpath(root / Path(name).expanduser()))
    if not name or "\0" in name or not path.is_relative_to(root):
        raise InvalidInput(
            f"{name!r} is no path within the project {root}.",
            "Write it as it is there, such as data_project/train.csv.",
        )
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise InvalidInput(
            f"{name} leads out of the project, to {os.path.realpath(path)}.",
            "Copy that by rsync or scp, if you mean it.",
        )
    return str(path.relative_to(root))


def gather(root: Path, names: Sequence[str]) -> Gathered:
    """Return the files, links and folders to copy, and what stays here.

    A file that looks like a secret goes when it was named itself, never with its folder.

    Raises
    ------
    NotFound
        When something that was named is not there.
    """
    found: dict[str, None] = {}
    left = Gathered()
    for name in names:
        path = below(root, name)
        if not os.path.lexists(root / path):
            raise NotFound(f"There is no {name} in {root}.", "Paths count from the project's folder.")
        # Through a link above it a file has another path, which is the one to make there.
        above, last = os.path.split(path)
        path = os.path.normpath(os.path.relpath(os.path.join(os.path.realpath(root / above), last), root))
        for one in _walk(root, path):
            if os.path.islink(root / one) and not _stays_within(root, one):
                left.links.append(one)
            elif one != path and foreign.looks_secret(one):
                left.secret.append(one)
            else:
                found[one] = None
    left.names.extend(found)
    return left


def _walk(root: Path, path: str) -> Iterator[str]:
    """Yield a path and all that is below it: folders, files, links."""
    kind = stat.S_IFMT(os.lstat(root / path).st_mode)
    if path != "." and kind in (stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK):
        yield path
    if kind == stat.S_IFDIR:
        for name in sorted(os.listdir(root / path)):
            if name not in BY_MACHINES:
                yield from _walk(root, name if path == "." else f"{path}/{name}")


def _stays_within(root: Path, path: str) -> bool:
    target = os.readlink(root / path)
    leads = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return not target.startswith("/") and leads != ".." and not leads.startswith("../")
