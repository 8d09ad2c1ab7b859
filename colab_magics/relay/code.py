"""The project's code goes along: what changed since the last cell is sent ahead of the next one, in the same stream.

Nothing is asked over there. What was sent is known here by size and time of change, and a scan of some hundred files
takes a millisecond or two; an unchanged project costs no round trip.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from .. import foreign, process
from ..errors import CommandFailed, InvalidInput, Unavailable
from ..units import show_size

LEFT_OUT = {
    *(".git", ".venv", "venv", "env", "node_modules", "__pycache__", ".ipynb_checkpoints", ".mypy_cache"),
    *(
        ".pytest_cache",
        ".ruff_cache",
        ".tox",
        "data_job",
        "data_project",
        ".colab_magics",
        ".superseded",
        ".colab_magics.json",
    ),
}
"""Names of files and folders that are no code."""
MOST_FILES, MOST_BYTES, MOST_OF_ONE = 5_000, 100_000_000, 20_000_000


def folder_there(root: Path) -> str:
    """Name a project's folder on other machines after its path here: projects of the same name do not meet."""
    root, home = root.resolve(), Path.home().resolve()
    below = root.relative_to(home) if root.is_relative_to(home) else root.relative_to(root.anchor)
    return f"colab_magics/{below if below.parts else 'project'}"


class Version(NamedTuple):
    """What of a file tells that it changed."""

    time: int
    size: int
    mode: int


