"""Defaults of options from files, for lines and the shell, never for the API.

``[tool.colab_magics.<verb>]`` of the nearest pyproject.toml upward comes first, then the table ``[<verb>]`` of the
user's ``colab_magics/config.toml``. Options that delete, consent or skip a question are taken from the call alone. Of
the project's file only what is harmless counts, until the user allows the rest (see `colab_magics.checkout.trust`).
"""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

from .. import session
from ..checkout import trust
from ..checkout.trust import user_file
from ..errors import ColabMagicsError, InvalidInput, did_you_mean
from ..verbs import VERBS, load, subcommands
from .signature import options


def defaults(verb: str, word: str | None, start: Path, given: Container[str] = ()) -> dict[str, Any]:
    """Collect the defaults of a verb, or of one of its subcommands; what of them does not count is told.

    Parameters
    ----------
    verb, word : str
        The verb, and its subcommand or None.
    start : Path
        The folder from which to look upward for a pyproject.toml.
    given : container of str
        The options that the call itself sets: no default counts for them.

    Returns
    -------
    dict
        Values by the words that users write.

    Raises
    ------
    InvalidInput
        When a file cannot be read as TOML, or sets something unknown or something that only a call may set.
    """
    function = subcommands(load(verb))[word] if word else load(verb)
    found: dict[str, Any] = {}
    if (of_project := trust.pyproject(start, session.current().warn_once)) is not None:
        file, tables = of_project
        values = _of_verb(file, tables, verb, word, function)
        asked = [key for key in values if not trust.is_harmless(verb, key) and key not in given]
        if asked and not trust.request(file, tables).allowed:
            session.current().warn_once(trust.left_out(file, asked))
            values = {key: value for key, value in values.items() if key not in asked}
        found |= values
    if user_file().is_file():
        found = _of_verb(user_file(), _read(user_file()), verb, word, function) | found
    return {key: value for key, value in found.items() if key not in given}


def _of_verb(
    file: Path, tables: dict[str, Any], verb: str, word: str | None, function: Callable[..., Any]
) -> dict[str, Any]:
    table, words = _table(file, tables, verb), subcommands(load(verb))
    # A word may be both: restore = "light" is an option of sync, [sync.restore] holds those of %sync restore.
    own = {key: value for key, value in table.items() if key not in words or not isinstance(value, dict)}
    if word is None:
        return _checked(file, verb, function, own)
    inner = {} if word in own and word in options(load(verb)) else table.get(word, {})
    return _checked(file, verb, function, trust.as_table(file, f"{verb}.{word}", inner))


def _read(file: Path) -> dict[str, Any]:
    try:
        return trust.toml(file, file.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error}", "Mend the file, or move it away.") from error


def _table(file: Path, tables: Any, verb: str) -> dict[str, Any]:
    for name in trust.as_table(file, "tool.colab_magics", tables):
        if name not in VERBS:
            raise _in_file(file, did_you_mean(name, VERBS, kind="verb"))
    return trust.as_table(file, verb, tables.get(verb, {}))


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
