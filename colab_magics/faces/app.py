"""From words to a call: the one way that every magic and every shell command takes.

words → options → the cell's body → defaults of files → cyclopts (types) → the verb. cyclopts is imported here, at
the first call: loading the extension must not wait for it.
"""

from __future__ import annotations

import errno
import inspect
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import session
from ..errors import ColabMagicsError, InvalidInput, did_you_mean, nearest
from ..files import DEAD_MOUNT
from ..verbs import load, subcommands
from . import engine_options
from .bodies import read_body
from .defaults import defaults
from .signature import PATHS, Option, Words, options, parsable, positionals

_SLIP = 0.66
"""How near a word must come to a subcommand to be a slip of the pen, where it may also be a value."""


def call(name: str, words: Sequence[str], rest: Sequence[str] | None, *, body: str | None, face: Words) -> Any:
    """Call a verb with the words of a line.

    Parameters
    ----------
    name : str
        The verb.
    words : sequence of str
        What stands before ``--``, options as ``--key=value``.
    rest : sequence of str or None
        What stands after ``--``.
    body : str or None
        The cell below a cell magic.
    face : Words
        How this face writes verbs and options, for messages.

    Returns
    -------
    Any
        The verb's handle.

    Raises
    ------
    ColabMagicsError
        For everything that the user can mend.
    """
    function, word, words = choose(name, words, face)
    shown = face.verb(name, word)
    known = options(function)
    tokens = _spelled_out(words, function)
    data = getattr(function, "body", None)
    values = read_body(name, word, body) if body is not None else {}
    if not data:
        tokens += _body_tokens(values, given(tokens))
    present = given(tokens)
    usual = as_tokens(defaults(name, word, _here(), present))
    of_engine = {key: one for key, one in engine_options.known(function, [*usual, *tokens]).items() if key not in known}
    _check_options(tokens, known, of_engine, shown, face)
    tokens = list(_in_their_case(tokens, known))
    tokens, more = engine_options.take(tokens, of_engine)
    tokens += usual
    bound = _parse(function, [*tokens, *(["--", *rest] if rest is not None else [])], known, shown, face)
    cell: tuple[Any, ...] = ()
    named: dict[str, Any] = {}
    if data and body is not None:
        by_name = inspect.signature(function).parameters[data].kind is inspect.Parameter.KEYWORD_ONLY
        cell, named = ((), {data: values}) if by_name else ((values,), {})
    try:
        return function(*cell, *bound.args, **bound.kwargs, **named, **more)
    except InvalidInput as error:
        first = next(iter(words), "")
        if not error.what.startswith(repr(first)):
            raise
        if first in known and not known[first].flag:
            raise InvalidInput(f"{first} has no value.", f"Write {shown} {first}=…; see {_help(shown, face)}") from None
        near = nearest(first, subcommands(function), cutoff=_SLIP) if word is None else None
        if near is None:
            raise
        others = error.mend.partition("Known: ")
        raise InvalidInput(
            error.what, f"Did you mean {face.verb(name, near)}? {''.join(others[1:]) or error.mend}"
        ) from None
    except OSError as error:
        if error.errno not in _MENDS:
            raise  # nobody has foreseen it: where it came from is what helps
        raise _from_os(error, shown) from error


def choose(name: str, words: Sequence[str], face: Words) -> tuple[Callable[..., Any], str | None, list[str]]:
    """Choose between a verb and its subcommands.

    Returns
    -------
    tuple
        The function, the subcommand's word or None, the other words.
    """
    verb = load(name)
    subs = subcommands(verb)
    if not words or words[0].startswith("-"):
        return verb, None, list(words)
    first = words[0]
    if first in subs:
        return subs[first], first, list(words[1:])
    taken = positionals(verb)
    # A verb that also takes a path reads an unknown word as one, unless it is a slip of the pen.
    slip = bool(taken) and taken[0].name in (*PATHS, "host") and first.isalpha() and not os.path.exists(first)
    if subs and (not taken or (slip and nearest(first, subs, cutoff=_SLIP))):
        raise did_you_mean(first, subs, kind=f"subcommand of {face.verb(name)}")
    return verb, None, list(words)


def _spelled_out(words: Sequence[str], function: Callable[..., Any]) -> list[str]:
    """Write letters as the options they mean, and give options that stand alone their value."""
    letters: Mapping[str, str] = getattr(function, "short", {})
    values: Mapping[str, str] = getattr(function, "bare", {})
    tokens = [letters.get(token, token) for token in words]
    return [
        f"{token}={values[token]}" if token in values and after.startswith("-") else token
        for token, after in itertools.pairwise([*tokens, "--"])
    ]


def given(tokens: Iterable[str]) -> set[str]:
    """Return the options that the tokens name; ``--no-flag`` names ``flag``."""
    names = {token[2:].partition("=")[0].replace("_", "-") for token in tokens if token.startswith("--")}
    return names | {name.removeprefix("no-") for name in names}


def as_tokens(values: Mapping[str, Any]) -> list[str]:
    """Write values of a file as options.

    Raises
    ------
    InvalidInput
        For a value that no line could hold: a table, or a list item with a comma in it.
    """
    return [f"--{key.replace('_', '-')}={_text(key, value)}" for key, value in values.items()]


