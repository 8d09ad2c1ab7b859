"""``%submit launch.yaml``: a file of models × datasets × hyper-parameters, each combination a run on Kubernetes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import session
from ..errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from ..checkout.project import Project
    from ..engines.base import Resources
    from ..engines.kubernetes.launch import Launch
    from ..payloads.command import CommandDraft
    from ..runs.plan import Point

ON = "kubernetes"
_ENDS = (".yaml", ".yml")
_COMMAND = "command"


def is_named(command: Sequence[Any]) -> bool:
    """Whether the words of a line name a file of launches, and no program."""
    return len(command) == 1 and str(command[0]).endswith(_ENDS) and not any(map(str.isspace, str(command[0])))


def engine_of(words: Sequence[str]) -> str | None:
    """Return the engine of a line whose words name a file of launches; None for any other."""
    return ON if is_named(words) else None


@dataclass(frozen=True)
class Launches:
    """What a file of launches, and the cell below the line, mean.

    Parameters
    ----------
    every : sequence of Launch
        The combinations.
    n : int
        How often each is to be executed.
    """

    every: Sequence[Launch]
    n: int = 1

    def points(self, *, yes: bool = False) -> list[Point]:
        """Return the runs; the combination's name is the run's, and its settings are those of the run's pod.

        Raises
        ------
        InvalidInput
            For a hyper-parameter that each run has by itself, and for too many runs.
        """
        from ..engines.kubernetes.submission import NAME, PODS
        from ..runs import grid
        from ..runs.plan import Point

        grid.check_size(len(self.every) * self.n, yes=yes)
        found = []
        for repeat, one in itertools.product(range(self.n), self.every):
            if taken := [name for name in one.values if name in grid.OURS]:
                raise InvalidInput(f"{taken[0]} cannot be a hyper-parameter: each run has its own.", "Rename it.")
            # The command says what the values are for: with another command it is another run.
            values = {"model": one.model, "dataset": one.dataset, **one.values, _COMMAND: one.command}
            own = {
                NAME: f"{one.name}-{repeat + 1}" if repeat else one.name,
                PODS: [grid.plain_value(part, "launch") for part in one.over if part],
            }
            found.append(Point(repeat, {key: grid.plain_value(value, key) for key, value in values.items()}, own))
        return found

    def draft(self, folder: Path, limit: float | None) -> CommandDraft:
        """Return what the runs execute: the shell with the command that is theirs."""
        from ..payloads.command import CommandDraft

        lines = list(dict.fromkeys(one.command for one in self.every))
        return CommandDraft(["sh", "-c", f"{{{_COMMAND}}}"], folder, limit, [_COMMAND], lines)

    def settle(
        self, project: Project, folder: Path, on: str | None, options: Mapping[str, Any], workers: str, gpus: Any
    ) -> tuple[str, Resources]:
        """Return the engine, and what the runs get there.

        Raises
        ------
        InvalidInput
            For settings of any of them that cannot be.
        """
        from ..engines import name_of
        from ..engines.kubernetes.engine import KubernetesEngine
        from ..engines.options import read

        if on is not None and name_of(on) != ON:
            session.current().ui.warn(f"Launches are executed on={ON}: on={on} does not count.")
        each = list({str(one.over): one.over for one in self.every}.values())
        engine = KubernetesEngine("", read(KubernetesEngine.Options, options, on=ON))
        return ON, engine.settle_pods(project.data_job, folder, workers, gpus, each)


def asked(command: Sequence[Any], cell: Mapping[str, Any] | None, n: int, project: Project) -> Launches | None:
    """Return what a line says that names a file of launches; None for a line with a command.

    What stands in the cell below replaces what the file says by these names; with all of it there need be no file.

    Raises
    ------
    NotFound
        When there is no such file, nor a cell.
    InvalidInput
        When they cannot be read, or mean nothing.
    """
    if not is_named(command):
        return None
    from ..engines.kubernetes import launch, settings

    here, word = session.current(), Path(str(command[0])).expanduser()
    places = [Path.cwd() / word, project.root / word, project.root / launch.FILE.parent / word]
    file = next((place for place in places if place.is_file()), None)
    if file is None and not cell:
        raise NotFound(
            f"There is no {word} here, nor in {project.root / launch.FILE.parent}.",
            "Write model: and dataset: into it; the manual shows how (clusters.md).",
        )
    values = settings.read_file(file, here.warn_once) if file is not None else {}
    return Launches(launch.read({**values, **(cell or {})}, warn=here.ui.warn), n)
