"""Runs on a Ray cluster: ``on=ray``.

Ray decides where runs execute and when: for each that waits it is asked for a place, an actor that holds cores, GPUs
and what else the line says, and ends with its run. A node with such a place is a host as those of ``on=ssh`` are: its
agent brings code and folders there, starts the run as a process of its own, and brings home what that has
written. A run and its place outlive the notebook and the scheduler, and what comes later finds them again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from ... import process
from ...checkout.project import DATA_PROJECT
from ...errors import ColabMagicsError, InvalidInput
from ...records.names import RECORD
from ...ui import UI
from ...units import count
from .. import base
from .. import options as reading
from ..base import Phase, Ref, Resources, Submission, Work
from ..gpus import devices
from ..ssh.code import Checkout, root_of
from ..ssh.engine import SshEngine, has_files, host_of
from ..ssh.hosts import result
from ..ssh.line import all_of
from . import nodes
from . import options as words

_CONNECT_SECONDS = 120.0
_MEND = "pip install 'colab-magics[ray]'"


class RayEngine(SshEngine):
    """A reference names the node, and how large the files that only grow were before; see `SshEngine`."""

    Options = words.Options
    options: words.Options
    _hosts: nodes.Nodes

    def __init__(self, where: str = "", options: words.Options | None = None) -> None:
        base.nothing_more("ray", where)
        self._gpus: float | None = None
        super().__init__(where, options or words.Options())

    @classmethod
    def why_not(cls) -> str:
        """Say that Ray is missing, where that is so."""
        return "" if importlib.util.find_spec("ray") else f"the package ray is not installed ({_MEND})"

    def _hosts_of(self, where: str) -> nodes.Nodes:
        return nodes.Nodes(self._order, self._news.set)

    def _order(self) -> dict[str, Any]:
        """Return what the connection to the cluster is told."""
        said = self.options
        wanted = {"address": said.address, "scratch": said.scratch, "inputs": said.inputs}
        return {**wanted, "runtime_env": words.runtime_env(said), "shape": words.shape(said, self._gpus)}

    def _reach(self, runs: Sequence[Submission], names: Iterable[str]) -> None:
        """Connect to the cluster that a run's line meant: who asks may know nothing but its folder."""
        if self._ready is None and runs:
            self._of_job(runs[0].folder.parent)
            if self.options == words.Options():
                said = (process.read_json(runs[0].folder / RECORD) or {}).get("options") or {}
                with contextlib.suppress(InvalidInput):
                    self.options = reading.read(words.Options, said, on="ray")
            all_of(self._hosts.open(), _CONNECT_SECONDS)

    def settle(
        self,
        job_folder: Path,
        cwd: Path,
        workers: str | int = "auto",
        gpus: str | float | None = None,
        ui: UI | None = None,
    ) -> Resources:
        """Connect, and look at what the cluster has now; see `Engine`."""
        self._of_job(job_folder)
        code = root_of(self._root, cwd)
        Checkout(code, self._root).look()
        said = None if str(workers) == "auto" else count(workers, name="workers")
        self._gpus = self.options.num_gpus if gpus is None else devices.share(gpus)
        shape = self._order()["shape"]
        with (
            ui.progress("connecting to the Ray cluster") if ui is not None else contextlib.nullcontext(),
            contextlib.closing(self._hosts),  # the scheduler has a connection of its own
        ):
            (opening,) = self._hosts.open()
            all_of([opening], _CONNECT_SECONDS)
            result(nodes.CLUSTER, opening, nodes.MEND)
            has = self._hosts.look()["nodes"]
        room = sum(words.fits(shape, one["has"]) for one in has.values())
        warnings = []
        if not room:
            warnings.append(
                f"No node of the Ray cluster has now what each run asks for ({words.in_words(shape)}): runs wait "
                "until one joins that has."
            )
        if not cwd.resolve().is_relative_to(code.resolve()):
            warnings.append(f"{cwd} is no folder of a project: of the code, only what stands in {code} goes there.")
        if self.options.inputs is None and has_files(self._root / DATA_PROJECT):
            warnings.append(
                f"Inputs do not go along: put {DATA_PROJECT} on a disk of the nodes and say inputs=FOLDER, or download "
                "them in the notebook."
            )
        shown = [f"{name}: {int(one['has']['GPU'])} GPUs" for name, one in has.items() if one["has"].get("GPU")]
        return Resources(said or max(1, room), self._gpus or 0.0, True, shown, warnings)

    def prepare(self, work: Work) -> None:
        """Begin to connect; the code goes to each node with its first run."""
        records = [process.read_json(folder / RECORD) or {} for folder in (*work.folders, *work.adopted)]
        self._gpus = next((record.get("gpus") for record in records), None)
        # As Ray does for its own: libraries take the cores that a run asked for, and no others.
        threads = {"OMP_NUM_THREADS": str(max(1, int(self._order()["shape"]["num_cpus"])))}
        super().prepare(dataclasses.replace(work, environment={**threads, **self.options.env, **work.environment}))

    def find(self, runs: Sequence[Submission]) -> list[Ref | None]:
        """Ask all nodes for the keys; see `Engine`."""
        self._reach(runs, ())
        self._hosts.look()
        return super().find(runs)

    def poll(self, runs: Sequence[Submission]) -> list[Phase]:
        """Ask the cluster, then each node about its runs; see `Engine`."""
        self._reach(runs, ())
        try:
            self._hosts.look()
        except ColabMagicsError as problem:
            process.log.debug("%s", problem.what)
            self._news.clear()
            return [base.ENDED if runs and run.key in self._fenced else base.UNKNOWN for run in runs]
        if taken := [run for run in runs if run.key in self._hosts.gone]:
            with contextlib.suppress(ColabMagicsError):
                super().cancel(taken)
        return super().poll(runs)

    def cancel(self, runs: Sequence[Submission]) -> None:
        """End runs; those of a cluster that is away count as ended from now on. See `Engine`."""
        self._reach(runs, ())
        try:
            self._hosts.look()
        except ColabMagicsError:
            for run in runs:
                self._fenced.add(host_of(run), [run.key])
        else:
            super().cancel(runs)

    def verdict(self, run: Submission) -> tuple[Literal["lost", "killed"], str]:
        """Say that the cluster has taken a run's place, or lost its node; see `Engine`."""
        if why := self._hosts.gone.get(run.key):
            return "lost", f"Ray took its place away: {why}"
        if self._hosts.said and host_of(run) not in self._hosts.names:
            return "lost", f"{host_of(run)} has left the Ray cluster"
        return "lost", ""
