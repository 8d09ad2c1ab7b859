"""All metrics of runs in one table: how each went, where it stands, its least and its greatest value."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..records import metrics
from ..records.metrics import Line
from ..records.run import Run
from ..ui import Table
from .glance import caption

_MANY = 200
"""Rows beyond which the table is cut."""


def table(runs: Sequence[Run], names: Sequence[str] = ()) -> Table:
    """Return a row for each metric of each run.

    Parameters
    ----------
    runs : sequence of Run
        Which runs.
    names : sequence of str
        These metrics alone; all by default.

    Raises
    ------
    InvalidInput, NotFound
        When none of the runs has reported anything, or nothing of a name.
    """
    reported = [(run, metrics.read(run.folder)) for run in runs]
    everything = [line for _, lines in reported for line in lines]
    known = dict.fromkeys(name for line in everything for name in line.values)
    unknown = [name for name in names if name not in known]
    if unknown or not everything:
        metrics.known_metric(unknown[0] if unknown else "", everything)
    wanted = list(names or known)
    rows = [
        _row(run, name, lines) for run, lines in reported for name in wanted if any(name in x.values for x in lines)
    ]
    silent = [run.id for run, lines in reported if not any(name in line.values for line in lines for name in wanted)]
    notes = [f"Nothing reported: {', '.join(silent)}"] if silent else []
    if len(rows) > _MANY:
        notes.insert(0, f"… and {len(rows) - _MANY} more: name runs, or metrics by names=")
    columns = ["run", "metric", "trend", "last", "min", "max", "reports"]
    return Table(columns, rows[:_MANY], caption=caption([(run, run.status()) for run in runs]), notes=notes)


def _row(run: Run, name: str, lines: Sequence[Line]) -> list[str]:
    mine = [line for line in lines if name in line.values]
    points = metrics.series(lines, name)
    finite = [value for _, value in points if math.isfinite(value)]
    last = metrics.show_value(mine[-1].values[name])
    if mine[-1].step is not None:
        last += f" at {mine[-1].step:g}"
    least, most = (metrics.show_value(pick(finite)) if finite else "" for pick in (min, max))
    trend = metrics.sparkline([value for _, value in points]) if len(points) > 1 else ""
    return [run.id, metrics.one_line(name, width=40), trend, last, least, most, str(len(mine))]
