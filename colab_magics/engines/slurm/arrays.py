"""What stands on the disk of a job array: which task executes which run, and the script that does it on a node.

``<job>/.scheduler/slurm/KEY`` holds ``tasks.txt``, a line for each task with the key of its attempt and the folder of
its run, the script, and what Slurm itself says of each task. It is written before the array is submitted: so whoever
finds a run's key without a reference can look for the array that it was to be a task of.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ... import process
from ...records import lock
from ...records.names import LOG, RECORD, REFERENCE, SCHEDULER
from ...session import RUN_VARIABLE
from ..base import Program, Submission

FOLDER = "slurm"
_TASKS, _SCRIPT = "tasks.txt", "script.sh"

OTHER_ATTEMPT, NOT_SEEN, SETUP_FAILED = 65, 66, 67
"""Exit statuses of the script, when it starts no run."""
_PATIENCE = 70
"""So many seconds a network's file system may show a node what stood there before."""


@dataclass(frozen=True)
class Array:
    """An array's folder.

    Parameters
    ----------
    folder : Path
        ``<job>/.scheduler/slurm/KEY``.
    """

    folder: Path

    @property
    def key(self) -> str:
        """What its comment at Slurm says."""
        return self.folder.name

    @property
    def script(self) -> Path:
        """What its tasks execute."""
        return self.folder / _SCRIPT

    def attempts(self) -> list[str]:
        """Return the keys of its tasks' attempts, in their order; none of an array that is void."""
        try:
            lines = (self.folder / _TASKS).read_text().splitlines()
        except OSError:
            return []
        return [line.partition(" ")[0] for line in lines]

    def void(self) -> None:
        """Have no task of it start a run any more, should it come late."""
        (self.folder / _TASKS).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove it: Slurm has refused it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def is_being_submitted(self) -> bool:
        """Whether sbatch is still at it, also for a scheduler that has died."""
        return lock.is_held(self.folder)

    def printed(self) -> str:
        """Return the pattern by which Slurm names the files of what it prints itself."""
        if "\\" in str(self.folder):
            return "/dev/null"  # then Slurm reads no pattern
        return str(self.folder).replace("%", "%%") + "/%A_%a.out"

    def job(self) -> str | None:
        """Return the array's number by the files that it has left; None when no task ever began."""
        for path in self.folder.glob("*.out"):
            if found := re.fullmatch(r"(\d+)_\d+\.out", path.name):
                return found[1]
        return None

    def said_of(self, job: str, task: int) -> str:
        """Return what Slurm itself has printed of a task."""
        try:
            return (self.folder / f"{job}_{task}.out").read_text(errors="replace")
        except OSError:
            return ""


def all_of(job_folder: Path) -> Iterator[Array]:
    """Yield the arrays of a job whose folders are there."""
    with contextlib.suppress(OSError):
        for path in sorted((job_folder / SCHEDULER / FOLDER).iterdir()):
            yield Array(path)


def remove_all(job_folder: Path) -> None:
    """Remove them."""
    shutil.rmtree(job_folder / SCHEDULER / FOLDER, ignore_errors=True)


def write(job_folder: Path, runs: Sequence[Submission], program: Program, *, setup: str, python: str) -> Array:
    """Write down an array that is about to be submitted; raises OSError."""
    array = Array(job_folder / SCHEDULER / FOLDER / uuid.uuid4().hex)
    array.folder.mkdir(parents=True, mode=0o700)
    lines = [f"{run.key} {run.folder.name}\n" for run in runs]
    process.write_whole(array.folder / _TASKS, "".join(lines))
    process.write_whole(array.script, script(array, job_folder, program, setup=setup, python=python))
    return array


def script(array: Array, job_folder: Path, program: Program, *, setup: str, python: str) -> str:
    """Return the script of an array; what users and folders are called stands in it quoted."""
    inside = job_folder / "sub_job"
    words = program.command(inside)
    command = ['"$folder"' if word == str(inside) else shlex.quote(word) for word in words]
    if python:
        command[0] = shlex.quote(python)
    lines = [
        "#!/bin/bash",
        "# Task N of an array executes the run that line N + 1 of tasks.txt names.",
        f"job={shlex.quote(str(job_folder))} array={shlex.quote(str(array.folder))}",
        "# What a node sees of a shared folder may be old for a while.",
        f'until [ -f "$array/{_TASKS}" ]; do',
        f'    [ -d "$job" ] && [ $SECONDS -lt {_PATIENCE} ] || exit {NOT_SEEN}',
        '    sleep 2; ls "$job"/.[!.]* >/dev/null 2>&1',
        "done",
        f'read -r key name < <(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" "$array/{_TASKS}")',
        f'[ -n "$name" ] || exit {OTHER_ATTEMPT}',
        'folder="$job/$name"',
        "# Another attempt may have come since: then this one starts nothing.",
        f'until [ -f "$folder/{RECORD}" ] && grep -qsF "$key" "$folder/{REFERENCE}"; do',
        f"    [ $SECONDS -lt {_PATIENCE} ] || exit {OTHER_ATTEMPT}",
        '    sleep 5; ls "$folder" >/dev/null 2>&1',
        "done",
        f'cd "$folder" || exit {NOT_SEEN}',
        f"[ -L {LOG} ] || exec >>{LOG} 2>&1",  # a link may lead anywhere
        f'export {RUN_VARIABLE}="$folder"',
        'if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then',
        '    echo "── Slurm starts this run again ($SLURM_RESTART_COUNT): it was preempted, or its node failed"',
        "fi",
        *_prepare(setup),
        f"exec {' '.join(command)}",
    ]
    return "\n".join(lines) + "\n"


def _prepare(setup: str) -> list[str]:
    if not setup:
        return []
    return [
        "# A notebook's server may have been started where nobody has told bash what a module is.",
        "for profile in /etc/profile.d/{modules,lmod,z00_lmod}.sh; do",
        '    type module >/dev/null 2>&1 || { [ -r "$profile" ] && . "$profile"; }',
        "done",
        f"eval {shlex.quote(setup)} || {{",
        f"    echo 'setup= failed: '{shlex.quote(setup)}; exit {SETUP_FAILED}",
        "}",
    ]
