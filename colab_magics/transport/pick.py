"""The host with just enough, and a lease on it: chosen, promised, and looked at a second time."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import process
from ..errors import ColabMagicsError, InvalidInput, Unavailable
from . import host_leases, probe, ssh
from .choose import Choice, choose
from .host_leases import Lease
from .probe import Report

MEND = "Say what it needs less of, or wait: %host probe need=… shows it again."


@dataclass(frozen=True)
class Picked:
    """A host that was picked.

    Parameters
    ----------
    choice : Choice
        It, and why no other.
    lease : Lease
        What it has promised.
    is_kept : bool
        Whether others can see that.
    """

    choice: Choice
    lease: Lease
    is_kept: bool = True

    def drop(self) -> None:
        """Take the lease back."""
        drop(self.choice.host, self.lease)


def pick(reports: Sequence[Report], lease: Lease) -> Picked:
    """Choose the host that has just enough, and have it keep that free.

    When the lease lies there, the host is looked at again: what was promised before counts. Who is too late takes the
    next best.

    Parameters
    ----------
    reports : sequence of Report
        What hosts have told.
    lease : Lease
        What to keep free; which GPUs is decided here.

    Raises
    ------
    Unavailable
        When none has enough; the text says why for each.
    """
    for _ in range(2 * len(reports) + 2):
        choice = choose(reports, lease.need)
        if choice.report is None:
            raise none_has(choice)
        host = choice.report.host
        lease = replace(lease, devices=tuple(gpu.uuid for gpu in choice.gpus))
        try:
            (again,) = probe.probe([host], lease=lease)
        except BaseException:
            drop(host, lease)
            raise
        before, is_kept = _without(again, lease)
        second = choose([before], lease.need)
        if second.report is not None and tuple(gpu.uuid for gpu in second.gpus) == lease.devices:
            return Picked(choice, lease, is_kept)
        drop(host, lease)
        reports = [before if one.host == host else one for one in reports]
    raise Unavailable("Others take what is free before it can be promised.", "Say it again.")


def _without(report: Report, lease: Lease) -> tuple[Report, bool]:
    """Return a report as it was for this lease: without it and those that came after it; and whether it is there."""
    number = next((one.number for one in report.promises if one.lease.id == lease.id), None)
    earlier = [one for one in report.promises if number is None or one.number < number]
    return replace(report, promises=tuple(earlier)), number is not None


def none_has(choice: Choice) -> Unavailable:
    """Build the error that says of each host why it is not the one."""
    if list(choice.lost) == [probe.HERE]:
        return Unavailable(f"there is no room for {choice.need} now: {choice.lost[probe.HERE]}", MEND)
    reasons = "".join(f"\n  {host}: {why}" for host, why in choice.lost.items())
    return Unavailable(f"{choice}{reasons}", MEND)


def drop(host: str, lease: Lease) -> None:
    """Take a lease back; where the host does not answer any more, it lapses by itself."""
    words = ["sh", "-c", host_leases.REMOVE, "sh", lease.id]
    with contextlib.suppress(ColabMagicsError):
        if host == probe.HERE:
            process.run(words)
        else:
            ssh.run(host, words, timeout=probe.SECONDS)


def start_here(told: Mapping[str, Any], given: Collection[str] = ()) -> list[str]:
    """Return the UUIDs of the GPUs that a run with this lease uses on this machine; the second look, at its start.

    A lease that has lapsed since the host was chosen is placed anew, if there is still room.

    Parameters
    ----------
    told : mapping
        The lease, as the run's record has it.
    given : collection of str
        Devices of it that runs were given that have not started.

    Raises
    ------
    Unavailable
        When there is none.
    """
    try:
        lease = Lease.of(told)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InvalidInput("The run's record holds a lease that is none.", "Say the %submit line again.") from None
    there, used = host_leases.held(lease.id) or (pick(probe.probe([probe.HERE]), lease).lease, set[str]())
    free = [uuid for uuid in there.devices if uuid not in used and uuid not in given]
    return free[: len(there.devices) // there.at_once]
