"""A notebook that forks more than once: each run belongs to its fork, and executes its cells alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nbformat
import papermill
import pytest
from fronts import Front, Reply

pytest_plugins = ("shells",)

CELLS = [
    "%load_ext colab_magics\n%project name=net root=. job=two",
    "trace = ['top']",
    "%%fork workers=2\nlr: [1, 2]",
    "trace.append(f'first {lr}')\nopen(data_job + '/first.txt', 'w').write(' '.join(trace))",
    "runs = %join",
    "best = max(run.parameters['lr'] for run in runs.runs)\ntrace.append(f'between {best}')",
    "runs = %fork n=2 workers=2",
    "trace.append(f'second {i_sub_job}')\nopen(data_job + '/second.txt', 'w').write(' '.join(trace))",
    "runs = %join",
    "trace.append(f'end {len(runs)}')\nprint(trace)",
]


def write(path: Path, cells: list[str], *, ids: bool = True) -> Path:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    if not ids:
        made.nbformat_minor = 4
        for cell in made.cells:
            del cell["id"]
    nbformat.write(made, path)
    return path


def ids_of(path: Path) -> list[str]:
    return [cell.get("id", "") for cell in json.loads(path.read_text())["cells"]]


def left(job: Path, name: str) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in sorted(job.glob(f"*/{name}"))}


def check(tmp_path: Path, shown: str) -> None:
    """What the notebook above leaves, whoever executes it."""
    job = tmp_path / "net" / "data_job" / "two"
    assert left(job, "first.txt") == {"sub_job_000": "top first 1", "sub_job_001": "top first 2"}
    assert left(job, "second.txt") == {
        "sub_job_002": "top between 2 second 0",
        "sub_job_003": "top between 2 second 1",
    }
    assert "['top', 'between 2', 'end 2']" in shown
    records = [json.loads((job / f"sub_job_00{i}" / "run.json").read_text()) for i in range(4)]
    assert [(record["fork"], record["i_sub_job"]) for record in records] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert [one["runs"] for one in json.loads((job / ".scheduler" / "forks.json").read_text())["forks"]] == [
        [0, 1],
        [2, 3],
    ]


@pytest.fixture
def front(tmp_path: Path, start_kernel: Callable[..., Front]) -> Front:
    write(tmp_path / "main.ipynb", CELLS)
    return start_kernel(COLAB_MAGICS_NOTEBOOK=str(tmp_path / "main.ipynb"))


def as_lab(front: Front, path: Path, cells: list[str]) -> list[Reply]:
    return front.collect(
        *[front.send_cell(cell, name) for cell, name in zip(cells, ids_of(path), strict=True)], timeout=100
    )


def test_each_fork_has_its_own_cells_runs_and_join(front: Front, tmp_path: Path) -> None:
    replies = as_lab(front, tmp_path / "main.ipynb", CELLS)
    assert [reply.status for reply in replies] == ["ok"] * len(CELLS), [reply.traceback for reply in replies]
    assert ["»" in reply.out for reply in replies] == [n in (3, 7) for n in range(len(CELLS))]
    check(tmp_path, replies[-1].out)
    # By hand, out of order: the cell decides.
    again = front.collect(front.send_cell(CELLS[4], ids_of(tmp_path / "main.ipynb")[4]))[0]
    assert again.status == "ok"
    assert front.run("print([run.parameters for run in runs.runs])").out == "[{'lr': 1}, {'lr': 2}]\n"


def test_by_papermill_which_tells_nothing_of_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = [cell.replace("workers=2", "workers=2 notebook=main.ipynb") for cell in CELLS]
    write(tmp_path / "main.ipynb", cells, ids=False)
    papermill.execute_notebook("main.ipynb", "out.ipynb", progress_bar=False, cwd=str(tmp_path))
    check(tmp_path, (tmp_path / "out.ipynb").read_text())


def test_equal_lines_are_told_apart_by_what_ran_before(front: Front, tmp_path: Path) -> None:
    cells = [CELLS[0], "%fork n=1", "open(data_job + '/a', 'w')", "%join", "%fork n=1", "open(data_job + '/b', 'w')"]
    cells += ["%join", "print('end')"]
    write(tmp_path / "main.ipynb", cells)
    replies = front.collect(*[front.send(cell) for cell in cells], timeout=100)
    assert replies[-1].out == "end\n", [reply.traceback for reply in replies]
    job = tmp_path / "net" / "data_job" / "two"
    assert list(left(job, "a")) == ["sub_job_000"]
    assert list(left(job, "b")) == ["sub_job_001"]
    by_hand = front.run("%fork n=1")
    assert "cells 2 and 5 hold the same line" in by_hand.evalue
    assert "Several cells hold this same line" in front.run("%join").evalue


def test_leftover_forks_disturb_no_check(front: Front, tmp_path: Path) -> None:
    cells = [CELLS[0], "lr = 1", "%fork n=3", "lr = 7\nprint(lr)", "%stop", "%%fork\nlr: [1, 2]"]
    cells += ["open(data_job + '/c', 'w').write(str(lr))", "%stop", "%fork n=9", "lr = 'of a third'"]
    write(tmp_path / "main.ipynb", cells)
    for cell in (*cells[:2], cells[5]):
        reply = front.run(cell)
    assert reply.ename == "SystemExit", reply.traceback
    assert "up to the next %fork (cell 9)" in "\n".join(reply.traceback)
    job = tmp_path / "net" / "data_job" / "two"
    assert left(job, "c") == {"sub_job_000": "1", "sub_job_001": "2"}
    executed = (job / "sub_job_000" / "notebook.ipynb").read_text()
    assert '"7\\n"' not in executed


def test_a_stop_above_the_fork_is_refused(front: Front, tmp_path: Path) -> None:
    cells = [CELLS[0], "%stop", "%fork n=2", "1"]
    write(tmp_path / "main.ipynb", cells)
    front.run(cells[0])
    reply = front.run(cells[2])
    assert "Cell 2 says %stop, above this %fork" in reply.evalue
    assert "%stop main" in "\n".join(reply.traceback)


def test_two_forks_in_one_cell_are_refused(front: Front, tmp_path: Path) -> None:
    cells = [CELLS[0], "%fork n=2\n%fork n=3", "1"]
    write(tmp_path / "main.ipynb", cells)
    front.run(cells[0])
    assert "forks twice" in front.run(cells[1]).evalue


def test_a_fork_added_above_takes_no_results_from_the_one_below(front: Front, tmp_path: Path) -> None:
    cells = [CELLS[0], "%fork n=2", "open(data_job + '/old', 'w')", "%join"]
    write(tmp_path / "main.ipynb", cells)
    front.collect(*[front.send(cell) for cell in cells], timeout=100)
    more = [cells[0], "%fork n=2 workers=2", "open(data_job + '/new', 'w')", "%join # 1", *cells[1:]]
    write(tmp_path / "main.ipynb", more)
    replies = front.collect(*[front.send(cell) for cell in more], timeout=100)
    assert "2 kept" in replies[4].out
    job = tmp_path / "net" / "data_job" / "two"
    assert list(left(job, "old")) == ["sub_job_000", "sub_job_001"]
    assert list(left(job, "new")) == ["sub_job_002", "sub_job_003"]
    assert json.loads((job / "sub_job_000" / "run.json").read_text())["fork"] == 2


def test_a_driver_of_another_notebook_goes_on_and_has_no_i_sub_job(front: Front, tmp_path: Path) -> None:
    write(tmp_path / "train.ipynb", ["x = 1", "open(data_job + '/t', 'w').write(str(i_sub_job))"])
    cells = [
        CELLS[0],
        "board = %fork n=2 workers=2 notebook=train.ipynb",
        "print(len(board), 'i_sub_job' in globals())",
    ]
    write(tmp_path / "main.ipynb", cells)
    replies = front.collect(*[front.send(cell) for cell in cells], timeout=100)
    assert replies[2].out == "2 False\n", [reply.traceback for reply in replies]
    assert left(tmp_path / "net" / "data_job" / "two", "t") == {"sub_job_000": "0", "sub_job_001": "1"}


def test_a_driver_leaves_out_what_stands_above_its_own_join(front: Front, tmp_path: Path) -> None:
    # The cells between are the runs', also where a copy of the notebook was named by mistake.
    write(tmp_path / "train.ipynb", ["open(data_job + '/t', 'w').write(str(i_sub_job))"])
    cells = [CELLS[0], "%fork n=2 workers=2 notebook=train.ipynb", "trained = True", "runs = %join"]
    cells += ["print(len(runs), 'trained' in globals())"]
    write(tmp_path / "main.ipynb", cells)
    replies = front.collect(*[front.send(cell) for cell in cells], timeout=100)
    assert "» skipped" in replies[2].out
    assert replies[4].out == "2 False\n", [reply.traceback for reply in replies]
