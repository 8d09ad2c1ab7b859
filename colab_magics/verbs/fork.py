"""``%fork``: run this notebook n times; in each run the line returns with that run's values."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import session
from ..errors import ColabMagicsError, InvalidInput, NotFound
from ..units import count, indices, show_seconds

if TYPE_CHECKING:
    from ..checkout.project import Project
    from ..runs.board import Board
    from ..runs.run import Run
    from ..ui import UI, Notebook


def fork(
    *,
    n: int | None = None,
    only: str | None = None,
    first: int = 0,
    done_file: str | None = None,
    workers: str = "auto",
    start: Literal["cold"] = "cold",
    on: str = "local",
    resume: Literal["keep", "rerun"] | None = None,
    then: Literal["stop", "continue"] | None = None,
    notebook: str | None = None,
) -> Board | None:
    """Run this notebook n times.

    It is ``fork()``: in each run the line returns with the values of that run. There it assigns ``i_sub_job`` (0 to
    n - 1) and ``data_job`` (the run's own folder) and goes on with the cells below. In this notebook it shows the runs,
    waits, and then ends Run All, because the cells below belong to the runs.

    A run that finished is kept when the line is executed again; one that did not goes on in its own folder. When the
    code of its cells changed since, the line asks: ``resume=keep`` or ``resume=rerun``. Each run is a fresh process
    without a time limit; its executed notebook and its log are kept in its folder, also when it fails. The runs go on
    when this kernel restarts; interrupting only stops watching them.

    Parameters
    ----------
    n : int
        How many runs, 1 or more.
    only : str, optional
        Execute these alone: ``3,7-9``.
    first : int, default 0
        Leave out the runs below this index.
    done_file : str, optional
        A run whose folder holds this file is finished and left out, such as ``done_file=model.pt``.
    workers : str, default "auto"
        How many runs at once. ``auto`` is one where there is a GPU, else one for every two cores.
    start : {"cold"}
        How a run's kernel starts: ``cold`` is a new process.
    on : str, default "local"
        The engine: where runs execute. ``local`` is this machine.
    resume : {"keep", "rerun"}, optional
        What to do with finished runs whose code changed since. ``rerun`` moves their folders aside, it deletes nothing.
    then : {"stop", "continue"}, optional
        What this notebook does when the runs have ended: ``stop`` ends Run All (the default in a notebook),
        ``continue`` goes on with the next cell (the default in scripts and the shell), where ``i_sub_job`` is None.
    notebook : str, optional
        The notebook to run, where it is not this one or cannot be found by itself.

    Returns
    -------
    Board or None
        The runs, as a handle that shows itself; None in a run.

    Raises
    ------
    InvalidInput, NotFound, Unavailable, Busy
        Before anything was started; the text says what to do.
    RunsFailed
        After all runs have ended, when one or more failed: run, cell, error and log of each.
    """
    ui = session.current().ui
    if _in_run(ui):
        return None
    points = _points(n)
    only_indices, first = indices(only), count(first, name="first", least=0)
    at_once = _workers(workers)
    current = ui.notebook(notebook)
    if current.warning:
        ui.warn(current.warning)
    project = _project(ui)
    board = _submit(
        ui,
        project,
        current,
        points,
        only=only_indices,
        first=first,
        done_file=done_file,
        resume=resume,
        workers=at_once,
        engine=on,
        start=start,
    )
    _watch(ui, board, project)
    if then is None:
        then = "stop" if current.current else "continue"
    if then == "stop":
        ui.stop(f"{_summary(board)} The cells below belong to the runs.")
    # The cells below are the runs' cells too: this is how they tell where they are.
    ui.set_variables({"i_sub_job": None})
    return board


def _in_run(ui: UI) -> bool:
    """In a run, assign its variables; return whether this is one."""
    from ..runs.run import Run, folder_name

    folder = session.run_folder()
    if folder is not None:
        run = Run.load(folder)
        _become(ui, run.id, run.variables)
        return True
    injected = ui.injected_parameters() or {}
    if "i_sub_job" in injected:
        # Plain papermill -p i_sub_job 3: nobody submitted this run, but it is run 3 all the same.
        index = count(injected["i_sub_job"], name="i_sub_job", least=0)
        given = injected.get("data_job")
        data_job = Path(given) if given else _data_job(ui) / folder_name(index)
        data_job.mkdir(parents=True, exist_ok=True)
        _become(ui, str(index), {**injected, "i_sub_job": index, "data_job": str(data_job.absolute())})
        return True
    return False


def _become(ui: UI, name: str, variables: Mapping[str, Any]) -> None:
    ui.set_variables(variables)
    ui.say(f"run {name}: " + ", ".join(f"{key} = {value!r}" for key, value in variables.items()))


def _data_job(ui: UI) -> Path:
    from ..checkout.project import DATA_JOB, DEFAULT_JOB

    project = session.current().project
    if project is not None:
        return Path(project.data_job)
    known = ui.get_variable("data_job")
    return Path(known) if isinstance(known, str | os.PathLike) else Path.cwd() / DATA_JOB / DEFAULT_JOB


def _points(n: int | None) -> list[Any]:
    from ..runs.plan import Point

    if n is None:
        raise InvalidInput("How many runs? %fork needs a number.", "Write %fork n=5.")
    return [Point(repeat) for repeat in range(count(n, name="n"))]


def _workers(workers: str | int) -> int:
    if str(workers) != "auto":
        return count(workers, name="workers")
    # Several runs on one GPU would fight for its memory.
    return 1 if Path("/dev/nvidia0").exists() else max(1, (os.cpu_count() or 1) // 2)


def _project(ui: UI) -> Project:
    """Return the project of this shell; without one, the current folder is made one of data folders alone."""
    from ..checkout.project import DEFAULT_JOB, Project, find_project

    here = session.current()
    if here.project is not None:
        known: Project = here.project
        return known
    found = find_project(Path.cwd())
    if found is None:
        cwd = Path.cwd()
        found = Project(name=cwd.name or "project", job=DEFAULT_JOB, root=cwd, notebooks=cwd)
        _write(found.save, found.root)
        ui.say(f"No %project was set up: results go to {found.data_job}, on this machine only.")
    here.project = found
    return found


def _write(action: Any, folder: Path) -> None:
    try:
        action()
    except OSError as error:
        raise ColabMagicsError(
            f"{folder} cannot be written: {error.strerror}.",
            "Nothing was started. Choose another folder: %project name=… root=FOLDER",
        ) from error


def _submit(
    ui: UI,
    project: Project,
    current: Notebook,
    points: Sequence[Any],
    *,
    only: list[int] | None,
    first: int,
    done_file: str | None,
    resume: str | None,
    workers: int,
    engine: str,
    start: str,
) -> Board:
    """Write the runs' folders and start the scheduler."""
    from ..engines import ENGINES
    from ..runs import code, plan, scheduler
    from ..runs.board import Board
    from ..runs.run import runs_of

    if start != "cold":
        raise InvalidInput(f"start={start} is not known.", "Write start=cold.")
    ENGINES.load(engine)().available()
    hashes = code.cell_hashes(current.content)
    common = {
        "engine": engine,
        "start": start,
        "cwd": str(_cwd(current)),
        "commit": _commit(project.root),
        "payload": _payload(current),
        "code": hashes,
    }
    job_folder = project.data_job
    _write(lambda: job_folder.mkdir(parents=True, exist_ok=True), job_folder)
    lock = scheduler.lock(job_folder)
    try:
        made = plan.make(points, job_folder, hashes, only=only, first=first, done_file=done_file, resume=resume)
        folders = plan.write(made, job_folder, content=current.content, name=current.name, common=common)
        if folders:
            scheduler.start(job_folder, folders, lock, engine=engine, workers=workers)
    finally:
        os.close(lock)
    if made.keep or made.skip:
        ui.say(f"{project.job}: {made}")
    chosen = set(made.indices)
    return Board(lambda: [run for run in runs_of(job_folder) if run.index in chosen])


def _payload(current: Notebook) -> dict[str, Any]:
    from ..kernels.cold import check_kernel

    # This notebook's runs use its own interpreter; any other notebook the kernel that it names.
    return {"kind": "notebook", "kernel": None if current.current else check_kernel(current.content, current.name)}


def _cwd(current: Notebook) -> Path:
    """Folder in which a fresh kernel of the notebook starts."""
    return current.path.parent if current.path is not None else session.current().start_folder


def _commit(root: Path) -> str | None:
    """Commit of the checkout, with ``+edits`` when files differ from it; None outside of git."""
    from ..errors import CommandFailed, Unavailable
    from ..process import run

    try:
        commit = run(["git", "rev-parse", "HEAD"], cwd=root).stdout.strip()
        edits = run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=root).stdout.strip()
    except (CommandFailed, Unavailable):
        return None
    return f"{commit}+edits" if edits else commit


