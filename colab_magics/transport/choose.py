"""What work needs, and the host that has just enough for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .. import units
from ..errors import InvalidInput
from ..units import show_size
from .probe import Gpu, Report

_KINDS = {
    **dict.fromkeys(("disk", "disc"), "disk"),
    **dict.fromkeys(("gpu", "gpus", "vram"), "gpu"),
    **dict.fromkeys(("ram", "memory", "mem"), "memory"),
    **dict.fromkeys(("cpu", "cpus", "core", "cores"), "cpu"),
}
_STEP = 100_000_000
"""Bytes below which two hosts have the same left over: free memory changes from one moment to the next."""
_ROUND = 0.5
"""A load is a mean over a minute: a machine that does nothing shows a little."""


@dataclass(frozen=True)
class Need:
    """What work needs of a host.

    Parameters
    ----------
    disk, gpu, memory : int
        Bytes of disk, of memory on one GPU (on each, of several), and of RAM.
    gpus : int
        How many GPUs.
    cpu : float
        Processors that are idle.
    """

    disk: int = 0
    gpu: int = 0
    memory: int = 0
    gpus: int = 0
    cpu: float = 0.0

    @classmethod
    def from_text(cls, text: str) -> Need:
        """Read ``3GB disk, 1.5GB gpu, 2 cpu``; also ``8GB ram``, and ``2 gpu`` for how many.

        Raises
        ------
        InvalidInput
            When a part of it is no need.
        """
        values: dict[str, float] = {}
        for part in units.words(text):
            match = re.fullmatch(r"([\d.]+)\s*(?:([A-Za-z]+)\s+)?([A-Za-z]+)", part)
            kind = _KINDS.get(match[3].lower()) if match else None
            if match is None or kind is None:
                raise _wrong(part)
            if kind == "cpu" or (kind == "gpu" and not match[2]):
                kind = "gpus" if kind == "gpu" else kind
                amount = _number(match[1], part) if not match[2] else -1.0
                if amount <= 0 or (kind == "gpus" and amount != int(amount)):
                    raise _wrong(part)
            else:
                if not match[2]:
                    raise _wrong(part)
                amount = units.size(f"{match[1]}{match[2]}", name="need")
            if kind in values:
                raise InvalidInput(f"need= says twice how much {match[3]}.", "Say each once.")
            values[kind] = amount
        if not values:
            raise _wrong(text)
        count = int(values.get("gpus", 0)) or int("gpu" in values)
        sizes = {key: int(values.get(key, 0)) for key in ("disk", "gpu", "memory")}
        return cls(**sizes, gpus=count, cpu=values.get("cpu", 0.0))

    def __str__(self) -> str:
        parts = [f"{show_size(self.disk)} of disk"] if self.disk else []
        if self.gpus:
            number = f"{self.gpus} GPUs" if self.gpus > 1 else "a GPU"
            parts.append(f"{number} with {show_size(self.gpu)} free" if self.gpu else number)
        parts += [f"{show_size(self.memory)} of RAM"] if self.memory else []
        parts += [f"{self.cpu:g} idle core{'s' if self.cpu != 1 else ''}"] if self.cpu else []
        return ", ".join(parts)


def _number(text: str, part: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _wrong(part) from None


def _wrong(part: str) -> InvalidInput:
    return InvalidInput(f"{part!r} is no need.", 'Write need="3GB disk, 1.5GB gpu, 8GB ram, 2 cpu", or a part of it.')


@dataclass(frozen=True)
class Choice:
    """Which host it is, and why no other.

    Parameters
    ----------
    need : Need
        What was needed.
    report : Report or None
        The host; None when none has enough.
    gpus : tuple of Gpu
        The GPUs to use there.
    lost : dict
        Why, by host, for each other one.
    """

    need: Need
    report: Report | None
    gpus: tuple[Gpu, ...] = ()
    lost: dict[str, str] = field(default_factory=dict)


def choose(reports: Sequence[Report], need: Need) -> Choice:
    """Choose the host that has just enough.

    Of those that have enough: one whose GPU nobody uses, then the least that is left over of what is needed (GPU
    memory, RAM, cores, disk), then no GPU where none is needed, then the least load, then the nearest.
    """
    lost = {one.host: reason for one in reports if (reason := missing(one, need))}
    enough = sorted((one for one in reports if one.host not in lost), key=lambda one: tuple(_ranks(one, need).values()))
    if not enough:
        return Choice(need, None, (), lost)
    best = enough[0]
    lost |= {one.host: _beaten(one, best, need) for one in enough[1:]}
    return Choice(need, best, tuple(_taken(best, need)), lost)


def missing(report: Report, need: Need) -> str:
    """Say what a host lacks; empty when it has enough."""
    if not report.alive:
        return report.why
    lacks = []
    if need.gpus:
        fitting = [gpu for gpu in report.gpus if gpu.free >= need.gpu]
        if not report.gpus:
            lacks.append("it has no GPU")
        elif len(report.gpus) < need.gpus:
            lacks.append(f"it has {len(report.gpus)} of {need.gpus} GPUs")
        elif len(fitting) < need.gpus:
            most = sorted((gpu.free for gpu in report.gpus), reverse=True)[need.gpus - 1]
            lacks.append(f"{show_size(most)} of GPU memory free, {show_size(need.gpu)} needed")
        elif not need.gpu and sum(gpu.idle for gpu in fitting) < need.gpus:
            lacks.append("its GPU is in use" if need.gpus == 1 else "too many of its GPUs are in use")
    for what, free, wanted in (
        ("RAM", report.memory_free, need.memory),
        ("disk", report.disk_free, need.disk),
    ):
        if wanted and free is None:
            lacks.append(f"it does not tell its {what}")
        elif wanted and free is not None and free < wanted:
            lacks.append(f"{show_size(free)} of {what} free, {show_size(wanted)} needed")
    if need.cpu > report.cores:
        lacks.append(f"it has {report.cores} cores, {need.cpu:g} needed")
    elif need.cpu and _idle(report) + _ROUND < need.cpu:
        lacks.append(f"{_idle(report):.1f} of {report.cores} cores idle, {need.cpu:g} needed")
    return "; ".join(lacks)


def _idle(report: Report) -> float:
    return max(report.cores - (report.load or 0.0), 0.0)


def _taken(report: Report, need: Need) -> list[Gpu]:
    """Return the GPUs to use: such as nobody uses first, of these those with the least memory left over."""
    fitting = [gpu for gpu in report.gpus if gpu.free >= need.gpu]
    return sorted(fitting, key=lambda gpu: (not gpu.idle, gpu.free, gpu.index))[: need.gpus]


def _ranks(report: Report, need: Need) -> dict[str, float]:
    """Return what hosts are compared by, in this order; less is better."""
    taken = _taken(report, need)
    free = report.memory_free or 0, report.disk_free or 0
    return {
        "busy": sum(not gpu.idle for gpu in taken),
        "gpu": _step(sum(gpu.free - need.gpu for gpu in taken)),
        "memory": _step(free[0] - need.memory) if need.memory else 0,
        "cpu": round(_idle(report) - need.cpu) if need.cpu else 0,
        "disk": _step(free[1] - need.disk) if need.disk else 0,
        "gpus": len(report.gpus) - need.gpus,
        "load": round(report.load_per_core, 1),
        "rtt": report.rtt or 0.0,
    }


def _step(size: int) -> int:
    return round(size / _STEP) * _STEP


def _beaten(report: Report, best: Report, need: Need) -> str:
    mine, its = _ranks(report, need), _ranks(best, need)
    by = next((key for key in mine if mine[key] != its[key]), "rtt")
    more = "has more than is needed"
    return {
        "busy": "its GPU is in use",
        "gpu": f"{more}: {show_size(mine['gpu'])} of GPU memory would be left over, {show_size(its['gpu'])} there",
        "memory": f"{more}: {show_size(mine['memory'])} of RAM would be left over, {show_size(its['memory'])} there",
        "cpu": f"{more}: {mine['cpu']:g} cores would stay idle, {its['cpu']:g} there",
        "disk": f"{more}: {show_size(mine['disk'])} of disk would be left over, {show_size(its['disk'])} there",
        "gpus": "has GPUs that this does not need" if not need.gpus else "has more GPUs than are needed",
        "load": f"is busier: load {report.load_per_core:.1f} per core, {best.load_per_core:.1f} there",
        "rtt": "is farther away",
    }[by]
