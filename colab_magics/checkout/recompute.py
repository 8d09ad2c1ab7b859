"""``.recompute/include`` and ``.recompute/exclude`` of a project: what goes along with its code, and what does not.

One pattern a line, relative to the project; ``#`` begins a comment. Such files are older than this package. One that
came with a repository is the word of whoever wrote it: what it includes counts after the user's yes, as elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from . import git, trust

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


def read(root: Path) -> Listed:
    """Read the files of a project; what does not count is told."""
    asked = request(root)
    include = _patterns(root / FOLDER / "include")
    if asked is not None and not asked.allowed:
        trust.say_once(
            f"{asked.file} came with the repository and names files that would stay here: left out. If you trust it: "
            f"%trust here, or in a shell: colab-magics trust {root}"
        )
        include = ()
    return Listed(include, _patterns(root / FOLDER / "exclude"))


def request(root: Path) -> trust.Request | None:
    """Return what an ``include`` asks for that came with a repository; None for one of the user's own."""
    file = root / FOLDER / "include"
    patterns = _patterns(file)
    if not patterns or not git.ask("ls-files", "--", f"{FOLDER}/include", cwd=root):
        return None
    return trust.Request(file, {"include": list(patterns)})


def _patterns(file: Path) -> tuple[str, ...]:
    # A folder that is a link leads to what is not the project's.
    data = None if file.parent.is_symlink() else trust.read(file)
    found = []
    for line in (data or b"").decode("utf-8", "surrogateescape").splitlines():
        text = line.strip().removeprefix("./").rstrip("/")
        if not text or text.startswith("#"):
            continue
        if text.startswith(("/", "~")) or ".." in PurePosixPath(text).parts:
            trust.say_once(f"{file}: {text} is not below the project, and is passed over.")
            continue
        found.append(text)
    return tuple(found)
