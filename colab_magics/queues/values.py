"""A run's parameters as text: JSON, as people read and write it in a table, from which all come back as they were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidInput
from .base import Value

LONGEST = 500
"""Characters of a name or a status: databases keep them in an index."""


def pack(values: Mapping[str, Value], *, whose: str) -> str:
    """Return parameters as one JSON object.

    Parameters
    ----------
    values : mapping of str to Value
        Parameters by name.
    whose : str
        Of what they are, for the error: ``run 'a'``.

    Raises
    ------
    InvalidInput
        For a value that would come back as something else.
    """
    for name, value in values.items():
        if not isinstance(name, str) or not name:
            raise InvalidInput(f"{whose}: {name!r} is no name of a parameter.", "Names are text.")
        if (wrong := _wrong(value)) is not None:
            raise InvalidInput(
                f"{whose}: {name} holds a {type(wrong).__name__}, which the table cannot keep.",
                "Use text, true or false, numbers, None, and lists and dicts (keys are text) of these.",
            )
    return as_text(dict(values))


def as_text(value: Any) -> str:
    """Return a value as JSON that any database of text in UTF-8 can hold."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates, as in file names that are no UTF-8
        return json.dumps(value)
    return text


def unpack(text: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    ValueError
        When it is none: people write into tables.
    """
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"{text[:60]!r} is no JSON object")
    return found


def clean(text: str) -> str:
    """Return a text without what a database refuses: a zero, half of a pair of surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def checked_word(word: str, *, what: str) -> str:
    """Return a name or a status that is to be kept as it is.

    Raises
    ------
    InvalidInput
        When it cannot be.
    """
    if clean(word) != word:
        raise InvalidInput(f"{word!r} cannot be {what}.", "Use text without zeros and broken characters.")
    if len(word) > LONGEST:
        raise InvalidInput(f"{word[:40]!r}… is too long to be {what}.", f"Use {LONGEST} characters at most.")
    return word


def _wrong(value: object) -> object:
    """Return what is no `Value` in a value; None when all is well."""
    if value is None or isinstance(value, str | bool | int | float):
        return None
    if isinstance(value, list | tuple):
        inner: list[object] = list(value)
    elif isinstance(value, dict):
        inner = list(value.values())
        if (key := next((key for key in value if not isinstance(key, str)), None)) is not None:
            return key
    else:
        return value
    return next((wrong for one in inner if (wrong := _wrong(one)) is not None), None)


def changed(before: Mapping[str, Value], now: Mapping[str, Value]) -> dict[str, Value]:
    """Return the parameters that are other ones now, with their values; None for one that is gone."""
    fresh = {name: value for name, value in now.items() if name not in before or not _same(before[name], value)}
    return fresh | {name: None for name in before if name not in now}


def _same(one: Value, other: Value) -> bool:
    """Whether a value has not changed: NaN is NaN, and 1 is not 1.0, nor True."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (one != one and other != other)
    return type(one) is type(other) and bool(one == other)
