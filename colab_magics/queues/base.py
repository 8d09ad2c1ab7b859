"""What a queue is: a table of runs that workers on many machines claim, and that people edit meanwhile.

Each run is executed by one worker at a time, and its end is written once. The protocol is that of leases (Gray and
Cheriton, SOSP 1989) with fencing by a counter (the sequencers of Chubby, Burrows, OSDI 2006):

- A claim is one conditional write: a row that is `READY` becomes `RUNNING`, names its worker, and its epoch grows by
  one. Of those who try it at once one wins. An epoch never becomes smaller, whatever happens to the row.
- A claim holds for ``lease`` seconds, and each heartbeat renews it; one lease has room for five of them. Whose
  lease is over is `STALE`: anybody may claim the run anew, with the next epoch, unless it has had `MOST_ATTEMPTS`.
- A worker's every later write is conditional on uid, worker and epoch. Who was away too long, and whose run went to
  somebody else, changes nothing and is told so: it ends its run, whose results stay in their own folder.
- A worker that cannot reach the queue goes on with what it has: hours of training are not ended because a network is
  away. What it holds is decided when it is heard again.
- An exchange carries a ticket. Who got no reply asks again with the same ticket, and gets what it has won or lost
  already; so a lost reply neither loses a run nor claims two.

Whether a lease is over is told by the clock of whoever keeps the table, or, where that has none, by somebody who saw
the row unchanged for that long; two machines' clocks are never compared.

People see a row as words: its ``status`` is `READY` when it is to be executed, anything else that is no word of ours is
a draft or a remark of theirs. What they change in a row that runs comes to the run with its next heartbeat.
"""

from __future__ import annotations

import secrets
import string
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import InvalidInput

READY, RUNNING, DONE, FAILED, STALE = "ready", "running", "done", "failed", "stale"

MOST_ATTEMPTS = 3
"""How often a run is claimed whose workers die: the one after that would die as well."""

Value = str | bool | int | float | None | list[Any] | dict[str, Any]
"""What a run's parameter may be; a sheet has only the first four."""


@dataclass(frozen=True)
class New:
    """A run that is to be added.

    Parameters
    ----------
    config : mapping of str to Value
        Its parameters, by name.
    name : str, default ""
        How people call it; one of its own is chosen where it is empty. No two runs of a queue have the same.
    priority : float, default 0
        The highest goes first; of the same, the one that was added first.
    status : str, default "ready"
        Anything else makes it a draft, which nobody claims.
    """

    config: Mapping[str, Value]
    name: str = ""
    priority: float = 0.0
    status: str = READY


@dataclass(frozen=True)
class Claim:
    """A run that a worker holds.

    Parameters
    ----------
    uid : str
        Names the run, and no other of this queue, for ever.
    name : str
        How people call it.
    worker : str
        Who holds it.
    epoch : int
        The how manieth claim of this run it is, from 1.
    config : mapping of str to Value
        Its parameters, the queue's defaults among them.
    attempts : int
        How often it has been claimed since it became ready, this time included.
    """

    uid: str
    name: str
    worker: str
    epoch: int
    config: Mapping[str, Value]
    attempts: int = 1


@dataclass(frozen=True)
class Report:
    """What a worker writes into the row of a run that it holds; what is empty stays as it is.

    Parameters
    ----------
    text : str
        How far it is, for people: ``4 / 10``.
    output : str
        Where its results are.
    commit : str
        The code's git commit.
    metrics : mapping of str to float
        What it reported last, by name.
    """

    text: str = ""
    output: str = ""
    commit: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class End:
    """How a run has ended that a worker held.

    Parameters
    ----------
    claim : Claim
        What it held.
    status : str
        `DONE`, `FAILED`, a word of the user's; or `READY` to give it back: then it was no attempt.
    error : str
        Why it failed, in a line or some.
    report : Report
        What to write beside.
    """

    claim: Claim
    status: str = DONE
    error: str = ""
    report: Report = field(default_factory=Report)


@dataclass(frozen=True)
class Exchanged:
    """What came of an exchange.

    Parameters
    ----------
    ended : list of bool
        For each end, whether it was written; False when the run was no longer this worker's.
    claims : list of Claim
        What was claimed: none when nothing is ready.
    stop : str
        Why this worker is to claim no more, where somebody wrote that into the table; empty otherwise.
    """

    ended: list[bool]
    claims: list[Claim]
    stop: str = ""


@dataclass(frozen=True)
class Beat:
    """A sign of life of a run that a worker holds, and what there is to tell of it."""

    claim: Claim
    report: Report = field(default_factory=Report)


@dataclass(frozen=True)
class Held:
    """What a heartbeat brings back of a run that is still this worker's.

    Parameters
    ----------
    config : mapping of str to Value
        Its parameters as they stand now; those that the claim has from the worker's own code among them.
    stop : str
        Why this run is to end, where somebody wrote that into the table; empty otherwise.
    """

    config: Mapping[str, Value]
    stop: str = ""


@dataclass(frozen=True)
class Row:
    """A run as the table has it.

    Parameters
    ----------
    place : str
        Where people find it: ``row 7``, ``#7``.
    uid, name, status, worker, epoch, attempts, priority, error : see `Claim`, `New`, `End`
        `status` is one of this module's words where the row has that meaning, else what stands there.
    config : mapping of str to Value
        Its own parameters with the queue's defaults.
    report : Report
        What its worker wrote last.
    lease_left : float or None
        Seconds until its lease is over; None when it does not run, or nobody here can tell yet.
    remark : str
        Why it is not executed although somebody may think so: ``'Ready ' is not 'ready'``.
    """

    place: str
    uid: str
    name: str
    status: str
    config: Mapping[str, Value]
    worker: str = ""
    epoch: int = 0
    attempts: int = 0
    priority: float = 0.0
    error: str = ""
    report: Report = field(default_factory=Report)
    lease_left: float | None = None
    remark: str = ""


