"""The host that has just enough for what work needs, and why each other one lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..units import show_size
from .need import Need
from .probe import Gpu, Report

_STEP = 100_000_000
"""Bytes below which two hosts have the same left over: free memory changes from one moment to the next."""
_ROUND = 0.5
"""A load is a mean over a minute: a machine that does nothing shows a little."""
_MARGIN = 10
"""Percent of disk and memory that must be free beyond what is needed: whoever else is there goes on, too."""


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

    @property
    def host(self) -> str:
        """The host's name; empty when none has enough."""
        return self.report.host if self.report is not None else ""

    def __str__(self) -> str:
        if self.report is None:
            return f"No host has {self.need}."
        numbers = ", ".join(str(gpu.index) for gpu in self.gpus)
        return f"{self.report.host}{f', GPU {numbers}' if numbers else ''} has just enough: {self.need}."


def choose(reports: Sequence[Report], need: Need) -> Choice:
    """Choose the host that has just enough.

    Of those that have enough: one whose GPU nobody uses, then the least that is left over of what is needed (GPU
    memory, RAM, cores, disk), then no GPU where none is needed, then the least load, then the nearest.
    """
    lost = {one.host: reason for one in reports if (reason := missing(one, need))}
    left = [_unpromised(one) for one in reports if one.host not in lost]
    enough = sorted(left, key=lambda one: tuple(_ranks(one, need).values()))
    if not enough:
        return Choice(need, None, (), lost)
    best = enough[0]
    lost |= {one.host: _beaten(one, best, need) for one in enough[1:]}
    return Choice(need, next(one for one in reports if one.host == best.host), tuple(_taken(best, need)), lost)


def _unpromised(report: Report) -> Report:
    """Return what a host has beyond what is promised to others."""
    for one in report.promises:
        gpus = tuple(
            replace(gpu, free=max(0, gpu.free - one.gpus[gpu.uuid]), programs=gpu.programs + 1)
            if gpu.uuid in one.gpus
            else gpu
            for gpu in report.gpus
        )
        report = replace(
            report,
            gpus=gpus,
            memory_free=None if report.memory_free is None else max(0, report.memory_free - one.left.memory),
            disk_free=None if report.disk_free is None else max(0, report.disk_free - one.left.disk),
            load=(report.load or 0.0) + one.left.cpu,
        )
    return replace(report, promises=())


def missing(report: Report, need: Need) -> str:
    """Say what a host lacks; empty when it has enough."""
    if not report.alive:
        return report.why
    if report.promises:
        lacks = _lacks(_unpromised(report), need)
        others = "".join(f"; {one}" for one in report.promises) if not _lacks(report, need) else ""
        return f"{lacks}{others}" if lacks else ""
    return _lacks(report, need)


def _lacks(report: Report, need: Need) -> str:
    lacks = []
    if need.gpus:
        fitting = _fitting(report, need)
        if not report.gpus:
            lacks.append("it has no GPU")
        elif len(report.gpus) < need.gpus:
            lacks.append(f"it has {len(report.gpus)} of {need.gpus} GPUs")
        elif len(fitting) < need.gpus:
            most = sorted((gpu.free for gpu in report.gpus), reverse=True)[need.gpus - 1]
            lacks.append(f"{show_size(most)} of GPU memory free, {_with_margin(need.gpu)}")
        elif not need.gpu and sum(gpu.idle for gpu in fitting) < need.gpus:
            lacks.append("its GPU is in use" if need.gpus == 1 else "too many of its GPUs are in use")
    for what, free, wanted in (
        ("RAM", report.memory_free, need.memory),
        ("disk", report.disk_free, need.disk),
    ):
        if wanted and free is None:
            lacks.append(f"it does not tell its {what}")
        elif wanted and free is not None and not _enough(free, wanted):
            lacks.append(f"{show_size(free)} of {what} free, {_with_margin(wanted)}")
    if need.cpu > report.cores:
        lacks.append(f"it has {report.cores} cores, {need.cpu:g} needed")
    elif need.cpu and _idle(report) + _ROUND < need.cpu:
        lacks.append(f"{_idle(report):.1f} of {report.cores} cores idle, {need.cpu:g} needed")
    return "; ".join(lacks)


def _enough(free: int, wanted: int) -> bool:
    return 100 * free >= (100 + _MARGIN) * wanted


def _with_margin(size: int) -> str:
    return f"{show_size(size)} + {_MARGIN} % needed"


def _fitting(report: Report, need: Need) -> list[Gpu]:
    return [gpu for gpu in report.gpus if _enough(gpu.free, need.gpu)]


def _idle(report: Report) -> float:
    return max(report.cores - (report.load or 0.0), 0.0)


def _taken(report: Report, need: Need) -> list[Gpu]:
    """Return the GPUs to use: such as nobody uses first, of these those with the least memory left over."""
    return sorted(_fitting(report, need), key=lambda gpu: (not gpu.idle, gpu.free, gpu.index))[: need.gpus]


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
