"""``report()``: what a run says of how it does. A function of runs' own code, and no verb of lines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import session
from ..errors import InvalidInput
from ..records import metrics
from ..records.names import METRICS, STOP
from ..records.run import Run


def report(named: Mapping[str, Any] | None = None, /, **values: Any) -> None:
    """Report how a run does: ``report(loss=0.3, step=10)``, or ``report({"val/loss": 0.3}, step=10)``.

    ``%jobs`` shows the last values, ``%jobs plot loss`` draws them, ``%jobs table`` puts them beside the parameters. In
    a notebook that is no run nothing is kept; it says so once.

    In a run of ``%fork search= stop=early`` that cannot win, a report with a step does not return: it ends the run, as
    ``%stop`` does. What it raises is no ``Exception``; ``with`` and ``finally`` are done, and what was saved is kept.

    Parameters
    ----------
    named : mapping, optional
        More metrics, whose names are no Python names.
    **values : number, bool, str or None
        The metrics; scalars of numpy and torch are fine, NaN and infinity too. `step` is the x axis of plots; without
        one the reports are counted. With a `total` beside it, a whole number, they say how far the run is
        (``report(step=30, total=100)``): ``%jobs`` shows it in place of the cell, and neither is a metric then.

    Raises
    ------
    InvalidInput
        For a value that is no single number, bool or short text, and one without a name.
    """
    if not isinstance(named, Mapping | None):
        raise InvalidInput(f"report({named!r}): which metric is that?", "Name it: report(loss=0.3, step=10)")
    reported = metrics.checked({**{str(name): value for name, value in (named or {}).items()}, **values})
    folder = session.run_folder() or session.current().run_here
    if folder is None:
        _say_once("Not in a run: what report() gets here is not kept.")
        return
    try:
        metrics.write(folder, reported)
    except OSError as error:
        # A full disk must not end a training for the sake of a chart.
        _say_once(f"⚠ report() cannot write {folder / METRICS}: {error.strerror}. Metrics are lost.")
    if metrics.STEP in reported and session.run_folder() is not None:
        _end_if_told(folder, reported)


def _end_if_told(folder: Path, reported: Mapping[str, Any]) -> None:
    """End the run where its search has seen that it cannot win."""
    if not os.path.lexists(folder / STOP) or not (why := Run.look(folder).why_stopped()):
        return
    try:
        metrics.write(folder, {metrics.STEP: reported[metrics.STEP], "values": {}, metrics.STOPPED: True})
    except OSError:
        return  # nobody could tell it from one that has finished
    session.current().ui.stop(f"stopped early at step {reported[metrics.STEP]:.12g}: {why}")


def _say_once(text: str) -> None:
    here = session.current()
    if text not in here.said:
        here.said.add(text)
        here.ui.say(text)
