"""The main example end to end, in a real kernel fed as Run All does, with real git and rsync: what it leaves, file by
file, and what happens when it is executed again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from conftest import git, poll
from fronts import Front, Reply

from colab_magics import process

pytest_plugins = ("shells",)

WORK = """
import os
source = os.path.join(data_project, "test_input_file.txt")
text = open(source).read().strip() if os.path.exists(source) else "TEST INPUT"
with open(data_job + "/test.txt", "w") as result:
    result.write(f"{text} : Running sub-job {i_sub_job}")
"""
AFTER = "open(data_job + '/test_after_exit.txt', 'w').write('ran')"
OURS = {"run.json", "state.json", "ref.json", "source.ipynb", "notebook.ipynb", "log.txt"}


@dataclass
class Main:
    """The main notebook in front of a kernel."""

    notebook: Path
    drive: Path
    root: Path
    cells: list[str]
    start: Callable[..., Front]

    def run_all(self, front: Front | None = None, **env: str) -> list[Reply]:
        """Send all cells at once, as JupyterLab does, to a new kernel or the one given."""
        write(self.notebook, self.cells)
        front = front or self.start(COLAB_MAGICS_NOTEBOOK=str(self.notebook), **env)
        return front.collect(*[front.send(cell) for cell in self.cells], timeout=100)

    def job(self, name: str = "baseline") -> Path:
        return self.root / "data_job" / name

    def at_place(self, name: str = "baseline") -> Path:
        return self.drive / "data_job" / name


def write(path: Path, cells: list[str]) -> None:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, path)


def cells(project_line: str, n: int = 5) -> list[str]:
    return ["%load_ext colab_magics", project_line, "%sync every=1s", f"%fork n={n}", WORK, "%stop", AFTER]


@pytest.fixture
def main(repository: Path, tmp_path: Path, start_kernel: Callable[..., Front]) -> Main:
    """The main example: a project by its URL, a folder for Drive with an input file."""
    bare = tmp_path / "net.git"
    git("clone", "--quiet", "--bare", repository, bare)
    drive = tmp_path / "my drive"
    (drive / "data_project").mkdir(parents=True)
    (drive / "data_project" / "test_input_file.txt").write_text("test input\n")
    line = f"%project git=file://{bare} root={tmp_path} job=baseline to='{drive}'"
    return Main(tmp_path / "main.ipynb", drive, tmp_path / "net", cells(line), start_kernel)


def tree(folder: Path) -> set[str]:
    """Files below a folder, without the hidden ones, as the predecessors' users would compare them."""
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {str(path) for path in found if not any(part.startswith(".") for part in path.parts)}


def expected(n: int = 5) -> set[str]:
    files = {f"sub_job_{i:03d}/{name}" for i in range(n) for name in {"test.txt", *OURS}}
    return files | {"current_sub_job_is.txt"}


def stopped(replies: list[Reply], at: int) -> None:
    assert [reply.status for reply in replies[:at]] == ["ok"] * at, [reply.traceback for reply in replies]
    assert replies[at].ename == "SystemExit", replies[at].traceback
    assert {reply.status for reply in replies[at:]} <= {"error", "aborted"}


def test_five_runs_leave_what_they_should_and_nothing_else(main: Main) -> None:  # main example, B5, B6, B10, B12, B13
    replies = main.run_all()
    stopped(replies, at=3)
    assert "5 done" in replies[3].traceback[0]
    assert tree(main.job()) == expected()
    for i in range(5):
        assert (main.job() / f"sub_job_{i:03d}" / "test.txt").read_text() == f"test input : Running sub-job {i}"
    # Handed over before %fork ends: the last flush.
    assert tree(main.at_place()) == expected()
    assert not list(main.root.rglob("test_after_exit.txt"))
    assert (main.root / "data_project" / "test_input_file.txt").read_text() == "test input\n"  # B5
    shown = [data["text/plain"] for data in replies[3].updates]
    assert any("baseline/4" in text for text in shown)  # the live table
    assert git("status", "--porcelain", cwd=main.root) == ""  # data folders are no part of the repository


def test_without_the_input_file(main: Main) -> None:
    (main.drive / "data_project" / "test_input_file.txt").unlink()
    main.run_all()
    assert (main.at_place() / "sub_job_004" / "test.txt").read_text() == "TEST INPUT : Running sub-job 4"


def test_run_all_again_in_a_new_runtime_brings_back_and_keeps_what_was_done(main: Main) -> None:  # B6, B8
    main.run_all()
    subprocess.run([sys.executable, "-m", "colab_magics", "sync", "stop"], cwd=main.root, check=True)
    before = {i: (main.job() / f"sub_job_{i:03d}" / "test.txt").stat().st_mtime for i in range(5)}
    shutil.rmtree(main.root)  # the runtime is gone
    main.cells[3] = "%fork n=6"
    replies = main.run_all()
    stopped(replies, at=3)
    assert "5 kept, 1 to go" in replies[3].out
    assert tree(main.job()) == expected(6)
    after = {i: (main.job() / f"sub_job_{i:03d}" / "test.txt").stat().st_mtime for i in range(5)}
    assert after == pytest.approx(before, abs=1)


