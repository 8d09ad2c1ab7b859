"""Cells and the values of runs: types from what a cell holds, not from how it is shown."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ...errors import InvalidInput
from ..base import Value

_LARGEST = 2**53
"""A sheet's numbers are doubles; whole ones are exact up to here."""
_MOST_TEXT = 50_000
"""Characters that a cell holds."""
_DOT = re.compile(r"[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?|[+-]?\d+[eE][+-]?\d+")
_COMMA = re.compile(r"[+-]?(\d+,\d*|,\d+)([eE][+-]?\d+)?")
_COMMA_POWER = re.compile(r"[+-]?(\d+,\d*|,\d+)[eE][+-]?\d+")
_DOT_LANGUAGES = re.compile(r"en|zh|ja|ko|th|he|iw|hi|bn|ta|te|ml|mr|gu|kn|pa|ur|si|ms|fil|tl|cy|ga|mt|am|sw")
_DOT_PLACES = re.compile(r"es_(MX|US|PR|DO|GT|HN|NI|PA|SV)|(de|fr|it|rm|gsw)_CH|de_LI")
_COMMA_PLACES = frozenset({"en_ZA"})
_EPOCH = datetime(1899, 12, 30, tzinfo=UTC)
"""Day 0 of a sheet's dates."""


def comma_locale(locale: str) -> bool:
    """Whether numbers have a decimal comma in a spreadsheet of this locale, such as ``de_DE``."""
    locale = locale.replace("-", "_")
    if locale in _COMMA_PLACES:
        return True
    return not _DOT_PLACES.fullmatch(locale) and not _DOT_LANGUAGES.fullmatch(locale.partition("_")[0])


def of_cell(cell: Mapping[str, Any], *, comma: bool) -> Value:
    """Return what a cell holds: None when it is empty.

    Whole numbers are int; text that says true or false is bool; text that is a number with a point (with a comma in
    comma locales, and ``5,00E-04`` everywhere) is float. Other text stays as it is: ``007``, ``1_000``, ``nan``.

    Parameters
    ----------
    cell : mapping
        A ``CellData`` of Google's.
    comma : bool
        See `comma_locale`.
    """
    value = cell.get("effectiveValue") or {}
    if "boolValue" in value:
        return bool(value["boolValue"])
    if "numberValue" in value:
        number = float(value["numberValue"])
        kind = ((cell.get("userEnteredFormat") or {}).get("numberFormat") or {}).get("type")
        if kind in ("DATE", "DATE_TIME"):
            moment = (_EPOCH + timedelta(days=number)).replace(tzinfo=None)
            return moment.date().isoformat() if kind == "DATE" else moment.isoformat(" ", "seconds")
        return int(number) if number.is_integer() and abs(number) <= _LARGEST else number
    text = value.get("stringValue")
    return of_text(str(text), comma=comma) if text else None


def of_text(text: str, *, comma: bool) -> Value:
    """Return what a text means; see `of_cell`."""
    plain = text.strip()
    if plain.lower() in ("true", "false"):
        return plain.lower() == "true"
    if _COMMA_POWER.fullmatch(plain) or (comma and _COMMA.fullmatch(plain)):
        return float(plain.replace(",", "."))
    return float(plain) if _DOT.fullmatch(plain) else text


def raw_text(cell: Mapping[str, Any]) -> str:
    """Return a cell's text as it can be searched for; empty when it holds something else."""
    return str((cell.get("effectiveValue") or {}).get("stringValue", ""))


def show(value: Value) -> str:
    """Write a value as people call it, for names."""
    return "" if value is None else str(value)


def to_cell(value: Value, key: str) -> dict[str, Any]:
    """Return the ``CellData`` that holds a value and gives it back.

    Raises
    ------
    InvalidInput
        When no cell can: lists, dicts, nan, whole numbers beyond 2^53, text that would come back as something else.
    """
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"userEnteredValue": {"boolValue": value}}
    if isinstance(value, int | float):
        if not math.isfinite(value) or (isinstance(value, int) and abs(value) > _LARGEST):
            raise InvalidInput(
                f"{key}={value} cannot be kept in a cell of a sheet.", "Use a number, or text, that can."
            )
        return {"userEnteredValue": {"numberValue": value}}
    if not isinstance(value, str):
        kind = type(value).__name__
        raise InvalidInput(
            f"{key} is a {kind}; a cell of a sheet holds a number, a truth value or text.",
            "Give its parts columns of their own, or keep the queue in a file: runs.db",
        )
    if value and (of_text(value, comma=False) != value or len(value) > _MOST_TEXT):
        why = "is too long for a cell" if len(value) > _MOST_TEXT else "would come back from a sheet as no text"
        raise InvalidInput(f"{key}={value[:40]!r} {why}.", "Write the value itself, without quotes.")
    return {"userEnteredValue": {"stringValue": value}} if value else {}


def parameter(header: str) -> str:
    """Return the parameter that a column is for: ``learning rate`` is ``learning_rate``.

    Raises
    ------
    InvalidInput
        When it cannot be a variable's name.
    """
    name = re.sub(r"[\s-]+", "_", header.strip())
    if not name.isidentifier() or keyword.iskeyword(name):
        raise InvalidInput(
            f"The column {header!r} cannot be a parameter: {name!r} is no name of a variable.",
            "Rename it in row 1: letters, digits and _, not beginning with a digit.",
        )
    return name
