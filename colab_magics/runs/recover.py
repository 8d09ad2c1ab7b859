"""A run whose runner died in the middle: its notebook gets everything that had arrived."""

from __future__ import annotations

import os
from pathlib import Path

from ..kernels import journal
from ..records import lock
from ..records.names import NOTEBOOK
from ..records.run import Run


def recover(folder: Path) -> bool:
    """Complete a run's executed notebook from its journal, when nobody executes it any more.

    Parameters
    ----------
    folder : Path
        The run's folder.

    Returns
    -------
    bool
        Whether there was anything to do.
    """
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
