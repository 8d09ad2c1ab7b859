"""What the verbs may ask of a notebook, and of IPython in a terminal.

The live display is one display that is updated in place. Only its handle may be used from a thread: whatever a thread
prints or newly displays lands in the cell that happens to run.
"""

from __future__ import annotations

import ast
import html
import json
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from .. import session
from ..ui import UI, Live, Notebook, RunningCell, Table, TerminalUI, chosen, links, numbered, ticking
from . import skip
from .front_end import running_cell, where
from .stop import stop

_PACE = 0.5
"""Seconds between two updates of a live display."""
_FRESH = 60_000
"""Milliseconds for which a notification is one."""
_A_SECOND = 80_000
"""So many bytes a second it sends to the front end at most: a large table is sent less often."""


def make(ip: Any) -> UI:
    """Make the UI of a shell."""
    return NotebookUI(ip) if getattr(ip, "kernel", None) is not None else IPythonTerminalUI(ip)


class InShell:
    """A face of an IPython shell.

    Parameters
    ----------
    ip : InteractiveShell
        The shell.
    """

    def __init__(self, ip: Any) -> None:
        self.ip = ip


class ShellNames(InShell):
    """The names of a shell: notebooks and IPython in a terminal have the same."""

    def set_variables(self, values: Mapping[str, Any]) -> None:
        self.ip.push(dict(values))

    def get_variable(self, name: str) -> Any:
        return self.ip.user_ns.get(name)

    def injected_parameters(self) -> dict[str, Any] | None:
        cell = _injected_cell(self.ip)
        return {name: self.ip.user_ns[name] for name in _assigned(cell) if name in self.ip.user_ns} if cell else None


class ShellCells(InShell):
    """The cells of a shell: notebooks and IPython in a terminal have the same."""

    @property
    def cell(self) -> int:
        return int(self.ip.execution_count)

    def running_cell(self) -> RunningCell:
        return running_cell(self.ip)

    def notebook(self, path: str | None = None) -> Notebook:
        from .which_notebook import find, named, with_parameters

        found = named(self.ip, path) if path is not None else find(self.ip)
        cell = _injected_cell(self.ip) if found.current else ""
        return replace(found, content=with_parameters(found.content, cell)) if cell else found

    def notebook_as_saved(self) -> Notebook | None:
        from .which_notebook import as_saved

        return as_saved(self.ip)

    def notebook_name(self) -> str | None:
        from .which_notebook import name

        return name(self.ip)

    def notebook_label(self) -> str:
        from .which_notebook import label

        return label(self.ip)

    def stop(self, message: str, *, interrupted: bool = False) -> NoReturn:
        stop(self.ip, message)

    def skip(
        self, cells: Sequence[tuple[str, str]], join: tuple[str, str], known: Collection[str] = (), hint: str = ""
    ) -> None:
        skip.skip(self.ip, cells, join, known, hint)

    def skip_nothing(self) -> None:
        skip.remove(self.ip)

    def cells_go_to(self, held: Any) -> None:
        from . import remote_cells

        remote_cells.route(self.ip, held)

    def cells_are_at(self) -> str | None:
        from . import remote_cells

        held = remote_cells.routed(self.ip)
        return None if held is None else str(held.host)

    def run_elsewhere(self, held: Any, code: str, *, silent: bool = False) -> list[Any]:
        from . import remote_cells

        return remote_cells.run(self.ip, held, code, silent=silent)

    def show_missed(self, held: Any) -> None:
        from . import remote_cells

        remote_cells.show_missed(self.ip, held)


def _injected_cell(ip: Any) -> str:
    """Find the cell that papermill put in front: its first line is ``# Parameters``."""
    if _user_can_answer(ip):
        return ""
    cells = ip.history_manager.input_hist_raw
    return next((cell for cell in cells if cell.lstrip().startswith("# Parameters\n")), "")


def _user_can_answer(ip: Any) -> bool:
    """Whether a user sits at the front end: papermill and nbclient say that nobody can type an answer.

    Users write cells that begin with ``# Parameters`` too.
    """
    kernel = getattr(ip, "kernel", None)
    parent = kernel.get_parent("shell") if kernel is not None else {}
    return bool((parent.get("content") or {}).get("allow_stdin", False))


def _assigned(cell: str) -> list[str]:
    try:
        tree = ast.parse(cell)
    except SyntaxError:
        return []
    targets: list[ast.expr] = []
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets += node.targets
        elif isinstance(node, ast.AnnAssign):
            targets.append(node.target)
    return [target.id for target in targets if isinstance(target, ast.Name)]


