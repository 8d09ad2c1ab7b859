"""``%submit``: run a command, or one command with many values, as ``%fork`` runs a notebook."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from .. import session
from ..errors import InvalidInput
from ..units import count, indices, seconds, words
from . import bare, body, call_only, engine_of, fork_queue, slips_of, submit_launch
from .submit_bundle import write_bundle
from .submit_interactive import stay

if TYPE_CHECKING:
    from pathlib import Path

    from ..checkout.project import Project
    from ..engines.base import Resources
    from ..payloads.command import CommandDraft
    from ..runs.board import Board
    from ..runs.plan import Plan, Point
    from ..ui import UI, Table
    from .submit_launch import Launches


@body("grid")
@bare(try_="end")
@engine_of(submit_launch.engine_of)
@call_only("yes", "force", "bundle", "python", "platform", "requirements", "inputs", "colab_terms")
def submit(
    *command: str,
    grid: Mapping[str, Any] | None = None,
    n: int = 1,
    runs: str | None = None,
    only: str | None = None,
    first: int = 0,
    done_file: str | None = None,
    workers: str = "auto",
    gpus: str | float | None = None,
    on: str | None = None,
    need: str | None = None,
    time: str | None = None,
    retries: int = 0,
    max_failures: int | None = None,
    resume: Literal["keep", "rerun"] | None = None,
    try_: str | None = None,
    outputs: str | None = None,
    watch: bool = False,
    wait: bool = False,
    interactive: bool = False,
    dry_run: bool = False,
    force: bool = False,
    yes: bool = False,
    credentials: str | None = None,
    colab_terms: Literal["accepted"] | None = None,
    bundle: str | None = None,
    python: str | None = None,
    platform: str | None = None,
    requirements: str | None = None,
    inputs: str | None = None,
    **options: Any,
) -> Board | Table | None:
    """Run a command as a run of this job, and come back at once.

    The words stand behind ``--`` and go to the program as they are; a whole line in quotes goes to the shell::

        %submit -- python train.py --lr 0.1
        %submit -- "python prepare.py && python train.py > $data_job/out.txt"

    It starts in the project's folder, or in the current one where the project is elsewhere and holds data alone;
    ``python`` is the interpreter of this notebook. ``{i_sub_job}`` and ``{data_job}`` in the words are the run's number
    and its own folder, which it finds as environment variables too. ``%%submit`` takes a grid from the cell (YAML, see
    ``%fork``), and makes a run of each of its points::

        %%submit workers=2 -- python train.py --lr {lr} --out {data_job}
        lr: [1e-3, 1e-4]

    What it prints is in the run's log (``%jobs logs -f``); ``%jobs`` shows it beside the runs of notebooks. It goes on
    when this kernel restarts, and ends with everything that it has started, ``nohup`` or not. Commands of a job that
    has others in execution wait for their turn. A command that has done its work is kept when the line is said again;
    when files of the project that it executes have changed since, the line asks: ``resume=keep`` or ``resume=rerun``.

    ``%submit launch.yaml`` reads a file of models, datasets and hyper-parameters (also in ``config/``), and makes a run
    on Kubernetes of each combination; a cell below replaces what the file says, such as ``run:``.

    With ``--bundle FILE`` nothing is started: the command, its code and its packages are written into one file, which
    runs on any Linux machine of the same kind without a network, this package or root's rights::

        %submit --bundle train.bundle -- python train.py --lr 0.1
        sh train.bundle                         (there; --help says more, and further words follow the command's)

    Parameters
    ----------
    *command : str
        The program and its words, or one line for the shell.
    grid : mapping, optional
        Parameters and their values; the cell's body, or a mapping in Python.
    n : int, default 1
        How often; with a grid, how often each point.
    runs : str, optional
        Take the runs from this queue, whose columns are the names in braces: ``%submit runs=runs.db -- python train.py
        --lr {lr}``; see ``%queue`` and ``%fork``.
    only, first, done_file : str, int, str, optional
        Which runs; see ``%fork``.
    workers : str, default "auto"
        How many at once. ``auto`` is one for each free GPU, without GPUs one for every two cores. Where runs of the job
        are in execution it counts for them, too.
    gpus : str, optional
        GPUs of each run; see ``%fork``.
    on : str, optional
        The engine: where runs execute. ``local`` is this machine, and the default; ``ssh:gpu1,gpu2`` are others that
        ssh reaches, ``slurm`` is the cluster on whose login node this is, ``slurm@login`` one that ssh reaches,
        ``kubernetes`` is the cluster that ``kubectl`` asks.
    need : str, optional
        What one run needs: ``need="3GB disk, 1.5GB gpu, 2 cpu"`` (see ``%host probe``). Of the hosts that ``on=ssh:``
        names, or ssh's configuration, the one with just enough is taken, and it is said why each other one lost. It
        keeps that free until the run has ended: a lease, which all who look by ``need=`` see. One run at a time goes
        there; with ``workers=3`` the host has room for three.
    time : str, optional
        How long a run may take: ``2h``. For ever by default.
    retries, max_failures : int, optional
        How often a run that failed is executed again, and how many may fail; see ``%fork``.
    resume : {"keep", "rerun"}, optional
        What to do with runs that are done. ``rerun`` executes them anew: the old folders move aside.
    try_ : str, optional
        The first run goes alone; see ``%fork``.
    outputs : str, optional
        With ``on=`` another machine: files and folders of the project that the command writes there, and that come home
        when it has ended: ``outputs=plots,*.csv``. ``data_job`` comes by itself.
    watch : bool, default False
        With ``runs=``, wait for runs that are added when none is left.
    wait : bool, default False
        Show what it prints until it has ended, or the table of many; an error tells how it ended, and in a shell the
        exit status is the command's own. Interrupting stops the watching only.
    interactive : bool, default False
        With ``on=kubernetes``, make a pod that stays, with the project's code in it, and say how it is entered and
        deleted.
    dry_run : bool, default False
        Start nothing: show the runs.
    force : bool, default False
        The same as ``resume=rerun``.
    yes : bool, default False
        Start more than 1,000 runs without asking again.
    credentials : str, optional
        With ``runs=``; see ``%queue``.
    colab_terms : {"accepted"}, optional
        On Colab with ``runs=``; see ``%fork``.
    bundle : str, optional
        Write this file, and start nothing. Options of runs do not count then, and there is no grid.
    python, platform : str, optional
        What the bundle is for: ``python=3.12``, ``platform=aarch64``, or with the oldest C library that it is to run
        on, ``platform=manylinux_2_17_x86_64``. By default this Python and this machine.
    requirements : str, optional
        The requirements file of the bundle, from the project's folder, or ``none``. By default the project's
        requirements.txt or pyproject.toml, or what its modules import.
    inputs : str, optional
        What of data_project goes into the bundle: ``full``, or names with commas between them. By default nothing.
    **options : str
        Options of the engine that ``on=`` names, such as ``partition=gpu``; ``python=`` may be one of them, too.

    Returns
    -------
    Board, Table or None
        The runs, as a handle that shows itself; the preview with ``--dry-run``; what the bundle holds; None in a run.

    Raises
    ------
    InvalidInput, Unavailable, Busy
        Before anything was started; the text says what to do.
    RunsFailed
        With ``--wait``, when one or more failed.
    """
    _check_words(command)
    of_bundles = {"python": python, "platform": platform, "requirements": requirements, "inputs": inputs}
    if bundle is not None or interactive:
        of_runs = {"n": n != 1, "only": only, "first": first, "done-file": done_file, "workers": workers != "auto"}
        of_runs |= {"need": need, "time": time, "retries": retries, "try": try_, "max-failures": max_failures}
        of_runs |= {"resume": resume, "outputs": outputs, "wait": wait, "force": force}
        if bundle is None:
            options |= _of_engine(on, of_bundles)
            return stay(
                command, on, options, gpus, of_runs | {"a grid": grid, "runs": runs, **of_bundles}, dry_run=dry_run
            )
        of_runs |= {"gpus": bool(gpus), "on": on, "interactive": interactive, "dry-run": dry_run} | options
        return write_bundle(list(map(str, command)), grid, bundle, of_runs, **of_bundles)
    options |= _of_engine(on, of_bundles)
    if said := [name for name, value in of_bundles.items() if value]:
        raise InvalidInput(f"{said[0]}= says how a bundle is made.", "Leave it out, or name a file: --bundle FILE")
    from ..engines.base import output_patterns
    from ..runs import in_run, plan, which_job
    from ..runs import submit as room
    from ..runs.order import Order
    from ..runs.scheduler import Feed

    shell = session.current()
    ui = shell.ui
    if in_run.is_run(ui):
        ui.say("A run starts no others: %submit is the main notebook's.")
        return None
    how = (watch, colab_terms, credentials)
    n, limit = count(n, name="n"), None if time is None else seconds(time, name="time")
    project = which_job.of_commands(shell)
    folder, launches = which_job.folder_of_commands(project), submit_launch.asked(command, grid, n, project)
    of = fork_queue.asked(runs, how, grid=launches or grid, n=n - 1, only=only, first=first, done_file=done_file)
    points, draft = _drafted(command, grid, n, launches, folder, limit, yes=yes)
    if draft.unknown and of is None:
        ui.warn(f"{{{draft.unknown[0]}}} is no parameter, and stays in the command as it is.")
    with ExitStack() as undo, slips_of(submit, options):
        if launches is not None and need is None:
            on, machine = launches.settle(project, folder, on, options, workers, gpus)
        else:
            on = submit_launch.ON if launches is not None else on
            on, machine = _where(ui, project, folder, on, options, need, workers, gpus, undo, dry_run=dry_run)
        for warning in machine.warnings:
            ui.warn(warning)
        order = Order(
            project.data_job,
            draft,
            points,
            folder,
            project.root,
            only=indices(only),
            first=count(first, name="first", least=0),
            done_file=done_file,
            resume=plan.resume_word(resume, force=force),
            engine=on,
            options=options,
            feed=Feed.said(machine.workers, try_, max_failures, retries),
            secrets=shell.secrets,
            workers=machine.workers if str(workers) != "auto" else None,
            resources=machine,
            outputs=output_patterns(outputs),
        )
        if dry_run:
            return fork_queue.preview(order, of)
        if of is not None:
            return fork_queue.of_commands(ui, project, order, of, undo, wait=wait)
        board, made = room.submit(order)
        if made.execute:
            undo.pop_all()  # what was promised is the runs' from now on
    return _shown(ui, board, made, project, order.feed.retries, wait=wait)


def _check_words(command: Sequence[Any]) -> None:
    """Raise InvalidInput for what Python passes and is no word of a command, such as a grid."""
    for word in command:
        if isinstance(word, Mapping):
            raise InvalidInput("A mapping is no word of a command.", 'Write submit("…", grid={"lr": [0.1, 0.01]}).')
        if not isinstance(word, str | int | float | os.PathLike):
            raise InvalidInput(
                f"A {type(word).__name__} is no word of a command.", 'Write submit("python", "train.py"), or one text.'
            )


def _drafted(
    command: Sequence[str],
    grid: Mapping[str, Any] | None,
    n: int,
    launches: Launches | None,
    folder: Path,
    limit: float | None,
    *,
    yes: bool,
) -> tuple[list[Point], CommandDraft]:
    """Return the runs, and what they execute."""
    from ..payloads.command import CommandDraft
    from ..runs.grid import asked_for

    if launches is not None:
        return launches.points(yes=yes), launches.draft(folder, limit)
    points, names = asked_for(grid, n, yes=yes)
    return points, CommandDraft(list(map(str, command)), folder, limit, names)


def _shown(ui: UI, board: Board, made: Plan, project: Project, retries: int, *, wait: bool) -> Board:
    """Say what becomes of the runs, and wait for them where that is asked for."""
    from ..runs import watching

    if made.keep or made.resumed or made.adopt or made.skip:
        ui.say(f"{project.job}: {made}" + ("; --force executes what is done anew." if made.keep else ""))
    if wait:
        watching.wait(ui, board, project, retries)
    elif made.execute:
        board.notes.append(_how_to_go_on(board))
    return board


def _how_to_go_on(board: Board) -> str:
    ids = board.job_words()
    if len(board) == 1:
        return f"%jobs logs -f {ids} shows what it prints, %jobs kill {ids} ends it."
    return f"%jobs watch {ids} shows them, %jobs kill {ids} ends them."


def _of_engine(on: str | None, others: dict[str, Any]) -> dict[str, Any]:
    """Take those of `others` that are options of the engine, where it has options of these names."""
    from ..engines import engine_class
    from ..engines.options import fields

    known = fields(engine_class(on).Options) if on is not None and any(others.values()) else {}
    return {name: others.pop(name) for name in list(others) if name in known and others[name] is not None}


def _where(
    ui: UI,
    project: Project,
    folder: Path,
    on: str | None,
    options: Mapping[str, Any],
    need: str | None,
    workers: str,
    gpus: str | float | None,
    undo: ExitStack,
    *,
    dry_run: bool,
) -> tuple[str, Resources]:
    """Return the engine, and what runs get there; by ``need=`` it is the host that keeps that free until `undo`."""
    from ..engines import open_engine

    if need is None:
        on = on or "local"
        return on, open_engine(on, options).settle(project.data_job, folder, workers, gpus, ui)
    from ..runs import scheduler
    from ..transport import hosts, pick, probe
    from ..transport.choose import choose
    from ..transport.host_leases import Lease
    from ..transport.need import Need

    if gpus is not None:
        raise InvalidInput("need= says which GPUs a run gets, and so does gpus=.", "Leave one of both out.")
    engine, _, said = (on or "ssh").partition(":")
    if engine != "ssh":
        raise InvalidInput(f"need= picks a host, and on={on} is none.", "Write on=ssh:gpu1,gpu2, or leave on= out.")
    names = words(said) or [one.name for one in hosts.names()]
    if not names:
        raise InvalidInput("ssh's configuration names no host.", "Name one: on=ssh:HOST, or %host add")
    at_once = 1 if str(workers) == "auto" else count(workers, name="workers")
    lease = Lease(Need.from_text(need).times(at_once), f"{project.name}/{project.job}", at_once=at_once)
    if scheduler.is_running(project.data_job):
        # They are of one scheduler, which feeds one engine; the host looks whether there is room when it starts them.
        on = str(scheduler.last_plan(project.data_job).get("engine"))
        if not set(words(on.removeprefix("ssh:"))) <= set(names):
            raise InvalidInput(
                f"Runs of {project.job} are being executed with on={on}, which need= may not pick now.",
                "Wait for them (%jobs watch), or use another job: %project job=NAME",
            )
        ui.say(f"Runs of {project.job} are being executed on {on.removeprefix('ssh:')}: these follow them there.")
    else:
        with ui.progress(f"asking {names[0] if len(names) == 1 else f'{len(names)} hosts'}"):
            reports = probe.probe(names)
            choice = choose(reports, lease.need)
            if choice.report is None:
                raise pick.none_has(choice)
            if not dry_run:
                picked = pick.pick(reports, lease)
                undo.callback(picked.drop)
                choice, lease = picked.choice, picked.lease
                if not picked.is_kept:
                    ui.warn(
                        f"{choice.host} keeps no lease (it has no flock, or no /tmp of all): others may choose it, too."
                    )
        on = f"ssh:{choice.host}"
        ui.say("\n".join([str(choice), *(f"  {host}: {why}" for host, why in choice.lost.items())]))
    machine = open_engine(on, options).settle(project.data_job, folder, at_once, 0, ui)
    return on, replace(machine, lease=lease.record)
