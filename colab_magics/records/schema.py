"""What the files of runs hold, field by field: a folder may come from elsewhere, and nothing in it is taken on trust.

A file is opened without following a link, without waiting for a pipe, and read as far as ours ever grow. What is in it
is checked against a schema; a field of another type makes the file `Unreadable`, and with it that run alone.

The schemas are msgspec's: it is imported in 15 ms where pydantic takes 150, and knows `TypedDict`, so that a record
stays the mapping it is in the file, with fields of later versions.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Required, TypedDict

import msgspec

from .plain import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_BYTES = 64 << 20
_DEEPEST = 50

Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
Moment = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
"""Seconds since the epoch, as far as a calendar goes. Bounds leave NaN out, too."""
Number = Annotated[float, msgspec.Meta(ge=-1e18, le=1e18)]


class Unreadable(ValueError):
    """A file that is not what its name says; the text says why."""


class Who(TypedDict, total=False):
    """A process; see `process.identity`."""

    pid: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    started: int | None
    host: str
    boot: str
    pids: str


class EarlierAttempt(TypedDict, total=False):
    """How an earlier attempt ended."""

    attempt: Count
    phase: str
    text: str
    ended: Moment | None


class Payload(TypedDict, total=False):
    """What a run executes."""

    kind: str
    kernel: str | None
    time: Number | None
    cell_time: Number | None
    words: list[str]
    shown: str


class Forked(TypedDict, total=False):
    """Where a live run was forked."""

    cell: Count
    position: Count
    rest: str
    at: Moment
    state: Number


class Chosen(TypedDict, total=False):
    """Which point of a search a run is; see `colab_magics.runs.search`."""

    number: Required[Count]
    told: list[Count]
    seed: int


class Record(TypedDict, total=False):
    """run.json."""

    index: Required[Count]
    name: str
    i_sub_job: Count
    repeat: Count
    fork: Count
    attempt: Count
    attempts: list[EarlierAttempt] | None
    parameters: dict[str, Any]
    notebook: str | None
    notebook_path: str | None
    made_by: str | None
    engine: str | None
    options: dict[str, Any]
    start: str
    gpus: Number | None
    only_free_gpus: bool
    lease: dict[str, Any]
    devices: list[str]
    cwd: str | None
    commit: str | None
    payload: Payload
    code: dict[str, str]
    others: dict[str, Count]
    outputs: list[str]
    forked: Forked
    search: Chosen
    submitted: Moment


class Failure(TypedDict, total=False):
    """The error of a run that failed."""

    cell: Count | None
    ename: str
    evalue: str
    traceback: str


class StartUp(TypedDict, total=False):
    """What a run's start took."""

    kernel: Required[Number]
    imports: Required[Number]
    modules: Required[list[str]]


class State(TypedDict, total=False):
    """state.json."""

    attempt: Count
    record: str
    phase: Required[Literal["running", "done", "stopped", "failed", "killed"]]
    started: Moment | None
    ended: Moment | None
    beat: Moment
    cell: Count | None
    cells: Count | None
    cell_began: Moment | None
    process: Who | None
    kernel: int | None
    kernel_process: Who | None
    gpus: list[str] | None
    usage: dict[str, Number] | None
    start_up: StartUp | None
    error: Failure | None
    exit: int | None
    note: str | None


class Verdict(TypedDict, total=False):
    """verdict.json."""

    attempt: Count
    verdict: Required[Literal["killed", "stopped", "lost", "cancelled", "superseded"]]
    at: Moment
    reason: str


class Stop(TypedDict, total=False):
    """stop.json: that a run is to end at its next report."""

    attempt: Required[Count]
    at: Moment
    reason: str


class Reference(TypedDict, total=False):
    """ref.json: how an engine knows an attempt."""

    attempt: Required[Count]
    key: Required[str]
    engine: Required[str]
    ref: dict[str, Any] | None
    seen: Literal["queued", "running", "unknown", "ended"]
    since: Moment
    says: str


class Claimed(TypedDict, total=False):
    """claim.json: what a worker holds of a queue's run."""

    queue: Required[str]
    uid: Required[str]
    name: Required[str]
    worker: Required[str]
    epoch: Required[Count]
    attempts: Count
    config: dict[str, Any]
    over: bool
    boot: str


