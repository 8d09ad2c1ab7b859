"""What a payload is: it knows how to execute what a run's folder holds, and what is to be done when that was cut off.

The runner does the rest: the folder's lock and state, the log, the heartbeat, the ends by a kill or a limit of time.
Whoever plans, starts, retries or shows runs asks the payload, and never which one it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from ..errors import InvalidInput
from ..records.run import Run


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

    def _unknown(self) -> InvalidInput:
        return InvalidInput(
            f"The run's record names no payload that this version knows: {self.kind!r}.",
            "Update colab_magics where the run executes.",
        )
