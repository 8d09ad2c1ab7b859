"""Runs side by side: the difference of two, a table of many."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import process
from ..errors import Unavailable
from ..ui import Table
from ..units import show_seconds
from . import metrics
from .code import Cell, code_cells
from .run import SOURCE, Run, Status

FIXED = ("run", "state", "seconds")
"""Columns of a table that are there whatever the runs' parameters are."""


def diff(old: Run, new: Run) -> str:
    """Write in what two runs differ: parameters, code by cell, commit, last metrics, state and duration."""
    now = time.time()
    parts = [f"{old.id} → {new.id}"]
    for title, pairs in (
        ("parameters", _changes(old.parameters, new.parameters)),
        ("metrics", _changes(metrics.last(metrics.read(old.folder)), metrics.last(metrics.read(new.folder)))),
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
        "notebook": str(run.record.get("notebook") or ""),
        "commit": str(run.record.get("commit") or ""),
        "engine": f"{run.record.get('engine')}, start {run.record.get('start')}",
    }
    return {name: value for name, value in facts.items() if value}


def _seconds(status: Status, now: float) -> float | None:
    return (status.ended or now) - status.started if status.started else None


def _cells(run: Run) -> list[Cell] | None:
    content = process.read_json(run.folder / SOURCE)
    return None if content is None else list(code_cells(content))


def _code(old: Run, new: Run) -> Iterator[str]:
    """Yield the lines of a unified diff for each code cell that differs, comments included."""
    before, after = _cells(old), _cells(new)
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


def rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return a mapping for each run: run, state, seconds, its parameters, the last metrics.

    A parameter that is named like a column before it becomes ``parameter.NAME``, a metric ``metric.NAME``.
    """
    now = time.time()
    reported = [metrics.last(metrics.read(run.folder)) for run in runs]
    parameters = {name for run in runs for name in run.parameters}
    # Grid points that are executed several times differ in nothing else.
    repeats = any(run.parameters and run.record.get("repeat") for run in runs)
    fixed = {*FIXED, *(["repeat"] if repeats else [])}
    shown = {name: f"parameter.{name}" if name in fixed else name for name in parameters}
    taken = fixed | set(shown.values())
    found = []
    for run, last in zip(runs, reported, strict=True):
        status = run.status()
        row: dict[str, Any] = {"run": run.id, "state": status.phase, "seconds": _seconds(status, now)}
        row |= {"repeat": run.record.get("repeat", 0)} if repeats else {}
        row |= {shown[name]: value for name, value in run.parameters.items()}
        row |= {f"metric.{name}" if name in taken else name: value for name, value in last.items()}
        found.append(row)
    return _in_order(found)


def _in_order(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give all rows the same columns, parameters before metrics as the first rows have them."""
    columns = dict.fromkeys(name for row in found for name in row)
    return [{name: row.get(name) for name in columns} for row in found]


def frame(runs: Sequence[Run]) -> Any:
    """Return runs as a pandas DataFrame; see `rows` for the columns.

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
    found = rows(runs)
    return pandas.DataFrame(found, columns=list(found[0]) if found else list(FIXED))


def frame_or_text(runs: Sequence[Run], *, text: bool) -> Any:
    """Return `frame`; where pandas is not installed and `text` will do, `as_text`."""
    try:
        return frame(runs)
    except Unavailable:
        if not text:
            raise
        return as_text(runs)


def as_text(runs: Sequence[Run]) -> Table:
    """Return the same columns as text, for shells without pandas."""
    found = rows(runs)
    columns = list(found[0]) if found else list(FIXED)
    return Table(
        [metrics.one_line(name) for name in columns],
        [["" if value is None else metrics.show_value(value) for value in row.values()] for row in found],
    )
