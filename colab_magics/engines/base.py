"""What an engine is: it knows how to bring runs to execution somewhere, and how they are doing there.

The scheduler does the rest: which run is next, how many at once, what a failure means. An engine deals in whole lists,
so that a cluster needs one submission and one poll whatever the number of runs.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Ref = dict[str, Any]
"""How an engine names a submitted run; kept as JSON, so that another process can ask about it."""


@dataclass(frozen=True)
class Begun:
    """What an engine has started before its scheduler.

    Parameters
    ----------
    notes : dict
        What the engine must know of it in the scheduler; JSON.
    files : sequence of int
        Open files, which the scheduler inherits under the same numbers.
    """

    notes: dict[str, Any] = field(default_factory=dict)
    files: Sequence[int] = ()

    def close(self) -> None:
        """Close the files here."""
        for fd in self.files:
            os.close(fd)


class Program(Protocol):
    """What executes one run: a program that is started for its folder, or a fork of a process that has loaded it."""

    def command(self, folder: Path) -> list[str]:
        """Return what starts it."""

    def load(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Do once what executing the runs of these records begins with, in the process that is to be forked."""

    def execute(self, folder: Path) -> int:
        """Be it, in this process; return its exit status."""


class Engine(ABC):
    """Where runs execute. `native` names what the engine does by itself: array, retry, parallelism, survives."""

    native: frozenset[str] = frozenset()
    starts: frozenset[str] = frozenset({"cold"})
    """How kernels of its runs can start."""
    program: Program | None = None
    """What a scheduler gives it, whose process then serves the engine alone: only that may be forked."""

    @abstractmethod
    def available(self, *, gpus: float = 0) -> None:
        """Return when runs can be submitted that need so many GPUs each.

        Raises
        ------
        Unavailable
            When they cannot, with the mend.
        """

    def begin(self, job_folder: Path, start: str, kernel: str | None) -> Begun:
        """Start what takes a while, in the submitter and before the plan is written; by default there is nothing.

        It must end by itself when the files that it returns are closed.
        """
        return Begun()

    @abstractmethod
    def prepare(
        self, folders: Sequence[Path], adopted: Sequence[Path] = (), begun: Mapping[str, Any] | None = None
    ) -> None:
        """Bring code, package and folders to the place of work.

        The runs in `adopted` are being executed already; `begun` is what `begin` noted in the submitter, if it was
        asked.
        """

    def ready(self, folders: Sequence[Path]) -> list[Path]:
        """Return the runs that can start now, the first of `folders` or more; the others wait for a device."""
        return list(folders)

    @abstractmethod
    def submit(self, folders: Sequence[Path]) -> list[Ref]:
        """Start the runs in `folders`; one reference each, in order.

        Fewer mean that the others cannot be started now. Raises OSError when none can.
        """

    @abstractmethod
    def poll(self, refs: Iterable[Ref]) -> list[bool]:
        """Tell for each reference whether its runner is still there."""

    def wait(self, seconds: float) -> None:
        """Wait so long; less when a run that was polled has ended meanwhile and the engine can tell."""
        time.sleep(seconds)

    @abstractmethod
    def cancel(self, refs: Iterable[Ref]) -> None:
        """Kill runs, softly first; returns at once, `poll` tells when they are gone."""

    @abstractmethod
    def log(self, ref: Ref) -> str:
        """Return what the engine itself knows of a run that left no log: why it could not start."""

    def finish(self, *, well: bool) -> None:  # noqa: B027 - most engines keep nothing
        """Let go of what `prepare` made, when the runs have ended; `well` tells whether all of them did well."""

    @abstractmethod
    def collect(self, folders: Sequence[Path]) -> None:
        """Bring results home."""
