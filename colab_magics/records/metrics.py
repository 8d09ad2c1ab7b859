"""What a run reports of itself by ``colab_magics.report(loss=0.3, step=10)``: a line of JSON each in metrics.jsonl.

A line holds ``time``, ``attempt``, ``life``, ``step`` (when one was given) and ``values``. A life is when the runner
began: a cluster may start an attempt again. The run's kernel or command appends a line in one write; readers skip what
they cannot read, such as a line that was cut off. NaN and infinity are written as Python's json does.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import numbers
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from .. import files
from ..errors import InvalidInput, NotFound, did_you_mean
from . import plain, schema
from .names import METRICS, RECORD, STATE

STEP = "step"
"""The metric that is the x axis."""
STOPPED = "stopped"
"""Beside the values of a line: the run ends here, as it was told to."""
TOTAL = "total"
"""Beside a step: how many there are."""

_TEXT, _BITS = 1000, 10_000
_TAIL, _LATEST = 64 * 1024, 4 * 1024
_BARS = "▁▂▃▄▅▆▇█"


def checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run reports as JSON can hold it; a ``step`` apart from the ``values``.

    Raises
    ------
    InvalidInput
        For a value that is no single number, bool or short text, and for nothing at all.
    """
    if not values:
        raise InvalidInput("report() was given nothing to report.", "Write report(loss=0.3, step=10).")
    plain = {name: _plain(name, value) for name, value in values.items()}
    step = _step(plain.pop(STEP, None))
    return ({} if step is None else {STEP: step}) | {"values": plain}


def write(folder: Path, reported: Mapping[str, Any]) -> None:
    """Add what `checked` returned to the metrics of the run in a folder."""
    line = {"time": round(time.time(), 3), **_begin(str(folder)), **reported}
    _append(folder, json.dumps(line, separators=(",", ":")) + "\n")


def _plain(name: str, value: Any) -> Any:
    """Return a value that JSON can hold."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if len(value) > _TEXT:
            raise InvalidInput(
                f"report({name}=…): a text of {len(value):,} characters is no metric.",
                "Write it to a file in data_job.",
            )
        return value
    try:
        if isinstance(value, int):
            # Python refuses to write or read whole numbers of thousands of digits.
            if value.bit_length() > _BITS:
                raise OverflowError
            return value
        if isinstance(value, float):
            return value
        if isinstance(value, numbers.Real):
            return float(value)
        if hasattr(value, "item"):
            return _item(value.item())
        return _item(float(value) if hasattr(value, "__float__") else value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        # Not a repr of the value itself: that of a tensor has many lines.
        shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
        raise InvalidInput(
            f"report({name}=…): {type(value).__name__}{shape} is no single number, bool or text.",
            f"Write {name}=float(…), such as its mean.",
        ) from None


def _item(value: Any) -> Any:
    """Check what ``item()`` of a numpy or torch scalar returned."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(type(value).__name__)


def _step(value: Any) -> int | float | None:
    if value is None:
        return None
    if isinstance(value, bool | str) or not math.isfinite(as_number(value) or 0.0):
        raise InvalidInput(f"report(step={value!r}): a step is a number, the x axis of plots.", "Write step=10.")
    number: int | float = value
    return number


@cache
def _begin(folder: str) -> dict[str, float]:
    """Return which attempt and life this process is of, and end a line that an earlier one could not finish."""
    path = Path(folder, METRICS)
    try:
        with open(path, "rb", opener=files.plain) as stream:
            stream.seek(-1, os.SEEK_END)
            torn = stream.read() != b"\n"
    except OSError:  # not there yet, or empty
        torn = False
    if torn:
        _append(Path(folder), "\n")
    found = schema.read_or_nothing(Path(folder, RECORD), schema.Record)
    began = schema.read_or_nothing(Path(folder, STATE), schema.State).get("started")
    return {"attempt": int(found.get("attempt", 1)), **({"life": round(began, 3)} if began else {})}


