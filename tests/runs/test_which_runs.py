"""Which job a notebook's runs go to, and which of the runs there are its own."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import poll

from colab_magics import fork, jobs, session
from colab_magics.checkout.project import Project, find_project
from colab_magics.errors import Busy, InvalidInput, NotFound, RunsFailed
from colab_magics.records.run import Run
from colab_magics.runs import joined, scheduler
from colab_magics.runs.board import Board
from colab_magics.session import Session
from colab_magics.ui import TerminalUI

from .notebooks import write_notebook

UNTIL_GO = """
import os, time
while not os.path.exists(data_job + '/go'):
    time.sleep(0.02)
open(data_job + '/ran', 'a').write(str(i_sub_job))
"""


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], io.StringIO]:
    """Give a fresh shell in the test's folder, as a restart does; returns what it says."""
    monkeypatch.chdir(tmp_path)

    def make() -> io.StringIO:
        said = io.StringIO()
        session._active.clear()
        session.activate(Session(ui=TerminalUI(out=said)))
        return said

    return make


def phases(board: object) -> list[str]:
    assert isinstance(board, Board)
    return [status.phase for _, status in board.statuses()]


class TestJobs:
    def test_notebooks_of_a_folder_and_below_have_jobs_of_their_own(
        self, tmp_path: Path, fresh: Callable[[], io.StringIO]
    ) -> None:
        for name in ("a.ipynb", "b.ipynb", "below/c.ipynb"):
            said = fresh()
            write_notebook(tmp_path / name, f"print({name!r})")
            fork(n=1, notebook=name)
            assert f"data_job/{Path(name).stem}" in said.getvalue()
        jobs = sorted(path.name for path in (tmp_path / "data_job").iterdir())
        assert jobs == ["a", "b", "c"]

    def test_a_job_of_another_notebook_is_left_alone_and_named(self, project: Project, said: io.StringIO) -> None:
        write_notebook(project.root / "a.ipynb", "print('a')")
        write_notebook(project.root / "b.ipynb", "open(data_job + '/b', 'w').write(str(i_sub_job))")
        fork(n=1, notebook=str(project.root / "a.ipynb"))
        before = (project.data_job / "sub_job_000" / "run.json").read_bytes()
        fork(n=2, notebook=str(project.root / "b.ipynb"))
        assert "baseline also holds runs of a.ipynb" in said.getvalue()
        assert (project.data_job / "sub_job_000" / "run.json").read_bytes() == before
        assert [(path.parent.name, path.read_text()) for path in sorted(project.data_job.glob("*/b"))] == [
            ("sub_job_001", "1"),
            ("sub_job_002", "0"),
        ]

    def test_a_renamed_notebook_keeps_its_runs_and_is_asked_when_its_code_changes(
        self, project: Project, said: io.StringIO
    ) -> None:
        write_notebook(project.root / "a.ipynb", "print('a')")
        fork(n=2, notebook=str(project.root / "a.ipynb"))
        (project.root / "a.ipynb").rename(project.root / "new.ipynb")
        fork(n=2, notebook=str(project.root / "new.ipynb"))
        assert "2 kept (made by a.ipynb)" in said.getvalue()
        write_notebook(project.root / "new.ipynb", "print('edited')")
        with pytest.raises(InvalidInput, match="2 runs finished with other code"):
            fork(n=2, notebook=str(project.root / "new.ipynb"))

    def test_after_a_rename_the_job_of_the_former_name_is_named(
        self, tmp_path: Path, fresh: Callable[[], io.StringIO]
    ) -> None:
        fresh()
        write_notebook(tmp_path / "Untitled.ipynb", "print('a')")
        fork(n=2, workers="2", notebook="Untitled.ipynb")
        (tmp_path / "Untitled.ipynb").rename(tmp_path / "train.ipynb")
        said = fresh()
        fork(n=1, notebook="train.ipynb")
        assert "Untitled.ipynb is not there any more, and 2 runs of it" in said.getvalue()
        assert "%project job=Untitled" in said.getvalue()
        said = fresh()
        write_notebook(tmp_path / "other.ipynb", "print('other')")
        fork(n=1, notebook="other.ipynb")
        assert "Untitled" not in said.getvalue()

    @pytest.mark.parametrize("line", ["%project name=net root=. job=mine", "%%project\nname = 'net'\njob = 'mine'"])
    def test_the_shell_reads_the_notebooks_own_line(
        self, tmp_path: Path, fresh: Callable[[], io.StringIO], line: str
    ) -> None:
        (tmp_path / "net").mkdir()
        Project(name="net", job="last", root=tmp_path / "net", notebooks=tmp_path / "net").save()
        write_notebook(tmp_path / "term.ipynb", "%load_ext colab_magics", line, "print(1)")
        command = [sys.executable, "-m", "colab_magics", "fork", "notebook=term.ipynb", "n=1"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        run = tmp_path / "net" / "data_job" / "mine" / "sub_job_000"
        assert run.is_dir(), done.stderr
        assert Run.load(run).status().phase == "done", (run / "log.txt").read_text()
        found = find_project(tmp_path / "net")
        assert found is not None
        assert found.job == "mine"
        assert not (tmp_path / "net" / "data_job" / "last").exists()

    def test_a_project_that_is_not_here_is_said(self, tmp_path: Path, fresh: Callable[[], io.StringIO]) -> None:
        fresh()
        write_notebook(tmp_path / "t.ipynb", "%project git=https://example.org/me/net.git job=a", "print(1)")
        with pytest.raises(NotFound, match=r"t\.ipynb sets up the project 'net'"):
            fork(n=1, notebook="t.ipynb")
        write_notebook(tmp_path / "t.ipynb", "%project name=net job={job}", "print(1)")
        with pytest.raises(InvalidInput, match="only the running notebook knows"):
            fork(n=1, notebook="t.ipynb")


class TestModules:
    def test_an_edited_module_is_other_code(self, project: Project, said: io.StringIO) -> None:
        (project.root / "model.py").write_text("layers = 1\n")
        notebook = write_notebook(project.root / "a.ipynb", "import model", "print(model.layers)")
        fork(n=1, notebook=str(notebook))
        (project.root / "model.py").write_text("layers = 1  # a comment\n")
        fork(n=1, notebook=str(notebook))
        (project.root / "model.py").write_text("layers = 2\n")
        with pytest.raises(InvalidInput, match=r"1 run finished with other code \(model\.py\)"):
            fork(n=1, notebook=str(notebook))

    @pytest.mark.parametrize("option", [{"resume": "rerun"}, {"force": True}])
    def test_rerun_and_force_execute_all_points_again(self, project: Project, option: dict[str, object]) -> None:
        notebook = write_notebook(project.root / "a.ipynb", "open(data_job + '/out', 'a').write('x')")
        fork(n=2, notebook=str(notebook))
        board = fork(n=2, notebook=str(notebook), **option)  # type: ignore[arg-type]
        assert phases(board) == ["done", "done"]
        assert [path.read_text() for path in project.data_job.glob("sub_job_*/out")] == ["x", "x"]
        assert len(list((project.data_job / ".superseded").glob("*/out"))) == 2


class TestNumbers:
    def test_i_sub_job_counts_from_0_whatever_the_folders_are(self, project: Project, said: io.StringIO) -> None:
        cell = "open(data_job + '/out', 'w').write(f'{i_sub_job} {globals().get(\"lr\", 0)}')"
        notebook = write_notebook(project.root / "a.ipynb", cell)
        fork({"lr": [7, 8]}, notebook=str(notebook))
        board = fork(n=3, notebook=str(notebook))
        assert board is not None
        texts = {path.parent.name: path.read_text() for path in project.data_job.glob("*/out")}
        assert texts["sub_job_000"] == "0 7"
        assert texts["sub_job_001"] == "1 8"
        assert sorted(texts.values()) == ["0 0", "0 7", "1 0", "1 8", "2 0"]
        assert [run.i_sub_job for run in board.runs] == [0, 1, 2]
        only = fork(n=4, only="3", notebook=str(notebook))
        assert [run.i_sub_job for run in only.runs] == [3]  # type: ignore[union-attr]
        with pytest.raises(InvalidInput, match=r"only=9(?s:.*)0 to 3"):
            fork(n=4, only="9", notebook=str(notebook))

    def test_join_holds_the_points_of_the_grid_in_its_order(self, project: Project) -> None:
        notebook = write_notebook(project.root / "a.ipynb", "print(lr)")
        fork({"lr": [1, 2, 3]}, notebook=str(notebook))
        fork({"lr": [3, 9, 1]}, workers="2", notebook=str(notebook))
        assert [run.parameters["lr"] for run in joined.recall(project.data_job).runs] == [3, 9, 1]

    def test_a_run_that_deletes_its_own_folder_is_not_forgotten(self, project: Project) -> None:
        cell = "import shutil\nif i_sub_job == 1:\n    shutil.rmtree(data_job)"
        notebook = write_notebook(project.root / "a.ipynb", cell)
        with pytest.raises(RunsFailed, match=r"baseline/1  its folder is not there any more(?s:.*)line again: it"):
            fork(n=4, notebook=str(notebook))
        runs = joined.recall(project.data_job)
        assert phases(runs) == ["done", "unreadable", "done", "done"]
        assert "its folder is not there any more" in str(runs)
        assert list(runs.table()["run"]) == [f"baseline/{index}" for index in range(4)]
        with pytest.raises(NotFound, match=r"no run 1\.(?s:.*)It has: 0, 2 to 3\."):
            jobs.show("1")
        write_notebook(project.root / "a.ipynb", "1")
        assert phases(fork(n=4, notebook=str(notebook), resume="keep")) == ["done"] * 4

    def test_here_leaves_a_finished_run_alone(self, project: Project, said: io.StringIO) -> None:
        notebook = write_notebook(project.root / "a.ipynb", "open(data_job + '/out', 'w').write('result')")
        fork(n=1, notebook=str(notebook))
        before = {path.name for path in (project.data_job / "sub_job_000").iterdir()}
        fork(n=1, here=0, notebook=str(notebook))
        assert session.current().run_here == project.data_job / "here_sub_job_000"
        assert "data_job is here_sub_job_000" in said.getvalue()
        assert {path.name for path in (project.data_job / "sub_job_000").iterdir()} == before
        fork(n=1, here=0, resume="keep", notebook=str(notebook))
        assert session.current().run_here == project.data_job / "sub_job_000"


class TestGoingOn:
    def test_the_same_points_after_a_restart_are_watched(self, project: Project, said: io.StringIO) -> None:
        notebook = write_notebook(project.root / "a.ipynb", UNTIL_GO)
        fork(n=3, workers="1", notebook=str(notebook), detach=True)
        folders = [project.data_job / f"sub_job_00{i}" for i in range(3)]
        poll(lambda: Run.load(folders[0]).status().cell == 1)
        with pytest.raises(Busy, match=r"Other runs of job 'baseline'(?s:.*)workers=(?s:.*)%jobs kill baseline"):
            fork(n=4, notebook=str(notebook))
        boards: list[object] = []
        session.current().forked.clear()
        again = threading.Thread(
            target=lambda: boards.append(fork(n=3, workers="3", notebook=str(notebook))), daemon=True
        )
        again.start()
        # workers= counts for the runs that go on
        poll(lambda: [Run.load(folder).status().phase for folder in folders] == ["running"] * 3)
        for folder in folders:
            (folder / "go").touch()
        again.join(60)
        assert phases(boards[0]) == ["done"] * 3
        assert [(folder / "ran").read_text() for folder in folders] == ["0", "1", "2"]
        assert {Run.load(folder).attempt for folder in folders} == {1}
        assert "3 still running" in said.getvalue()

    def test_other_code_does_not_join_what_runs(self, project: Project) -> None:
        notebook = write_notebook(project.root / "a.ipynb", UNTIL_GO)
        fork(n=2, workers="1", notebook=str(notebook), detach=True)
        folders = [project.data_job / f"sub_job_00{i}" for i in range(2)]
        poll(lambda: Run.load(folders[0]).status().cell == 1)
        write_notebook(project.root / "a.ipynb", UNTIL_GO + "1\n")
        with pytest.raises(InvalidInput, match=r"started with other code \(cell 1\)"):
            fork(n=2, notebook=str(notebook))
        for folder in folders:
            (folder / "go").touch()
        poll(lambda: not scheduler.is_running(project.data_job))

    def test_the_hint_of_a_failed_run_does_what_it_says(self, project: Project) -> None:
        notebook = write_notebook(project.root / "a.ipynb", "print(1)", "assert i_sub_job != 1")
        with pytest.raises(RunsFailed, match="again with resume=keep"):
            fork(n=3, notebook=str(notebook))
        with pytest.raises(RunsFailed, match="again with resume=keep"):
            jobs.retry("failed")
        write_notebook(project.root / "a.ipynb", "print(1)", "assert i_sub_job != 7")
        board = fork(n=3, notebook=str(notebook), resume="keep")
        assert phases(board) == ["done"] * 3

    def test_resumed_is_said_of_runs_that_left_something(self, project: Project, said: io.StringIO) -> None:
        cells = "from colab_magics import report\nreport(loss=1, step=20)\n"
        notebook = write_notebook(project.root / "a.ipynb", cells + "1 / 0")
        with pytest.raises(RunsFailed):
            fork(n=1, notebook=str(notebook))
        with pytest.raises(RunsFailed):
            fork(n=1, notebook=str(notebook))
        assert "resumed" not in said.getvalue()
        (project.data_job / "sub_job_000" / "model.pt").touch()
        with pytest.raises(RunsFailed):
            fork(n=1, notebook=str(notebook))
        assert "resumed at step 20" in said.getvalue()

    def test_then_continue_goes_on_when_runs_failed(self, project: Project, said: io.StringIO) -> None:
        notebook = write_notebook(project.root / "a.ipynb", "assert i_sub_job != 1")
        board = fork(n=2, notebook=str(notebook), then="continue")
        assert phases(board) == ["done", "failed"]
        assert "1 of 2 runs did not end well" in said.getvalue()

    def test_force_and_keep_contradict(self, project: Project) -> None:
        notebook = write_notebook(project.root / "a.ipynb", "1")
        with pytest.raises(InvalidInput, match="opposite"):
            fork(n=1, notebook=str(notebook), resume="keep", force=True)


def test_a_damaged_record_of_forks_is_none(project: Project) -> None:
    notebook = write_notebook(project.root / "a.ipynb", "1")
    fork(n=2, notebook=str(notebook))
    (project.data_job / ".scheduler" / "forks.json").write_text(json.dumps({"forks": [1, {"runs": "x"}]}))
    assert [run.index for run in joined.recall(project.data_job).runs] == [0, 1]
