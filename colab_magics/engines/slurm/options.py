"""What a line says to Slurm alone, and how that reads for ``sbatch``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ...errors import InvalidInput
from ...units import size

_OURS = {
    "array": "It is made from the runs.",
    "clusters": "Log in where you mean.",
    "comment": "Runs are found again by it.",
    "error": "What a run prints stands in its log: %jobs logs",
    "export": "Runs get the environment of the notebook.",
    "export-file": "Runs get the environment of the notebook.",
    "input": "Runs read nothing.",
    "no-requeue": "A run that was preempted begins again; end it by %jobs kill",
    "open-mode": "Logs are appended to.",
    "output": "What a run prints stands in its log: %jobs logs",
    "parsable": "",
    "requeue": "Runs are started again when they were preempted.",
    "test-only": "Look at what would be executed by --dry-run.",
    "wait": "The line waits by itself; --detach lets it go.",
    "wrap": "Use %submit on=slurm -- COMMAND",
}
"""Options of sbatch that are not the user's, and why."""
_BY_NAME = {"account": "account", "cpus-per-task": "cpus", "mem": "mem", "partition": "partition"}
_YES, _NO = frozenset({"", "yes", "true"}), frozenset({"no", "false"})


@dataclass(frozen=True)
class Options:
    """What each run gets of the cluster.

    ``workers=`` is how many runs execute at once: by default as many as the cluster lets. ``gpus=2`` asks for GPUs.
    ``time=2h`` ends a run, and tells Slurm so, with five minutes to spare.

    Parameters
    ----------
    partition : str, optional
        Which part of the cluster; the cluster's default by default.
    account : str, optional
        Who pays for it.
    cpus : int, optional
        Cores of each run.
    mem : str, optional
        Memory of each run: ``16GB``. By default what the cluster gives.
    setup : str, optional
        What bash does on the node before a run: ``setup="module load cuda/12"``. Where it fails the run does.
    python : str, optional
        The Python that executes the runs, with colab_magics in it; by default that of this notebook.
    sbatch : mapping, optional
        Any other option of sbatch: ``sbatch.qos=high``, ``sbatch.exclusive=yes``.
    """

    partition: str | None = None
    account: str | None = None
    cpus: int | None = None
    mem: str | None = None
    setup: str | None = None
    python: str | None = None
    sbatch: Mapping[str, str] = field(default_factory=dict)


def arguments(options: Options) -> list[str]:
    """Return what the options are for sbatch.

    Raises
    ------
    InvalidInput
        For a value that no option can have, and for options of sbatch that are not the user's.
    """
    for name in ("partition", "account", "setup", "python"):
        _check_line(name, getattr(options, name) or "")
    if options.cpus is not None and options.cpus < 1:
        raise InvalidInput(f"cpus={options.cpus} is too small.", "Write cpus=1 or more.")
    known = {
        "partition": options.partition,
        "account": options.account,
        "cpus-per-task": options.cpus,
        "mem": None if options.mem is None else megabytes(options.mem),
    }
    said = [f"--{name}={value}" for name, value in known.items() if value is not None]
    return [*said, *_free(options.sbatch)]


def _free(sbatch: Mapping[str, str]) -> Iterator[str]:
    for key, value in sbatch.items():
        name = key.replace("_", "-")
        if not re.fullmatch(r"[a-z][a-z0-9-]+", name):
            raise InvalidInput(f"sbatch.{key}= is no option of sbatch.", "Write its long name: sbatch.qos=high")
        if name in _OURS:
            raise InvalidInput(f"sbatch.{key}= is not yours to set.", _OURS[name] or "Leave it out.")
        if own := _BY_NAME.get(name):
            raise InvalidInput(f"sbatch.{key}= has an option of its own.", f"Write {own}={value}")
        _check_line(f"sbatch.{key}", value)
        if value.lower() not in _NO:
            yield f"--{name}" if value.lower() in _YES else f"--{name}={value}"


def _check_line(name: str, value: str) -> None:
    if "\n" in value or "\r" in value or "\0" in value:
        raise InvalidInput(f"{name}= has more than one line.", 'Write one line, with ";" between commands.')


def megabytes(mem: str) -> str:
    """Return a size as sbatch reads it: ``16GB`` is ``16384M``, as its users mean it; ``0`` is all of the node's.

    Raises
    ------
    InvalidInput
        When it is no size.
    """
    if re.fullmatch(r"\d+", mem):
        return f"{mem}M"  # as in --mem itself
    powers = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt])b?", mem.strip(), re.IGNORECASE)
    exact = float(powers[1]) * 1024 ** "kmgt".index(powers[2].lower()) * 1024 if powers else size(mem, name="mem")
    return f"{math.ceil(exact / 1024**2)}M"
