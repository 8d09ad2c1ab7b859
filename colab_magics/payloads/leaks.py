"""Secrets in a notebook that is about to go elsewhere: values that this process knows, and texts in the form of keys.

What is found is named, never shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .code import source_of

SHORTEST = 8
"""Shorter values stand in texts by chance."""

_NAMES = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
_FORMS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a token of Hugging Face": r"\bhf_[A-Za-z0-9]{30,}",
    "a token of GitHub": r"\b(gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{50,})",
    "a token of GitLab": r"\bglpat-[\w-]{20,}",
    "a key of OpenAI or Anthropic": r"\bsk-(proj-|ant-)?[\w-]{32,}",
    "a key of Amazon": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a key of Google": r"\bAIza[\w-]{35}\b",
    "a token of Google": r"\bya29\.[\w-]{30,}",
    "a token of Slack": r"\bxox[baprs]-[\w-]{20,}",
    "a password in a URL": r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/:@*]{4,}@",
}
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def known(environment: Mapping[str, str], named: Iterable[str] = ()) -> dict[str, str]:
    """Return the secrets of an environment: those that are named, and those whose names sound so.

    Parameters
    ----------
    environment : mapping
        Values by name.
    named : iterable of str
        Names that are secrets, whatever they sound like.
    """
    names = set(named)
    return {
        name: value
        for name, value in environment.items()
        if len(value) >= SHORTEST and (name in names or _NAMES.search(name))
    }


def in_outputs(content: Mapping[str, Any], secrets: Mapping[str, str]) -> list[str]:
    """Say what secrets the outputs of a notebook hold, and where: ``cell 3: the value of HF_TOKEN``."""
    return _found(content, secrets, lambda cell: _texts(cell.get("outputs", [])))


def in_sources(content: Mapping[str, Any], secrets: Mapping[str, str]) -> list[str]:
    """Say what secrets the cells themselves hold, and where."""
    return _found(content, secrets, lambda cell: iter([source_of(cell)]))


def _found(content: Mapping[str, Any], secrets: Mapping[str, str], texts: Any) -> list[str]:
    told: dict[str, None] = {}
    for number, cell in enumerate(content.get("cells", []), start=1):
        text = "\n".join(_COLOURS.sub("", one) for one in texts(cell))
        told |= {f"cell {number}: the value of {name}": None for name, value in secrets.items() if value in text}
        told |= {f"cell {number}: {what}": None for what, form in _FORMS.items() if re.search(form, text)}
    return list(told)


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts of outputs, without pictures."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        # The rows of one text may stand as a list.
        if value and all(isinstance(one, str) for one in value):
            yield "".join(value)
            return
        for one in value:
            yield from _texts(one)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield str(key)
            if not str(key).startswith(("image/", "video/", "audio/", "application/pdf")):
                yield from _texts(one)