@dataclass(frozen=True)
class Probed:
    """What trying the claim has shown.

    Parameters
    ----------
    clients, rounds : int
        So many claimed the same row at once, so often.
    winners : list of int
        How many had won, for each round: 1 everywhere is right.
    seconds : float
        How long a round took, in the middle.
    remark : str
        What else it has shown that a user should know; empty when all is well.
    """

    clients: int
    rounds: int
    winners: list[int]
    seconds: float
    remark: str = ""


class Queue(ABC):
    """A table of runs, at an address.

    Every method may be called from several threads. What cannot be reached now raises `Unavailable`, and may be tried
    again: all of them are safe to repeat (`add` by the names of what is added).

    Parameters
    ----------
    address : str
        As the user wrote it.
    lease : float, optional
        Seconds for which a claim holds without a heartbeat; by default the class's own.
    """

    default_lease: ClassVar[float]
    """Seconds; what suits the backend."""

    def __init__(self, address: str, *, lease: float | None = None) -> None:
        self.address = address
        self.lease = self.default_lease if lease is None else lease

    @property
    def beat(self) -> float:
        """Seconds between two heartbeats: five, and one that is late, find room in a lease."""
        return self.lease / 6

    def sign_in(self, where: str, credentials: str = "") -> None:  # noqa: B027 (most ask nobody)
        """Get what a table asks of its users before it may be read: consent, a key; to be called first, and early.

        Parameters
        ----------
        where : str
            The face; see ``UI.where``. A notebook's user can be asked, others cannot.
        credentials : str, default ""
            ``secret:NAME`` or a file of the user's; empty to look in the usual places.
        """

    @abstractmethod
    def create(self, defaults: Mapping[str, Value] | None = None) -> None:
        """Make the table, with a value for each parameter that a row does not have; one that is there stays as it is.

        Raises
        ------
        InvalidInput
            When something else stands there, or no queue may be there (SQLite on a network's file system).
        """

    @abstractmethod
    def add(self, runs: Sequence[New]) -> list[str]:
        """Add runs, all or none, in this order; returns their names.

        Raises
        ------
        InvalidInput
            When a name is there twice, or a value cannot be kept there.
        """

    @abstractmethod
    def rows(self) -> list[Row]:
        """Return all rows in the order of the table."""

    @abstractmethod
    def exchange(
        self,
        worker: str,
        *,
        ticket: str,
        ends: Sequence[End] = (),
        number: int = 0,
        own: Mapping[str, Value] | None = None,
    ) -> Exchanged:
        """Write how runs have ended and claim others, in one go.

        Parameters
        ----------
        worker : str
            Who asks; see `worker_name`.
        ticket : str
            Names this exchange; see `new_ticket`. Repeated with the same ticket it gives the same answer.
        ends : sequence of End
            What has ended. Writing the same end twice is no error, and is said to be written both times.
        number : int, default 0
            How many to claim at most.
        own : mapping of str to Value, optional
            Defaults of the worker's own code, for parameters of which neither the row nor the queue has a value.
        """

    @abstractmethod
    def heartbeat(self, beats: Sequence[Beat]) -> list[Held | None]:
        """Renew the leases of runs and write what there is to tell; None for one that is no longer this worker's."""

    @abstractmethod
    def requeue(self, which: Sequence[str]) -> list[str]:
        """Make runs ready again whose worker does not hold them; their attempts count from 0 again. Returns names.

        Parameters
        ----------
        which : sequence of str
            `FAILED`, `STALE`, or names or uids of runs.

        Raises
        ------
        NotFound
            For a name that is not there; nothing was changed.
        Busy
            For a run that a worker holds; nothing was changed.
        """

    def stop(self, which: Sequence[str], why: str = "stopped by hand") -> list[str]:
        """Let runs end at their next heartbeat; those that wait are not executed before they are requeued.

        Parameters
        ----------
        which : sequence of str
            Names or uids of runs, `FAILED` or `STALE`.
        why : str, default "stopped by hand"
            What they are told.

        Returns
        -------
        list of str
            Their names.

        Raises
        ------
        InvalidInput
            Where people do that in the table itself.
        """
        raise InvalidInput(
            "This table's runs are stopped in the table itself.", "Write into manual_run_stop or manual_worker_stop."
        )

    def stop_worker(self, worker: str, why: str = "stopped by hand") -> None:
        """Let a worker claim no more; an empty `why` lets it claim again. Raises as `stop` does."""
        self.stop([worker], why)

    @abstractmethod
    def probe(self, *, clients: int = 8, rounds: int = 25) -> Probed:
        """Try the claim, on a row of its own that is gone afterwards: so many at once, so often."""

    def close(self) -> None:  # noqa: B027 (most have nothing to let go of)
        """Let go of connections; the queue may be used again."""

    def claim(self, worker: str) -> Claim | None:
        """Claim the next run; None when nothing is ready."""
        claims = self.exchange(worker, ticket=new_ticket(), number=1).claims
        return claims[0] if claims else None

    def finish(self, end: End) -> bool:
        """Write how a run has ended; False when it was no longer this worker's."""
        return self.exchange(end.claim.worker, ticket=new_ticket(), ends=[end]).ended[0]


def worker_name() -> str:
    """Return a name for a worker that nobody else has: six letters and digits."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(6))


def new_ticket() -> str:
    """Return the name of an exchange."""
    return uuid.uuid4().hex
