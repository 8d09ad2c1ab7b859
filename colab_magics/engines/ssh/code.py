"""A project's code in one state, which goes to a machine once: runs there work in a folder that does not change.

A state is named by what its files are called, hold and may. What a machine has of other states is not sent again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ... import process
from ...checkout import recompute
from ...checkout.project import DATA_PROJECT, MARKER, read_marker
from ...errors import InvalidInput
from ...relay.code import Code, Version, folder_there

_MOST_STATES = 8
"""So many earlier states are looked through for contents that are there already."""


@dataclass(frozen=True)
class Snapshot:
    """What files a state has.

    Parameters
    ----------
    files : mapping
        SHA-256 of the contents, and permissions, by path relative to the project.
    """

    files: Mapping[str, tuple[str, int]]

    @classmethod
    def of(cls, files: Mapping[str, Any]) -> Snapshot:
        """Build one from JSON.

        Raises
        ------
        InvalidInput
            For a path that leads out of the folder.
        """
        for path in files:
            pure = PurePosixPath(path)
            if pure.is_absolute() or ".." in pure.parts or not pure.parts or str(pure) in (MARKER, DATA_PROJECT):
                raise InvalidInput(f"{path!r} is no file of a project.")
        return cls({path: (str(digest), int(mode)) for path, (digest, mode) in files.items()})

    @property
    def state(self) -> str:
        """The state's name."""
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()[:24]


def root_of(project: Path, cwd: Path | None) -> Path:
    """Return the folder of the code of runs that start in a folder: the project, unless it holds data alone.

    A home folder, and the one that Colab's notebooks begin in, holds all kinds of things: it is no code.
    """
    if cwd is None or cwd.resolve().is_relative_to(project.resolve()) or not cwd.is_dir():
        return project
    home = Path.home().resolve()
    return project if cwd.resolve() in (home, *home.parents, Path("/content")) else cwd


class Checkout:
    """The code of some runs here, as it is when somebody looks.

    Parameters
    ----------
    root : Path
        The folder of the code.
    project : Path
        The project's folder: that of the code, or one of data alone.
    """

    def __init__(self, root: Path, project: Path) -> None:
        self.root, self._project = root, project
        self._listed = recompute.read(root)
        self._hashes: dict[str, tuple[Version, str]] = {}

    def look(self) -> Snapshot:
        """Return the code as it is now; what did not change since the last look is not read again.

        Raises
        ------
        InvalidInput
            When it is more than code is, or the folder is none of a project.
        """
        code = Code(self.root, listed=self._listed.include, unlisted=self._listed.exclude)
        files: dict[str, tuple[str, int]] = {}
        for path, seen in code.wanted().items():
            known = self._hashes.get(path)
            if known is None or known[0] != seen:
                try:
                    digest = hashlib.sha256((self.root / path).read_bytes()).hexdigest()
                except OSError:
                    continue  # gone again, or not readable
                known = self._hashes[path] = (seen, digest)
            files[path] = (known[1], seen.mode)
        return Snapshot(files)

    def pack(self, snapshot: Snapshot, digests: Collection[str]) -> bytes:
        """Return the files with these contents, named by them, as an archive."""
        wanted, packed = set(digests), io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
            for path, (digest, _) in snapshot.files.items():
                if digest in wanted:
                    wanted.discard(digest)
                    data = (self.root / path).read_bytes()
                    if hashlib.sha256(data).hexdigest() == digest:  # else it has changed: the next look has it
                        entry = tarfile.TarInfo(digest)
                        entry.size = len(data)
                        archive.addfile(entry, io.BytesIO(data))
        return packed.getvalue()

    def marker(self) -> str:
        """Return what makes the folder there this project, without what concerns this machine alone."""
        found = read_marker(self._project)
        values = found.values if found is not None else {"name": self._project.name}
        return process.as_json({key: values[key] for key in ("name", "job", "notebooks", "url") if key in values})

    @property
    def inputs_there(self) -> str:
        """Folder of the inputs on other machines, from the home folder: where ``%host put`` brings them."""
        return f"{folder_there(self._project)}/{DATA_PROJECT}"


