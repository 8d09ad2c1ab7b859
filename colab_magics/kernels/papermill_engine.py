"""Execute a run's notebook with papermill, and keep the executed copy whole at every moment.

papermill parameterises, drives nbclient and tells success from failure. Saving is ours: it writes with a plain
``open`` twice a cell, so that a kill can leave half a notebook. Here a save is a temporary file and a rename, at most
every ``max(1 s, 20 x the save's cost)``, and once more at the end.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import re
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from .. import process
from .cold import THIS_PYTHON, language_of, manager_class

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass
class Outcome:
    """How a notebook ended.

    Parameters
    ----------
    error : dict or None
        ``cell`` (number of the code cell), ``ename``, ``evalue``, ``traceback`` (text); None when it ended well.
    """

    error: dict[str, Any] | None = None


@dataclass
class Execution:
    """One notebook's way through a kernel.

    Parameters
    ----------
    output : Path
        The executed notebook's file.
    log : text file
        Gets what the cells print, as it arrives.
    on_cell : callable
        Called with (number of the code cell that starts, number of code cells).
    on_kernel : callable
        Called with the kernel's process id once it runs; None where the kernel is no process of ours.
    """

    output: Path
    log: TextIO
    on_cell: Callable[[int, int], None]
    on_kernel: Callable[[int | None], None]
    notebook: Any = None
    cell: int = 0
    _cost: float = 0.0
    _saved: float = field(default=0.0)
    _timer: asyncio.TimerHandle | None = None

    def cell_starts(self, cell: Any, cell_index: int) -> None:
        """Count a code cell; nbclient's hook ``on_cell_start``."""
        numbers = self._numbers()
        if cell_index in numbers:
            self.cell = numbers[cell_index]
            self.log.write(f"── cell {self.cell} of {max(numbers.values())}\n")
            self.log.flush()
            self.on_cell(self.cell, max(numbers.values()))

    def _numbers(self) -> dict[int, int]:
        """Position in the notebook → number of the code cell as its author counts them."""
        code = [
            i
            for i, cell in enumerate(self.notebook.cells)
            if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
        ]
        return {position: number for number, position in enumerate(code, start=1)}

    def changed(self) -> None:
        """Save soon; called on the event loop for every message that changed the notebook."""
        if self._timer is None:
            pause = max(1.0, 20 * self._cost) - (time.monotonic() - self._saved)
            self._timer = asyncio.get_running_loop().call_later(max(pause, 0.0), self.save)

    def save(self) -> None:
        """Write the notebook as it is, by rename."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        began = time.monotonic()
        process.write_whole(self.output, nbformat.writes(self.notebook))
        self._saved = time.monotonic()
        self._cost = self._saved - began


class _Client(PapermillNotebookClient):  # type: ignore[misc]
    """nbclient that tells an `Execution` of every message."""

    execution: Execution

    def process_message(self, *args: Any, **kwargs: Any) -> Any:
        output = super().process_message(*args, **kwargs)
        self.execution.changed()
        return output

    def papermill_execute_cells(self) -> None:
        self.execution.on_kernel(getattr(getattr(self.km, "provisioner", None), "pid", None))
        super().papermill_execute_cells()


class RunEngine(NBClientEngine):  # type: ignore[misc]
    """papermill engine ``colab_magics``: nbclient with the saving described above."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        execution: Execution,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        stdout_file: TextIO | None = None,
        stderr_file: TextIO | None = None,
        kernel_manager_class: Any = None,
        **_: Any,
    ) -> Any:
        """Drive the notebook; see papermill's `Engine`."""
        execution.notebook = nb_man.nb
        client = _Client(
            nb_man,
            kernel_name=kernel_name,
            timeout=execution_timeout,
            startup_timeout=start_timeout,
            stdout_file=stdout_file,
            stderr_file=stderr_file,
            kernel_manager_class=kernel_manager_class,
            on_cell_start=execution.cell_starts,
        )
        client.execution = execution
        return client.execute()


papermill_engines.register("colab_magics", RunEngine)
# "Passed unknown parameter: i_sub_job": that no cell is tagged `parameters` is the usual case here.
logging.getLogger("papermill").setLevel(logging.ERROR)


def execute(
    content: Mapping[str, Any],
    execution: Execution,
    *,
    parameters: Mapping[str, Any],
    kernel: str | None,
    cwd: Path,
    cell_time: float | None = None,
) -> Outcome:
    """Execute a notebook to its end.

    Parameters
    ----------
    content : mapping
        The notebook without outputs (nbformat 4).
    execution : Execution
        Where output goes, and who is told of progress.
    parameters : mapping
        Injected below the cell tagged ``parameters``, else at the top.
    kernel : str or None
        Name of a kernelspec; None for this interpreter.
    cwd : Path
        The kernel's working folder.
    cell_time : float, optional
        Seconds that a cell may take; for ever by default.

    Returns
    -------
    Outcome
        Never raises for what happens in the notebook: an error, a dead kernel and a time-out are outcomes.
    """
    notebook = nbformat.from_dict(copy.deepcopy(dict(content)))
    execution.notebook = notebook
    try:
        with warnings.catch_warnings():
            # nbformat warns of notebooks from front ends that write no cell ids, such as Colab: papermill's own copy
            # gets them here.
            warnings.simplefilter("ignore")
            _, notebook = nbformat.validator.normalize(notebook)
        # No output path: papermill's own saves are off, and it would expand braces in the path.
        papermill.execute_notebook(
            notebook,
            None,
            parameters=dict(parameters),
            engine_name="colab_magics",
            kernel_name=kernel or THIS_PYTHON,
            language="python" if kernel is None else language_of(kernel),
            progress_bar=False,
            start_timeout=600,
            # nbclient counts whole seconds.
            execution_timeout=None if cell_time is None else math.ceil(cell_time),
            cwd=str(cwd),
            stdout_file=execution.log,
            stderr_file=execution.log,
            execution=execution,
            kernel_manager_class=manager_class(kernel),
        )
        return Outcome()
    except papermill.PapermillExecutionError as error:
        return Outcome(_failure(execution, error.ename, error.evalue, error.traceback))
    except (DeadKernelError, CellTimeoutError) as error:
        what = "the kernel died" if isinstance(error, DeadKernelError) else "the cell took longer than cell_time="
        return Outcome(_failure(execution, type(error).__name__, what, []))
    finally:
        execution.save()


def _failure(execution: Execution, ename: str, evalue: str, traceback: list[str]) -> dict[str, Any]:
    text = _ANSI.sub("", "\n".join(traceback)) or f"{ename}: {evalue}"
    execution.log.write(text + "\n")
    execution.log.flush()
    return {"cell": execution.cell, "ename": ename, "evalue": evalue, "traceback": text}
