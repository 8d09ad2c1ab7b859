"""What the cell below a cell magic means: data of the verb, in the language that the table here names."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from typing import Any

from ..errors import InvalidInput
from ..verbs import VERBS

_MAGIC = re.compile(rf"\s*(%%?(?:{'|'.join(VERBS)}))(?!\w)")


def _toml(name: str, body: str) -> dict[str, Any]:
    try:
        return tomllib.loads(body)
    except tomllib.TOMLDecodeError as error:
        problem, _, place = str(error).partition(" (at ")
        numbers = [int(number) for number in re.findall(r"\d+", place)]
        at = (numbers[0] - 1, numbers[1] - 1) if len(numbers) == 2 else (len(body), 0)  # the end of the document
        raise _pointed(name, "TOML", body, problem, at, 'Write one option a line: job = "baseline"') from error


def _yaml(name: str, body: str) -> dict[str, Any]:
    """Read parameters, in YAML."""
    values = _any_yaml(name, body)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InvalidInput(f"The cell below %%{name} holds no parameters.", "Write one a line, such as lr: [0.1, 0.01]")
    return values


def _any_yaml(name: str, body: str) -> Any:
    """Read YAML 1.2: ``1e-3`` is a number, ``no`` is text."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(body)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__
        at = (mark.line, mark.column) if mark is not None else _of_index(body, getattr(error, "position", None))
        problem = next((plain for words, plain in _PLAIN.items() if words in problem), problem)
        raise _pointed(name, "YAML", body, problem, at, "Write one parameter a line: lr: [0.1, 0.01]") from error


_PLAIN = {
    "<block mapping start>": "this line is indented, and no list or mapping of the line above goes on",
    "cannot start any token": "no value begins like this; indent with spaces, and put texts with such signs in quotes",
}
"""What ruamel.yaml says in words of its own grammar."""


def _of_index(body: str, index: int | None) -> tuple[int, int] | None:
    before = body[:index].split("\n")
    return None if index is None else (len(before) - 1, len(before[-1]))


def _pointed(name: str, language: str, body: str, problem: str, at: tuple[int, int] | None, mend: str) -> InvalidInput:
    """Build the error of a body with a mistake: what is wrong, the line, and a caret below the place."""
    lines = body.rstrip().splitlines()
    what = f"The cell below %%{name} is no {language}: {problem}"
    if at is None or not lines:
        return InvalidInput(f"{what}.", mend)
    # A parser that missed something to the end points behind the last line.
    row = min(at[0], len(lines) - 1)
    column = min(at[1], len(lines[row])) if row == at[0] else len(lines[row])
    # Tabs stay in front of the caret, so that it stands right however wide they are shown.
    indent = "".join(char if char == "\t" else " " for char in lines[row][:column])
    # The magic's line is the cell's first.
    return InvalidInput(f"{what} (line {row + 2} of the cell)\n  {lines[row]}\n  {indent}^", mend)


BODIES: dict[str, Callable[[str, str], Any]] = {
    "project": _toml,
    "fork": _yaml,
    "submit": _yaml,
    "upload": _yaml,
    "queue": _any_yaml,
    "remote": lambda name, body: body,
}
"""The verbs that take a body; all others say that they take none."""


def read_body(name: str, word: str | None, body: str) -> Any:
    """Read a cell's body as options.

    Parameters
    ----------
    name, word : str
        The verb, and its subcommand or None.
    body : str
        The cell below the magic's line.

    Returns
    -------
    Any
        Values by option; the code of ``%%remote`` as it stands.

    Raises
    ------
    InvalidInput
        When the verb takes no body, or the body is not what the verb takes.
    """
    for line in body.splitlines():
        if match := _MAGIC.match(line):
            raise InvalidInput(
                f"{match[1]} stands in the cell below %%{name}, where only {name}'s own data can stand.",
                f"Put {match[1]} in its own cell.",
            )
    if not body.strip():
        return {}
    reader = BODIES.get(name)
    if reader is None or word is not None:
        shown = f"%{name} {word}" if word else f"%{name}"
        raise InvalidInput(
            f"%{shown} takes no cell below it.", f"Write {shown} with one %, and put the code in its own cell."
        )
    return reader(name, body)
