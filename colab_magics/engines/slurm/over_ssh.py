"""Runs on a cluster that ssh reaches: ``on=slurm@login``. Its login node serves the engine of ``on=slurm``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import ColabMagicsError, InvalidInput
from ...ui import UI
from ...units import count
from ..base import EVERY, Resources, Submission
from ..gpus import devices
from ..ssh.engine import SshEngine
from ..ssh.hosts import result
from ..ssh.line import all_of
from . import options
from .ends import Word

_ASK_SECONDS = 10.0


class SlurmOverSsh(SshEngine):
    """Code goes to the login node, and folders come home, as with ``on=ssh``; runs are tasks of arrays there.

    Parameters
    ----------
    where : str
        The login node's name for ssh.

    Raises
    ------
    InvalidInput
        For several.
    """

    Options = options.Options
    starts = frozenset({"cold"})

    def __init__(self, where: str = "", options: options.Options | None = None) -> None:
        if "," in where:
            raise InvalidInput(f"on=slurm@{where}: a cluster has one login node for this.", "Name one: on=slurm@login")
        super().__init__(where, options)

    def _engine_there(self) -> Sequence[str]:
        said = {name: value for name, value in dataclasses.asdict(self.options).items() if value}
        return "slurm", json.dumps(said).encode().hex()

    def settle(
        self,
        job_folder: Path,
        cwd: Path,
        workers: str | int = "auto",
        gpus: str | float | None = None,
        ui: UI | None = None,
    ) -> Resources:
        """Ask the login node; see `Engine`."""
        at_once = None if str(workers) == "auto" else count(workers, name="workers")
        options.arguments(self.options)
        share = None if gpus is None else devices.share(gpus)
        found = super().settle(job_folder, cwd, "auto", share, ui)
        return dataclasses.replace(found, workers=EVERY, at_once=at_once, only_free=True)

    def change_at_once(self, number: int) -> bool:
        """Let so many tasks execute at once; see `Engine`. The login node is told with each question."""
        ready = self._prepared()
        ready.work = dataclasses.replace(ready.work, at_once=number if number < EVERY else None)
        return True

    def _told_at_polls(self) -> Mapping[str, Any]:
        return {} if self._ready is None else {"at_once": self._ready.work.at_once or EVERY}

    def says(self, run: Submission) -> str:
        """Return why a run waits there, or on which node it executes."""
        return self._says.get(run.key, "")

    def verdict(self, run: Submission) -> tuple[Word, str]:
        """Ask the login node what became of a run; see `Engine`."""
        name = self._hosts.names[0]
        answer = self._hosts[name].ask("verdict", key=run.key)
        all_of([answer], _ASK_SECONDS)
        try:
            said = result(name, answer)[0]
        except ColabMagicsError:
            return "lost", ""
        return said["word"], said["why"]
