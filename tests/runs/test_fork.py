"""``%fork`` on the local engine with real kernels: what a run sees, what it leaves, and what is said when it fails."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import HOSTILE_NAMES, poll

from colab_magics import download, fork, jobs, process, session, submit
from colab_magics.checkout.project import Project
from colab_magics.errors import Busy, InvalidInput, NotFound, RunsFailed
from colab_magics.records.run import Run
from colab_magics.runs import scheduler
from colab_magics.runs.board import Board
from colab_magics.session import Session
from colab_magics.ui import TerminalUI

from .notebooks import outputs, write_notebook

SLEEP = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'], start_new_session=True)
open(data_job + '/saved', 'w').write(str(child.pid))
print('sleeping', flush=True)
time.sleep(300)
"""
UNTIL_GO = """
import os, time
while not os.path.exists(data_job + '/go'):
    time.sleep(0.02)
"""
WORK = "import os\nopen(os.path.join(data_job, 'test.txt'), 'w').write(f'Running sub-job {i_sub_job}')"


def in_background(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def failing(**options: Any) -> None:
    with pytest.raises(RunsFailed):
        fork(**options)


def test_five_runs_each_with_its_number_and_folder(project: Project, said: io.StringIO) -> None:  # B10, B11, B12
    notebook = write_notebook(
        project.root / "train.ipynb", "i_sub_job = 99", WORK, "print('pid', __import__('os').getpid())"
    )
    board = fork(n=5, workers=2, notebook=str(notebook))
    assert isinstance(board, Board)
    assert [status.phase for _, status in board.statuses()] == ["done"] * 5
    for index in range(5):
        folder = project.data_job / f"sub_job_{index:03d}"
        # The default above %fork would win if the values were only injected at the top; there is no %fork here.
        assert (folder / "notebook.ipynb").exists()
        assert "── cell 3 (3 of 3)" in (folder / "log.txt").read_text()
    pids = {outputs(run.notebook).split("pid ")[1].split()[0] for run in board.runs}
    assert len(pids) == 5  # a fresh process each
    assert "baseline/4  done" in said.getvalue()


def test_fork_line_assigns_there_what_a_cell_above_had_set(project: Project) -> None:
    notebook = write_notebook(
        project.root / "train.ipynb", "%load_ext colab_magics\ni_sub_job = 99\ndata_job = 'wrong'", "%fork n=2", WORK
    )
    fork(n=2, notebook=str(notebook))
    texts = [(project.data_job / f"sub_job_00{i}" / "test.txt").read_text() for i in range(2)]
    assert texts == ["Running sub-job 0", "Running sub-job 1"]
    shown = outputs(project.data_job / "sub_job_001" / "notebook.ipynb")
    assert "run baseline/1: i_sub_job = 1" in shown


def test_current_sub_job_is_says_which_and_since_when(project: Project) -> None:  # B13
    notebook = write_notebook(project.root / "a.ipynb", UNTIL_GO)
    thread = in_background(lambda: fork(n=2, workers=2, notebook=str(notebook)))
    current = project.data_job / "current_sub_job_is.txt"
    text = poll(lambda: current.exists() and current.read_text().count("running:") == 2 and current.read_text())
    assert text.splitlines()[0] == "1"
    assert "group started 20" in text
    for index in range(2):
        (project.data_job / f"sub_job_00{index}" / "go").touch()
    thread.join(60)
    assert not thread.is_alive()


def test_first_only_and_done_file(project: Project) -> None:  # B10, B14
    notebook = write_notebook(project.root / "a.ipynb", WORK)
    (project.data_job / "sub_job_003").mkdir(parents=True)
    (project.data_job / "sub_job_003" / "model.pt").touch()
    board = fork(n=5, first=2, done_file="model.pt", notebook=str(notebook))
    assert board is not None
    assert [run.index for run in board.runs] == [2, 4]
    assert not (project.data_job / "sub_job_000").exists()
    assert not (project.data_job / "sub_job_003" / "test.txt").exists()


def test_a_failed_run_raises_after_the_others_with_run_cell_error_and_log(
    project: Project,
) -> None:  # ✗ main job went on
    notebook = write_notebook(
        project.root / "a.ipynb", WORK, "# %% [markdown] text", "print('before')\n1 / (i_sub_job - 1)", "print('after')"
    )
    with pytest.raises(RunsFailed) as failed:
        fork(n=3, notebook=str(notebook))
    text = str(failed.value)
    assert "1 of 3 runs" in text
    assert "baseline/1  failed in cell 2: ZeroDivisionError: division by zero" in text
    assert str(project.data_job / "sub_job_001" / "log.txt") in text
    assert (project.data_job / "sub_job_002" / "test.txt").exists()  # the others went to their end
    shown = outputs(project.data_job / "sub_job_001" / "notebook.ipynb")  # ✗ its notebook was lost
    assert "before" in shown
    assert "ZeroDivisionError" in shown
    assert "after" not in shown
    assert "ZeroDivisionError" in (project.data_job / "sub_job_001" / "log.txt").read_text()


def test_run_again_keeps_what_finished_and_goes_on_with_the_rest(project: Project) -> None:
    count = """
open(data_job + '/count', 'a').write('x')
assert i_sub_job != 1 or os.path.exists(data_job + '/fixed')
"""
    notebook = write_notebook(project.root / "a.ipynb", WORK, count)
    with pytest.raises(RunsFailed):
        fork(n=2, notebook=str(notebook))
    (project.data_job / "sub_job_001" / "fixed").touch()
    board = fork(n=3, notebook=str(notebook))
    assert board is not None
    assert [(run.index, run.attempt) for run in board.runs] == [(0, 1), (1, 2), (2, 1)]
    counts = [(project.data_job / f"sub_job_00{i}" / "count").read_text() for i in range(3)]
    assert counts == ["x", "xx", "x"]
    assert (project.data_job / "sub_job_001" / "attempt_1.ipynb").exists()


def test_changed_code_is_not_taken_for_finished(project: Project) -> None:
    path = project.root / "a.ipynb"
    fork(n=1, notebook=str(write_notebook(path, "x = 1")))
    with pytest.raises(InvalidInput, match=r"other code \(cell 1\)"):
        fork(n=1, notebook=str(write_notebook(path, "x = 2")))
    fork(n=1, notebook=str(write_notebook(path, "x = 2")), resume="rerun")
    assert (project.data_job / ".superseded" / "sub_job_000.1" / "notebook.ipynb").exists()


@pytest.mark.parametrize("n", [0, -3, 1.5, "many", True])
def test_a_number_of_runs_that_cannot_be(project: Project, n: Any) -> None:  # ✗ n=0 crashes
    with pytest.raises(InvalidInput, match=f"n={n}"):
        fork(n=n, notebook=str(write_notebook(project.root / "a.ipynb", "1")))
    assert not list(project.data_job.glob("sub_job_*"))


def test_no_number_no_notebook_no_kernel_no_engine(project: Project) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", "1"))
    strange = str(write_notebook(project.root / "b.ipynb", "1", kernel="julia-9"))
    (project.root / "c.ipynb").write_text("no json")
    with pytest.raises(InvalidInput, match="n=5"):
        fork(notebook=notebook)
    with pytest.raises(NotFound, match="notebook="):
        fork(n=1)
    with pytest.raises(NotFound, match=r"gone\.ipynb"):
        fork(n=1, notebook=str(project.root / "gone.ipynb"))
    with pytest.raises(InvalidInput, match="no notebook that can be read"):
        fork(n=1, notebook=str(project.root / "c.ipynb"))
    with pytest.raises(NotFound, match=r"julia-9(?s:.*)Installed: .*python3"):
        fork(n=1, notebook=strange)
    with pytest.raises(InvalidInput, match=r"There are:(?s:.*)\n  local\n"):
        fork(n=1, notebook=notebook, on="locl")
    assert not list(project.data_job.glob("sub_job_*"))


def test_slips_in_a_call_from_python(project: Project) -> None:
    notebook: Any = str(write_notebook(project.root / "a.ipynb", "1"))
    for grid in (5, "n=5", [1, 2]):
        with pytest.raises(InvalidInput, match=r"is none(?s:.*)fork\(n=5\)"):
            fork(grid, notebook=notebook)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"'notebok=' is no option(?s:.*)Did you mean notebook=\?"):
        fork(n=2, notebok=notebook)
    with pytest.raises(InvalidInput, match=r"'worker=' is no option(?s:.*)Did you mean workers=\?"):
        submit("true", worker=2)
    with pytest.raises(InvalidInput, match="is no address"):
        download([notebook])  # type: ignore[arg-type]
    assert not list(project.data_job.glob("sub_job_*"))


