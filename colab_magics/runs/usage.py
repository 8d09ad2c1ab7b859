"""What a run uses of its machine: memory, processor time, memory of GPUs.

Its runner measures the processes of the run every few seconds; memory of GPUs is measured by the scheduler, once for
all its runs, and taken from the file that it writes. All of it stands in the run's state.json, the peaks for good.

Peaks of memory do not depend on when we look: Linux keeps the most that each process has held. That of a GPU is the
most that was seen.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from .. import process
from ..engines.gpus import desk
from ..records import schema
from ..units import show_size

MOST_OF_THE_TIME = 0.01
"""Share of its time that measuring may take of a processor: what uses much memory is measured less often."""


@dataclass
class _Held:
    """A process at the last measure: its memory, of which that in the measure before too, and how much it shared.

    `high` is the most it had ever held, what it shares included, when its peak was last counted.
    """

    memory: int
    steady: int
    shared: int
    high: int


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
        self._seen: dict[tuple[int, float], _Held] = {}
        self._lock = threading.Lock()

    def measure(self) -> dict[str, Any]:
        """Return what is known: ``memory``, ``gpu_memory``, their peaks, and ``cpu`` in per cent of one processor."""
        with self._lock:
            return self._measure()

    def peaks(self) -> None:
        """Count the peaks of the processes that are known: cheap, and before they end."""
        with self._lock:
            if not self._seen and self.kernel is not None and process.is_alive(self.kernel):
                # A short run: its kernel alone, because to find its children takes longer.
                with contextlib.suppress(psutil.NoSuchProcess):
                    self._look([psutil.Process(self.kernel["pid"])])
            self._count_peaks()

    def end(self) -> dict[str, Any]:
        """Return what is known when all processes of the run have ended, with the peaks of those we waited for."""
        own, most = (
            resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        # Linux passes the peak of a process on to what it starts: one that is not above those we know says nothing.
        if most > max([own, *(one.high for one in self._seen.values())]):
            self._peak(memory=most)
        return self._value

    def _measure(self) -> dict[str, Any]:
        now = time.monotonic()
        if now < self._next:
            return self._value
        family = self._family()
        if family:
            self._look(family)
            self._count_peaks()
            self._take_cpu(family)
        taken = schema.read_or_nothing(self._folder.parent / desk.FILE, schema.Desk).get("memory") or {}
        if self._folder.name in taken:
            self._take(gpu_memory=int(taken[self._folder.name]))
        self._next = now + (time.monotonic() - now) / MOST_OF_THE_TIME
        return self._value

    def _look(self, family: Sequence[psutil.Process]) -> None:
        before, self._seen = self._seen, {}
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._see(one, before)
        self._take(memory=sum(one.memory for one in self._seen.values()))

    def _see(self, one: psutil.Process, before: Mapping[tuple[int, float], _Held]) -> None:
        who = (one.pid, one.create_time())
        memory, shared = _memory(one)
        was = before.get(who, _Held(0, 0, 0, 0))
        self._seen[who] = _Held(memory, min(memory, was.memory), max(shared, was.shared), was.high)

    def _count_peaks(self) -> None:
        """Count what a process has held at most since we looked, beside what the others have held all the time."""
        steady = sum(one.steady for one in self._seen.values())
        for (pid, _), one in self._seen.items():
            high = _high_water(pid)
            if high > one.high:
                one.high = high
                self._peak(memory=high - one.shared + steady - one.steady)

    def _take(self, **values: int) -> None:
        self._value = {**self._value, **values}
        self._peak(**values)

    def _peak(self, **values: int) -> None:
        peaks = {f"{name}_peak": max(value, self._value.get(f"{name}_peak", 0)) for name, value in values.items()}
        self._value = {**self._value, **peaks}

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


def _memory(one: psutil.Process) -> tuple[int, int]:
    """Return what a process takes, and how much that is less than all it holds.

    What it shares with others, as forks do, counts for each of them in part.
    """
    sizes: dict[bytes, int] = {}
    # Not there: an old kernel of Linux, or a process that is not ours to see.
    with contextlib.suppress(OSError), open(f"/proc/{one.pid}/smaps_rollup", "rb") as stream:
        for line in stream:
            name, _, rest = line.partition(b":")
            if name in (b"Rss", b"Pss"):
                sizes[name] = int(rest.split()[0]) * 1024
    if b"Pss" in sizes:
        return sizes[b"Pss"], sizes.get(b"Rss", sizes[b"Pss"]) - sizes[b"Pss"]
    try:
        return int(one.memory_info().rss), 0
    except psutil.Error:
        return 0, 0


def _high_water(pid: int) -> int:
    """Return the most memory that a process has held at once, what it shares included; 0 when it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb") as stream:
        for line in stream:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
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
        "gpu memory": _size(used, "gpu_memory", running, " (sampled)"),
    }


def _size(used: Mapping[str, Any], name: str, running: bool, how: str = "") -> str:
    if running:
        return show_size(used[name]) if name in used else ""
    return f"{show_size(used[f'{name}_peak'])} peak{how}" if f"{name}_peak" in used else ""


def short_gpu(uuid: str, devices: Mapping[str, str]) -> str:
    """Return the number of a device, as nvidia-smi counts; the beginning of its UUID where nobody knows it."""
    return next(iter(devices.get(uuid, "").split()), uuid[:12])


def known_devices(job_folder: Path) -> dict[str, str]:
    """Return the devices that the job's last scheduler gave out: their names by their UUIDs."""
    return schema.read_or_nothing(job_folder / desk.FILE, schema.Desk).get("devices") or {}


def gpu_notes(job_folder: Path) -> list[str]:
    """Return whom the runs of a job wait for to get GPUs, and why the memory of GPUs is not known."""
    found = schema.read_or_nothing(job_folder / desk.FILE, schema.Desk)
    waits = [f"Runs of {job_folder.name} wait for {found['waiting']}."] if found.get("waiting") else []
    problem = str(found.get("problem") or "").partition("\n")[0]
    return waits + ([f"{problem} How much memory of GPUs the runs use is not known."] if problem else [])
