"""Waiting for runs, and what comes when they have ended: results handed over, notes, the error of failed ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NoReturn

from ..checkout.project import Project
from ..errors import ColabMagicsError
from ..mirror import control
from ..payloads import start_up
from ..ui import UI
from ..units import show_seconds
from .board import Board, failure
from .plan import count_phases


def watch(ui: UI, board: Board, project: Project, *, tolerant: bool) -> None:
    """Show the runs until they have ended, hand their results over, and raise for those that failed (or warn)."""
    began = time.time()
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
    if error is not None and not tolerant:
        raise error
    if error is not None:
        ui.warn(str(error))


def _stopped_watching(ui: UI, board: Board, job: str) -> NoReturn:
    ui.stop(
        f"Stopped watching ({count_phases(board.statuses())}). The runs go on: %jobs watch {job} shows them, "
        f"%jobs kill {job} ends them."
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
