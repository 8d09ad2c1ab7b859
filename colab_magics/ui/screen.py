"""Tables in a terminal, by rich: with colours, and live in the whole window as long as something moves."""

from __future__ import annotations

import os
import signal
import socket
import sys
import textwrap
import threading
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import FrameType, TracebackType
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions
from rich.console import Group as Lines
from rich.live import Live
from rich.style import Style
from rich.text import Text

from ..units import without_controls
from .grid import GAP, cut
from .table import Table, kind_of, no_room

_STYLES = {"done": "green", "failed": "bold red", "running": "bold cyan", "": ""}
"""Of the terminal's own sixteen colours, which suit its background, dark or light."""
_BAR = 30
_SAID = 3
"""So many of the lines that were said meanwhile stand below the table."""
_HINT = "Ctrl-C stops watching; the runs go on."
_ENDING = (signal.SIGTERM, signal.SIGHUP)


def painted(table: Table, out: TextIO) -> str:
    """Write a table as lines for a terminal, as far as they fit its width; notes break where the terminal does."""
    console = Console(file=out, highlight=False)
    with console.capture() as shown:
        for line in _lines(table, console.width, console.options):
            console.print(line, soft_wrap=True)
    return shown.get().rstrip("\n")


class Screen:
    """A table that has a terminal's whole window, until it is left; then the last one stays as lines.

    Parameters
    ----------
    out : file object
        The terminal.
    """

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.console = Console(file=out, highlight=False)
        self.live = Live(console=self.console, screen=True, auto_refresh=False, redirect_stdout=False,
                         redirect_stderr=False)  # fmt: skip
        self.newest: Table | None = None
        self.said: list[str] = []
        self.before: dict[signal.Signals, Any] = {}

    @property
    def stays(self) -> bool:
        """See `Live.stays`: results are shown in the same terminal."""
        return sys.stdout.isatty()

    def show(self, table: Table) -> None:
        """Show `table` in place of the one before."""
        self.newest = table
        self._paint()

    def say(self, text: str) -> None:
        """Show lines below the table, and again when the screen is left."""
        self.said.append(text)
        self._paint()

    def _paint(self) -> None:
        if self.newest is not None:
            self.live.update(_Page(self.newest, self.said[-_SAID:]), refresh=True)

    def __enter__(self) -> Screen:
        # A program that is ended or stopped must not leave the terminal without its cursor.
        if threading.current_thread() is threading.main_thread():
            for number, handler in {**dict.fromkeys(_ENDING, _end), signal.SIGTSTP: self._sleep}.items():
                if signal.getsignal(number) is signal.SIG_DFL:
                    self.before[number] = signal.signal(number, handler)
        self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.live.stop()
        for number, handler in self.before.items():
            signal.signal(number, handler)
        for line in self.said:
            print(line, file=self.out)
        if self.newest is not None:
            print(painted(self.newest, self.out), file=self.out, flush=True)

    def _sleep(self, number: int, frame: FrameType | None) -> None:
        """Give the window back while the program is stopped by Ctrl-Z."""
        self.live.stop()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # Here somebody has said fg.
        signal.signal(number, self._sleep)
        self.live.start()
        self._paint()


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


class _Page:
    """A table in a window of any size: rows that there is no room for are counted."""

    def __init__(self, table: Table, said: Sequence[str]) -> None:
        self.table, self.said = table, said

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        width, height = options.max_width, options.height or console.height
        below = [part for text in (*self.table.notes, *self.said) for part in _wrapped(text, width)]
        below = below[: max(1, height // 3)]
        hint = [Text(_HINT[:width], style="dim")]
        table = replace(self.table, notes=())
        lines = list(_lines(table, width, options))
        if (over := len(lines) + len(below) + len(hint) - height) > 0:
            rows = max(0, len(table.rows) - over - 1)
            below.insert(0, f"… and {len(table.rows) - rows} more in a higher window"[:width])
            lines = list(_lines(replace(table, rows=table.rows[:rows]), width, options))
        yield Lines(*lines, *(Text(without_controls(part)) for part in below), *hint)


def _wrapped(text: str, width: int) -> list[str]:
    return [part for line in text.split("\n") for part in textwrap.wrap(line, width, subsequent_indent="  ") or [""]]


def _lines(table: Table, width: int, options: ConsoleOptions) -> Iterator[Text]:
    """Write a table as lines with styles."""
    if table.caption:
        yield from (Text(part) for part in _wrapped(without_controls(table.caption), width))
    if table.share is not None:
        yield _bar(table.share, table.left, width, plain=not options.encoding.startswith("utf"))
    shown, left_out = table.grid(width)
    if shown:
        yield Text(GAP.join(shown[0]).rstrip(), style="bold")
    for cells, row in zip(shown[1:], table.rows, strict=False):
        yield _row(cells, [str(cell) for cell in row], table.links)
    if left_out:
        yield Text(cut(no_room(left_out), width), style="dim")
    yield from (Text(without_controls(note)) for note in table.notes)


def _row(cells: Sequence[str], row: Sequence[str], links: Mapping[str, Sequence[tuple[str, Any]]]) -> Text:
    is_best = row[1].endswith("· best")
    line = Text(no_wrap=True)
    for i, cell in enumerate(cells):
        style = Style()
        if i == 0 and (found := links.get(row[0])):
            style = Style(link=_uri(str(found[0][1])), bold=is_best)
        elif i == 1:
            style = Style.parse("dim" if row[1] == "waiting" else _STYLES[kind_of(row[1])])
        text = without_controls(cell)
        bare = text.strip(" ")
        start = text.index(bare) if bare else 0
        # What is empty around a word is no part of a link.
        line.append(text[:start] if bare else text)
        line.append(bare, style)
        line.append(text[start + len(bare) :] if bare else "")
        line.append(GAP if i < len(cells) - 1 else "")
    line.rstrip()
    return line


def _bar(share: float, left: str, width: int, *, plain: bool) -> Text:
    said = ", ".join(filter(None, [f"{100 * share:.0f} %", left]))
    size = max(0, min(_BAR, width - len(said) - len(GAP)))
    done = round(size * share)
    full, empty = "#-" if plain else "━─"
    return Text.assemble((full * done, "green"), (empty * (size - done), "dim"), GAP if size else "", said)


def _uri(path: str) -> str:
    """Write a file as a link; with this machine's name, so that a terminal elsewhere does not take it for its own."""
    return f"file://{socket.gethostname()}{urllib.parse.quote(os.path.realpath(path))}"
