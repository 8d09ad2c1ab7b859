"""What became of files that were fetched, for their user."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import errors
from ...errors import ColabMagicsError, Unavailable
from ...ui import Says, Table
from ...units import show_seconds, show_size
from .several import Outcome, Progress


@dataclass(frozen=True)
class Downloaded:
    """Files that are there; shows itself as a table.

    Parameters
    ----------
    outcomes : sequence of Outcome
        One for each.
    folder : str
        Where they are.
    host : str
        On which machine; empty for this one.
    """

    outcomes: Sequence[Outcome]
    folder: str
    host: str = ""

    @property
    def paths(self) -> list[Path]:
        """The files, in the order of the addresses; of one that was unpacked, what it was unpacked to."""
        return [Path(one.folder or one.path) for one in self.outcomes]

    @property
    def path(self) -> Path:
        """The first of `paths`."""
        return self.paths[0]

    def table(self) -> Table:
        """Return the rows that are shown."""
        rows = []
        for one in self.outcomes:
            name = one.path.rpartition(f"{self.folder}/")[2]
            before = [f"{show_size(one.size - one.came)} were here already"] if 0 < one.came < one.size else []
            note = "; ".join([*before, *([one.note] if one.note else [])])
            rows.append([name, "fetched" if one.came else "there", show_size(one.size), note])
        where = f"{self.host}:{self.folder}" if self.host else self.folder
        came = sum(one.came for one in self.outcomes)
        new = sum(one.came > 0 for one in self.outcomes)
        text = f"{new} file{'s' if new != 1 else ''}, {show_size(came)} fetched to" if new else "All there already in"
        return Table(["file", "state", "size", "note"], rows, caption=f"{text} {where}")

    def __str__(self) -> str:
        return str(self.table())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def result(ui: Says, outcomes: Sequence[Outcome], folder: str, host: str = "") -> Downloaded:
    """Return what is there, or raise one error that names all that failed, when the others have been shown."""
    failed = [(one, error) for one in outcomes if (error := error_of(one)) is not None]
    good = [one for one in outcomes if one.error is None]
    if not failed:
        return Downloaded(good, folder, host)
    if good:
        ui.show(str(Downloaded(good, folder, host)))
    if len(failed) == 1 and len(outcomes) == 1:
        raise failed[0][1]
    lines = [f"  {one.shown}: {error.what}\n    → {error.mend}" for one, error in failed]
    kinds = {type(error) for _, error in failed}
    kind: type[ColabMagicsError] = kinds.pop() if len(kinds) == 1 else Unavailable
    raise kind(
        f"{len(failed)} of {len(outcomes)} files could not be fetched:\n" + "\n".join(lines),
        "Mend that and say the line again: what is whole is not fetched again.",
    )


def error_of(outcome: Outcome) -> ColabMagicsError | None:
    """Return the error of an outcome as it was raised, here or there."""
    if outcome.error is None:
        return None
    kind, what, mend = outcome.error
    known = {one.__name__: one for one in (errors.InvalidInput, errors.NotFound, errors.Unavailable)}
    return known.get(kind, ColabMagicsError)(what, mend)


@contextmanager
def shown(ui: Says, what: str) -> Iterator[Callable[[Progress], None]]:
    """Show downloads that take over two seconds; what this yields is to be told how far they are."""
    began = last = time.monotonic()

    def tell(now: Progress) -> None:
        nonlocal last
        passed = time.monotonic() - began
        # In a terminal each is a line: fewer of them the longer it takes.
        if time.monotonic() - last >= max(2.0, passed / 20):
            last = time.monotonic()
            live.show(Table(["download", "so far"], [[what, far(now)]]))

    with ui.live() as live:
        yield tell


def far(now: Progress) -> str:
    """Say how far it is."""
    parts = [f"{now.ready} of {now.files} files"] if now.files > 1 else []
    if now.total:
        parts.append(f"{100 * now.have // now.total} %, {show_size(now.have)} of {show_size(now.total)}")
    else:
        parts.append(show_size(now.have))
    if now.rate:
        parts.append(f"{show_size(now.rate)}/s")
        if now.total > now.have:
            parts.append(f"{show_seconds((now.total - now.have) / now.rate)} left")
    return ", ".join([*parts, *([now.says] if now.says else [])])
