"""``%runtime``: what this machine has, and its end where it is Colab's."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import session
from ..errors import Busy, ColabMagicsError, CommandFailed, InvalidInput, Unavailable
from ..ui import Table
from ..units import seconds, show_seconds, show_size, show_time
from . import call_only, subcommand

if TYPE_CHECKING:
    from ..checkout.project import Project
    from ..mirror.sync import Sync
    from ..transport.probe import Report


_LAST_LINES = 10.0
"""Seconds for the processes of runs that have ended to end, too."""


def runtime() -> Table:
    """Show where this is executed and what the machine has: GPU, memory, disk, processors, time up.

    Works everywhere: on Colab, in JupyterLab and VS Code, in a run, in a shell.

    Returns
    -------
    Table
        The values now.

    Examples
    --------
    %runtime
    %runtime end
    """
    from ..colab import describe
    from ..colab.runtime import content, on_colab
    from ..records.run import Run
    from ..transport import probe

    run = session.run_folder()
    name = Run.look(run).id if run is not None else ""
    folder = str(content()) if on_colab() else str(Path.cwd())
    (report,) = probe.probe([probe.HERE], folder=folder)
    rows = [
        ["this is", describe.describe(session.current().ui.where, name)],
        *_devices(report),
        ["memory", _free(report.memory_free, report.memory)],
        ["disk", f"{_free(report.disk_free, report.disk)} ({folder})"],
        [
            "processors",
            f"{report.cores or 'unknown'}" + (f", load {report.load:.1f}" if report.load is not None else ""),
        ],
        ["up", _up()],
    ]
    # What did not answer in time is not there to be shown.
    return Table(["", "now"], rows, notes=[text for text in (report.why, report.note) if text])


@subcommand(runtime)
def status() -> Table:
    """Show what the machine has; the same as ``%runtime``.

    Returns
    -------
    Table
        The values now.
    """
    return runtime()


@subcommand(runtime)
@call_only("force")
def end(*, force: bool = False, timeout: str = "30m") -> None:
    """End this Colab runtime, so that it uses no more compute units: after the last sync and Drive's last upload.

    It is kept, and says why, while runs live, when outputs are kept nowhere, or when the last sync or Drive's upload
    fails. What lies on the machine outside of the project is lost, as by Runtime → Disconnect and delete runtime.

    Parameters
    ----------
    force : bool, default False
        End it although runs live (they are ended first, as by ``%jobs kill``), and although outputs are kept nowhere.
        A last sync that fails keeps the runtime all the same.
    timeout : str, default "30m"
        How long the last sync, and Drive's uploads, may take.

    Raises
    ------
    Unavailable
        When this is no notebook on Colab, or its Drive could not be flushed.
    Busy
        While runs live; names them.
    InvalidInput
        When outputs are kept nowhere.
    """
    finish(force=force, timeout=seconds(timeout, name="timeout"))


def can_end_after_runs(project: Project, *, waits: bool, goes_on: str) -> None:
    """Check what ``%fork --end-runtime`` needs, before anything starts.

    Parameters
    ----------
    project : Project
        Whose runs they are.
    waits : bool
        Whether ``%fork`` waits for its runs.
    goes_on : str
        What this notebook does below the runs; empty when it ends there.
    """
    from ..colab import runtime as machine
    from ..mirror import control

    machine.can_end(session.current().ui.where)
    if not waits:
        raise InvalidInput("--end-runtime ends the runtime when %fork has waited for its runs.", "Leave --detach out.")
    if goes_on:
        raise InvalidInput(
            f"--end-runtime ends the runtime at %fork, and this notebook goes on {goes_on}.",
            "Leave it out, and write %runtime end in the last cell.",
        )
    if not control.running(project.data_job):
        raise _kept_nowhere([project.job])


def finish(*, force: bool = False, timeout: float = 1800.0) -> None:
    """End the runtime; see `end`."""
    from ..colab import runtime as machine

    ui = session.current().ui
    machine.can_end(ui.where)
    _without_runs(force=force)
    if not force:
        _refuse_what_is_kept_nowhere()
    try:
        _hand_over(timeout, force=force)
    except ColabMagicsError as error:
        ui.warn("Nothing is kept in step any more until %sync starts it again.")
        error.what = f"The runtime is kept: {error.what}"
        error.mend = error.mend or "Look at %sync status, then say it again."
        raise
    ui.say("Everything is handed over. The runtime ends now: save nothing more in it.")
    machine.unassign(ui.where)


def _devices(report: Report) -> list[list[str]]:
    if not report.gpus:
        return [["GPU", "none"]]
    return [
        [
            "GPU" if len(report.gpus) == 1 else f"GPU {gpu.index}",
            f"{gpu.name}: {_free(gpu.free, gpu.total)}, {gpu.percent} % busy",
        ]
        for gpu in report.gpus
    ]


def _free(free: int | None, total: int | None) -> str:
    return "unknown" if free is None or total is None else f"{show_size(free)} free of {show_size(total)}"


def _up() -> str:
    import psutil

    # In a container the first process is as old as the container; the machine below it may be older.
    try:
        since = psutil.Process(1).create_time()
    except psutil.Error:
        since = psutil.boot_time()
    return f"{show_seconds(max(0.0, time.time() - since))}, since {show_time(since)}"


def _project() -> Project | None:
    from ..checkout.project import find_project

    here = session.current()
    found: Project | None = here.project or find_project(Path.cwd(), warn=here.warn_once)
    return found


def _job_folders() -> list[Path]:
    """Return the folders of all jobs that are known here: the project's, and those that are kept somewhere."""
    from ..mirror import control
    from ..runs.select import job_names

    project = _project()
    mine = [project.data_job.parent / name for name in job_names(project.data_job.parent)] if project else []
    return list(
        {os.path.realpath(folder): folder for folder in (*mine, *(one.source for one in control.known()))}.values()
    )


