"""A search whose scheduler, runners and main program are killed at random ends with its number of runs, each once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import poll

from colab_magics.checkout.project import Project
from colab_magics.records.run import runs_of

from .notebooks import write_notebook
from .test_killed_at_random import victims

optuna = pytest.importorskip("optuna", reason="extra [search]")

RUNS, KILLS = 60, 20
CELL = """
import time
from colab_magics import report
time.sleep(0.5)
report(loss=(x - 0.3) ** 2 + depth)
open(data_job + '/executed', 'a').write('x')
"""
MAIN = """
import sys
from pathlib import Path
from colab_magics import fork, session
from colab_magics.checkout.project import find_project
session.current().project = find_project(Path(sys.argv[1]))
space = {'x': 'uniform(0, 1)', 'depth': 'int(1, 4)'}
fork(space, search=int(sys.argv[2]), goal='min:loss', seed='1', workers=3, notebook=sys.argv[1] + '/a.ipynb')
"""


def start_main(root: Path) -> subprocess.Popen[bytes]:
    with open(root / "main.log", "ab") as log:
        words = [sys.executable, "-c", MAIN, str(root), str(RUNS)]
        return subprocess.Popen(words, cwd=root, stdout=log, stderr=log)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_search_that_is_killed_at_random_ends_with_its_runs_each_once(tmp_path: Path, home: Path) -> None:
    chance, root, kills = random.Random(3), tmp_path / "net", 0
    root.mkdir()
    write_notebook(root / "a.ipynb", CELL)
    Project(name="net", job="search", root=root, notebooks=root).save()
    job, done = root / "data_job" / "search", dict[str, int]()
    main = start_main(root)
    while main.poll() is None or main.returncode:
        if main.poll() is not None:
            main = start_main(root)
        with suppress(AssertionError):
            poll(lambda main=main: main.poll() is not None, timeout=chance.uniform(0.2, 1.5))  # type: ignore[misc]
        for run in runs_of(job):
            if run.folder.name in done:
                assert (run.attempt, run.status().phase) == (done[run.folder.name], "done"), run.id
            elif run.status().phase == "done":
                done[run.folder.name] = run.attempt
        found = victims(job, main) if kills < KILLS else {}
        found.pop("kernel", None)
        if found:
            kind = chance.choice(sorted(found))
            with suppress(ProcessLookupError):
                os.kill(chance.choice(found[kind]), signal.SIGKILL)
            kills += 1
    runs = runs_of(job)
    assert [run.status().phase for run in runs] == ["done"] * RUNS
    assert sorted(run.record["search"]["number"] for run in runs) == list(range(RUNS))
    assert len({repr(sorted(run.parameters.items())) for run in runs}) == RUNS
    assert kills == KILLS
