"""What a repository may say: which of its files are read, and what in them counts.

A pyproject.toml and a marker come with a clone, so they are the words of whoever wrote them. What they set counts where
it is harmless (`HARMLESS`); everything else counts after a yes that the user gave once, for that very file and those
very values, as direnv does. The answer is a file of the user's own, named by the hash of both.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import InvalidInput
from ..process import log
from . import git

Warn = Callable[[str], None]
unheard: Warn = log.debug
"""For files of which the user was told when they were found, and for processes without a user."""
HARMLESS: Mapping[str, frozenset[str]] = {
    "project": frozenset({"name", "job", "notebooks", "every"}),
    "sync": frozenset({"every", "exclude", "large", "timeout"}),
    "fork": frozenset(
        {"n", "only", "first", "done-file", "workers", "gpus", "start", "seed", "time", "cell-time", "try"}
        | {"retries", "max-failures"}
    ),
    "submit": frozenset(
        {"n", "only", "first", "done-file", "workers", "gpus", "time", "retries", "max-failures", "try", "wait"}
    ),
    "queue": frozenset({"n", "status", "clients", "rounds"}),
    "jobs": frozenset(
        {"all", "lines", "names", "older", "workers", "retries", "max-failures"}
        | {"sort", "where", "x", "over", "log", "by", "parallel"}
    ),
    "remote": frozenset({"exclude", "idle", "spool"}),
    "host": frozenset({"need", "timeout"}),
    "s3": frozenset(),
    "runtime": frozenset({"timeout"}),
    "upload": frozenset({"job", "name", "gpu", "accelerator", "high-ram", "background", "time"}),
    "download": frozenset({"workers"}),
    "tunnel": frozenset(),
}
"""Options that a repository may set by itself: names, patterns, numbers, times. What sends, fetches, installs, names
secrets, runs something or points elsewhere is not among them, and no option is before somebody has thought about it."""

PYPROJECT = "pyproject.toml"


@dataclass(frozen=True)
class Request:
    """What a file of a repository sets that counts only with the user's word.

    Parameters
    ----------
    file : Path
        The file.
    values : mapping
        The values, by options such as ``sync.to``.
    """

    file: Path
    values: Mapping[str, Any]

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """File, option and value of each, with nothing in them that a terminal would obey or that looks alike."""
        return [(str(self.file), key, json.dumps(value, default=str)) for key, value in self.values.items()]

    @property
    def answer(self) -> str:
        """What the user has said to these values of this file: ``yes``, ``no`` or nothing."""
        try:
            handle = os.open(self._mark, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return ""
        with open(handle) as stream:
            return stream.read() if os.fstat(handle).st_uid == os.geteuid() else ""

    @property
    def allowed(self) -> bool:
        """Whether it counts."""
        return not self.values or self.answer == "yes"

    def note(self, answer: Literal["yes", "no"]) -> None:
        """Write down what the user has said."""
        if self.answer != answer:
            self._mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(self._mark, flags, 0o600), "w") as stream:
                stream.write(answer)

    @property
    def _mark(self) -> Path:
        from ..mirror import state

        text = json.dumps(self.values, sort_keys=True, default=str)
        key = os.fsencode(os.path.realpath(self.file)) + b"\0" + text.encode()
        return state.root().with_name("trusted") / hashlib.sha256(key).hexdigest()


def left_out(file: Path, options: Iterable[str]) -> str:
    """Write the line about options of a file that do not count."""
    return (
        f"{file} sets {', '.join(f'{option}=' for option in options)}: left out, because that is yours to say. "
        f"If you trust it: %trust {shlex.quote(str(file.parent))}"
    )


def pyproject(start: Path, warn: Warn = unheard) -> tuple[Path, dict[str, Any]] | None:
    """Return the nearest pyproject.toml from a folder upward, and its tables below ``tool.colab_magics``.

    Raises
    ------
    InvalidInput
        When it is no TOML.
    """
    for file, data in upward(start, PYPROJECT, warn):
        tool = as_table(file, "tool", toml(file, data).get("tool", {}))
        return file, as_table(file, "tool.colab_magics", tool.get("colab_magics", {}))
    return None


def user_file() -> Path:
    """Return where the user's own defaults stand."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "colab_magics" / "config.toml"


