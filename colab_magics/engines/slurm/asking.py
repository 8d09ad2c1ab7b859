"""Slurm's own programs: what its controller knows of tasks, and what it says when it refuses."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ... import process
from ...errors import CommandFailed, InvalidInput, Unavailable
from ...session import RUN_VARIABLE
from ...units import ranges

PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
SECONDS = 20.0
"""So long is waited for an answer."""
SUBMIT_SECONDS = 120.0
_RECENT = 0.9
_NO_ROOM = "node configuration is not available"
MARK = "colab_magics:"
"""Begins the comment of our arrays; their key follows."""

Task = tuple[str, int]
"""A job array's number, and the task's in it."""

_FIELDS = "ArrayJobID ArrayTaskID State Reason exit_code NodeList TimeLimit MinMemory Comment".split()  # noqa: SIM905
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER")
_AWAY = re.compile(r"contact slurm controller|connect failure|establish a configuration source|fetch config", re.I)
_UNSURE = re.compile(r"timed out|no answer in|zero bytes|communication|connection|transport|unexpected message", re.I)


class Refused(Unavailable):
    """The controller took nothing, for sure."""


@dataclass(frozen=True)
class Seen:
    """A task as the controller has it.

    Parameters
    ----------
    state : str
        Slurm's word: ``PENDING``, ``TIMEOUT``.
    reason : str
        Slurm's word for why, empty without one.
    exit : int
        Exit status of its script.
    node : str
        Where it is or was.
    limit, memory : str
        What it may take, as Slurm writes it.
    """

    state: str
    reason: str = ""
    exit: int = 0
    node: str = ""
    limit: str = ""
    memory: str = ""


def missing() -> str:
    """Return the first of Slurm's programs that is not on PATH; empty when all are."""
    return next((name for name in PROGRAMS if shutil.which(name) is None), "")


def client(
    *words: str,
    seconds: float = SECONDS,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    fds: Sequence[int] = (),
) -> str:
    """Run one of Slurm's programs; return what it printed.

    Variables by which a user, or a job around this process, changes what they do or print are taken away.

    Raises
    ------
    CommandFailed
        With what it says.
    """
    foreign = [name for name in os.environ if name.startswith(("SLURM_", "SQUEUE_", "SCANCEL_", "SINFO_"))]
    foreign += [RUN_VARIABLE, "SBATCH_WAIT", "SBATCH_CLUSTERS", "SBATCH_GET_USER_ENV", "SBATCH_EXPORT"]
    away = [word for name in foreign if name not in _KEPT for word in ("-u", name)]
    return process.run(["env", *away, *words], cwd=cwd, timeout=seconds, env=environment, pass_fds=fds).stdout


def ask(*words: str) -> str:
    """Ask the controller.

    Raises
    ------
    Unavailable
        When it does not answer.
    """
    try:
        return client(*words)
    except CommandFailed as error:
        raise Unavailable(f"Slurm does not answer ({last_line(error.output)}).", "It is asked again.") from error


