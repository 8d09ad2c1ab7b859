"""Runs that are stopped early: their search has seen that they cannot win, and the others get their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..engines.base import Engine
from ..records.run import Run

if TYPE_CHECKING:
    from .feeding import Active


def stop(engine: Engine, active: Sequence[Active], losing: Mapping[Path, str], told: set[str]) -> list[str]:
    """Tell runs to end at their next report; what cannot be told is judged, and then cancelled as by a kill.

    Parameters
    ----------
    engine : Engine
        Where they execute.
    active : sequence of Active
        What it has.
    losing : mapping of Path to str
        Why runs are to end.
    told : set of str
        Keys of attempts that were told already; those that are now are added.

    Returns
    -------
    list of str
        A line for each that was told.

    Raises
    ------
    OSError, Unavailable
        When one cannot be told now: to be called again.
    """
    if not losing:
        return []
    said = []
    known = {one.run.folder: one.submission for one in active if one.submission.key not in told}
    for folder in losing.keys() & known.keys():
        submission, run, why = known[folder], Run.look(folder), losing[folder]
        if run.problem or run.verdict() is not None:
            continue
        if not engine.stop_early(submission, why):
            run.judge("stopped", why)
        told.add(submission.key)
        said.append(f"{run.id} is stopped early: {why}")
    return said
