"""The table of runs: what needs a look comes first, and it is no higher than a screen."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..payloads import payload_of
from ..payloads.base import NOTEBOOK, kind_of
from ..records import metrics, notes, plain
from ..records.run import Run
from ..records.status import ENDED, Status
from ..ui import Table
from ..units import show_number, show_seconds, show_time, without_controls
from . import compare, remaining, usage
from .goal import Goal, wanted
from .plan import count_phases

_NOT_THE_USERS = re.compile(r"── |══ |\[IPKernelApp\]|run .+: i_sub_job = ")
"""How lines of a log begin that the run's cells did not print: ours, the kernel's last words, %fork's one line."""
_HEIGHT, _LEAST = 24, 8
"""So many lines a table has at most; and so many runs at least, whatever there is to be said below them."""
_NOTE = 40
"""So many characters of a note are shown."""
_WIDE = 12
"""More parameters, or metrics, than this share one column."""
_DIGITS = 8
"""So many characters of a metric's value are worth it that the points of a column stand below each other."""
_ERRORS, _NAMED = 3, 8
"""So many kinds of errors are told, with so many of their runs."""
_RANKS = ("running", "failed", "killed", "interrupted", "unreadable", "cancelled", "waiting", "done", "stopped")
"""Which phase comes first; those that ended badly are one rank, and those that could not win come last."""
_BAD = ("failed", "killed", "interrupted", "unreadable")

Statuses = Sequence[tuple[Run, Status]]


class _Column(NamedTuple):
    """A heading, its cells, and whether they are aligned as numbers are."""

    name: str
    cells: list[str]
    right: bool = False


def as_table(
    statuses: Statuses, notes: Sequence[str] = (), *, kept: Collection[Path] = (), trend: Sequence[str] = ()
) -> Table:
    """Write runs as rows: name, state, time, a column for each parameter and metric, what they use, last printed line.

    Parameters
    ----------
    statuses : sequence of (Run, Status)
        The runs.
    notes : sequence of str
        Lines below the table.
    kept : collection of Path
        See `Board`.
    trend : sequence of str
        The metrics that are drawn; those that the runs' line said, by default.
    """
    goal, best, said = wanted(statuses)
    trend = trend or said
    errors = _equal_errors(statuses)
    told = [_told(key, runs) for key, runs in errors[:_ERRORS]]
    below = len(told) + sum(len(note.splitlines()) for note in notes) + bool(trend)
    shown = _rows(statuses, best, errors, goal, below=below)
    runs, rows = [run for run, _ in shown], {run.folder for run, _ in shown}
    rest = [(run, status) for run, status in statuses if run.folder not in rows]
    more = [f"… and {len(rest)} more: {count_phases(rest)} (%jobs table has all)"] if rest else []
    columns = _columns(shown, goal, best, kept, trend) if runs else []
    share, left = remaining.estimate(statuses, kept=kept, now=time.time())
    return Table(
        [column.name for column in columns],
        [list(row) for row in zip(*(column.cells for column in columns), strict=True)],
        caption=f"{caption(statuses)} · best by {goal}" if goal and best & rows else caption(statuses),
        notes=[*more, *told, *_never_reported(runs, trend), *notes],
        right={column.name for column in columns if column.right},
        share=share,
        left=left,
        links=_links(runs),
        others=[(run.id, status.full) for run, status in rest],
    )


def caption(statuses: Statuses) -> str:
    """Say how many runs are in which phase; and when that was so, while it still changes: tables stay on the screen."""
    moving = any(status.phase not in ENDED for _, status in statuses)
    return count_phases(statuses) + (f", as of {show_time(time.time())}" if moving else "")


_Error = tuple[str, str, Any]
"""Name, message and cell of an error."""


def _error(status: Status) -> _Error | None:
    """Return what makes two errors equal."""
    if status.phase != "failed" or not status.error:
        return None
    message = metrics.one_line(str(status.error.get("evalue") or "").strip().partition("\n")[0], width=80)
    return metrics.one_line(str(status.error.get("ename"))), message, status.error.get("cell")


def _equal_errors(statuses: Statuses) -> list[tuple[_Error, list[Run]]]:
    """Return the errors that several runs have, the most frequent first."""
    found: dict[_Error, list[Run]] = {}
    for run, status in statuses:
        if (error := _error(status)) is not None:
            found.setdefault(error, []).append(run)
    return sorted(((key, runs) for key, runs in found.items() if len(runs) > 1), key=lambda one: -len(one[1]))


