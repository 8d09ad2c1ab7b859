"""What an engine is: it knows how to bring runs to execution somewhere, and how they are doing there.

The scheduler does the rest: which run is next, how many at once, what a failure means. An engine deals in whole lists,
so that a cluster needs one submission and one poll whatever the number of runs.

A run goes through an engine as a `Submission`. Its key stands in ``ref.json`` before the engine hears of it, its
reference after; whoever finds a key without a reference asks the engine to `find` it, and nothing is submitted twice.
What an engine cannot tell it says so: `UNKNOWN` never leads to another attempt.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from ..errors import InvalidInput, Unavailable
from ..records.run import Run
from ..ui import UI
from .options import NoOptions

Ref = dict[str, Any]
"""How an engine names a submitted run; kept as JSON, so that another process can ask about it."""

Phase = Literal["queued", "running", "ended", "unknown"]
QUEUED: Phase = "queued"
"""Submitted, and waiting for a machine."""
RUNNING: Phase = "running"
ENDED: Phase = "ended"
"""Nothing of it is there any more; how it ended stands in its folder, once that was brought home."""
UNKNOWN: Phase = "unknown"
"""Nobody can tell now: the host is away, the cluster's controller does not answer."""


class NotSubmitted(Unavailable):
    """None of the runs was submitted, for sure: they go on waiting, and the reason is shown."""