class Asked(TypedDict, total=False):
    """exchange.json of a scheduler: what it asked of a queue last."""

    queue: Required[str]
    worker: Required[str]
    ticket: Required[str]
    number: Count
    boot: str


class Fed(TypedDict, total=False):
    """How an engine is fed; see `scheduler.Feed`."""

    workers: Annotated[int, msgspec.Meta(ge=1, le=10**6)]
    trial: float | None
    max_failures: Count | None
    retries: Count


class Plan(TypedDict, total=False):
    """plan.json of a scheduler."""

    runs: list[str]
    adopt: list[str]
    engine: str
    options: dict[str, Any]
    feed: Fed
    at_once: Count | None
    by: Who
    begun: dict[str, Any]
    secrets: list[str]
    queue: str
    watch: bool
    search: dict[str, Any]


class Scheduler(TypedDict, total=False):
    """state.json of a scheduler, and drain.json."""

    process: Who
    started: Moment
    phase: str
    problem: str
    source: str
    drained: bool
    note: str


class Desk(TypedDict, total=False):
    """gpus.json of a scheduler."""

    devices: dict[str, str]
    waiting: str
    memory: dict[str, Number]
    problem: str


class Fork(TypedDict, total=False):
    """One of forks.json."""

    notebook: str | None
    notebook_path: str | None
    fork: Count
    queue: str
    goal: str
    trend: list[str]
    search: dict[str, Any]
    runs: Required[list[Count]]


class Forks(TypedDict, total=False):
    """forks.json."""

    forks: list[Fork]


Reported = tuple[float, int, float | None, dict[str, Any], float]
"""A line of metrics.jsonl: time, attempt, step, values, life."""


class _Reported(TypedDict, total=False):
    time: Required[Number]
    attempt: Required[Count]
    step: Number | None
    life: Number
    values: Required[dict[str, bool | int | float | str | None]]


class _Tagged(TypedDict, total=False):
    tags: list[str]


class _Cell(TypedDict, total=False):
    cell_type: str
    source: str | list[str]
    metadata: _Tagged


class Source(TypedDict, total=False):
    """source.ipynb, as far as its code is read."""

    cells: Required[list[_Cell]]


def read(path: Path, kind: Any) -> dict[str, Any] | None:
    """Read a file of a run; None when there is none.

    Parameters
    ----------
    path : Path
        The file.
    kind : type
        Its schema, one of the above.

    Raises
    ------
    Unreadable
        When it cannot be read, or is not what the schema says.
    """
    try:
        raw = read_bytes(path, most=MOST_BYTES)
        if raw is None:
            return None
        value = json.loads(raw)
        if _is_deep(value):
            raise ValueError("it is nested too deeply")
        msgspec.convert(value, kind)
        if kind is Record:
            _check_letters(raw, value)
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(f"{path.name}: {_why(error)}") from None
    checked: dict[str, Any] = value
    return checked


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    # What a parser says is about characters.
    by_parser = isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError)
    return "it is no JSON" if by_parser else str(error)


def read_or_nothing(path: Path, kind: Any) -> dict[str, Any]:
    """Read a file that nothing depends on; one that is not there, or cannot be read, is empty."""
    try:
        return read(path, kind) or {}
    except Unreadable:
        return {}


def report(text: bytes) -> Reported | None:
    """Read a line of metrics.jsonl; None for one that is none."""
    try:
        value = json.loads(text)
        msgspec.convert(value, _Reported)
        _check_letters(text, list(value["values"]))
        return float(value["time"]), value["attempt"], value.get("step"), value["values"], float(value.get("life", 0))
    except (ValueError, OverflowError, RecursionError):
        return None


def _check_letters(raw: bytes, value: Any) -> None:
    """Raise ValueError for half a surrogate pair: names of columns must be UTF-8."""
    if b"\\ud" in raw.lower():
        json.dumps(value, ensure_ascii=False).encode()


def _is_deep(value: Any, left: int = _DEEPEST) -> bool:
    parts: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left == 0 or any(_is_deep(part, left - 1) for part in parts)


def _learn() -> None:
    """Have msgspec look through the schemas now: it remembers, and processes that are forked need not."""
    for kind in (Record, State, Verdict, Reference):
        with contextlib.suppress(msgspec.ValidationError):
            msgspec.convert({}, kind)


_learn()
