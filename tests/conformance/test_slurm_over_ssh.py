"""Runs on a Slurm whose login node ssh reaches keep to what engines keep to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import Box, boxes
from conftest import poll
from runs.notebooks import write_notebook
from slurm_server import SlurmServer

from colab_magics import fork, jobs, submit
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, RunsFailed, Unavailable
from colab_magics.records.run import runs_of

from .engine_suite import EngineSuite
from .waiting import WAITS, begun, phases, waiting


@pytest.fixture
def login(slurm: SlurmServer, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A login node; here nobody knows of the cluster."""
    monkeypatch.delenv("SLURM_CONF")
    with boxes(tmp_path, home, names=("login",), variables=slurm.environment) as (made,):
        yield made


@pytest.mark.long
class TestSlurmOverSsh(EngineSuite):
    """``on=slurm@login``."""

    @pytest.fixture
    def on(self, login: Box) -> str:
        return "slurm@login"


def test_runs_are_one_array_there_and_their_results_come_home(
    login: Box, project: Project, slurm: SlurmServer, tmp_path: Path
) -> None:
    cell = "open(data_job + '/out', 'w').write(str(lr))\n"
    cell += WAITS.format(go=str(tmp_path / "go"))
    notebook = str(write_notebook(project.root / "a.ipynb", cell))
    fork({"lr": [1, 2, 3]}, on="slurm@login", workers=2, mem="500MB", notebook=notebook, detach=True)
    poll(lambda: phases(project) == ["running", "running", "waiting"], timeout=60)
    assert "queued on login" in str(jobs())
    poll(lambda: str(jobs()).count(f"on login, node {slurm.node}") == 2)
    queue = slurm.ask("squeue", "-h", "-r", "-o", "%F %m").splitlines()
    assert len(queue) == 3
    assert len(set(queue)) == 1
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"] * 3, timeout=60)
    assert [(run.folder / "out").read_text() for run in runs_of(project.data_job)] == ["1", "2", "3"]


@pytest.mark.long
def test_another_number_of_workers_counts_for_what_slurm_has_there(
    login: Box, project: Project, slurm: SlurmServer, tmp_path: Path
) -> None:
    notebook = waiting(project, tmp_path)
    fork(n=4, on="slurm@login", workers=1, notebook=notebook, detach=True)
    begun(tmp_path, 1)
    fork(n=4, on="slurm@login", workers=3, notebook=notebook, detach=True)
    begun(tmp_path, 3)
    (job,) = set(slurm.ask("squeue", "-h", "-r", "-o", "%F").split())
    assert "ArrayTaskThrottle=3" in slurm.ask("scontrol", "show", "job", job)
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"] * 4, timeout=60)


@pytest.mark.long
def test_how_a_run_has_ended_comes_home(login: Box, project: Project, slurm: SlurmServer, tmp_path: Path) -> None:
    os.chdir(project.root)
    with pytest.raises(RunsFailed, match=r"setup= failed on node \w+"):
        submit("true", on="slurm@login", setup="false", wait=True)
    with pytest.raises(Unavailable, match="login: Slurm would not take these runs: Invalid partition"):
        submit("true", on="slurm@login", partition="nowhere")
    with pytest.raises(InvalidInput, match="one login node"):
        submit("true", on="slurm@a,b")
    submit("sleep", "600", on="slurm@login")
    poll(lambda: slurm.ask("squeue", "-h", "-t", "RUNNING"), timeout=60)
    poll(lambda: phases(project)[1:] == ["running"], timeout=60)
    slurm.ask("scancel", "--user", str(os.getuid()))
    poll(lambda: phases(project)[1:] == ["killed"], timeout=60)
    assert "cancelled at Slurm" in runs_of(project.data_job)[1].status().text
