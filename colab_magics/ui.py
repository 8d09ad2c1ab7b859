"""What a verb may ask of the face in front of it, and the implementation for terminals and scripts.

Verbs return handles and never print. What must reach the user *while* a verb works goes through this protocol; the
notebook's implementation is `colab_magics.faces.notebook_ui.NotebookUI`.
"""

from __future__ import annotations

import html
import os
import re
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol, TextIO

from .errors import InvalidInput, NotFound, Unavailable
from .process import read_json
from .units import without_controls


@dataclass(frozen=True)
class Table:
    """Rows to show at once.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    rows : sequence of sequence of str
        Cells as text. The first is the row's name, the second its state.
    caption : str
        One line above the table.
    notes : sequence of str
        Lines below the table, such as warnings.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        cells = [[str(cell) for cell in row] for row in (self.columns, *self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
        whole = [*([self.caption] if self.caption else []), *(lines if self.columns else []), *self.notes]
        return without_controls("\n".join(whole))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        """Write the table as HTML that needs no style sheet and is good in light and dark, also in Colab's iframes.

        Everything in it is escaped: names of files and last lines of logs are not ours.
        """
        rule = "border-bottom:1px solid rgba(128,128,128,.35)"
        cell = "text-align:left;padding:2px 12px 2px 0"
        parts = ['<div style="font-size:13px">']
        if self.caption:
            parts.append(f'<div style="margin-bottom:4px">{html.escape(self.caption)}</div>')
        if self.columns:
            heads = "".join(f'<th style="{cell};{rule}">{html.escape(str(name))}</th>' for name in self.columns)
            parts.append(f'<table style="border-collapse:collapse;background:none"><tr>{heads}</tr>')
            for row in self.rows:
                cells = "".join(f'<td style="{cell}">{_cell_html(i, str(value))}</td>' for i, value in enumerate(row))
                parts.append(f'<tr style="background:none">{cells}</tr>')
            parts.append("</table>")
        parts += [f'<div style="margin-top:4px;white-space:pre-wrap">{html.escape(note)}</div>' for note in self.notes]
        return without_controls("".join([*parts, "</div>"]))


_STATES = {
    "#2e9e5b": ("done", "finished", "ok", "success", "succeeded", "ready", "chosen"),
    "#d9534f": ("failed", "error", "lost", "killed", "interrupted", "dead"),
    "#3b82c4": ("running", "syncing", "starting", "cell", "step"),
}
_SHARE = re.compile(r"(\d+(?:\.\d+)?) of (\d+)|(\d+(?:\.\d+)?) ?%")


def _cell_html(index: int, value: str) -> str:
    """Write a cell: a bar beside a share, the state in the second column in its colour."""
    text = html.escape(value)
    words = value.lower().split()
    for color, names in _STATES.items():
        if index == 1 and words and words[0] in names:
            text = f'<span style="color:{color};font-weight:600">{text}</span>'
    share = _SHARE.search(value)
    if share and words and words[0] in ("cell", "step"):
        done, whole = (share[1], share[2]) if share[1] else (share[3], "100")
        return f'<progress value="{done}" max="{whole}" style="width:6em;vertical-align:middle"></progress> {text}'
    return text


@dataclass(frozen=True)
class RunningCell:
    """The cell that is being executed, as far as the front end tells.

    Parameters
    ----------
    source : str
        Its code; empty where there are no cells.
    id : str
        Its id in the notebook; empty where the front end sends none.
    before : tuple of str
        Code of the cells that were executed before it, the last one last.
    """

    source: str = ""
    id: str = ""
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Notebook:
    """A notebook as it stands in front of the user.

    Parameters
    ----------
    content : dict
        The notebook (nbformat 4) with its sources; outputs may be missing.
    name : str
        File name, such as ``train.ipynb``.
    path : Path or None
        The file, when it is one on this machine.
    current : bool
        True for the notebook whose kernel this is; False for a file that was named by the user.
    running : RunningCell
        The cell that is being executed; an empty one when that is not known, or in another notebook.
    warning : str
        Why `content` may not be what the user sees, such as edits that could not be saved; else empty.
    """

    content: dict[str, Any]
    name: str
    path: Path | None = None
    current: bool = False
    running: RunningCell = field(default_factory=RunningCell)
    warning: str = ""

    def path_in(self, root: Path) -> str | None:
        """Return where the file stands below a folder; None when it does not."""
        if self.path is None:
            return None
        real, base = Path(os.path.realpath(self.path)), Path(os.path.realpath(root))
        return str(real.relative_to(base)) if real.is_relative_to(base) else None


class Live(Protocol):
    """A table that is shown again whenever it changes."""

    def show(self, table: Table) -> None:
        """Show `table` in place of the one before."""


class UI(Protocol):
    """What the face offers."""

    @property
    def where(self) -> str:
        """``colab``, ``colab-other``, ``vscode``, ``jupyter``, ``terminal`` (IPython) or ``script``."""

    @property
    def cell(self) -> int:
        """Number of the cell that is executed; 0 where there are no cells."""

    def say(self, text: str) -> None:
        """Show one or more lines now."""

    def show(self, text: str) -> None:
        """Show lines that are the result of the call, as far as they are there."""

    def warn(self, text: str) -> None:
        """Show a warning now."""

    def progress(self, text: str) -> AbstractContextManager[None]:
        """Show that `text` goes on, with the time it has taken, once that is over two seconds."""

    def live(self) -> AbstractContextManager[Live]:
        """Show a table that changes."""

    def ask(self, question: str) -> bool:
        """Ask a yes-or-no question; no when nobody can answer."""

    def set_variables(self, values: Mapping[str, Any]) -> None:
        """Assign variables in the user's namespace."""

    def get_variable(self, name: str) -> Any:
        """Read a variable of the user's namespace; None when there is none."""

    def injected_parameters(self) -> dict[str, Any] | None:
        """Parameters that papermill injected into this kernel; None when it did not."""

    def notebook(self, path: str | None = None) -> Notebook:
        """Find the notebook that this kernel runs, or read the one at `path`."""

    def notebook_as_saved(self) -> Notebook | None:
        """Read the file of the notebook that this kernel runs, without asking it to be saved; None without one."""

    def running_cell(self) -> RunningCell:
        """Tell which cell is being executed."""

    def notebook_name(self) -> str | None:
        """Name the notebook that this kernel runs, by its path where that is known, without asking it to be saved."""

    def stop(self, message: str) -> NoReturn:
        """End the script, or Run All, here: quietly and as a success."""

    def skip(self, cells: Sequence[tuple[str, str]], join: tuple[str, str], known: Collection[str] = ()) -> None:
        """Mark cells (ids and sources) as skipped, until `join` comes; `known` are the ids of all cells there are."""

    def skip_nothing(self) -> None:
        """Execute all cells again."""

    def cells_go_to(self, held: Any) -> None:
        """Execute cells on another machine from now on (a handle of ``%remote``); None: here again."""

    def cells_are_at(self) -> str | None:
        """Name the host that cells go to; None when they are executed here."""

    def run_elsewhere(self, held: Any, code: str, *, silent: bool = False) -> list[Any]:
        """Execute code on another machine and show what comes; returns messages that carry values."""

    def show_missed(self, held: Any) -> None:
        """Show what cells on another machine have printed while nobody was connected, and wait for the last of them."""

    def notebook_label(self) -> str:
        """Name this notebook, as it is named again after a restart of its kernel."""