def _append(folder: Path, line: str) -> None:
    fd = files.plain(folder / METRICS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


class Line(NamedTuple):
    """One report: when, of which attempt, at which step of how many, its values, and of which life of the attempt."""

    time: float
    attempt: int
    step: float | None
    values: Mapping[str, Any]
    life: float = 0.0
    total: int | None = None


def read(folder: Path) -> list[Line]:
    """Read everything that a run reported."""
    return _lines(_end(folder / METRICS))


def _lines(raw: bytes) -> list[Line]:
    found = []
    for text in raw.split(b"\n"):
        said = schema.report(text)
        if said is None:
            continue
        line = Line(*said)
        if _is_total(line.values.get(TOTAL), line.step):
            rest = dict(line.values)
            line = line._replace(total=int(rest.pop(TOTAL)), values=rest)
        found.append(line)
    return found


def _is_total(value: Any, step: float | None) -> bool:
    """Whether a value says how many steps there are; a loss may be named so too."""
    if step is None or isinstance(value, bool | str | None) or not math.isfinite(as_number(value) or math.nan):
        return False
    return bool(value == value // 1 and value >= step)


def progress(folder: Path, *, attempt: int, since: float = 0.0) -> str:
    """Say how far an attempt is by its last report of a step: ``step 30 of 100``; empty when it does not tell.

    Parameters
    ----------
    folder : Path
        The run's folder.
    attempt : int
        Which attempt.
    since : float, default 0.0
        What was reported before this moment does not count.
    """
    # Few lines: this is asked for each run at each look.
    line = next((line for line in reversed(_lines(_end(folder / METRICS, _LATEST))) if line.step is not None), None)
    if line is None or line.total is None or line.attempt != attempt or line.time < since:
        return ""
    return f"step {line.step:.12g} of {line.total}"


def is_stopped(folder: Path, attempt: int) -> bool:
    """Whether an attempt was told to end at its last report, and did."""
    with contextlib.suppress(ValueError):
        line = json.loads(_end(folder / METRICS, _LATEST).rstrip(b"\n").rpartition(b"\n")[2])
        return isinstance(line, dict) and line.get(STOPPED) is True and line.get("attempt") == attempt
    return False


def file_of(folder: Path) -> Path:
    """Return the file of what a run reported."""
    return folder / METRICS


def recent(folder: Path) -> list[Line]:
    """Read the newest reports of a run: cheap enough for a table that is drawn twice a second."""
    path = folder / METRICS
    try:
        stat = path.lstat()
    except OSError:
        return []
    return _tail(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _tail(path: Path, size: int, changed: int) -> list[Line]:
    """Read the end of a file; its size and time of change make a new entry of the cache."""
    return _lines(_end(path, _TAIL))


def _end(path: Path, size: int = 0) -> bytes:
    try:
        return plain.read_bytes(path, start=-size) or b""
    except OSError:
        return b""


def last(lines: Iterable[Line]) -> dict[str, Any]:
    """Return the last value of each metric, the step among them."""
    found: dict[str, Any] = {}
    for line in lines:
        found.update(line.values)
        if line.step is not None:
            found[STEP] = line.step
    # The step last: what it belongs to matters more.
    return found | ({STEP: found.pop(STEP)} if STEP in found else {})


def compared(lines: Sequence[Line]) -> dict[str, Any]:
    """Return the last value of each metric; the step among them where it does not just tell how far the run is."""
    found = last(lines)
    if any(line.total is not None for line in lines):
        found.pop(STEP, None)
    return found


def series(lines: Sequence[Line], name: str) -> list[tuple[float, float]]:
    """Return a metric as points (x, y).

    x is the step, or the count of reports of this metric. What an earlier attempt reported at steps that a later one
    has computed again is left out; so is that of an attempt before a cluster has started it again.
    """
    chosen = [line for line in lines if as_number(line.values.get(name)) is not None]
    with_steps = any(line.step is not None for line in chosen)
    points: list[tuple[float, float]] = []
    before = None
    for count, line in enumerate(chosen):
        if with_steps and line.step is None:
            continue
        x = float(count) if line.step is None else as_number(line.step) or 0.0
        if with_steps and before is not None and (line.attempt, line.life) != before:
            points = [point for point in points if point[0] < x]
        before = (line.attempt, line.life)
        points.append((x, as_number(line.values[name]) or 0.0))
    return points


def as_number(value: Any) -> float | None:
    """Return a metric's value as float; None for texts and None."""
    if not isinstance(value, bool | int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def numeric_names(lines: Iterable[Line]) -> list[str]:
    """Return the metrics that can be drawn, in the order of their first report."""
    found: dict[str, None] = {}
    for line in lines:
        found |= {name: None for name, value in line.values.items() if as_number(value) is not None}
    return list(found)


def sparkline(values: Sequence[float], *, width: int = 20) -> str:
    """Draw numbers as a line of bars; what is not finite is a gap.

    Parameters
    ----------
    values : sequence of float
        In order.
    width : int, default 20
        So many characters at most; of more values the mean of each share is shown.
    """
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        shares = [[v for v in values[a:b] if math.isfinite(v)] for a, b in itertools.pairwise(edges)]
        values = [math.fsum(v / len(share) for v in share) if share else math.nan for share in shares]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return " " * len(values)
    low, high = min(finite), max(finite)
    # Halves: the difference of two huge numbers of opposite sign is infinite.
    span = high / 2 - low / 2
    return "".join(
        " " if not math.isfinite(v) else _BARS[round((v / 2 - low / 2) / span * 7)] if span else _BARS[3]
        for v in values
    )


def show_value(value: Any) -> str:
    """Write a value shortly, on one line, whatever is in it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return one_line(str(value), width=40)


def show(values: Mapping[str, Any]) -> str:
    """Write metrics on one line: ``loss=0.31 step=40``."""
    return " ".join(f"{one_line(name, width=40)}={show_value(value)}" for name, value in values.items())


def one_line(text: str, *, width: int = 200) -> str:
    """Write text without line breaks and control characters, not longer than `width`."""
    text = "".join(char if char.isprintable() else " " for char in text).strip()
    return text if len(text) <= width else text[: width - 1] + "…"


def known_metric(name: str, lines: Iterable[Line]) -> None:
    """Check that a metric can be drawn.

    Raises
    ------
    InvalidInput, NotFound
        When nothing was reported, nothing of that name, or texts alone; lists what there is.
    """
    lines = list(lines)
    names = numeric_names(lines)
    if name in names:
        return
    if not lines:
        raise NotFound("These runs have reported nothing.", "In a cell: colab_magics.report(loss=0.3, step=10)")
    if any(name in line.values for line in lines):
        raise InvalidInput(
            f"{name!r} was reported as text: it cannot be drawn.", f"Numbers: {', '.join(names) or 'none'}."
        )
    raise did_you_mean(name, names, kind="metric that these runs reported")
