"""Waiting for runs, and what comes when they have ended: results handed over, notes, the error of failed ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NoReturn

from ..checkout.project import Project
from ..errors import ColabMagicsError
from ..mirror import control
from ..payloads import start_up
from ..records.run import Run
from ..ui import UI
from ..units import show_seconds
from . import scheduler
from .board import Board
from .failures import failure
from .plan import count_phases
from .show import grow


def watch(ui: UI, board: Board, project: Project, *, tolerant: bool) -> None:
    """Show the runs until they have ended, hand their results over, and raise for those that failed (or warn)."""
    began = time.time()
    if not len(board) and not board.waits_for_more():
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
    if error is not None and not tolerant:
        raise error
    if error is not None:
        ui.warn(str(error))


def wait(ui: UI, board: Board, project: Project, retries: int = 0) -> None:
    """Show what a command prints until it has ended, or how many are doing, and raise for those that failed.

    `retries` is how often it is tried again: each attempt is shown.
    """
    if len(board) != 1 or board.kept:
        watch(ui, board, project, tolerant=False)
        return
    (run,) = board.runs
    last = run.attempt + retries
    try:
        while True:
            for text in grow(run, printed_only=True):
                ui.show(text)
            while _is_tried_again(run, last):
                time.sleep(0.05)
            if (again := Run.look(run.folder)).attempt == run.attempt:
                break
            run = again
    except KeyboardInterrupt:
        _stopped_watching(ui, board, project.job)
    board.shown = True
    hand_over(ui, project.data_job)
    error = failure(board.statuses())
    if error is not None:
        raise error


def _is_tried_again(run: Run, last: int) -> bool:
    """Whether another attempt at a run is to come that has ended badly, and is not there yet."""
    now = Run.look(run.folder)
    failed = now.status().phase in ("failed", "interrupted")
    return now.attempt == run.attempt < last and failed and scheduler.is_running(run.folder.parent)


def _stopped_watching(ui: UI, board: Board, job: str) -> NoReturn:
    ui.stop(
        f"Stopped watching ({count_phases(board.statuses())}). The runs go on: %jobs watch {job} shows them, "
        f"%jobs kill {job} ends them.",
        interrupted=True,
    )


def hand_over(ui: UI, data_job: Path) -> None:
    """Hand everything that changed in a job's folder over to its Places now."""
    for sync in control.running(source=data_job):
        try:
            with ui.progress(f"handing the results over to {sync.place}"):
                sync.now()
        except ColabMagicsError as error:
            # The results are here and the sync goes on trying: the runs' outcome matters more.
            ui.warn(str(error))


def summary(board: Board) -> str:
    """Write how the runs ended, and how long those took that were executed."""
    statuses = board.statuses()
    executed = [status for run, status in statuses if run.folder not in board.kept]
    began = [status.started for status in executed if status.started]
    ended = [status.ended for status in executed if status.ended]
    kept = f", {len(statuses) - len(executed)} of them kept{',' * bool(began)}" if len(executed) < len(statuses) else ""
    took = f" in {show_seconds(max(ended) - min(began))}" if began and ended else ""
    return f"{count_phases(statuses)}{kept}{took}."