def test_a_folder_that_cannot_be_written(project: Project) -> None:
    (project.root / "data_job").write_text("a file in the way")
    with pytest.raises(Exception, match="cannot be written") as caught:
        fork(n=1, notebook=str(write_notebook(project.root / "a.ipynb", "1")))
    assert "→" in str(caught.value)


@pytest.mark.parametrize("name", HOSTILE_NAMES[:-1])
def test_hostile_names_of_folders(tmp_path: Path, said: io.StringIO, name: str) -> None:
    root = tmp_path / name / "{braces}"
    root.mkdir(parents=True)
    session.activate(Session(ui=TerminalUI(out=said), project=Project(name="p", job=name, root=root, notebooks=root)))
    fork(n=1, notebook=str(write_notebook(root / f"{name}.ipynb", WORK)))
    assert (root / "data_job" / name / "sub_job_000" / "test.txt").read_text() == "Running sub-job 0"


def test_kill_ends_the_whole_tree_and_keeps_what_was_saved(project: Project) -> None:
    notebook = write_notebook(project.root / "a.ipynb", "print('first cell')", SLEEP)
    failures: list[BaseException] = []

    def watch() -> None:
        try:
            fork(n=3, workers=1, notebook=str(notebook))
        except RunsFailed as error:
            failures.append(error)

    thread = in_background(watch)
    saved = project.data_job / "sub_job_000" / "saved"
    poll(lambda: saved.exists() and saved.read_text())
    with pytest.raises(Busy, match=r"%jobs watch baseline"):
        fork(n=4, notebook=str(notebook))
    board = jobs.kill("baseline")
    thread.join(30)
    assert not thread.is_alive()
    assert failures
    texts = [status.text for _, status in board.statuses()]
    assert texts[0].startswith("killed ")
    assert texts[0].endswith("cell 2 of 2")
    assert texts[1:] == ["killed before it started"] * 2
    assert not psutil.pid_exists(int(saved.read_text()))
    assert "first cell" in outputs(project.data_job / "sub_job_000" / "notebook.ipynb")
    assert "KeyboardInterrupt" in outputs(project.data_job / "sub_job_000" / "notebook.ipynb")