def toml(file: Path, data: bytes) -> dict[str, Any]:
    """Read a file's TOML."""
    import tomllib

    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", "Mend the file, or move it away.") from error


def as_table(file: Path, name: str, value: Any) -> dict[str, Any]:
    """Return a table of a file.

    Raises
    ------
    InvalidInput
        When it is something else.
    """
    if not isinstance(value, dict):
        raise InvalidInput(f"{file}: {name} is no table.", f"Write options below a heading, such as [{name}].")
    return value


def is_harmless(verb: str, option: str) -> bool:
    """Whether a repository may set an option of a verb by itself."""
    return option.replace("_", "-") in HARMLESS.get(verb, ())


def request(file: Path, tables: Mapping[str, Any]) -> Request:
    """Return what the tables of a pyproject.toml set that is not harmless; subcommands have tables within theirs."""
    found: dict[str, Any] = {}
    for verb, table in tables.items():
        for option, value in table.items() if isinstance(table, dict) else ():
            inner = value.items() if isinstance(value, dict) else ()
            found |= {f"{verb}.{option}.{key}": one for key, one in inner if not is_harmless(verb, key)}
            if not inner and not is_harmless(verb, option):
                found[f"{verb}.{option}"] = value
    return Request(file, found)


def upward(start: Path, name: str, warn: Warn = unheard) -> Iterator[tuple[Path, bytes]]:
    """Yield the files of a name from a folder upward that are read at all, with what they hold.

    They are this user's own (see `read`), and stand no higher than the checkout that the folder is in, or the home.
    """
    start, home = Path(start).absolute(), os.path.realpath(os.path.expanduser("~"))
    for folder in (start, *start.parents):
        if (data := read(folder / name, warn)) is not None:
            yield folder / name, data
        if os.path.exists(folder / ".git") or os.path.realpath(folder) == home:
            break
    for above in folder.parents:
        if os.path.isfile(above / name) and _is_meant_for_us(above / name):
            warn(f"{above / name} is not read: it stands above {folder}. Start in {above} if you mean it.")
            return


def read(file: Path, warn: Warn = unheard) -> bytes | None:
    """Read a file that may have come with a repository; None when there is none, or none that is this user's own.

    A link may lead anywhere; and a file of another user is not read unless git is told to use the folder, by its
    ``safe.directory``.
    """
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        link = error.errno == errno.ELOOP
        why = f"a link to {os.path.realpath(file)}" if link else error.strerror
        warn(f"{file} is not read ({why}). {'Put the file itself there.' if link else 'Is it yours?'}")
        return None
    with open(handle, "rb") as stream:
        seen = os.fstat(handle)
        if not stat.S_ISREG(seen.st_mode):
            return None
        data = stream.read()
    if seen.st_uid == os.geteuid() or _git_uses(file.parent):
        return data
    if _is_meant_for_us(file):
        trust = f"git config --global --add safe.directory {shlex.quote(str(file.parent))}"
        warn(f"{file} is not read: it belongs to another user. If you trust that user: {trust}")
    return None


def _is_meant_for_us(file: Path) -> bool:
    """Whether anything is lost when a file is not read: a pyproject.toml mostly is there for others."""
    try:
        return file.name != PYPROJECT or b"colab_magics" in file.read_bytes()
    except OSError:
        return False


def _git_uses(folder: Path) -> bool:
    """Whether the user has told git to use a folder, or one above it, although it belongs to somebody else."""
    told = git.ask("config", "--get-all", "safe.directory", cwd=Path("/")) or ""
    safe: list[str] = []
    for line in told.splitlines():
        safe = [*safe, line] if line else []  # an empty one takes back those before, as git has it
    real = Path(os.path.realpath(folder))
    return any(one == "*" or Path(one.removesuffix("/*")) in (real, *real.parents) for one in safe)