class States:
    """The states that a machine has.

    Parameters
    ----------
    folder : Path
        Holds a folder ``<state>`` and a list ``<state>.json`` for each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)

    def folder_of(self, state: str) -> Path | None:
        """Return the folder of a state that is here."""
        folder = self.folder / state
        return folder if state.isalnum() and (self.folder / f"{state}.json").is_file() and folder.is_dir() else None

    def missing(self, state: str, snapshot: Snapshot) -> list[str] | None:
        """Return the hashes of contents that are not here; None when the whole state is."""
        if self.folder_of(state) is not None:
            return None
        found = self._found({digest for digest, _ in snapshot.files.values()})
        return sorted({digest for digest, _ in snapshot.files.values()} - found.keys())

    def make(self, snapshot: Snapshot, archive: bytes, marker: str, inputs: Path) -> Path:
        """Make a state; nobody sees it before it is whole.

        Raises
        ------
        InvalidInput
            When contents are missing.
        """
        state = snapshot.state
        if (folder := self.folder_of(state)) is not None:
            return folder
        brought = dict(_contents(archive))
        here = self._found({digest for digest, _ in snapshot.files.values()} - brought.keys())
        made = Path(tempfile.mkdtemp(dir=self.folder, prefix=".new-"))
        try:
            for path, (digest, mode) in snapshot.files.items():
                to = made / path
                to.parent.mkdir(parents=True, exist_ok=True)
                if digest in brought:
                    to.write_bytes(brought[digest])
                elif digest in here:
                    shutil.copyfile(here[digest], to)
                else:
                    raise InvalidInput(f"{path} changed while it was sent.", "It is sent again by itself.")
                to.chmod(mode & 0o755 | 0o600)
            (made / MARKER).write_text(marker)
            inputs.mkdir(mode=0o700, parents=True, exist_ok=True)
            (made / DATA_PROJECT).symlink_to(inputs)
            process.write_json(self.folder / f"{state}.json", snapshot.files)
            os.rename(made, self.folder / state)
        except OSError:
            shutil.rmtree(made, ignore_errors=True)
            if (folder := self.folder_of(state)) is None:  # else somebody else has made it meanwhile
                raise
            return folder
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        return self.folder / state

    def _found(self, digests: Collection[str]) -> dict[str, Path]:
        """Return files of other states that hold these contents now: a run may have written into one."""
        found: dict[str, Path] = {}
        for listed in sorted(self.folder.glob("*.json"), key=os.path.getmtime, reverse=True)[:_MOST_STATES]:
            for path, (digest, _) in Snapshot.of(process.read_json(listed) or {}).files.items():
                file = listed.with_suffix("") / path
                if digest in digests and digest not in found and _digest(file) == digest:
                    found[digest] = file
        return found

    def written(self, state: str) -> list[tuple[str, int, int]]:
        """Return name, size and time of change of what runs have written beside the code of a state, or over it."""
        folder = self.folder / state
        known = Snapshot.of(process.read_json(self.folder / f"{state}.json") or {}).files
        made = os.path.getmtime(self.folder / f"{state}.json")
        found = []
        for at, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if name not in ("__pycache__", ".ipynb_checkpoints")]
            for name in names:
                path = os.path.join(at, name)
                inside = os.path.relpath(path, folder)
                seen = os.lstat(path)
                if inside != MARKER and (inside not in known or seen.st_mtime > made):
                    found.append((inside, seen.st_size, seen.st_mtime_ns))
        return sorted(found)

    def sweep(self, used: Collection[str], seconds: float) -> None:
        """Remove old states in which nobody works, unless something was written there that is nowhere else."""
        for listed in self.folder.glob("*.json"):
            folder = listed.with_suffix("")
            if time.time() - os.path.getmtime(listed) < seconds or str(folder) in used:
                continue
            if not folder.is_dir() or not self.written(folder.name):
                shutil.rmtree(folder, ignore_errors=True)
                listed.unlink(missing_ok=True)


def _contents(archive: bytes) -> Iterator[tuple[str, bytes]]:
    if not archive:
        return
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as packed:
        for member in packed:
            data = packed.extractfile(member)
            if data is not None:
                content = data.read()
                yield hashlib.sha256(content).hexdigest(), content


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
