"""``%jobs pause`` and ``go``, ``%jobs workers=``, and what is said when a job has ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from conftest import poll

from colab_magics import fork, jobs, process, session, submit
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, NotFound
from colab_magics.records.names import PAUSE, SCHEDULER, STATE, folder_name
from colab_magics.records.run import runs_of
from colab_magics.runs import notifying, pausing, scheduler
from colab_magics.ui import TerminalUI

from .folders import DEAD, leave_run
from .notebooks import write_notebook
from .test_feeding import UNTIL_GO, end_runs, phases
from .test_queue import rows, table


def let_end(project: Project, *indices: int) -> None:
    for index in indices:
        (project.data_job / f"sub_job_00{index}" / "go").touch()
    poll(lambda: all(phases(project)[index] == "done" for index in indices))


@pytest.fixture
def three(project: Project) -> Project:
    """Three runs, one at a time, of which the first goes on until it is told to end."""
    fork(n=3, workers=1, notebook=str(write_notebook(project.root / "a.ipynb", UNTIL_GO)), detach=True)
    poll(lambda: phases(project) == ["running", "waiting", "waiting"])
    return project


def test_a_paused_job_starts_no_other_run_until_it_goes_on(three: Project) -> None:
    assert "baseline is paused: no other run starts before %jobs go baseline." in str(jobs.pause())
    let_end(three, 0)
    assert scheduler.is_running(three.data_job)
    jobs(workers=2)
    poll(lambda: (process.read_json(three.data_job / SCHEDULER / STATE) or {}).get("workers") == 2)
    assert phases(three) == ["done", "waiting", "waiting"]
    jobs.go()
    poll(lambda: phases(three) == ["done", "running", "running"])
    assert "baseline was not paused" in str(jobs.go())
    end_runs(three)


def test_a_pause_outlives_the_scheduler_and_ends_with_the_last_run(three: Project) -> None:
    jobs.pause("baseline")
    pid = (process.read_json(three.data_job / SCHEDULER / STATE) or {})["process"]["pid"]
    os.kill(pid, signal.SIGKILL)
    poll(lambda: not scheduler.is_running(three.data_job))
    assert "baseline is paused" in str(jobs())
    (three.data_job / "sub_job_000" / "go").touch()
    poll(lambda: phases(three)[0] == "done")
    fork(n=3, workers=1, notebook=str(three.root / "a.ipynb"), detach=True)
    poll(lambda: (process.read_json(three.data_job / SCHEDULER / STATE) or {})["process"]["pid"] != pid)
    assert phases(three)[1:] == ["waiting", "waiting"]
    jobs.go()
    poll(lambda: phases(three)[1] == "running")
    jobs.pause()
    jobs.kill("baseline")
    poll(lambda: not scheduler.is_running(three.data_job))
    assert not pausing.is_paused(three.data_job)


def test_a_paused_job_claims_no_run_of_its_queue(project: Project) -> None:
    url, go = table(project, [{"k": k} for k in range(3)]), project.root / "go"

    def standing() -> list[str]:
        return sorted(row.status for row in rows(url).values())

    submit(f"while ! test -e {go}{{k}}; do sleep 0.05; done", runs=url, workers="1")
    poll(lambda: standing() == ["ready", "ready", "running"] and phases(project) == ["running"])
    jobs.pause()
    for k in range(3):
        Path(f"{go}{k}").touch()
    poll(lambda: standing() == ["done", "ready", "ready"])
    assert "baseline is paused" in "".join(scheduler.waits_for(project.data_job))
    jobs.go()
    poll(lambda: standing() == ["done", "done", "done"])


def test_only_whole_jobs_that_have_something_left_are_paused(project: Project) -> None:
    leave_run(project.data_job, 0)
    assert "Nothing of baseline waits: there is nothing to pause." in str(jobs.pause())
    assert not (project.data_job / SCHEDULER / PAUSE).exists()
    with pytest.raises(InvalidInput, match="baseline/0 is a part of a job"):
        jobs.pause("0")
    with pytest.raises(InvalidInput, match="baseline/0 is a part of a job"):
        jobs("0", workers=3)
    with pytest.raises(NotFound, match="baseline is not being executed: nobody hears workers=3"):
        jobs(workers=3)
    with pytest.raises(InvalidInput, match="workers"):
        jobs(workers=0)


def test_the_jobs_of_this_machine_are_shown_from_anywhere(three: Project, tmp_path: Path) -> None:
    assert str(three.root) not in " ".join(jobs(all=True).notes)
    (tmp_path / "apart" / "x").mkdir(parents=True)
    os.chdir(tmp_path / "apart" / "x")
    rows = [row for row in jobs.machine().rows if row[-1] == str(three.root)]
    assert [row[:3] for row in rows] == [["baseline", "running", "1 running, 2 waiting"]]
    session.current().project = None
    outside = jobs(all=True)
    assert not outside.runs
    line = next(line for line in str(outside).splitlines() if str(three.root) in line)
    assert line.startswith("On this machine, too: baseline, running, 1 running, 2 waiting, ")
    end_runs(three)
    poll(lambda: not scheduler.is_running(three.data_job))
    assert not [row for row in jobs.machine().rows if row[-1] == str(three.root)]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that holds what the user's command was told last."""
    told, script = tmp_path / "told to me", tmp_path / "tell me.sh"
    script.write_text(f"printf %s \"$1\" > '{told}.new' && mv '{told}.new' '{told}'\n")
    config = tmp_path / "config" / "colab_magics" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f"[jobs.notify]\ncommand = \"sh '{script}'\"\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return told


