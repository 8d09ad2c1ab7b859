"""Help as plain text, in the grammar of the face that was asked: the usage line, then the verb's own docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from ..errors import ColabMagicsError
from ..verbs import VERBS, load, subcommands
from .signature import Option, Words, option_of, options, positionals, takes_others


def summary(function: Callable[..., Any]) -> str:
    """Return the first line of a docstring."""
    return _plain((inspect.getdoc(function) or "").partition("\n")[0])


def usage(name: str, word: str | None, face: Words) -> str:
    """Write the usage line of a verb or of a subcommand."""
    function = subcommands(load(name))[word] if word else load(name)
    parts = [face.verb(name, word)]
    for parameter in positionals(function):
        shown = parameter.name.upper()
        if parameter.kind is parameter.VAR_POSITIONAL:
            parts.append(f"[{shown} …]")
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            parts.append(f"[{shown}]" if parameter.default is not parameter.empty else shown)
    parts += [_usage(option, face) for option in options(function).values()]
    return " ".join(parts)


def _usage(option: Option, face: Words) -> str:
    value = "|".join(option.choices) or option.word.upper().replace("-", "_")
    if option.flag:
        return f"[{face.option(option)}]"
    text = f"{face.option(option)}{value}" if face.face == "magic" else f"{face.option(option)} {value}"
    return text if option.default is inspect.Parameter.empty else f"[{text}]"


def verb_help(name: str, word: str | None, face: Words) -> str:
    """Write all there is to say about a verb, or about one of its subcommands."""
    function = subcommands(load(name))[word] if word else load(name)
    parts = [usage(name, word, face)]
    if word is None and subcommands(function):
        parts[0] += "".join(f"\n{usage(name, sub, face)}" for sub in subcommands(function))
    text = _named(inspect.getdoc(function) or "", options(function), face)
    if takes_others(function):
        text = "\n\n".join([text, *_of_engines(face)])
    return "\n\n".join([*parts, text]) if text else parts[0]


def _of_engines(face: Words) -> Iterator[str]:
    """Write the options that engines have of their own, those that can be used here."""
    from ..engines import ENGINES, engine_class
    from ..engines.options import fields

    for name in ENGINES.names():
        with suppress(ColabMagicsError, ImportError):
            kind = engine_class(name).Options
            known = {key: option_of(key, hint) for key, hint in fields(kind).items()}
            if known:
                yield f"Options of on={name}\n\n" + _named(inspect.getdoc(kind) or "", known, face)


def _named(text: str, known: dict[str, Option], face: Words) -> str:
    """Write parameters, and in the shell magics, as users of this face do."""
    shell = face.face == "shell"
    by_name = {option.name: f"--{option.word}" if shell else option.name.rstrip("_") for option in known.values()}
    text = re.sub(
        r"(?m)^\w[\w, ]*(?= : )", lambda line: re.sub(r"\w+", lambda name: by_name.get(name[0], name[0]), line[0]), text
    )
    return face.text(_plain(text))


def _plain(text: str) -> str:
    """Take the marks of reStructuredText away."""
    text = re.sub(r"``(.+?)``|`([^`\s](?:[^`\n]*[^`\s])?)`", lambda found: found[1] or found[2], text, flags=re.DOTALL)
    text = re.sub(r"(?m)(?<=\S)::$", ":", text)
    text = re.sub(r"(?m)^\*+(?=\w.* : )", "", text)
    return re.sub(r"(?m)^(\w+)\n-{3,}$", r"\1:", text)


def overview() -> str:
    """Write the shell's list of verbs."""
    lines = [f"  {name:<9} {summary(load(name))}" for name in VERBS]
    return "\n".join(
        [
            "colab-magics VERB [word] [key=value | --key value] [--flag] [-- rest]",
            "",
            "Verbs:",
            *lines,
            "",
            "colab-magics VERB --help says more about one of them.",
            "colab-magics completion bash|zsh|fish writes what makes Tab complete them.",
        ]
    )
