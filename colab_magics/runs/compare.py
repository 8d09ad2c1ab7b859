"""Runs side by side: the difference of two, a table of many, the best of them."""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import NotFound, Unavailable, did_you_mean
from ..payloads import payload_of
from ..payloads.base import NOTEBOOK, kind_of
from ..payloads.code import Cell
from ..records import metrics, notes
from ..records.metrics import Line
from ..records.names import SOURCE
from ..records.run import Run
from ..records.status import Status
from ..ui import Table
from ..units import show_seconds

FIXED = ("run", "state", "seconds")
"""Columns of a table that are there whatever the runs' parameters are."""


def diff(old: Run, new: Run) -> str:
    """Write in what two runs differ: parameters, code by cell, commit, last metrics, state and duration."""
    now = time.time()
    parts = [f"{old.id} → {new.id}"]
    for title, pairs in (
        ("parameters", _changes(old.parameters, new.parameters)),
        ("metrics", _changes(metrics.compared(metrics.read(old.folder)), metrics.compared(metrics.read(new.folder)))),
        ("run", _changes(_facts(old, now), _facts(new, now), write=str)),
    ):
        width = max((len(name) for name, _, _ in pairs), default=0)
        shown = [f"  {name:<{width}}  {before} → {after}" for name, before, after in pairs]
        parts.append("\n".join([title, *(shown or ["  the same"])]))
    return "\n\n".join([*parts, "\n".join(["code", *_code(old, new)])])


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], *, write: Any = repr) -> list[tuple[str, str, str]]:
    """Return name, old and new text of what differs; types count, and NaN is the same as NaN."""
    found = []
    for name in dict.fromkeys([*old, *new]):
        before, after = (write(values[name]) if name in values else "–" for values in (old, new))
        if before != after:
            found.append((metrics.one_line(name), before, after))
    return found


def _facts(run: Run, now: float) -> dict[str, str]:
    status = run.status()
    seconds = _seconds(status, now)
    facts = {
        "state": status.text,
        "duration": show_seconds(seconds) if seconds is not None else "",
        "attempt": str(run.attempt),
        **dict([payload_of(run.record).title(run.record)]),
        "commit": str(run.record.get("commit") or ""),
        "engine": f"{run.record.get('engine')}, start {run.record.get('start')}",
    }
    return {name: value for name, value in facts.items() if value}


def _seconds(status: Status, now: float) -> float | None:
    return (status.ended or now) - status.started if status.started else None