def _without_runs(*, force: bool) -> None:
    """Refuse while runs live, or end them."""
    from ..records.run import runs_of
    from ..records.status import ENDED
    from ..runs import board, scheduler

    live = [
        run
        for folder in _job_folders()
        for run in runs_of(folder)
        if (now := run.status().phase) not in ENDED
        and (now == "running" or run.runner_lives() or scheduler.is_running(folder))
    ]
    if not live:
        _until_their_logs_are_closed()
        return
    if not force:
        names = ", ".join(run.id for run in live[:10]) + (f" … ({len(live)} in all)" if len(live) > 10 else "")
        raise Busy(
            f"The runtime is kept: {'a run has' if len(live) == 1 else f'{len(live)} runs have'} not ended: {names}.",
            "%jobs watch waits for them; %runtime end --force ends them first, as %jobs kill does.",
        )
    board.kill(live, session.current().ui)
    _until_their_logs_are_closed()


def _until_their_logs_are_closed() -> None:
    """Wait a moment for the processes of runs that have just ended: they write their last lines."""
    from ..runs import scheduler

    end = time.monotonic() + _LAST_LINES
    while time.monotonic() < end and any(scheduler.is_running(folder) for folder in _job_folders()):
        time.sleep(0.1)


def _refuse_what_is_kept_nowhere() -> None:
    from ..mirror import control

    kept = {os.path.realpath(one.source) for one in control.known() if one.alive or _has_all(one)}
    lost = [folder.name for folder in _job_folders() if os.path.realpath(folder) not in kept and _has_files(folder)]
    if lost:
        raise _kept_nowhere(lost)


def _kept_nowhere(jobs: Sequence[str]) -> InvalidInput:
    return InvalidInput(
        f"No sync keeps the outputs of {', '.join(jobs)}, so they would be lost with the runtime, which is kept.",
        "%sync to=drive (or another Place) keeps them; %runtime end --force lets them go.",
    )


def _has_all(handle: Sync) -> bool:
    """Whether a sync that has ended had handed over what its folder holds now."""
    found = handle.status()
    if handle.state() != "STOPPED" or not found.get("flushed"):
        return False
    at = max((found.get(which) or {}).get("at") or 0.0 for which in ("good", "handed"))
    files = (os.path.join(top, name) for top, _, names in os.walk(handle.source) for name in names)
    return all(os.lstat(file).st_mtime <= at + 1.0 for file in files)


def _has_files(folder: Path) -> bool:
    return any(files for _, _, files in os.walk(folder))


def _hand_over(timeout: float, *, force: bool) -> None:
    """Hand over a last time from every folder that is kept, and wait for Drive's uploads."""
    from ..colab import mount
    from ..mirror import control
    from ..transport.places.drive import drive_is_mounted

    ui, found = session.current().ui, control.running()
    with ui.progress("handing over a last time"):
        for handle in found:
            handle.stop(timeout)
    left = [text for handle in found if (text := _left_out(handle))]
    if left and not force:
        raise CommandFailed(
            "\n".join(left), "Close those files; then %sync, and %runtime end again (--force leaves them)."
        )
    for text in left:
        ui.warn(text)
    if drive_is_mounted():
        if not mount.is_mounted():
            raise Unavailable("The mount of Google Drive has died.", "%sync mounts it again; then say it again.")
        with ui.progress("waiting for Drive's uploads"):
            mount.flush(timeout)


def _left_out(handle: Sync) -> str:
    """Say what a sync that has ended did not hand over."""
    found = handle.status()
    waiting = (found.get("pending") or {}).get("files")
    if not waiting and not found.get("skipped_count"):
        return ""
    return handle.warning or f"{waiting} files of {handle.source} were not handed over."
