"""A word to the user when runs have ended: the front end's own, and a command of the user's.

The command stands in the user's ``colab_magics/config.toml`` and nowhere else: ``[jobs.notify] command = "…"``.
The job's scheduler starts it, so that it comes also when nobody watches; what is said is its last argument.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence, Set
from pathlib import Path

from .. import process
from ..checkout import trust
from ..errors import InvalidInput
from ..records.names import LOG, SCHEDULER
from ..records.run import Run, runs_of
from ..records.status import Status
from ..ui import UI
from .plan import count_phases

TITLE = "colab_magics"
_LONG = 30.0
"""Whoever has waited for less is still there."""


def text(job: str, statuses: Sequence[tuple[Run, Status]]) -> str:
    """Write what is said."""
    return f"{job}: {count_phases(statuses)}"


def watched(ui: UI, statuses: Sequence[tuple[Run, Status]], *, took: float) -> None:
    """Tell whoever has watched runs that they have ended."""
    if statuses and took >= _LONG:
        jobs = ", ".join(dict.fromkeys(run.job for run, _ in statuses))
        ui.notify(TITLE, text(jobs, statuses))


def command() -> str:
    """Return the user's command; empty when there is none.

    Raises
    ------
    InvalidInput
        When the user's file cannot be read so.
    """
    file = trust.user_file()
    try:
        tables = trust.toml(file, file.read_bytes())
    except OSError:
        return ""
    jobs = trust.as_table(file, "jobs", tables.get("jobs", {}))
    return str(trust.as_table(file, "jobs.notify", jobs.get("notify", {})).get("command") or "")


def start(line: str, said: str, *, log: Path | str) -> None:
    """Start a command with what is said as its last argument; what it prints goes into a log.

    Raises
    ------
    InvalidInput
        When it is none that can be started.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InvalidInput(f"command={line} cannot be read: {error}.", "Mend its quotes.") from None
    if not words or shutil.which(words[0]) is None:
        raise InvalidInput(f"There is no program {words[0] if words else line!r}.", "Install it, or write its path.")
    try:
        process.start_detached([*words, said], log_file=log)
    except OSError as error:
        raise InvalidInput(
            f"{words[0]} cannot be started: {error.strerror}.", "Look at its path and rights."
        ) from error


def ended(job_folder: Path, names: Set[str] = frozenset()) -> str:
    """Start the user's command for a job whose runs have ended; returns why that could not be, else nothing.

    Parameters
    ----------
    job_folder : Path
        ``data_job`` of the job.
    names : set of str
        The folders of the runs that it is told of; all when empty.
    """
    try:
        if line := command():
            runs = [run for run in runs_of(job_folder) if not names or run.folder.name in names]
            said = text(job_folder.name, [(run, run.status()) for run in runs])
            start(line, said, log=job_folder / SCHEDULER / LOG)
    except InvalidInput as problem:
        return f"no notification: {problem.what}"
    return ""