class IPythonTerminalUI(ShellNames, ShellCells, TerminalUI):
    """Lines in IPython's terminal."""

    def __init__(self, ip: Any) -> None:
        InShell.__init__(self, ip)
        TerminalUI.__init__(self, where="terminal")

    def line(self, text: str) -> None:
        # The shell's output is the user's screen; what it is may change while the shell lives.
        if self._screen is not None:
            self._screen.say(text)
        else:
            print(text, flush=True)  # noqa: T201

    def show(self, text: str) -> None:
        self.say(text)


class NotebookUI(ShellNames, ShellCells):
    """Printed lines and one display that changes, for kernels."""

    @property
    def where(self) -> str:
        return where(self.ip)

    def links_from(self) -> Path | None:
        """Return the folder from which this front end reads links; None where they lead nowhere."""
        return links.base(self.where, session.current().start_folder)

    def say(self, text: str) -> None:
        print(text, flush=True)  # noqa: T201

    def show(self, text: str) -> None:
        self.say(text)

    def warn(self, text: str) -> None:
        self.say(f"⚠ {text}")

    @contextmanager
    def progress(self, text: str) -> Iterator[None]:
        shown = _Display()
        said = False

        def tick(elapsed: float) -> None:
            nonlocal said
            said = True
            line = f"{text} … {elapsed:.0f} s"
            shown.update(line, f'<div style="opacity:.8">{html.escape(line)}</div>')

        with ticking(tick):
            yield
        if said:
            shown.update(f"{text}: done", f'<div style="opacity:.8">{html.escape(text)}: done</div>')

    @contextmanager
    def live(self, *, screen: bool = False) -> Iterator[Live]:
        table = _LiveTable(self.links_from())
        with ticking(lambda _: table.flush(), first=_PACE, every=_PACE):
            yield table
        table.flush(last=True)

    def notify(self, title: str, text: str, *, ask: bool = False) -> None:
        from IPython.display import display

        if self.where == "jupyter":  # elsewhere outputs stand in frames that may not
            display({"application/javascript": _notification(title, text, ask=ask), "text/plain": ""}, raw=True)

    def ask(self, question: str) -> bool:
        return (_input(f"{question} [y/N] ") or "").strip().lower() in ("y", "yes")

    def choose(self, question: str, answers: Sequence[str]) -> str:
        return chosen(_input(f"{numbered(question, answers)} ") or "", answers)


def _notification(title: str, text: str, *, ask: bool) -> str:
    """Write what has a browser show a notification, once: a notebook that is opened again executes it again."""
    words = ", ".join(json.dumps(word).replace("<", "\\u003c") for word in (title, text))
    shown = f"show({words});"
    if ask:
        asked = f"Notification.requestPermission().then(() => {{ {shown} }});"
        shown = f"if (Notification.permission === 'default') {asked} else {shown}"
    return (
        f"if (window.Notification && Math.abs(Date.now() - {time.time() * 1000:.0f}) < {_FRESH}) {{\n"
        "  const show = (title, body) => {\n"
        "    if (Notification.permission === 'granted') new Notification(title, {body});\n  };\n"
        f"  {shown}\n}}"
    )


def _input(prompt: str) -> str | None:
    """Ask for a line; None where nobody can type one."""
    from IPython.core.error import StdinNotImplementedError

    try:
        return input(prompt)
    except (StdinNotImplementedError, EOFError):
        return None


class _Display:
    """One display of this cell; made in the cell's own thread, updated from any."""

    def __init__(self) -> None:
        from IPython.display import display

        self.handle = display(_bundle("", ""), raw=True, display_id=True)

    def update(self, plain: str, markup: str) -> None:
        if self.handle is not None:
            self.handle.update(_bundle(plain, markup), raw=True)


def _bundle(plain: str, markup: str) -> dict[str, str]:
    return {"text/plain": plain, "text/html": markup}


class _LiveTable:
    """The newest table, shown at the pace of `flush`."""

    stays = True

    def __init__(self, links_from: Path | None) -> None:
        self.links_from = links_from
        self.display = _Display()
        self.lock = threading.Lock()
        self.newest: Table | None = None
        self.shown: Table | None = None
        self.next = 0.0

    def show(self, table: Table) -> None:
        first = self.newest is None
        self.newest = table
        if first:
            self.flush()

    def flush(self, *, last: bool = False) -> None:
        with self.lock:
            if self.newest is None or self.newest == self.shown or (time.monotonic() < self.next and not last):
                return
            self.shown = self.newest
            plain, markup = str(self.shown), self.shown.html(self.links_from)
            self.display.update(plain, markup)
            self.next = time.monotonic() + len((plain + markup).encode()) / _A_SECOND
