"""Folders of runs, made ready for an attempt: their records, and the notebooks of attempts before."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import process
from ..checkout.project import real_folder
from ..errors import ColabMagicsError, NotFound
from ..payloads import payload_of
from ..payloads.base import Draft
from ..records import schema
from ..records.names import RECORD, STATE, VERDICT, folder_name
from ..records.run import Run, ended_attempts
from ..records.schema import State, Verdict
from .plan import Plan
from .scheduler import check_real

SUPERSEDED = ".superseded"
"""Folder of a job that keeps what reruns moved aside."""


def write(plan: Plan, job_folder: Path, draft: Draft, common: Mapping[str, Any]) -> list[Path]:
    """Write the folders of the runs to execute.

    Parameters
    ----------
    plan : Plan
        What `make` decided.
    job_folder : Path
        ``data_job`` of the job.
    draft : Draft
        What the runs execute.
    common : mapping
        What all records of this call share: that of the draft, engine, cwd, code, commit.

    Returns
    -------
    list of Path
        Folders in the order of execution.

    Raises
    ------
    ColabMagicsError
        When a folder cannot be written, or is a link.
    """
    for own in (SUPERSEDED, *(folder_name(index) for index, _ in plan.execute)):
        real_folder(job_folder, own)
    folders = []
    try:
        for run in plan.aside:
            _move_aside(run, job_folder)
        for run in plan.taken:
            _take_over(run, common)
        for index, point in plan.execute:
            folder = job_folder / folder_name(index)
            check_real(folder)
            folder.mkdir(parents=True, exist_ok=True)
            before, attempt = ended_attempts(folder), next_attempt(folder)
            draft.write(folder)
            record = {
                "format": 1,
                "index": index,
                "i_sub_job": point.i_sub_job(index),
                "repeat": point.repeat,
                "parameters": dict(point.parameters),
                "attempt": attempt,
                "attempts": before,
                "submitted": time.time(),
                **common,
                **point.record,
            }
            process.write_json(folder / RECORD, record)
            folders.append(folder)
    except OSError as error:
        raise ColabMagicsError(
            f"The runs' folders cannot be written: {error.strerror}: {error.filename or job_folder}.",
            "Nothing was started. Make room, or choose another folder by %project root=.",
        ) from error
    return folders


def _take_over(run: Run, common: Mapping[str, Any]) -> None:
    """Write down that a run belongs to this notebook and fork now."""
    record = process.read_json(run.folder / RECORD)
    if record is not None and run.status().phase != "running":
        before = record.get("notebook")
        own = {key: common[key] for key in ("notebook", "notebook_path", "fork") if key in common}
        own |= {"made_by": record.get("made_by", before)}
        process.write_json(run.folder / RECORD, {**record, **own})


def renew(folder: Path) -> None:
    """Make a run that ended ready for another attempt, as it is."""
    record, before = process.read_json(folder / RECORD) or {}, ended_attempts(folder)
    fresh = {"attempt": next_attempt(folder), "attempts": before, "submitted": time.time()}
    process.write_json(folder / RECORD, {**record, **fresh})


def next_attempt(folder: Path) -> int:
    """Return the number of the attempt to come, and keep the notebook of the one before."""
    said = [_attempt_in(folder / name, kind) for name, kind in ((STATE, State), (VERDICT, Verdict))]
    try:
        run = Run.load(folder)
        attempt, payload = run.attempt, payload_of(run.record)
        said += [attempt] if run.verdict() is not None else []
    except NotFound:
        # Nobody knows what these say it of: it is no attempt of the run to come.
        attempt, payload = max(said), payload_of({})
        if not attempt:
            return 1
    if attempt not in said:
        # It never came to that attempt: neither a runner nor a scheduler has said anything.
        return attempt
    payload.set_aside(folder, attempt)
    return attempt + 1


def _attempt_in(file: Path, kind: Any) -> int:
    """Return the attempt that a file speaks of, 0 without one; a file that says nothing that can be read is removed."""
    try:
        return int((schema.read(file, kind) or {}).get("attempt", 0))
    except schema.Unreadable:
        file.unlink()
        return 0


def _move_aside(run: Run, job_folder: Path) -> None:
    base = job_folder / SUPERSEDED
    check_real(base)
    base.mkdir(exist_ok=True)
    for number in itertools.count(1):
        target = base / f"{run.folder.name}.{number}"
        if not target.exists():
            shutil.move(run.folder, target)
            return
