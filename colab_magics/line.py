"""The grammar of a line: ``[word] positional… key=value --flag -- rest`` as tokens.

The standard library's shell splitter would trip over apostrophes in prose and over ``#`` inside values, so this one
has fewer rules: a quote opens only where a token starts or right after ``key=``; white space and ``#`` begin a comment;
a final ``;`` is dropped, as everywhere in notebooks; ``{…}`` keeps its spaces; ``--`` ends options and expansions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .errors import InvalidInput

_KEY = re.compile(r"(?:--?)?[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)?=")
_OPTION = re.compile(r"([A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)?)=(?!=)")


@dataclass(frozen=True)
class Token:
    """One word of a line.

    Parameters
    ----------
    text : str
        The word without its quotes.
    quoted : bool
        A quote opened at its start: then it is a value, whatever it looks like.
    """

    text: str
    quoted: bool = False

    def as_option(self) -> Token:
        """Read ``key=value`` as ``--key=value``; other words, and quoted ones, stay."""
        match = None if self.quoted else _OPTION.match(self.text)
        if match is None:
            return self
        return replace(self, text=f"--{match[1].replace('_', '-')}={self.text[match.end() :]}")


@dataclass
class Line:
    """A line that was split.

    Parameters
    ----------
    tokens : list of Token
        The words before ``--``.
    rest : list of str or None
        The words after ``--``; None when there is no ``--``.
    """

    tokens: list[Token] = field(default_factory=list)
    rest: list[str] | None = None


def split(text: str) -> Line:
    """Split a line.

    Raises
    ------
    InvalidInput
        When a quote is opened and never closed.
    """
    line = Line()
    for token, _, _ in _tokens(text):
        if line.rest is not None:
            line.rest.append(token.text)
        elif _ends_options(token):
            line.rest = []
        else:
            line.tokens.append(token)
    return line


def with_option(text: str, key: str, value: str) -> str:
    """Write an option into a line: in the place of its value there, else behind the other options.

    Parameters
    ----------
    text : str
        The line, without its verb; a backslash at the end of a row goes on in the next.
    key, value : str
        The option. Whoever executes the line reads this very value, whatever stands in it.

    Raises
    ------
    InvalidInput
        When a quote is opened and never closed.
    """
    end = 0
    # Of the same length: what is found there stands at the same place here.
    for token, start, stop in _tokens(text.replace("\\\n", "  ")):
        if _ends_options(token):
            break
        end = stop - (text[stop - 1] == ";" and not token.text.endswith(";"))
        if token.as_option().text.partition("=")[0] == f"--{key}" and "=" in token.text:
            return f"{text[:start]}{key}={_written(value)}{text[stop:]}"
    return f"{text[:end]} {key}={_written(value)}{text[end:]}"


def _written(value: str) -> str:
    """Write a value so that reading and expanding it gives it again."""
    text = value.replace("$", "$$").replace("{", "{{").replace("}", "}}")
    if re.fullmatch(r"[\w.+@%/:-]+", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _ends_options(token: Token) -> bool:
    return token.text == "--" and not token.quoted


def _tokens(text: str) -> Iterator[tuple[Token, int, int]]:
    """Yield the words of a line, and where each begins and ends."""
    at, braces = 0, True
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at >= len(text) or text[at] == "#":
            return
        start = at
        token, at = _token(text, at, braces=braces)
        if token is not None:
            braces = braces and not _ends_options(token)
            yield token, start, at


def _token(text: str, at: int, *, braces: bool) -> tuple[Token | None, int]:
    """Read the token that starts at `at`; None for a lone final ``;``."""
    start, parts, plain = at, [], False
    key = _KEY.match(text, at)
    if key:
        parts.append(key[0])
        at = key.end()
    opened = at
    while at < len(text) and not text[at].isspace():
        if text[at] in "'\"" and at == opened:
            part, at = _quoted(text, at)
            plain = False
        elif braces and text[at] == "{":
            part, at, plain = *_braced(text, at), True
        else:
            part, at, plain = text[at], at + 1, True
        parts.append(part)
    word = "".join(parts)
    if plain and word.endswith(";") and not word.endswith(r"\;") and _is_end(text, at):
        word = word[:-1]
        if not word:
            return None, at
    return Token(word, quoted=text[start] in "'\""), at


def _is_end(text: str, at: int) -> bool:
    after = text[at:].lstrip()
    return not after or after.startswith("#")


def _quoted(text: str, at: int) -> tuple[str, int]:
    r"""Read a quoted part: ``'as it is'``, or ``"with \" and \\"``."""
    quote, parts, here = text[at], [], at + 1
    while here < len(text) and text[here] != quote:
        if quote == '"' and text[here] == "\\" and text[here + 1 : here + 2] in ('"', "\\"):
            here += 1
        parts.append(text[here])
        here += 1
    if here >= len(text):
        raise InvalidInput(
            f"A quote is opened and never closed: {text[at:]}", f"Close it with {quote}, or quote the whole word."
        )
    return "".join(parts), here + 1


def _braced(text: str, at: int) -> tuple[str, int]:
    """Read ``{…}`` with its spaces, or ``{{``; a brace that is never closed stands for itself."""
    if text.startswith("{{", at):
        return "{{", at + 2
    depth, quote = 0, ""
    for here in range(at, len(text)):
        char = text[here]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "{}":
            depth += 1 if char == "{" else -1
            if depth == 0:
                return text[at : here + 1], here + 1
    return "{", at + 1
