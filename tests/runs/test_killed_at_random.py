"""A sweep that is killed at random goes on until every run is done: nothing finished is lost or executed again."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import poll

from colab_magics import process
from colab_magics.checkout.project import Project
from colab_magics.records.run import Run, runs_of

from .notebooks import write_notebook

RUNS, KILLS, EACH = 16, 50, 4
CELL = """
import os, time
path = data_job + '/epoch'
epoch = int(open(path).read()) if os.path.exists(path) else 0
while epoch < 12:
    time.sleep(0.1)
    epoch += 1
    with open(path + '.new', 'w') as file:
        file.write(str(epoch))
    os.replace(path + '.new', path)
open(data_job + '/executed', 'a').write('x')
"""
MAIN = """
import sys
from pathlib import Path
from colab_magics import fork, session
from colab_magics.checkout.project import find_project
session.current().project = find_project(Path(sys.argv[1]))
fork(n=int(sys.argv[2]), workers=3, start=sys.argv[3], notebook=sys.argv[1] + '/a.ipynb')
"""


def start_main(root: Path, runs: int, start: str) -> subprocess.Popen[bytes]:
    with open(root / "main.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", MAIN, str(root), str(runs), start], cwd=root, stdout=log, stderr=log
        )


def victims(job: Path, main: subprocess.Popen[bytes]) -> dict[str, list[int]]:
    """Processes that can be killed now, by kind."""
    state = process.read_json(job / ".scheduler" / "state.json") or {}
    found: dict[str, list[int]] = {"main": [main.pid] if main.poll() is None else [], "scheduler": []}
    if process.is_alive(state.get("process") or {}):
        found["scheduler"] = [state["process"]["pid"]]
    states = [run.state() or {} for run in runs_of(job)]
    found["runner"] = [one["process"]["pid"] for one in states if process.is_alive(one.get("process") or {})]
    found["kernel"] = [one["kernel"] for one in states if one.get("kernel") and is_ours(one["kernel"])]
    parents = {parent_of(pid) for pid in found["kernel"]}
    # A warm kernel's parent is the zygote; a cold one's is its runner.
    found["zygote"] = [pid for pid in parents if pid > 1 and pid not in found["runner"] and is_ours(pid)]
    return {kind: pids for kind, pids in found.items() if pids}


def parent_of(pid: int) -> int:
    try:
        return psutil.Process(pid).ppid()
    except psutil.NoSuchProcess:
        return 0


def is_ours(pid: int) -> bool:
    """Whether a process that a state names is still this test's, and not another with its number."""
    try:
        return psutil.Process(pid).environ().get("HOME") == os.environ["HOME"]
    except (psutil.Error, OSError):
        return False


def end_everything(home: Path) -> None:
    """The runtime dies: every process of the test at once."""
    for candidate in psutil.process_iter():
        try:
            if candidate.pid != os.getpid() and candidate.environ().get("HOME") == str(home):
                candidate.kill()
        except (psutil.Error, OSError):
            continue


def check_done_stays_done(job: Path, done: dict[int, int]) -> None:
    """A run that was done is done, by the same attempt."""
    for run in runs_of(job):
        if run.index in done:
            assert (run.attempt, run.status().phase) == (done[run.index], "done"), run.id
        elif run.status().phase == "done":
            done[run.index] = run.attempt


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("start", ["cold", "warm"])
def test_a_sweep_that_is_killed_at_random_is_finished_by_running_the_line_again(
    start: str, tmp_path: Path, home: Path
) -> None:
    chance = random.Random(7)
    root = tmp_path / "net"
    root.mkdir()
    write_notebook(root / "a.ipynb", CELL)
    Project(name="net", job="sweep", root=root, notebooks=root).save()
    job, done, kills, moves = root / "data_job" / "sweep", {}, 0, 0
    told = dict.fromkeys(
        ["main", "scheduler", "runner", "kernel", "runtime", *(["zygote"] if start == "warm" else [])], 0
    )
    runs = RUNS
    main = start_main(root, runs, start)
    while (kills_are_left := kills < KILLS or min(told.values()) < EACH) or len(done) < runs:
        if kills_are_left and len(done) > runs - 8:
            runs += 8  # the sweep must not end before the kills do
        if main.poll() is not None:
            main = start_main(root, runs, start)
        wait = time.monotonic() + chance.uniform(0.2, 2.0)
        poll(lambda wait=wait: time.monotonic() > wait)
        check_done_stays_done(job, done)
        if not kills_are_left:
            continue
        targets: dict[str, Any] = {"runtime": [], **victims(job, main)}
        # Any one, but those that were spared so far come first.
        kind = min(targets, key=lambda kind: told[kind] // EACH + chance.random())
        if kind == "runtime" and chance.random() < 0.3:
            end_everything(home)
            main.wait()
            moves += 1
            moved = tmp_path / f"runtime_{moves}" / "net"
            shutil.copytree(root, moved)  # what comes back from the Place in a new runtime
            shutil.rmtree(root)
            root, job = moved, moved / "data_job" / "sweep"
        elif targets[kind]:
            try:
                os.kill(chance.choice(targets[kind]), signal.SIGKILL)
            except ProcessLookupError:
                continue
        else:
            continue
        kills += 1
        told[kind] += 1
    main.wait(timeout=60)
    print(f"{kills} kills: {told}; attempts {[run.attempt for run in runs_of(job)]}")
    for run in runs_of(job):
        assert run.status().phase == "done"
        assert (run.folder / "epoch").read_text() == "12"
        # The marker is the last thing that the cell does; only a kill between it and the end of the run doubles it.
        assert 1 <= len((run.folder / "executed").read_text()) <= run.attempt
        assert json.loads((run.folder / "notebook.ipynb").read_text())["nbformat"] == 4
    assert Run.load(job / "sub_job_000").status().ended_well
