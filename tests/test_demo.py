"""``make demo``: the main example for real, in a folder with an awkward name; and it notices when something is off."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from boxes import boxes
from sshd import sshd

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "demo_notebooks" / "run_demo.py"


class Copy:
    """One of the demo notebooks, in a folder of its own.

    Parameters
    ----------
    folder : Path
        Where it lies.
    name : str
        Its file's name.
    old, new : str
        Words that stand in it once, and what takes their place.
    """

    def __init__(self, folder: Path, name: str, old: str = "", new: str = "") -> None:
        self.notebook, self.executed = folder / name, folder / "executed.ipynb"
        text = (ROOT / "demo_notebooks" / name).read_text()
        assert not old or text.count(old) == 1
        self.notebook.write_text(text.replace(old, new) if old else text)

    def execute(self) -> str:
        """Execute it by papermill, as a user does; returns the executed notebook's text."""
        words = ["-m", "papermill", "--no-progress-bar", "--cwd", self.notebook.parent, self.notebook, self.executed]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLAB_MAGICS_NOTEBOOK": str(self.notebook)}
        done = subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stderr
        return self.executed.read_text()

    def printed(self) -> str:
        """Return what the executed notebook's cells have printed."""
        cells = json.loads(self.executed.read_text())["cells"]
        return "".join("".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", []))


@pytest.fixture(scope="module")
def run_demo() -> ModuleType:
    """Import the demo's script."""
    spec = importlib.util.spec_from_file_location("run_demo", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_demo_runs_and_runs_again(
    run_demo: ModuleType, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # B1 (file:// URL), B2, B5, B6, B10, B12, B15; `colab-magics jobs` and `sync stop` in a fresh shell
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    top = tmp_path / "a demo, it's ünï"
    for time_ in ("first", "again"):
        done = subprocess.run([sys.executable, SCRIPT, top], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"{time_}\n{done.stdout}\n{done.stderr}"
        assert run_demo.differences(run_demo.Demo(top)) == []
        assert "5 done" in done.stdout
        assert "stopped, all handed over" in done.stdout
    # What it leaves: no outputs in the code's history, no input changed.
    demo = run_demo.Demo(top)
    status = subprocess.run(["git", "status", "--porcelain"], cwd=demo.checkout, capture_output=True, text=True)
    assert status.stdout == ""
    assert (demo.drive / "data_project" / "test_input_file.txt").read_text() == "test input\n"


def test_the_demo_notices_what_is_off(run_demo: ModuleType, tmp_path: Path) -> None:
    demo = run_demo.Demo(tmp_path)
    for kept in (demo.checkout, demo.drive):
        for i in range(5):
            folder = kept / "data_job" / "baseline" / f"sub_job_{i:03d}"
            folder.mkdir(parents=True)
            (folder / "test.txt").write_text(f"test input : Running sub-job {i}")
    assert run_demo.differences(demo) == []

    job = demo.drive / "data_job" / "baseline"
    (job / "sub_job_003" / "test.txt").unlink()
    (job / "sub_job_004" / "test.txt").write_text("TEST INPUT : Running sub-job 4")
    (job / "test.txt").touch()
    (demo.checkout / "test_after_exit.txt").touch()
    found = "\n".join(run_demo.differences(demo))
    assert len(found.splitlines()) == 4
    for part in ("it is missing", "'TEST INPUT : Running sub-job 4'", "should not be there", "a line after %stop ran"):
        assert part in found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("02_grid_and_join.ipynb", "6 runs; the best is sweep/4 {'rate': 0.9, 'shape': 'valley'}"),
        ("03_live_fork.ipynb", "{1: '55', 2: '4617', 3: '79056'}"),
        (
            "09_keep_outputs.ipynb",
            "back: keep_demo/data_job/train/sub_job_000/sum.txt keep_demo/data_job/train/sub_job_001",
        ),
        ("10_watch_and_compare.ipynb", "the best is compare/3 {'rate': 0.3, 'seed': 1} with x = 0.0169"),
    ],
)
def test_the_other_notebooks_go_through_to_their_end(tmp_path: Path, name: str, words: str) -> None:
    shown = Copy(tmp_path, name).execute()
    assert words in shown, shown
    assert ("<th>valley</th>" in shown) == ("grid" in name)  # the runs as a table
    assert shown.count("» skipped") == 1


def test_all_notebooks_are_executed_by_tests_and_hold_no_outputs() -> None:
    text = Path(__file__).read_text()
    for file in sorted((ROOT / "demo_notebooks").glob("*.ipynb")):
        notebook = json.loads(file.read_text())
        nbformat.validate(notebook)
        assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
        assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook["cells"]), file
        assert f'"{file.name}"' in text or file.name == "01_job_queue.ipynb", file


def test_the_notebook_of_commands_goes_through_again(tmp_path: Path) -> None:
    demo = Copy(tmp_path, "05_commands.ipynb")
    for _ in range(2):
        shown = demo.execute()
        assert "the best is walks/2 {'rate': 0.9} 0.000000" in shown
        assert "rate 0.05 came to 0.64" in shown
    assert "3 kept" in shown
    results = tmp_path / "commands_demo" / "data_job" / "walks"
    assert (results / "sub_job_003" / "answer.txt").read_text() == "42\n"
    assert not (results / "sub_job_004").exists()


def test_the_notebook_of_a_queue_goes_through_again(tmp_path: Path) -> None:
    demo = Copy(tmp_path, "07_queue.ipynb")
    for added in ("6 runs added", "0 runs added"):
        shown = demo.execute()
        assert added in shown
        assert "30 / 30" in shown
        assert "runs.db: 6 done." in shown
        assert shown.count("» skipped") == 1
    results = tmp_path / "queue_demo" / "data_job" / "eat"
    assert (results / "sub_job_run_006" / "result.txt").read_text() == "0.000000"
    assert len((tmp_path / "runs.csv").read_text().splitlines()) == 7


def test_the_notebook_of_a_search_goes_through_again(tmp_path: Path) -> None:
    demo = Copy(tmp_path, "08_search.ipynb")
    for said in ("Best by min:loss: search/", "of 8 runs of this search 8 count; 0 more to choose"):
        shown = demo.execute()
        assert said in shown
        assert "8 runs; the best is search/" in shown
        assert shown.count("image/png") == 2
        assert shown.count("» skipped") == 1
    assert len(list((tmp_path / "search_demo" / "data_job" / "search").glob("sub_job_*"))) == 8


def test_the_notebook_for_colab(tmp_path: Path) -> None:
    demo = Copy(tmp_path, "11_colab.ipynb")
    demo.execute()
    shown = demo.printed()
    assert "%project name=colab_demo root=. job=second\nrate = 0.5\n" in shown
    assert "Colab is to give it: T4" in shown


def test_the_notebook_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    demo = Copy(tmp_path, "04_remote_cells.ipynb", '"%remote gpu1"', json.dumps(f"%remote gpu1 env={sys.executable}"))
    with sshd(tmp_path, host="gpu1", session_home=home) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        demo.execute()
    shown = demo.printed()
    found = re.search(r"20 losses from process (\d+) on .*; this is process (\d+)", shown)
    assert found is not None, shown
    assert found[1] != found[2]
    assert "The kernel on gpu1 has ended." in shown


def test_the_notebook_of_other_machines(tmp_path: Path, home: Path) -> None:
    demo = Copy(tmp_path, "06_other_machines.ipynb")
    with boxes(tmp_path, home, ["gpu1", "gpu2"]):
        shown = demo.execute()
    assert "4 runs; the best has rate 0.3" in shown
    results = tmp_path / "machines_demo" / "data_job" / "sweep"
    hosts = {json.loads((results / f"sub_job_{n:03d}" / "ref.json").read_text())["ref"]["host"] for n in range(4)}
    assert hosts == {"gpu1", "gpu2"}
