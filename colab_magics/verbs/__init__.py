"""One file a verb: signature, docstring and the orchestration of the rooms below. No IPython, no printing.

A verb is a plain function. Its subcommands are functions too, hung on it by `subcommand`: ``sync.now()`` is
``%sync now`` and ``colab-magics sync now``.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from ..errors import InvalidInput, nearest

VERBS = (
    "project",
    "sync",
    "fork",
    "join",
    "stop",
    "submit",
    "queue",
    "jobs",
    "remote",
    "host",
    "download",
    "s3",
    "upload",
    "tunnel",
    "runtime",
    "trust",
)
"""The verbs in the order in which a notebook uses them; ``<name>.py`` here holds each."""

FUNCTIONS = {"report": "report", "changes": "changes", "pack": "archives", "unpack": "archives", "keep": "keep"}
"""Functions for the user's own code that are no verbs of lines, and the modules here that hold them."""

F = TypeVar("F", bound=Callable[..., Any])


def load(name: str) -> Callable[..., Any]:
    """Import a verb's function, or one of `FUNCTIONS`."""
    function: Callable[..., Any] = getattr(importlib.import_module(f"{__name__}.{FUNCTIONS.get(name, name)}"), name)
    return function


def subcommand(verb: Callable[..., Any], name: str | None = None) -> Callable[[F], F]:
    """Make a function a subcommand of `verb`; its name is the word that users write (``_`` stands for ``-``).

    Parameters
    ----------
    verb : callable
        The verb's function.
    name : str, optional
        The word, where a module cannot name a function so; the function's name by default.
    """

    def attach(function: F) -> F:
        word = name or function.__name__
        verb.__dict__.setdefault("subcommands", {})[word.replace("_", "-")] = function
        setattr(verb, word, function)
        return function

    return attach


def subcommands(verb: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Return a verb's subcommands by the words that users write."""
    found: dict[str, Callable[..., Any]] = getattr(verb, "subcommands", {})
    return found


def call_only(*options: str) -> Callable[[F], F]:
    """Name the options that delete, consent, unpickle or skip a question: no default file may set them."""

    return _mark(call_only=frozenset(options))


def short(**letters: str) -> Callable[[F], F]:
    """Give options a letter: ``@short(f="follow")`` makes ``-f`` mean ``--follow``."""
    return _mark(short={f"-{letter}": f"--{option}" for letter, option in letters.items()})


def bare(**values: str) -> Callable[[F], F]:
    """Give options a value for when they stand alone: ``@bare(try_="end")`` makes ``--try`` mean ``--try=end``."""
    return _mark(bare={f"--{option.rstrip('_').replace('_', '-')}": value for option, value in values.items()})


def engine_of(ask: Callable[[list[str]], str | None]) -> Callable[[F], F]:
    """Have a line's words say which engine it means, whatever ``on=`` says: `ask` gets those that are no options."""
    return _mark(engine_of=ask)


def body(parameter: str) -> Callable[[F], F]:
    """Name the first parameter, which takes the cell below a cell magic as it is, not as options."""
    return _mark(body=parameter)


def _mark(**notes: Any) -> Callable[[F], F]:
    def mark(function: F) -> F:
        function.__dict__.update(notes)
        return function

    return mark


@contextmanager
def slips_of(verb: Callable[..., Any], options: Mapping[str, Any]) -> Iterator[None]:
    """Say which of a verb's own options is meant by one that its engine has not: Python calls take any."""
    try:
        yield
    except InvalidInput as error:
        for name in options:
            near = nearest(name, inspect.signature(verb).parameters)
            if near and error.what.startswith(f"'{name}='"):
                raise InvalidInput(error.what, f"Did you mean {near}=? {error.mend}") from None
        raise