def _code(old: Run, new: Run) -> Iterator[str]:
    """Yield the lines of a unified diff for each code cell that differs, comments included."""
    before, after = (payload_of(run.record).cells(run) for run in (old, new))
    for run, cells in ((old, before), (new, after)):
        if cells is None:
            yield f"  {run.folder / SOURCE} cannot be read"
    if before is None or after is None:
        return
    said = False
    matcher = difflib.SequenceMatcher(a=[c.source for c in before], b=[c.source for c in after], autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            continue
        said = True
        for i in range(max(b - a, d - c)):
            mine = before[a + i] if a + i < b else None
            yours = after[c + i] if c + i < d else None
            yield from _cell(old, new, mine, yours)
    if not said:
        yield "  the same"


def _cell(old: Run, new: Run, mine: Cell | None, yours: Cell | None) -> Iterator[str]:
    if mine is None and yours is not None:
        yield f"  cell {yours.number}, in {new.id} only"
    elif mine is not None and yours is None:
        yield f"  cell {mine.number}, in {old.id} only"
    elif mine is not None and yours is not None:
        renumbered = f" of {old.id}, {yours.number} of {new.id}" if mine.number != yours.number else ""
        yield f"  cell {mine.number}{renumbered}"
    before, after = (cell.source.splitlines() if cell else [] for cell in (mine, yours))
    lines = difflib.unified_diff(before, after, fromfile=old.id, tofile=new.id, lineterm="")
    yield from (f"    {line}" for line in lines)


def places(runs: Sequence[Run]) -> list[dict[str, int]]:
    """Say for each run from which ``%fork`` of its notebook it comes, and its ``i_sub_job``, where that tells anything.

    ``fork`` counts from 1 and is there when the runs come from several; ``i_sub_job`` when it differs from a number in
    a run's name.
    """
    forks = [int(run.record.get("fork") or 1) for run in runs]
    # A command has its words.
    numbers = [
        int(run.record.get("i_sub_job", run.index)) if kind_of(run.record) == NOTEBOOK else run.index for run in runs
    ]
    several = len(set(forks)) > 1
    differ = any(number != run.index for number, run in zip(numbers, runs, strict=True))
    return [
        ({"fork": fork} if several else {}) | ({"i_sub_job": number} if differ else {})
        for fork, number in zip(forks, numbers, strict=True)
    ]


Rows = list[dict[str, Any]]


def values(runs: Sequence[Run], read: Callable[[Path], list[Line]], fixed: Iterable[str] = ()) -> tuple[Rows, Rows]:
    """Return the parameters of each run, and its last metrics, by the names of their columns.

    A parameter that is named like a column of `fixed` becomes ``parameter.NAME``, a metric that is named like one of
    these ``metric.NAME``. `read` reads what a run reported.
    """
    names = dict.fromkeys(name for run in runs for name in run.parameters)
    shown = {name: f"parameter.{name}" if name in set(fixed) else name for name in names}
    taken = {*fixed, *shown.values()}
    parameters = [{shown[name]: value for name, value in run.parameters.items()} for run in runs]
    last = [metrics.compared(read(run.folder)) for run in runs]
    return parameters, [{f"metric.{name}" if name in taken else name: row[name] for name in row} for row in last]


def columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names that stand in any of these rows, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row))


class _Parts(NamedTuple):
    """What a row of the table holds."""

    run: Run
    facts: dict[str, Any]
    parameters: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def row(self) -> dict[str, Any]:
        return self.facts | self.parameters | self.metrics


def _parts(runs: Sequence[Run]) -> list[_Parts]:
    now = time.time()
    # Grid points that are executed several times differ in nothing else.
    repeats = any(run.parameters and run.record.get("repeat") for run in runs)
    facts: Rows = []
    noted = [notes.read(run.folder) for run in runs]
    tagged, told = any(one.tags for one in noted), any(one.note for one in noted)
    for run, place, (note, tags) in zip(runs, places(runs), noted, strict=True):
        status = run.status()
        said = ({"tags": list(tags)} if tagged else {}) | ({"note": note or None} if told else {})
        repeat = {"repeat": run.record.get("repeat", 0)} if repeats else {}
        facts.append(
            {"run": run.id, "state": status.phase, "seconds": _seconds(status, now), **place, **repeat, **said}
        )
    parameters, reported = values(runs, metrics.read, columns(facts))
    return [_Parts(*parts) for parts in zip(runs, facts, parameters, reported, strict=True)]


def rows(runs: Sequence[Run]) -> Rows:
    """Return a mapping for each run: run, state, seconds, `places`, its parameters, the last metrics.

    Where points of a grid are executed several times there is ``repeat``; where any was given, ``tags`` and ``note``.
    See `values` for names that meet.
    """
    parts = _parts(runs)
    names = columns([*(p.facts for p in parts), *(p.parameters for p in parts), *(p.metrics for p in parts)])
    return [{name: row.get(name) for name in names} for row in (part.row for part in parts)]


