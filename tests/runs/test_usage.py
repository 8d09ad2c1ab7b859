"""What runs use of their machine: measured over all their processes, shown, and the peaks kept."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import poll

from colab_magics import fork, jobs, process
from colab_magics.checkout.project import Project
from colab_magics.records.run import Run
from colab_magics.runs import scheduler, usage

from .folders import leave_run
from .notebooks import write_notebook

MB = 10**6
FAMILY = """
import os, sys
held = bytearray(os.urandom(1)) * 80_000_000
reader, writer = os.pipe()
if os.fork() == 0:
    os.close(writer)
    if sys.argv[1] == "writes":
        held = bytearray(held)
    os.write(1, b"ready\\n")
    os.read(reader, 1)
    os._exit(0)
os.write(1, b"ready\\n")
exec(sys.stdin.readline())
os.close(writer)
os.wait()
os.write(1, b"alone\\n")
sys.stdin.readline()
"""
"""A process of 80 MB and its fork, which shares them or not; then the parent executes a line and ends the child."""


@pytest.fixture
def family(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    with subprocess.Popen([sys.executable, "-c", FAMILY, request.param], stdin=-1, stdout=-1, text=True) as parent:
        assert parent.stdout is not None
        assert [parent.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
        meter = usage.Meter(tmp_path / "job" / "sub_job_000")
        meter.kernel = process.identity(parent.pid)
        yield parent, meter
        parent.kill()


def measure(meter: usage.Meter) -> dict[str, Any]:
    """Measure now, however much the measure before has cost."""
    return poll(lambda: meter._next <= time.monotonic() and meter.measure())


@pytest.mark.parametrize(("family", "low", "high"), [("shares", 75, 130), ("writes", 155, 230)], indirect=["family"])
def test_memory_counts_what_is_shared_once_and_keeps_the_peak(family: Any, low: int, high: int) -> None:
    parent, meter = family
    first = measure(meter)
    assert low * MB < first["memory"] < high * MB
    assert first["memory_peak"] == first["memory"]
    parent.stdin.write("held.clear()\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == "alone\n"
    second = measure(meter)
    assert second["memory"] < 60 * MB
    assert second["memory_peak"] == first["memory"]


@pytest.mark.parametrize("family", ["shares"], indirect=True)
def test_a_peak_between_two_measures_is_seen_and_what_is_shared_is_no_peak(family: Any) -> None:
    parent, meter = family
    first = measure(meter)
    assert first["memory_peak"] < 130 * MB  # both hold 80 MB, which are there once
    parent.stdin.write("more = b'x' * 300_000_000; del more\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == "alone\n"
    meter.peaks()
    assert 300 * MB < meter._value["memory_peak"] < 480 * MB
    assert measure(meter)["memory"] < 130 * MB


@pytest.mark.parametrize("family", ["shares"], indirect=True)
def test_processor_time_counts_children_that_have_ended(family: Any) -> None:
    parent, meter = family
    assert "cpu" not in measure(meter)
    child = "import time; end = time.process_time() + 0.5\\nwhile time.process_time() < end: pass"
    parent.stdin.write(f"import subprocess; subprocess.run([sys.executable, '-c', '{child}'])\n")
    parent.stdin.flush()
    began = meter._before[0]
    assert parent.stdout.readline() == "alone\n"
    percent = measure(meter)["cpu"]
    assert 100 * 0.4 / (time.monotonic() - began) < percent < 150
    parent.kill()
    parent.wait()
    assert measure(meter)["cpu"] == percent  # nothing new is known of a kernel that is gone


def test_what_takes_long_to_measure_is_measured_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    looks: list[float] = []

    def slow(one: Any) -> tuple[int, int]:
        looks.append(clock[0])
        clock[0] += 0.2
        return 5, 0

    monkeypatch.setattr(usage.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(usage, "_memory", slow)
    monkeypatch.setattr(usage.Meter, "_family", lambda self: [usage.psutil.Process()])
    meter = usage.Meter(tmp_path)
    for _ in range(30):
        assert meter.measure()["memory"] == 5
        clock[0] += 5.0
    assert looks[:3] == pytest.approx([100.0, 120.4, 140.8], abs=0.5)


OWN = "x = b'x' * 300_000_000\ndel x"
OF_A_CHILD = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {OWN!r}], check=True)"


@pytest.mark.parametrize(("start", "cell"), [("cold", OWN), ("warm", OWN), ("cold", OF_A_CHILD)])
def test_the_peak_of_a_run_that_nobody_looked_at_in_time(project: Project, start: Any, cell: str) -> None:
    fork(n=1, start=start, notebook=str(write_notebook(project.root / "a.ipynb", cell)))
    used = (Run.load(project.data_job / "sub_job_000").state() or {})["usage"]
    assert 300 * MB < used["memory_peak"] < 480 * MB
    assert used["memory"] <= used["memory_peak"]  # a look at the wrong moment may have seen some of it


def test_a_runs_table_shows_what_it_uses_now_and_then_the_peak(project: Project) -> None:
    cell = """
