"""What a host answers to each question, field by field: it is another machine's word, and nothing is taken on trust."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

import msgspec

from ...errors import Unavailable

Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Path = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class Hello(TypedDict):
    """Who it is, and what packages it lacks."""

    host: str
    python: str
    unmet: list[str]


class Settled(TypedDict):
    """What runs get there; see `colab_magics.engines.base.Resources`."""

    workers: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
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


class Phases(TypedDict):
    """How attempts are doing."""

    phases: list[Literal["queued", "running", "ended", "unknown", "never"]]


class Fetched(TypedDict, total=False):
    """What a run has written besides what comes along: whether more does, and its files with size and time."""

    more: bool
    files: list[tuple[Path, Size, Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]]] | None


class Fetches(TypedDict):
    """The same of several runs; nothing for one that is not known there."""

    runs: list[Fetched]


class Written(TypedDict):
    """Files beside the code."""

    files: list[tuple[Path, Size, int]]


KINDS: dict[str, Any] = {
    "hello": Hello,
    "settle": Settled,
    "code": Missing,
    "folder": Folder,
    "stage": Folder,
    "submit": Submitted,
    "find": Found,
    "poll": Phases,
    "fetch": Fetches,
    "written": Written,
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
        raise Unavailable(
            f"{host} answers what means nothing here: {error}.", "Is it the machine that you mean? Look at it by ssh."
        ) from None
