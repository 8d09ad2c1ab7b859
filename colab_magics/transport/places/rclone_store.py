"""A folder of a cloud that rclone reaches. Every answer costs a process of it, so that it is asked for many at once.

rclone shows a file under its name when it is whole: clouds do so by themselves, and where they do not it writes to a
name of its own and renames. What it is given is a copy that was checked, so that no file changes on the way.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ... import process
from ...errors import ColabMagicsError, CommandFailed, InvalidInput, NotFound, Unavailable
from ..buckets.access import odd
from .listed_store import FOLDER, ListedStore
from .store import TEMPORARY, FileThere, There

FLAGS = ("--retries=2", "--low-level-retries=3", "--contimeout=15s", "--timeout=60s", "--ask-password=false")
NO_FOLDER, NO_FILE = 3, 4
"""What rclone ends with when something is not there."""
LONG_SECONDS = 6 * 3600.0
"""Time for a batch."""


def rclone(
    words: Sequence[str], *, input: bytes | None = None, ok: Sequence[int] = (0,), timeout: float = LONG_SECONDS
) -> bytes:
    """Run rclone; returns what it prints.

    Raises
    ------
    Unavailable
        Without rclone, or when it knows no such remote.
    CommandFailed
        When it failed.
    """
    program = process.need("rclone")
    try:
        return process.run_raw([program, *words, *FLAGS], input=input, ok=ok, timeout=timeout)
    except CommandFailed as error:
        raise _explained(error) from error


def _explained(error: CommandFailed) -> ColabMagicsError:
    lines = [line.partition(" : ")[2] or line for line in error.output.splitlines() if line.strip()]
    text = error.output.lower()
    if "didn't find section in config file" in text:
        return InvalidInput("rclone knows no remote of that name.", "See: rclone listremotes; make one: rclone config")
    said = lines[-1].strip() if lines else f"rclone ended with status {error.returncode}"
    if "quota" in text or "no space left" in text:
        return CommandFailed(said, "Free some space there.", returncode=error.returncode, output=error.output)
    if any(word in text for word in ("token", "unauthorized", "401", "oauth")):
        return Unavailable(f"rclone may not: {said}", "Log in again: rclone config reconnect NAME:")
    return CommandFailed(said, "Try it by hand: rclone lsf REMOTE:", returncode=error.returncode, output=error.output)


class RcloneStore(ListedStore):
    """What can be done in a folder of a remote.

    Parameters
    ----------
    remote : str
        ``NAME:folder``.
    """

    def __init__(self, remote: str) -> None:
        super().__init__()
        self.remote = remote

    def path(self, name: str = "") -> str:
        """Return a name as an argument of rclone."""
        return f"{self.remote.rstrip('/')}/{name}" if name else self.remote

    def listing(self, below: str = "", *, exactly: bool = False) -> Iterator[There]:
        if exactly:
            found = _read(rclone(["lsjson", "--stat", self.path(below)], ok=(0, NO_FOLDER, NO_FILE)))
            if not isinstance(found, dict):
                return
            if not found["IsDir"]:
                yield _there(below, found)
                return
        words = ["lsjson", "--recursive", "--files-only", "--no-mimetype", self.path(below)]
        for one in _read(rclone(words, ok=(0, NO_FOLDER))) or []:
            name = f"{below}/{one['Path']}" if below else one["Path"]
            if why := odd(name):
                self.leave_out(name, why)
            else:
                yield _there(name, one)

    def times(self, names: Sequence[str]) -> Mapping[str, float]:
        return {}  # the listing has told them

    def look(self, names: Sequence[str]) -> dict[str, FileThere]:
        names = [name for name in names if not odd(name)]
        if not names:
            return {}
        words = ["lsjson", "--recursive", "--files-only", "--no-mimetype", "--files-from-raw=-", self.path()]
        listed = _read(rclone(words, input=_list(names), ok=(0, NO_FOLDER))) or []
        return {one["Path"]: FileThere(there.size, there.mtime) for one in listed if (there := _there("", one))}

    def fetch(self, into: Path, names: Sequence[str], *, flags: Sequence[str] = ()) -> Mapping[str, float]:
        if not names:
            return {}
        # rclone's own names for what is still coming would be taken for the user's files.
        with tempfile.TemporaryDirectory(prefix=f"{TEMPORARY}fetch.", dir=into) as waiting:
            rclone(["copy", "--files-from-raw=-", "--no-traverse", self.path(), waiting], input=_list(names))
            for name in names:
                if os.path.lexists(os.path.join(waiting, name)):
                    (into / name).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(os.path.join(waiting, name), into / name)
        return {}

    def take(self, source: Path, names: Sequence[str], *, aside: str) -> None:
        self.refuse_odd(names)
        words = ["copy", "--ignore-times", "--no-traverse", "--files-from-raw=-", str(source), self.path()]
        rclone(words, input=_list(names))

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield a folder here in which a batch is put together for `bring`."""
        folder = tempfile.mkdtemp(prefix="colab_magics-")
        try:
            yield Path(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def bring(self, staged: Path, *, aside: str) -> None:
        """Bring all files of a folder; what has the same name is replaced.

        Parameters
        ----------
        staged : Path
            The folder here.
        aside : str
            The folder there to which a file is moved where a folder has to be, and a folder where a file has to.
        """
        words = ["copy", "--ignore-times", "--no-traverse", str(staged), self.path()]
        try:
            rclone(words)
        except CommandFailed:
            # Clouds without folders take both; elsewhere it is looked for when it has failed, as it is rare.
            if not self._make_way(staged, aside):
                raise
            rclone(words)

    def _make_way(self, staged: Path, aside: str) -> bool:
        """Move aside what has the name of a folder that is to come, or is one in place of a file."""
        moved = False
        for path in sorted(staged.rglob("*")):
            name = str(path.relative_to(staged))
            found = _read(rclone(["lsjson", "--stat", self.path(name)], ok=(0, NO_FOLDER, NO_FILE)))
            if isinstance(found, dict) and bool(found["IsDir"]) is not path.is_dir():
                rclone(["moveto", self.path(name), self.path(f"{aside}/{name}")])
                moved = True
        return moved

    def copy(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Copy files within the folder; what is not there is left out."""
        self._transfer("copy", pairs)

    def move(self, pairs: Sequence[tuple[str, str]], *, aside: str) -> None:
        self._transfer("move", pairs)

    def _transfer(self, verb: str, pairs: Sequence[tuple[str, str]]) -> None:
        there = self.look([old for old, _ in pairs])
        together: dict[str, list[str]] = {}
        for old, new in pairs:
            if old not in there:
                continue
            if new.endswith(f"/{old}"):
                together.setdefault(new.removesuffix(f"/{old}"), []).append(old)
            else:
                rclone([f"{verb}to", self.path(old), self.path(new)])
        for folder, names in together.items():
            rclone([verb, "--files-from-raw=-", "--no-traverse", self.path(), self.path(folder)], input=_list(names))

    def erase(self, names: Sequence[str], *, truncate: bool = False) -> None:
        names = [name for name in names if not odd(name)]
        if names:
            rclone(["delete", "--files-from-raw=-", self.path()], input=_list(names), ok=(0, NO_FOLDER))

    def make_folders(self, names: Sequence[str]) -> None:
        names = [name for name in names if not odd(name)]
        if not names:
            return
        with self.staging() as folder:
            for name in names:
                (folder / name).mkdir(parents=True, exist_ok=True)
                (folder / name / FOLDER).touch()
            rclone(["copy", "--no-traverse", str(folder), self.path()])

    def drop_folders(self, names: Sequence[str]) -> None:
        self.erase([f"{name}/{FOLDER}" for name in names])

    def set_rights(self, folders: Mapping[str, int], *, less: bool) -> list[str]:
        return []

    def below(self, folder: str) -> dict[str, int]:
        return {one.name: one.size for one in self.listing(folder)}

    def get(self, name: str) -> bytes | None:
        try:
            return rclone(["cat", self.path(name)])
        except CommandFailed as error:
            if error.returncode in (NO_FOLDER, NO_FILE):
                return None
            raise

    def put(self, name: str, data: bytes) -> None:
        with self.staging() as folder:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
            rclone(["copy", "--ignore-times", "--no-traverse", str(folder), self.path()])

    def free(self) -> int | None:
        try:
            found = _read(rclone(["about", "--json", self.path()]))
        except (CommandFailed, NotFound):
            return None  # most clouds cannot say
        free = found.get("free") if isinstance(found, dict) else None
        return free if isinstance(free, int) else None


def _there(name: str, one: Mapping[str, Any]) -> There:
    return There(name, False, False, int(one["Size"]), _seconds(str(one.get("ModTime", ""))))


def _seconds(text: str) -> float:
    """Read rclone's time, RFC 3339 with up to nine digits of a second."""
    whole, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))] if dot else ""
    try:
        return datetime.fromisoformat(whole + rest[len(digits) :]).timestamp() + float(f"0.{digits or 0}")
    except ValueError:
        return time.time()


def _read(raw: bytes) -> Any:
    try:
        return json.loads(raw or b"null")
    except ValueError:
        return None


def _list(names: Iterable[str]) -> bytes:
    return b"".join(name.encode() + b"\n" for name in names)
