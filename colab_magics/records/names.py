"""How the files and folders of runs are named."""

from __future__ import annotations

import re

RECORD, STATE, VERDICT = "run.json", "state.json", "verdict.json"
REFERENCE = "ref.json"
SOURCE, NOTEBOOK, LOG = "source.ipynb", "notebook.ipynb", "log.txt"
METRICS = "metrics.jsonl"
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

_FOLDER = re.compile(r"sub_job_(\d{3,12})")
_ASIDE = re.compile(r"sub_job_\d{3,}\.\d+")
_OURS = re.compile(
    r"run\.json|state\.json|verdict\.json|ref\.json|source\.ipynb|(notebook|attempt_\d+)\.ipynb|log\.txt|metrics\.jsonl|\..*"
)


def folder_name(index: int) -> str:
    """Name of a run's folder: ``sub_job_007``."""
    return f"sub_job_{index:03d}"


def number_of(name: str) -> int | None:
    """Return the number that a run's folder has by its name; None for another name."""
    found = _FOLDER.fullmatch(name)
    return int(found[1]) if found else None


def is_aside(name: str) -> bool:
    """Whether a folder of that name is a run's that was moved aside: ``sub_job_007.1``."""
    return _ASIDE.fullmatch(name) is not None


def is_ours(name: str) -> bool:
    """Whether a file in a run's folder is none that its cells wrote."""
    return _OURS.fullmatch(name) is not None
