"""What this machine holds of a queue: ``claim.json`` in the folder of a run, written before the run begins.

Whoever schedules the job next finds there what is still to be held, and what is still to be told. It names the queue
without its password.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ... import process
from ...checkout.project import real_folder
from ...queues.base import Claim
from ...records import schema
from ...records.names import CLAIM, named_folder
from ...records.run import Run, runs_of

STOPPED, KILLED = "stopped", "killed"
"""What the table says of a run that people have ended there, and of one that was ended here: nobody claims those."""


def write(folder: Path, queue: str, claim: Claim, *, over: bool = False) -> None:
    """Write down that a run is held, or (`over`) that the queue knows its end; raises OSError."""
    said = {"queue": queue, "uid": claim.uid, "name": claim.name, "worker": claim.worker, "epoch": claim.epoch}
    said |= {"attempts": claim.attempts, "config": dict(claim.config), "over": over, "boot": process.boot_id()}
    process.write_json(folder / CLAIM, said, durable=False)


def read(folder: Path, queue: str | None = None) -> dict[str, Any] | None:
    """Return what is written of a run's claim, that of `queue` alone; None when there is none."""
    found = schema.read_or_nothing(folder / CLAIM, schema.Claimed)
    return found if found and (queue is None or found["queue"] == queue) else None


def claim_of(said: dict[str, Any]) -> Claim:
    """Return the claim that `read` has found."""
    return Claim(
        said["uid"], said["name"], said["worker"], said["epoch"], said.get("config") or {}, said.get("attempts", 1)
    )


def runs(job_folder: Path, queue: str) -> list[Run]:
    """Return the runs of a queue that a job has here, in the order of their names."""
    return [run for run in runs_of(job_folder) if run.is_named and read(run.folder, queue) is not None]


def held(job_folder: Path, queue: str) -> Iterator[tuple[Run, Claim, bool]]:
    """Yield the runs whose end the queue does not know yet, and whether they were claimed since the machine started."""
    for run in runs(job_folder, queue):
        said = read(run.folder, queue) or {}
        if said and not said.get("over"):
            yield run, claim_of(said), said.get("boot") == process.boot_id()


def folder_of(job_folder: Path, queue: str, claim: Claim) -> Path:
    """Return the folder for a run: the one that it had before, or one that no other run has.

    Raises
    ------
    ColabMagicsError
        When it is a link.
    """
    folder = real_folder(job_folder, named_folder(claim.name))
    said = schema.read_or_nothing(folder / CLAIM, schema.Claimed)
    mine = said.get("queue") == queue and said.get("uid") == claim.uid
    if mine or not folder.exists():
        return folder
    return real_folder(job_folder, named_folder(claim.name, other=f"{queue}\0{claim.uid}"))
