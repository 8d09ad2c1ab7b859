"""What is injected into a run, by papermill at the top of its notebook and by ``%fork`` where it stands, and where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

TAG = "injected-parameters"
"""Tag of the cell that papermill puts in front."""


def values(i_sub_job: int, folder: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a run.

    The folder is where the run *is*, not where it was when it was submitted: runs come back from a Place.
    """
    return {"i_sub_job": i_sub_job, "data_job": str(folder), **parameters}


def is_injected(cell: Mapping[str, Any]) -> bool:
    """Whether papermill wrote a cell: the parameters."""
    return TAG in cell.get("metadata", {}).get("tags", [])
