"""``.recompute/include`` and ``.recompute/exclude`` of a project: what goes along with its code, and what does not.

One pattern a line, relative to the project; ``#`` begins a comment. Such files are older than this package. One that
came with a repository is the word of whoever wrote it: what it includes counts after the user's yes, as elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from . import git, trust
from .trust import Warn, unheard

FOLDER = ".recompute"


@dataclass(frozen=True)
class Listed:
    """What the files of a project say.

    Parameters
    ----------
    include : tuple of str
        Patterns of what goes although it would not.
    exclude : tuple of str
        Patterns of what does not go.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


def read(root: Path, warn: Warn = unheard) -> Listed:
    """Read the files of a project; what does not count is told."""
    asked = request(root, warn)
    include = _patterns(root / FOLDER / "include", warn)
    if asked is not None and not asked.allowed:
        warn(
            f"{asked.file} came with the repository and names files that would stay here: left out. If you trust it: "
            f"%trust {root}"
        )
        include = ()
    return Listed(include, _patterns(root / FOLDER / "exclude", warn))


def request(root: Path, warn: Warn = unheard) -> trust.Request | None:
    """Return what an ``include`` asks for that came with a repository; None for one of the user's own."""
    file = root / FOLDER / "include"
    patterns = _patterns(file, warn)
    if not patterns or not git.ask("ls-files", "--", f"{FOLDER}/include", cwd=root):
        return None
    return trust.Request(file, {"include": list(patterns)})


def _patterns(file: Path, warn: Warn) -> tuple[str, ...]:
    # A folder that is a link leads to what is not the project's.
    data = None if file.parent.is_symlink() else trust.read(file, warn)
    found = []
    for line in (data or b"").decode("utf-8", "surrogateescape").splitlines():
        text = line.strip().removeprefix("./").rstrip("/")
        if not text or text.startswith("#"):
            continue
        if text.startswith(("/", "~")) or ".." in PurePosixPath(text).parts:
            warn(f"{file}: {text} is not below the project, and is passed over.")
            continue
        found.append(text)
    return tuple(found)
