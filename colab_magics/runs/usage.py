"""What a run uses of its machine: memory, processor time, memory of GPUs.

Its runner measures the processes of the run every few seconds; memory of GPUs is measured by the scheduler, once for
all its runs, and taken from the file that it writes. All of it stands in the run's state.json, the peaks for good.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from .. import process
from ..engines import gpu_desk
from ..units import show_size

MOST_OF_THE_TIME = 0.01
"""Share of its time that measuring may take of a processor: what uses much memory is measured less often."""


class Meter:
    """Measures the processes of one run.

    Parameters
    ----------
    folder : Path
        The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.kernel: Mapping[str, Any] | None = None
        """Who the kernel is; one that was forked elsewhere is no descendant of the runner."""
        self._before: tuple[float, float] | None = None
        self._next = 0.0
        self._value: dict[str, Any] = {}

    def measure(self) -> dict[str, Any]:
        """Return what is known: ``memory``, ``gpu_memory``, their peaks, and ``cpu`` in per cent of one processor."""
        now = time.monotonic()
        if now < self._next:
            return self._value
        family = self._family()
        if family:
            self._take(memory=sum(_memory(one) for one in family))
            self._take_cpu(family)
        taken = (process.read_json(self._folder.parent / gpu_desk.FILE) or {}).get("memory") or {}
        if self._folder.name in taken:
            self._take(gpu_memory=taken[self._folder.name])
        self._next = now + (time.monotonic() - now) / MOST_OF_THE_TIME
        return self._value

    def _take(self, **values: int) -> None:
        peaks = {f"{name}_peak": max(value, self._value.get(f"{name}_peak", 0)) for name, value in values.items()}
        self._value = {**self._value, **values, **peaks}

    def _take_cpu(self, family: Sequence[psutil.Process]) -> None:
        now, used = time.monotonic(), sum(_cpu(one) for one in family)
        if self._before is not None and now > self._before[0]:
            percent = 100 * (used - self._before[1]) / (now - self._before[0])
            # A process that was not waited for takes its time with it when it ends.
            self._value = {**self._value, "cpu": max(0, round(percent))}
        self._before = now, used

    def _family(self) -> list[psutil.Process]:
        """Return the kernel and everything below it, or what the runner has started itself."""
        try:
            if self.kernel is None:
                return list(psutil.Process().children(recursive=True))
            if process.is_alive(self.kernel):
                kernel = psutil.Process(self.kernel["pid"])
                return [kernel, *kernel.children(recursive=True)]
        except psutil.Error:
            return []
        return []


def _memory(one: psutil.Process) -> int:
    """Return what a process takes; what it shares with others, as forks do, counts for each of them in part."""
    # Not there: an old kernel of Linux, or a process that is not ours to see.
    with contextlib.suppress(OSError), open(f"/proc/{one.pid}/smaps_rollup", "rb") as stream:
        for line in stream:
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    try:
        return int(one.memory_info().rss)
    except psutil.Error:
        return 0


def _cpu(one: psutil.Process) -> float:
    """Return the seconds that a process, and children that it has waited for, have used."""
    try:
        times = one.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def given_gpus(record: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return which devices the engine gave to this process's run, for its state."""
    return {"gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")} if record.get("gpus") else {}


def columns(state: Mapping[str, Any] | None, devices: Mapping[str, str], *, running: bool) -> dict[str, str]:
    """Write what a run uses, or has used at most when it does not run any more."""
    used = (state or {}).get("usage") or {}
    return {
        "memory": _size(used, "memory", running),
        "cpu": f"{used['cpu']} %" if running and "cpu" in used else "",
        "gpu": ",".join(short_gpu(uuid, devices) for uuid in (state or {}).get("gpus") or []),
        "gpu memory": _size(used, "gpu_memory", running),
    }


def _size(used: Mapping[str, Any], name: str, running: bool) -> str:
    if name not in used:
        return ""
    return show_size(used[name]) if running else f"{show_size(used[f'{name}_peak'])} peak"


def short_gpu(uuid: str, devices: Mapping[str, str]) -> str:
    """Return the number of a device, as nvidia-smi counts; the beginning of its UUID where nobody knows it."""
    return devices[uuid].split()[0] if uuid in devices else uuid[:12]


def known_devices(job_folder: Path) -> dict[str, str]:
    """Return the devices that the job's last scheduler gave out: their names by their UUIDs."""
    found: dict[str, str] = (process.read_json(job_folder / gpu_desk.FILE) or {}).get("devices") or {}
    return found


def gpu_notes(job_folder: Path) -> list[str]:
    """Return whom the runs of a job wait for to get GPUs, and why the memory of GPUs is not known."""
    found = process.read_json(job_folder / gpu_desk.FILE) or {}
    waits = [f"Runs of {job_folder.name} wait for {found['waiting']}."] if found.get("waiting") else []
    problem = str(found.get("problem") or "").partition("\n")[0]
    return waits + ([f"{problem} How much memory of GPUs the runs use is not known."] if problem else [])
