"""A run's row in a database of SQL, and what the contract's words are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .base import MOST_ATTEMPTS, READY, RUNNING, STALE, Claim, End, Report, Row, Value
from .values import as_text, clean, unpack


class Record(NamedTuple):
    """A row as it stands: the columns in their order, and how long its lease holds yet (None without one)."""

    number: int
    uid: str
    name: str
    status: str
    priority: float
    config: str
    stop: str
    worker: str
    epoch: int
    attempts: int
    error: str
    progress: str
    output: str
    git_commit: str
    metrics: str
    own: str
    ended: str
    lease_left: float | None

    @property
    def stale(self) -> bool:
        """Whether its worker has not been heard of for a lease."""
        return self.status == RUNNING and (self.lease_left is None or self.lease_left <= 0)

    def held_by(self, claim: Claim) -> bool:
        """Whether the run is still that claim's: nobody has it anew, nobody has written over its status."""
        return self.status == RUNNING and self.worker == claim.worker and self.epoch == claim.epoch

    def all_values(self, defaults: Mapping[str, Value], own: Mapping[str, Value] | None = None) -> dict[str, Value]:
        """Return its parameters: its own before the queue's before those of the worker's code.

        Raises
        ------
        ValueError
            When somebody wrote something else there.
        """
        return {**(unpack(self.own) if own is None else own), **defaults, **unpack(self.config)}

    def reported(self, report: Report) -> tuple[str, str, str, str]:
        """Return text, output, commit and metrics with what is new of them."""
        metrics = as_text({str(name): float(value) for name, value in report.metrics.items()})
        return (
            clean(report.text) or self.progress,
            clean(report.output) or self.output,
            clean(report.commit) or self.git_commit,
            metrics if report.metrics else self.metrics,
        )


COLUMNS = ", ".join(name for name in Record._fields if name != "lease_left")


def mark(end: End) -> str:
    """Return what a row keeps of the end that was written last, so that the same one is known again."""
    return f"{end.claim.epoch} {end.claim.worker} {end.status}"


def row_of(record: Record, defaults: Mapping[str, Value]) -> Row:
    """Return a row for people."""
    config: dict[str, Any] = {}
    remark = ""
    try:
        config = record.all_values(defaults, {})
    except ValueError as error:
        remark = f"its config is no JSON object: {error}"
    status = STALE if record.stale else record.status
    return Row(
        place=f"#{record.number}",
        uid=record.uid,
        name=record.name,
        status=status,
        config=config,
        worker=record.worker,
        epoch=record.epoch,
        attempts=record.attempts,
        priority=record.priority,
        error=record.error,
        report=Report(record.progress, record.output, record.git_commit, _metrics(record.metrics)),
        lease_left=max(0.0, record.lease_left or 0.0) if record.status == RUNNING else None,
        remark=remark or _remark(record, status),
    )


def _remark(record: Record, status: str) -> str:
    if status != READY and status.strip().casefold() == READY:
        return f"{status!r} is not {READY!r}"
    if status == STALE and record.attempts >= MOST_ATTEMPTS:
        return f"{record.attempts} workers died with it: %queue requeue tries it again"
    if status in (READY, STALE) and record.stop:
        return f"stopped: {record.stop}"
    return ""


def _metrics(text: str) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in unpack(text).items()}
    except (TypeError, ValueError):  # somebody's own words
        return {}


def to_answer(ended: list[bool], claims: list[Claim], stop: str) -> dict[str, Any]:
    """Return an exchange's answer as JSON keeps it."""
    return {"ended": ended, "claims": [{**vars(one), "config": dict(one.config)} for one in claims], "stop": stop}