def test_the_users_command_is_told_that_a_job_has_ended(project: Project, tmp_path: Path, told: Path) -> None:
    config = tmp_path / "config" / "colab_magics" / "config.toml"
    fork(n=2, notebook=str(write_notebook(project.root / "a.ipynb", "1")), detach=True)
    assert poll(lambda: told.exists() and told.read_text()) == "baseline: 2 done"
    config.write_text('[jobs.notify]\ncommand = "no-such-program x"\n')
    assert notifying.ended(project.data_job) == "no notification: There is no program 'no-such-program'."
    config.write_text("[jobs")
    assert "cannot be read" in notifying.ended(project.data_job)
    config.unlink()
    assert notifying.ended(project.data_job) == ""


def test_the_users_command_is_told_of_all_runs_of_a_search(project: Project, told: Path) -> None:
    pytest.importorskip("optuna", reason="extra [search]")
    cell, space = "from colab_magics import report\nreport(loss=x)", {"x": "uniform(0, 1)"}
    notebook = str(write_notebook(project.root / "a.ipynb", cell))
    fork(space, search=2, goal="min:loss", notebook=notebook)
    assert poll(lambda: told.exists() and told.read_text()) == "baseline: 2 done"
    # It goes on with one that was cut off, which the plan names, and two more, which it does not.
    state = project.data_job / folder_name(1) / STATE
    process.write_json(state, {**(process.read_json(state) or {}), "phase": "running", "ended": None, "process": DEAD})
    fork(space, search=4, goal="min:loss", notebook=notebook)
    poll(lambda: told.read_text() == "baseline: 4 done")


def test_a_terminal_rings_its_bell_for_those_who_have_waited(project: Project) -> None:
    class Bell(TerminalUI):
        def notify(self, title: str, text: str, *, ask: bool = False) -> None:
            heard.append(text)

    heard: list[str] = []
    leave_run(project.data_job, 0)
    statuses = [(run, run.status()) for run in runs_of(project.data_job)]
    notifying.watched(Bell(), statuses, took=3.0)
    notifying.watched(Bell(), statuses, took=300.0)
    assert heard == ["baseline: 1 done"]
