"""What reaches the user while a verb works: lines, warnings, progress, a table that changes, a question."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from ..units import without_controls
from .grid import GAP
from .table import Table, kind_of

if TYPE_CHECKING:
    from .screen import Screen


class Live(Protocol):
    """A table that is shown again whenever it changes."""

    @property
    def stays(self) -> bool:
        """Whether the last one stays in front of the user, so that it need not be shown as a result, too."""

    def show(self, table: Table) -> None:
        """Show `table` in place of the one before."""


class Says(Protocol):
    """A face that says something to its user."""

    @property
    def where(self) -> str:
        """Its name.

        ``colab``, ``colab-other`` (VS Code, say), ``colab-enterprise``, ``vscode``, ``jupyter``, ``terminal`` (IPython)
        or ``script``.
        """

    def say(self, text: str) -> None:
        """Show one or more lines now."""

    def show(self, text: str) -> None:
        """Show lines that are the result of the call, as far as they are there."""

    def warn(self, text: str) -> None:
        """Show a warning now."""

    def progress(self, text: str) -> AbstractContextManager[None]:
        """Show that `text` goes on, with the time it has taken, once that is over two seconds."""

    def live(self, *, screen: bool = False) -> AbstractContextManager[Live]:
        """Show a table that changes; with `screen` it may take the whole window of a terminal meanwhile."""

    def notify(self, title: str, text: str, *, ask: bool = False) -> None:
        """Tell a user who looks elsewhere, as far as the front end can; `ask` for the right to do so, where it asks."""

    def ask(self, question: str) -> bool:
        """Ask a yes-or-no question; no when nobody can answer."""

    def choose(self, question: str, answers: Sequence[str]) -> str:
        """Ask which of some answers it is, by its number or its first letters; empty when nobody can answer."""


@dataclass
class SaysLines:
    """Lines on a terminal.

    Parameters
    ----------
    out : file object, optional
        Where lines go; standard error by default, so that standard output holds results alone.
    where : str, default "script"
        See `Says.where`.
    """

    out: TextIO = field(default_factory=lambda: sys.stderr)
    where: str = "script"
    _screen: Screen | None = field(default=None, compare=False, repr=False)

    def line(self, text: str) -> None:
        """Write a line as it is."""
        # Names of files may hold bytes that are no text.
        shown = without_controls(text, colours=True).encode("utf-8", "backslashreplace").decode()
        if self._screen is not None:
            self._screen.say(shown)
        else:
            print(shown, file=self.out, flush=True)

    def say(self, text: str) -> None:
        self.line(text)

    def show(self, text: str) -> None:
        SaysLines(sys.stdout).line(text)

    def warn(self, text: str) -> None:
        self.say(f"warning: {text}")

    @contextmanager
    def progress(self, text: str) -> Iterator[None]:
        with ticking(lambda elapsed: self.say(f"{text} … {elapsed:.0f} s"), every=10.0):
            yield

    @contextmanager
    def live(self, *, screen: bool = False) -> Iterator[Live]:
        if not (screen and is_window(self.out)):
            yield _ChangedLines(self.line)
            return
        from .screen import Screen

        with Screen(self.out) as shown:
            self._screen = shown
            try:
                yield shown
            finally:
                self._screen = None

    def notify(self, title: str, text: str, *, ask: bool = False) -> None:
        if self.out.isatty():
            print("\a", end="", file=self.out, flush=True)  # the terminal's bell

    def ask(self, question: str) -> bool:
        if not sys.stdin or not sys.stdin.isatty():
            return False
        print(f"{question} [y/N] ", end="", file=self.out, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def choose(self, question: str, answers: Sequence[str]) -> str:
        if not sys.stdin or not sys.stdin.isatty():
            return ""
        print(f"{numbered(question, answers)} ", end="", file=self.out, flush=True)
        return chosen(sys.stdin.readline(), answers)


def numbered(question: str, answers: Sequence[str]) -> str:
    """Write a question with its answers."""
    return f"{question} {', '.join(f'[{number}] {answer}' for number, answer in enumerate(answers, 1))}:"


def chosen(text: str, answers: Sequence[str]) -> str:
    """Read an answer: its number, or letters with which one alone begins; empty when it is none."""
    text = text.strip().lower()
    if text.isdecimal():
        return answers[int(text) - 1] if 1 <= int(text) <= len(answers) else ""
    found = [answer for answer in answers if text and answer.lower().startswith(text)]
    exact = [answer for answer in found if answer.lower().split()[0] == text]
    return (exact or found)[0] if len(exact or found) == 1 else ""


def is_window(out: TextIO) -> bool:
    """Whether a file is a terminal that can do more than print lines."""
    return out.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


@dataclass
class _ChangedLines:
    """A live table for pipes and plain terminals: a line for each row whose state changed.

    Of runs it is a line for each event: that one starts, and how it ends. Their steps would be thousands.
    """

    write: Callable[[str], None]
    seen: dict[str, str] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    stays = False

    def show(self, table: Table) -> None:
        of_runs = list(table.columns[1:2]) == ["state"]
        for name, state, *rest in (map(str, row) for row in table.rows):
            if self._changed(name, state, of_runs=of_runs):
                named = zip(table.columns[2:], rest, strict=True)
                cells = [f"{key}={cell}" if of_runs else cell for key, cell in named if cell]
                self.write(GAP.join([name, state, *cells]))
        for name, state in table.others:
            if self._changed(name, state, of_runs=of_runs):
                self.write(f"{name}{GAP}{state}")
        for note in table.notes if of_runs else ():
            # Its numbers may change at each look.
            kind = re.sub(r"\d+", "", note).partition(":")[0]
            if kind not in self.told and not note.startswith("… and "):
                self.told.add(kind)
                self.write(note)

    def _changed(self, name: str, state: str, *, of_runs: bool) -> bool:
        if of_runs and kind_of(state) == "running":
            state = f"running {state.partition('(')[2]}"
        before = self.seen.get(name, "waiting" if of_runs else "")
        self.seen[name] = state
        return before != state


@contextmanager
def ticking(tick: Any, *, first: float = 2.0, every: float = 1.0) -> Iterator[None]:
    """Call ``tick(elapsed_seconds)`` from a thread while the body runs, from `first` seconds on."""
    began, done = time.monotonic(), threading.Event()

    def loop() -> None:
        pause = first
        while not done.wait(pause):
            tick(time.monotonic() - began)
            pause = every

    thread = threading.Thread(target=loop, name="colab_magics-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
