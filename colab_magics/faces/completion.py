"""Tab in a magic's line: subcommands, options, their values, paths.

IPython 8.6 and later asks matchers with the whole context; 7.34 (Colab) asks hooks by the line's first word. Both call
`candidates`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from ..errors import ColabMagicsError
from ..verbs import VERBS, load, subcommands
from . import engine_options, values
from .signature import HOSTS, MAGIC, PATHS, Option, options, positionals

_LINE = re.compile(rf"(?:\s*[\w.]+\s*=)?\s*%%?({'|'.join(VERBS)})\s+(.*)", re.DOTALL)


def candidates(text: str) -> tuple[str, list[str]] | None:
    """Find what can stand at the end of a line.

    Parameters
    ----------
    text : str
        The line up to the cursor.

    Returns
    -------
    tuple or None
        The fragment that a candidate replaces, and the candidates; None when this is no line of ours.
    """
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    words = match[2].split()
    current = words.pop() if match[2] and not match[2][-1].isspace() else ""
    if "--" in words:
        return current, []
    verb = load(match[1])
    subs = subcommands(verb)
    function = subs[words[0]] if words and words[0] in subs else verb
    known = options(function) | _of_engine(function, words)
    key, equals, value = current.partition("=")
    if equals and ("$" in value or "{" in value):
        return None  # the notebook's own names
    if equals:
        option = known.get(key.lstrip("-").replace("_", "-"))
        if option is None:
            return current, []
        found = values.of_option(match[1], option.name, value)
        found += _paths(value) if option.name in PATHS else []
        found += values.hosts() if option.name in HOSTS else list(option.choices)
        return current, [f"{key}={item}" for item in found if item.startswith(value)]
    used = {word.lstrip("-").partition("=")[0].replace("_", "-") for word in words}
    found = sorted(subs) if not words else []
    found += [MAGIC.option(option) for word, option in known.items() if word not in used]
    takes = {parameter.name for parameter in positionals(function)}
    placed = [word for word in (words[1:] if function is not verb else words) if not word.startswith("-")]
    found += values.of_position(match[1], takes, sum("=" not in word for word in placed), current)
    if takes & PATHS and current:
        found += _paths(current)
    if takes & HOSTS:
        found += values.hosts()
    return current, [item for item in found if item.startswith(current)]


def _of_engine(function: Callable[..., Any], words: Iterable[str]) -> dict[str, Option]:
    """Return the options of the engine that a line names; none where that is still being written."""
    with suppress(ColabMagicsError):
        return engine_options.known(function, words)
    return {}


def _paths(start: str) -> list[str]:
    """Return the files and folders that a path's beginning may mean; those with spaces cannot stand unquoted."""
    folder, name = os.path.split(start)
    try:
        entries = sorted(os.scandir(os.path.expanduser(folder) or "."), key=lambda entry: entry.name)
    except OSError:
        return []
    return [
        os.path.join(folder, entry.name) + ("/" if entry.is_dir() else "")
        for entry in entries
        if entry.name.startswith(name)
        and (name or not entry.name.startswith("."))
        and not re.search(r"[\s'\"{$;]", entry.name)
    ]


class _Matchers:
    """Completion on IPython 8.6 and later."""

    def __init__(self, ip: Any) -> None:
        from IPython.core.completer import context_matcher

        @context_matcher()  # type: ignore[untyped-decorator]
        def colab_magics_matcher(context: Any) -> dict[str, Any]:
            return _matcher_result(context)

        self.matchers, self.matcher = ip.Completer.custom_matchers, colab_magics_matcher
        self.matchers.append(self.matcher)

    def remove(self) -> None:
        if self.matcher in self.matchers:
            self.matchers.remove(self.matcher)


def _matcher_result(context: Any) -> dict[str, Any]:
    from IPython.core.completer import SimpleCompletion

    line = context.line_with_cursor[: context.cursor_position]
    above = context.full_text.split("\n")[: context.cursor_line]
    found = values.of_body("\n".join([*above, line])) or candidates(line)
    if found is None:
        return {"completions": [], "suppress": False}
    fragment, items = found
    return {
        "completions": [SimpleCompletion(text=item, type="param") for item in _or_itself(fragment, items)],
        "matched_fragment": fragment,
        "suppress": True,
        "ordered": True,
    }


class _Hooks:
    """Completion on IPython 7.34."""

    def __init__(self, ip: Any) -> None:
        self.ip = ip
        for key in self._keys():
            ip.set_hook("complete_command", _hook, str_key=key)

    @staticmethod
    def _keys() -> Iterator[str]:
        for name in VERBS:
            yield from (f"%{name}", f"%%{name}")

    def remove(self) -> None:
        known = self.ip.strdispatchers["complete_command"].strs
        for key in self._keys():
            chain = known.get(key)
            if chain is None:
                continue
            chain.chain = [(priority, f) for priority, f in chain.chain if getattr(f, "__func__", None) is not _hook]
            if not chain.chain:
                del known[key]


def _hook(shell: Any, event: Any) -> list[str]:
    found = candidates(event.text_until_cursor)
    if found is None:
        return []
    fragment, items = found
    # IPython 7 replaces only `event.symbol`, the part after the last delimiter such as "=".
    cut = len(fragment) - len(event.symbol) if fragment.endswith(event.symbol) else 0
    return [item[cut:] for item in _or_itself(fragment, items)]


def _or_itself(fragment: str, items: list[str]) -> list[str]:
    """Return what is offered, else what stands there: where there is nothing IPython offers Python's names."""
    return items or ([fragment] if fragment else [])


def install(ip: Any) -> Any:
    """Add Tab to a shell; the result's ``remove()`` takes it away again."""
    from IPython.core import completer

    return _Matchers(ip) if hasattr(completer, "context_matcher") else _Hooks(ip)
