"""Two containers on one machine share a folder: numbers of processes mean something else in each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import poll
from faults.kit import as_root
from runs.folders import leave_run

from colab_magics import jobs, process
from colab_magics.checkout.project import Project
from colab_magics.engines.gpus.devices import Device
from colab_magics.engines.gpus.leases import Leases
from colab_magics.records.names import STATE
from colab_magics.records.run import Run

UNTIL_GO = "import os, time\nwhile not os.path.exists(data_job + '/go'):\n    time.sleep(0.02)"


@contextmanager
def in_a_container(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a PID namespace of its own."""
    as_root()
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    isolated = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *command]
    with subprocess.Popen(isolated) as child:
        try:
            yield child
        finally:
            child.kill()


def test_a_run_that_another_container_executes_is_running_and_stays(project: Project) -> None:
    run = leave_run(project.data_job, 0, None, cells=(UNTIL_GO,))
    with in_a_container(*process.python("colab_magics.runs.runner", run.folder)) as child:
        poll(lambda: run.status().phase == "running")
        state = run.state()
        assert state is not None
        assert process.is_alive(state["process"]) is None, "nobody here can know"
        assert "stays: it runs" in str(jobs.rm("0", yes=True))
        # Its heartbeat is old: a machine that was asleep. The lock on its folder is not.
        said = json.loads((run.folder / STATE).read_text())
        os.kill(child.pid, 0)
        process.write_json(run.folder / STATE, {**said, "beat": 1000.0})
        assert Run.load(run.folder).status(now=said["beat"] + 4000).phase == "running"
        process.write_json(run.folder / STATE, {**said, "beat": 1000.0})
        assert "stays" in str(jobs.rm("0", yes=True))
        (run.folder / "go").touch()
        poll(lambda: Run.load(run.folder).status().phase == "done")


def test_a_process_of_another_container_is_not_mistaken_for_one_of_ours() -> None:
    with in_a_container("sleep", "600"):
        mine = process.identity()
        there = {**mine, "pids": "pid:[1]"}
        assert process.is_alive(mine) is True
        assert process.is_alive(there) is None
        # What an earlier version wrote says nothing of it.
        assert process.is_alive({key: value for key, value in mine.items() if key != "pids"}) is True


def test_the_name_of_a_namespace_is_another_one_in_a_container(tmp_path: Path) -> None:
    file = tmp_path / "who.json"
    code = f"from pathlib import Path; from colab_magics.process import *; write_json(Path({str(file)!r}), identity())"
    with in_a_container(*process.python("colab_magics")[:2], "-c", code) as child:
        assert child.wait(60) == 0
    there = json.loads(file.read_text())
    assert there["pids"] != process.identity()["pids"]
    assert there["boot"] == process.boot_id()
    assert process.is_alive(there) is None


def test_a_gpu_of_another_containers_run_is_not_given_away(project: Project, home: Path) -> None:
    run = leave_run(project.data_job, 0, "running")
    (run.folder / STATE).touch()
    leases, device = Leases(), Device("GPU-1", "0", "A100")
    assert leases.take(run.folder, 1, [device]) == ["GPU-1"]
    leases.started(run.folder, {**process.identity(), "pids": "pid:[1]"})
    other = leave_run(project.data_job, 1, None)
    assert leases.take(other.folder, 1, [device]) == "GPU 0: baseline/0"
    for path in (run.folder / STATE, run.folder):
        os.utime(path, (1000, 1000))
    assert leases.take(other.folder, 1, [device]) == ["GPU-1"]
