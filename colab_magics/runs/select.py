"""Which runs do words name: ``baseline``, ``baseline/3``, ``3-5``, ``failed``, ``baseline/failed``, ``lr-3``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

from ..checkout.project import real_folder
from ..errors import InvalidInput, NotFound, Unavailable, did_you_mean
from ..records.names import RECORD, STATE
from ..records.run import Run, runs_of
from ..units import indices, ranges

PHASES = ("failed", "running", "done", "stopped", "interrupted", "killed", "waiting", "cancelled", "unreadable")
"""Words that name runs by how they stand."""
_INDICES = re.compile(r"[\d\s,–-]*\d[\d\s,–-]*")


class Choice(NamedTuple):
    """What one word names: the job's folder, the word within the job (empty: all of it), and the runs."""

    job_folder: Path
    which: str
    runs: list[Run]

    @property
    def by_index(self) -> bool:
        """Whether the runs were named one by one."""
        return bool(_INDICES.fullmatch(self.which)) or any(self.which in (run.word, run.name) for run in self.runs)


def job_names(data_job: Path) -> list[str]:
    """Return the jobs of a project, sorted; a folder that is a link is none."""
    try:
        with os.scandir(data_job) as found:
            return sorted(
                one.name for one in found if one.is_dir(follow_symlinks=False) and not one.name.startswith(".")
            )
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise Unavailable(f"{data_job} cannot be read: {error.strerror}.", "Ask its owner for the right to.") from error


def linked_away(data_job: Path) -> list[str]:
    """Say which folders of jobs are left out because they are links."""
    if not data_job.is_dir():
        return []
    links = sorted(path for path in data_job.iterdir() if path.is_symlink())
    told = [f"{link} is a link to {os.path.realpath(link)}, and is left out." for link in links[:3]]
    return [*told, f"{len(links) - 3} other links are left out, too."] if len(links) > 3 else told


def with_runs(data_job: Path) -> list[str]:
    """Return the jobs that have runs, sorted."""
    return [name for name in job_names(data_job) if _has_runs(data_job / name)]


def _has_runs(job_folder: Path) -> bool:
    return any(any(job_folder.glob(f"sub_job_*/{name}")) for name in (RECORD, STATE))


def choices(
    data_job: Path, words: Sequence[str], *, job: str, also: Iterable[str] = (), every_job: bool = False
) -> list[Choice]:
    """Read words one by one.

    Parameters
    ----------
    data_job : Path
        Folder of all jobs of the project, ``<root>/data_job``.
    words : sequence of str
        ``baseline`` (a job), ``baseline/3``, ``baseline/3-5``, ``baseline/failed``, and with the current job's name
        left out ``3``, ``7-9,12``, ``failed``. A job that is really named so comes first. A queue's run goes by its
        name: ``baseline/lr-3``, ``lr-3``.
    job : str
        The current job.
    also : iterable of str
        More words that may stand for a part of a job; they name no runs here.
    every_job : bool
        Words without a job's name mean runs of every job, and no words mean all of them.

    Returns
    -------
    list of Choice

    Raises
    ------
    InvalidInput, NotFound
        When a word names nothing; lists the jobs there are. That no run stands as a word says is no error.
    """
    jobs, phases = job_names(data_job), (*PHASES, *also)
    if not words:
        meant = with_runs(data_job) if every_job else [name for name in jobs if name == job]
        return [_choice(data_job, name, jobs, job, phases) for name in meant]
    found: list[Choice] = []
    for word in map(str, words):
        if (data_job / (name := word.partition("/")[0])).is_symlink():
            real_folder(data_job, name)  # which says that it is one
        if every_job and "/" not in word and word not in jobs:
            found += _in_every_job(data_job, word, jobs, phases)
        else:
            found.append(_choice(data_job, word, jobs, job, phases))
    return found