def _watch(ui: UI, board: Board, project: Project) -> None:
    """Show the runs until they have ended, hand their results over, and raise for those that failed."""
    from ..runs.board import failure
    from ..runs.plan import describe

    if not len(board):
        ui.say("Nothing to do: every run was left out.")
        return
    try:
        statuses = board.watch(ui)
    except KeyboardInterrupt:
        ui.stop(
            f"Stopped watching ({describe(board.statuses())}). The runs go on: %jobs watch {project.job} shows "
            f"them, %jobs kill {project.job} ends them."
        )
    hand_over(ui, project.data_job)
    error = failure(statuses)
    if error is not None:
        raise error


def hand_over(ui: UI, data_job: Path) -> None:
    """Hand everything that changed in a job's folder over to its Places now."""
    from ..mirror import control

    for sync in control.running(source=data_job):
        try:
            with ui.progress(f"handing the results over to {sync.place}"):
                sync.now()
        except ColabMagicsError as error:
            # The results are here and the sync goes on trying: the runs' outcome matters more.
            ui.warn(str(error))


def _summary(board: Board) -> str:
    from ..runs.plan import describe

    statuses = board.statuses()
    began = [status.started for _, status in statuses if status.started]
    ended = [status.ended for _, status in statuses if status.ended]
    took = f" in {show_seconds(max(ended) - min(began))}" if began and ended else ""
    return f"{describe(statuses)}{took}."


def run_here() -> Run:
    """Return the run that this process belongs to.

    Raises
    ------
    NotFound
        Outside of runs.
    """
    from ..runs.run import Run

    folder = session.run_folder()
    if folder is None:
        raise NotFound("This is no run.", "Runs are made by %fork.")
    return Run.load(folder)
