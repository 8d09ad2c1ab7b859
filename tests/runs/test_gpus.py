"""``%fork gpus=``: real runs, on GPUs of `fake_gpus`: who sees which device, and when it is free again."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import poll
from fake_gpus import FakeGpus, gpus
from fronts import Front

from colab_magics import fork, jobs, process, session
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, RunsFailed, Unavailable
from colab_magics.records.run import Run, runs_of
from colab_magics.runs import scheduler
from colab_magics.session import Session
from colab_magics.ui import Table, TerminalUI

from .notebooks import write_notebook

pytest_plugins = ("shells",)

__all__ = ["gpus"]  # a fixture

TELL = """
import json, os, threading, time
began = time.monotonic()

def tell():
    seen = {"gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "order": os.environ.get("CUDA_DEVICE_ORDER")}
    text = json.dumps({**seen, "pid": os.getpid(), "began": began, "last": time.monotonic()})
    open(data_job + "/seen.tmp", "w").write(text)
    os.replace(data_job + "/seen.tmp", data_job + "/seen")

def go_on():
    while True:
        tell()
        time.sleep(0.02)

tell()
"""
"""A cell that writes what the run sees, when it began, and (with `go_on` in a thread) when it was there last."""
UNTIL_GO = "while not os.path.exists(data_job + '/go'):\n    tell()\n    time.sleep(0.02)"
FOR_A_WHILE = "while time.monotonic() < began + 1.2:\n    tell()\n    time.sleep(0.02)"


def seen(run: Run | Path) -> dict[str, Any]:
    file = (run if isinstance(run, Path) else run.folder) / "seen"
    return json.loads(file.read_text()) if file.exists() else {}


def overlaps(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one["began"] < other["last"] and other["began"] < one["last"])


def go(project: Project, *indices: int) -> None:
    for index in indices:
        (project.data_job / f"sub_job_{index:03d}" / "go").touch()


def running(project: Project) -> list[int]:
    return [run.index for run in runs_of(project.data_job) if run.status().phase == "running" and seen(run)]


@pytest.mark.parametrize("start", ["cold", "warm"])
def test_six_runs_on_two_devices_never_share_one(project: Project, gpus: FakeGpus, start: Any) -> None:
    uuids = gpus.say(2)
    board = fork(n=6, start=start, notebook=str(write_notebook(project.root / "a.ipynb", TELL + FOR_A_WHILE)))
    found = [seen(run) for run in board.runs]  # type: ignore[union-attr]
    assert {one["gpus"] for one in found} == set(uuids)
    assert {one["order"] for one in found} == {"PCI_BUS_ID"}
    pairs = [(a, b) for a in found for b in found if a["pid"] < b["pid"] and overlaps(a, b)]
    assert pairs  # two at once, by default
    assert all(a["gpus"] != b["gpus"] for a, b in pairs)
    for run, one in zip(board.runs, found, strict=True):  # type: ignore[union-attr]
        assert run.record["gpus"] == 1
        assert (run.state() or {})["gpus"] == [one["gpus"]]
        assert f"gpu        {uuids.index(one['gpus'])} NVIDIA T4" in str(jobs.show(run.id))
    table = jobs().overview()
    assert {row[list(table.columns).index("gpu")] for row in table.rows} == {"0", "1"}


def test_two_runs_share_a_device_and_a_third_does_not(project: Project, gpus: FakeGpus) -> None:
    gpus.say(1)
    notebook = write_notebook(project.root / "a.ipynb", TELL + UNTIL_GO)
    fork(n=3, workers=3, gpus=0.5, notebook=str(notebook), detach=True)
    poll(lambda: running(project) == [0, 1])
    assert [seen(run)["gpus"] for run in runs_of(project.data_job)[:2]] == ["GPU-000f-dead-beef"] * 2
    note = "Runs of baseline wait for GPU 0: baseline/0, baseline/1."
    poll(lambda: note in noted(project))
    assert running(project) == [0, 1]
    go(project, 1)
    poll(lambda: running(project) == [0, 2])
    assert seen(runs_of(project.data_job)[2])["began"] > seen(runs_of(project.data_job)[1])["last"]
    go(project, 0, 2)
    poll(lambda: not scheduler.is_running(project.data_job))


def noted(project: Project) -> str:
    """Return what stands below the table of the job."""
    return "\n".join(jobs("baseline").overview().notes)


def test_a_run_gets_several_and_none(project: Project, gpus: FakeGpus, monkeypatch: pytest.MonkeyPatch) -> None:
    uuids = gpus.say(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    notebook = str(write_notebook(project.root / "a.ipynb", TELL))
    fork(n=1, gpus=2, notebook=notebook)
    assert seen(project.data_job / "sub_job_000")["gpus"] == f"{uuids[2]},{uuids[0]}"
    fork(n=2, gpus=0, only="1", notebook=notebook)
    assert seen(project.data_job / "sub_job_001")["gpus"] == ""
    fork(n=3, workers=1, only="2", notebook=notebook)
    assert seen(project.data_job / "sub_job_002")["gpus"] == "2,0"  # as in this notebook


def test_too_many_are_refused_before_anything_starts(project: Project, gpus: FakeGpus) -> None:
    gpus.say(2)
    notebook = str(write_notebook(project.root / "a.ipynb", TELL))
    with pytest.raises(InvalidInput, match="gpus=3: this machine has 2 GPUs: 0 NVIDIA T4"):
        fork(n=1, gpus=3, notebook=notebook)
    gpus.say(0)
    with pytest.raises(Unavailable, match="gpus=1: this machine has no NVIDIA GPU"):
        fork(n=1, gpus=1, notebook=notebook)
    assert not list(project.data_job.glob("sub_job_*"))


def test_the_preview_says_which_devices(project: Project, gpus: FakeGpus) -> None:
    gpus.say(2)
    notebook = str(write_notebook(project.root / "a.ipynb", TELL))
    shown = fork(n=3, gpus=0.5, dry_run=True, notebook=notebook)
    assert isinstance(shown, Table)
    assert "4 at once, each with gpus=0.5 of: 0 NVIDIA T4, 16.1 GB; 1 NVIDIA T4, 16.1 GB." in shown.notes
    assert "without GPUs" in str(fork(n=3, gpus=0, dry_run=True, notebook=notebook))


def test_a_program_that_fails_is_a_word_and_no_reason_to_stop(
    project: Project, gpus: FakeGpus, said: io.StringIO
) -> None:
    gpus.say(1, mode="fail")
    notebook = str(write_notebook(project.root / "a.ipynb", TELL))
    with pytest.raises(Unavailable, match="nvidia-smi failed: NVIDIA-SMI has failed"):
        fork(n=1, gpus=1, notebook=notebook)
    fork(n=1, notebook=notebook)
    assert said.getvalue().count("warning: nvidia-smi failed") == 1
    assert seen(project.data_job / "sub_job_000")["gpus"] is None


STUBBORN = """
import signal
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: None)
threading.Thread(target=go_on, daemon=True).start()
end = time.monotonic() + 300
while time.monotonic() < end and not (i_sub_job and os.path.exists(data_job + '/go')):
    time.sleep(0.02)