def test_a_kernel_restart_finds_the_sync_again(main: Main) -> None:  # ✗ after a restart nothing syncs any more
    main.run_all()
    again = main.start(COLAB_MAGICS_NOTEBOOK=str(main.notebook))
    replies = main.run_all(again)
    stopped(replies, at=3)
    (main.job() / "late.txt").write_text("written after the restart")
    poll(lambda: (main.at_place() / "late.txt").exists())


def test_another_job_has_another_folder(main: Main) -> None:  # ✗ a second job silently reuses the first one's folder
    main.run_all()
    main.cells[1] = main.cells[1].replace("job=baseline", "job='wider net'")
    main.cells[3] = "%fork n=2"
    stopped(main.run_all(), at=3)
    assert tree(main.job("wider net")) == expected(2)
    assert tree(main.job("baseline")) == expected(5)
    assert tree(main.at_place("wider net")) == expected(2)


def test_a_failed_run_ends_the_main_notebook_with_an_error(main: Main) -> None:  # ✗ the main job goes on
    main.cells[4] += "\nassert i_sub_job != 3, 'three is bad'"
    replies = main.run_all()
    assert replies[3].ename == "RunsFailed"
    text = "\n".join(replies[3].traceback)
    assert "1 of 5 runs did not end well" in text
    assert "baseline/3  failed in cell 5: AssertionError: three is bad" in text
    assert "Traceback" not in text
    assert tree(main.job()) == expected()
    assert replies[6].status == "aborted"


def test_then_continue_goes_on(main: Main) -> None:
    main.cells[3] = "runs = %fork n=2 then=continue"
    main.cells[4] = "if i_sub_job is None: print(len(runs), 'runs')"
    replies = main.run_all()
    assert replies[4].out == "2 runs\n", replies[3].traceback
    stopped(replies, at=5)


def test_interrupting_stops_watching_only(main: Main) -> None:
    main.cells[3] = "%fork n=2 workers=2"
    main.cells[4] += "\nimport time\nwhile not os.path.exists(data_job + '/go'): time.sleep(0.05)"
    write(main.notebook, main.cells)
    front = main.start(COLAB_MAGICS_NOTEBOOK=str(main.notebook))
    sent = [front.send(cell) for cell in main.cells]
    states = [main.job() / f"sub_job_00{i}" / "test.txt" for i in range(2)]
    poll(lambda: all(path.exists() for path in states), timeout=60)
    kernel = json.loads((main.job() / ".scheduler" / "state.json").read_text())
    assert process.is_alive(kernel["process"])
    os.kill(front.kernel_pid, signal.SIGINT)
    replies = front.collect(*sent)
    assert replies[3].ename == "SystemExit"
    assert "%jobs watch baseline" in replies[3].traceback[0]
    assert {reply.status for reply in replies[4:]} <= {"error", "aborted"}
    for path in states:
        (path.parent / "go").touch()
    done = [main.job() / f"sub_job_00{i}" / "state.json" for i in range(2)]
    poll(lambda: all(json.loads(path.read_text())["phase"] == "done" for path in done), timeout=60)


def test_plain_papermill_is_run_three(main: Main, tmp_path: Path) -> None:
    write(main.notebook, main.cells)
    out = tmp_path / "executed.ipynb"
    command = [
        sys.executable,
        "-m",
        "papermill",
        "-p",
        "i_sub_job",
        "3",
        str(main.notebook),
        str(out),
        "--cwd",
        str(tmp_path),
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert (main.job() / "sub_job_003" / "test.txt").read_text() == "test input : Running sub-job 3"
    assert [path.name for path in main.job().glob("sub_job_*")] == ["sub_job_003"]
    assert not list(main.root.rglob("test_after_exit.txt"))


def test_jobs_in_a_fresh_shell(main: Main) -> None:
    main.cells[4] += "\nprint('hello from', i_sub_job)"
    main.run_all()

    def shell(*words: str, cwd: Path) -> str:
        return subprocess.run(
            [sys.executable, "-m", "colab_magics", "jobs", *words], cwd=cwd, check=True, capture_output=True, text=True
        ).stdout

    listed = shell(cwd=main.root / "notebooks")
    assert "baseline/4" in listed
    assert "5 done" in listed
    assert "hello from 2" in shell("logs", "baseline/2", cwd=main.root)
    assert "test.txt" in shell("show", "2", cwd=main.root)
    assert "Nothing to kill" in shell("kill", "baseline", cwd=main.job())


def test_the_same_as_a_script(main: Main, tmp_path: Path) -> None:  # B22
    write(main.notebook, main.cells)
    script = tmp_path / "main.py"
    script.write_text(
        "import sys\nfrom colab_magics import project, fork, stop\n"
        f"p = project(git='file://{tmp_path}/net.git', root='{tmp_path}', job='baseline', to={str(main.drive)!r})\n"
        f"board = fork(n=2, notebook={str(main.notebook)!r})\n"
        "print(len(board), p.data_job)\nstop('bye')\nprint('not here')\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"2 {main.job()}\n"
    assert "bye" in done.stderr
    assert (main.at_place() / "sub_job_001" / "test.txt").exists()
