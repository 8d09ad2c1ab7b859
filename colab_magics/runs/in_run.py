"""What the lines of verbs mean in a run: its variables, and what other forks above it have made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import session
from ..records.names import folder_name
from ..records.run import Run
from ..ui import UI
from ..units import count

if TYPE_CHECKING:
    from ..checkout.project import Project
    from .board import Board


def is_run(ui: UI) -> bool:
    """Whether this notebook is a run, also one by plain ``papermill -p i_sub_job 3``."""
    return session.run_folder() is not None or "i_sub_job" in (ui.injected_parameters() or {})


def of_another_fork(ui: UI) -> Board | None:
    """In a run, return the runs of another fork, whose ``%fork`` or ``%join`` above the run's own is being executed."""
    folder = session.run_folder()
    return None if folder is None else _of_another_fork(ui, Run.load(folder))


def _of_another_fork(ui: UI, run: Run) -> Board | None:
    record = run.record
    other = (record.get("others") or {}).get(ui.running_cell().id)
    if not other:
        return None
    from . import joined

    board = joined.recall(run.folder.parent, other, str(record.get("notebook")))
    board.on_screen = (ui, ui.cell)  # a run's notebook need not show them
    return board


def assign(ui: UI, project: Project | None) -> Board | None:
    """In a run, assign its variables; where it is another fork's line that is executed, return that fork's runs.

    Parameters
    ----------
    ui : UI
        The face.
    project : Project or None
        The project in use: its job is that of a run that nobody submitted.
    """
    folder = session.run_folder()
    if folder is not None:
        run = Run.load(folder)
        if (board := _of_another_fork(ui, run)) is None:
            become(ui, run.id, run.injected)
        return board
    injected = ui.injected_parameters() or {}
    # Plain papermill -p i_sub_job 3: nobody submitted this run, but it is run 3 all the same.
    index = count(injected["i_sub_job"], name="i_sub_job", least=0)
    given = injected.get("data_job")
    data_job = Path(given) if given else _folder(ui, project, folder_name(index))
    data_job.mkdir(parents=True, exist_ok=True)
    become(ui, str(index), {**injected, "i_sub_job": index, "data_job": str(data_job.absolute())})
    return None


def become(ui: UI, name: str, variables: Mapping[str, Any]) -> None:
    """Assign the variables of a run and say so."""
    ui.set_variables(variables)
    ui.say(f"run {name}: " + ", ".join(f"{key} = {value!r}" for key, value in variables.items()))


def _folder(ui: UI, project: Project | None, name: str) -> Path:
    """Return a run's folder where nobody has submitted it: in the job in use."""
    from ..checkout.project import DATA_JOB, DEFAULT_JOB, real_folder

    if project is not None:
        return real_folder(project.data_job, name)
    known = ui.get_variable("data_job")
    if isinstance(known, str | os.PathLike):
        return Path(known) / name
    return real_folder(Path.cwd(), DATA_JOB, DEFAULT_JOB, name)
