"""A notebook as ``%fork`` finds it: what its runs execute, what of its code counts, and which runs are its own."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import process
from ..engines.base import Engine
from ..engines.zygotes import Begun, ForksKernels
from ..errors import InvalidInput
from ..records.names import SOURCE
from ..records.run import Run
from ..session import Session
from ..ui import Notebook
from . import checks, code, forks, live, modules
from .base import NOTEBOOK, Draft, kind_of
from .forks import Fork


@dataclass(frozen=True)
class Whose:
    """To which notebook and which of its forks runs belong.

    Parameters
    ----------
    notebook : str
        The notebook's file name.
    path : str or None
        Where it stands in the project; None when that is not known, or outside of it.
    fork : int
        The place of the fork among the notebook's, from 1.
    others : mapping of int to mapping
        `code.cell_hashes` of the notebook's other forks, by their places.
    keeps : bool
        Whether the user said that results are to be kept whatever made them.
    """

    notebook: str = ""
    path: str | None = None
    fork: int = 1
    others: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    keeps: bool = False

    def is_maker_of(self, run: Run) -> bool:
        """Whether this notebook made a run."""
        if kind_of(run.record) != NOTEBOOK:
            return False
        path = run.record.get("notebook_path")
        if path is not None and self.path is not None:
            return bool(path == self.path)
        return not self.notebook or str(run.record.get("notebook", self.notebook)) == self.notebook

    def made(self, run: Run, hashes: Mapping[str, str]) -> bool:
        """Whether this fork made a run: at this place, unless the fork that was here then stands elsewhere now."""
        had = run.record.get("code", {})
        moved = code.changed_cells(had, hashes) and not all(
            code.changed_cells(had, other) for other in self.others.values()
        )
        return self.is_maker_of(run) and run.fork == self.fork and not moved

    def may_take(self, run: Run, hashes: Mapping[str, str]) -> bool:
        """Whether a run that something else made is this fork's all the same.

        That is so when the notebook was renamed, or forks were added above, and the code is the same; and when another
        notebook's results are to be kept by the user's own word.
        """
        had = run.record.get("code", {})
        if kind_of(run.record) != NOTEBOOK:
            return False
        if not self.is_maker_of(run):
            return not code.changed_cells(had, hashes) or (self.keeps and run.fork == self.fork)
        still_there = run.fork in self.others and not code.changed_cells(had, self.others[run.fork])
        return not still_there and not code.changed_cells(had, hashes)


@dataclass(frozen=True)
class NotebookDraft(Draft):
    """A notebook, and the fork whose runs are asked for.

    Parameters
    ----------
    notebook : Notebook
        Its content as `forks.prepare` makes it.
    fork : Fork
        The fork.
    checkout : Path
        The project's folder.
    cwd : Path
        Folder in which the runs' kernels start.
    start : str
        How they start.
    seed : str or None
        Whether live ones keep the notebook's random state.
    limits : dict
        ``time`` and ``cell_time``, in seconds: how long a run, and a cell, may take; None is for ever.
    keeps : bool
        Whether results are to be kept whatever made them.
    here : Session
        The session of the notebook that live runs are forked from.
    """

    notebook: Notebook
    fork: Fork
    checkout: Path
    cwd: Path
    start: str = "cold"
    seed: str | None = None
    limits: Mapping[str, float | None] = field(default_factory=dict)
    keeps: bool = False
    here: Session = field(default_factory=Session, repr=False, compare=False)

    @functools.cached_property
    def program(self) -> forks.Program:
        """What the runs execute."""
        return forks.program(self.notebook.content, self.fork, self.notebook.running)

    @functools.cached_property
    def hashes(self) -> dict[str, str]:
        """What of the code counts: the cells that the runs execute, and the project's files that they import."""
        content = self.program.content
        sources = [cell.source for cell in code.executed_cells(content)]
        roots = [self.checkout, self.checkout / "src", self.cwd]
        return code.cell_hashes(content) | modules.imported(sources, roots, self.checkout)

    @functools.cached_property
    def whose(self) -> Whose:
        """The notebook and the fork that these runs belong to."""
        others = {}
        for other in forks.find(self.notebook.content, self.notebook.running):
            if other.number != self.fork.number:
                # One whose runs would end above it has none.
                with contextlib.suppress(InvalidInput):
                    others[other.number] = dataclasses.replace(self, fork=other).hashes
        path = self.notebook.path_in(self.checkout)
        return Whose(self.notebook.name, path, self.fork.number or 1, others, keeps=self.keeps)

    @functools.cached_property
    def kernel(self) -> str | None:
        """The kernel of the runs: this notebook's own interpreter, or the kernelspec that another one names."""
        from ..kernels.cold import check_kernel

        return None if self.notebook.current else check_kernel(self.notebook.content, self.notebook.name)

    @functools.cached_property
    def _forked(self) -> dict[str, Any]:
        return live.check(self.notebook, self.fork) if self.start == "live" else {}

    @functools.cached_property
    def uses(self) -> checks.Uses:
        """What its cells do with parameters; see `Draft`."""
        return checks.uses(self.program.content, self.fork)

    def check(self) -> None:
        """Check that its runs can be executed; see `Draft`."""
        self._forked  # noqa: B018 - what cannot be executed is said before a folder is made
        self.program  # noqa: B018

    def record(self) -> dict[str, Any]:
        """Return what the records of all its runs say; see `Draft`."""
        return {
            "notebook": self.notebook.name,
            "notebook_path": self.whose.path,
            "start": self.start,
            "payload": {"kind": NOTEBOOK, "kernel": self.kernel, **self.limits},
            "fork": self.whose.fork,
            "others": self.program.others,
        }

    def write(self, folder: Path) -> None:
        """Write the notebook into a run's folder; see `Draft`."""
        process.write_json(folder / SOURCE, self.program.content)

    def begin(self, engine: Engine, folder: Path) -> Begun:
        """With a warm start, start the process that has the modules of the runs; see `Draft`."""
        if self.start == "warm":
            from ..kernels import preparation

            preparation.write(folder, self.kernel, self.notebook)
        if isinstance(engine, ForksKernels):
            return engine.begin(folder.parent, self.start, self.kernel)
        return Begun()

    def freeze(self, folder: Path, close: Sequence[int]) -> dict[str, Any]:
        """Fork the copy of this notebook that live runs are forked from; see `Draft`."""
        if self.start != "live":
            return {}
        from ..kernels.live import freeze

        return {"forked": {**self._forked, **freeze(folder, self.here, seed=self.seed, close=close)}}
