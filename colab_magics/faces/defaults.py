"""Defaults of options from files, for lines and the shell, never for the API.

``[tool.colab_magics.<verb>]`` of the nearest pyproject.toml upward comes first, then the table ``[<verb>]`` of the
user's ``colab_magics/config.toml``. Options that delete, consent or skip a question are taken from the call alone.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import ColabMagicsError, InvalidInput, did_you_mean
from ..verbs import VERBS, load, subcommands
from .signature import options


def user_file() -> Path:
    """Return where the user's own defaults stand."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "colab_magics" / "config.toml"


def defaults(verb: str, word: str | None, start: Path) -> dict[str, Any]:
    """Collect the defaults of a verb, or of one of its subcommands.

    Parameters
    ----------
    verb, word : str
        The verb, and its subcommand or None.
    start : Path
        The folder from which to look upward for a pyproject.toml.

    Returns
    -------
    dict
        Values by the words that users write.

    Raises
    ------
    InvalidInput
        When a file cannot be read as TOML, or sets something unknown or something that only a call may set.
    """
    found: dict[str, Any] = {}
    for file, tables in _files(start):
        table = _table(file, tables, verb)
        if word is None:
            wanted = {key: value for key, value in table.items() if key not in subcommands(load(verb))}
        else:
            wanted = _as_table(file, f"{verb}.{word}", table.get(word, {}))
        function = subcommands(load(verb))[word] if word else load(verb)
        for key, value in _checked(file, verb, function, wanted).items():
            found.setdefault(key, value)
    return found


def _files(start: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            yield file, _as_table(file, "tool", _read(file).get("tool", {})).get("colab_magics", {})
            break
    if user_file().is_file():
        yield user_file(), _read(user_file())


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", "Mend the file, or move it away.") from error


def _as_table(file: Path, name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"{file}: {name} is no table.", f"Write options below a heading, such as [{name}].")
    return value


def _table(file: Path, tables: Any, verb: str) -> dict[str, Any]:
    for name in _as_table(file, "tool.colab_magics", tables):
        if name not in VERBS:
            raise _in_file(file, did_you_mean(name, VERBS, kind="verb"))
    return _as_table(file, verb, tables.get(verb, {}))


def _checked(file: Path, verb: str, function: Callable[..., Any], table: dict[str, Any]) -> dict[str, Any]:
    known = options(function)
    reserved = {name.replace("_", "-") for name in getattr(function, "call_only", ())}
    checked = {}
    for key, value in table.items():
        word = key.replace("_", "-")
        if word not in known:
            raise _in_file(file, did_you_mean(key, sorted(set(known) - reserved), kind=f"option of {verb}"))
        if word in reserved:
            raise InvalidInput(
                f"{file}: {key} cannot have a default: only the call itself may say it.",
                f"Take {key} out of that file.",
            )
        checked[word] = value
    return checked


def _in_file(file: Path, error: ColabMagicsError) -> InvalidInput:
    return InvalidInput(f"{file}: {error.what}", error.mend)
