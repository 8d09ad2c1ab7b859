"""``%fork``: run this notebook many times; in each run the line returns with that run's values."""

from __future__ import annotations

import math
import os
import time as clock
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from .. import session
from ..errors import ColabMagicsError, InvalidInput
from ..units import count, indices, seconds, show_seconds
from . import bare, body, call_only

if TYPE_CHECKING:
    from ..checkout.project import Project
    from ..runs.board import Board
    from ..runs.plan import Point
    from ..runs.submit import Order
    from ..ui import UI, Notebook, Table

MANY = 1000
"""More runs than this are started with ``--yes`` only."""


@body("grid")
@bare(try_="end")
@call_only("yes")
def fork(
    grid: Mapping[str, Any] | None = None,
    /,
    *,
    n: int | None = None,
    only: str | None = None,
    first: int = 0,
    done_file: str | None = None,
    workers: str = "auto",
    gpus: str | float | None = None,
    start: Literal["cold", "warm", "live"] = "cold",
    seed: Literal["keep"] | None = None,
    on: str = "local",
    time: str | None = None,
    cell_time: str | None = None,
    retries: int = 0,
    max_failures: int | None = None,
    resume: Literal["keep", "rerun"] | None = None,
    then: Literal["stop", "continue"] | None = None,
    try_: str | None = None,
    here: int | None = None,
    notebook: str | None = None,
    detach: bool = False,
    dry_run: bool = False,
    yes: bool = False,
) -> Board | Table | None:
    """Run this notebook many times.

    It is ``fork()``: in each run the line returns with the values of that run. There it assigns ``i_sub_job``,
    ``data_job`` (the run's own folder) and the run's parameters, and goes on with the cells below. In this notebook it
    shows the runs and waits. Then the notebook skips the runs' cells and goes on at ``%join``; without a ``%join``
    Run All ends here, because the cells below belong to the runs.

    ``%fork n=5`` makes five runs. ``%%fork`` takes a grid from the cell (YAML)::

        %%fork workers=2
        lr: [1e-3, 1e-4]            # lists make the product
        zip: {size: [small, large], depth: [6, 12]}   # these go together
        exclude: {lr: 1e-3, size: large}
        include: {lr: 1e-5, size: small, depth: 24}
        n: 2                        # repetitions of each point

    A run that finished is kept when the line is executed again; one that did not goes on in its own folder; values that
    are new get new numbers. When the code of the cells changed since, the line asks: ``resume=keep`` or
    ``resume=rerun``. Each run is a fresh process; its executed notebook and its log are kept in its folder, also when
    it fails. The runs go on when this kernel restarts; interrupting only stops watching them.

    Parameters
    ----------
    grid : mapping, optional
        Parameters and their values; the cell's body, or a mapping in Python.
    n : int, optional
        How many runs; with a grid, how often each point.
    only : str, optional
        Execute these alone: ``3,7-9``.
    first : int, default 0
        Leave out the runs below this index.
    done_file : str, optional
        A run whose folder holds this file is finished and left out, such as ``done_file=model.pt``.
    workers : str, default "auto"
        How many runs at once. ``auto`` is one for each free GPU, without GPUs one for every two cores.
    gpus : str, optional
        GPUs of each run: ``1``, ``2``, or ``0.5``, where two runs share one; ``0`` hides them. A run sees its own
        alone. By default it gets one where there are GPUs and ``workers`` is not said; else it sees all of them.
    start : {"cold", "warm", "live"}
        How a run's kernel starts. ``cold`` is a new process that executes the notebook from its top. ``warm`` is forked
        from a process that has imported already what this notebook imports: runs begin in a tenth of the time and share
        memory. What a library reads when it is imported, such as ``OMP_NUM_THREADS``, is then that of this notebook's
        environment at ``%fork``; a cell that sets it in the run comes too late. Where an import opens a GPU or starts
        threads, runs start cold and say so. ``live`` is forked from this very notebook, with all that it holds: a run
        executes the rest of this cell and the cells below, on the data that the cells above have loaded, and shares
        their memory until it writes to it. The notebook's threads are not in it, open files and connections are shared,
        and once a cell has used a GPU it is refused. Runs can be started so until all have ended well, or this kernel
        has ended and no run is left.
    seed : {"keep"}, optional
        With ``start=live``, leave the random generators as they are here: all runs draw the same numbers. By default
        Python's, numpy's and torch's global ones are seeded for each run, from their state here and the run's index.
    on : str, default "local"
        The engine: where runs execute. ``local`` is this machine.
    time, cell_time : str, optional
        How long a run, and a cell, may take: ``2h``. For ever by default. A run that takes longer has failed.
    retries : int, default 0
        How often a run that failed is executed again.
    max_failures : int, optional
        When so many runs have failed, no other is started.
    resume : {"keep", "rerun"}, optional
        What to do with finished runs whose code changed since. ``rerun`` moves their folders aside, it deletes nothing.
    then : {"stop", "continue"}, optional
        What this notebook does when the runs have ended: ``stop`` ends Run All (the default in a notebook without
        ``%join``), ``continue`` goes on with the next cell (the default in scripts and the shell), where ``i_sub_job``
        is None.
    try_ : str, optional
        The first run goes alone; the others start when it has ended well, or has lived so long: ``--try 60s``.
    here : int, optional
        Start nothing: this notebook becomes the run of that index, to debug it.
    notebook : str, optional
        The notebook to run, where it is not this one or cannot be found by itself.
    detach : bool, default False
        Do not wait for the runs; ``%jobs watch`` shows them.
    dry_run : bool, default False
        Start nothing: show the runs, their values and types, what is left out and why.
    yes : bool, default False
        Start more than 1,000 runs without asking again.

    Returns
    -------
    Board, Table or None
        The runs, as a handle that shows itself; the preview with ``--dry-run``; None in a run.

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
    from ..runs import resources, submit
    from ..runs.scheduler import Feed

    points, names = _points(grid, n, yes=yes)
    machine = resources.settle(workers, gpus, ui)
    at_once = machine.workers
    if start == "live":
        at_once = _workers_that_fit(ui, at_once, fixed=str(workers) != "auto")
    feed = Feed(
        at_once,
        trial=None if try_ is None else math.inf if try_ == "end" else seconds(try_, name="try"),
        max_failures=None if max_failures is None else count(max_failures, name="max_failures"),
        retries=count(retries, name="retries", least=0),
    )
    limits = {"time": time, "cell_time": cell_time}
    current = ui.notebook(notebook)
    for warning in (current.warning, *machine.warnings):
        if warning:
            ui.warn(warning)
    joins = _check_cells(current, names, then)
    project = _project(ui)
    order = submit.Order(
        project.data_job,
        current,
        points,
        _cwd(current),
        project.root,
        only=indices(only),
        first=count(first, name="first", least=0),
        done_file=done_file,
        resume=resume,
        engine=on,
        start=start,
        seed=seed,
        feed=feed,
        resources=machine,
        limits={name: None if value is None else seconds(value, name=name) for name, value in limits.items()},
    )
    if here is not None:
        _be_here(ui, order, count(here, name="here", least=0))
        return None
    if dry_run:
        return submit.preview(order)
    session.current().run_here = None
    if start == "live":
        ui.skip_nothing()  # what an earlier %fork skips here, its runs execute
    board, made = submit.submit(order)
    if made.keep or made.skip or made.resumed or made.adopt:
        ui.say(f"{project.job}: {made}")
    if joins:
        ui.skip(*joins)
    if detach:
        return _detached(ui, board, project, current)
    _watch(ui, board, project)
    if joins:
        return board
    if then == "stop" or (then is None and current.current):
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


def _be_here(ui: UI, order: Order, index: int) -> None:
    """Make this notebook the run of that index."""
    from ..runs.submit import claim

    folder, parameters = claim(order, index)
    ui.skip_nothing()
    session.current().run_here = folder
    _become(ui, f"{folder.parent.name}/{index}", {"i_sub_job": index, "data_job": str(folder), **parameters})


def _data_job(ui: UI) -> Path:
    from ..checkout.project import DATA_JOB, DEFAULT_JOB

    project = session.current().project
    if project is not None:
        return Path(project.data_job)
    known = ui.get_variable("data_job")
    return Path(known) if isinstance(known, str | os.PathLike) else Path.cwd() / DATA_JOB / DEFAULT_JOB


def _points(grid: Mapping[str, Any] | None, n: int | None, *, yes: bool) -> tuple[list[Point], list[str]]:
    """Return the points of this call, and the names of their parameters."""
    from ..runs.grid import read
    from ..runs.plan import Point

    if grid is None and n is None:
        raise InvalidInput("How many runs? %fork needs a number, or a grid.", "Write %fork n=5.")
    if grid is None:
        size, names = count(n or 0, name="n"), []
    else:
        made = read(grid, n=n)
        size, names = made.size(), made.names
    if size > MANY and not yes:
        raise InvalidInput(f"That makes {size:,} runs.", "Say --yes to start so many, or take values out.")
    return [Point(repeat) for repeat in range(size)] if grid is None else list(made.points()), names


def _workers_that_fit(ui: UI, wanted: int, *, fixed: bool) -> int:
    """Compare the workers with the free memory: what was asked for stays, what we choose fits."""
    from ..kernels.live import workers_that_fit

    fit, words = workers_that_fit(wanted)
    if fit < wanted and fixed:
        ui.warn(f"{words}: workers={wanted} may be too many, {fit} would fit.")
    elif fit < wanted:
        ui.say(f"{words}: workers={fit}")
    return wanted if fixed else fit


def _check_cells(current: Notebook, names: Sequence[str], then: str | None) -> tuple[list[tuple[str, str]], str] | None:
    """Check the notebook against the parameters; return the cells that the main notebook skips, and the join's cell."""
    from ..runs import checks

    if names:
        checks.check_parameters(current.content, names)
    join = checks.join_cell(current.content) if current.current and then is None else None
    if join is None:
        return None
    if checks.code_after_fork(current.content):
        raise InvalidInput(
            "Code stands below %fork in its own cell: this notebook cannot skip half a cell on its way to %join.",
            "Put that code into a cell of its own.",
        )
    return [(cell.id, cell.source) for cell in checks.cells_of_runs(current.content)], join.source


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
        try:
            found.save()
        except OSError as error:
            raise ColabMagicsError(
                f"{cwd} cannot be written: {error.strerror}.",
                "Nothing was started. Choose another folder: %project name=… root=FOLDER",
            ) from error
        ui.say(f"No %project was set up: results go to {found.data_job}, on this machine only.")
    here.project = found
    return found


