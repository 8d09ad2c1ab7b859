"""A run whose runner is killed keeps all that had arrived, whoever looks first."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from conftest import poll, set_up
from runs.notebooks import outputs, write_notebook

from colab_magics import fork, jobs, process
from colab_magics.kernels import journal
from colab_magics.payloads.notebook import Notebook
from colab_magics.records.run import Run
from colab_magics.runs import attempts

# Within the second after a save, so that the file does not have it.
CELL = """
import time
for i in range(10**6):
    print('line', i, flush=True)
    time.sleep(0.002)
"""


def arrived(folder: Path) -> bool:
    book = journal.path_of(folder / "notebook.ipynb")
    return book.exists() and "line 100\\n" in book.read_text()


def test_the_scheduler_completes_the_notebook_of_a_runner_that_was_killed(tmp_path: Path) -> None:
    project = set_up(tmp_path / "net")
    fork(n=1, notebook=str(write_notebook(project.root / "a.ipynb", CELL)), detach=True)
    folder = project.data_job / "sub_job_000"
    poll(lambda: arrived(folder), timeout=60)
    assert not Notebook().seal(folder)  # its runner lives
    os.kill(Run.load(folder).state()["process"]["pid"], signal.SIGKILL)  # type: ignore[index]
    poll(lambda: Run.load(folder).status().phase == "interrupted")
    poll(lambda: not journal.path_of(folder / "notebook.ipynb").exists())
    assert "line 100\n" in outputs(folder / "notebook.ipynb")


def test_who_opens_it_and_the_next_attempt_complete_it_where_no_scheduler_lives(tmp_path: Path) -> None:
    project = set_up(tmp_path / "net")
    for index in range(2):
        folder = project.data_job / f"sub_job_00{index}"
        folder.mkdir(parents=True)
        process.write_json(folder / "run.json", {"index": index, "attempt": 1})
        lost = {**process.identity(), "boot": "another"}
        state = {"attempt": 1, "phase": "running", "beat": 1.0, "process": lost}
        process.write_json(folder / "state.json", state)
        notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        journal.Journal(folder / "notebook.ipynb", notebook).close()
    attempts.renew(project.data_job / "sub_job_000")
    assert (project.data_job / "sub_job_000" / "attempt_1.ipynb").exists()
    assert not (project.data_job / "sub_job_001" / "notebook.ipynb").exists()
    assert len(jobs()) == 2
    assert not (project.data_job / "sub_job_001" / "notebook.ipynb").exists(), "who lists runs writes nothing"
    jobs.open("1")
    assert (project.data_job / "sub_job_001" / "notebook.ipynb").exists()
