"""What runs take of the disk, and their removal: folders of runs alone, and only of those that have ended."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import Busy, ColabMagicsError
from ..records.lock import is_held
from ..records.names import RECORD, STATE, is_aside, number_of
from ..records.plain import linked
from ..records.run import Run
from ..records.status import ENDED
from ..ui import Says, Table
from ..units import show_size, show_time
from . import scheduler
from .attempts import SUPERSEDED
from .select import Choice

SUPERSEDED_WORD = "superseded"
"""Names what reruns moved aside, for `removable`."""


@dataclass(frozen=True)
class Size:
    """How much a folder takes: bytes, and number of files."""

    bytes: int = 0
    files: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.bytes + other.bytes, self.files + other.files)


def size(folder: Path) -> Size:
    """Measure a folder: a file with several names counts once, what links point to does not count."""
    total, files, seen = 0, 0, set()
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                info = os.lstat(os.path.join(base, name))
            except OSError:  # a run at work removes its temporary files; others are not ours to see
                continue
            if (info.st_dev, info.st_ino) not in seen:
                seen.add((info.st_dev, info.st_ino))
                total += info.st_size
                files += 1
    return Size(total, files)


@dataclass(frozen=True)
class Entry:
    """A folder of a run, or one that a rerun moved aside."""

    name: str
    folder: Path
    state: str
    when: float
    size: Size

    @property
    def row(self) -> list[str]:
        """Its row in a table."""
        ended = show_time(self.when) if self.when else ""
        return [self.name, self.state, ended, show_size(self.size.bytes), str(self.size.files)]


COLUMNS = ("run", "state", "ended", "size", "files")


def entry(run: Run, name: str = "") -> Entry:
    """Measure a run."""
    status = run.status()
    return Entry(name or run.id, run.folder, status.full, _when(run), size(run.folder))


def _when(run: Run) -> float:
    """When a run ended; when it was submitted, for one that never started."""
    return float(run.status().ended or run.record.get("submitted") or _changed(run.folder))


def _changed(folder: Path) -> float:
    try:
        return os.lstat(folder).st_mtime
    except OSError:
        return 0.0


def aside(job_folder: Path) -> list[Entry]:
    """Measure what reruns of a job moved aside."""
    base = job_folder / SUPERSEDED
    if not base.is_dir() or linked(base):
        return []
    return [
        entry(Run.look(folder), f"{job_folder.name}/{SUPERSEDED}/{folder.name}")
        for folder in sorted(base.iterdir())
        if is_aside(folder.name) and _is_folder(folder)
    ]


def usage(choices: Sequence[Choice], notes: Sequence[str] = ()) -> Table:
    """Write what runs take: each, what was moved aside, all together, what is free, and lines below that."""
    entries: dict[Path, Entry] = {}
    for choice in choices:
        entries |= {run.folder: entry(run) for run in choice.runs}
        if not choice.which:
            entries |= {found.folder: found for found in aside(choice.job_folder)}
    everything = sum((found.size for found in entries.values()), Size())
    rows = [found.row for found in entries.values()]
    caption = f"{len(rows)} folders, {show_size(everything.bytes)} in {everything.files:,} files"
    if not choices:
        return Table([], [], caption=caption, notes=notes)
    free = shutil.disk_usage(choices[0].job_folder).free
    return Table(
        COLUMNS if rows else [], rows, caption=caption, notes=[f"Free on this disk: {show_size(free)}.", *notes]
    )


@dataclass(frozen=True)
class Doomed:
    """Folders that are removed, and a line for each that stays though it was named."""

    entries: list[Entry]
    stays: list[str]

    def __str__(self) -> str:
        number = len(self.entries)
        return f"{number} folder{'s' if number != 1 else ''}, {show_size(sum(one.size.bytes for one in self.entries))}"

    def table(self, caption: str, *, place: str | None = None) -> Table:
        """Return them as a table; with what becomes of the copies at a Place."""
        notes = list(self.stays)
        if place is not None:
            notes.append(f"Copies at {place} stay, and a restore fetches them, unless %sync --delete keeps the Place.")
        return Table(COLUMNS if self.entries else [], [one.row for one in self.entries], caption=caption, notes=notes)


def ask_and_remove(ui: Says, choices: Sequence[Choice], *, older: float | None, yes: bool, place: str | None) -> Table:
    """List what `removable` finds, remove it when the user says so, or has said so; return what was removed."""
    with ui.progress("measuring folders"):
        doomed = removable(choices, older=older)
    if not doomed.entries:
        return doomed.table("Nothing to remove.")
    if not yes:
        ui.say(str(doomed.table(f"To be removed: {doomed}")))
        if not ui.ask(f"Remove {doomed}, for good?"):
            return nothing_removed()
    with ui.progress(f"removing {doomed}"):
        doomed = remove(doomed)
    return doomed.table(f"Removed: {doomed}", place=place)


def nothing_removed() -> Table:
    """Say that nothing was removed: nobody said yes."""
    return Table([], [], caption="Nothing was removed.", notes=["--yes removes without asking."])


def removable(choices: Sequence[Choice], *, older: float | None) -> Doomed:
    """Choose what may be removed.

    Parameters
    ----------
    choices : sequence of Choice
        What the user named.
    older : float, optional
        Only what ended so many seconds ago, or more.

    Returns
    -------
    Doomed
    """
    found: dict[Path, Entry] = {}
    stays = []
    for choice in choices:
        if choice.which == SUPERSEDED_WORD:
            found |= {one.folder: one for one in aside(choice.job_folder)}
        for run in choice.runs:
            reason = why_not(run, fed=scheduler.is_running(choice.job_folder))
            if reason:
                stays.append(f"{run.id} stays: {reason}")
            else:
                found[run.folder] = entry(run)
    limit = time.time() - older if older is not None else None
    return Doomed([one for one in found.values() if limit is None or one.when <= limit], stays)


def why_not(run: Run, *, fed: bool) -> str | None:
    """Say why a run cannot be removed now; None when it can. `fed`: a scheduler works for its job."""
    if number_of(run.folder.name) is None or not _is_folder(run.folder) or linked(run.folder):
        return "its folder is a link, or no folder of a run"
    phase = run.status().phase
    # The lock tells it of a runner in another container, too, whose heartbeat is not heard.
    if phase == "running" or run.runner_lives() or is_held(run.folder):
        return f"it runs; end it first: %jobs kill {run.id}"
    job_folder = run.folder.parent
    if fed and phase != "done" and (phase not in ENDED or run.folder.name in scheduler.fed(job_folder)):
        return f"the runs of its job are being executed; end them first: %jobs kill {run.job}"
    return None


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def remove(doomed: Doomed) -> Doomed:
    """Remove folders.

    Returns
    -------
    Doomed
        What was removed, and what stays after all because it runs by now.

    Raises
    ------
    ColabMagicsError
        When one cannot be removed; says how many are gone.
    """
    gone: list[Entry] = []
    stays = list(doomed.stays)
    for one in doomed.entries:
        aside = one.folder.parent.name == SUPERSEDED
        job_folder = one.folder.parent.parent if aside else one.folder.parent
        try:
            with _nobody_starts(job_folder) as fed:
                reason = None if aside else why_not(Run.look(one.folder), fed=fed)
                if reason:
                    stays.append(f"{one.name} stays: {reason}")
                    continue
                _remove(one.folder)
        except FileNotFoundError:  # somebody else has removed it
            continue
        except OSError as error:
            raise ColabMagicsError(
                f"{one.name} cannot be removed: {error.strerror}: {error.filename}. "
                f"{len(gone)} of {len(doomed.entries)} are gone.",
                "Give yourself the right to write there, then say it again.",
            ) from error
        gone.append(one)
    return Doomed(gone, stays)


@contextmanager
def _nobody_starts(job_folder: Path) -> Iterator[bool]:
    """Keep schedulers from starting; yields whether one works already, whose runs are left alone."""
    with ExitStack() as stack:
        fed = scheduler.is_running(job_folder)
        if not fed:
            try:
                stack.enter_context(scheduler.taken(job_folder))
            except Busy:
                fed = True
        yield fed


def _remove(folder: Path) -> None:
    """Remove a folder; links in it are removed, not followed.

    What says "done" goes first and the record last: a removal that is cut off leaves a run that did not finish, which
    can be removed again.
    """
    order = {STATE: 0, RECORD: 2}
    for found in sorted(os.scandir(folder), key=lambda found: order.get(found.name, 1)):
        if found.is_dir(follow_symlinks=False):
            shutil.rmtree(found.path)
        else:
            os.unlink(found.path)
    os.rmdir(folder)
