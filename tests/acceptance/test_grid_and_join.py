"""A grid over the running notebook, and ``%join``: cells sent as JupyterLab, Colab and a user send them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from conftest import poll
from fronts import Front, Reply

pytest_plugins = ("shells",)

CELLS = [
    "%load_ext colab_magics\n%project name=net root=. job=sweep",
    "lr = 0.1\nn_epoch = 1",
    "%%fork\nlr: [1e-3, 2]\nzip: {n_epoch: [3, 4], name: [a, b]}",
    "result = (lr, n_epoch, name, i_sub_job)\nopen(data_job + '/result.txt', 'w').write(repr(result))",
    "ran_below = True\nprint('this is', i_sub_job)",
    "runs = %join\nprint(len(runs))",
    "print(sorted(open(run.folder / 'result.txt').read() for run in runs.runs), 'ran_below' in globals())",
]


def write(path: Path, cells: list[str]) -> None:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(made, path)


@pytest.fixture
def front(tmp_path: Path, start_kernel: Callable[..., Front]) -> Front:
    write(tmp_path / "main.ipynb", CELLS)
    return start_kernel(COLAB_MAGICS_NOTEBOOK=str(tmp_path / "main.ipynb"))


def all_at_once(front: Front, cells: list[str]) -> list[Reply]:
    return front.collect(*[front.send(cell) for cell in cells], timeout=100)


def one_by_one(front: Front, cells: list[str]) -> list[Reply]:
    """As Colab: the next cell is sent when the one before has ended, and none after an error."""
    replies = []
    for cell in cells:
        replies.append(front.run(cell))
        if replies[-1].status != "ok":
            break
    return replies


@pytest.mark.parametrize("send", [all_at_once, one_by_one])
def test_the_main_notebook_skips_to_join_and_goes_on(
    front: Front, send: Callable[[Front, list[str]], list[Reply]]
) -> None:
    replies = send(front, CELLS)
    assert [reply.status for reply in replies] == ["ok"] * 7, [reply.traceback for reply in replies]
    assert [reply.out.count("» skipped") for reply in replies] == [0, 0, 0, 1, 1, 0, 0]
    assert replies[5].out == "4\n"
    expected = [(0.001, 3, "a", 0), (0.001, 4, "b", 1), (2, 3, "a", 2), (2, 4, "b", 3)]
    assert replies[6].out == f"{sorted(map(repr, expected))} False\n"


def test_cell_by_cell_a_runs_cell_is_skipped_and_others_are_not(front: Front, tmp_path: Path) -> None:
    all_at_once(front, CELLS[:3])
    assert "» skipped" in front.run(CELLS[4]).out
    assert front.run("print(lr)").out == "0.1\n"  # a scratch cell, with this notebook's own values
    edited = notebook_ids(tmp_path)[3]
    assert "» skipped" in front.collect(front.send_cell("an edited cell", edited))[0].out
    front.run(CELLS[5])
    assert front.run("print(2)").out == "2\n"
    assert front.collect(front.send_cell("print('edited again')", edited))[0].out == "edited again\n"


def notebook_ids(folder: Path) -> list[str]:
    return [cell["id"] for cell in json.loads((folder / "main.ipynb").read_text())["cells"]]


def test_added_values_get_new_numbers_and_finished_ones_are_kept(front: Front, tmp_path: Path) -> None:
    all_at_once(front, CELLS)
    more = [*CELLS]
    more[2] = "%%fork\nlr: [7, 1e-3, 2]\nzip: {n_epoch: [3, 4], name: [a, b]}"
    (tmp_path / "main.ipynb").unlink()
    write(tmp_path / "renamed.ipynb", more)  # a renamed notebook is still the same job
    front.run(f"import os; os.environ['COLAB_MAGICS_NOTEBOOK'] = {str(tmp_path / 'renamed.ipynb')!r}")
    replies = all_at_once(front, more)
    assert "4 kept, 2 to go" in replies[2].out
    new = json.loads((tmp_path / "net" / "data_job" / "sweep" / "sub_job_004" / "run.json").read_text())
    assert new["parameters"] == {"lr": 7, "n_epoch": 3, "name": "a"}


def test_runs_show_themselves_once_in_the_cell_that_watched_them_and_as_columns_later(front: Front) -> None:
    all_at_once(front, CELLS)
    assert len(front.run("%jobs watch").data) == 1  # the live table
    assert len(front.run("runs = %jobs watch").data) == 1
    shown = front.run("runs").data
    assert "lr  n_epoch  name" in shown[0]["text/plain"]
    assert all(f">{name}<" in shown[0]["text/html"] for name in ("state", "lr", "n_epoch", "name"))
    assert front.run("print(runs.sort_values('lr').iloc[0].lr, runs['lr'].max())").out == "0.001 2.0\n"


def test_here_makes_this_notebook_a_run(front: Front, tmp_path: Path) -> None:
    all_at_once(front, CELLS[:2])
    reply = front.run(CELLS[2].replace("%%fork", "%%fork here=3"))
    assert reply.status == "ok", reply.traceback
    assert "i_sub_job = 3" in reply.out
    assert front.run(CELLS[3]).status == "ok"
    result = tmp_path / "net" / "data_job" / "sweep" / "sub_job_003" / "result.txt"
    assert result.read_text() == "(2, 4, 'b', 3)"
    front.run("from colab_magics import report; report(loss=1)")
    assert '"loss":1' in (result.parent / "metrics.jsonl").read_text()
    outside = front.run(CELLS[2].replace("%%fork", "%%fork here=4"))
    assert "0 to 3" in outside.evalue


def test_dry_run_says_values_types_and_folders_and_starts_nothing(front: Front, tmp_path: Path) -> None:
    all_at_once(front, CELLS[:2])
    reply = front.run(CELLS[2].replace("%%fork", "%%fork --dry-run only=1,2"))
    shown = reply.data[0]["text/plain"]
    assert "lr=0.001 (float), n_epoch=4 (int), name='b' (str)" in shown
    assert "sweep/2  to go" in shown
    assert "lr=2 (int), n_epoch=3 (int), name='a' (str)" in shown
    assert "left out: not in only=" in shown
    assert "sub_job_002" in shown
    assert not list((tmp_path / "net" / "data_job").glob("*/sub_job_*"))


def test_what_cannot_be_is_said_before_anything_starts(front: Front, tmp_path: Path) -> None:
    all_at_once(front, CELLS[:2])
    bad = {
        "%%fork\nlr: [1]\nbatch_size: [2]": "No cell uses the parameter batch_size",
        "%%fork\nresult: [1]": "Cell 4, below %fork, assigns result again",
        "%%fork n=2000\nlr: [1]": "2,000 runs",
        "%%fork\nlr: [1]\n%sync now": "Put %sync in its own cell",
    }
    for cell, says in bad.items():
        reply = front.run(cell)
        assert says in reply.evalue
        assert "Traceback" not in "\n".join(reply.traceback)
    assert not list((tmp_path / "net" / "data_job").glob("*/sub_job_*"))


def test_try_starts_the_others_only_when_the_first_ended_well(front: Front, tmp_path: Path) -> None:
    cells = [*CELLS]
    cells[2] = cells[2].replace("%%fork", "%%fork --try")
    cells[3] += "\nassert name != 'a', 'a is bad'"
    write(tmp_path / "main.ipynb", cells)
    replies = all_at_once(front, cells)
    assert replies[2].ename == "RunsFailed"
    text = "\n".join(replies[2].traceback)
    assert "sweep/0  failed in cell 4: AssertionError: a is bad" in text
    assert "sweep/1, sweep/2, sweep/3  not started: sweep/0 did not end well (--try)" in text


def test_run_all_after_a_restart_finds_the_runs_and_goes_on_to_join(
    start_kernel: Callable[..., Front], tmp_path: Path
) -> None:
    wait = "import os, time\nwhile not os.path.exists(data_job + '/go'):\n    time.sleep(0.02)"
    cells = [CELLS[0], "%fork n=2 workers=2", wait, "runs = %join", "print('joined', len(runs))"]
    write(tmp_path / "main.ipynb", cells)
    named = {"COLAB_MAGICS_NOTEBOOK": str(tmp_path / "main.ipynb")}
    first = start_kernel(**named)
    for cell in cells:
        first.send(cell)
    folders = [tmp_path / "net" / "data_job" / "sweep" / f"sub_job_00{i}" for i in range(2)]
    poll(lambda: all((folder / "state.json").exists() for folder in folders))
    os.kill(first.kernel_pid, signal.SIGKILL)
    second = start_kernel(**named)
    sent = [second.send(cell) for cell in cells]
    poll(lambda: "forks" in (tmp_path / "net" / "data_job" / "sweep" / ".scheduler" / "forks.json").read_text())
    for folder in folders:
        (folder / "go").touch()
    replies = second.collect(*sent, timeout=100)
    assert replies[-1].out == "joined 2\n", [reply.traceback for reply in replies]
    assert [json.loads((folder / "run.json").read_text())["attempt"] for folder in folders] == [1, 1]
