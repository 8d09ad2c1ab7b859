"""Who has which GPU: one table for all jobs of a user on this machine.

A lease names the run and its runner. Whether it still counts is derived, never remembered: it does while the runner,
the kernel that the run's state names, or any process with the run's environment is there. So a device is free when the
last of them has *exited*, whoever killed it; and runs whose scheduler was killed keep theirs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ... import process
from ...mirror import state
from ...records.names import STATE
from ...session import RUN_VARIABLE
from .devices import Device, Use

_FRESH = 60.0
_WHOLE = 1.0 + 1e-9
"""What the shares of a device may add up to; 0.1 + 0.2 is a little more than 0.3."""


class Leases:
    """The table.

    Parameters
    ----------
    spared : sequence of mapping
        Processes whose use of a GPU is no reason to leave it out: the notebook that these runs come from.
    """

    def __init__(self, spared: Sequence[Mapping[str, Any]] = ()) -> None:
        self._spared = spared
        # The host counts too: homes are shared between the machines of a cluster.
        self._folder = state.root().parent / "gpus" / process.host()

    @contextmanager
    def _table(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the leases that count, nobody else changing them, and write what the block made of them."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._folder / "leases.json"
        with state.locked(self._folder / "lock", wait=True):
            found = process.read_json(file) or {}
            before = process.as_json(found)
            leases = [lease for lease in found.get("leases", []) if _counts(lease)]
            yield leases
            if (now := process.as_json({"leases": leases})) != before:
                process.write_whole(file, now)

    def take(
        self, run: Path, need: float, devices: Sequence[Device], uses: Iterable[Use] = (), *, only_free: bool = True
    ) -> list[str] | str:
        """Take devices for a run.

        Parameters
        ----------
        run : Path
            The run's folder.
        need : float
            So many devices, or a part of one below 1.
        devices : sequence of Device
            Which may be given out, in order.
        uses : iterable of Use
            Who uses GPUs now.
        only_free : bool, default True
            Leave out devices that others use; else they are the last to be taken.

        Returns
        -------
        list of str, or str
            Their UUIDs; when there are not enough, who has them.
        """
        with self._table() as leases:
            others = self._others(leases, uses)
            taken = {device.uuid: sum(_part(lease, device.uuid) for lease in leases) for device in devices}
            fit = [device for device in devices if taken[device.uuid] + min(need, 1.0) <= _WHOLE]
            fit = [device for device in fit if not only_free or device.uuid not in others]
            # Shared devices are filled first, so that whole ones stay for those that need one.
            fit.sort(key=lambda device: (device.uuid in others, -taken[device.uuid]))
            count = max(1, int(need))
            # What an earlier attempt of this very run left behind would be in its way on any device.
            if len(fit) < count or any(lease["run"] == str(run) for lease in leases):
                return _who(devices, leases, others)
            chosen = sorted(fit[:count], key=list(devices).index)
            parts = {device.uuid: min(need, 1.0) for device in chosen}
            leases.append({"run": str(run), "devices": parts, "by": process.identity(), "runner": None})
            return list(parts)

    def started(self, run: Path, runner: Mapping[str, Any]) -> None:
        """Write down which process has what was taken for a run."""
        with self._table() as leases:
            for lease in leases:
                if lease["run"] == str(run):
                    lease["runner"] = dict(runner)

    def _others(self, leases: Sequence[Mapping[str, Any]], uses: Iterable[Use]) -> dict[str, int]:
        """Return the devices that processes use which have no lease on them, and such a process of each."""
        spared = [who["pid"] for who in self._spared if process.is_alive(who)]
        found: dict[str, int] = {}
        for use in uses:
            # A process that cannot be seen here is of another container; in one, its number may be one of ours.
            if use.pid in spared or not Path(f"/proc/{use.pid}").exists():
                continue
            run = process.variable(use.pid, RUN_VARIABLE)
            if not any(lease["run"] == run and use.uuid in lease["devices"] for lease in leases):
                found[use.uuid] = use.pid
        return found


def _part(lease: Mapping[str, Any], uuid: str) -> float:
    return float(lease["devices"].get(uuid, 0.0))


def _counts(lease: Mapping[str, Any]) -> bool:
    alive = process.is_alive(lease["runner"] or lease["by"])
    if alive:
        return True
    if lease["by"]["boot"] != process.boot_id():
        return False
    if alive is None:
        # Another container of this machine, whose processes are not seen here: by its heartbeat.
        return _is_fresh(Path(lease["run"]))
    # A process that is exiting has lost its environment already and may still hold the device: by its number, too.
    found = process.read_json(Path(lease["run"], STATE)) or {}
    return any(process.is_alive(found.get(name) or {}) for name in ("process", "kernel_process")) or bool(
        process.all_with(RUN_VARIABLE, lease["run"])
    )


def _is_fresh(run: Path) -> bool:
    """Whether a run's folder has had a sign of life within a minute: its beat, or that it is being started."""
    times = [path.stat().st_mtime for path in (run, run / STATE) if path.exists()]
    return bool(times) and time.time() - max(times) < _FRESH


def _who(devices: Sequence[Device], leases: Sequence[Mapping[str, Any]], others: Mapping[str, int]) -> str:
    """Say who has the devices."""
    said = []
    for device in devices:
        runs = [Path(lease["run"]) for lease in leases if device.uuid in lease["devices"]]
        names = [f"{run.parent.name}/{run.name.removeprefix('sub_job_').lstrip('0') or '0'}" for run in runs]
        names += [f"another program (process {others[device.uuid]})"] if device.uuid in others else []
        if names:
            said.append(f"GPU {device.index}: {', '.join(names)}")
    return "; ".join(said)