@dataclass
class Code:
    """The files of a project that a kernel elsewhere works with.

    Parameters
    ----------
    root : Path
        The project's folder.
    include : sequence of str
        Patterns of paths, relative to `root`, that are sent although git ignores them.
    exclude : sequence of str
        Patterns of paths that are not sent.
    listed, unlisted : sequence of str
        The same from files of the project: no secret goes because a file names it.
    """

    root: Path
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    listed: Sequence[str] = ()
    unlisted: Sequence[str] = ()
    sent: dict[str, Version] = field(default_factory=dict)
    ignored: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        home = Path.home().resolve()
        if self.root.resolve() in (home, *home.parents):
            raise InvalidInput(
                f"{self.root} is a home folder, or holds one: it is not sent to another machine.",
                "Put the notebook into a folder of its project, or set one up: %project",
            )

    def changes(self) -> tuple[list[str], list[str]]:
        """Return the paths that were added or changed, and those that went, since `mark`."""
        self._secret.clear()
        here = dict(self._scan())
        self._ask_git([path for path in (*here, *self._secret) if path not in self.ignored])
        wanted = {path: seen for path, seen in here.items() if not self.ignored.get(path)}
        changed = [path for path, seen in wanted.items() if self.sent.get(path) != seen]
        gone = [path for path in self.sent if path not in wanted]
        self._now = wanted
        return changed, gone

    _now: dict[str, Version] = field(default_factory=dict, repr=False)
    _secret: set[str] = field(default_factory=set, repr=False)
    _told: set[str] = field(default_factory=set, repr=False)

    def left_behind(self) -> list[str]:
        """Return what the last `send` left behind as it looks like a secret; each name once."""
        found = {path for path in self._secret if not self.ignored.get(path)} - self._told
        self._told |= found
        return sorted(found)

    def choose(self, *, include: Sequence[str] | None = None, exclude: Sequence[str] | None = None) -> int:
        """Use other patterns from the next `send` on.

        Parameters
        ----------
        include, exclude : sequence of str, optional
            As for the class; None leaves them as they are.

        Returns
        -------
        int
            How many files were sent and will not be any more. They stay there: whoever works there may need them.
        """
        self.include = self.include if include is None else include
        self.exclude = self.exclude if exclude is None else exclude
        # What git ignores may be included now.
        self.ignored.clear()
        before = set(self.sent)
        _, gone = self.changes()
        here = {path for path in gone if (self.root / path).exists()}
        self.sent = {path: seen for path, seen in self.sent.items() if path not in here}
        return len(before & here)

    def wanted(self) -> dict[str, Version]:
        """Return all files that are code now.

        Raises
        ------
        InvalidInput
            When that is more than code is.
        """
        self.changes()
        self._check(list(self._now))
        return self._now

    def _check(self, paths: Sequence[str]) -> int:
        """Return how many bytes files have, unless that is more than code."""
        size = sum(self._now[path].size for path in paths)
        if len(paths) > MOST_FILES or size > MOST_BYTES:
            raise InvalidInput(
                f"{self.root} holds {len(paths):,} files, {show_size(size)}: that is more than code.",
                "Leave data out by .gitignore or exclude=, or send what is needed: include=src,lib",
            )
        return size

    def send(self, kernel: Any) -> tuple[int, int]:
        """Send what changed ahead of the next request; returns how many files and bytes.

        Raises
        ------
        InvalidInput
            When that is more than code is; nothing was sent.
        """
        changed, gone = self.changes()
        size = self._check(changed)
        for path in changed:
            try:
                data = (self.root / path).read_bytes()
            except OSError:
                continue  # gone again, or not readable: the next scan sees
            kernel.write_file(path, data, self._now[path].mode)
            self.sent[path] = self._now[path]
        for path in gone:
            kernel.remove_file(path)
            del self.sent[path]
        return len(changed), size

    def _scan(self) -> Iterator[tuple[str, Version]]:
        """Yield the files, folder by folder; folders that git ignores are not entered."""
        level = [""]
        while level:
            below: list[str] = []
            for folder in level:
                try:
                    entries = list(os.scandir(f"{self.root}/{folder}"))
                except OSError:
                    continue
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if self._excluded(path, entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        if not entry.name.endswith(".egg-info"):
                            below.append(path)
                    elif (seen := self._look(path, entry)) is not None:
                        yield path, seen
            self._ask_git([path for path in below if path not in self.ignored])
            level = [path for path in below if not self.ignored[path]]

    def _excluded(self, path: str, name: str) -> bool:
        patterns = (*self.exclude, *self.unlisted)
        if any(fnmatch(path, pattern) or fnmatch(name, pattern) for pattern in patterns):
            return True
        # What is no code goes when its folder was named, and then no more of it than that.
        parts = LEFT_OUT.intersection(path.split("/"))
        if not parts:
            return False
        named = [one for one in (*self.include, *self.listed) if parts.intersection(one.rstrip("/").split("/"))]
        return not _meant(path, named)

    def _look(self, path: str, entry: os.DirEntry[str]) -> Version | None:
        """Return what tells whether a file changed; None for what is no code, and for secrets that nobody named."""
        # A notebook is no module, and this one changes with each cell.
        if entry.name.endswith(".ipynb") and not self._included(path):
            return None
        try:
            target = Path(entry.path).resolve() if entry.is_symlink() else None
            if target is not None and not target.is_relative_to(self.root.resolve()):
                return None
            about = entry.stat()
        except OSError:
            return None
        if not stat.S_ISREG(about.st_mode) or (about.st_size > MOST_OF_ONE and not self._included(path)):
            return None
        if (foreign.looks_secret(path) or (target and foreign.looks_secret(str(target)))) and not self._named(path):
            self._secret.add(path)
            return None
        return Version(about.st_mtime_ns, about.st_size, stat.S_IMODE(about.st_mode))

    def _included(self, path: str) -> bool:
        """Whether a file, or a folder on the way to one, was asked for."""
        return _meant(path, (*self.include, *self.listed))

    def _named(self, path: str) -> bool:
        """Whether somebody asked for this very secret: a folder, or a pattern for all files, does not."""
        return any(fnmatch(path, name) and (path == name or foreign.looks_secret(name)) for name in self.include)

    def _ask_git(self, paths: Sequence[str]) -> None:
        """Remember which of these paths git ignores; outside of a checkout none."""
        if not paths:
            return
        found: set[str] = set()
        try:
            raw = process.run_raw(
                foreign.git("check-ignore", "-z", "--stdin"),
                cwd=self.root,
                env={"GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1"},
                input=b"\0".join(os.fsencode(path) for path in paths) + b"\0",
                ok=(0, 1, 128),
            )
            found = {os.fsdecode(name) for name in raw.split(b"\0") if name}
        except (CommandFailed, Unavailable):
            pass  # no git here: all files are code
        self.ignored |= {path: path in found and not self._included(path) for path in paths}


def _meant(path: str, patterns: Sequence[str]) -> bool:
    """Whether patterns mean a file, or a folder on the way to one."""
    names = [pattern.rstrip("/") for pattern in patterns]
    return any(fnmatch(path, name) or path.startswith(f"{name}/") or name.startswith(f"{path}/") for name in names)
