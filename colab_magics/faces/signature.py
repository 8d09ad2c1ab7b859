"""What a verb's signature says to the faces: its options, its positionals, and how each face names them."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ..verbs import VERBS

PATHS = {"to", "source", "notebook", "done_file", "root", "requirements", "paths", "patterns"} | {
    "url",
    "file",
    "runs",
}
"""Parameters whose values are paths, for completion."""
HOSTS = {"host", "hosts"}
"""Parameters whose values are names for ssh, for completion."""


_MAGIC = re.compile(rf"(?<![\w%])%({'|'.join(VERBS)})(?![\w%])")


_HELP = re.compile(rf"(?<![\w%])%({'|'.join(VERBS)})\?(?![\w%])")
"""The same with IPython's question mark, which asks for help."""
_PROGRAMS = re.compile(r"(?<![\w%])%(pip|cd)(?= )")
"""IPython's magics that are called as in a shell."""
_SENTENCES = re.compile(r"(?<=[.:;!?])(?=\s)")
_OF_CELLS = re.compile(r"\b(?:cells?|notebook)\b(?!=)", re.IGNORECASE)
"""What a sentence with one of these words names stands in a notebook, also for users of a shell."""


@dataclass(frozen=True)
class Option:
    """One option of a verb.

    Parameters
    ----------
    name : str
        The Python name.
    choices : tuple of str
        All the values it can have, where they are known.
    flag : bool
        It is true or false: ``--name`` or ``--no-name``.
    default : Any
        Its default, or `inspect.Parameter.empty`.
    whole : bool
        It is a whole number, if anything.
    """

    name: str
    choices: tuple[str, ...] = ()
    flag: bool = False
    default: Any = inspect.Parameter.empty
    whole: bool = False

    @property
    def word(self) -> str:
        """The name as users write it."""
        return word_of(self.name)


def word_of(name: str) -> str:
    """Write a parameter's name as users do: ``max-failures``, and ``try`` for ``try_``."""
    return name.rstrip("_").replace("_", "-")


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return a verb's parameters, without the one that takes the cell below a cell magic."""
    data = getattr(function, "body", None)
    known = inspect.signature(function).parameters.items()
    return [parameter for name, parameter in known if name != data and parameter.kind is not parameter.VAR_KEYWORD]


def takes_others(function: Callable[..., Any]) -> bool:
    """Whether a verb takes options besides its own: those of an engine."""
    return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(function).parameters.values())


def options(function: Callable[..., Any]) -> dict[str, Option]:
    """Return the options of a verb, or of a subcommand, by the words that users write."""
    hints = _hints(function)
    found = [
        option_of(parameter.name, hints.get(parameter.name, str), parameter.default)
        for parameter in _parameters(function)
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return {option.word: option for option in found}


def parsable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function for cyclopts to read: the parameters of `function`, with their types, and no return type."""

    def stand_in() -> None:
        pass

    stand_in.__doc__, stand_in.__name__ = function.__doc__, function.__name__
    stand_in.__annotations__ = hints = _hints(function)
    parameters = [p.replace(annotation=hints.get(p.name, p.annotation)) for p in _parameters(function)]
    stand_in.__dict__["__signature__"] = inspect.Signature(parameters)
    return stand_in


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    # Without the return type: it names a handle whose module the verb imports for type checkers alone.
    parameters = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    return typing.get_type_hints(types.SimpleNamespace(__annotations__=parameters), function.__globals__)


def positionals(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return what a verb takes without a name."""
    kinds = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return [parameter for parameter in _parameters(function) if parameter.kind in kinds]


def option_of(name: str, hint: Any, default: Any = inspect.Parameter.empty) -> Option:
    """Return an option by its name and its type."""
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    choices = tuple(str(value) for m in members if typing.get_origin(m) is Literal for value in typing.get_args(m))
    flag = all(member in (bool, type(None)) for member in members)
    whole = set(members) - {type(None)} == {int}
    return Option(name, choices or (("true", "false") if flag else ()), flag, default, whole)


@dataclass(frozen=True)
class Words:
    """How a face writes a verb and its options.

    Parameters
    ----------
    face : str
        ``magic`` or ``shell``.
    """

    face: Literal["magic", "shell"]

    def verb(self, name: str, word: str | None = None) -> str:
        """Write a verb and its subcommand."""
        start = f"%{name}" if self.face == "magic" else f"colab-magics {name}"
        return f"{start} {word}" if word else start

    def option(self, option: Option | str) -> str:
        """Write an option: ``every=`` or ``--every``."""
        flag = isinstance(option, Option) and option.flag
        word = option.word if isinstance(option, Option) else option
        return f"--{word}" if flag or self.face == "shell" else f"{word.replace('-', '_')}="

    def text(self, text: str) -> str:
        """Write a text that names verbs as magics: in a shell as commands, but for those in a notebook's cells."""
        if self.face == "magic":
            return text
        return "".join(part if _OF_CELLS.search(part) else _as_commands(part) for part in _SENTENCES.split(text))


def _as_commands(text: str) -> str:
    text = _PROGRAMS.sub(r"\1", text)
    return _MAGIC.sub(r"colab-magics \1", _HELP.sub(r"colab-magics \1 --help", text))


MAGIC = Words("magic")
SHELL = Words("shell")