def _cwd(current: Notebook) -> Path:
    """Folder in which a fresh kernel of the notebook starts."""
    return current.path.parent if current.path is not None else session.current().start_folder


def _detached(ui: UI, board: Board, project: Project, current: Notebook) -> Board:
    job = project.job
    board.notes.append(f"%jobs watch {job} shows the runs, %jobs kill {job} ends them.")
    if current.current:
        ui.stop(f"{len(board)} runs go on by themselves. {board.notes[-1]}")
    return board


def _watch(ui: UI, board: Board, project: Project) -> None:
    """Show the runs until they have ended, hand their results over, and raise for those that failed."""
    from ..runs import start_up
    from ..runs.board import failure

    began = clock.time()
    if not len(board):
        ui.say("Nothing to do: every run was left out.")
        return
    try:
        statuses = board.watch(ui)
    except KeyboardInterrupt:
        _stopped_watching(ui, board, project.job)
    hand_over(ui, project.data_job)
    for note in sorted({str((run.state() or {}).get("note") or "") for run, _ in statuses} - {""}):
        ui.warn(note)
    if advice := start_up.advice((run for run, _ in statuses), began):
        ui.say(advice)
    error = failure(statuses)
    if error is not None:
        raise error


def _stopped_watching(ui: UI, board: Board, job: str) -> NoReturn:
    from ..runs.plan import describe

    ui.stop(
        f"Stopped watching ({describe(board.statuses())}). The runs go on: %jobs watch {job} shows them, "
        f"%jobs kill {job} ends them."
    )


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
