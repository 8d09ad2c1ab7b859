"""papermill finds our engine by its entry point, whichever of the two is imported first."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

FIRST_OURS = "import colab_magics.kernels.papermill_engine"
FIRST_PAPERMILL = "import papermill.engines"
EXECUTE = """
import sys, papermill
papermill.execute_notebook(sys.argv[1], sys.argv[2], engine_name="colab_magics", progress_bar=False)
"""


def test_the_installed_package_names_an_engine_that_loads() -> None:
    [point] = importlib.metadata.entry_points(group="papermill.engine", name="colab_magics")
    assert point.load().__name__ == "EntryEngine"


@pytest.mark.parametrize("first", [FIRST_OURS, FIRST_PAPERMILL])
def test_papermill_executes_with_it(first: str, tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(6 * 7)")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    command = [sys.executable, "-c", f"{first}\n{EXECUTE}", tmp_path / "in.ipynb", tmp_path / "out.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[0].outputs[0].text == "42\n"