def test_a_runner_that_was_killed_hard_is_lost_not_running(project: Project) -> None:
    notebook = write_notebook(project.root / "a.ipynb", SLEEP)
    thread = in_background(lambda: failing(n=1, notebook=str(notebook)))
    folder = project.data_job / "sub_job_000"
    poll(lambda: "sleeping" in outputs(folder / "notebook.ipynb") if (folder / "notebook.ipynb").exists() else False)
    os.kill(Run.load(folder).state()["process"]["pid"], signal.SIGKILL)  # type: ignore[index]
    thread.join(30)
    assert not thread.is_alive()
    poll(lambda: Run.load(folder).status().text.startswith("lost "))
    assert process.identity(int((folder / "saved").read_text()))["started"] is None  # nothing goes on writing there
    assert Run.load(folder).status().phase == "interrupted"
    assert "sleeping" in outputs(folder / "notebook.ipynb")  # saved while the cell ran


def test_the_runs_outlive_the_one_who_watches(project: Project) -> None:
    notebook = write_notebook(project.root / "a.ipynb", UNTIL_GO)
    script = project.root / "main.py"
    script.write_text(f"from colab_magics import fork\nfork(n=1, notebook={str(notebook)!r})\n")
    main = psutil.Popen([sys.executable, str(script)], cwd=project.root)
    folder = project.root / "data_job" / "a" / "sub_job_000"  # the job of that notebook
    poll(lambda: (folder / "state.json").exists() and Run.load(folder).status().cell == 1)
    main.kill()
    main.wait()
    (folder / "go").touch()
    poll(lambda: Run.load(folder).status().phase == "done")
    poll(lambda: not scheduler.is_running(folder.parent))


def test_a_dead_kernel_is_a_failure_with_its_cell(project: Project) -> None:
    notebook = write_notebook(project.root / "a.ipynb", "1", "import os\nos._exit(7)")
    with pytest.raises(RunsFailed, match=r"baseline/0  failed in cell 2: DeadKernelError: the kernel died"):
        fork(n=1, notebook=str(notebook))


def test_a_notebook_that_names_no_language_runs(project: Project) -> None:
    path = write_notebook(project.root / "a.ipynb", WORK)
    content = json.loads(path.read_text())
    content["metadata"] = {"kernelspec": {"name": "python3"}}
    path.write_text(json.dumps(content))
    fork(n=1, notebook=str(path))
    assert (project.data_job / "sub_job_000" / "test.txt").exists()


def test_colabs_notebooks_without_cell_ids_run_without_a_word(project: Project) -> None:
    path = write_notebook(project.root / "a.ipynb", WORK)
    content = json.loads(path.read_text())
    content["nbformat_minor"] = 0
    for cell in content["cells"]:
        cell.pop("id", None)
    path.write_text(json.dumps(content))
    fork(n=1, notebook=str(path))
    assert "Warning" not in (project.data_job / "sub_job_000" / "log.txt").read_text()


def test_a_kill_begins_no_other_cell(project: Project) -> None:
    # ✗ An interrupt ends `!sleep` alone, and the notebook went on while its kernel was being ended.
    notebook = write_notebook(
        project.root / "a.ipynb", "open(data_job + '/begun', 'w')", "!sleep 300", "open(data_job + '/next', 'w')"
    )
    fork(n=1, notebook=str(notebook), detach=True)
    folder = project.data_job / "sub_job_000"
    poll(lambda: (folder / "begun").exists() and Run.load(folder).status().cell == 2)
    jobs.kill("0")
    assert Run.load(folder).status().phase == "killed"
    assert not (folder / "next").exists()
