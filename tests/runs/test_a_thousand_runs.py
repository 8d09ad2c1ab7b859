"""A thousand runs, warm: none fails, none stalls, and nothing of them is left behind."""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import poll

from colab_magics import fork, session
from colab_magics.checkout.project import Project
from colab_magics.runs import scheduler
from colab_magics.session import Session
from colab_magics.ui import TerminalUI

from .notebooks import write_notebook

RUNS, WORKERS, STALL = 1000, 4, 1.0
CELL = """
import json, random, threading
json.dump(random.random(), open(data_job + '/random.json', 'w'))
# What arrives while the kernel ends is what stock kernels stall on, for 4 s.
threading.Thread(target=lambda: [print('late', flush=True) for _ in range(20)]).start()
"""


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files of the test alone; short, because sockets lie there."""
    folder = Path(tempfile.mkdtemp(prefix="cmt-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    shutil.rmtree(folder)


def is_of(candidate: psutil.Process, home: Path) -> bool:
    try:
        return candidate.environ().get("HOME") == str(home)
    except psutil.Error:
        return False


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_thousand_runs_end_well_and_none_stalls(tmp_path: Path, home: Path, temporary: Path) -> None:
    root = tmp_path / "net"
    root.mkdir()
    project = Project(name="net", job="many", root=root, notebooks=root)
    session.activate(Session(ui=TerminalUI(), project=project))
    before = {one.pid for one in psutil.process_iter() if is_of(one, home)}
    notebook = write_notebook(root / "a.ipynb", CELL)
    board = fork(n=RUNS, workers=str(WORKERS), start="warm", notebook=str(notebook), detach=True)
    poll(lambda: not scheduler.is_running(project.data_job), timeout=600)
    assert board is not None
    states = [run.state() or {} for run in board.runs]  # type: ignore[union-attr]
    assert [(state.get("phase"), state.get("attempt"), state.get("note")) for state in states] == [
        ("done", 1, None)
    ] * RUNS
    # While work is left, somebody begins or ends all the time.
    moments = sorted(itertools.chain.from_iterable((state["started"], state["ended"]) for state in states))
    pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
    took = [state["ended"] - state["started"] for state in states]
    usual, total = statistics.median(took), moments[-1] - moments[0]
    print(f"{RUNS} runs in {total:.0f} s; longest pause {max(pauses):.2f} s; a run {usual:.2f} to {max(took):.2f} s")
    assert max(pauses) < STALL
    assert max(took) < usual + STALL
    # Forked from one process, and each with random numbers of its own.
    numbers = {json.loads((run.folder / "random.json").read_text()) for run in board.runs}  # type: ignore[union-attr]
    assert len(numbers) == RUNS
    poll(lambda: not {one.pid for one in psutil.process_iter() if is_of(one, home)} - before)
    assert list(temporary.iterdir()) == []