import os, time
held = bytearray(os.urandom(1)) * 150_000_000
while not os.path.exists(data_job + '/go'):
    pass
"""
    fork(n=1, notebook=str(write_notebook(project.root / "a.ipynb", cell)), detach=True)
    folder = project.data_job / "sub_job_000"
    poll(lambda: "cpu" in ((process.read_json(folder / "state.json") or {}).get("usage") or {}), timeout=60)
    table = jobs().overview()
    assert list(table.columns) == ["run", "state", "time", "memory", "cpu"]
    row = dict(zip(table.columns, table.rows[0], strict=True))
    amount, unit = row["memory"].split()
    assert unit == "MB"
    assert 150 < float(amount) < 400
    assert 10 < int(row["cpu"].removesuffix(" %")) <= 120
    assert f"memory     {row['memory']}, " in str(jobs.show("0"))
    (folder / "go").touch()
    poll(lambda: not scheduler.is_running(project.data_job))
    table = jobs().overview()
    assert list(table.columns) == ["run", "state", "time", "memory"]
    peak = (Run.load(folder).state() or {})["usage"]["memory_peak"]
    assert table.rows[0][3] == f"{usage.show_size(peak)} peak"
    assert peak > 150 * MB


def test_columns_without_anything_are_left_out(project: Project) -> None:
    leave_run(project.data_job, 0)
    run = leave_run(project.data_job, 1, "running", alive=True)
    assert list(jobs().overview().columns) == ["run", "state", "time", "last line"]
    uuid = "GPU-5d5ba0d6-d33d"
    used = {"memory": 3 * 10**9, "memory_peak": 4 * 10**9, "cpu": 0, "gpu_memory": 10**9, "gpu_memory_peak": 2 * 10**9}
    state = process.read_json(run.folder / "state.json") or {}
    process.write_json(run.folder / "state.json", {**state, "usage": used, "gpus": [uuid, "GPU-9"]})
    table = jobs().overview()
    assert list(table.columns)[3:7] == ["memory", "cpu", "gpu", "gpu memory"]
    assert [row[3:7] for row in table.rows] == [["3.0 GB", "0 %", "GPU-5d5ba0d6,GPU-9", "1.0 GB"], [""] * 4]
    assert "gpu memory 1.0 GB, 2.0 GB peak (sampled)" in str(jobs.show("1"))
    (project.data_job / ".scheduler").mkdir()
    process.write_json(project.data_job / ".scheduler" / "gpus.json", {"devices": {uuid: "0:1 NVIDIA A100 MIG 1g.5gb"}})
    assert jobs().overview().rows[0][5] == "0:1,GPU-9"
    assert f"gpu        0:1 NVIDIA A100 MIG 1g.5gb ({uuid}); GPU-9" in str(jobs.show("1"))


def test_a_measure_costs_little() -> None:
    meter = usage.Meter(Path("/nowhere/sub_job_000"))
    meter.kernel = process.identity(os.getpid())
    best = min(_seconds(meter) for _ in range(5))
    assert best < 0.1  # every five seconds


def _seconds(meter: usage.Meter) -> float:
    meter._next = 0.0
    began = time.perf_counter()
    meter.measure()
    return time.perf_counter() - began
