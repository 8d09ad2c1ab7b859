"""What nvidia-smi says and who has which device, without runs."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import poll
from fake_gpus import FakeGpus, gpus

from colab_magics import process
from colab_magics.engines import machine
from colab_magics.engines.base import Resources
from colab_magics.engines.gpus import devices
from colab_magics.engines.gpus.devices import Device, Use
from colab_magics.engines.gpus.leases import Leases
from colab_magics.errors import InvalidInput, Unavailable
from colab_magics.session import RUN_VARIABLE

__all__ = ["gpus"]  # a fixture


def test_devices_and_parts_are_read(gpus: FakeGpus) -> None:
    uuids = gpus.say(3, mig=[(), ("1g.5gb", "2g.10gb")])
    found = devices.find()
    assert [device.uuid for device in found] == uuids
    assert [device.index for device in found] == ["0", "1:0", "1:1", "2"]
    assert str(found[0]) == "0 NVIDIA T4, 16.1 GB"
    assert str(found[1]) == "1:0 NVIDIA T4 MIG 1g.5gb"
    assert uuids[1].startswith("MIG-")


def test_what_the_real_program_prints_is_read() -> None:
    table = "0, GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77, 40960, [N/A], NVIDIA A100-SXM4-40GB\n"
    listing = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1c.3g.20gb  Device  1: (UUID: MIG-GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77/1/0)
"""
    assert [device.index for device in devices.read_devices(table, listing)] == ["0:0", "0:1"]
    (whole,) = devices.read_devices(table, listing.splitlines()[0])
    assert (whole.name, whole.memory) == ("NVIDIA A100-SXM4-40GB", 40960 << 20)
    uses = "1234, GPU-5d5ba0d6, 512\n77, GPU-5d5ba0d6, [N/A]\n"
    assert devices.read_uses(uses) == [Use(1234, "GPU-5d5ba0d6", 512 << 20), Use(77, "GPU-5d5ba0d6", 0)]
    assert devices.read_uses("") == devices.read_uses("No running processes found\n") == []
    assert devices.read_devices("No devices were found\n", "No devices found.") == []


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        (None, ["0", "1:0", "1:1", "2"]),
        ("2,0", ["2", "0"]),
        ("1", ["1:0", "1:1"]),
        ("", []),
        ("-1", []),
        ("0,-1,2", ["0"]),
        ("GPU-200f", ["2"]),
        ("GPU-", []),  # names no single one
        ("GPU-100f-dead-beef", ["1:0", "1:1"]),
        ("MIG-1100-abcd, 0", ["1:1", "0"]),
        ("0,0,7,1", ["0"]),
    ],
)
def test_only_what_the_notebook_may_use_is_given_out(
    gpus: FakeGpus, monkeypatch: pytest.MonkeyPatch, setting: str | None, found: list[str]
) -> None:
    gpus.say(3, mig=[(), ("1g.5gb", "2g.10gb")])
    if setting is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    assert [device.index for device in devices.find()] == found


@pytest.mark.parametrize(("value", "need"), [("1", 1.0), (2, 2.0), ("0.5", 0.5), (0.25, 0.25), ("0", 0.0), (1.0, 1.0)])
def test_gpus_as_people_write_them(value: str | float, need: float) -> None:
    assert devices.share(value) == need


@pytest.mark.parametrize("value", ["", "all", "-1", "1.5", True, "nan", "1e9"])
def test_gpus_that_are_no_number(value: str) -> None:
    with pytest.raises(InvalidInput, match="gpus="):
        devices.share(value)


@pytest.mark.parametrize(
    ("need", "count", "slots"), [(1, 2, 2), (2, 3, 1), (0.5, 2, 4), (0.3, 1, 3), (0.1, 1, 10), (0.6, 2, 2), (3, 2, 0)]
)
def test_how_many_runs_devices_hold(need: float, count: int, slots: int) -> None:
    assert devices.slots(need, [Device(f"GPU-{i}", str(i), "T4", gpu=f"GPU-{i}") for i in range(count)]) == slots


def test_a_program_that_fails_or_hangs_is_one_message(gpus: FakeGpus, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus.say(1, mode="fail")
    with pytest.raises(Unavailable, match=r"^nvidia-smi failed: NVIDIA-SMI has failed because.*\n→ .*gpus=0"):
        machine.settle("auto", "1")
    settled = machine.settle("auto", None)
    assert (settled.gpus, len(settled.warnings)) == (None, 1)
    assert "Runs get no GPU of their own" in settled.warnings[0]
    monkeypatch.setattr(devices, "PATIENCE", 0.5)
    gpus.say(1, mode="hang")
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"nvidia-smi has not answered in 0\.5 s\.\n→"):
        machine.settle(1, "1")
    assert time.monotonic() - began < 20
    assert machine.settle("4", "0").gpus == 0  # nobody is asked


