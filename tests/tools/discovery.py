"""What Google publishes of Sheets: every body, parameter and field mask is held against it.

The document is the one that google-api-python-client ships. What it does not know is refused, as Google refuses it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

Mask = dict[str, "Mask"]
_KINDS = {"string": str, "boolean": bool, "integer": int, "number": int | float, "object": dict, "array": list}


class Invalid(Exception):
    """A request, or an answer of ours, that Google's document does not know."""


@cache
def document() -> dict[str, Any]:
    """Return the document."""
    folder = resources.files("googleapiclient") / "discovery_cache" / "documents"
    return json.loads((folder / "sheets.v4.json").read_text())


@cache
def methods() -> dict[str, dict[str, Any]]:
    """Return all methods, by their id."""
    found: dict[str, dict[str, Any]] = {}

    def gather(part: Mapping[str, Any]) -> None:
        found.update({one["id"]: one for one in part.get("methods", {}).values()})
        for inner in part.get("resources", {}).values():
            gather(inner)

    gather(document())
    return found


def route(verb: str, path: str) -> tuple[str, dict[str, str]]:
    """Return the method that a request means, and the parameters in its path."""
    for name, method in methods().items():
        parts = re.split(r"\{\+?(\w+)\}", method["path"])
        pattern = "".join(f"(?P<{part}>[^/:]+)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
        found = re.fullmatch(f"/{pattern}", path)
        if found and method["httpMethod"] == verb:
            return name, found.groupdict()
    raise Invalid(f"no method {verb} {path}")


def check_query(method: str, query: Mapping[str, list[str]]) -> None:
    """Refuse parameters that the method does not have."""
    known = {**document()["parameters"], **methods()[method].get("parameters", {})}
    for name, values in query.items():
        if name not in known or known[name].get("location") != "query":
            raise Invalid(f'Unknown name "{name}": Cannot bind query parameter.')
        if len(values) > 1 and not known[name].get("repeated"):
            raise Invalid(f"{name} is given twice")
        for value in values:
            if "enum" in known[name] and value not in known[name]["enum"]:
                raise Invalid(f"{name}={value} is none of {known[name]['enum']}")


def check(value: Any, schema: str, where: str = "") -> None:
    """Refuse a value that the schema of that name does not have: names, types, words of an enumeration."""
    known = document()["schemas"][schema]["properties"]
    if not isinstance(value, dict):
        raise Invalid(f"{where or schema} is no object")
    for name, inner in value.items():
        if name not in known:
            raise Invalid(f"Unknown name \"{name}\" at '{where or schema}': Cannot find field.")
        _check(inner, known[name], f"{where}.{name}" if where else name)


def _check(value: Any, kind: Mapping[str, Any], where: str) -> None:
    if "$ref" in kind:
        check(value, kind["$ref"], where)
        return
    if kind["type"] == "any":
        return
    wrong = isinstance(value, bool) and kind["type"] != "boolean"
    if wrong or not isinstance(value, _KINDS[kind["type"]]):
        raise Invalid(f"Invalid value at '{where}' ({kind['type']}), {json.dumps(value)[:80]}")
    if kind.get("format") == "int32" and not -(2**31) <= value < 2**31:
        raise Invalid(f"Invalid value at '{where}' (TYPE_INT32), {value}")
    if "enum" in kind and value not in kind["enum"]:
        raise Invalid(f"Invalid value at '{where}', {value!r}")
    if kind["type"] == "array":
        for index, inner in enumerate(value):
            _check(inner, kind["items"], f"{where}[{index}]")


def mask(text: str, schema: str) -> Mask:
    """Read a field mask such as ``replies,updatedSpreadsheet(sheets(data))``, and refuse what is not there."""
    words = re.findall(r"[\w*]+|[(),/.]", text)
    if "".join(words) != text:
        raise Invalid(f"Invalid field mask {text!r}")

    def fields(end: str) -> Mask:
        found: Mask = {}
        while True:
            inner = found
            while True:
                inner = inner.setdefault(words.pop(0), {})
                following = words.pop(0) if words else ""
                if following not in ("/", "."):
                    break
            if following == "(":
                inner.update(fields(")"))
                following = words.pop(0) if words else ""
            if following == end:
                return found
            if following != ",":
                raise Invalid(f"Invalid field mask {text!r}")

    try:
        found = fields("")
    except IndexError:
        raise Invalid(f"Invalid field mask {text!r}") from None
    _check_mask(found, schema)
    return found


def _check_mask(found: Mask, schema: str) -> None:
    known = document()["schemas"][schema]["properties"]
    for name, inner in found.items():
        if name == "*":
            continue
        if name not in known:
            raise Invalid(f"Error expanding 'fields' parameter. Cannot find matching fields for path '{name}'.")
        kind = known[name].get("items", known[name])
        if inner:
            _check_mask(inner, kind["$ref"])


def masked(value: Any, fields: Mask) -> Any:
    """Return of a value what a mask lets through."""
    if not fields or "*" in fields:
        return value
    if isinstance(value, list):
        return [masked(one, fields) for one in value]
    return {name: masked(inner, fields[name]) for name, inner in value.items() if name in fields}
