"""A run that executes a command: a program with its words, or a line for the shell, with the run's values in it."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import process
from ..errors import InvalidInput, NotFound
from ..kernels import death, memory
from ..records import plain
from ..records.run import Run
from .base import Attempt, Draft, Payload, kind_of
from .checks import Uses

COMMAND = "command"
_FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")
_OF_SHELLS = {"|", "||", "&&", "&", ";", ">", ">>", "<", "2>", "2>&1", "&>"}
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""How a program ends that somebody killed, and a shell around it."""
_OWN = ("i_sub_job", "data_job")
"""What every run has, whatever its grid."""


class Command(Payload):
    """A command. Its record's payload holds ``words``, in which ``{lr}`` stands for the run's value of lr."""

    def execute(self, attempt: Attempt) -> dict[str, Any] | None:
        """Start it, and wait for its end; see `Payload`.

        It writes to the log itself: what it prints arrives whoever of us is still there.
        """
        run = attempt.run
        words = words_of(run.record)
        argv = filled_in(words, run.injected)
        cwd = Path(run.record.get("cwd") or run.folder)
        where = cwd if cwd.is_dir() else run.folder
        attempt.keep(cell=None, cells=None)
        attempt.log.write(f"── {line_of(words, run.injected)}\n")
        attempt.log.flush()
        began = os.path.getsize(run.log) if run.log.exists() else 0
        kills = death.kills_for_memory()
        pid = _start(argv, where, run)
        attempt.kernel(pid)
        _, raw, used = os.wait4(pid, 0)
        status = os.waitstatus_to_exitcode(raw)
        attempt.keep(exit=status)
        if status == 0:
            return None
        short = death.kills_for_memory() > kills or memory.was_short(used.ru_maxrss * 1024)
        lines = _printed(run.log, began)
        return {
            "cell": None,
            "ename": _in_words(status, short=short),
            "evalue": next((line for line in reversed(lines) if line.strip()), ""),
            "traceback": "\n".join(lines[-20:]),
        }

    def check(self, run: Run) -> None:
        """Check that its record names a command; see `Payload`."""
        words_of(run.record)

    def seal(self, folder: Path) -> bool:
        """Nothing is left half done; see `Payload`."""
        return False

    def set_aside(self, folder: Path, attempt: int) -> None:
        """Nothing is written anew: the log of the next attempt follows; see `Payload`."""

    def title(self, record: Mapping[str, Any]) -> tuple[str, str]:
        """Return the command's line; see `Payload`."""
        payload = record.get("payload") or {}
        words = payload.get("words") or []
        return COMMAND, payload.get("shown") or (line_of(words, record.get("parameters") or {}) if words else "")

    def mend(self) -> str:
        """Say how to go on after a failure; see `Payload`."""
        return "Mend it and say the %submit line again"


def _start(argv: Sequence[str], cwd: Path, run: Run) -> int:
    own = {name: str(value) for name, value in run.injected.items() if name in _OWN}
    # "python" is the interpreter of the runs; what it prints must not wait in a buffer.
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    env = {**own, "PATH": path, "PYTHONUNBUFFERED": "1"}
    program = shutil.which(argv[0], path=path) if os.sep not in argv[0] else argv[0]
    if program is None:
        raise NotFound(f"There is no program {argv[0]!r} here.", f"Install it, or write its path. PATH is {path}")
    try:
        return process.start_detached([program, *argv[1:]], log_file=run.log, cwd=cwd, env=env)
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotFound(f"{program} cannot be started in {cwd}: {reason}.", "Look at its path and its rights.") from None


def _in_words(status: int, *, short: bool = False) -> str:
    why = f" ({death.PROBABLY})" if short and status in _KILLED else ""
    if status >= 0:
        return f"exit code {status}{why}"
    try:
        return f"ended by {signal.Signals(-status).name}{why}"
    except ValueError:
        return f"ended by signal {-status}"


def _printed(log: Path, start: int) -> list[str]:
    try:
        size = os.path.getsize(log)
        raw = plain.read_bytes(log, start=max(start, size - 20_000)) or b""
    except OSError:
        return []
    return raw.decode("utf-8", "replace").splitlines()


def words_of(record: Mapping[str, Any]) -> list[str]:
    """Return a command's words, by a run's record.

    Raises
    ------
    NotFound
        When it holds none.
    """
    words = (record.get("payload") or {}).get("words")
    if not words:
        raise NotFound("The run's record names no command.", "Say the %submit line again.")
    return [str(word) for word in words]