@dataclass
class TerminalUI:
    """Lines on a terminal: the UI of the shell face and of scripts.

    Parameters
    ----------
    out : file object, optional
        Where lines go; standard error by default, so that standard output holds results alone.
    where : str, default "script"
        See `UI.where`.
    """

    out: TextIO = field(default_factory=lambda: sys.stderr)
    where: str = "script"

    @property
    def cell(self) -> int:
        """0: a script has no cells."""
        return 0

    def say(self, text: str) -> None:
        # Names of files may hold bytes that are no text.
        shown = without_controls(text, colours=True).encode("utf-8", "backslashreplace").decode()
        print(shown, file=self.out, flush=True)

    def show(self, text: str) -> None:
        TerminalUI(sys.stdout).say(text)

    def warn(self, text: str) -> None:
        self.say(f"warning: {text}")

    @contextmanager
    def progress(self, text: str) -> Iterator[None]:
        with ticking(lambda elapsed: self.say(f"{text} … {elapsed:.0f} s"), every=10.0):
            yield

    @contextmanager
    def live(self) -> Iterator[Live]:
        yield _ChangedLines(self)

    def ask(self, question: str) -> bool:
        if not sys.stdin or not sys.stdin.isatty():
            return False
        print(f"{question} [y/N] ", end="", file=self.out, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def set_variables(self, values: Mapping[str, Any]) -> None:
        """Nothing to do: a script has the handle that the verb returns."""

    def get_variable(self, name: str) -> Any:
        return None

    def injected_parameters(self) -> dict[str, Any] | None:
        return None

    def notebook(self, path: str | None = None) -> Notebook:
        if path is None:
            raise NotFound(
                "Which notebook? Outside a notebook there is no current one.", "Name it: notebook=train.ipynb"
            )
        return read_notebook(path)

    def notebook_as_saved(self) -> Notebook | None:
        """None: a script is no notebook."""
        return None

    def running_cell(self) -> RunningCell:
        """None: a script has no cells."""
        return RunningCell()

    def notebook_name(self) -> str | None:
        """None: a script is no notebook."""
        return None

    def stop(self, message: str) -> NoReturn:
        if message:
            self.say(message)
        raise SystemExit(0)

    def skip(self, cells: Sequence[tuple[str, str]], join: tuple[str, str], known: Collection[str] = ()) -> None:
        """Nothing to do: a script has no cells."""

    def skip_nothing(self) -> None:
        """Nothing to do: a script has no cells."""

    def cells_go_to(self, held: Any) -> None:
        if held is not None:
            raise Unavailable("A script has no cells to send.", "Use %remote in a notebook, or ssh.")

    def cells_are_at(self) -> str | None:
        """None: a script has no cells."""
        return None

    def run_elsewhere(self, held: Any, code: str, *, silent: bool = False) -> list[Any]:
        raise Unavailable("A script has no cells to send.", "Use %remote in a notebook, or ssh.")

    def show_missed(self, held: Any) -> None:
        """Nothing: a script has sent no cells."""

    def notebook_label(self) -> str:
        """Name the kernel of a script."""
        return "script"


@dataclass
class _ChangedLines:
    """A live table for terminals: a line for each row whose state changed."""

    ui: TerminalUI
    seen: dict[str, str] = field(default_factory=dict)

    def show(self, table: Table) -> None:
        for row in table.rows:
            name, state = str(row[0]), str(row[1])
            if self.seen.get(name) != state:
                self.seen[name] = state
                self.ui.say("  ".join(str(cell) for cell in row if str(cell)))


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


def read_notebook(path: str | Path) -> Notebook:
    """Read a notebook file.

    Raises
    ------
    NotFound
        When there is no such file.
    InvalidInput
        When it is no notebook of nbformat 4.
    """
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise NotFound(f"There is no notebook {file}.", "Write its path from here, or in full: notebook=PATH")
    content = read_json(file)
    if content is None or content.get("nbformat") != 4 or not isinstance(content.get("cells"), list):
        raise InvalidInput(
            f"{file} is no notebook that can be read (JSON of nbformat 4).", "Open it in Jupyter and save it again."
        )
    return Notebook(content=content, name=file.name, path=file)
