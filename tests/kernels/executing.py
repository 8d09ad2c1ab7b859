"""Execute the cells of a notebook with the engine, for tests of kernels."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from colab_magics.kernels.execution import Execution
from colab_magics.kernels.papermill_engine import Outcome, execute


@dataclass
class Executed:
    """What came of it."""

    outcome: Outcome
    notebook: Any
    log: str

    @property
    def code(self) -> list[Any]:
        """The code cells as their author counts them."""
        cells = [cell for cell in self.notebook.cells if cell.cell_type == "code"]
        return [cell for cell in cells if "injected-parameters" not in cell.metadata.get("tags", [])]

    def shown(self, cell: int) -> list[Any]:
        """Outputs of the cell of that number, from 1."""
        return list(self.code[cell - 1].outputs)

    def text(self, cell: int) -> str:
        """What a cell printed."""
        return "".join(output.get("text", "") for output in self.shown(cell))


def notebook_of(*cells: Any) -> Any:
    """A notebook of cells, given as they are or as code."""
    made = [nbformat.v4.new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": spec})


def run_cells(folder: Path, *cells: Any, on_cell: Callable[[int, int], None] | None = None, **options: Any) -> Executed:
    """Execute cells in a fresh kernel of this interpreter."""
    log = io.StringIO()
    execution = Execution(folder / "notebook.ipynb", log, on_cell)
    outcome = execute(notebook_of(*cells), execution, parameters={"i_sub_job": 3}, kernel=None, cwd=folder, **options)
    return Executed(outcome, nbformat.read(folder / "notebook.ipynb", as_version=4), log.getvalue())