def _told(error: _Error, runs: Sequence[Run]) -> str:
    name, message, cell = error
    ids = ", ".join(run.id for run in runs[:_NAMED])
    more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    what = f"{name}: {message}" if message else name
    return f"{len(runs)} × {what}{f' in cell {cell}' if cell else ''}: {ids}{more}"


def _rows(
    statuses: Statuses,
    best: Collection[Path],
    errors: Sequence[tuple[_Error, list[Run]]],
    goal: Goal | None,
    *,
    below: int,
) -> list[tuple[Run, Status]]:
    """Choose the runs that have a row, in the order of the rows."""

    def rank(one: tuple[Run, Status]) -> tuple[int, bool, float]:
        run, phase = one[0], one[1].phase
        # Where a search has chosen them, no order is lost by this one.
        value = goal.value(run) if goal is not None and phase == "done" and run.record.get("search") else None
        far = 0.0 if value is None or goal is None else value if goal.way == "min" else -value
        return _RANKS.index(_BAD[0] if phase in _BAD else phase), run.folder not in best, far

    ordered = sorted(statuses, key=rank)
    if len(ordered) <= (room := max(_LEAST, _HEIGHT - 2 - below)):
        return ordered
    room = max(_LEAST, room - 1)
    # Equal errors say the same: the line below the table names the runs.
    folded = {run.folder for _, runs in errors[:_ERRORS] for run in runs[1:]}
    ordered = [one for one in ordered if one[0].folder not in folded]
    reached = [one for one in ordered[room:] if one[0].folder in best][: room // 2]
    return [*ordered[: room - len(reached)], *reached]


def _never_reported(runs: Sequence[Run], trend: Sequence[str]) -> list[str]:
    """Name what is to be drawn and that these runs, which have reported other things, have not."""
    known = metrics.numeric_names(line for run in runs for line in metrics.recent(run.folder)) if trend else []
    missing = [name for name in trend if name not in known] if known else []
    return [f"Not reported as a number so far: {', '.join(missing)}. There is: {', '.join(known)}"] if missing else []


def _columns(
    shown: Statuses, goal: Goal | None, best: Collection[Path], kept: Collection[Path], trend: Sequence[str]
) -> list[_Column]:
    runs = [run for run, _ in shown]
    devices = {job: usage.known_devices(job) for job in {run.folder.parent for run in runs}}
    uses = [usage.columns(r.state(), devices[r.folder.parent], running=s.phase == "running") for r, s in shown]
    steps, values = _values(runs, trend or [_chosen(runs, goal)])
    columns = [
        _Column("run", [run.id for run in runs]),
        _Column("state", [f"{s.full} · best" if run.folder in best else s.full for run, s in shown]),
        _Column("time", [_time(status, kept=run.folder in kept) for run, status in shown], right=True),
        steps,
        _Column("command", [_command(run) for run in runs]),
        *_texts(compare.places(runs)),
        *_noted(runs),
        *values,
        *_texts(uses, right=("memory", "cpu", "gpu memory")),
        _Column("last line", [last_line(run.log) for run in runs]),
    ]
    # Columns in which nothing stands take room from those that matter.
    always = ("run", "state", "time")
    return [column for column in columns if column.name in always or any(column.cells)]


def _noted(runs: Sequence[Run]) -> list[_Column]:
    """Write the tags and notes that runs were given."""
    found = [notes.read(run.folder) for run in runs]
    shown = [metrics.one_line(one.note, width=_NOTE) for one in found]
    return [_Column("tags", [", ".join(one.tags) for one in found]), _Column("note", shown)]


def _links(runs: Sequence[Run]) -> dict[str, list[tuple[str, Path]]]:
    """Return what a run's row leads to: its notebook and its log."""
    found = {}
    for run in runs:
        there = [] if plain.linked(run.folder) else [path for path in (run.notebook, run.log) if os.path.isfile(path)]
        names = [run.id, "log"][: len(there)]
        found[run.id] = list(zip(names, there, strict=True))
    return found


def _command(run: Run) -> str:
    """Write what a run executes; nothing for a notebook, which is known."""
    if run.problem or kind_of(run.record) == NOTEBOOK:
        return ""
    return metrics.one_line(payload_of(run.record).title(run.record)[1], width=60)


def _time(status: Status, *, kept: bool) -> str:
    if not status.started:
        return ""
    took = show_seconds((status.ended or time.time()) - status.started)
    return f"kept ({took})" if kept else took


def _texts(rows: Sequence[Mapping[str, Any]], right: Collection[str] = ()) -> list[_Column]:
    return [_Column(name, [str(row.get(name, "")) for row in rows], name in right) for name in compare.columns(rows)]


def _values(runs: Sequence[Run], drawn: Sequence[str]) -> tuple[_Column, list[_Column]]:
    """Write at which step runs are where their state does not say it; and parameters and last metrics.

    Each is in a column of its own, or all in one where there are many. Beside the metrics of `drawn` stands how they
    went.
    """
    parameters, reported = compare.values(runs, metrics.recent)
    steps = [row.pop(metrics.STEP, row.pop(f"metric.{metrics.STEP}", "")) for row in reported]
    found = []
    for title, rows, one in (("parameters", parameters, show_parameters), ("metrics", reported, show_metrics)):
        names = compare.columns(rows)
        if len(names) > _WIDE:
            found.append(_Column(title, [one(run) for run in runs]))
            names = [name for name in names if rows is reported and name.removeprefix("metric.") in drawn]
        for name in names:
            found.append(_value_column(name, rows, exact=rows is parameters))
            if rows is reported and (metric := name.removeprefix("metric.")) in drawn:
                found.append(_Column("trend", [_trend(run, metric) for run in runs]))
    return _Column(metrics.STEP, [_short(step) for step in steps], right=True), found


def _value_column(name: str, rows: Sequence[Mapping[str, Any]], *, exact: bool) -> _Column:
    """Write a parameter or a metric; where `exact`, different values never look the same."""
    there = [row[name] for row in rows if name in row]
    write: Callable[[Any], str] = _short
    if exact and len({_short(value) for value in there}) < len(set(map(repr, there))):
        write = _text
    elif not exact and (decimals := _decimals(there)):
        write = f"{{:.{decimals}f}}".format
    right = all(isinstance(value, int | float) and not isinstance(value, bool) for value in there)
    return _Column(metrics.one_line(name, width=40), [write(row[name]) if name in row else "" for row in rows], right)


def _decimals(values: Sequence[Any]) -> int:
    """Return how many decimals put the points below each other; 0 where these values need no or unlike ones."""
    if not all(isinstance(value, float) and math.isfinite(value) for value in values):
        return 0
    texts = [show_number(value) for value in values]
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    wide = any("e" in text or len(text.partition(".")[0]) + decimals > _DIGITS for text in texts)
    return 0 if wide else decimals


def _short(value: Any) -> str:
    return show_number(value) if isinstance(value, float) else _text(value)


def _text(value: Any) -> str:
    return metrics.one_line(str(value), width=40)


def show_parameters(run: Run) -> str:
    """Write a run's own values on one line."""
    return metrics.one_line(", ".join(f"{key}={value}" for key, value in run.parameters.items()))


def show_metrics(run: Run) -> str:
    """Write the last values that a run reported on one line, with the trend of the first of them."""
    values = {k: v for k, v in metrics.compared(metrics.recent(run.folder)).items() if k != metrics.STEP}
    trend = _trend(run, _chosen([run], None))
    return "  ".join(filter(None, [metrics.one_line(metrics.show(values), width=100), trend]))


def _chosen(runs: Sequence[Run], goal: Goal | None) -> str:
    """Choose the metric that is drawn: that of the goal, else the first that these runs reported."""
    names = metrics.numeric_names(line for run in runs for line in metrics.recent(run.folder))
    return goal.metric if goal is not None and goal.metric in names else next(iter(names), "")


def _trend(run: Run, name: str) -> str:
    """Draw how a metric went."""
    points = [y for _, y in metrics.series(metrics.recent(run.folder), name)] if name else []
    return metrics.sparkline(points, width=10) if len(points) > 1 else ""


def last_line(log: Path, *, width: int = 80) -> str:
    """Return the last line that a run printed, without colours; of a progress bar its newest state."""
    lines = [line for line in tail(log, lines=8).splitlines() if line.strip() and not _NOT_THE_USERS.match(line)]
    text = lines[-1].strip() if lines else ""
    return text if len(text) <= width else text[: width - 1] + "…"


def tail(log: Path, *, lines: int) -> str:
    """Return the last lines of a log, without colours."""
    try:
        raw = plain.read_bytes(log, start=-200 * lines - 4000) or b""
    except OSError:
        return ""
    text = without_controls(raw.decode("utf-8", "replace"))
    # What a carriage return overwrote on a terminal is no line of its own.
    kept = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return "\n".join(kept[-lines - 1 :]).strip("\n")