def _in_every_job(data_job: Path, word: str, jobs: Sequence[str], phases: Sequence[str]) -> list[Choice]:
    """Read a word that names no job as one of every job; of numbers, those that a job has."""
    names = with_runs(data_job)
    if mine := [one for name in names if (one := _called(data_job / name, word, phases)).runs]:
        return mine
    _check(word, jobs, phases)
    if not _INDICES.fullmatch(word):
        return [_choice(data_job, f"{name}/{word}", jobs, name, phases) for name in names]
    wanted = set(indices(word, name="ID") or [])
    everything = {name: runs_of(data_job / name) for name in names}
    if missing := wanted - {run.index for runs in everything.values() for run in runs}:
        raise NotFound(f"No job has a run {_numbers(missing)}.", "%jobs --all lists the runs there are.")
    return [Choice(data_job / name, word, [r for r in runs if r.index in wanted]) for name, runs in everything.items()]


def _check(word: str, jobs: Sequence[str], phases: Sequence[str]) -> None:
    if word not in phases and not _INDICES.fullmatch(word):
        raise did_you_mean(word, [*jobs, *phases], kind="job or run (write JOB, JOB/3, 3-5 or failed)")


def _called(job_folder: Path, word: str, phases: Sequence[str]) -> Choice:
    """Return the runs that have a name, and this one: as their folders have it, or as the queue does.

    What names runs by how they stand does so always, and a number is first that of a run without a name.
    """
    runs = runs_of(job_folder)
    numbered = _INDICES.fullmatch(word) and not all(run.is_named for run in runs)
    named = [] if word in phases or numbered else [run for run in runs if run.name != run.word or run.is_named]
    found = [run for run in named if run.word == word] or [run for run in named if run.name == word]
    return Choice(job_folder, word, found)


def _choice(data_job: Path, word: str, jobs: Sequence[str], job: str, phases: Sequence[str]) -> Choice:
    name, slash, which = word.partition("/")
    if not slash and word not in jobs:
        name, which = job, word
        if (called := _called(data_job / job, word, phases)).runs:
            return called
        _check(word, jobs, phases)
    elif name not in jobs:
        raise did_you_mean(name, jobs, kind="job")
    runs = runs_of(data_job / name)
    if not which:
        return Choice(data_job / name, which, runs)
    if (called := _called(data_job / name, which, phases)).runs:
        return called
    if not _INDICES.fullmatch(which):
        if which not in phases:
            raise did_you_mean(which, phases, kind=f"run of job {name!r} (write {name}/3 or {name}/failed)")
        return Choice(data_job / name, which, [run for run in runs if run.status().phase == which])
    wanted = indices(which, name="ID") or []
    chosen = [run for run in runs if run.index in wanted]
    if missing := set(wanted) - {run.index for run in chosen}:
        numbered = [run.index for run in runs if not run.is_named]
        there = ranges(numbered).replace("-", " to ").replace(",", ", ")
        there = there or ", ".join(run.word for run in runs[:10]) or "none"
        raise NotFound(
            f"Job {name!r} has no run {_numbers(missing)}.", f"It has: {shorten(there, 100, placeholder=' …')}."
        )
    return Choice(data_job / name, which, chosen)


def _numbers(wanted: Iterable[int]) -> str:
    numbers = sorted(wanted)
    return ", ".join(map(str, numbers[:10])) + (", …" if len(numbers) > 10 else "")


def select(data_job: Path, words: Sequence[str], *, job: str, every_job: bool = False) -> list[Run]:
    """Find the runs that words name, each once; those of the current job without words.

    See `choices` for the words and errors.
    """
    chosen = choices(data_job, words, job=job, every_job=every_job)
    found = {run.folder: run for choice in chosen for run in choice.runs}
    return list(found.values())


def one(runs: Sequence[Run], words: Sequence[str]) -> Run:
    """Return the single run that words name.

    Raises
    ------
    InvalidInput
        When they name none or several.
    """
    if len(runs) != 1:
        raise InvalidInput(
            f"{' '.join(map(str, words)) or 'Nothing'} names {len(runs)} runs; one is needed.",
            "Write JOB/INDEX, such as baseline/3.",
        )
    return runs[0]


def reread(runs: Iterable[Run]) -> list[Run]:
    """Read runs anew: their attempts, and whether they are still there."""
    found = []
    for run in runs:
        try:
            found.append(Run.load(run.folder))
        except NotFound:
            # What cannot be read is shown as such; what is gone is not shown.
            if run.folder.is_dir():
                found.append(Run.look(run.folder))
    return found
