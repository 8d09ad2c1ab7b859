"""What every engine keeps to; each one's test module makes a subclass that says which it is (``on``)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from conftest import poll, set_up
from runs.notebooks import write_notebook

from colab_magics import fork, jobs, process, submit
from colab_magics.checkout.project import Project
from colab_magics.engines import open_engine
from colab_magics.errors import InvalidInput, RunsFailed
from colab_magics.records.names import SCHEDULER
from colab_magics.records.run import Run, runs_of
from colab_magics.runs import scheduler, submitted

COUNT = "open({count!r}, 'a').write(f'{{i_sub_job}} ')"
UNTIL_GO = """
import os, time
import colab_magics
print("it is there")
colab_magics.report(step=1, loss=0.5)
while not os.path.exists({go!r}):
    time.sleep(0.02)
open(data_job + "/result.txt", "w").write(str(i_sub_job))
"""


class EngineSuite:
    """Tests of an engine through what users say."""

    @pytest.fixture
    def on(self) -> str:
        """What ``on=`` says."""
        raise NotImplementedError

    @pytest.fixture
    def project(self, tmp_path: Path) -> Project:
        return set_up(tmp_path / "a'; echo foo $(touch gone)")

    @pytest.fixture
    def notebook(self, project: Project, tmp_path: Path) -> str:
        """A notebook whose runs tell that they were begun, and go on when they are told to."""
        cells = [COUNT.format(count=str(tmp_path / "count")), UNTIL_GO.format(go=str(tmp_path / "go"))]
        return str(write_notebook(project.root / "train.ipynb", *cells))

    def executions(self, tmp_path: Path) -> list[str]:
        count = tmp_path / "count"
        return sorted(count.read_text().split()) if count.exists() else []

    def phases(self, project: Project) -> list[str]:
        return [run.status().phase for run in runs_of(project.data_job)]

    def lose_the_scheduler(self, project: Project) -> None:
        state = poll(lambda: process.read_json(project.data_job / SCHEDULER / "state.json"))
        os.kill(state["process"]["pid"], signal.SIGKILL)
        poll(lambda: not scheduler.is_running(project.data_job))

    def test_runs_have_their_values_and_their_results_come_home(self, on: str, project: Project) -> None:
        cell = "print(f'lr is {lr}')\nopen(data_job + '/result.txt', 'w').write(f'{i_sub_job} {lr}')"
        notebook = write_notebook(project.root / "a.ipynb", cell)
        board = fork({"lr": [0.1, 0.2, 0.3]}, on=on, workers=2, notebook=str(notebook))
        assert self.phases(project) == ["done"] * 3
        folders = [run.folder for run in board.runs]  # type: ignore[union-attr]
        assert [(folder / "result.txt").read_text() for folder in folders] == ["0 0.1", "1 0.2", "2 0.3"]
        assert all(f"lr is 0.{number}" in (folder / "log.txt").read_text() for number, folder in enumerate(folders, 1))
        assert all((folder / "notebook.ipynb").is_file() for folder in folders)
        fork({"lr": [0.1, 0.2, 0.3, 0.4]}, on=on, workers=2, notebook=str(notebook))
        assert [run.attempt for run in runs_of(project.data_job)] == [1] * 4
        assert not list(project.root.parent.rglob("gone"))

    def test_log_and_metrics_come_home_while_a_run_lives(
        self, on: str, project: Project, notebook: str, tmp_path: Path
    ) -> None:
        fork(n=1, on=on, notebook=notebook, detach=True)
        folder = project.data_job / "sub_job_000"
        poll(lambda: self.phases(project) == ["running"], timeout=60)
        poll(lambda: "it is there" in (folder / "log.txt").read_text(), timeout=60)
        poll(lambda: "loss" in (folder / "metrics.jsonl").read_text(), timeout=60)
        poll(lambda: "cell 2 of 2" in Run.load(folder).status().text or "step" in Run.load(folder).status().text)
        (tmp_path / "go").touch()
        poll(lambda: self.phases(project) == ["done"], timeout=60)
        assert (folder / "result.txt").read_text() == "0"

    def test_a_run_that_fails_says_why_and_is_tried_again(self, on: str, project: Project) -> None:
        cell = "import os\nopen(data_job + '/tries', 'a').write('x')\nassert False, 'no good'"
        with pytest.raises(RunsFailed, match=r"failed in cell 1: AssertionError: no good"):
            fork(n=1, on=on, retries=1, notebook=str(write_notebook(project.root / "a.ipynb", cell)))
        (run,) = runs_of(project.data_job)
        assert (run.attempt, [one["phase"] for one in run.earlier]) == (2, ["failed"])
        assert (run.folder / "tries").is_file()

    def test_a_run_is_killed_and_so_is_one_that_waits(
        self, on: str, project: Project, notebook: str, tmp_path: Path
    ) -> None:
        fork(n=2, on=on, workers=1, notebook=notebook, detach=True)
        poll(lambda: self.executions(tmp_path) == ["0"], timeout=60)
        jobs.kill("baseline")
        assert self.phases(project) == ["killed", "killed"]
        poll(lambda: not scheduler.is_running(project.data_job), timeout=60)
        assert self.executions(tmp_path) == ["0"]
        (tmp_path / "go").touch()
        fork(n=2, on=on, notebook=notebook)
        assert self.phases(project) == ["done", "done"]

    def test_a_run_that_is_stopped_early_is_no_failure(self, on: str, project: Project) -> None:
        steps = "for step in range(3000):\n    colab_magics.report(step=step, loss=1.0)\n    time.sleep(0.02)"
        cell = f"import colab_magics, time\n{steps}\nopen(data_job + '/result.txt', 'w').close()"
        notebook = str(write_notebook(project.root / "a.ipynb", cell))
        fork(n=1, on=on, notebook=notebook, detach=True)
        run = poll(lambda: next(iter(runs_of(project.data_job)), None))
        poll(lambda: "loss" in (run.folder / "metrics.jsonl").read_text(), timeout=60)
        submission = submitted.known(run)
        assert submission is not None
        if not (softly := open_engine(on).stop_early(submission, "it could not win")):
            run.judge("stopped", "it could not win")
        poll(lambda: self.phases(project) == ["stopped"], timeout=60)
        assert run.status().text.startswith("stopped early"), run.status()
        poll(lambda: not scheduler.is_running(project.data_job), timeout=60)
        assert not (run.folder / "result.txt").exists()
        assert run.notebook.exists() or not softly
        fork(n=1, on=on, notebook=notebook)
        assert [(one.attempt, one.status().phase) for one in runs_of(project.data_job)] == [(1, "stopped")]

    @pytest.mark.long
    def test_a_search_learns_from_the_runs_there(self, on: str, project: Project) -> None:
        optuna = pytest.importorskip("optuna", reason="extra [search]")
        notebook = write_notebook(project.root / "a.ipynb", "import colab_magics\ncolab_magics.report(loss=x * x)")
        words = {"search": 3, "goal": "min:loss", "sampler": "tpe", "seed": "2", "workers": "1"}
        fork({"x": "uniform(-1, 1)"}, on=on, notebook=str(notebook), **words)  # type: ignore[arg-type]
        alone = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=2))
        alone.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, 3)
        runs = runs_of(project.data_job)
        assert [run.parameters["x"] for run in runs] == [trial.params["x"] for trial in alone.trials]
        assert [run.record["search"]["told"] for run in runs] == [[], [0], [1]], "each knew what the one before came to"

    def test_the_next_call_goes_on_with_what_a_lost_scheduler_has_left(
        self, on: str, project: Project, notebook: str, tmp_path: Path
    ) -> None:
        fork(n=3, on=on, workers=2, notebook=notebook, detach=True)
        poll(lambda: self.executions(tmp_path) == ["0", "1"], timeout=60)
        self.lose_the_scheduler(project)
        (tmp_path / "go").touch()
        board = fork(n=3, on=on, workers=2, notebook=notebook)
        assert self.phases(project) == ["done"] * 3
        assert self.executions(tmp_path) == ["0", "1", "2"], "nothing was executed twice"
        results = [(run.folder / "result.txt").read_text() for run in board.runs]  # type: ignore[union-attr]
        assert results == ["0", "1", "2"]

    def test_what_a_lost_scheduler_has_left_is_killed(
        self, on: str, project: Project, notebook: str, tmp_path: Path
    ) -> None:
        fork(n=2, on=on, workers=1, notebook=notebook, detach=True)
        poll(lambda: self.executions(tmp_path) == ["0"], timeout=60)
        self.lose_the_scheduler(project)
        jobs.kill("baseline")
        assert self.phases(project) == ["killed", "killed"]
        assert not (project.data_job / "sub_job_000" / "result.txt").exists()
        assert not any(run.is_out() for run in runs_of(project.data_job))

    def test_what_has_ended_meanwhile_is_done(self, on: str, project: Project, notebook: str, tmp_path: Path) -> None:
        fork(n=1, on=on, notebook=notebook, detach=True)
        poll(lambda: self.executions(tmp_path) == ["0"], timeout=60)
        self.lose_the_scheduler(project)
        (tmp_path / "go").touch()
        fork(n=1, on=on, notebook=notebook)
        assert self.phases(project) == ["done"]
        assert self.executions(tmp_path) == ["0"]

    def test_a_command_is_executed_there_and_what_it_prints_comes_home(
        self, on: str, project: Project, tmp_path: Path
    ) -> None:
        lines = [
            "import os, sys",
            "print('lr is', sys.argv[1])",
            "open(os.environ['data_job'] + '/out', 'w').write('x')",
        ]
        os.chdir(project.root)
        Path("train.py").write_text("\n".join(lines))
        board = submit("python", "train.py", "{lr}", grid={"lr": [1, 2]}, on=on, wait=True)
        assert self.phases(project) == ["done", "done"]
        for run, lr in zip(board.runs, (1, 2), strict=True):  # type: ignore[union-attr]
            assert f"lr is {lr}\n" in (run.folder / "log.txt").read_text()
            assert (run.folder / "out").read_text() == "x"
        with pytest.raises(RunsFailed, match="exit code 3"):
            submit("exit 3 ", on=on, wait=True)

    def test_secrets_arrive_and_stand_in_no_file(
        self, on: str, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from colab_magics import session

        monkeypatch.setenv("THE_KEY", "s3cr3t-of-the-user")
        session.current().secrets.append("THE_KEY")
        cell = "import os\nopen(data_job + '/length', 'w').write(str(len(os.environ['THE_KEY'])))"
        fork(n=1, on=on, notebook=str(write_notebook(project.root / "a.ipynb", cell)))
        assert (project.data_job / "sub_job_000" / "length").read_text() == "18"
        files = [path for path in project.root.parent.rglob("*") if path.is_file()]
        assert not [path for path in files if b"s3cr3t-of" in path.read_bytes()]

    def test_words_after_the_name_that_mean_nothing(self, on: str, project: Project, notebook: str) -> None:
        with pytest.raises(InvalidInput, match=r"Unknown engine 'nowhere'|nowhere"):
            fork(n=1, on="nowhere", notebook=notebook)
        assert runs_of(project.data_job) == []
