"""``%fork``: run this notebook many times; in each run the line returns with that run's values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import session
from ..units import count, indices, seconds, words
from ..units import goal as checked_goal
from . import bare, body, call_only, fork_cells, fork_queue, fork_search, runtime, slips_of

if TYPE_CHECKING:
    from ..checkout.project import Project
    from ..engines.base import Engine
    from ..payloads.code import Cell
    from ..runs.board import Board
    from ..runs.order import Order
    from ..runs.plan import Plan
    from ..runs.search.start import Search
    from ..ui import UI, Notebook, Table
    from .fork_queue import Asked


@body("grid")
@bare(try_="end")
@call_only("yes", "force", "end_runtime", "colab_terms")
def fork(
    grid: Mapping[str, Any] | None = None,
    /,
    *,
    n: int | None = None,
    runs: str | None = None,
    search: int | None = None,
    only: str | None = None,
    first: int = 0,
    done_file: str | None = None,
    workers: str = "auto",
    gpus: str | float | None = None,
    start: Literal["cold", "warm", "live"] = "cold",
    seed: str | None = None,
    on: str = "local",
    time: str | None = None,
    cell_time: str | None = None,
    retries: int = 0,
    max_failures: int | None = None,
    goal: str | None = None,
    trend: str | None = None,
    sampler: Literal["tpe", "random", "qmc", "cma", "grid"] | None = None,
    stop: Literal["early", "median", "hyperband"] | None = None,
    patience: int | None = None,
    resume: Literal["keep", "rerun"] | None = None,
    then: Literal["stop", "continue"] | None = None,
    try_: str | None = None,
    here: str | int | None = None,
    notebook: str | None = None,
    watch: bool = False,
    detach: bool = False,
    dry_run: bool = False,
    force: bool = False,
    yes: bool = False,
    end_runtime: bool = False,
    credentials: str | None = None,
    colab_terms: Literal["accepted"] | None = None,
    **options: Any,
) -> Board | Table | None:
    """Run this notebook many times.

    It is ``fork()``: in each run the line returns with the values of that run. There it assigns ``i_sub_job``,
    ``data_job`` (the run's own folder) and the run's parameters, and goes on with the cells below. In this notebook it
    shows the runs and waits. Then the notebook skips the runs' cells and goes on at ``%join``; without a ``%join``
    Run All ends here, because the cells below belong to the runs.

    A notebook may fork as often as it likes. A fork's runs execute the cells above it, without those of other forks'
    runs, and then their own: down to the first ``%join`` or ``%stop``, or to the next ``%fork``.

    ``%fork n=5`` makes five runs. ``%%fork`` takes a grid from the cell (YAML)::

        %%fork workers=2
        lr: [1e-3, 1e-4]            # lists make the product
        zip: {size: [small, large], depth: [6, 12]}   # these go together
        exclude: {lr: 1e-3, size: large}
        include: {lr: 1e-5, size: small, depth: 24}
        n: 2                        # repetitions of each point

    ``%fork runs=URL`` takes its runs from a table that other machines take theirs from, too, each run once, until none
    is left (see ``%queue``). A row is a run: its columns are the parameters, and its folder is called by its name.

    ``%%fork search=60 goal=min:loss`` chooses the values of each next run by what the others have reported (Optuna)::

        lr: loguniform(1e-5, 1e-1)  # also uniform, int, logint; with steps: uniform(0, 1, step=0.1)
        size: choice(small, large)
        when: {size: large, dropout: uniform(0, 0.5)}   # a parameter of these runs alone
        first: [{lr: 1e-3, size: small}]                # points to begin with

    A run that finished is kept when the line is executed again; one that still runs is watched; one that did not finish
    goes on in its own folder; values that are new get new folders. ``i_sub_job`` counts from 0 among the runs of
    ``n=``; a grid's are numbered as their folders. When the code of the cells, or of modules of the project that they
    import, changed since, the line asks: ``resume=keep`` or ``resume=rerun``. Each run is a fresh process; its executed
    notebook and its log are kept in its folder, also when it fails. The runs go on when this kernel restarts;
    interrupting only stops watching them.

    Parameters
    ----------
    grid : mapping, optional
        Parameters and their values; the cell's body, or a mapping in Python.
    n : int, optional
        How many runs; with a grid, how often each point.
    runs : str, optional
        Take the runs from this queue: a file, ``postgresql://…``, the link of a Google Sheet. ``i_sub_job`` is then a
        number made from the run's name, the same on every machine.
    search : int, optional
        How many runs a search has, with those of earlier calls. Runs that finished, failed or were stopped early count.
    only : str, optional
        Execute these alone, by their ``i_sub_job``: ``3,7-9``.
    first : int, default 0
        Leave out the runs below this ``i_sub_job``.
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
    seed : str, optional
        Of a search: a number; with the same one, and one worker, it chooses the same points. ``keep``: with
        ``start=live``, leave the random generators as they are here: all runs draw the same numbers. By default
        Python's, numpy's and torch's global ones are seeded for each run, from their state here and the run's index.
    on : str, default "local"
        The engine: where runs execute. ``local`` is this machine, ``ssh:gpu1,gpu2`` are others that ssh reaches,
        ``slurm`` is the cluster on whose login node this is, ``slurm@login`` one that ssh reaches,
        ``kubernetes`` is the cluster that ``kubectl`` asks.
    time, cell_time : str, optional
        How long a run, and a cell, may take: ``2h``. For ever by default. A run that takes longer has failed. ``time``
        of a search is that in all: after it no other run is started.
    retries : int, default 0
        How often a run that failed is executed again.
    max_failures : int, optional
        When so many runs have failed, no other is started. The notebook goes on to ``%join`` with those that failed
        marked as such, instead of ending with an error.
    goal : str, optional
        What the runs are to reach, of a metric that they report: ``min:loss``, ``max:accuracy``. Tables mark the best
        run that has finished. A search minimises or maximises it; with several (``min:loss,max:accuracy``) it looks for
        runs that none is better than in all of them.
    trend : str, optional
        The metrics whose course tables draw beside them: ``loss,acc``. By default the goal's, else the first.
    sampler : {"tpe", "random", "qmc", "cma", "grid"}, optional
        How a search chooses: ``tpe`` by default.
    stop : {"early", "median", "hyperband"}, optional
        With ``search=``, a run that cannot win ends at its next ``report(step=…)``, and is no failure. ``hyperband``,
        which ``early`` means, lets the better third go on each time that runs have taken three times as many steps;
        ``median`` stops what is worse than half of the others were at that step.
    patience : int, optional
        With ``search=``, choose no other run after so many that were not better than the best.
    resume : {"keep", "rerun"}, optional
        What to do with finished runs whose code changed since. ``rerun`` executes all runs of this call anew: the old
        folders move aside, nothing is deleted.
    then : {"stop", "continue"}, optional
        What this notebook does when the runs have ended: ``stop`` ends Run All (the default in a notebook without
        ``%join``), ``continue`` goes on, also when runs have failed: at ``%join``, else with the next cell (the default
        in scripts and the shell), where ``i_sub_job`` is None.
    try_ : str, optional
        The first run goes alone; the others start when it has ended well, or has lived so long: ``--try 60s``.
    here : int, optional
        Start nothing: this notebook becomes the run of that ``i_sub_job``, to debug it. The folder of a run that is
        done stays as it is and ``data_job`` is another one beside it; ``resume=keep`` uses the run's own. ``best`` is
        the best run of a search.
    notebook : str, optional
        The notebook to run, where it is not this one or cannot be found by itself. It is this one when the cell that
        is being executed stands in it.
    watch : bool, default False
        With ``runs=``, wait for runs that are added when none is left.
    detach : bool, default False
        Do not wait for the runs; ``%jobs watch`` shows them.
    dry_run : bool, default False
        Start nothing: show the runs, their values and types, what is left out and why.
    force : bool, default False
        The same as ``resume=rerun``.
    yes : bool, default False
        Start more than 1,000 runs without asking again.
    end_runtime : bool, default False
        On Colab, end the runtime when all runs have ended well and everything is handed over, as ``%runtime end`` does.
        After a failure, or while other runs live, it is kept. For a notebook that ends here, without ``%join``.
    credentials : str, optional
        With ``runs=``, who asks Google: ``secret:NAME`` or the file of a service account's key; see ``%queue``.
    colab_terms : {"accepted"}, optional
        With ``runs=`` on Colab: you have read what its terms say of such workers. Otherwise it asks once a session.
    **options : str
        Options of the engine that ``on=`` names, such as ``partition=gpu``.

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
    from ..runs import in_run

    ui = (shell := session.current()).ui
    if in_run.is_run(ui):
        return in_run.assign(ui, shell.project)
    from ..payloads import forks
    from ..payloads.notebook_draft import NotebookDraft
    from ..runs import joined, plan, which_job
    from ..runs.order import Order
    from ..runs.scheduler import Feed

    others = {"n": n, "only": only, "first": first, "done_file": done_file}
    of = fork_queue.asked(runs, (watch, colab_terms, credentials), grid=grid, here=here, **others)
    wanted = fork_search.asked(search, grid, goal, (sampler, seed, stop, patience), time, runs=runs, **others)
    points, names, time, seed = fork_search.or_else(wanted, of, grid, n, time, seed, yes=yes)
    said = str(workers) != "auto"
    engine, current = _opened(on, options), _prepared(ui.notebook(notebook))
    mine = forks.the(current.content, current.running, named="" if current.current else current.name)
    project = which_job.which(shell, current)
    machine = engine.settle(project.data_job, _cwd(current), workers, gpus, ui)
    for warning in filter(None, (current.warning, *machine.warnings)):
        ui.warn(warning)
    at_once = _workers_that_fit(ui, machine.workers, fixed=said) if start == "live" else machine.workers
    limits, resume = _limits(time=time, cell_time=cell_time), plan.resume_word(resume, force=force)
    draft = NotebookDraft(
        current, mine, project.root, _cwd(current), start, seed, limits, keeps=resume == "keep", here=shell
    )
    order = Order(
        project.data_job,
        draft,
        points,
        draft.cwd,
        project.root,
        only=indices(only),
        first=count(first, name="first", least=0),
        done_file=done_file,
        resume=resume,
        engine=on,
        options=options,
        feed=Feed.said(at_once, try_, max_failures, retries),
        secrets=shell.secrets,
        workers=at_once if said else None,
        resources=machine,
        goal=checked_goal(goal) if wanted is None or len(wanted.rules.goals) == 1 else "",
        trend=words(trend),
    )
    place = mine if current.current else fork_cells.place_here(ui)
    joins = fork_cells.check_cells(draft, place, names, then)
    _check_end(project, joins, then, wanted=end_runtime, waits=not (detach or here is not None))
    if here is not None:
        _be_here(ui, *fork_search.here(order, wanted, str(here)))
        return None
    if dry_run:
        return fork_queue.preview(order, of) if wanted is None else fork_search.preview(order, wanted)
    shell.run_here = None
    if hint := which_job.of_former_name(project, current, draft.hashes):
        ui.say(hint)
    board, all_of_it = _start(ui, order, machine.note, of, wanted)
    if joins is not None:
        fork_cells.skip(ui, place, joins, here=of is None)
    shell.forked.append(joined.Forked(joins, all_of_it))
    if detach:
        return _detached(ui, board, project, current, "The queue's" if wanted is None else "The search's")
    tolerant = then == "continue" or wanted is not None or (max_failures is not None and joins is not None)
    fork_queue.watching(ui, board, project, order, of, tolerant=tolerant)
    fork_search.tell(ui, board, wanted)
    if joins is None:
        _without_join(ui, current, then, fork_cells.end(board, mine), end_runtime=end_runtime)
    return board


def _opened(on: str, options: Mapping[str, Any]) -> Engine:
    from ..engines import open_engine

    with slips_of(fork, options):
        return open_engine(on, options)


def _check_end(project: Project, joins: Cell | None, then: str | None, *, wanted: bool, waits: bool) -> None:
    """Check what ``--end-runtime`` needs, where it is wanted."""
    below = f"at its %join (cell {joins.number})" if joins is not None else "below it" if then == "continue" else ""
    if wanted:
        runtime.can_end_after_runs(project, waits=waits, goes_on=below)


def _prepared(notebook: Notebook) -> Notebook:
    from ..payloads import forks

    return replace(notebook, content=forks.prepare(notebook.content))


def _start(ui: UI, order: Order, note: str, of: Asked | None, search: Search | None) -> tuple[Board, Board]:
    """Start the runs; returns those to watch, and those that ``%join`` returns."""
    from ..runs import joined, submit

    if order.draft.start == "live":
        ui.skip_nothing()  # what an earlier %fork skips here, its runs execute
    if of is not None:
        return (fork_queue.start(order, of),) * 2
    if search is not None:
        return (fork_search.start(ui, order, search),) * 2
    board, made = submit.submit(order)
    _say(ui, order.job_folder.name, made, note)
    return board, joined.board(order.job_folder, made.order, made.keep)


def _without_join(ui: UI, current: Notebook, then: str | None, end: str, *, end_runtime: bool) -> None:
    """End Run All with a message, or tell the cells below, which are the runs' too, that this is no run."""
    if end_runtime:
        runtime.finish()
    if then == "stop" or (then is None and current.current):
        ui.stop(end)
    if current.current:
        ui.set_variables({"i_sub_job": None})


def _limits(**texts: str | None) -> dict[str, float | None]:
    return {name: None if text is None else seconds(text, name=name) for name, text in texts.items()}


def _be_here(ui: UI, order: Order, label: int) -> None:
    """Make this notebook the run of that number."""
    from ..runs.by_hand import claim
    from ..runs.in_run import become

    claimed = claim(order, label)
    ui.skip_nothing()
    session.current().run_here = claimed.folder
    if claimed.beside is not None:
        ui.say(
            f"{claimed.beside.name} is done and stays as it is: data_job is {claimed.folder.name} beside it "
            "(resume=keep uses the run's own)."
        )
    become(ui, claimed.name, {"i_sub_job": label, "data_job": str(claimed.folder), **claimed.parameters})


def _say(ui: UI, job: str, made: Plan, note: str) -> None:
    """Say what becomes of earlier runs, and how many go at once where that matters."""
    if note and len(made.execute) > 1:
        ui.say(note)
    if made.keep or made.skip or made.resumed or made.adopt:
        ui.say(f"{job}: {made}")
    if made.strangers:
        ui.say(
            f"{job} also holds runs of {', '.join(made.strangers)}, which stay as they are. "
            "%project job=NAME gives this notebook a job of its own."
        )


def _workers_that_fit(ui: UI, wanted: int, *, fixed: bool) -> int:
    """Compare the workers with the free memory: what was asked for stays, what we choose fits."""
    from ..kernels.live import workers_that_fit

    fit, words = workers_that_fit(wanted)
    if fit < wanted and fixed:
        ui.warn(f"{words}: workers={wanted} may be too many, {fit} would fit.")
    elif fit < wanted:
        ui.say(f"{words}: workers={fit}")
    return wanted if fixed else fit


def _cwd(current: Notebook) -> Path:
    """Folder in which a fresh kernel of the notebook starts."""
    return current.path.parent if current.path is not None else session.current().start_folder


def _detached(ui: UI, board: Board, project: Project, current: Notebook, whose: str) -> Board:
    job = project.job
    board.notes.append(f"%jobs watch {job} shows the runs, %jobs kill {job} ends them.")
    if current.current:
        which = whose if board.waits_for_more() else str(len(board))
        ui.stop(f"{which} runs go on by themselves. {board.notes[-1]}")
    return board
