"""What users of papermill and nbclient set, they get from ``papermill --engine colab_magics`` too."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from conftest import poll
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.engines import NotebookExecutionManager
from papermill.exceptions import PapermillParameterOverwriteWarning
from papermill.iorw import papermill_io

from colab_magics.kernels.client import RunClient
from colab_magics.kernels.manager import RunManager
from colab_magics.kernels.streams import coalesced

from .executing import notebook_of

ENGINES = (None, "colab_magics")
"""papermill's own engine, and ours."""
LONG = "import time\ntime.sleep(60)"


def papermilled(folder: Path, *cells: Any, engine: str | None = "colab_magics", **options: Any) -> Any:
    """Execute cells by papermill; returns the notebook that it left."""
    source, result = folder / "in.ipynb", folder / "out.ipynb"
    nbformat.write(notebook_of(*cells), source)
    papermill.execute_notebook(str(source), str(result), engine_name=engine, progress_bar=False, **options)
    return nbformat.read(result, as_version=4)


def tagged(source: str, tag: str) -> Any:
    return nbformat.v4.new_code_cell(source, metadata={"tags": [tag]})


class Hooks:
    """Notes what is called, with what, in which order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def options(self) -> dict[str, Any]:
        cell = ("start", "execute", "complete", "executed", "error")
        return {
            f"on_{name}": self._hook(name)
            for name in [f"cell_{one}" for one in cell] + [f"notebook_{one}" for one in ("start", "complete", "error")]
        }

    def _hook(self, name: str) -> Any:
        def called(**told: Any) -> None:
            reply = told.pop("execute_reply", {"content": {"status": None}})["content"]
            self.calls.append((name, told.get("cell_index"), reply["status"], reply.get("ename")))

        return called


def test_hooks_are_called_when_nbclient_calls_them(tmp_path: Path) -> None:
    cells = nbformat.v4.new_markdown_cell("words"), "1", tagged("1 / 0", "raises-exception"), "3"
    calls = []
    for engine in ENGINES:
        hooks = Hooks()
        with pytest.raises(papermill.PapermillExecutionError):
            papermilled(tmp_path, *cells, engine=engine, **hooks.options())
        calls.append(hooks.calls)
    theirs, ours = calls
    # papermill's client leaves this one out; nbclient's does not.
    assert ours.pop() == ("notebook_complete", None, None, None)
    assert ours == theirs
    assert ("cell_error", 2, "error", "ZeroDivisionError") in ours


def test_a_dead_kernel_calls_the_hook_for_errors_of_a_notebook(tmp_path: Path) -> None:
    hooks = Hooks()
    with pytest.raises(DeadKernelError):
        papermilled(tmp_path, "import os\nos._exit(3)", **hooks.options())
    assert [name for name, *_ in hooks.calls][-2:] == ["notebook_error", "notebook_complete"]


def test_timeout_func_limits_each_cell_by_itself(tmp_path: Path) -> None:
    def limit(cell: Any) -> int | None:
        return 1 if "60" in cell.source else None

    began = time.monotonic()
    with pytest.raises(CellTimeoutError, match="after 1 seconds"):
        papermilled(tmp_path, "1", LONG, timeout_func=limit)
    assert time.monotonic() - began < 40


def test_a_cell_that_takes_too_long_is_interrupted_where_the_user_says_so(tmp_path: Path) -> None:
    hooks = Hooks()
    options = {"execution_timeout": 1, "interrupt_on_timeout": True, **hooks.options()}
    with pytest.raises(papermill.PapermillExecutionError, match="KeyboardInterrupt"):
        papermilled(tmp_path, tagged(LONG, "raises-exception"), "6 * 7", **options)
    done = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert done.cells[-1].outputs[0].data["text/plain"] == "42"
    assert ("cell_error", 0, "error", "KeyboardInterrupt") in hooks.calls


def test_the_error_of_a_time_limit_can_be_the_users(tmp_path: Path) -> None:
    hooks = Hooks()
    error = {"ename": "Late", "evalue": "too late", "traceback": []}
    options = {"timeout": 1, "interrupt_on_timeout": True, "error_on_timeout": error, **hooks.options()}
    with pytest.raises(papermill.PapermillExecutionError):
        papermilled(tmp_path, LONG, "never", **options)
    assert ("cell_error", 0, "error", "Late") in hooks.calls
    assert nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].execution_count is None


def test_times_are_written_as_nbclient_writes_them(tmp_path: Path) -> None:
    theirs, ours = [papermilled(tmp_path, "1", engine=engine).cells[0].metadata["execution"] for engine in ENGINES]
    assert set(ours) == set(theirs)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", when) for when in ours.values()), ours
    assert sorted(ours, key=ours.get)[:2] == ["iopub.status.busy", "iopub.execute_input"]


def test_record_timing_can_be_left_out(tmp_path: Path) -> None:
    assert "execution" not in papermilled(tmp_path, "1", record_timing=False).cells[0].metadata


def test_force_raise_errors_goes_before_names_that_are_allowed(tmp_path: Path) -> None:
    with pytest.raises(papermill.PapermillExecutionError):
        papermilled(tmp_path, "1 / 0", "2", allow_error_names=["ZeroDivisionError"], force_raise_errors=True)
    assert nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].execution_count is None


def test_an_immediate_end_runs_no_exit_handlers(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    papermilled(tmp_path, f"import atexit\natexit.register(open, {str(ended)!r}, 'w')", shutdown_kernel="immediate")
    assert not ended.exists()


def test_streams_are_joined_where_the_user_says_so(tmp_path: Path) -> None:
    cell = "import sys\nfor i in range(2):\n    print('err', i, file=sys.stderr, flush=True)\n    print(i, flush=True)"
    separate = papermilled(tmp_path, cell).cells[0].outputs
    assert [one.name for one in separate] == ["stderr", "stdout", "stderr", "stdout"]
    joined = papermilled(tmp_path, cell, coalesce_streams=True).cells[0].outputs
    assert [(one.name, one.text) for one in joined] == [("stdout", "0\n1\n"), ("stderr", "err 0\nerr 1\n")]
    bar = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in ("1%", "\r2%", "\r3%\n")]
    assert [one.text for one in coalesced(bar)] == ["3%\n"]


def test_what_papermill_overwrites_it_warns_of(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        papermilled(tmp_path, "1", log=None)
    assert PapermillParameterOverwriteWarning in [one.category for one in told]


def test_the_log_says_what_papermills_says(tmp_path: Path) -> None:  # ✗ our import had silenced it
    nbformat.write(notebook_of("print('said', 6 * 7)"), tmp_path / "in.ipynb")
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--log-output", "in.ipynb", "out.ipynb"]
    logs = []
    for engine in ("nbclient", "colab_magics"):
        done = subprocess.run([*command, "--engine", engine], cwd=tmp_path, capture_output=True, text=True, check=True)
        logs.append(
            [line for line in done.stderr.splitlines() if "Cell 1" in line or "kernel:" in line or "42" in line]
        )
    theirs, ours = logs
    assert ours == theirs
    assert len(ours) == 4, ours


def test_silence_of_a_kernel_that_never_says_idle_has_its_limit(tmp_path: Path) -> None:
    silent = "get_ipython().kernel._publish_status = lambda *_, **__: None"
    with pytest.raises(CellTimeoutError, match="IOPub"):
        papermilled(tmp_path, silent, iopub_timeout=1)
    assert papermilled(tmp_path, silent, "2", iopub_timeout=1, raise_on_iopub_timeout=False).cells[1].outputs


def test_a_kernel_manager_of_the_users_own(tmp_path: Path) -> None:
    used = []

    class Own(AsyncKernelManager):  # type: ignore[misc]
        async def start_kernel(self, **options: Any) -> None:
            used.append(options)
            await super().start_kernel(**options)

    assert papermilled(tmp_path, "6 * 7", kernel_manager_class=Own).cells[0].outputs[0].data["text/plain"] == "42"
    assert len(used) == 1


def test_a_kernelspec_that_names_its_provisioner(tmp_path: Path, home: Path) -> None:  # ✗ AttributeError
    folder = home / ".local" / "share" / "jupyter" / "kernels" / "provisioned"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "P", "language": "python"}
    spec["metadata"] = {"kernel_provisioner": {"provisioner_name": "local-provisioner"}}
    (folder / "kernel.json").write_text(json.dumps(spec))
    done = papermilled(tmp_path, "6 * 7", kernel_name="provisioned")
    assert done.cells[0].outputs[0].data["text/plain"] == "42"
    with pytest.raises(DeadKernelError):
        papermilled(tmp_path, "import os\nos._exit(3)", kernel_name="provisioned")


INTERRUPTED = """
import os, papermill
try:
    papermill.execute_notebook("in.ipynb", "out.ipynb", engine_name="colab_magics", progress_bar=False)