def last_line(output: str) -> str:
    """Return the last line that a program said, without its name."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return re.sub(r"^(sbatch: |squeue: |scontrol: |sinfo: |error: |fatal: )+", "", lines[-1]) if lines else "no word"


Known = tuple[dict[Task, Seen], dict[str, str]]
_answer: tuple[float, Known] | None = None
"""What was answered last, and when that was asked."""


def recent_tasks() -> Known:
    """Return what `tasks` does, or has done within the last second, unless something was submitted since."""
    if _answer is not None and time.monotonic() < _answer[0] + _RECENT:
        return _answer[1]
    return tasks()


def tasks() -> Known:
    """Return all tasks of this user that the controller has, those that have ended a while ago among them.

    One question, whatever their number, which the controller answers for this user alone.

    Returns
    -------
    dict
        The tasks.
    dict
        The numbers of our arrays, by their keys.

    Raises
    ------
    Unavailable
        When the controller does not answer.
    """
    wanted = ",".join(f"{name}:|" for name in _FIELDS)
    words = ("--noheader", "--array", "--states=all", f"--user={os.getuid()}", f"--Format={wanted}")
    global _answer
    found: dict[Task, Seen] = {}
    arrays: dict[str, str] = {}
    began = time.monotonic()
    for line in ask("squeue", *words).splitlines():
        parts = [part.strip() for part in line.split("|")]
        if len(parts) < len(_FIELDS) or not parts[1].isdigit():
            continue
        job, task, state, reason, code, node, limit, memory, comment = parts[: len(_FIELDS)]
        why = "" if reason in ("None", "(null)") else reason
        found[job, int(task)] = Seen(state, why, exit_status(code), node, limit, memory)
        if comment.startswith(MARK):
            arrays[comment.removeprefix(MARK)] = job
    _answer = began, (found, arrays)
    return found, arrays


def exit_status(text: str) -> int:
    """Read an exit status: as wait(2) has it, or ``3:0``."""
    if ":" in text:
        text = text.partition(":")[0]
        return int(text) if text.isdigit() else 0
    number = int(text) if text.isdigit() else 0
    return number >> 8 if number >= 256 else 0


def submit(arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], fds: Sequence[int]) -> str:
    """Submit an array; return its number.

    Its tasks get this process's environment, and what is added to it: Slurm keeps both where its controller alone reads
    them.

    Raises
    ------
    Refused
        When the controller, or sbatch, wants none of it.
    Unavailable
        When nobody knows whether it arrived.
    """
    try:
        words = ("sbatch", "--parsable", *arguments)
        said = client(*words, seconds=SUBMIT_SECONDS, cwd=cwd, environment=environment, fds=fds)
        global _answer
        _answer = None
    except CommandFailed as error:
        why = last_line(error.output)
        if error.returncode != 124 and (_AWAY.search(error.output) or not _UNSURE.search(error.output)):
            raise Refused(f"Slurm takes no runs: {why}.", "They wait, and are submitted again.") from error
        raise Unavailable(f"Slurm does not answer ({why}).", "It is asked again.") from error
    number = said.strip().splitlines()[-1].partition(";")[0] if said.strip() else ""
    if not number.isdigit():
        raise Unavailable(f"sbatch said no number but {said.strip()!r}.", "It is asked again.")
    return number


def try_out(arguments: Sequence[str]) -> str:
    """Have the controller look at what would be submitted; return why it would refuse that, empty when it would not.

    Raises
    ------
    Unavailable
        When it does not answer.
    """
    try:
        client("sbatch", "--test-only", *arguments)
    except CommandFailed as error:
        if error.returncode == 124 or _AWAY.search(error.output) or _UNSURE.search(error.output):
            raise Unavailable(
                f"Slurm does not answer ({last_line(error.output)}).", "Say the line again when it does: sinfo"
            ) from error
        lines = [line for line in error.output.splitlines() if "--help" not in line]
        return last_line("\n".join(lines)).removeprefix("allocation failure: ")
    return ""


def check(arguments: Sequence[str]) -> list[str]:
    """Have the controller look at runs; returns a warning when they may have to wait for nodes that are away.

    Raises
    ------
    InvalidInput
        When it would not take them.
    Unavailable
        When it does not answer.
    """
    why = try_out([*arguments, "--wrap=true"])
    partition = next((word.partition("=")[2] for word in arguments if word.startswith("--partition=")), None)
    if _NO_ROOM in why and not is_whole(partition):
        return [f"Slurm has no node for these runs now ({why}), and some are down: the runs wait."]
    if why:
        has = "sinfo shows what the cluster has."
        if "partition" in why.lower() and (names := partitions()):
            has = f"The cluster has the partitions {', '.join(names)}."
        raise InvalidInput(f"Slurm would not take these runs: {why}.", has)
    return []


def named(tasks: Iterable[Task]) -> list[str]:
    """Name tasks as scancel reads them, one word for each array: ``12_[0-3,7]``."""
    words = []
    for job, mine in groupby(sorted(tasks), key=lambda one: one[0]):
        numbers = [number for _, number in mine]
        words.append(f"{job}_[{ranges(numbers)}]" if len(numbers) > 1 else f"{job}_{numbers[0]}")
    return words


def cancel(tasks: Sequence[Task], *, softly: bool) -> None:
    """Ask for the end of tasks, and do not wait: scancel repeats by itself what the controller cannot do at once.

    `softly` tells the runner alone, which interrupts its kernel and saves; without it all of a task ends.
    """
    words = ["--batch", "--signal=TERM"] if softly else []
    process.start_detached(["scancel", "--quiet", *words, *named(tasks)], log_file=os.devnull)


def setting(name: str, default: int) -> int:
    """Return a number of the controller's settings."""
    try:
        found = re.search(rf"^{name}\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    except Unavailable:
        return default
    return int(found[1]) if found else default


def nodes(partition: str | None) -> list[str]:
    """Return the names of the nodes of a partition, by default of the cluster's default one.

    Raises
    ------
    Unavailable
        When the controller does not answer.
    """
    return sorted({name for (name,) in _of_partition(partition, "%n")})


def partitions() -> list[str]:
    """Return the names of the cluster's partitions.

    Raises
    ------
    Unavailable
        When the controller does not answer.
    """
    return sorted(set(ask("sinfo", "--noheader", "--format=%R").split()))


def is_whole(partition: str | None) -> bool:
    """Whether a partition is up with all of its nodes, so that what does not fit now never will.

    Raises
    ------
    Unavailable
        When the controller does not answer.
    """
    known = _of_partition(partition, "%a|%t")
    return all(up == "up" and re.fullmatch("(idle|alloc|mix|comp|resv)[~#!%$^+]?", state) for up, state in known)


def longest(partition: str | None) -> float | None:
    """Return how many seconds a job of a partition may take at most, None without a limit.

    Raises
    ------
    Unavailable
        When the controller does not answer.
    """
    limits = [seconds_of(limit) for (limit,) in _of_partition(partition, "%l")]
    return limits[0] if limits else None


def _of_partition(partition: str | None, what: str) -> list[list[str]]:
    """Ask about the nodes of a partition; returns the fields of each."""
    said = ask(
        "sinfo", "--noheader", "--Node", f"--format=%P|{what}", *([f"--partition={partition}"] * bool(partition))
    )
    lines = [line.strip().split("|") for line in said.splitlines()]
    return [fields for name, *fields in lines if partition or name.endswith("*")]


def seconds_of(text: str) -> float | None:
    """Read a time of Slurm's: ``1-12:00:00``, ``2:00``; None for ``infinite`` and the like."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if found is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60.0 + rest
