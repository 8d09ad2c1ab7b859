"""Runs of a queue as people write and read them: lists, grids, files of YAML, JSON and CSV, a table."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InvalidInput, NotFound
from ...queues.base import READY, RUNNING, New, Row, Value
from ...ui import Table
from ...units import show_seconds
from .. import grid
from ..grid import plain_value

NAME, STATUS, PRIORITY = "run_name", "status", "priority"
"""What of a run's entry is no parameter."""
TOLD = ("place", "worker_name", "attempts", "error", "progress", "output", "commit", "remark")
"""What an export says beside, and nobody reads back."""
_METRIC = "metric "
_MANY, _LONG = 200, 60
_WHOLE, _FLOAT = re.compile(r"[+-]?(0|[1-9]\d*)"), re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?")


def entries(body: Any, *, n: int | None = None, yes: bool = False) -> list[New]:
    """Return the runs that a body means: a list of them, or a grid as ``%%fork`` has it.

    Parameters
    ----------
    body : list or mapping
        A list of mappings, one for each run, in which ``run_name``, ``status`` and ``priority`` are no parameters; or
        parameters and their values.
    n : int, optional
        How often each run, or each point of the grid.
    yes : bool, default False
        Whether more than `grid.MANY` are meant.

    Raises
    ------
    InvalidInput
        When it is neither, or one of them cannot be a run.
    """
    if isinstance(body, Mapping):
        points, _ = grid.asked_for(body, n, yes=yes)
        return [New(dict(point.parameters)) for point in points]
    if not isinstance(body, Sequence) or isinstance(body, str) or not all(isinstance(one, Mapping) for one in body):
        raise InvalidInput(
            "These are no runs.", "Write a list of them, such as - {lr: 0.1}, or a grid such as lr: [0.1, 0.01]"
        )
    if len(body) * (n or 1) > grid.MANY and not yes:
        raise InvalidInput(f"That makes {len(body) * (n or 1):,} runs.", "Say --yes to add so many.")
    return [one for entry in body for one in [_entry(entry)] * (n or 1)]


def _entry(entry: Mapping[str, Any]) -> New:
    config = {}
    for name, value in entry.items():
        if name in (NAME, STATUS, PRIORITY, *TOLD) or str(name).startswith(_METRIC):
            continue
        if (problem := grid.why_no_parameter(name)) is not None:
            raise problem
        config[name] = plain_value(value, name)
    priority = entry.get(PRIORITY) or 0
    if isinstance(priority, bool) or not isinstance(priority, int | float):
        raise InvalidInput(f"priority: {priority!r} is no number.", "Write priority: 5; the highest goes first.")
    called, status = entry.get(NAME), entry.get(STATUS)
    return New(config, "" if called is None else str(called), float(priority), READY if status is None else str(status))


def missing(wanted: Sequence[New], rows: Sequence[Row]) -> list[New]:
    """Leave out the runs that are there already, by their names or, without one, by their parameters."""
    had: dict[str, int] = {}
    for row in rows:
        key = _key(row.config)
        had[key] = had.get(key, 0) + 1
    names, found = {row.name for row in rows}, []
    for one in wanted:
        key = _key(one.config)
        if one.name:
            found += [] if one.name in names else [one]
        elif had.get(key):
            had[key] -= 1
        else:
            found.append(one)
    return found


def _key(config: Mapping[str, Value]) -> str:
    return repr(sorted((name, type(value).__name__, repr(value)) for name, value in config.items()))


def read(file: str) -> Any:
    """Read runs from a file: ``.yaml``, ``.json``, ``.csv`` or ``.tsv``.

    Raises
    ------
    NotFound, InvalidInput
        When it is not there, or is none of them.
    """
    path = Path(file).expanduser()
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"{path} is not there.", "Name a file of runs: .yaml, .json or .csv") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.", "Save it as UTF-8.") from error
    try:
        if path.suffix in (".csv", ".tsv"):
            return _read_csv(text, "\t" if path.suffix == ".tsv" else None)
        return json.loads(text) if path.suffix == ".json" else read_yaml(text)
    except ValueError as error:
        raise InvalidInput(f"{path} cannot be read: {error}", "Look at that line.") from error


