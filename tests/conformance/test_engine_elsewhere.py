"""An engine of somebody else's, on another machine, that delays, forgets, cannot tell and has a clock of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import poll
from runs.folders import leave_run

from colab_magics import fork, jobs, process
from colab_magics.checkout.project import Project
from colab_magics.errors import Busy, ColabMagicsError, InvalidInput
from colab_magics.records.run import Run, runs_of
from colab_magics.runs import scheduler

from . import elsewhere
from .engine_suite import EngineSuite


class TestElsewhere(EngineSuite):
    """``on=elsewhere``, an entry point."""

    @pytest.fixture
    def world(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Where its runs are."""
        world, site = tmp_path / "world", tmp_path / "site"
        world.mkdir()
        elsewhere.install(site)
        monkeypatch.syspath_prepend(site)
        monkeypatch.setenv("PYTHONPATH", str(site))
        monkeypatch.setenv("ELSEWHERE", str(world))
        return world

    @pytest.fixture
    def on(self, world: Path) -> str:
        return "elsewhere"

    def faults(self, world: Path, **faults: Any) -> None:
        process.write_json(world / "faults.json", faults)

    def test_it_says_where_a_run_waits(self, on: str, world: Path, project: Project, notebook: str) -> None:
        self.faults(world, delay=600)
        fork(n=1, on=on, notebook=notebook, detach=True)
        poll(lambda: "queued on elsewhere" in str(jobs()))
        jobs.kill("baseline")
        assert self.phases(project) == ["killed"]

    @pytest.mark.parametrize("skew", [3600, -3600])
    def test_a_clock_that_is_an_hour_off_interrupts_nothing(
        self, on: str, world: Path, project: Project, notebook: str, tmp_path: Path, skew: float
    ) -> None:
        self.faults(world, skew=skew)
        fork(n=1, on=on, notebook=notebook, detach=True)
        poll(lambda: self.phases(project) == ["running"])
        seen = set()

        def has_beaten() -> bool:
            seen.update(self.phases(project))
            beats.add((Run.load(project.data_job / "sub_job_000").state() or {}).get("beat"))
            return len(beats) > 2

        beats: set[Any] = set()
        poll(has_beaten)
        self.lose_the_scheduler(project)
        seen.update(self.phases(project))
        (tmp_path / "go").touch()
        fork(n=1, on=on, notebook=notebook)
        assert seen == {"running"}
        assert self.phases(project) == ["done"]
        assert self.executions(tmp_path) == ["0"]

    def test_what_nobody_can_tell_is_not_tried_again(
        self, on: str, world: Path, project: Project, notebook: str, tmp_path: Path
    ) -> None:
        fork(n=1, on=on, retries=3, notebook=notebook, detach=True)
        poll(lambda: self.executions(tmp_path) == ["0"])
        self.faults(world, unknown=True)
        poll(lambda: "not heard of since" in str(jobs()))
        (tmp_path / "go").touch()
        poll(lambda: not any(process.is_alive(job["who"]) for job in map(process.read_json, world.glob("*/job.json"))))
        assert self.phases(project) == ["running"]
        self.faults(world)
        poll(lambda: self.phases(project) == ["done"])
        assert self.executions(tmp_path) == ["0"]

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_scheduler_that_dies_in_a_submission_leaves_no_run_that_is_submitted_twice(
        self, on: str, world: Path, project: Project, notebook: str, tmp_path: Path, when: str
    ) -> None:
        (tmp_path / "go").touch()
        self.faults(world, dies=when)
        fork(n=2, on=on, workers=2, notebook=notebook, detach=True)
        poll(lambda: not scheduler.is_running(project.data_job))
        assert (project.data_job / "sub_job_001" / "ref.json").exists(), "its key is there before it is submitted"
        fork(n=2, on=on, workers=2, notebook=notebook)
        assert self.phases(project) == ["done", "done"]
        assert self.executions(tmp_path) == ["0", "1"]
        assert sorted(elsewhere.submissions(world)) == [0, 1]

    def test_a_submission_whose_answer_is_lost_is_looked_for(
        self, on: str, world: Path, project: Project, notebook: str, tmp_path: Path
    ) -> None:
        (tmp_path / "go").touch()
        self.faults(world, lost=True)
        fork(n=3, on=on, workers=3, notebook=notebook)
        assert self.phases(project) == ["done"] * 3
        assert self.executions(tmp_path) == ["0", "1", "2"]

    def test_runs_wait_while_nothing_can_be_reached_and_it_is_said(
        self, on: str, world: Path, project: Project, notebook: str, tmp_path: Path
    ) -> None:
        (tmp_path / "go").touch()
        self.faults(world, away=True)
        fork(n=1, on=on, notebook=notebook, detach=True)
        poll(lambda: "elsewhere.example cannot be reached" in str(jobs()))
        self.faults(world)
        poll(lambda: self.phases(project) == ["done"])

    def test_results_that_cannot_come_home_are_waited_for(
        self, on: str, world: Path, project: Project, notebook: str, tmp_path: Path
    ) -> None:
        fork(n=1, on=on, notebook=notebook, detach=True)
        poll(lambda: self.executions(tmp_path) == ["0"])
        self.lose_the_scheduler(project)
        (tmp_path / "go").touch()
        poll(lambda: not any(process.is_alive(job["who"]) for job in map(process.read_json, world.glob("*/job.json"))))
        self.faults(world, away=True)
        fork(n=1, on=on, notebook=notebook, detach=True)
        poll(lambda: "not heard of" in str(jobs()))
        with pytest.raises(ColabMagicsError):
            jobs.retry("0")
        self.faults(world)
        poll(lambda: self.phases(project) == ["done"])
        assert (project.data_job / "sub_job_000" / "result.txt").read_text() == "0"
        assert self.executions(tmp_path) == ["0"]

    def test_what_has_ended_and_was_forgotten_there_is_done_here(
        self, on: str, world: Path, project: Project, notebook: str, tmp_path: Path
    ) -> None:
        (tmp_path / "go").touch()
        self.faults(world, forgets=True)
        fork(n=2, on=on, notebook=notebook)
        assert self.phases(project) == ["done", "done"]

    def test_a_run_that_vanishes_is_interrupted_and_tried_again_when_asked_for(
        self, on: str, world: Path, project: Project, notebook: str, tmp_path: Path
    ) -> None:
        fork(n=1, on=on, notebook=notebook, detach=True)
        poll(lambda: self.executions(tmp_path) == ["0"])
        (job,) = map(process.read_json, world.glob("*/job.json"))
        process.end_tree(job["who"]["pid"], grace=0)
        poll(lambda: self.phases(project) == ["interrupted"])
        (tmp_path / "go").touch()
        fork(n=1, on=on, notebook=notebook)
        assert self.phases(project) == ["done"]
        assert self.executions(tmp_path) == ["0", "0"]

    def test_watching_attends_to_runs_whose_scheduler_is_gone(
        self, on: str, world: Path, project: Project, notebook: str, tmp_path: Path
    ) -> None:
        fork(n=1, on=on, notebook=notebook, detach=True)
        poll(lambda: self.executions(tmp_path) == ["0"])
        self.lose_the_scheduler(project)
        assert "Nobody looks after" in str(jobs())
        (tmp_path / "go").touch()
        jobs.watch("baseline")
        assert self.phases(project) == ["done"]

    def test_a_run_that_is_out_is_not_taken_by_another_engine(
        self, on: str, project: Project, notebook: str, tmp_path: Path
    ) -> None:
        fork(n=1, on=on, notebook=notebook, detach=True)
        poll(lambda: self.executions(tmp_path) == ["0"])
        self.lose_the_scheduler(project)
        with pytest.raises(Busy, match=r"baseline/0 is being executed with on=elsewhere"):
            fork(n=1, notebook=notebook)
        jobs.kill("0")
        (tmp_path / "go").touch()
        fork(n=1, notebook=notebook)
        assert self.phases(project) == ["done"]
        assert self.executions(tmp_path) == ["0", "0"]

    def test_an_engine_is_not_asked_because_a_folder_names_it(
        self, on: str, world: Path, project: Project, notebook: str, tmp_path: Path
    ) -> None:
        (tmp_path / "go").touch()
        fork(n=1, notebook=notebook)
        stranger = leave_run(project.data_job, 7, None, parameters={"lr": 7}, engine="elsewhere:evil")
        said = {"attempt": 1, "key": "x", "engine": "elsewhere:evil", "ref": {"job": "x"}}
        process.write_json(stranger.folder / "ref.json", said)
        (project.data_job / ".scheduler" / "state.json").unlink()
        fork(n=2, notebook=notebook)
        assert (process.read_json(stranger.folder / "ref.json") or {}) == said, "nobody has asked about it"

    def test_a_folder_that_names_an_engine_that_is_not_here_ends_no_line(
        self, on: str, project: Project, notebook: str, tmp_path: Path
    ) -> None:
        (tmp_path / "go").touch()
        fork(n=1, notebook=notebook)
        stranger = leave_run(project.data_job, 7, None, parameters={"lr": 7}, engine="nowhere:evil.example")
        said = {"attempt": 1, "key": "x", "engine": "nowhere:evil.example", "ref": {"pid": 1}}
        process.write_json(stranger.folder / "ref.json", said)
        (project.data_job / ".scheduler" / "state.json").unlink()
        fork(n=2, notebook=notebook)
        assert "queued on nowhere:evil.example" in str(jobs())
        with pytest.raises(ColabMagicsError, match=r"Nobody could see the end of baseline/7 \(nowhere:evil.example\)"):
            jobs.kill("7")

    def test_it_forks_no_kernels(self, on: str, project: Project, notebook: str) -> None:
        with pytest.raises(InvalidInput, match=r"start=warm is not possible on=elsewhere"):
            fork(n=1, on=on, start="warm", notebook=notebook)
        assert runs_of(project.data_job) == []

    def test_the_environment_here_does_not_go_there(self, on: str, project: Project, tmp_path: Path) -> None:
        from runs.notebooks import write_notebook

        os.environ["NOT_FOR_OTHERS"] = "x"
        try:
            cell = "import os\nassert 'NOT_FOR_OTHERS' not in os.environ"
            fork(n=1, on=on, notebook=str(write_notebook(project.root / "a.ipynb", cell)))
        finally:
            del os.environ["NOT_FOR_OTHERS"]
        assert self.phases(project) == ["done"]