def is_line(words: Sequence[str]) -> bool:
    """Whether the words are a line for the shell: a single one with spaces in it, as who quotes a whole line writes."""
    return len(words) == 1 and bool(re.search(r"\s", words[0].strip()))


def filled_in(words: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Return what to start: the words with values in them; of a line, the shell with it, and the values quoted."""

    def value(match: re.Match[str], *, quote: bool) -> str:
        if match[1] not in values:
            return match[0]
        return shlex.quote(str(values[match[1]])) if quote else str(values[match[1]])

    if is_line(words):
        line = _FIELD.sub(functools.partial(value, quote=True), words[0])
        return [shutil.which("bash") or "/bin/sh", "-c", line]
    return [_FIELD.sub(functools.partial(value, quote=False), word) for word in words]


def line_of(words: Sequence[str], values: Mapping[str, Any]) -> str:
    """Write a command as users would."""
    filled = filled_in(words, values)
    return filled[2] if is_line(words) else shlex.join(filled)


@dataclass(frozen=True)
class Commands:
    """The runs of the same command belong to each other; see `colab_magics.payloads.base.Owner`.

    Parameters
    ----------
    words : list of str
        The command's words.
    """

    words: Sequence[str]

    def is_maker_of(self, run: Run) -> bool:
        """Whether a run executes a command: no other is a stranger."""
        return kind_of(run.record) == COMMAND

    def made(self, run: Run, hashes: Mapping[str, str]) -> bool:
        """Whether it executes this very command."""
        return self.is_maker_of(run) and (run.record.get("payload") or {}).get("words") == list(self.words)

    def may_take(self, run: Run, hashes: Mapping[str, str]) -> bool:
        """No other command's runs are this one's."""
        return False


@dataclass(frozen=True)
class CommandDraft(Draft):
    """A command as ``%submit`` is given it.

    Parameters
    ----------
    words : list of str
        Its words; ``{lr}`` in them stands for a parameter.
    checkout : Path
        The folder of its code, in which it starts.
    time : float or None
        Seconds that a run may take; None is for ever.
    names : list of str
        The grid's parameters.
    lines : sequence of str
        Lines for the shell that runs get as values: the files that they execute count, too.
    shown : str
        What tables show in place of the words, where the user wrote another line; empty for the words.

    Raises
    ------
    InvalidInput
        When there are no words, signs of the shell stand among them, or one of the parameters does not.
    """

    words: Sequence[str]
    checkout: Path
    time: float | None = None
    names: Sequence[str] = field(default_factory=tuple)
    lines: Sequence[str] = field(default_factory=tuple)
    shown: str = ""
    queues = True

    def __post_init__(self) -> None:
        if not self.words or not self.words[0].strip():
            raise InvalidInput("Which command?", "Write it behind --: %submit -- python train.py")
        if signs := [word for word in self.words if word in _OF_SHELLS]:
            raise InvalidInput(
                f"{signs[0]} is a sign of the shell, and words are given to the program as they are.",
                'Put the whole line in quotes: %submit -- "python train.py > out.txt"',
            )
        if unused := [name for name in self.names if name not in self.fields]:
            raise InvalidInput(
                f"{{{unused[0]}}} stands nowhere in the command: all values of {unused[0]} would compute the same.",
                f"Write --{unused[0]} {{{unused[0]}}}, or take it out of the grid.",
            )

    @property
    def fields(self) -> list[str]:
        """The names in braces."""
        return list(dict.fromkeys(name for word in self.words for name in _FIELD.findall(word)))

    @property
    def unknown(self) -> list[str]:
        """Names in braces that are no parameters: they stay as they are."""
        return [name for name in self.fields if name not in (*self.names, *_OWN)]

    @property
    def uses(self) -> Uses:
        """The names in braces; see `Draft`."""
        return Uses(self.fields, needs=[name for name in self.fields if name not in _OWN])

    @functools.cached_property
    def hashes(self) -> dict[str, str]:
        """The project's files that it executes, and what these import."""
        from . import modules

        line = self.words[0] if is_line(self.words) else shlex.join(self.words)
        roots = [self.checkout, self.checkout / "src"]
        return modules.imported([f"!{one}" for one in (line, *self.lines)], [*roots, self.checkout], self.checkout)

    @property
    def whose(self) -> Commands:
        """The runs of this command."""
        return Commands(self.words)

    def record(self) -> dict[str, Any]:
        """Return what the records of all its runs say; see `Draft`."""
        payload = {"kind": COMMAND, "words": list(self.words), "time": self.time}
        return {"start": self.start, "payload": {**payload, "shown": self.shown} if self.shown else payload}
