"""Runs that tell when they were begun and wait to be told to go on, and how those of a job stand."""

from __future__ import annotations

from pathlib import Path

from conftest import poll
from runs.notebooks import write_notebook

from colab_magics.checkout.project import Project
from colab_magics.records.run import runs_of
from colab_magics.runs import scheduler

BEGINS = "open({count!r}, 'a').write('x')\n"
WAITS = "import os, time\nwhile not os.path.exists({go!r}):\n    time.sleep(0.02)\n"


def waiting(project: Project, tmp_path: Path) -> str:
    """Write a notebook whose run adds an x to the file ``count``, and waits for the file ``go``."""
    cells = [BEGINS.format(count=str(tmp_path / "count")), WAITS.format(go=str(tmp_path / "go"))]
    return str(write_notebook(project.root / "a.ipynb", *cells))


def begun(tmp_path: Path, times: int) -> None:
    """Wait until so many have begun."""
    poll(lambda: len((tmp_path / "count").read_text()) == times, timeout=90)


def phases(project: Project) -> list[str]:
    """Return how the runs of the job stand, in a word each."""
    return [run.status().phase for run in runs_of(project.data_job)]


def texts(project: Project) -> list[str]:
    """Return how they stand, as people read it."""
    return [run.status().text for run in runs_of(project.data_job)]


def over(project: Project) -> None:
    """Wait until nobody schedules them any more."""
    poll(lambda: not scheduler.is_running(project.data_job), timeout=60)
