"""``%jobs``: what runs, what ended how, the logs, and an end for what should end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import session
from ..errors import NotFound
from ..units import show_seconds, show_size, show_time
from . import short, subcommand

if TYPE_CHECKING:
    from ..checkout.project import Project
    from ..runs.board import Board
    from ..runs.run import Run


def jobs(*ids: str) -> Board:
    """List runs.

    Runs are found by their folders: in this notebook's project, or in the one that the current folder stands in, so
    that a fresh shell sees them too.

    Parameters
    ----------
    *ids : str
        ``baseline`` (a job), ``baseline/3``, ``baseline/3-5``; ``3`` or ``7-9`` are runs of the current job. All
        runs of all jobs by default.

    Returns
    -------
    Board
        The runs; shows itself as a table.

    Raises
    ------
    NotFound, InvalidInput
        When an id names nothing, or there is no project here.
    """
    from ..runs.board import Board

    project = _project()
    _select(project, ids)
    board = Board(lambda: _select(project, ids))
    if not len(board):
        board.notes.append(f"No runs yet in {project.root}: %fork n=5 makes some.")
    return board


@subcommand(jobs, "list")
def list_(*ids: str) -> Board:
    """List runs; the same as ``%jobs``.

    Parameters
    ----------
    *ids : str
        See ``%jobs``.

    Returns
    -------
    Board
        The runs; shows itself as a table.
    """
    return jobs(*ids)


@dataclass(frozen=True)
class Text:
    """Text that shows itself as it is."""

    text: str

    def __str__(self) -> str:
        return self.text

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        printer.text(self.text)  # type: ignore[attr-defined]


@subcommand(jobs)
def show(*ids: str) -> Text:
    """Show everything about runs: parameters, code version, times, files, and the error of a failed one.

    Parameters
    ----------
    *ids : str
        See ``%jobs``.

    Returns
    -------
    Text
        A block for each run.
    """
    return Text("\n\n".join(_describe(run) for run in _some(ids)))


@subcommand(jobs)
def watch(*ids: str) -> Board:
    """Show runs live until they have ended; interrupting stops watching only.

    Parameters
    ----------
    *ids : str
        See ``%jobs``.

    Returns
    -------
    Board
        The runs as they ended.
    """
    board = jobs(*ids)
    if len(board):
        board.watch(session.current().ui)
    return board


@subcommand(jobs)
@short(f="follow")
def logs(*ids: str, follow: bool = False, lines: int = 0) -> Text:
    """Show what runs printed.

    Parameters
    ----------
    *ids : str
        See ``%jobs``; the last run that started, by default.
    follow : bool, default False
        Go on showing what is printed until the run has ended; for one run. Shortly ``-f``.
    lines : int, default 0
        The last so many lines alone; 0 is everything.

    Returns
    -------
    Text
        The logs.
    """
    from ..runs.board import tail
    from ..runs.select import one

    runs = _some(ids) if ids else _latest()
    if follow:
        return Text(_follow(one(runs, ids)))
    parts = []
    for run in runs:
        text = tail(run.log, lines=lines) if lines else _read(run.log)
        parts.append(f"{run.id}: {run.log}\n{text}".rstrip())
    return Text("\n\n".join(parts))


@subcommand(jobs)
def kill(*ids: str) -> Board:
    """End runs that wait or run: their kernels are interrupted, then terminated, then killed, with all their children.

    What they have saved stays, and the next ``%fork`` lets them go on.

    Parameters
    ----------
    *ids : str
        See ``%jobs``; at least one.

    Returns
    -------
    Board
        The runs.
    """
    from ..runs import scheduler
    from ..runs.board import Board
    from ..runs.run import ENDED

    project = _project()
    if not ids:
        raise NotFound("Which runs?", "Name a job or runs: %jobs kill baseline, %jobs kill 3-5")
    runs = _select(project, ids)
    asked = scheduler.kill(runs)
    board = Board(lambda: _select(project, ids))
    if not asked:
        board.notes.append("Nothing to kill: all of them have ended.")
        return board
    with session.current().ui.progress(f"ending {len(asked)} runs"):
        end = time.monotonic() + 30
        while time.monotonic() < end and any(_lives(run) for run in asked):
            time.sleep(0.1)
    if any(run.status().phase not in ENDED or _lives(run) for run in asked):
        board.notes.append("Some still run: look again with %jobs in a minute.")
    return board


def _lives(run: Run) -> bool:
    from ..process import is_alive

    return bool(is_alive((run.state() or {}).get("process") or {}))


def _project() -> Project:
    from ..checkout.project import MARKER, find_project

    project: Project | None = session.current().project or find_project(Path.cwd())
    if project is None:
        below = [path.parent for path in Path.cwd().glob(f"*/{MARKER}")]
        project = find_project(below[0]) if len(below) == 1 else None
    if project is None:
        raise NotFound(
            f"No project was set up in {Path.cwd()} or above it.",
            "Change into the project's folder, or set it up: %project",
        )
    return project


def _select(project: Project, ids: Sequence[str]) -> list[Run]:
    from ..runs.select import select

    return select(project.data_job.parent, ids, job=project.job)


def _some(ids: Sequence[str]) -> list[Run]:
    runs = _select(_project(), ids)
    if not runs:
        raise NotFound("There are no runs yet.", "%fork n=5 makes some.")
    return runs


def _latest() -> list[Run]:
    return [max(_some(()), key=lambda run: (run.status().started or 0.0, run.index))]


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else "nothing was printed yet"


def _follow(run: Run) -> str:
    """Show a log while it grows; returns nothing more to show."""
    from ..runs.run import ENDED

    ui, position = session.current().ui, 0
    while True:
        ended = run.status().phase in ENDED
        if run.log.is_file():
            with open(run.log, "rb") as stream:
                stream.seek(position)
                data = stream.read()
            # A character may be half written: keep what follows the last whole line for the next look.
            whole = data if ended else data[: data.rfind(b"\n") + 1]
            if whole:
                ui.say(whole.decode("utf-8", "replace").rstrip("\n"))
                position += len(whole)
        if ended:
            return f"{run.id}: {run.status().text}"
        time.sleep(0.2)


def _describe(run: Run) -> str:
    status = run.status()
    record = run.record
    lines = [f"{run.id}  {status.text}"]
    rows = {
        "parameters": ", ".join(f"{key}={value!r}" for key, value in run.parameters.items()),
        "notebook": record.get("notebook", ""),
        "code": record.get("commit") or "",
        "attempt": str(run.attempt) if run.attempt > 1 else "",
        "engine": f"{record.get('engine')}, start {record.get('start')}",
        "started": show_time(status.started) if status.started else "",
        "took": show_seconds(status.ended - status.started) if status.ended and status.started else "",
        "folder": str(run.folder),
    }
    lines += [f"  {name:<11}{value}" for name, value in rows.items() if value]
    files = sorted(path for path in run.folder.rglob("*") if path.is_file())
    lines += ["  files"] + [
        f"    {path.relative_to(run.folder)}  {show_size(path.stat().st_size)}" for path in files[:30]
    ]
    if len(files) > 30:
        lines.append(f"    … and {len(files) - 30} more")
    if status.error:
        lines += ["  error", *(f"    {line}" for line in str(status.error.get("traceback", "")).splitlines())]
    return "\n".join(lines)
