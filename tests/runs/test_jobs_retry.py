"""``%jobs retry``: runs that did not end well, once more, as they were submitted."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest
from conftest import poll

from colab_magics import fork, jobs, process, session
from colab_magics.checkout.project import Project
from colab_magics.errors import Busy, InvalidInput, NotFound, RunsFailed
from colab_magics.records import lock as locks
from colab_magics.records.names import SCHEDULER
from colab_magics.records.run import Run
from colab_magics.runs import scheduler
from colab_magics.session import RUN_VARIABLE

from .folders import leave_run
from .notebooks import write_notebook

CELL = """
import os
open(os.path.join(data_job, 'tries'), 'a').write('x')
print('the code as it was')
assert i_sub_job == 0 or os.path.exists(data_job + '/mended')
"""


def test_failed_runs_are_executed_again_as_they_were(project: Project, said: io.StringIO) -> None:
    path = write_notebook(project.root / "a.ipynb", CELL)
    with pytest.raises(RunsFailed):
        fork(n=3, workers=2, notebook=str(path))
    write_notebook(path, "raise SystemError('edited since')")
    folders = [project.data_job / f"sub_job_00{index}" for index in range(3)]
    (folders[1] / "mended").touch()
    with pytest.raises(RunsFailed, match=r"1 of 2 runs(?s:.*)baseline/2  failed in cell 1: AssertionError"):
        jobs.retry("failed")
    assert [(folder / "tries").read_text() for folder in folders] == ["x", "xx", "xx"]
    assert [Run.load(folder).attempt for folder in folders] == [1, 2, 2]
    assert (folders[1] / "attempt_1.ipynb").exists()
    # All that did not end well, of a whole job; without waiting.
    (folders[2] / "mended").touch()
    board = jobs.retry("baseline", workers="2", detach=True)
    assert "%jobs watch baseline" in str(board)
    poll(lambda: board.statuses()[0][1].phase == "done")
    assert [run.id for run in board.runs] == ["baseline/2"]
    assert "Nothing to do." in str(jobs.retry("failed"))
    assert "Nothing to do." in str(jobs.retry("baseline"))


def test_several_jobs_have_a_scheduler_each(project: Project) -> None:
    for job in ("one", "two words"):
        run = leave_run(project.data_job.parent / job, 4, "killed", cells=("print(lr)",), parameters={"lr": 1e-3})
        (run.folder / "checkpoint").touch()
    board = jobs.retry("one/killed", "two words/4")
    assert [(run.id, status.phase, run.attempt) for run, status in board.statuses()] == [
        ("one/4", "done", 2),
        ("two words/4", "done", 2),
    ]
    assert all((run.folder / "checkpoint").exists() and "0.001" in run.log.read_text() for run in board.runs)


def test_a_run_that_waits_for_nobody_is_started(project: Project) -> None:
    leave_run(project.data_job, 0, None)
    (run,) = jobs.retry("waiting").runs
    assert (run.status().phase, run.attempt) == ("done", 1)


def test_what_is_done_is_refused_by_name(project: Project) -> None:
    leave_run(project.data_job, 0, "failed")
    leave_run(project.data_job, 1, "done")
    for words in (["1"], ["0-1"], ["baseline/1"], ["done"]):
        with pytest.raises(InvalidInput, match=r"baseline/1 is done(?s:.*)resume=rerun"):
            jobs.retry(*words)
    assert Run.load(project.data_job / "sub_job_000").attempt == 1
    with pytest.raises(NotFound, match="Which runs"):
        jobs.retry()
    with pytest.raises(InvalidInput, match="workers=0"):
        jobs.retry("failed", workers="0")


def test_nothing_starts_when_a_job_is_being_executed(project: Project) -> None:
    for job in ("one", "two"):
        leave_run(project.data_job.parent / job, 0, "failed")
    leave_run(project.data_job.parent / "two", 1, None)
    lock = locks.take(project.data_job.parent / "two")
    try:
        with pytest.raises(Busy, match="'two' are being executed already"):
            jobs.retry("one/failed", "two/failed")
    finally:
        os.close(lock)
    assert Run.load(project.data_job.parent / "one" / "sub_job_000").attempt == 1
    assert not scheduler.is_running(project.data_job.parent / "one")


def test_what_cannot_be_executed_is_said_before_anything_starts(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_run(project.data_job, 0, "failed")
    gone = leave_run(project.data_job, 1, "failed")
    (gone.folder / "source.ipynb").unlink()
    with pytest.raises(NotFound, match="notebook of baseline/1 is gone"):
        jobs.retry("failed")
    leave_run(project.data_job, 2, "running", alive=True)
    with pytest.raises(Busy, match="baseline/2 is being executed"):
        jobs.retry("0", "2")
    leave_run(project.data_job, 3, "failed", engine="moon")
    with pytest.raises(InvalidInput, match="submitted to local and moon"):
        jobs.retry("0", "3")
    with pytest.raises(InvalidInput, match=r"There are:(?s:.*)\n  local\n"):
        jobs.retry("3")
    monkeypatch.setenv(RUN_VARIABLE, str(gone.folder))
    with pytest.raises(InvalidInput, match="A run cannot start others"):
        jobs.retry("0")
    assert {run.attempt for run in jobs("baseline").runs} == {1}


def test_interrupting_stops_watching_only(project: Project, said: io.StringIO) -> None:
    cell = "import os, time\nwhile not os.path.exists(data_job + '/go'): time.sleep(0.02)"
    run = leave_run(project.data_job, 0, "interrupted", cells=(cell,))
    ui = session.current().ui

    class Interrupts:
        stays = True

        def __enter__(self) -> Interrupts:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def show(self, table: object) -> None:
            if Run.load(run.folder).status().cell == 1:
                raise KeyboardInterrupt

    ui.live = lambda **_: Interrupts()  # type: ignore[method-assign]
    for verb in (jobs.retry, jobs.watch):
        with pytest.raises(SystemExit):
            verb("0")
        assert "The runs go on: %jobs watch baseline" in said.getvalue()
        assert scheduler.is_running(project.data_job)
        said.truncate(0)
    del ui.live  # type: ignore[method-assign]
    with pytest.raises(Busy):
        jobs.retry("0")
    watched: list[str] = []
    thread = threading.Thread(target=lambda: watched.append(str(jobs.watch("running"))), daemon=True)
    thread.start()
    (run.folder / "go").touch()
    thread.join(30)
    assert "baseline/0" in watched[0]
    assert "1 done" in watched[0]  # those that ran when it began, though they run no more


def test_workers_auto_is_as_many_as_before(project: Project) -> None:
    plan = project.data_job / SCHEDULER / "plan.json"
    leave_run(project.data_job, 0, "failed")
    plan.parent.mkdir()
    process.write_json(plan, {"runs": [], "feed": {"workers": 3}})
    jobs.retry("failed")
    assert (process.read_json(plan) or {})["feed"]["workers"] == 3
    assert Path(plan).exists()


def test_how_the_last_fork_was_fed_counts_for_a_retry_too(project: Project) -> None:
    cell = "open(data_job + '/tries', 'a').write('x')\nassert False"
    notebook = str(write_notebook(project.root / "a.ipynb", cell))
    with pytest.raises(RunsFailed):
        fork(n=2, notebook=notebook, workers="1", retries=1, max_failures=1)
    assert [tries(project, index) for index in range(2)] == ["xx", ""]
    with pytest.raises(RunsFailed):
        jobs.retry("baseline")
    assert [tries(project, index) for index in range(2)] == ["xxxx", ""]  # retries=1, and no other after one failure
    with pytest.raises(RunsFailed):
        jobs.retry("baseline", retries=0, max_failures=9)
    assert [tries(project, index) for index in range(2)] == ["xxxxx", "x"]
    with pytest.raises(InvalidInput, match="retries=-1"):
        jobs.retry("baseline", retries=-1)


def tries(project: Project, index: int) -> str:
    file = project.data_job / f"sub_job_{index:03d}" / "tries"
    return file.read_text() if file.exists() else ""
