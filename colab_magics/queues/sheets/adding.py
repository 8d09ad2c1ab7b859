"""A table of runs made in an empty tab, and runs added to one.

New rows come below everything else with a status that makes them drafts, ``adding [tag]``. The reply shows whether they
stand under the right keys; then all of them get their status at once, wherever they have gone meanwhile. So all are
added or none, nobody claims half a run, and a lost reply adds nothing twice.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import Busy, InvalidInput
from ..base import READY, New, Value
from .requests import Request, append_rows, colours, new_columns, swap, write_cells
from .tab import Tab, patience_is_over
from .table import NAME, PRIORITY, RECORD, STATUS, WORKER, Table
from .texts import Record, new_uid
from .values import parameter, to_cell

_NUMBERED = re.compile(r"run_(\d+)")
_DEFAULTS = "default"
"""What stands in ``run_name`` of row 2, so that rows are added below it."""


def create(tab: Tab, defaults: Mapping[str, Value]) -> None:
    """Write keys and defaults into an empty tab; see `base.Queue.create`."""
    names = [parameter(key) for key in defaults]
    cells = [to_cell(value, key) for key, value in defaults.items()]
    table = tab.look()
    if not table.is_empty:
        table.check()
        return
    keys = [NAME, STATUS, WORKER, *names, RECORD]
    record = {"sheetId": tab.gid, "dimension": "COLUMNS", "startIndex": len(keys) - 1, "endIndex": len(keys)}
    room = max(0, len(keys) - table.column_count)
    asked: list[Request] = []
    if room:
        asked.append({"appendDimension": {"sheetId": tab.gid, "dimension": "COLUMNS", "length": room}})
    asked += [
        write_cells(tab.gid, 0, 0, [_text(key) for key in keys]),
        write_cells(tab.gid, 1, 0, [_text(_DEFAULTS), {}, {}, *cells]),
        *colours(tab.gid, 1, table.rules),
    ]
    # Of several who make it at once one does, as with any column: see `new_columns`.
    once = new_columns(tab.gid, [], [RECORD], 0, 1)[-1]
    once["createDeveloperMetadata"]["developerMetadata"]["location"] = {"dimensionRange": record}
    try:
        table = tab.change([*asked, once]).table
    except InvalidInput:
        table = tab.look()
    if table.is_empty:  # the mark is left of a table that somebody has cleared
        table = tab.change(asked).table
    table.check()


def add(tab: Tab, runs: Sequence[New], *, patience: float) -> list[str]:
    """Add runs; see `base.Queue.add`."""
    if not runs:
        return []
    _check(runs)
    table = _with_columns(tab, runs)
    began = time.monotonic()
    while True:
        tag = new_uid()
        statuses = {status: f"adding [{tag} {index}]" for index, status in enumerate({run.status for run in runs})}
        temporary = [run.name or f"adding {new_uid()}" for run in runs]
        rows = [_row(table, run, name, statuses[run.status]) for run, name in zip(runs, temporary, strict=True)]
        asked = [append_rows(tab.gid, rows)]
        if _row_2_is_empty(table):  # the first run would come there
            asked.insert(0, write_cells(tab.gid, 1, table.columns[NAME], [_text(_DEFAULTS)]))
        after = tab.change(asked).table.check()
        added = [line for line in after.lines if line.status in statuses.values()]
        if added:
            break
        if time.monotonic() - began > patience:
            raise patience_is_over()
    if len(added) != len(runs) or not _same_columns(table, after, runs) or _taken(after, temporary):
        tab.change([swap(tab.gid, text, f"not added {text[7:]}") for text in statuses.values()])
        raise Busy(
            "Somebody changed the sheet's columns or names while runs were added; their rows say 'not added'.",
            "Delete those rows, and say it again.",
        )
    final = dict(zip(temporary, _named(after, temporary, runs), strict=True))
    texts = {text: status for status, text in statuses.items()}
    texts |= {old: new for old, new in final.items() if old != new}
    while any(line.status in statuses.values() for line in after.lines):
        after = tab.change([swap(tab.gid, old, new) for old, new in texts.items()]).table
        if time.monotonic() - began > patience:
            raise patience_is_over()
    return list(final.values())


def _check(runs: Sequence[New]) -> None:
    names = [run.name for run in runs if run.name]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"Two of these runs are called {name!r}.", "Give each a name of its own, or none.")
    for run in runs:
        if run.status.startswith(("=", "+", "-", "'", "@")):
            raise InvalidInput(f"A status cannot begin like a formula: {run.status!r}.", f"Write {READY!r}, or a word.")
        to_cell(run.priority, PRIORITY)
        for key, value in run.config.items():
            parameter(key)
            to_cell(value, key)


def _with_columns(tab: Tab, runs: Sequence[New]) -> Table:
    """Return the tab with a column for each parameter of these runs."""
    table = tab.look().check()
    there = {line.name for line in table.lines}
    for run in runs:
        if run.name and run.name in there:
            raise InvalidInput(f"A run called {run.name!r} is there already.", "Choose another name, or give none.")
    for _ in range(5):
        new = [key for key in (NAME, WORKER, RECORD) if key not in table.columns]
        if any(run.priority for run in runs) and PRIORITY not in table.columns:
            new.append(PRIORITY)
        wanted = {parameter(key): key for run in runs for key in run.config}
        new += [key for name, key in wanted.items() if name not in table.parameters and key not in new]
        if not new:
            return table
        headers = [_text(key) for key in new]
        try:
            table = tab.change(new_columns(tab.gid, headers, new, len(table.headers), table.column_count)).table
        except InvalidInput:  # somebody else has made one of them just now
            table = tab.look()
        table.check()
    raise Busy("The sheet's columns are being changed by somebody else.", "Say it again.")


def _row(table: Table, run: New, name: str, status: str) -> list[Mapping[str, Any]]:
    cells: list[Mapping[str, Any]] = [{}] * len(table.headers)
    cells[table.columns[STATUS]] = _text(status)
    cells[table.columns[NAME]] = _text(name)
    cells[table.columns[RECORD]] = _text(str(Record(new_uid())))
    if run.priority:
        cells[table.columns[PRIORITY]] = to_cell(run.priority, PRIORITY)
    for key, value in run.config.items():
        cells[table.parameters[parameter(key)]] = to_cell(value, key)
    return cells


def _row_2_is_empty(table: Table) -> bool:
    return not table.has_defaults and not table.lines


def _same_columns(before: Table, after: Table, runs: Sequence[New]) -> bool:
    keys = {NAME, STATUS, RECORD, *([PRIORITY] if any(run.priority for run in runs) else [])}
    names = {parameter(key) for run in runs for key in run.config}
    return all(before.columns[key] == after.columns.get(key) for key in keys) and all(
        before.parameters[name] == after.parameters.get(name) for name in names
    )


def _taken(table: Table, names: Sequence[str]) -> bool:
    there = [line.name for line in table.lines]
    return any(there.count(name) > 1 for name in names)


def _named(table: Table, temporary: Sequence[str], runs: Sequence[New]) -> list[str]:
    """Return the runs' names: numbers for those that have none, in the order of rows, whoever is adding them."""
    numbers = [int(found[1]) for line in table.lines if (found := _NUMBERED.fullmatch(line.name))]
    waiting = [line.name for line in table.lines if re.fullmatch(r"adding \w{8}", line.name)]
    first = max(numbers, default=0) + 1
    chosen = {name: f"run_{first + index}" for index, name in enumerate(waiting)}
    return [run.name or chosen.get(name, name) for run, name in zip(runs, temporary, strict=True)]


def _text(text: str) -> Mapping[str, Any]:
    return {"userEnteredValue": {"stringValue": text}}
