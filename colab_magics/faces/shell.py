"""How the shell shows what verbs return and say: what they write as magics is written as commands there."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from .. import session
from ..errors import ColabMagicsError
from ..ui import Live, Table, TerminalUI, is_window
from .signature import SHELL


class ShellUI(TerminalUI):
    """The face of the program ``colab-magics``."""

    def say(self, text: str) -> None:
        super().say(SHELL.text(text))

    def ask(self, question: str) -> bool:
        return super().ask(SHELL.text(question))

    def choose(self, question: str, answers: Sequence[str]) -> str:
        return super().choose(SHELL.text(question), answers)

    @contextmanager
    def live(self, *, screen: bool = False) -> Iterator[Live]:
        with super().live(screen=screen) as table:
            yield _InWords(table)


@dataclass
class _InWords:
    """A live table whose notes name commands."""

    live: Live

    @property
    def stays(self) -> bool:
        return self.live.stays

    def show(self, table: Table) -> None:
        self.live.show(_in_words(table))


def _in_words(table: Table) -> Table:
    """Write the notes as the shell speaks; rows are the runs' own words, which stay as they are."""
    return replace(table, notes=[SHELL.text(note) for note in table.notes])


_SIGNS = dict(zip("…·×→–—»■█▇▆▅▄▃▂▁━─“”‘’", ".-x>-->*87654321=-\"\"''", strict=True))
"""What stands for our signs where a terminal cannot show them; as wide as they are, so that columns stay columns."""


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_SIGNS.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


def install() -> None:
    """Have the session of this process, a script's until now, speak as a shell does, also where that is not UTF-8."""
    codecs.register_error("colab_magics", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="colab_magics")
    shell = session.current()
    if type(shell.ui) is TerminalUI:
        shell.ui = ShellUI(shell.ui.out, shell.ui.where)


def as_text(result: Any) -> str:
    """Write what a verb returned."""
    overview = getattr(type(result), "overview", None)
    table = overview(result) if overview is not None else result
    if isinstance(table, Table):
        table = _in_words(table)
        if not is_window(sys.stdout):
            return table.text()
        from ..ui.screen import painted

        return painted(table, sys.stdout)
    if getattr(result, "empty", None) is True:
        return "no rows"
    # A DataFrame prints itself with columns and rows left out.
    write = getattr(type(result), "to_string", str)
    return str(write(result))


def error_text(error: ColabMagicsError) -> str:
    """Write an error; what stands below its first line may be a log or a user's code, and stays as it is."""
    first, newline, details = error.what.partition("\n")
    return str(ColabMagicsError(SHELL.text(first) + newline + details, SHELL.text(error.mend)))