except KeyboardInterrupt:
    print("lives" if os.path.exists("/proc/" + open("pid").read().strip()) else "gone")
"""


def test_an_interrupt_of_papermill_ends_the_kernel_before_it_is_raised(tmp_path: Path) -> None:
    cell = f"import os\nopen('pid', 'w').write(f'{{os.getpid()}}\\n')\n{LONG}"
    nbformat.write(notebook_of(cell), tmp_path / "in.ipynb")
    command = [sys.executable, "-c", INTERRUPTED]
    child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    pid = tmp_path / "pid"
    poll(lambda: pid.exists() and pid.read_text().endswith("\n"))
    os.kill(child.pid, signal.SIGINT)
    assert child.communicate(timeout=30)[0] == "gone\n"
    cell_saved, *_ = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert cell_saved.metadata.papermill.end_time


class Shelf:
    """A place of papermill's that is no folder; keeps all that is written."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, text: str, path: str) -> None:
        self.written.append(text)

    def pretty_path(self, path: str) -> str:
        return path


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    before, made = list(papermill_io._handlers), Shelf()
    papermill_io.register("shelf://", made)
    yield made
    papermill_io._handlers[:] = before


def test_a_notebook_elsewhere_is_saved_in_the_middle_of_a_cell(tmp_path: Path, shelf: Shelf) -> None:
    cell = "import time\nfor i in range(26):\n    print('line', i, flush=True)\n    time.sleep(0.1)"
    source = tmp_path / "in.ipynb"
    nbformat.write(notebook_of(cell), source)
    options = {"engine_name": "colab_magics", "progress_bar": False, "autosave_cell_every": 1}
    papermill.execute_notebook(str(source), "shelf://out.ipynb", **options)
    counts = [text.count("line ") for text in shelf.written]
    assert any(2 < count < 26 for count in counts), counts
    assert counts[-1] == 26


def test_a_cell_by_itself_is_executed_as_nbclient_does(tmp_path: Path) -> None:
    notebook = notebook_of("x = 6", "x * 7")
    client = RunClient(NotebookExecutionManager(notebook, progress_bar=False), kernel_manager_class=RunManager)
    with client.setup_kernel(cwd=str(tmp_path)):
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
    assert notebook.cells[1].outputs[0].data["text/plain"] == "42"


def test_a_cells_id_is_sent_with_it_and_tagged_cells_are_skipped(tmp_path: Path) -> None:
    asks = "get_ipython().kernel.get_parent('shell')['metadata'].get('cellId')"
    done = papermilled(tmp_path, asks, tagged("1 / 0", "skip-execution"), asks)
    assert [cell.execution_count for cell in done.cells] == [1, None, 2]
    assert [done.cells[n].outputs[0].data["text/plain"] for n in (0, 2)] == [repr(done.cells[n].id) for n in (0, 2)]
    done = papermilled(tmp_path, asks, tagged("2 / 0", "mine"), skip_cells_with_tag="mine")
    assert [cell.execution_count for cell in done.cells] == [1, None]
