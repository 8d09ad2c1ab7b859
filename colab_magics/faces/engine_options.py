"""Options in a line that are an engine's own: ``%fork n=5 on=slurm partition=gpu``; see `colab_magics.engines.options`.

They are known by what the line's ``on=`` names, and go to the verb as they are: the engine reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .signature import Option, option_of, takes_others


def known(function: Callable[..., Any], words: Iterable[str]) -> dict[str, Option]:
    """Return the options of the engine that a line names; the word of a group ends in a point.

    Parameters
    ----------
    function : callable
        The verb.
    words : iterable of str
        The line's, as options: ``--on=slurm``.

    Raises
    ------
    InvalidInput
        When there is no such engine.
    Unavailable
        When a package of it is missing.
    """
    on, others = "", list[str]()
    for word in words:
        key, equals, value = word.lstrip("-").partition("=")
        on = value if key == "on" and equals else on
        others += [] if word.startswith("-") else [word]
    if ask := getattr(function, "engine_of", None):
        on = ask(others) or on
    if not on or not takes_others(function):
        return {}
    from ..engines import engine_class
    from ..engines.options import fields

    return {name.replace("_", "-"): option_of(name, hint) for name, hint in fields(engine_class(on).Options).items()}


def of_word(word: str, options: Mapping[str, Option]) -> Option | None:
    """Return the option that a word names; of a group, ``sbatch.qos`` does."""
    return options.get(word) or options.get(f"{word.partition('.')[0]}." if "." in word else word)


def take(tokens: Sequence[str], options: Mapping[str, Option]) -> tuple[list[str], dict[str, Any]]:
    """Take an engine's options out of a line; returns the other words, and values by name."""
    others: list[str] = []
    values: dict[str, Any] = {}
    left = iter(tokens)
    for token in left:
        word, equals, value = token.removeprefix("--").partition("=")
        option = of_word(word, options) if token.startswith("--") else None
        if option is None:
            others.append(token)
            continue
        if not equals and not option.flag:
            value = next(left, "")
        name = word if "." in word else option.name
        values[name] = value or "true" if option.flag else value
    return others, values
