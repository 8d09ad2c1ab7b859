"""Clouds that the rclone program reaches, as Places: ``rclone:NAME:folder``; also Google Drive outside of Colab."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Self

from ...errors import CommandFailed, InvalidInput, Unavailable
from .base import ANSWER_SECONDS, SENTINEL, Place, new_sentinel, safe_name
from .rclone_store import RcloneStore, rclone
from .store import Mark, Opened

USUAL_DRIVE = "gdrivecolab"
"""The remote of Google Drive that is chosen among several."""


@dataclass(frozen=True)
class RclonePlace(Place):
    """A folder of a remote that the user has configured."""

    keeps_links: ClassVar[bool] = False
    by_rsync: ClassVar[bool] = False

    @classmethod
    def from_text(cls, text: str, *, project: str) -> Self:
        found = re.fullmatch(r"rclone:([\w][\w .+@-]*):(.*)", text.strip())
        if found is None:
            raise InvalidInput(
                f"to={text} names no remote of rclone.",
                "Write to=rclone:NAME:FOLDER; rclone listremotes lists the names.",
            )
        folder = found[2].strip("/")
        if folder:
            folder = safe_name(folder, of=f"{found[1]}:")
        return cls(text=f"rclone:{found[1]}:{folder}", root=f"{found[1]}:{folder}")

    @property
    def path(self) -> str:
        below = "/".join(self.parts)
        if not below:
            return self.root
        return f"{self.root}{below}" if self.root.endswith(":") else f"{self.root}/{below}"

    @property
    def target(self) -> str:
        return f"rclone:{self.path}"

    def answers(self) -> None:
        name = self.root.partition(":")[0]
        try:
            rclone(["lsf", "--max-depth=1", f"{name}:"], timeout=ANSWER_SECONDS)
        except CommandFailed as error:
            raise Unavailable(f"{self.text} does not answer: {error.what}", f"Try: rclone lsf {name}:") from error

    def prepare(self, rights: int = 0o777) -> str:
        store = RcloneStore(self.root)
        if store.get(SENTINEL) is None:
            store.put(SENTINEL, new_sentinel().encode())
        return self.verify(store.get(SENTINEL), None)

    @contextmanager
    def opened(self, expected: str | None = None, *, make: int = 0, known: Mark | None = None) -> Iterator[Opened]:
        self.verify(RcloneStore(self.root).get(SENTINEL), expected)
        yield Opened(RcloneStore(self.path))

    @contextmanager
    def as_it_is(self) -> Iterator[RcloneStore]:
        yield RcloneStore(self.path)  # a folder is made with its first file

    def names(self) -> list[str]:
        listed = rclone(["lsf", "--max-depth=1", self.path], ok=(0, 3)).decode(errors="replace").splitlines()
        return sorted({name.rstrip("/") for name in listed} - {SENTINEL})

    def missing(self, names: Sequence[str]) -> list[str]:
        store = RcloneStore(self.path)
        return [name for name in names if next(store.listing(name, exactly=True), None) is None]


def drive_id(place: RclonePlace, name: str) -> str | None:
    """Return the id that Google Drive gave a file; None where rclone's remote is no Google Drive, or does not say."""
    remote = place.root.partition(":")[0]
    kind = json.loads(rclone(["config", "dump"], timeout=ANSWER_SECONDS) or b"{}").get(remote)
    if not isinstance(kind, dict) or kind.get("type") != "drive":
        return None
    found = json.loads(rclone(["lsjson", "--stat", RcloneStore(place.path).path(name)], timeout=60) or b"{}")
    return str(found["ID"]) if isinstance(found, dict) and found.get("ID") else None


def drive_remote() -> str:
    """Return the name of the remote that is the user's Google Drive.

    Raises
    ------
    Unavailable
        When there is none, or several without the usual name.
    """
    make = "Make one: rclone config (its type is drive); or mount Drive and write to=FOLDER."
    try:
        found = json.loads(rclone(["config", "dump"], timeout=ANSWER_SECONDS) or b"{}")
    except Unavailable as error:
        raise Unavailable(
            "Outside of Colab Google Drive is reached by the program rclone, which is not here.",
            "Install it (rclone.org), then: rclone config; or mount Drive and write to=FOLDER.",
        ) from error
    drives = sorted(name for name, one in found.items() if isinstance(one, dict) and one.get("type") == "drive")
    if USUAL_DRIVE in drives or len(drives) == 1:
        return USUAL_DRIVE if USUAL_DRIVE in drives else drives[0]
    if drives:
        raise Unavailable(
            f"rclone knows several Google Drives: {', '.join(drives)}.", f"Write to=rclone:{drives[0]}:colab_data/NAME"
        )
    raise Unavailable("Outside of Colab Google Drive is reached by rclone, which knows none.", make)