def frame(found: Rows) -> Any:
    """Return `rows` as a pandas DataFrame.

    Raises
    ------
    Unavailable
        When pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise Unavailable(
            "pandas is not installed: a table is a DataFrame of it.",
            "Install it: pip install pandas. %jobs shows the runs without.",
        ) from None
    names = list(found[0]) if found else list(FIXED)
    try:
        return pandas.DataFrame(found, columns=names)
    except OverflowError:  # a whole number of hundreds of digits beside others
        return pandas.DataFrame(found, columns=names, dtype=object)


@dataclass(frozen=True)
class Result:
    """A run that has finished, with what came of it: ``best.loss``, ``best["lr"]``, ``best.folder / "model.pt"``.

    Parameters
    ----------
    run : Run
        The run.
    values : mapping
        Its row of the runs' table; a name stands for the same here and there.
    what : str
        As what it was chosen: ``least loss of 12 finished runs``.
    """

    run: Run
    values: Mapping[str, Any]
    what: str = ""

    @property
    def id(self) -> str:
        """``job/index``, as ``%jobs`` takes it."""
        return self.run.id

    @property
    def folder(self) -> Path:
        """Where the run's files are: its ``data_job``."""
        return self.run.folder

    @property
    def parameters(self) -> dict[str, Any]:
        """The run's own parameters."""
        return self.run.parameters

    @property
    def metrics(self) -> dict[str, Any]:
        """The last value of each metric."""
        return metrics.compared(metrics.read(self.folder))

    def __getitem__(self, name: str) -> Any:
        if name not in self.values:
            raise did_you_mean(name, self.values, kind=f"parameter or metric of {self.id}")
        return self.values[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in self.__dataclass_fields__ or name not in self.values:
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        return self.values[name]

    def __str__(self) -> str:
        parameters = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        parts = [self.id, metrics.one_line(parameters), metrics.one_line(metrics.show(self.metrics)), str(self.folder)]
        line = "  ".join(filter(None, parts))
        return f"{line}\n{self.what}" if self.what else line

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


def best(runs: Sequence[Run], metric: str, which: str = "min") -> Result:
    """Return the finished run with the least last value of a metric, or with the greatest.

    Runs that have not reported it, or NaN at last, are left out. Of equal ones the first is taken.

    Parameters
    ----------
    runs : sequence of Run
        Among which.
    metric : str
        As the runs' table names it.
    which : {"min", "max"}
        Whether less is better.

    Raises
    ------
    InvalidInput, NotFound
        When `which` is neither, or no finished run has such a number; lists the metrics there are.
    """
    if which not in ("min", "max"):
        raise did_you_mean(which, ("min", "max"), kind="way to choose the best run")
    parts = [part for part in _parts(runs) if part.facts["state"] == "done"]
    if not parts:
        raise NotFound("No run has finished yet.", "%jobs shows how they stand.")
    numbers = [{k: x for k, v in part.metrics.items() if (x := metrics.as_number(v)) is not None} for part in parts]
    if not (known := columns(numbers)):
        raise NotFound("No finished run has reported a number.", "In a cell: colab_magics.report(loss=0.3)")
    if metric not in known:
        raise did_you_mean(metric, known, kind="metric that a finished run reported")
    sign = 1 if which == "min" else -1
    order = [(sign * row[metric], i) for i, row in enumerate(numbers) if not math.isnan(row.get(metric, math.nan))]
    if not order:
        raise NotFound(f"{metric} is NaN in every finished run.", f"Metrics: {', '.join(known)}.")
    part = parts[min(order)[1]]
    many = f"{len(order)} finished run{'s' * (len(order) != 1)}"
    return Result(
        part.run, part.row, f"{'least' if which == 'min' else 'greatest'} {metrics.one_line(metric)} of {many}"
    )


def frame_or_text(found: Rows, *, text: bool) -> Any:
    """Return `frame`; where pandas is not installed and `text` will do, `as_text`."""
    try:
        return frame(found)
    except Unavailable:
        if not text:
            raise
        return as_text(found)


def as_text(found: Rows) -> Table:
    """Return the same columns as text, for shells without pandas."""
    columns = list(found[0]) if found else list(FIXED)
    return Table(
        [metrics.one_line(name) for name in columns], [[_cell_text(value) for value in row.values()] for row in found]
    )


def _cell_text(value: Any) -> str:
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return "" if value is None else metrics.show_value(value)