def read_yaml(text: str) -> Any:
    """Read YAML 1.2; raises ValueError."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ValueError(str(error)) from error


def _read_csv(text: str, delimiter: str | None) -> list[dict[str, Any]]:
    if delimiter is None:
        first = text.partition("\n")[0]
        delimiter = ";" if first.count(";") > first.count(",") else ","
    rows = csv.DictReader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        # What stands empty is no value: the queue's default counts.
        return [
            {name: typed(value, name) for name, value in row.items() if name and isinstance(value, str) and value}
            for row in rows
        ]
    except csv.Error as error:
        raise ValueError(f"line {rows.line_num}: {error}") from error


def typed(text: str, name: str = "") -> Any:
    """Return what a cell of text means: true, false, a number, JSON of a list or a mapping; else the text itself.

    ``007`` and ``1_000`` are texts, and so is a name.
    """
    plain = text.strip()
    if name in (NAME, STATUS):
        return text
    if plain.lower() in ("true", "false"):
        return plain.lower() == "true"
    if _WHOLE.fullmatch(plain):
        return int(plain)
    if _FLOAT.fullmatch(plain) or plain in ("nan", "inf", "-inf"):
        return float(plain)
    if plain[:1] in ("[", "{"):
        try:
            return json.loads(plain)
        except ValueError:
            return text
    return text


def write(rows: Sequence[Row], file: str) -> Path:
    """Write runs into a file, by its ending: ``.csv``, ``.json``, ``.yaml``.

    Raises
    ------
    InvalidInput
        For another ending, or when it cannot be written.
    """
    path = Path(file).expanduser()
    records = [_record(row) for row in rows]
    if path.suffix in (".csv", ".tsv"):
        text = _as_csv(records, "\t" if path.suffix == ".tsv" else ",")
    elif path.suffix == ".json":
        text = json.dumps(records, indent=1, ensure_ascii=False) + "\n"
    elif path.suffix in (".yaml", ".yml"):
        text = _as_yaml(records)
    else:
        raise InvalidInput(f"{path.name}: its ending says no format.", "Write .csv, .json or .yaml")
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}.", "Name another file.") from error
    return path


def _record(row: Row) -> dict[str, Any]:
    report = row.report
    told = {NAME: row.name, STATUS: row.status, PRIORITY: row.priority, "worker_name": row.worker}
    told |= {"attempts": row.attempts, "error": row.error, "progress": report.text, "output": report.output}
    told |= {"commit": report.commit, "remark": row.remark}
    return told | dict(row.config) | {f"{_METRIC}{name}": value for name, value in report.metrics.items()}


def _as_csv(records: Sequence[Mapping[str, Any]], delimiter: str) -> str:
    names = dict.fromkeys(name for record in records for name in record)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(names) or [NAME], delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in record.items()} for record in records)
    return out.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _as_yaml(records: Sequence[Mapping[str, Any]]) -> str:
    from ruamel.yaml import YAML

    out = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(list(map(dict, records)), out)
    return out.getvalue()


def table(rows: Sequence[Row], caption: str) -> Table:
    """Show how the runs of a queue stand."""
    shown = rows[:_MANY]
    params = list(dict.fromkeys(name for row in shown for name in row.config))
    numbers = list(dict.fromkeys(name for row in shown for name in row.report.metrics))
    columns = ["run", "status", "worker", "attempts", "lease", *params, *numbers, "progress", "error"]
    texts = [
        [
            row.name,
            row.status,
            row.worker,
            str(row.attempts or ""),
            show_seconds(max(0.0, row.lease_left)) if row.status == RUNNING and row.lease_left is not None else "",
            *(_short(row.config.get(name)) for name in params),
            *(f"{row.report.metrics[name]:.6g}" if name in row.report.metrics else "" for name in numbers),
            row.report.text,
            _short(row.error.strip().partition("\n")[0] or row.remark),
        ]
        for row in shown
    ]
    used = [i for i in range(len(columns)) if i < 2 or any(text[i] for text in texts)]
    notes = [f"… and {len(rows) - len(shown)} more: %queue export writes them all."] if len(rows) > len(shown) else []
    return Table([columns[i] for i in used], [[text[i] for i in used] for text in texts], caption=caption, notes=notes)


def _short(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.12g}" if isinstance(value, float) and math.isfinite(value) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


def names(found: Iterable[str]) -> str:
    """Write some names of runs."""
    listed = list(found)
    return ", ".join(listed[:10]) + (f" and {len(listed) - 10} more" if len(listed) > 10 else "")
