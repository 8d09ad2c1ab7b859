"""What a payload is: it knows how to execute what a run's folder holds, and what is to be done when that was cut off.

The runner does the rest: the folder's lock and state, the log, the heartbeat, the ends by a kill or a limit of time.
Whoever plans, starts, retries or shows runs asks the payload, and never which one it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from ..engines.base import Engine
from ..engines.zygotes import Begun
from ..errors import InvalidInput
from ..records.run import Run
from .checks import Uses
from .code import Cell

NOTEBOOK = "notebook"


def kind_of(record: Mapping[str, Any]) -> str:
    """Return what a run executes, by its record: the name of a payload; a notebook where it says nothing."""
    return str((record.get("payload") or {}).get("kind", NOTEBOOK))


class Owner(Protocol):
    """Tells which of the runs that there are belong to a line."""

    def is_maker_of(self, run: Run) -> bool:
        """Whether the same notebook made a run, or the same verb: else it is a stranger's."""

    def made(self, run: Run, hashes: Mapping[str, str]) -> bool:
        """Whether this very line made a run."""

    def may_take(self, run: Run, hashes: Mapping[str, str]) -> bool:
        """Whether a run that another line made is this one's all the same."""


class Draft(ABC):
    """A payload as a line asks for it, in the submitter: before there are runs."""

    start: str = "cold"
    """How it is to be started; an engine says what it can."""
    queues: bool = False
    """Whether its runs may join others of the job that are being executed."""

    @property
    @abstractmethod
    def hashes(self) -> Mapping[str, str]:
        """Its fingerprint, by parts: numbers of cells, and paths of files relative to the project.

        A finished run is kept while they are the same.
        """

    @property
    @abstractmethod
    def whose(self) -> Owner:
        """Which runs are its own."""

    @property
    def uses(self) -> Uses:
        """What becomes of parameters in it: a run of a queue that has others is not executed."""
        return Uses()

    def check(self) -> None:  # noqa: B027 - there may be nothing to check
        """Check that it can be executed; raises InvalidInput before a folder is made."""

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Return what the records of all its runs say: ``payload``, with its kind, and what tells whose they are."""

    def write(self, folder: Path) -> None:  # noqa: B027 - the record may say all
        """Write what a run executes into its new folder."""

    def begin(self, engine: Engine, folder: Path) -> Begun:
        """Start what takes a while, before the plan is written; `folder` is the scheduler's."""
        return Begun()

    def freeze(self, folder: Path, close: Sequence[int]) -> dict[str, Any]:
        """Do what must be done when it is clear that runs will be executed; returns more of their records.

        `close` are open files that nothing which is started here may hold.
        """
        return {}


class Attempt(Protocol):
    """One attempt at a run, as the runner holds it."""

    run: Run
    log: TextIO
    """Gets what is printed, as it arrives."""

    def tell_soon(self, **values: Any) -> None:
        """Write values into the run's state within a moment, with all that comes until then; on the event loop."""

    def keep(self, **values: Any) -> None:
        """Write values with the next ones."""

    def note(self, text: str) -> None:
        """Tell the user of the run something when it has ended; what was said before stays."""

    def forks_elsewhere(self) -> None:
        """Say that the payload's processes will be no descendants of this one; they carry the run's variable."""

    def kernel(self, pid: int | None) -> None:
        """Say which process works for this run; None when it is none of this machine."""

    def look(self) -> None:
        """Look at what the processes use: they may end soon."""

    def why_ended(self) -> str:
        """Say why the payload is being ended on purpose; empty when it is not."""

    def is_killed(self) -> bool:
        """Whether somebody has asked for the end of the run."""


class Payload(ABC):
    """What a run executes."""

    def rehearse(self, records: Sequence[Mapping[str, Any]]) -> None:  # noqa: B027 - a payload may have nothing to do
        """Do once what executing begins with, in the process that runners are forked from; the runs' records tell."""

    @abstractmethod
    def execute(self, attempt: Attempt) -> dict[str, Any] | None:
        """Execute it, in the runner.

        Returns
        -------
        dict or None
            What went wrong: ``cell``, ``ename``, ``evalue``, ``traceback``; None when it ended well.
        """

    @abstractmethod
    def check(self, run: Run) -> None:
        """Check that a run can be executed again as it is.

        Raises
        ------
        NotFound
            When something of it is gone.
        """

    @abstractmethod
    def seal(self, folder: Path) -> bool:
        """Bring the results of an attempt into order that was cut off; returns whether there was anything to do."""

    @abstractmethod
    def set_aside(self, folder: Path, attempt: int) -> None:
        """Keep what an attempt has left from being overwritten by the next."""

    @abstractmethod
    def title(self, record: Mapping[str, Any]) -> tuple[str, str]:
        """Return what a run executes for people, by its record: of what kind it is, and its name."""

    def product(self, run: Run) -> Path | None:
        """Return the file that shows what a run did, the newest there is: its log, where it makes none."""
        return run.log if run.log.exists() else None

    def cells(self, run: Run) -> list[Cell] | None:
        """Return the code of a run, piece by piece; None when it cannot be read."""
        return []

    @abstractmethod
    def mend(self) -> str:
        """Say how to go on when runs have failed."""


class Unknown(Payload):
    """What another version has submitted; `kind` is the name that the record gives it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def execute(self, attempt: Attempt) -> dict[str, Any] | None:
        """Raise InvalidInput."""
        raise self._unknown()

    def check(self, run: Run) -> None:
        """Raise InvalidInput."""
        raise self._unknown()

    def seal(self, folder: Path) -> bool:
        """Leave it as it is."""
        return False

    def set_aside(self, folder: Path, attempt: int) -> None:
        """Leave it as it is."""

    def title(self, record: Mapping[str, Any]) -> tuple[str, str]:
        """Return the kind alone."""
        return self.kind, ""

    def mend(self) -> str:
        """Say what is needed."""
        return self._unknown().mend.rstrip(".")

    def _unknown(self) -> InvalidInput:
        return InvalidInput(
            f"The run's record names no payload that this version knows: {self.kind!r}.",
            "Update colab_magics where the run executes.",
        )
