"""What a line of ours does in a run: no more than the run needs.

The main notebook has read the words of ``%project`` and ``%fork`` already, with all its checks; in each of its runs the
lines only give the run its variables and its folder, and ``%sync`` starts nothing. So they are called without the
machinery that reads options, which takes longer than all else that they do. Where a kernel is forked (``start=warm``)
this module has been imported before, and with it all that the lines need.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..checkout import folders as _folders  # noqa: F401 - what %project imports when it is called
from ..line import Line
from ..runs import in_run as _in_run  # noqa: F401 - what %fork and %join import then
from ..verbs import load

_WITHOUT_WORDS = {name: load(name) for name in ("project", "fork", "join")}
_stop = load("stop")


def short(name: str, line: Line) -> Callable[[], Any] | None:
    """Return what a line does in a run; None where its words must be read.

    Parameters
    ----------
    name : str
        The verb.
    line : Line
        Its words.
    """
    words = [token.as_option().text for token in line.tokens]
    options = [word for word in words if word.startswith("-")]
    if name == "stop":
        plain = line.rest is None and not options and not {*"${}"} & {*"".join(words)}
        return functools.partial(_stop, *words) if plain else None
    if name == "sync" and words == options:
        return load("sync")  # a word may be a folder, or a subcommand
    return _WITHOUT_WORDS.get(name)
