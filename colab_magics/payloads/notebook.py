"""A run that executes a notebook: ``source.ipynb`` by papermill with our engine, into ``notebook.ipynb``."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import process
from ..engines import forking, zygotes
from ..errors import NotFound
from ..kernels import journal
from ..records import lock, schema
from ..records.names import NOTEBOOK, SOURCE
from ..records.run import Run
from ..units import show_size, show_time
from . import start_up
from .base import Attempt, Payload
from .code import Cell, code_cells


class Notebook(Payload):
    """A notebook."""

    def rehearse(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Import papermill, and execute as far as that goes without a kernel; see `Payload`."""
        forking.import_lean()
        from ..kernels import papermill_engine

        kernels = {(record.get("payload") or {}).get("kernel") for record in records}
        papermill_engine.rehearse({kernel for kernel in kernels if kernel is not None})

    def execute(self, attempt: Attempt) -> dict[str, Any] | None:
        """Execute it; see `Payload`."""
        forking.import_lean()
        from ..kernels import papermill_engine
        from ..kernels.execution import Execution
        from ..kernels.warm import zygote_of_this_runner

        run = attempt.run
        content = process.read_json(run.folder / SOURCE)
        if content is None:
            raise NotFound(f"The run's notebook {run.folder / SOURCE} is gone.", "Run the %fork line again.")
        zygote, start = zygote_of_this_runner(), run.record.get("start", "cold")
        if start == "live":
            if zygote is None:
                raise zygotes.gone()
            content = below_fork(content, run.record)
        if zygote is not None:
            attempt.forks_elsewhere()
        began, waited = time.monotonic(), list[float]()

        def kernel_runs(pid: int | None, note: str) -> None:
            if note:
                attempt.note(note)
            attempt.kernel(pid)

        def cell_begins(cell: int, cells: int, cell_began: float) -> None:
            waited.append(time.monotonic() - began)
            attempt.tell_soon(cell=cell, cells=cells, cell_began=cell_began)

        execution = Execution(
            run.folder / NOTEBOOK,
            attempt.log,
            on_kernel=kernel_runs,
            on_cell=cell_begins,
            on_cell_end=attempt.look,
            why_ended=attempt.why_ended,
            start=start,
            zygote=zygote,
            give_up=attempt.is_killed,
        )
        said, cwd = run.record.get("payload") or {}, Path(run.record.get("cwd") or run.folder)
        outcome = papermill_engine.execute(
            content,
            execution,
            parameters=run.injected,
            kernel=said.get("kernel"),
            cwd=cwd if cwd.is_dir() else run.folder,
            cell_time=said.get("cell_time"),
        )
        for what, why in execution.not_written.items():
            attempt.note(f"{run.id}: its {what} found no room: {why}.")
        if start == "cold" and waited:
            attempt.keep(start_up=start_up.measured(execution.notebook, waited[0]))
        return outcome.error

    def check(self, run: Run) -> None:
        """Check that the notebook is there; see `Payload`."""
        if not (run.folder / SOURCE).is_file():
            raise NotFound(f"The notebook of {run.id} is gone: {run.folder / SOURCE}", "Run the %fork line again.")

    def title(self, record: Mapping[str, Any]) -> tuple[str, str]:
        """Return the notebook's name; see `Payload`."""
        return "notebook", str(record.get("notebook") or "")

    def product(self, run: Run) -> Path | None:
        """Return the newest executed notebook; see `Payload`."""
        if run.notebook.exists():
            return run.notebook
        earlier = [run.folder / f"attempt_{number}.ipynb" for number in range(run.attempt, 0, -1)]
        return next((path for path in earlier if path.exists()), None)

    def cells(self, run: Run) -> list[Cell] | None:
        """Return the code cells; see `Payload`."""
        found = None if run.problem else schema.read_or_nothing(run.folder / SOURCE, schema.Source)
        return list(code_cells(found)) if found else None

    def mend(self) -> str:
        """Say how to go on after a failure; see `Payload`."""
        return "Mend the cell and run the %fork line again"

    def seal(self, folder: Path) -> bool:
        """Complete the executed notebook from its journal, when nobody executes it any more; see `Payload`."""
        notebook = folder / NOTEBOOK
        if not journal.path_of(notebook).exists() or Run.look(folder).status().phase == "running":
            return False
        try:
            fd = lock.take(folder)
        except BlockingIOError:
            return False
        try:
            return journal.rebuild(notebook)
        finally:
            os.close(fd)

    def set_aside(self, folder: Path, attempt: int) -> None:
        """Give the executed notebook another name; see `Payload`."""
        self.seal(folder)
        executed = folder / NOTEBOOK
        if executed.exists():
            executed.replace(folder / f"attempt_{attempt}.ipynb")


def below_fork(content: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Cut a notebook down to what a live run executes.

    Parameters
    ----------
    content : mapping
        What the run executes, from the notebook's top; see `forks.program`.
    record : mapping
        The run's record; ``forked`` says from which cell, when, and with how much memory.

    Returns
    -------
    dict
        The notebook, headed by a cell that says where it was forked.
    """
    forked = record["forked"]
    number, position = int(forked["cell"]), int(forked["position"])
    head = (
        f"**Forked** from the running `{record.get('notebook')}` at cell {number}, {show_time(forked['at'])}, with "
        f"{show_size(forked['state'])} of state. The cells above ran in that notebook; `source.ipynb` has them."
    )
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "metadata": {}, "source": head}]
    if rest := str(forked["rest"]):
        cells.append({**copy.deepcopy(content["cells"][position]), "source": rest})
    cells += copy.deepcopy(content["cells"][position + 1 :])
    made = {**{key: copy.deepcopy(value) for key, value in content.items() if key != "cells"}, "cells": cells}
    known = {key: value for key, value in forked.items() if key != "rest"}
    made["metadata"] = {**made.get("metadata", {}), "colab_magics": {"forked": known}}
    return made