def _text(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        raise InvalidInput(f"{key} is a table; a value is expected.", f'Write {key} = "value".')
    if isinstance(value, list):
        items = [_text(key, item) for item in value]
        if any("," in item for item in items):
            raise InvalidInput(f"{key}: an item of the list holds a comma.", "Take the comma out of the name.")
        return ",".join(items)
    return str(value)


def _body_tokens(values: Mapping[str, Any], present: set[str]) -> list[str]:
    twice = sorted(key for key in values if key.replace("_", "-") in present)
    if twice:
        raise InvalidInput(f"{twice[0]} stands in the line and in the cell below it.", "Keep one of the two.")
    return as_tokens(values)


def _here() -> Path:
    """Return where to look for the project's defaults."""
    project = session.current().project
    return Path(project.root) if project is not None else Path.cwd()


def _in_their_case(tokens: Iterable[str], known: Mapping[str, Option]) -> Iterator[str]:
    """Write values of which there are a few as they are called: ``gpu=t4`` means ``T4``."""
    before = ""
    for token in tokens:
        key, equals, value = token.partition("=") if token.startswith("--") else (before, "", token)
        option = known.get(key[2:].replace("_", "-"))
        own = {choice.lower(): choice for choice in option.choices} if option is not None else {}
        yield f"{key}{equals}{own.get(value.lower(), value)}" if equals else own.get(token.lower(), token)
        before = token if token.startswith("--") else ""


def _check_options(
    tokens: Sequence[str], known: Mapping[str, Option], others: Mapping[str, Option], shown: str, face: Words
) -> None:
    """Refuse an unknown option in the words of the face, before cyclopts would in its own."""
    for token in tokens:
        if not re.match(r"--?[A-Za-z]", token):
            continue
        word = token.lstrip("-").partition("=")[0].replace("_", "-")
        positive = known.get(word.removeprefix("no-"))
        if token.startswith("--") and (word in known or (positive is not None and positive.flag)):
            _check_number(token, known.get(word), shown, face)
            continue
        if token.startswith("--") and engine_options.of_word(word, others) is not None:
            continue
        wrote = face.option(word) if "=" in token else token
        if not known:
            raise InvalidInput(f"{shown} has no options, so {wrote!r} is none.", "Quote it if it is a value.")
        all_of_them = [*known.values(), *others.values()]
        raise did_you_mean(wrote, [face.option(option) for option in all_of_them], kind=f"option of {shown}")


def _check_number(token: str, option: Option | None, shown: str, face: Words) -> None:
    """Refuse what is no whole number where one is meant: cyclopts would round it."""
    _, equals, value = token.partition("=")
    if option is None or not option.whole or not equals:
        return
    try:
        is_whole = float(value).is_integer()
    except ValueError:
        is_whole = False
    if not is_whole:
        wrote = face.option(option).removesuffix("=")
        raise InvalidInput(f"{wrote}={value} is no whole number.", f"Write one: {wrote}=3; see {_help(shown, face)}")


def _parse(
    function: Callable[..., Any], tokens: list[str], known: Mapping[str, Option], shown: str, face: Words
) -> Any:
    import cyclopts

    app = cyclopts.App(name=function.__name__, help_flags=(), version_flags=())
    app.default(parsable(function))
    try:
        return app.parse_args(tokens, exit_on_error=False, print_error=False)[1]
    except cyclopts.CycloptsError as error:
        mend = _mend(error, function, shown, face) or f"See {_help(shown, face)}"
        raise InvalidInput(_in_words(error, known, shown, face), mend) from None


def _mend(error: Exception, function: Callable[..., Any], shown: str, face: Words) -> str:
    """Say what was meant by a lone number, and what is missing; empty where that cannot be told."""
    unused = [str(word) for word in getattr(error, "unused_tokens", None) or ()]
    if type(error).__name__ == "UnusedCliTokensError":
        meant = len(unused) == 1 and unused[0].isdecimal() and "n" in options(function)
        return f"Did you mean {shown} n={unused[0]}?" if meant else ""
    if _missing(error):
        needed = [one.name.upper() for one in positionals(function) if one.kind is one.POSITIONAL_ONLY]
        return f"Write {shown} {' '.join(needed)}; see {_help(shown, face)}"
    return ""


def _missing(error: Exception) -> str:
    """Return the positional that was not said; empty when it is something else that is wrong."""
    name = str(getattr(getattr(error, "argument", None), "name", ""))
    return name if type(error).__name__ == "MissingArgumentError" and not name.startswith("-") else ""


def _in_words(error: Exception, known: Mapping[str, Option], shown: str, face: Words) -> str:
    """Say what cyclopts found in the words of the face."""
    if type(error).__name__ == "UnusedCliTokensError":
        unused = getattr(error, "unused_tokens", ())
        return f"{shown}: nothing is meant by {' '.join(map(repr, unused)) or 'the last word'}."
    if missing := _missing(error):
        return f"{shown}: {missing} is missing."
    text = " ".join(str(error).split())
    return f"{shown}: " + re.sub(
        r"--([A-Za-z][\w-]*)", lambda match: face.option(known.get(match[1], match[1])).removesuffix("="), text
    )


def _help(shown: str, face: Words) -> str:
    return f"{shown.split()[0]}?" if face.face == "magic" else f"{shown} --help"


_MENDS = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Choose a place where you may write."),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some space, or choose another place."),
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE), "Close what is open (a restart of the kernel does), or raise ulimit -n."
    ),
    **dict.fromkeys((errno.ENOMEM, errno.EAGAIN), "End something that takes memory or processes, then say it again."),
    **dict.fromkeys(
        (errno.EIO, errno.ENXIO, *DEAD_MOUNT),
        "The disk or its mount has a problem: look at it, then say it again.",
    ),
    errno.ENAMETOOLONG: "Choose shorter names.",
}
"""What a user can do about what the system refuses."""


def _from_os(error: OSError, shown: str) -> ColabMagicsError:
    reason = error.strerror or str(error)
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ColabMagicsError(
        f"could not {shown}: {': '.join([reason, ' → '.join(names)] if names else [reason])}",
        _MENDS[error.errno or 0],
    )
