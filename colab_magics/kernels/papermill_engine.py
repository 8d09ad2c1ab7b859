"""Execute a run's notebook with papermill, and keep the executed copy whole at every moment.

papermill parameterises and tells success from failure. Saving is ours: see `execution`.

It is a papermill engine of its own too: ``papermill --engine colab_magics in.ipynb out.ipynb``; see `RunEngine`.
"""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbclient.util import run_sync
from papermill.engines import NBClientEngine, papermill_engines
from papermill.execute import raise_for_execution_errors, remove_error_markers
from papermill.log import logger
from papermill.parameterize import parameterize_notebook
from papermill.utils import merge_kwargs, remove_args

from .client import RunClient
from .cold import THIS_PYTHON, language_of, where_ours_is
from .execution import Execution
from .journal import rebuild
from .manager import RunManager, manager_class
from .replay import Replay
from .warm import provisioners

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass
class Outcome:
    """How a notebook ended.

    Parameters
    ----------
    error : dict or None
        ``cell`` (the number that the notebook shows), ``ename``, ``evalue``, ``traceback`` (text); None when it ended
        well.
    """

    error: dict[str, Any] | None = None


class RunEngine(NBClientEngine):  # type: ignore[misc]
    """papermill engine ``colab_magics``: the client and the saving described above.

    It takes what papermill's own engine takes, among it all options of nbclient's `NotebookClient`, hooks too. On
    purpose it does otherwise in this:

    - A notebook in a local folder is saved as said above, whatever ``autosave_cell_every`` says.
    - After a cell's reply it waits for output as long as any comes: ``iopub_timeout`` is a time of silence, 60 s by
      default, because output that is late is output all the same.
    - Pieces of one stream that follow each other are one output, with carriage returns and backspaces done.
    - The cell that a dead kernel or a time-out ended is marked as failed, and the death says how.
    - ``on_notebook_error`` and ``on_notebook_complete`` are called, as nbclient says; papermill's client does not.
    - It drives kernels of `RunManager` only: with ``km`` or ``kernel_manager_class`` papermill's own client works.

    Who replaces ``PapermillNotebookClient`` or ``write_ipynb`` within papermill, as its tests do, changes nothing here:
    the client is another one, and saving is no writing in place.
    """

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, output_path: Any = None, **kwargs: Any) -> Any:
        """Drive the notebook; see papermill's `Engine`."""
        ours = "execution" in kwargs
        if ours or _brings_a_manager(kwargs) or output_path is None or not _is_local_file(output_path):
            return super().execute_notebook(nb, kernel_name, output_path, **kwargs)
        execution = Execution(Path(output_path), numbers_parameters=True)
        rebuild(execution.output)
        kwargs |= {"execution": execution, "autosave_cell_every": 0}
        try:
            # No path for papermill: it writes the same once more at its end.
            return super().execute_notebook(nb, kernel_name, None, **kwargs)
        finally:
            if execution.notebook is not None:
                execution.end()

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        execution: Execution | None = None,
        kernel_manager: RunManager | None = None,
        cell_time: float | None = None,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Drive the notebook; see papermill's `Engine`."""
        if _brings_a_manager(kwargs):
            limits = {"start_timeout": start_timeout, "execution_timeout": execution_timeout}
            return super().execute_managed_notebook(nb_man, kernel_name, **limits, **kwargs)
        options = merge_kwargs(
            remove_args(["input_path", "timeout", "startup_timeout"], **kwargs),
            timeout=execution_timeout or kwargs.get("timeout"),
            startup_timeout=start_timeout,
            kernel_name=kernel_name,
            log=logger,
        )
        client = RunClient(nb_man, kernel_manager, kernel_manager_class=RunManager, **options)
        client.limit, client.owns_km = cell_time, True
        if execution is not None:
            client.watcher = execution
            execution.begin(client)
        return client.execute()


def _brings_a_manager(options: Mapping[str, Any]) -> bool:
    return options.get("km") is not None or options.get("kernel_manager_class") is not None


def _is_local_file(path: Any) -> bool:
    text = str(path)
    return text not in ("", "-") and not re.match(r"[a-z][a-z0-9+.-]*://", text, re.I) and Path(text).parent.is_dir()


papermill_engines.register("colab_magics", RunEngine)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out papermill's warnings: that no cell is tagged ``parameters`` is the usual case of our runs."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@_quiet()
def rehearse(kernels: Iterable[str]) -> None:
    """Do once what every execution does first, so that processes forked from this one need not.

    nbformat reads its schemas when it validates for the first time; jupyter_client looks through all installed packages
    for kernel provisioners. Both remember.

    Parameters
    ----------
    kernels : iterable of str
        Names of kernelspecs that will be asked for.
    """
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("stream", text="1")])
    notebook = prepared(nbformat.v4.new_notebook(cells=[cell]), {"i_sub_job": 0}, None)
    Replay(notebook).text()
    for kernel in kernels:
        # One that is gone is the runs' error, not ours.
        with contextlib.suppress(NoSuchKernel):
            language_of(kernel)


