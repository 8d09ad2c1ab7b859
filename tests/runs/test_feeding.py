"""How the scheduler feeds an engine: trial, retries, limits of failures and of time, one scheduler a job."""

from __future__ import annotations

import io
import os
import signal
import threading
from pathlib import Path

import pytest
from conftest import poll

from colab_magics import fork, process
from colab_magics.checkout.project import Project
from colab_magics.errors import ColabMagicsError, InvalidInput, RunsFailed
from colab_magics.records.run import Run, runs_of
from colab_magics.runs import scheduler, workers

from .notebooks import write_notebook

UNTIL_GO = """
import os, time
while not os.path.exists(data_job + '/go'):
    time.sleep(0.02)
"""


def phases(project: Project) -> list[str]:
    return [run.status().phase for run in runs_of(project.data_job)]


def test_try_starts_the_others_when_the_first_ended_well(project: Project, said: io.StringIO) -> None:
    notebook = write_notebook(project.root / "a.ipynb", "import time; print(time.time())")
    fork(n=3, workers=3, try_="end", notebook=str(notebook))
    began = [run.status().started for run in runs_of(project.data_job)]
    first_ended = Run.load(project.data_job / "sub_job_000").status().ended
    assert all(start is not None and first_ended is not None and start > first_ended for start in began[1:])


def test_try_for_a_time_starts_the_others_while_the_first_lives(project: Project) -> None:
    notebook = write_notebook(project.root / "a.ipynb", UNTIL_GO)
    fork(n=2, workers=2, try_="1s", notebook=str(notebook), detach=True)
    poll(lambda: phases(project) == ["running", "running"])
    began = [run.status().started or 0.0 for run in runs_of(project.data_job)]
    assert began[1] - began[0] >= 1
    for index in range(2):
        (project.data_job / f"sub_job_00{index}" / "go").touch()
    poll(lambda: phases(project) == ["done", "done"])


def test_a_trial_that_fails_starts_nothing_else(project: Project) -> None:
    notebook = write_notebook(project.root / "a.ipynb", "1 / 0")
    with pytest.raises(RunsFailed, match=r"not started: baseline/0 did not end well"):
        fork(n=3, try_="end", notebook=str(notebook))
    assert phases(project) == ["failed", "cancelled", "cancelled"]


def end_runs(project: Project) -> None:
    for run in runs_of(project.data_job):
        (run.folder / "go").touch()
    poll(lambda: set(phases(project)) == {"done"})


def test_more_runs_start_when_workers_are_raised(project: Project) -> None:
    fork(n=4, workers=1, notebook=str(write_notebook(project.root / "a.ipynb", UNTIL_GO)), detach=True)
    poll(lambda: phases(project) == ["running", "waiting", "waiting", "waiting"])
    assert scheduler.set_workers(project.data_job, 3)
    poll(lambda: phases(project) == ["running", "running", "running", "waiting"])
    state = project.data_job / ".scheduler" / "state.json"
    poll(lambda: (process.read_json(state) or {}).get("workers") == 3)
    end_runs(project)


def test_fewer_runs_start_when_workers_are_lowered_and_those_that_run_go_on(project: Project) -> None:
    fork(n=4, workers=2, notebook=str(write_notebook(project.root / "a.ipynb", UNTIL_GO)), detach=True)
    poll(lambda: phases(project) == ["running", "running", "waiting", "waiting"])
    scheduler.set_workers(project.data_job, 2)
    scheduler.set_workers(project.data_job, 1)
    (project.data_job / "sub_job_000" / "go").touch()
    poll(lambda: phases(project)[0] == "done")
    (project.data_job / "sub_job_001" / "go").touch()
    poll(lambda: phases(project)[1:] == ["done", "running", "waiting"])
    began = [run.status().started or 0.0 for run in runs_of(project.data_job)]
    assert began[2] >= (Run.load(project.data_job / "sub_job_001").status().ended or 0.0), "one at a time"
    end_runs(project)


def test_workers_count_until_the_next_start_and_nobody_hears_them_in_between(project: Project) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", UNTIL_GO))
    fork(n=2, workers=1, notebook=notebook, detach=True)
    poll(lambda: phases(project) == ["running", "waiting"])
    assert scheduler.set_workers(project.data_job, 2)
    end_runs(project)
    poll(lambda: not scheduler.is_running(project.data_job))
    assert not scheduler.set_workers(project.data_job, 2)
    fork(n=4, workers=1, notebook=notebook, detach=True)
    poll(lambda: phases(project) == ["done", "done", "running", "waiting"])
    assert not (project.data_job / ".scheduler" / workers.NAME).exists()
    end_runs(project)
    began = [run.status().started or 0.0 for run in runs_of(project.data_job)]
    assert began[3] >= (Run.load(project.data_job / "sub_job_002").status().ended or 0.0)


