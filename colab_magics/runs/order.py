"""What is to be executed, and how: what a line says of its runs, and how a job's scheduler begins with them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkout import git
from ..checkout.project import real_folder
from ..engines import open_engine
from ..engines.base import EVERY, Engine, Resources
from ..engines.zygotes import Begun
from ..errors import Busy, ColabMagicsError, InvalidInput
from ..payloads.base import Draft
from ..records.names import SCHEDULER
from ..records.run import LOCAL, Run
from . import plan, scheduler, submitted
from .plan import Plan, Point
from .scheduler import Feed


@dataclass(frozen=True)
class Order:
    """What is to be executed, and how.

    Parameters
    ----------
    job_folder : Path
        ``data_job`` of the job.
    draft : Draft
        What the runs execute.
    points : sequence of Point
        The runs.
    cwd : Path
        Folder in which they start.
    checkout : Path
        The project's folder, for the commit that the runs' records name.
    only, first, done_file, resume
        See `plan.make`.
    engine : str
        Where runs execute.
    options : mapping
        What the line says to that engine alone.
    feed : Feed
        How many at once, and what failures mean.
    workers : int, optional
        How many at once, where the user said it: then it counts for runs that go on, too.
    resources : Resources
        Which GPUs each run gets.
    outputs : sequence of str
        Patterns of files of the project that runs on other machines write, and that come home.
    goal, trend
        What tables mark the best run by (``min:loss``), and the metrics that they draw.
    """

    job_folder: Path
    draft: Draft
    points: Sequence[Point]
    cwd: Path
    checkout: Path
    only: list[int] | None = None
    first: int = 0
    done_file: str | None = None
    resume: str | None = None
    engine: str = "local"
    options: Mapping[str, Any] = field(default_factory=dict)
    feed: Feed = field(default_factory=Feed)
    secrets: Sequence[str] = ()
    workers: int | None = None
    resources: Resources = field(default_factory=Resources)
    outputs: Sequence[str] = ()
    goal: str = ""
    trend: Sequence[str] = ()

    @property
    def at_once(self) -> str:
        """How many execute at once, for people."""
        return dataclasses.replace(self.resources, workers=self.feed.workers).at_once_in_words

    def plan(self, *, resume: str | None = None) -> Plan:
        """Decide which runs are kept, executed, left out; `resume` in place of the user's word."""
        return plan.make(
            self.points,
            self.job_folder,
            self.draft.hashes,
            whose=self.draft.whose,
            only=self.only,
            first=self.first,
            done_file=self.done_file,
            resume=resume or self.resume,
        )

    def a_few_at_once(self, why: str) -> Order:
        """Return the same with no more runs taken than execute, for those whose runs come one by one.

        Raises
        ------
        InvalidInput
            When the engine would take all of them, and nobody has said how many; `why` that is wrong.
        """
        if self.resources.workers < EVERY:
            return self
        if self.resources.at_once is None:
            raise InvalidInput(f"on={self.engine} {why}.", "Say how many are to execute at once: workers=8")
        return dataclasses.replace(self, feed=dataclasses.replace(self.feed, workers=self.resources.at_once))

    def check_goes_on(self, runs: Sequence[Run]) -> None:
        """Check that runs which are being executed are so where this order's are: a scheduler feeds one engine.

        Raises
        ------
        Busy
            When one is not.
        """
        for run in runs:
            if run.engine != self.engine:
                raise Busy(
                    f"{run.id} is being executed with on={run.engine}.",
                    f"Say on={run.engine} to go on with it, or end it first: %jobs kill {run.id}",
                )

    def record(self) -> dict[str, Any]:
        """Return what the records of all runs share."""
        return {
            "engine": self.engine,
            **({"options": dict(self.options)} if self.options else {}),
            "gpus": self.resources.gpus,
            "only_free_gpus": self.resources.only_free,
            **({"lease": dict(self.resources.lease)} if self.resources.lease is not None else {}),
            "cwd": str(self.cwd),
            "commit": git.commit(self.checkout),
            **({"outputs": list(self.outputs)} if self.outputs else {}),
            "code": dict(self.draft.hashes),
            **self.draft.record(),
        }


def ready(order: Order) -> Engine:
    """Check what is asked for, and make the job's folder; returns where runs execute.

    Raises
    ------
    ColabMagicsError
        When they cannot be executed there, or the folder cannot be written.
    """
    engine = open_engine(order.engine, order.options)
    if order.draft.start not in engine.starts:
        raise InvalidInput(
            f"start={order.draft.start} is not possible on={order.engine}.",
            f"Possible: {', '.join(sorted(engine.starts))}.",
        )
    engine.available()
    job_folder = order.job_folder
    submitted.say(job_folder, order.engine)
    order.draft.check()
    make_folder(job_folder)
    real_folder(job_folder, SCHEDULER)
    scheduler.check_real(job_folder / SCHEDULER)
    make_folder(job_folder / SCHEDULER)
    if order.engine != LOCAL:
        submitted.wait_for_killed(job_folder)
    return engine


@contextlib.contextmanager
def beginning(order: Order, engine: Engine) -> Iterator[Begun]:
    """Begin what takes long while a job's runs are decided about, under its lock; yields what `hand_over` wants."""
    begun = order.draft.begin(engine, order.job_folder / SCHEDULER)
    try:
        submitted.settle(order.job_folder, [order.engine])
        yield begun
    finally:
        begun.close()


def hand_over(
    order: Order, held: Sequence[int], begun: Begun, folders: Sequence[Path], adopt: Sequence[Path], **source: Any
) -> None:
    """Start the scheduler of an order's runs, to whom the job's lock goes; see `scheduler.start`."""
    scheduler.start(
        order.job_folder,
        folders,
        held[0],
        engine=order.engine,
        options=order.options,
        feed=order.feed,
        at_once=order.resources.at_once,
        secrets=order.secrets,
        adopt=adopt,
        begun=begun,
        **source,
    )


def make_folder(folder: Path) -> None:
    """Make a folder for results.

    Raises
    ------
    ColabMagicsError
        When it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ColabMagicsError(
            f"{folder} cannot be written: {error.strerror}.",
            "Nothing was started. Choose another folder: %project name=… root=FOLDER",
        ) from error