@_quiet()
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
    notebook = execution.notebook = nbformat.v4.to_notebook(dict(content))
    manager = None
    try:
        # First of all: while the kernel starts, this process has enough to do.
        manager = _start_kernel(execution, kernel, cwd)
        notebook = prepared(notebook, parameters, kernel)
        # Not papermill.execute_notebook, which renders the notebook three times more, for no file.
        executed = papermill_engines.execute_notebook_with_engine(
            "colab_magics",
            notebook,
            kernel_name=kernel or THIS_PYTHON,
            progress_bar=False,
            start_timeout=600,
            autosave_cell_every=0,
            cell_time=cell_time,
            raise_on_iopub_timeout=False,
            stdout_file=execution.log,
            stderr_file=execution.log,
            execution=execution,
            kernel_manager=manager,
        )
        raise_for_execution_errors(executed, None)
        return Outcome()
    except papermill.PapermillExecutionError as error:
        return Outcome(_failure(execution, error.ename, error.evalue, error.traceback))
    except DeadKernelError as error:
        # Not its exit status: a kernel that is told to end leaves with 0.
        if why := execution.why_ended():
            return Outcome(_failure(execution, "Killed", why, []))
        return Outcome(_failure(execution, "DeadKernelError", str(error), []))
    except CellTimeoutError:
        return Outcome(_failure(execution, "CellTimeoutError", "the cell took longer than cell_time=", []))
    finally:
        if manager is not None and manager.has_kernel:
            run_sync(manager.shutdown_kernel)(now=True)
        execution.end()


def prepared(notebook: Any, parameters: Mapping[str, Any], kernel: str | None) -> Any:
    """Return a notebook as papermill executes it: valid, with its parameters, and with the places for its notes.

    Parameters
    ----------
    notebook : NotebookNode
        May be changed.
    parameters : mapping
        Injected below the cell tagged ``parameters``, else at the top.
    kernel : str or None
        Name of a kernelspec; None for this interpreter.
    """
    with warnings.catch_warnings():
        # nbformat warns of notebooks from front ends that write no cell ids, such as Colab: they get them here.
        warnings.simplefilter("ignore")
        _, notebook = nbformat.validator.normalize(notebook)
    noted = {"default_parameters": {}, "parameters": {}, "environment_variables": {}, "version": papermill.__version__}
    notebook.metadata.setdefault("papermill", nbformat.from_dict(noted))
    for cell in notebook.cells:
        cell.metadata.setdefault("tags", [])
        cell.metadata.setdefault("papermill", nbformat.NotebookNode())
    if parameters:
        language = "python" if kernel is None else language_of(kernel)
        name = kernel or THIS_PYTHON
        notebook = parameterize_notebook(notebook, dict(parameters), kernel_name=name, language=language)
    notebook.metadata.papermill |= {"input_path": None, "output_path": None}
    return remove_error_markers(notebook)


def _start_kernel(execution: Execution, kernel: str | None, cwd: Path) -> RunManager:
    """Start the kernel's process, without waiting until it answers."""
    zygote = execution.zygote
    forked = zygote or execution.start == "warm"
    manager = manager_class(kernel)(kernel_name=kernel or THIS_PYTHON)
    if forked:
        manager.make_provisioner = provisioners(execution.start, zygote or "")
    # As nbclient does: runs share no history, and wait for no other's.
    spec = manager.kernel_spec
    ours = spec is not None and where_ours_is(spec.argv) is not None
    arguments = ["--HistoryManager.hist_file=:memory:"] if ours or manager.ipykernel else []
    run_sync(manager.start_kernel)(extra_arguments=arguments, cwd=str(cwd))
    stock = "start=cold, not warm: the notebook's kernel has a provisioner of its own" if forked else ""
    execution.kernel_runs(manager.provisioner.pid, getattr(manager.provisioner, "note", stock))
    return manager


def _failure(execution: Execution, ename: str, evalue: str, traceback: list[str]) -> dict[str, Any]:
    text = _ANSI.sub("", "\n".join(traceback)) or f"{ename}: {evalue}"
    if execution.log is not None:
        execution.log.write(text + "\n")
        execution.log.flush()
    return {"cell": execution.cell, "ename": ename, "evalue": evalue, "traceback": text}