"""


@pytest.mark.parametrize("start", ["cold", "warm"])
def test_the_device_of_a_killed_run_is_free_when_its_processes_are_gone(
    project: Project, gpus: FakeGpus, start: Any
) -> None:
    gpus.say(1)
    notebook = write_notebook(project.root / "a.ipynb", TELL + STUBBORN)
    fork(n=2, workers=2, gpus=1, start=start, notebook=str(notebook), detach=True)
    poll(lambda: running(project) == [0])
    jobs.kill("0")
    poll(lambda: running(project) == [1])
    first, second = (seen(run) for run in runs_of(project.data_job))
    assert second["began"] > first["last"]
    assert not psutil.pid_exists(first["pid"])
    go(project, 1)
    poll(lambda: not scheduler.is_running(project.data_job))
    assert [run.status().phase for run in runs_of(project.data_job)] == ["killed", "done"]


def test_the_device_of_a_lost_runner_is_free_when_its_kernel_is_gone(project: Project, gpus: FakeGpus) -> None:
    gpus.say(1)
    notebook = write_notebook(project.root / "a.ipynb", TELL + STUBBORN)
    fork(n=2, workers=2, gpus=1, notebook=str(notebook), detach=True)
    poll(lambda: running(project) == [0])
    os.kill((Run.load(project.data_job / "sub_job_000").state() or {})["process"]["pid"], signal.SIGKILL)
    poll(lambda: running(project) == [1])
    first, second = (seen(run) for run in runs_of(project.data_job))
    assert second["began"] > first["last"]
    go(project, 1)
    poll(lambda: not scheduler.is_running(project.data_job))


def test_live_runs_see_their_own_device_and_keep_it_until_they_are_gone(
    start_kernel: Callable[..., Front], gpus: FakeGpus, tmp_path: Path
) -> None:
    uuids = gpus.say(2)
    setup = "import os\n%load_ext colab_magics\n%project name=net root=. job=baseline"
    path = write_notebook(tmp_path / "a.ipynb", setup, "%fork n=4 start=live --detach", TELL + STUBBORN)
    front = start_kernel(COLAB_MAGICS_NOTEBOOK=str(path))
    assert front.run(setup).status == "ok"
    assert "4 runs go on" in "".join(front.run("%fork n=4 start=live --detach").traceback)
    folder = tmp_path / "net" / "data_job" / "baseline"
    poll(lambda: len(list(folder.glob("*/seen"))) == 2, timeout=60)
    scheduler.kill(runs_of(folder)[:1])
    poll(lambda: len(list(folder.glob("*/seen"))) == 3)
    for index in range(4):
        (folder / f"sub_job_{index:03d}" / "go").touch()
    poll(lambda: not scheduler.is_running(folder))
    assert [run.status().phase for run in runs_of(folder)] == ["killed", "done", "done", "done"]
    found = [seen(run) for run in runs_of(folder)]
    assert {one["gpus"] for one in found} == set(uuids)
    pairs = [(a, b) for a in found for b in found if a["pid"] < b["pid"] and overlaps(a, b)]
    assert pairs
    assert all(a["gpus"] != b["gpus"] for a, b in pairs)
    assert front.run("print(os.environ.get('CUDA_VISIBLE_DEVICES'))").out == "None\n"


def other_job(project: Project, notebook: Path, **options: Any) -> tuple[Path, subprocess.Popen[bytes]]:
    """Start runs of another job from another process; return its folder, and the process that watches them."""
    other = Project(name="net", job="other", root=project.root, notebooks=project.root)
    script = (
        "import sys\nfrom pathlib import Path\nfrom colab_magics import fork, session\n"
        "from colab_magics.checkout.project import Project\nfrom colab_magics.session import Session\n"
        "root = Path(sys.argv[1])\n"
        "session.activate(Session(project=Project(name='net', job='other', root=root, notebooks=root)))\n"
        f"fork(notebook=sys.argv[2], **{options!r})"
    )
    return other.data_job, subprocess.Popen([sys.executable, "-c", script, project.root, notebook])


def test_two_jobs_never_get_one_device(project: Project, gpus: FakeGpus) -> None:
    uuids = gpus.say(2)
    notebook = write_notebook(project.root / "a.ipynb", TELL + FOR_A_WHILE)
    folder, other = other_job(project, notebook, n=4, gpus=1)
    fork(n=4, gpus=1, notebook=str(notebook))
    assert other.wait(60) == 0
    found = [seen(run) for job in (project.data_job, folder) for run in runs_of(job)]
    assert len(found) == 8
    assert {one["gpus"] for one in found} == set(uuids)
    pairs = [(a, b) for a in found for b in found if a["pid"] < b["pid"] and overlaps(a, b)]
    assert pairs
    assert all(a["gpus"] != b["gpus"] for a, b in pairs)


def test_runs_whose_scheduler_was_killed_keep_their_devices(project: Project, gpus: FakeGpus) -> None:
    gpus.say(2)
    notebook = write_notebook(project.root / "a.ipynb", TELL + UNTIL_GO)
    fork(n=3, gpus=1, notebook=str(notebook), detach=True)
    poll(lambda: running(project) == [0, 1])
    feeding = poll(lambda: process.read_json(project.data_job / ".scheduler" / "state.json"))
    os.kill(feeding["process"]["pid"], signal.SIGKILL)
    poll(lambda: not scheduler.is_running(project.data_job))
    folder, other = other_job(project, notebook, n=1, gpus=1)
    waiting = folder / ".scheduler" / "gpus.json"
    poll(lambda: (process.read_json(waiting) or {}).get("waiting") == "GPU 0: baseline/0; GPU 1: baseline/1")
    fork(n=3, gpus=1, notebook=str(notebook), detach=True)  # adopts what runs
    assert running(project) == [0, 1]
    go(project, 0, 1, 2)
    poll(lambda: (folder / "sub_job_000").exists())
    (folder / "sub_job_000" / "go").touch()
    assert other.wait(60) == 0
    poll(lambda: not scheduler.is_running(project.data_job))
    found = [seen(run) for run in [*runs_of(project.data_job), *runs_of(folder)]]
    assert len(found) == 4
    assert not any(a["gpus"] == b["gpus"] and overlaps(a, b) for a in found for b in found if a["pid"] < b["pid"])
    assert [run.attempt for run in runs_of(project.data_job)] == [1, 1, 1]


def test_a_device_that_another_program_uses_is_left_out_until_it_is_free(
    project: Project, gpus: FakeGpus, said: io.StringIO
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        gpus.say(2, apps=[(stranger.pid, "GPU-000f-dead-beef", 5000)])
        notebook = write_notebook(project.root / "a.ipynb", TELL + UNTIL_GO)
        fork(n=2, notebook=str(notebook), detach=True)
        word = f"GPU 0 is in use by another program (process {stranger.pid}, 5.2 GB): left out while it is."
        assert word in said.getvalue()
        poll(lambda: running(project) == [0])
        assert seen(project.data_job / "sub_job_000")["gpus"] == "GPU-100f-dead-beef"
        poll(lambda: f"wait for GPU 0: another program (process {stranger.pid}); GPU 1: base" in noted(project))
        stranger.kill()
    poll(lambda: running(project) == [0, 1])
    assert seen(project.data_job / "sub_job_001")["gpus"] == "GPU-000f-dead-beef"
    go(project, 0, 1)
    poll(lambda: not scheduler.is_running(project.data_job))


def test_a_retry_waits_for_no_device_that_is_gone(project: Project, gpus: FakeGpus) -> None:
    gpus.say(1)
    notebook = write_notebook(project.root / "a.ipynb", TELL + "assert os.path.exists(data_job + '/go')")
    with pytest.raises(RunsFailed):
        fork(n=1, gpus=1, retries=1, notebook=str(notebook))
    assert Run.load(project.data_job / "sub_job_000").attempt == 2
    gpus.say(0)
    with pytest.raises(Unavailable, match="gpus=1: this machine has no NVIDIA GPU"):
        jobs.retry("failed")
    gpus.say(1)
    go(project, 0)
    session.activate(Session(ui=TerminalUI(out=io.StringIO()), project=project))
    assert [status.phase for _, status in jobs.retry("failed").statuses()] == ["done"]


def test_memory_of_gpus_is_shown_and_its_peak_is_kept(
    project: Project, gpus: FakeGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    (uuid,) = gpus.say(1)
    notebook = write_notebook(project.root / "a.ipynb", TELL + UNTIL_GO)
    fork(n=1, gpus=1, notebook=str(notebook), detach=True)
    poll(lambda: running(project) == [0])
    run = Run.load(project.data_job / "sub_job_000")
    gpus.say(1, apps=[(seen(run)["pid"], uuid, 3000), (1, uuid, 4000)])
    poll(lambda: cell("gpu memory") == "3.1 GB", timeout=60)
    assert cell("memory").endswith("B")
    gpus.say(1, mode="fail")
    unknown = (
        "because it couldn't communicate with the NVIDIA driver. How much memory of GPUs the runs use is not known."
    )
    poll(lambda: unknown in noted(project))
    go(project, 0)
    poll(lambda: not scheduler.is_running(project.data_job))
    assert noted(project) == ""
    assert cell("gpu memory") == "3.1 GB peak (sampled)"
    assert cell("memory").endswith(" peak")
    assert "gpu memory 3.1 GB peak" in str(jobs.show("0"))


def cell(column: str) -> str:
    table = jobs("0").overview()
    return str(table.rows[0][list(table.columns).index(column)]) if column in table.columns else ""
