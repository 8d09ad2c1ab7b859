"""%submit need=: the host with just enough is taken, keeps that free, and starts nothing without room."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from boxes import Box, boxes
from conftest import poll
from fake_gpus import FakeGpus

from colab_magics import submit
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, Unavailable
from colab_magics.records.run import runs_of
from colab_magics.runs import scheduler
from colab_magics.transport import pick, probe
from colab_magics.transport.host_leases import Lease
from colab_magics.transport.need import Need

UNTIL_GO = "while [ ! -e {go} ]; do sleep 0.05; done; echo devices $CUDA_VISIBLE_DEVICES"


@dataclass
class Hosts:
    """Two machines, and their GPUs."""

    alpha: Box
    beta: Box
    gpus: dict[str, FakeGpus]

    def leases(self, box: Box) -> list[dict[str, object]]:
        return [json.loads(file.read_text()) for file in sorted((box.home / "leases").glob("*.lease"))]


@pytest.fixture
def hosts(tmp_path: Path, home: Path) -> Iterator[Hosts]:
    """Two machines: alpha has a GPU with 15 GB free, beta two with 5 GB."""
    gpus, paths = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("alpha", "beta"):
            (tmp_path / f"gpus of {name}").mkdir()
            before = os.environ["PATH"]
            gpus[name] = FakeGpus(tmp_path / f"gpus of {name}", patch)
            paths[name] = os.environ["PATH"]
            patch.setenv("PATH", before)
        gpus["alpha"].say(1)
        gpus["beta"].say(2, free=[5000, 5000])
        with boxes(tmp_path, home, paths=paths) as (alpha, beta):
            yield Hosts(alpha, beta, gpus)


@pytest.fixture
def project(project: Project) -> Project:
    os.chdir(project.root)
    return project


def log(project: Project, index: int = 0) -> str:
    return (project.data_job / f"sub_job_{index:03d}" / "log.txt").read_text()


def test_it_takes_the_host_with_just_enough_and_says_why(
    hosts: Hosts, project: Project, said: io.StringIO, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    board = submit(UNTIL_GO.format(go=go), need="1.5GB gpu, 10MB disk")
    assert "beta, GPU 0 has just enough: 10.0 MB of disk, a GPU with 1.5 GB free." in said.getvalue()
    assert (
        "\n  alpha: has more than is needed: 14.6 GB of GPU memory would be left over, 3.7 GB there" in said.getvalue()
    )
    (run,) = board.runs  # type: ignore[union-attr]
    assert run.engine == "ssh:beta"
    poll(lambda: run.status().phase == "running", timeout=60)
    (lease,) = poll(lambda: [one for one in hosts.leases(hosts.beta) if one["holders"]])
    assert (lease["what"], lease["devices"]) == ("net/baseline", ["GPU-000f-dead-beef"])
    (report,) = probe.probe(["beta"])
    assert [str(one) for one in report.promises] == [
        f"net/baseline of {psutil.Process().username()} has a lease on 10.0 MB of disk, a GPU with 1.5 GB free"
    ]
    go.touch()
    poll(lambda: run.status().phase == "done", timeout=60)
    assert "devices GPU-000f-dead-beef" in log(project)
    assert not probe.probe(["beta"])[0].promises, "it ends with the run"


def test_no_host_has_enough(hosts: Hosts, project: Project) -> None:
    with pytest.raises(Unavailable) as error:
        submit("true", need="40GB gpu", on="ssh:alpha,beta,gone")
    assert "No host has a GPU with 40.0 GB free." in error.value.what
    assert "\n  alpha: 16.1 GB of GPU memory free, 40.0 GB + 10 % needed" in error.value.what
    assert "\n  gone: There is no host gone" in error.value.what
    assert not runs_of(project.data_job)
    assert not hosts.leases(hosts.alpha) + hosts.leases(hosts.beta)


@pytest.mark.parametrize(
    "words", [{"on": "local"}, {"gpus": 1}, {"need": "much"}, {"on": "slurm"}, {"workers": "0"}], ids=str
)
def test_words_that_do_not_go_together(hosts: Hosts, project: Project, words: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        submit("true", **{"need": "1 cpu", **words})  # type: ignore[arg-type]


def test_what_is_kept_or_only_shown_holds_no_lease(hosts: Hosts, project: Project, said: io.StringIO) -> None:
    submit("true", need="10MB disk", on="ssh:alpha", dry_run=True)
    assert not hosts.leases(hosts.alpha)
    submit("true", need="10MB disk", on="ssh:alpha", wait=True)
    poll(lambda: not scheduler.is_running(project.data_job))
    assert len(hosts.leases(hosts.alpha)) == 1
    submit("true", need="10MB disk", on="ssh:alpha", wait=True)
    assert len(hosts.leases(hosts.alpha)) == 1
    with pytest.raises(InvalidInput):
        submit("true", "{x}", grid={"y": [1]}, need="10MB disk", on="ssh:alpha")
    assert not probe.probe(["alpha"])[0].promises


def test_runs_of_a_grid_have_gpus_of_their_own(hosts: Hosts, project: Project, tmp_path: Path) -> None:
    go = tmp_path / "go"
    submit(f"echo {{x}}; {UNTIL_GO.format(go=go)}", grid={"x": [1, 2]}, need="3GB gpu", workers="2")
    runs = runs_of(project.data_job)
    poll(lambda: [run.status().phase for run in runs] == ["running"] * 2, timeout=60)
    go.touch()
    poll(lambda: [run.status().phase for run in runs] == ["done"] * 2, timeout=60)
    assert {log(project, 0).split()[-1], log(project, 1).split()[-1]} == {"GPU-000f-dead-beef", "GPU-100f-dead-beef"}


def test_what_comes_later_waits_for_room_and_says_so(
    hosts: Hosts, project: Project, said: io.StringIO, tmp_path: Path
) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    submit(UNTIL_GO.format(go=first), need="2 gpu", on="ssh:beta")
    submit(UNTIL_GO.format(go=second), need="2 gpu", on="ssh:alpha,beta")
    assert "are being executed on beta: these follow them there." in said.getvalue()
    with pytest.raises(InvalidInput, match="are being executed with on=ssh:beta"):
        submit("true", need="1 gpu", on="ssh:alpha")
    runs = runs_of(project.data_job)
    poll(lambda: [run.status().phase for run in runs] == ["running", "waiting"], timeout=60)
    other = Lease(Need.from_text("1 cpu, 1GB gpu"), "b'; touch gone \x1b[2J $(touch gone)", ("GPU-000f-dead-beef",))
    probe.probe(["beta"], lease=other)
    first.touch()
    poll(lambda: [run.status().phase for run in runs] == ["done", "waiting"], timeout=60)
    why = "there is no room for 2 GPUs now: too many of its GPUs are in use; b'; touch gone  $(touch gone) of"
    poll(lambda: why in " ".join(scheduler.waits_for(project.data_job)), timeout=60)
    pick.drop("beta", other)
    second.touch()
    poll(lambda: [run.status().phase for run in runs] == ["done"] * 2, timeout=60)
    assert "devices GPU-000f-dead-beef,GPU-100f-dead-beef" in log(project, 1)


TAKE = """
import sys
from colab_magics.errors import Unavailable
from colab_magics.transport import pick, probe
from colab_magics.transport.host_leases import Lease
from colab_magics.transport.need import Need
reports = probe.probe(["alpha", "beta"])
print("seen", flush=True)
sys.stdin.readline()
try:
    print(pick.pick(reports, Lease(Need.from_text("4GB gpu"), "a race")).choice.host)
except Unavailable:
    print("none")
"""


def test_those_who_choose_at_the_same_moment_get_what_there_is_and_no_more(hosts: Hosts) -> None:
    """Beta has room for two, alpha for three; seven look first, and then take all at once."""
    racing = [
        subprocess.Popen([sys.executable, "-c", TAKE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(7)
    ]
    for one in racing:
        assert one.stdout is not None
        assert one.stdout.readline() == "seen\n"
    for one in racing:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    took = sorted(one.communicate(timeout=100)[0].strip() for one in racing)
    assert took == ["alpha"] * 3 + ["beta"] * 2 + ["none"] * 2


def test_the_shell_and_the_record_say_it_too(hosts: Hosts, project: Project) -> None:
    words = ["submit", "--wait", "need=10MB disk, 0.1 cpu", "on=ssh:alpha,beta", "--", "echo", "need=$x"]
    done = subprocess.run([sys.executable, "-m", "colab_magics", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "alpha has just enough" in done.stderr + done.stdout or "beta has just enough" in done.stderr + done.stdout
    assert "need=$x" in done.stdout + done.stderr
    (run,) = runs_of(project.data_job)
    assert run.record["lease"]["need"]["disk"] == 10_000_000