class Program(Protocol):
    """What executes one run: a program that is started for its folder, or a fork of a process that has loaded it."""

    def command(self, folder: Path) -> list[str]:
        """Return what starts it."""

    def load(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Do once what executing the runs of these records begins with, in the process that is to be forked."""

    def execute(self, folder: Path) -> int:
        """Be it, in this process; return its exit status."""


@dataclass(frozen=True)
class Submission:
    """A run on its way through an engine.

    Parameters
    ----------
    folder : Path
        The run's folder, here.
    key : str
        Names this attempt at this run, and no other anywhere.
    ref : dict or None
        How the engine names it; None while nobody knows whether it was submitted.
    """

    folder: Path
    key: str
    ref: Ref | None = None


@dataclass(frozen=True)
class Work:
    """What a scheduler has for its engine.

    Parameters
    ----------
    job_folder : Path
        ``data_job`` of the job.
    program : Program
        What executes a run. Here, in a process that serves the engine alone, it may be loaded and forked.
    folders : sequence of Path
        Folders of the runs to execute.
    adopted : sequence of Path
        Folders of those that are being executed already.
    environment : mapping
        What the runs' environment has besides that of the place: secrets. Never written to a disk.
    workers : int
        How many runs at once the scheduler begins with.
    at_once : int, optional
        How many are to execute at once, where the engine itself holds the others back; see `Resources`.
    """

    job_folder: Path
    program: Program
    folders: Sequence[Path] = ()
    adopted: Sequence[Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    workers: int = 1
    at_once: int | None = None


EVERY = 1_000_000
"""`Resources.workers` of an engine that takes all runs at once, and holds them back itself."""


@dataclass(frozen=True)
class Resources:
    """What runs get where they execute.

    Parameters
    ----------
    workers : int
        How many runs at once.
    gpus : float or None
        How many GPUs each run gets, below 1 a part of one; None: it sees what there is.
    only_free : bool
        Whether GPUs that other programs use are left out.
    devices : sequence of str
        Which GPUs are given out, in words.
    warnings : sequence of str
        What the user should know.
    note : str
        Why ``workers=auto`` is one run at a time, and how to change that; for a call that has more to execute.
    lease : mapping, optional
        What a host keeps free for them; see `colab_magics.transport.host_leases`. They start when it does.
    at_once : int, optional
        How many execute at once where the engine holds the others back itself, as a cluster's queue does: `workers` is
        `EVERY` then. None: as many as there is room for.
    """

    workers: int = 1
    gpus: float | None = None
    only_free: bool = True
    devices: Sequence[str] = ()
    warnings: Sequence[str] = ()
    note: str = ""
    lease: Mapping[str, Any] | None = None
    at_once: int | None = None

    @property
    def at_once_in_words(self) -> str:
        """How many execute at once, for people."""
        if self.workers < EVERY:
            return f"{self.workers} at once"
        return f"all submitted at once, {self.at_once or 'any number'} of them to execute at once"

    def __str__(self) -> str:
        if self.gpus:
            of = f" of: {'; '.join(self.devices)}" if self.devices else ""
            return f"each with gpus={self.gpus:g}{of}"
        return "without GPUs" if self.gpus == 0 else ""


class Engine(ABC):
    """Where runs execute.

    Runs are submitted by a process that has prepared for them. All else is asked for in any process: whoever has the
    run's folder has its key and its reference.

    Parameters
    ----------
    where : str, default ""
        What follows the engine's name in ``on=``: the hosts of ``ssh:gpu1,gpu2``, the machine of ``slurm@login``.
    options : Engine.Options, optional
        What the line says to this engine alone; by default nothing. Who only asks about runs need not know it.

    Raises
    ------
    InvalidInput
        When it cannot be read.
    """

    Options: ClassVar[type[Any]] = NoOptions
    """A frozen dataclass of the engine's own options; see `colab_magics.engines.options`."""

    starts: frozenset[str] = frozenset({"cold"})
    """How kernels of its runs can start."""
    poll_every: float = 10.0
    """Seconds between two polls."""
    previews: bool = False
    """Whether a dry run asks `preview`."""
    reads_folders: bool = False
    """Whether its runs read their folders here: what is written into them while they execute reaches them."""
    stays: bool = False
    """Whether it can make a machine that stays, to be entered."""

    def __init__(self, where: str = "", options: Any = None) -> None:
        self.where, self.options = where, self.Options() if options is None else options

    @classmethod
    def at(cls, where: str, options: Any = None) -> Engine:
        """Open it; what is another engine at another place returns that."""
        return cls(where, options)

    @classmethod
    def why_not(cls) -> str:
        """Say in a few words why nobody can use this engine from here, such as a program that is not there."""
        return ""

    @abstractmethod
    def settle(
        self,
        job_folder: Path,
        cwd: Path,
        workers: str | int = "auto",
        gpus: str | float | None = None,
        ui: UI | None = None,
    ) -> Resources:
        """Decide what runs get, from what there is at this place; nothing asks this machine on its behalf.

        Parameters
        ----------
        job_folder : Path
            ``data_job`` of the runs' job, in its project; it need not be there yet.
        cwd : Path
            Folder in which runs start: that of the project's code, or one in it.
        workers : str or int, default "auto"
            How many at once.
        gpus : str or float, optional
            GPUs of each run.
        ui : UI, optional
            Shows that it takes a time, where it does.

        Raises
        ------
        InvalidInput
            When one of them cannot be read, a run needs more than any machine there has, or the project cannot go
            there.
        Unavailable
            When the place cannot be reached, or has no GPUs at all.
        """

    @abstractmethod
    def available(self, *, gpus: float = 0) -> None:
        """Return when runs can be submitted that need so many GPUs each.

        Raises
        ------
        Unavailable
            When they cannot, with the mend.
        """

    @abstractmethod
    def prepare(self, work: Work) -> None:
        """Bring code, package and whatever the runs share to the place; in the scheduler, before anything else."""

    def preview(self, work: Work) -> Sequence[str]:
        """Show what `submit` would give to somebody else, by files of the project; in a dry run, if it `previews`.

        Nothing is submitted. The folders of `work` were made for this and go when it returns, without what earlier
        attempts have left; its environment holds the names of secrets alone.

        Returns
        -------
        sequence of str
            What to tell the user: which files were written.
        """
        return ()

    @abstractmethod
    def submit(self, runs: Sequence[Submission]) -> list[Ref | None]:
        """Submit runs, none of which the engine has; a reference for each, in order.

        None means that it cannot be started now, and goes on waiting. Raises `NotSubmitted` when that is so of all, for
        a reason that the user should know; OSError or another Unavailable when nobody knows: then they are looked for,
        by `find`, before they are submitted again.
        """

    @abstractmethod
    def find(self, runs: Sequence[Submission]) -> list[Ref | None]:
        """Look for runs by their keys; None for what was never submitted, or has vanished without a trace.

        Raises OSError or Unavailable when nobody can tell.
        """

    @abstractmethod
    def poll(self, runs: Sequence[Submission]) -> list[Phase]:
        """Tell how runs are doing that have a reference; it raises nothing.

        It is asked every `poll_every` seconds, also when there are none: the engine looks after its own then.
        """

    def fetch(self, runs: Sequence[Submission], *, final: bool) -> list[str]:
        """Bring home what runs have written; for each why that could not be, empty when it was.

        Those that live are asked for after each poll: heartbeat, log and metrics come home then, results as often as
        the engine finds right. With `final` they have ended, and everything comes; nothing is decided about a run
        before that. By default runs write here.
        """
        return [""] * len(runs)

    @abstractmethod
    def cancel(self, runs: Sequence[Submission]) -> None:
        """End runs, softly first; returns at once, `poll` tells when they are gone. Safe to be called again."""

    def stop_early(self, run: Submission, why: str) -> bool:
        """Have a run end at its next report; False where it cannot be told: it is cancelled then, and counts the same.

        Raises OSError or Unavailable when it may be tried again.
        """
        if self.reads_folders:
            Run.load(run.folder).stop_early(why)
        return self.reads_folders

    def log(self, run: Submission) -> str:
        """Return what the engine itself knows of a run that left no log: why it could not start."""
        return ""

    def stay(
        self,
        job_folder: Path,
        cwd: Path,
        gpus: str | float | None,
        environment: Mapping[str, str],
        *,
        ui: UI,
        dry_run: bool = False,
    ) -> Sequence[str]:
        """Make a machine that stays with the project's code on it, if it `stays`; returns how to enter and to end it.

        Parameters are those of `settle` and of `Work`; with `dry_run` it is shown as by `preview`.
        """
        raise NotImplementedError

    def change_at_once(self, number: int) -> bool:
        """Let so many runs execute at once from now on; False where the scheduler holds the others back."""
        return False

    def says(self, run: Submission) -> str:
        """Return in a word of the engine's why a run waits, or where it executes; empty without anything to say."""
        return ""

    def verdict(self, run: Submission) -> tuple[Literal["lost", "killed"], str]:
        """Say what became of a run that has ended though nobody asked for it here, or whose runner has not said how.

        Returns
        -------
        str
            Whether it was lost, and may be tried again, or killed by somebody.
        str
            Why, as far as the engine knows: it was over its time, its machine failed.
        """
        return "lost", self.log(run)

    def wait(self, seconds: float) -> None:
        """Wait so long; less when a run that was polled has ended meanwhile and the engine can tell."""
        time.sleep(seconds)

    def finish(self, *, well: bool) -> None:  # noqa: B027 - most engines keep nothing
        """Let go of what `prepare` made, when the runs have ended; `well` tells whether all of them did well."""


def output_patterns(text: str | None) -> list[str]:
    """Read ``outputs=``: patterns of files and folders, relative to the project.

    Raises
    ------
    InvalidInput
        For one that leads out of it.
    """
    found = [one.strip().rstrip("/").removeprefix("./") for one in (text or "").split(",")]
    for one in found:
        if one.startswith("/") or ".." in one.split("/") or "\0" in one:
            raise InvalidInput(f"outputs={one} is outside of the project.", "Write it from there: outputs=plots,*.csv")
    return [one for one in found if one]


def nothing_more(name: str, where: str) -> None:
    """Check that nothing follows the name of an engine that is at one place only.

    Raises
    ------
    InvalidInput
        When something does.
    """
    if where:
        raise InvalidInput(f"on={name}:{where}: {name} is one place, and takes no more words.", f"Write on={name}.")
