"""How the shell shows what verbs return and say: what they write as magics is written as commands there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from .. import session
from ..errors import ColabMagicsError
from ..ui import Live, Table, TerminalUI
from .signature import SHELL


class ShellUI(TerminalUI):
    """The face of the program ``colab-magics``."""

    def say(self, text: str) -> None:
        super().say(SHELL.text(text))

    def ask(self, question: str) -> bool:
        return super().ask(SHELL.text(question))

    @contextmanager
    def live(self) -> Iterator[Live]:
        # Its rows are the runs' own words, which stay as they are.
        with TerminalUI(self.out, self.where).live() as table:
            yield table


def install() -> None:
    """Have the session of this process, a script's until now, speak as a shell does."""
    shell = session.current()
    if type(shell.ui) is TerminalUI:
        shell.ui = ShellUI(shell.ui.out, shell.ui.where)


def as_text(result: Any) -> str:
    """Write what a verb returned."""
    overview = getattr(type(result), "overview", None)
    table = overview(result) if overview is not None else result
    if isinstance(table, Table):
        return replace(table, notes=[SHELL.text(note) for note in table.notes]).on_terminal()
    # A DataFrame prints itself with columns and rows left out.
    write = getattr(type(result), "to_string", str)
    return str(write(result))


def error_text(error: ColabMagicsError) -> str:
    """Write an error; what stands below its first line may be a log or a user's code, and stays as it is."""
    first, newline, details = error.what.partition("\n")
    return str(ColabMagicsError(SHELL.text(first) + newline + details, SHELL.text(error.mend)))
