"""What each run may use of this machine: how many runs at once, and which GPUs each of them gets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

from ..errors import Unavailable
from ..ui import UI
from ..units import count, show_size
from .base import Resources
from .gpus import devices as gpus
from .gpus.devices import Device, Use


def settle(workers: str | int = "auto", gpus_each: str | float | None = None, ui: UI | None = None) -> Resources:
    """Decide from ``workers=`` and ``gpus=`` what runs get on this machine.

    Where neither says anything and there are GPUs, each run gets one. `ui` shows that it takes a time, where it does.

    Raises
    ------
    InvalidInput
        When one of them cannot be read, or a run needs more GPUs than there are.
    Unavailable
        When GPUs are asked for and there is none, or nvidia-smi cannot tell.
    """
    auto = str(workers) == "auto"
    chosen = 0 if auto else count(workers, name="workers")
    need = None if gpus_each is None else gpus.share(gpus_each)
    if need == 0 or (need is None and not auto):
        return _by_cores(need) if auto else Resources(chosen, need)
    try:
        with ui.progress(f"asking {gpus.PROGRAM}") if ui is not None and gpus.there() else nullcontext():
            devices = gpus.find()
            uses = gpus.uses() if devices else []
    except Unavailable as problem:
        if need is not None:
            raise
        return replace(_by_cores(), warnings=[f"{problem.what} Runs get no GPU of their own."])
    if need is not None:
        gpus.check(need, devices)
    elif not devices:
        return _by_cores()
    need = 1.0 if need is None else need
    others, words = _used(devices, uses, "left out while it is" if auto else "taken last")
    if auto and others == {device.uuid for device in devices}:
        words.append("All GPUs are in use: the runs wait until one is free. workers=1 takes them as they are.")
    return Resources(chosen or gpus.slots(need, devices), need, auto, [str(device) for device in devices], words)


def _by_cores(need: float | None = None) -> Resources:
    """Return one run for every two cores."""
    cores = os.cpu_count() or 1
    workers = max(1, cores // 2)
    machine = "1 core" if cores == 1 else f"{cores} cores"
    note = f"One run at a time on {machine}; workers=2 executes two at once." if workers == 1 else ""
    return Resources(workers, need, note=note)


def _used(devices: Sequence[Device], uses: Sequence[Use], so: str) -> tuple[set[str], list[str]]:
    """Return the devices that programs use which are neither this one nor runs of ours, with a word on each of them."""
    others: set[str] = set()
    words = []
    for device in devices:
        mine = [use for use in uses if use.uuid == device.uuid]
        here = sum(use.memory for use in mine if use.pid == os.getpid())
        if here:
            words.append(f"This notebook itself uses {show_size(here)} of GPU {device.index}: runs there have less.")
        strangers = [use for use in mine if use.pid != os.getpid() and gpus.is_strange(use)]
        if strangers:
            others.add(device.uuid)
            who = ", ".join(f"process {use.pid}, {show_size(use.memory)}" for use in strangers[:3])
            words.append(f"GPU {device.index} is in use by another program ({who}): {so}.")
    return others, words
