"""How the files and folders of runs are named.

A run has a number, and its folder is called by it: ``sub_job_007``. A run of a queue has a name, which is the same on
every machine, and its folder is called by that: ``sub_job_lr-3``. Names are people's, and may hold anything; so what
is no plain small word keeps what is plain of it and gets a mark of the whole name: ``sub_job_learning_rate~5f2a9c01``.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

RECORD, STATE, VERDICT = "run.json", "state.json", "verdict.json"
REFERENCE = "ref.json"
SOURCE, NOTEBOOK, LOG = "source.ipynb", "notebook.ipynb", "log.txt"
METRICS = "metrics.jsonl"
STOP = "stop.json"
"""In a run's folder: that it is to end at its next report, and why."""
CLAIM = "claim.json"
"""In a run's folder: what a worker holds of a queue's run."""
NOTE = "note.json"
"""In a run's folder: what people say of it."""
LOCK = ".colab_magics.lock"
"""In a job's folder and a run's; %sync leaves it out (see `colab_magics.mirror.patterns`)."""

SCHEDULER = ".scheduler"
"""Folder of a job that holds what concerns all its runs; its log and its state are named as a run's."""
PLAN = "plan.json"
"""In it: what the last scheduler was given."""
LIVE = "live.json"
"""In it: the copy of the notebook that live runs are forked from."""
FORKS = "forks.json"
"""In it: which runs belong to which ``%fork``."""
FENCED = "fenced.json"
"""In it: attempts to be ended on hosts that were away when they were killed."""
PRELOAD = "preload.json"
"""In it: what the processes are started with that warm kernels are forked from."""
QUEUED = "of_queue"
"""In it: a folder with what the runs of a queue execute, as it is written into each of theirs."""
EXCHANGE = "exchange.json"
"""In it: what was asked of a queue last."""
SEARCHED = "of_search"
"""In it: a folder with what the runs of a search execute, as it is written into each of theirs."""
DRAIN = "drain.json"
"""In it: why no more runs are claimed from a queue."""
PAUSE = "pause.json"
"""In it, while no more runs are to be started: since when."""

_FOLDER = re.compile(r"sub_job_(\d{3,12})")
_SMALL = r"(?=[0-9_-]*[a-z])[a-z0-9][a-z0-9_-]{0,63}"
_WORD = rf"{_SMALL}|[A-Za-z0-9_-]{{0,40}}~[0-9a-f]{{8,16}}"
_NAMED, _PLAIN = re.compile(rf"sub_job_({_WORD})"), re.compile(_SMALL)
_ASIDE = re.compile(rf"sub_job_(\d{{3,}}|{_WORD})\.\d+")
_FIRST, _LAST = 10**8, 10**9
"""Between these are the numbers of runs that have names: no other run comes there."""
_OURS = re.compile(
    r"(run|state|verdict|ref|stop|claim|note)\.json|source\.ipynb|(notebook|attempt_\d+)\.ipynb|log\.txt|metrics\.jsonl|\..*"
)


def folder_name(index: int) -> str:
    """Name of a run's folder: ``sub_job_007``."""
    return f"sub_job_{index:03d}"


def number_of(name: str) -> int | None:
    """Return the number of a run by its folder's name; None for another name.

    That of a run with a name is made from it: the same on every machine.
    """
    if found := _FOLDER.fullmatch(name):
        return int(found[1])
    return _number(found[1]) if (found := _NAMED.fullmatch(name)) else None


def _number(word: str) -> int:
    return _FIRST + int(hashlib.sha256(word.encode()).hexdigest()[:15], 16) % (_LAST - _FIRST)


def word_of(name: str) -> str | None:
    """Return the word by which a run is called in its id, by its folder's name: ``7``, ``lr-3``; None for another."""
    if found := _FOLDER.fullmatch(name):
        return str(int(found[1]))
    return found[1] if (found := _NAMED.fullmatch(name)) else None


def is_named(name: str) -> bool:
    """Whether a folder is that of a run with a name."""
    return _FOLDER.fullmatch(name) is None and _NAMED.fullmatch(name) is not None


def named_folder(name: str, *, other: str = "") -> str:
    """Name the folder of a run by the run's name: no two names have the same, on no file system.

    Parameters
    ----------
    name : str
        How people call the run; anything.
    other : str, default ""
        What tells the run from another one of that name, such as one of another queue.
    """
    if _PLAIN.fullmatch(name) and not other:
        return f"sub_job_{name}"
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", letters).strip("_-")[:40]
    mark = hashlib.sha256(f"{name}\0{other}".encode("utf-8", "surrogatepass")).hexdigest()[: 16 if other else 8]
    return f"sub_job_{plain or 'run'}~{mark}"


def is_aside(name: str) -> bool:
    """Whether a folder of that name is a run's that was moved aside: ``sub_job_007.1``."""
    return _ASIDE.fullmatch(name) is not None


def is_ours(name: str) -> bool:
    """Whether a file in a run's folder is none that its cells wrote."""
    return _OURS.fullmatch(name) is not None
