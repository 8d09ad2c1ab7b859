"""Values as people write them: durations, sizes, lists, indices.

The verbs normalise their arguments with these functions, so that the magic, the shell and the API accept the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby

from .errors import InvalidInput

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BYTES |= {
    f"{k}{tail}": 1024**n if tail == "iB" else 1000**n for n, k in enumerate("KMGT", start=1) for tail in ("B", "iB")
}
_MANY = 1_000_000


def seconds(value: str | float, *, name: str = "time") -> float:
    """Read a duration.

    Parameters
    ----------
    value : str or float
        ``30``, ``"30s"``, ``"5m"``, ``"1h30m"``, ``"2d"``; a number without a unit counts seconds.
    name : str, default "time"
        The option's name, for the error.

    Returns
    -------
    float
        Seconds, not negative and finite.

    Raises
    ------
    InvalidInput
        When `value` is no duration.
    """
    text = str(value).strip()
    parts = re.findall(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)", text)
    if (
        parts
        and re.fullmatch(r"(?:(?:\d+(?:\.\d*)?|\.\d+)\s*[a-z]*\s*)+", text)
        and all(u in _SECONDS for _, u in parts)
    ):
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    raise InvalidInput(f"{name}={value} is no duration.", "Write seconds or a unit: 30s, 5m, 2h, 1h30m.")


def size(value: str | int, *, name: str = "size") -> int:
    """Read a size in bytes.

    Parameters
    ----------
    value : str or int
        ``1500``, ``"500MB"`` (powers of 1000), ``"2GiB"`` (powers of 1024).
    name : str, default "size"
        The option's name, for the error.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    InvalidInput
        When `value` is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)", str(value).strip())
    units = {unit.lower(): factor for unit, factor in _BYTES.items()}
    if match and match[2].lower() in units:
        return int(float(match[1]) * units[match[2].lower()])
    raise InvalidInput(f"{name}={value} is no size.", "Write bytes or a unit: 500MB, 3GB, 2GiB.")


def words(value: str | Iterable[str] | None) -> list[str]:
    """Read a list: ``"a,b"`` or an iterable of texts; None is the empty list."""
    if value is None:
        return []
    items = value.split(",") if isinstance(value, str) else [str(item) for item in value]
    return [item.strip() for item in items if item.strip()]


def count(value: str | int, *, name: str, least: int = 1) -> int:
    """Read a whole number that is at least `least`.

    Raises
    ------
    InvalidInput
        When `value` is no whole number, or too small.
    """
    try:
        number = int(str(value).strip())
    except ValueError:
        raise InvalidInput(f"{name}={value} is no whole number.", f"Write {name}={max(least, 1)} or more.") from None
    if isinstance(value, bool) or number < least:
        raise InvalidInput(f"{name}={value} is too small.", f"Write {name}={least} or more.")
    return number


def indices(value: str | int | Iterable[int] | None, *, name: str = "only") -> list[int] | None:
    """Read indices of runs.

    Parameters
    ----------
    value : str, int, iterable of int or None
        ``"3,7-9"``, ``3``, ``[3, 7, 8, 9]``; None means "no choice made".
    name : str, default "only"
        The option's name, for the error.

    Returns
    -------
    list of int or None
        Sorted, without doubles; None for None.

    Raises
    ------
    InvalidInput
        When a part is no index, a range runs backwards, or there are more than a million.
    """
    if value is None:
        return None
    parts: Sequence[str] = (
        words(value)
        if isinstance(value, str)
        else ([str(value)] if isinstance(value, int) else [str(item) for item in value])
    )
    found: set[int] = set()
    for part in parts:
        match = re.fullmatch(r"(\d+)(?:\s*[-–]\s*(\d+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not match or last < first or last - first >= _MANY:
            raise InvalidInput(f"{name}={part} names no runs.", f"Write indices and ranges: {name}=3,7-9.")
        found.update(range(first, last + 1))
    if not found:
        raise InvalidInput(f"{name}= names no runs.", f"Write indices and ranges: {name}=3,7-9.")
    return sorted(found)


_STRING = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
_SEQUENCE = re.compile(
    rf"{_STRING}|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b[ -/]*[0-~]?|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


def ranges(numbers: Sequence[int]) -> str:
    """Write sorted numbers as `indices` reads them: ``0-3,7``."""
    parts = []
    for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        parts.append(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]))
    return ",".join(parts)


def goal(value: str | None) -> str:
    """Read what runs are to reach: ``min:loss``, ``max:accuracy``; empty when nothing is said.

    Raises
    ------
    InvalidInput
        When it does not say less or more, and of which metric.
    """
    way, _, metric = str(value or "").partition(":")
    if value is not None and (way not in ("min", "max") or not metric.strip()):
        name = metric.strip() or (way if way not in ("min", "max") else "") or "loss"
        raise InvalidInput(
            f"goal={value} does not say min or max, and of which metric.", f"Write goal=min:{name} or goal=max:{name}."
        )
    return f"{way}:{metric.strip()}" if value is not None else ""


def without_controls(text: str, *, colours: bool = False) -> str:
    """Return text without what does something to a terminal: it may be anybody's, and set a title or a clipboard.

    Line breaks, tabs and carriage returns stay. What no encoding can write becomes its escape.

    Parameters
    ----------
    text : str
        Anything.
    colours : bool, default False
        Whether colours and bold type stay too.
    """
    text = _SEQUENCE.sub(lambda found: found[0] if colours and _COLOUR.fullmatch(found[0]) else "", text)
    return text.encode("utf-8", "backslashreplace").decode()


def show_number(value: float) -> str:
    """Write a number shortly: whole ones as they are, others with four digits that count, without needless zeros."""
    if isinstance(value, int):
        return str(value)
    text = f"{value:.4g}"
    if "e" not in text:
        return text
    if 1 <= abs(value) < 1e6:
        return f"{value:.0f}"
    digits, _, power = text.partition("e")
    return f"{digits}e{int(power)}"


def show_seconds(value: float) -> str:
    """Write a duration shortly: ``4.2 s``, ``3 min 05 s``, ``2 h 07 min``, ``3 d 4 h``."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 60:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def show_size(value: float) -> str:
    """Write bytes shortly, in powers of 1000: ``512 B``, ``1.5 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def show_time(stamp: float, *, now: float | None = None) -> str:
    """Write a moment in local time: ``03:02`` today, ``Nov 19 03:02`` on other days.

    Parameters
    ----------
    stamp : float
        Seconds since the epoch.
    now : float, optional
        The present moment, for tests; the clock's by default.
    """
    moment = datetime.fromtimestamp(stamp, UTC).astimezone()
    today = datetime.fromtimestamp(now, UTC).astimezone() if now is not None else datetime.now(UTC).astimezone()
    if moment.date() == today.date():
        return f"{moment:%H:%M}"
    return f"{moment:%b %d %H:%M}" if moment.year == today.year else f"{moment:%Y-%m-%d %H:%M}"