def test_a_watch_that_gets_no_answer_ends_and_says_so(gpus: FakeGpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "EVERY", 0.0)
    (uuid,) = gpus.say(1, apps=[(1, "GPU-000f-dead-beef", 10)])
    watch = devices.Watch()
    poll(watch.look)
    assert watch.uses == [Use(1, uuid, 10 << 20)]
    monkeypatch.setattr(devices, "PATIENCE", 0.3)
    gpus.say(1, mode="hang")
    poll(lambda: watch.look() and watch.problem)
    assert "has not answered" in watch.problem
    assert watch.uses == []
    calls = gpus.calls.read_text()
    assert not watch.look()
    assert gpus.calls.read_text() == calls  # nobody is asked again


def test_what_a_machine_gives(gpus: FakeGpus, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus.say(2)
    assert (machine.settle("auto", None).workers, machine.settle("auto", None).gpus) == (2, 1.0)
    assert machine.settle("auto", "0.5").workers == 4
    assert machine.settle("auto", 2).workers == 1
    assert (machine.settle(7, None).workers, machine.settle(7, None).gpus) == (7, None)
    assert (machine.settle(7, 1).workers, machine.settle(7, 1).only_free) == (7, False)
    cores = max(1, (os.cpu_count() or 1) // 2)
    assert machine.settle("auto", 0).workers == cores
    with pytest.raises(InvalidInput, match=r"gpus=3: this machine has 2 GPUs: 0 NVIDIA T4, .*; 1 NVIDIA T4") as caught:
        machine.settle("auto", 3)
    assert "gpus=2 or less" in str(caught.value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(InvalidInput, match=r"has 1 GPU that CUDA_VISIBLE_DEVICES=1 lets be used: 1 NVIDIA T4"):
        machine.settle("auto", 2)
    assert machine.settle("auto", 1).workers == 1


def test_several_parts_made_by_mig_are_of_no_use_to_one_run(gpus: FakeGpus) -> None:
    uuids = gpus.say(3, mig=[("3g.20gb", "3g.20gb")])
    assert machine.settle("auto", None).workers == 4
    assert machine.settle("auto", 0.5).workers == 8
    assert machine.settle("auto", 2).workers == 1
    with pytest.raises(
        InvalidInput, match=r"has 4 GPUs: 0:0 .* \(a run can use one part made by MIG alone\)"
    ) as caught:
        machine.settle("auto", 3)
    assert "gpus=2 or less" in str(caught.value)
    assert [device.uuid for device in devices.suited(2, devices.find())] == uuids[2:]


def test_a_program_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/nowhere/python\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="nvidia-smi cannot be started: No such file"):
        machine.settle("auto", 1)
    watch = devices.Watch()
    assert watch.look()
    assert "cannot be started" in watch.problem


def test_a_machine_without_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    cores = max(1, (os.cpu_count() or 1) // 2)
    assert dataclasses.replace(machine.settle("auto", None), note="") == Resources(cores)
    with pytest.raises(Unavailable, match=r"gpus=1: this machine has no NVIDIA GPU \(there is no nvidia-smi\)"):
        machine.settle("auto", 1)


def test_who_uses_a_gpu_is_said(gpus: FakeGpus) -> None:
    apps = [
        (os.getpid(), "GPU-000f-dead-beef", 2000),
        (1, "GPU-100f-dead-beef", 500),
        (2**22 + 5, "GPU-000f-dead-beef", 1),
    ]
    gpus.say(2, apps=apps)
    here, other = machine.settle("auto", None).warnings
    assert here == "This notebook itself uses 2.1 GB of GPU 0: runs there have less."
    assert other == "GPU 1 is in use by another program (process 1, 524 MB): left out while it is."
    gpus.say(1, apps=[(1, "GPU-000f-dead-beef", 500)])
    assert "the runs wait until one is free. workers=1" in machine.settle("auto", None).warnings[-1]


class Table:
    """Leases of three devices, and processes that stand for runners."""

    def __init__(self, jobs: Path) -> None:
        self.jobs, self.leases = jobs, Leases()
        self.devices = [Device(f"GPU-{i}", str(i), "T4", gpu=f"GPU-{i}") for i in range(3)]
        self.running: list[subprocess.Popen[bytes]] = []

    def take(self, index: int, need: float, **options: Any) -> list[str] | str:
        return self.leases.take(self.folder(index), need, self.devices, **options)

    def folder(self, index: int) -> Path:
        folder = self.jobs / "job" / f"sub_job_{index:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def start(self, index: int, *, environment: bool = True) -> subprocess.Popen[bytes]:
        env = {**os.environ, **({RUN_VARIABLE: str(self.folder(index))} if environment else {})}
        made = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], env=env, stdin=-1, stdout=-1)
        assert made.stdout is not None
        made.stdout.readline()
        self.running.append(made)
        return made

    def end(self, one: subprocess.Popen[bytes]) -> None:
        one.kill()
        one.communicate()


@pytest.fixture
def table(tmp_path: Path) -> Any:
    made = Table(tmp_path)
    yield made
    for one in made.running:
        made.end(one)


def test_no_device_is_given_twice_and_shares_add_up_to_one(table: Table) -> None:
    assert table.take(0, 0.5) == ["GPU-0"]
    assert table.take(1, 0.6) == ["GPU-1"]
    assert table.take(2, 0.5) == ["GPU-0"]
    assert table.take(3, 0.3) == ["GPU-1"]
    assert table.take(4, 2) == "GPU 0: job/0, job/2; GPU 1: job/1, job/3"
    assert table.take(4, 1) == ["GPU-2"]
    assert table.take(5, 0.2) == "GPU 0: job/0, job/2; GPU 1: job/1, job/3; GPU 2: job/4"
    assert table.take(5, 0.1) == ["GPU-1"]


def test_several_devices_come_in_order(table: Table) -> None:
    assert table.take(0, 0.5) == ["GPU-0"]
    assert table.take(1, 2) == ["GPU-1", "GPU-2"]


def test_a_device_is_free_when_the_last_process_of_its_run_is_gone(table: Table) -> None:
    assert table.take(0, 3) == ["GPU-0", "GPU-1", "GPU-2"]
    runner, child = table.start(0), table.start(0)
    table.leases.started(table.folder(0), process.identity(runner.pid))
    assert "job/0" in table.take(1, 1)
    table.end(runner)
    assert "job/0" in table.take(1, 1)  # the child
    assert "job/0" in table.take(0, 1)  # also for another attempt of the same run
    table.end(child)
    assert table.take(1, 1) == ["GPU-0"]


def test_a_kernel_that_is_exiting_keeps_its_device(table: Table) -> None:
    """A process that exits loses its environment before it lets go of devices: its number tells."""
    assert table.take(0, 3) == ["GPU-0", "GPU-1", "GPU-2"]
    runner, kernel = table.start(0), table.start(0, environment=False)
    table.leases.started(table.folder(0), process.identity(runner.pid))
    process.write_json(table.folder(0) / "state.json", {"kernel_process": process.identity(kernel.pid)})
    table.end(runner)
    assert "job/0" in table.take(1, 1)
    table.end(kernel)
    assert table.take(1, 1) == ["GPU-0"]


def test_what_others_use_is_left_out_or_taken_last(table: Table) -> None:
    foreign, mine, unleased = table.start(9, environment=False), table.start(0), table.start(8)
    uses = [Use(foreign.pid, "GPU-0", 1), Use(unleased.pid, "GPU-1", 1), Use(2**22 + 5, "GPU-2", 1)]
    assert table.take(0, 0.5, uses=uses) == ["GPU-2"]
    table.leases.started(table.folder(0), process.identity(mine.pid))
    assert table.take(1, 0.5, uses=[*uses, Use(mine.pid, "GPU-2", 1)]) == ["GPU-2"]
    said = table.take(2, 0.5, uses=uses)
    assert said == (
        f"GPU 0: another program (process {foreign.pid}); GPU 1: another program (process {unleased.pid}); "
        "GPU 2: job/0, job/1"
    )
    assert table.take(2, 0.5, uses=uses, only_free=False) == ["GPU-0"]
    table.leases = Leases([process.identity(foreign.pid)])
    assert table.take(3, 0.5, uses=uses) == ["GPU-0"]


def test_leases_of_a_scheduler_that_died_before_it_started_anything_end(table: Table, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom colab_magics.engines.gpus.devices import Device\n"
        "from colab_magics.engines.gpus.leases import Leases\n"
        "print(Leases().take(Path(sys.argv[1]), 1, [Device('GPU-0', '0', 'T4')]), flush=True)\ninput()"
    )
    other = subprocess.Popen([sys.executable, "-c", script, table.folder(7)], stdin=-1, stdout=-1)
    table.running.append(other)
    assert other.stdout is not None
    assert other.stdout.readline() == b"['GPU-0']\n"
    assert table.take(0, 3) == "GPU 0: job/7"
    table.end(other)
    assert table.take(0, 3) == ["GPU-0", "GPU-1", "GPU-2"]
