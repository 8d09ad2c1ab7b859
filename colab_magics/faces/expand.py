"""Expansion of ``$name`` and ``{expression}`` in the words of a magic, one word at a time.

IPython formats the whole line at once: if one part fails, nothing is expanded, and nothing is said. Here a failure
names the word and the variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import InvalidInput

_PART = re.compile(r"\$\$|\{\{|\}\}|\$(?P<name>[A-Za-z_]\w*)|(?P<open>\{)")


def expand(word: str, namespace: Mapping[str, Any]) -> str:
    """Expand one word.

    Parameters
    ----------
    word : str
        ``$name`` is the variable of the notebook or of the environment, ``{expression}`` is evaluated in the notebook;
        ``$$`` is a plain ``$``, ``{{`` and ``}}`` are plain braces. A ``$`` before anything else stands for itself.
    namespace : mapping
        The notebook's variables.

    Returns
    -------
    str
        The word with values in it; lists, tuples and ranges become ``a,b,c``.

    Raises
    ------
    InvalidInput
        When a variable does not exist or an expression fails.
    """
    parts, at = [], 0
    while match := _PART.search(word, at):
        parts.append(word[at : match.start()])
        at = match.end()
        if match["name"]:
            parts.append(_variable(word, match["name"], namespace))
        elif match["open"]:
            end = _closing(word, match.start())
            parts.append(_expression(word, word[match.start() : end], namespace))
            at = end
        else:
            parts.append(match[0][0])
    return "".join([*parts, word[at:]])


def _variable(word: str, name: str, namespace: Mapping[str, Any]) -> str:
    if name in namespace:
        return _text(namespace[name])
    if name in os.environ:
        return os.environ[name]
    raise InvalidInput(
        f"{word}: there is no variable {name}, neither in the notebook nor in the environment.",
        f"Define {name} above, or write $${name} for a plain ${name}.",
    )


def _closing(word: str, start: int) -> int:
    """Return where the expression that opens at `start` ends."""
    depth, quote = 0, ""
    for at in range(start, len(word)):
        char = word[at]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "{}":
            depth += 1 if char == "{" else -1
            if depth == 0:
                return at + 1
    raise InvalidInput(f"{word}: a brace is opened and never closed.", "Close it, or write {{ for a plain brace.")


def _expression(word: str, braced: str, namespace: Mapping[str, Any]) -> str:
    from IPython.utils.text import FullEvalFormatter

    found: list[Any] = []

    class One(FullEvalFormatter):  # type: ignore[misc]
        # IPython's formatter evaluates. Its own parser would trip over "!=" and braces inside of the expression, and
        # its text of a value is not ours.
        def parse(self, expression: str) -> Iterator[tuple[str, str, str, None]]:
            yield "", expression, "", None

        def format_field(self, value: Any, format_spec: str) -> str:
            found.append(value)
            return ""

    try:
        One().vformat(braced[1:-1].strip(), (), dict(namespace))
        return _text(found[0])
    except Exception as error:  # whatever the user's own expression may raise
        raise InvalidInput(
            f"{word}: {braced} cannot be evaluated: {type(error).__name__}: {error}",
            "Mend the expression, or write {{ and }} for plain braces.",
        ) from error


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple | range) else str(value)
