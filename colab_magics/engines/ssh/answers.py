"""What a host answers to each question, field by field: it is another machine's word, and nothing is taken on trust."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required, TypedDict

import msgspec

from ...errors import Unavailable
from ..base import EVERY

Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Moment = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
Path = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class Hello(TypedDict):
    """Who it is, and what packages it lacks."""

    host: str
    python: str
    unmet: list[str]


class Settled(TypedDict):
    """What runs get there; see `colab_magics.engines.base.Resources`."""

    workers: Annotated[int, msgspec.Meta(ge=1, le=EVERY)]
    gpus: float | None
    only_free: bool
    inputs: bool
    devices: list[str]
    warnings: list[str]


class Missing(TypedDict):
    """Contents that it lacks; None when it has all."""

    missing: list[str] | None


class Folder(TypedDict):
    """A folder there."""

    folder: Path


class Started(TypedDict, total=False):
    """Who executes a run, or why nobody does; neither while it has to wait."""

    who: dict[str, Any]
    problem: str


class Submitted(TypedDict):
    """What became of runs."""

    runs: list[Started]


class Attempt(TypedDict):
    """What is known of an attempt."""

    base: dict[str, Size]


class Found(TypedDict):
    """Attempts that are known there."""

    runs: list[Attempt | None]


class Phases(TypedDict, total=False):
    """How attempts are doing, and why they wait."""

    phases: Required[list[Literal["queued", "running", "ended", "unknown", "never"]]]
    says: list[str]


class Verdict(TypedDict):
    """What became of an attempt."""

    word: Literal["lost", "killed"]
    why: str


class Fetched(TypedDict, total=False):
    """What a run has written besides what comes along: whether more does, its files with size and time, and those
    beside the code."""

    more: bool
    files: list[tuple[Path, Size, Moment]] | None
    beside: list[tuple[Path, Size, Moment]] | None


class Fetches(TypedDict):
    """The same of several runs; nothing for one that is not known there."""

    runs: list[Fetched]


KINDS: dict[str, Any] = {
    "hello": Hello,
    "settle": Settled,
    "code": Missing,
    "folder": Folder,
    "stage": Folder,
    "submit": Submitted,
    "find": Found,
    "poll": Phases,
    "verdict": Verdict,
    "fetch": Fetches,
}


def checked(host: str, question: str, said: Any) -> dict[str, Any]:
    """Return an answer that is one.

    Raises
    ------
    Unavailable
        When it is none.
    """
    try:
        return msgspec.convert(said, KINDS.get(question, dict[str, Any]))  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        raise meaningless(host, str(error)) from None


def meaningless(host: str, why: str) -> Unavailable:
    """Build the error for an answer that is none."""
    return Unavailable(
        f"{host} answers what means nothing here: {why}.", f"Is it the machine you mean? Try: ssh {host}"
    )
