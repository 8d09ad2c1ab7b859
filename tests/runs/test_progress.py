"""How far a run is by its own word, and how earlier attempts of it ended."""

from __future__ import annotations

import time
from typing import Any

import pytest
from conftest import poll

from colab_magics import fork, jobs, process
from colab_magics.checkout.project import Project
from colab_magics.errors import RunsFailed
from colab_magics.records import metrics
from colab_magics.records.names import RECORD, STATE
from colab_magics.records.run import Run

from .folders import leave_run
from .notebooks import write_notebook


def running(project: Project, reports: list[dict[str, Any]], **state: Any) -> Run:
    run = leave_run(project.data_job, 0, "running", alive=True, reports=reports)
    known = process.read_json(run.folder / STATE) or {}
    process.write_json(run.folder / STATE, {**known, "cell": 3, "cells": 9, **state})
    return run


@pytest.mark.parametrize(
    ("report", "text"),
    [
        ({"step": 30, "total": 100}, "step 30 of 100"),
        ({"step": 0, "total": 1_000_000}, "step 0 of 1000000"),
        ({"step": 0.5, "total": 2.0}, "step 0.5 of 2"),
        ({"step": 30}, "cell 3 of 9"),
        ({"total": 100}, "cell 3 of 9"),
        ({"step": 30, "total": 0.25}, "cell 3 of 9"),  # a loss
        ({"step": 30, "total": 12}, "cell 3 of 9"),
        ({"step": 30, "total": True}, "cell 3 of 9"),
        ({"step": 30, "total": "all"}, "cell 3 of 9"),
        ({"step": 30, "total": float("nan")}, "cell 3 of 9"),
    ],
)
def test_steps_of_a_total_are_how_far_a_run_is(project: Project, report: dict[str, Any], text: str) -> None:
    run = running(project, [{"loss": 1.0, **report}])
    assert run.status().text == text
    told = text.startswith("step")
    last = metrics.compared(metrics.read(run.folder))
    assert last == {"loss": 1.0} if told else last.keys() == {"loss", *report}
    assert ("step" in jobs.table().columns) == ("step" in report and not told)


def test_the_bar_shows_the_steps(project: Project) -> None:
    running(project, [{"loss": 1.0, "step": 30, "total": 100}])
    assert '<progress value="30" max="100"' in jobs()._repr_html_()


def test_steps_of_an_earlier_cell_or_attempt_are_no_progress_of_this_one(project: Project) -> None:
    run = running(project, [{"step": 30, "total": 100}])
    known = process.read_json(run.folder / STATE) or {}
    process.write_json(run.folder / STATE, {**known, "cell_began": 900.0})
    assert run.status().text == "step 30 of 100"  # reported at 1000
    process.write_json(run.folder / STATE, {**known, "cell_began": 1100.0})
    assert run.status().text == "cell 3 of 9"
    process.write_json(run.folder / STATE, {**known, "attempt": 2})
    process.write_json(run.folder / RECORD, {**run.record, "attempt": 2})
    assert Run.load(run.folder).status().text == "cell 3 of 9"


def test_a_resumed_run_still_says_at_which_step(project: Project) -> None:
    run = running(project, [{"loss": 1.0, "step": 30, "total": 100}])
    assert metrics.last(metrics.read(run.folder)) == {"loss": 1.0, "step": 30}


UNTIL_KILLED = """
import time
from colab_magics import report
for step in range(30):
    report(loss=1 / (1 + step), step=step, total=100)
while True:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        pass
"""


def test_a_killed_retried_killed_run_says_so_and_no_exit_status(project: Project) -> None:
    fork(n=1, notebook=str(write_notebook(project.root / "a.ipynb", "x = 1", UNTIL_KILLED)), detach=True)
    folder = project.data_job / "sub_job_000"
    for attempt in (1, 2):
        poll(lambda: Run.load(folder).status().text == "step 29 of 100", timeout=60)
        jobs.kill("0")
        killed = Run.load(folder).status()
        assert killed.phase == "killed"
        assert killed.text.endswith(", cell 2 of 2, step 29 of 100")
        if attempt == 1:
            assert killed.attempts == ""
            jobs.retry("0", detach=True)
            assert Run.load(folder).status().attempts == ""  # it is on its way
    assert "(attempt 2; attempt 1 was killed too)" in str(jobs())
    shown = str(jobs.show("0"))
    assert "(attempt 2; attempt 1 was killed too)" in shown
    assert "attempt    2; 1 killed " in shown
    log = Run.load(folder).log.read_text()
    assert log.count("Killed: the run was killed") == 2
    assert "exit status" not in log + shown


def test_the_error_of_a_fork_that_failed_again_says_so(project: Project) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", "assert False, 'no data'"))
    with pytest.raises(RunsFailed, match=r"failed in cell 1: AssertionError: no data\n"):
        fork(n=1, notebook=notebook)
    again = r"failed in cell 1: AssertionError: no data \(attempt 2; attempt 1 failed too\)\n"
    with pytest.raises(RunsFailed, match=again):
        fork(n=1, notebook=notebook)


def test_how_each_attempt_ended_is_kept(project: Project) -> None:
    ended = time.time() - 200_000
    before = [{"attempt": 1, "phase": "failed", "text": "failed in cell 1: ValueError", "ended": ended}]
    run = leave_run(project.data_job, 0, "killed", attempt=2, attempts=before, started=time.time() - 60, took=1.0)
    assert run.status().full.endswith("(attempt 2; attempt 1 failed)")
    board = jobs.retry("0", detach=True)
    poll(lambda: board.statuses()[0][1].phase == "done")
    (done,) = board.runs
    assert [(one["attempt"], one["phase"]) for one in done.earlier] == [(1, "failed"), (2, "killed")]
    assert done.status().full == "done"
    shown = str(jobs.show("0"))
    assert "attempt    3; 1 failed in cell 1: ValueError (" in shown
    assert "; 2 killed " in shown
    process.write_json(
        done.folder / RECORD, {**done.record, "attempt": 4, "attempts": [*done.earlier, {"phase": "failed"}]}
    )
    process.write_json(done.folder / STATE, {"attempt": 4, "phase": "killed", "beat": ended})
    assert Run.load(done.folder).status().attempts == "attempt 4; before: failed, killed, failed"
