"""Which runs a fork has, as the job's folder remembers: what ``%join`` returns.

``<job>/.scheduler/forks.json`` holds for each fork the folders of its runs, in the order of its points, as of its last
call. So points that were taken out of a grid are not among them, though their folders stay.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import process
from ..checkout.project import find_project
from ..errors import InvalidInput, NotFound
from ..payloads.code import Cell
from ..records import schema
from ..records.names import FORKS, SCHEDULER, folder_name
from ..records.run import Run, runs_of
from ..session import Session
from ..ui import RunningCell
from .scheduler import cannot_start

if TYPE_CHECKING:
    from .board import Board


def board(job_folder: Path, order: Sequence[int], kept: Sequence[Run] = ()) -> Board:
    """Return the runs in these folders, in this order, read anew at each look; `kept` are those of an earlier call.

    One whose folder was deleted is among them, and says so.
    """
    from .board import Board  # which reads much: what executes the runs is started first

    def find() -> list[Run]:
        known = {run.index: run for run in runs_of(job_folder)}
        return [known.get(index) or Run.look(job_folder / folder_name(index)) for index in order]

    return Board(find, kept=[run.folder for run in kept])


def remember(
    job_folder: Path,
    record: Mapping[str, Any],
    order: Sequence[int],
    queue: str = "",
    *,
    goal: str = "",
    trend: Sequence[str] = (),
    search: Mapping[str, Any] | None = None,
) -> None:
    """Write down which runs a fork has, by what their records share; runs of no fork are joined by nothing.

    Of one that takes its runs from a queue it is those of the queue, whichever they will be. `goal` is what tables mark
    the best of them by; see `goal`. `trend` names the metrics that they draw. `search` is the space of a search: its
    runs are those that fit.
    """
    same = ("notebook", "notebook_path", "fork")
    if "fork" not in record:
        return
    entry = {**{key: record[key] for key in same}, "at": time.time(), **({"queue": queue} if queue else {})}
    entry |= {"goal": goal} if goal else {}
    entry |= {"trend": list(trend)} if trend else {}
    entry |= {"search": dict(search)} if search else {}
    kept = [one for one in _entries(job_folder) if any(one.get(key) != entry[key] for key in same)]
    try:
        process.write_json(job_folder / SCHEDULER / FORKS, {"forks": [*kept, {**entry, "runs": list(order)}]})
    except OSError as error:
        raise cannot_start(error, job_folder) from error


def recall(job_folder: Path, fork: int | None = None, notebook: str | None = None) -> Board:
    """Return the runs of a fork.

    Parameters
    ----------
    job_folder : Path
        ``data_job`` of the job.
    fork : int, optional
        Its place among its notebook's forks; by default the only one.
    notebook : str, optional
        The notebook's file name; by default the only one.

    Raises
    ------
    InvalidInput
        When the job has the runs of several.
    """
    entries = [one for one in _entries(job_folder) if notebook is None or one.get("notebook") == notebook]
    found = [one for one in entries if fork is None or one.get("fork") == fork]
    if len(found) > 1:
        names = ", ".join(f"%fork {one.get('fork')} of {one.get('notebook')}" for one in found)
        raise InvalidInput(
            f"The job {job_folder.name} has the runs of several forks ({names}), and nothing says which are meant.",
            "Execute the %fork line above first: finished runs are kept.",
        )
    if found and (queue := found[0].get("queue")):
        from .board import Board
        from .of_queue import claims

        return Board(lambda: claims.runs(job_folder, queue))
    if found and found[0].get("search"):
        from .board import Board
        from .search import found as of_search

        return Board(lambda: of_search.members(job_folder, found[0]))
    if found:
        return board(job_folder, [int(index) for index in found[0]["runs"]])
    # Folders that came from elsewhere without that record: their own say it.
    runs = [run for run in runs_of(job_folder) if fork is None or run.fork == fork]
    return board(job_folder, [run.index for run in runs])


@dataclass
class Forked:
    """A ``%fork`` that was executed in this shell.

    Parameters
    ----------
    join : Cell or None
        The cell that joins its runs.
    runs : Board
        The runs, in the order of its points.
    joined : bool
        Whether that cell has been executed since.
    """

    join: Cell | None
    runs: Board
    joined: bool = False


def of_this_cell(here: Session) -> Board:
    """Return the runs that the ``%join`` that is being executed joins.

    Raises
    ------
    NotFound
        When there are none.
    InvalidInput
        When several forks have some and nothing tells which are meant.
    """
    found = _that_this_cell_joins(here.forked, here.ui.running_cell())
    if found is not None:
        found.joined = True
        return found.runs
    project = here.project or find_project(Path.cwd(), warn=here.warn_once)
    runs = recall(project.data_job) if project is not None else None
    if runs is None or not len(runs):
        raise NotFound("There are no runs to join.", "Start some above this line: %fork n=5")
    return runs


def _that_this_cell_joins(forked: Sequence[Forked], cell: RunningCell) -> Forked | None:
    by_id = [one for one in forked if cell.id and one.join is not None and one.join.id == cell.id]
    source = cell.source.strip()
    by_source = [one for one in forked if one.join is not None and one.join.source.strip() == source]
    found = by_id or by_source or forked
    cells = {one.join.position if one.join is not None else None for one in found}
    # Run All comes to each %join behind its own %fork; whoever executes one by hand has to say which.
    if len(cells) > 1 and found[-1].joined:
        raise InvalidInput(
            "Several cells hold this same line, and this front end does not say which of them is executed.",
            "Make them differ: a comment at the end of the line will do. Then execute their %fork again.",
        )
    return found[-1] if found else None


def _entries(job_folder: Path) -> list[dict[str, Any]]:
    """Read the record; one that was damaged is none."""
    found = schema.read_or_nothing(job_folder / SCHEDULER / FORKS, schema.Forks)
    return [dict(one) for one in found.get("forks", [])]