@pytest.mark.parametrize("text", ["", "{", '{"workers": 0}', '{"workers": "many"}', "[]"])
def test_what_is_no_number_of_workers_is_not_heard(tmp_path: Path, text: str) -> None:
    said = workers.Said(tmp_path)
    assert said.news() is None
    process.write_whole(tmp_path / workers.NAME, text)
    assert said.news() is None
    workers.write(tmp_path, 2)
    assert [said.news(), said.news()] == [2, None]
    with pytest.raises(InvalidInput, match="workers=0"):
        scheduler.set_workers(tmp_path, 0)


def test_max_failures_ends_a_hopeless_sweep(project: Project) -> None:
    notebook = write_notebook(project.root / "a.ipynb", "assert i_sub_job == 0")
    with pytest.raises(RunsFailed, match=r"not started: 2 failed \(max_failures=2\)"):
        fork(n=6, max_failures=2, workers=1, notebook=str(notebook))
    assert phases(project) == ["done", "failed", "failed", "cancelled", "cancelled", "cancelled"]


def test_retries_execute_again_in_the_same_folder(project: Project) -> None:
    cell = "import os\nopen(data_job + '/tries', 'a').write('x')\nassert len(open(data_job + '/tries').read()) == 3"
    board = fork(n=1, retries=2, notebook=str(write_notebook(project.root / "a.ipynb", cell)))
    assert [(run.attempt, run.status().phase) for run in board.runs] == [(3, "done")]  # type: ignore[union-attr]
    folder = project.data_job / "sub_job_000"
    assert sorted(path.name for path in folder.glob("attempt_*")) == ["attempt_1.ipynb", "attempt_2.ipynb"]


def test_a_run_that_takes_too_long_fails_and_what_it_saved_stays(project: Project) -> None:
    cell = "open(data_job + '/saved', 'w').write('x')\nimport time\ntime.sleep(300)"
    notebook = write_notebook(project.root / "a.ipynb", "1", cell)
    with pytest.raises(RunsFailed, match=r"failed in cell 2: TimeLimit: the run took longer than time=10 s"):
        fork(n=1, time="10s", notebook=str(notebook))
    assert (project.data_job / "sub_job_000" / "saved").exists()
    with pytest.raises(RunsFailed, match=r"failed in cell 2: CellTimeoutError: the cell took longer than cell_time="):
        fork(n=1, cell_time="1s", notebook=str(notebook))


@pytest.mark.parametrize(
    "option", [{"try_": "soon"}, {"max_failures": 0}, {"retries": -1}, {"time": "x"}, {"workers": 0}]
)
def test_options_that_cannot_be(project: Project, option: dict[str, object]) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", "1"))
    name, value = next(iter(option.items()))
    with pytest.raises(InvalidInput, match=f"{name.rstrip('_')}={value}"):
        fork(n=1, notebook=notebook, **option)  # type: ignore[arg-type]
    assert not list(project.data_job.glob("sub_job_*"))


def test_a_scheduler_that_dies_is_said_and_the_next_call_goes_on(project: Project) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", UNTIL_GO))
    caught: list[BaseException] = []

    def watch() -> None:
        try:
            fork(n=3, workers=1, notebook=notebook)
        except ColabMagicsError as error:
            caught.append(error)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    poll(lambda: phases(project) == ["running", "waiting", "waiting"])
    state = poll(lambda: process.read_json(project.data_job / ".scheduler" / "state.json"))
    os.kill(state["process"]["pid"], signal.SIGKILL)
    (project.data_job / "sub_job_000" / "go").touch()
    thread.join(60)
    assert not thread.is_alive()
    assert "Nobody executes the runs any more (1 done, 2 waiting)" in str(caught[0])
    for index in (1, 2):
        (project.data_job / f"sub_job_00{index}" / "go").touch()
    fork(n=3, notebook=notebook)
    assert phases(project) == ["done"] * 3
    assert [run.attempt for run in runs_of(project.data_job)] == [1, 1, 1]


def test_two_forks_at_once_give_one_scheduler(project: Project, tmp_path: Path) -> None:
    notebook = write_notebook(project.root / "a.ipynb", "open(data_job + '/count', 'a').write('x')\n" + UNTIL_GO)
    fork(n=2, workers=2, notebook=str(notebook), detach=True)
    poll(lambda: phases(project) == ["running", "running"])
    assert scheduler.is_running(project.data_job)
    with pytest.raises(ColabMagicsError, match=r"executed already since(?s:.*)%jobs kill baseline"):
        fork(n=3, notebook=str(notebook))
    for index in range(2):
        (project.data_job / f"sub_job_00{index}" / "go").touch()
    poll(lambda: phases(project) == ["done", "done"])
    assert [(run.folder / "count").read_text() for run in runs_of(project.data_job)] == ["x", "x"]
