"""The main notebook executed by papermill, nbclient and in a terminal: it is this notebook, as in JupyterLab."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import papermill
import pytest
from fronts import ROOT

CELLS = [
    "lr = 0.1",
    "%load_ext colab_magics",
    "%fork n=2 workers=2",
    "open(data_job + '/out.txt', 'w').write(f'{i_sub_job} {lr}')",
    "runs = %join",
    "print('joined', len(runs), 'i_sub_job' in globals())",
]


def write(path: Path, cells: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.cells[0].metadata["tags"] = ["parameters"]
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, path)
    return path


def left(folder: Path, job: str = "main") -> list[str]:
    return [path.read_text() for path in sorted((folder / "data_job" / job).glob("sub_job_*/out.txt"))]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.parametrize("engine", [[], ["--engine", "colab_magics"]])
def test_papermills_command_needs_no_name_and_its_parameters_hold_in_the_runs(
    tmp_path: Path, engine: list[str]
) -> None:
    write(tmp_path / "main.ipynb", CELLS)
    command = [sys.executable, "-m", "papermill", "main.ipynb", "out.ipynb", "-p", "lr", "5", *engine]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert left(tmp_path) == ["0 5", "1 5"]
    assert "joined 2 False" in (tmp_path / "out.ipynb").read_text()


def test_papermill_as_a_function_with_a_name_from_where_the_kernel_started(tmp_path: Path) -> None:
    cells = [*CELLS]
    cells[2] = "%fork n=2 workers=2 start=live notebook=main.ipynb"
    cells.insert(2, "import os\nos.makedirs('elsewhere')\nos.chdir('elsewhere')")
    write(tmp_path / "main.ipynb", cells)
    papermill.execute_notebook("main.ipynb", "out.ipynb", progress_bar=False, cwd=str(tmp_path))
    assert left(tmp_path / "elsewhere") == ["0 0.1", "1 0.1"]
    assert "joined 2 False" in (tmp_path / "out.ipynb").read_text()


def test_nbclient_without_join_ends_at_the_fork(tmp_path: Path) -> None:
    cells = ["%load_ext colab_magics", "%fork n=1 notebook=main.ipynb", "open(data_job + '/out.txt', 'w')", "1 / 0"]
    cells[2] += "\n%stop"
    write(tmp_path / "main.ipynb", cells)
    notebook = nbformat.read(tmp_path / "main.ipynb", as_version=4)
    with pytest.raises(nbclient.exceptions.CellExecutionError) as ended:
        nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert ended.value.ename == "SystemExit"
    assert left(tmp_path) == [""]


def test_failed_runs_are_tolerated_up_to_join(tmp_path: Path) -> None:
    cells = [*CELLS]
    cells[2] = "%fork n=3 workers=1 max_failures=3"
    cells[3] += "\nassert i_sub_job != 1"
    cells[5] = "print('joined', [status.phase for _, status in runs.statuses()])"
    write(tmp_path / "main.ipynb", cells)
    command = [sys.executable, "-m", "papermill", "main.ipynb", "out.ipynb"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out.ipynb").read_text()
    assert "joined ['done', 'failed', 'done']" in text
    assert "1 of 3 runs did not end well" in text


def test_in_a_terminal_the_line_of_the_notebook_is_the_notebooks(tmp_path: Path) -> None:
    write(tmp_path / "main.ipynb", ["%load_ext colab_magics", "%fork n=1 notebook=main.ipynb", CELLS[3]])
    lines = "%load_ext colab_magics\nlr = 3\n%fork n=1 notebook=main.ipynb\nprint('went on')\n"
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner"],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
    )
    record = tmp_path / "data_job" / "main" / "sub_job_000" / "run.json"
    assert json.loads(record.read_text())["fork"] == 1, done.stdout + done.stderr
