"""Which notebook does this kernel run? With the edits that are not saved yet, where the front end lets us.

Colab hands the notebook over as its page holds it. JupyterLab is asked to save, by the button of the notebook's own
panel. Elsewhere the file is what it is; when the running cell is not in it, the notebook carries a warning.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from .. import process, session
from ..errors import InvalidInput, NotFound
from ..payloads.code import source_of, tags
from ..records.injected import is_injected
from ..ui import Notebook, read_notebook, ticking
from ..units import show_time
from .front_end import has_page, running_cell, vscode_file, where

if TYPE_CHECKING:
    from .jupyter_server import Found

NAMED = "COLAB_MAGICS_NOTEBOOK"
"""Environment variable that names the notebook, for whoever executes one without a front end."""

SAVE_WITHIN = 5.0
"""Seconds until a notebook that the front end was asked to save must have changed."""

# Waits until the output stands in the page (it is made first and put there later), then clicks the save button of the
# panel around it. A cell that is scrolled far away has no place in the page: then the panel is found by its tab.
_SAVE = """(() => {
  const path = %s;
  const own = () => {
    const around = element.closest && element.closest('.jp-NotebookPanel');
    if (around) return around;
    const tab = [...document.querySelectorAll('.lm-TabBar-tab[data-id]')]
      .find(t => (t.title || '').split('\\n').some(line => line.endsWith(': ' + path)));
    const named = tab && document.getElementById(tab.dataset.id);
    if (named) return named;
    const all = document.querySelectorAll('.jp-NotebookPanel');
    return all.length === 1 ? all[0] : null;
  };
  let left = 20;
  const attempt = () => {
    const panel = (left < 10 || element.isConnected) && own();
    const button = panel && panel.querySelector('[data-command="docmanager:save"]');
    if (button) button.click();
    else if (window.IPython && window.IPython.notebook) window.IPython.notebook.save_notebook();
    else if (left-- > 0) setTimeout(attempt, 50);
  };
  attempt();
})()"""


def find(ip: Any) -> Notebook:
    """Find the notebook that a shell's kernel runs.

    Parameters
    ----------
    ip : InteractiveShell
        The shell.

    Returns
    -------
    Notebook
        With `warning` set when it may not be what the user sees.

    Raises
    ------
    NotFound
        When no front end tells; names the option that does.
    """
    return replace(_find(ip), running=running_cell(ip))


def named(ip: Any, path: str) -> Notebook:
    """Read the notebook that the user names: this very one, when the cell that is being executed stands in it.

    Parameters
    ----------
    ip : InteractiveShell
        The shell.
    path : str
        Its path, from the working folder or from where the kernel started.

    Raises
    ------
    NotFound, InvalidInput
        See `ui.read_notebook`.
    """
    file = Path(path).expanduser()
    from_start = session.current().start_folder / file
    if not file.is_file() and from_start.is_file():
        file = from_start
    own = name(ip)
    if own is not None and os.path.isabs(own) and os.path.exists(own):
        # The front end says which notebook this is: another one may hold the same cell.
        if file.is_file() and os.path.samefile(own, file):
            return find(ip)
        return read_notebook(file)
    notebook, running = read_notebook(file), running_cell(ip)
    return replace(notebook, current=True, running=running) if _stands_in(file, running.source) else notebook


def name(ip: Any) -> str | None:
    """Name the notebook that a shell's kernel runs, in full where it is a file of this machine; None when none tells.

    Nothing is saved or asked of the page.
    """
    known = os.environ.get(NAMED) or vscode_file(ip)
    if known:
        return os.path.abspath(str(known))
    if has_page(ip):
        from ..colab.notebook import UNNAMED, notebook_name

        found_name = notebook_name()
        return None if found_name == UNNAMED else found_name
    found = _at_server(ip)
    if found is not None:
        return str(found.file or found.path)
    source = running_cell(ip).source
    executed = _of_parents(source)
    if executed is None:
        # Programs that a notebook starts inherit the variable, and may execute another one.
        last = Path(os.environ.get("JPY_SESSION_NAME") or "")
        executed = last if last.suffix == ".ipynb" and _stands_in(last, source) else None
    return None if executed is None else str(executed)


def as_saved(ip: Any) -> Notebook | None:
    """Read the file of the notebook that a shell's kernel runs; None where it has none, or it cannot be read."""
    own = name(ip)
    if own is None or not os.path.isabs(own):
        return None
    with contextlib.suppress(NotFound, InvalidInput):
        return replace(read_notebook(own), current=True, running=running_cell(ip))
    return None


def _of_parents(running: str) -> Path | None:
    """Find the notebook that a program above this process executes, such as ``papermill train.ipynb out.ipynb``.

    It is the first that its command line names, when the cell that is being executed stands in it.
    """
    with contextlib.suppress(psutil.Error, OSError):
        for parent in psutil.Process().parents()[:4]:
            words = [word for word in parent.cmdline()[1:] if word.endswith(".ipynb")]
            file = Path(parent.cwd(), words[0]) if words else None
            if file is not None and _stands_in(file, running):
                return file
    return None


def _stands_in(file: Path, running: str) -> bool:
    """Whether the cell that is being executed stands in a notebook's file."""
    with contextlib.suppress(NotFound, InvalidInput):
        return bool(running.strip()) and _holds(read_notebook(file).content, running)
    return False


def _find(ip: Any) -> Notebook:
    given = os.environ.get(NAMED)
    if given:
        return replace(read_notebook(given), current=True)
    if has_page(ip):
        from ..colab.notebook import current_notebook

        with session.current().ui.progress("Colab's page hands over the notebook"):
            content, name = current_notebook(where(ip))
        return Notebook(content=content, name=name, current=True)
    of_vscode = vscode_file(ip)
    if of_vscode is not None and of_vscode.is_file():
        notebook = _as_saved(ip, of_vscode)
        return notebook if notebook.warning else replace(notebook, warning=_as_of(of_vscode))
    found = _at_server(ip)
    if found is not None:
        return _from_server(ip, found)
    executed = _of_parents(running_cell(ip).source)
    if executed is not None:
        return replace(read_notebook(executed), current=True)
    last = Path(os.environ.get("JPY_SESSION_NAME") or "")
    if last.suffix == ".ipynb" and last.is_file():
        return _as_saved(ip, last)
    raise NotFound("Which notebook is this? No front end says so here.", "Name it: notebook=PATH.ipynb")


def label(ip: Any) -> str:
    """Name the notebook as it is named again after a restart of its kernel; no front end is asked."""
    known = os.environ.get(NAMED) or ip.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    # Without a name it is told by its machine: two of them must not take each other's kernels.
    return str(known) if known else f"main-{process.host()}"


def _at_server(ip: Any) -> Found | None:
    if getattr(ip, "kernel", None) is None:
        return None
    from ipykernel.connect import get_connection_file
    from jupyter_core.paths import jupyter_runtime_dir

    from .jupyter_server import find_session, kernel_id

    try:
        own = kernel_id(get_connection_file())
    except RuntimeError:  # a kernel that was embedded in a program
        return None
    return find_session(own, Path(jupyter_runtime_dir())) if own else None


def _from_server(ip: Any, found: Found) -> Notebook:
    if found.file is not None:
        saved = _save(found.file, found.path)
        notebook = _as_saved(ip, found.file)
        return notebook if saved or notebook.warning else replace(notebook, warning=_warning(found.file))
    # The server keeps its notebooks elsewhere (a database, another machine): we cannot see a save there.
    content = found.content()
    if content is None:
        raise NotFound(f"The Jupyter server does not hand over {found.path}.", "Name the notebook: notebook=PATH.ipynb")
    warning = (
        "" if _holds(content, running_cell(ip).source) else "The runs use the notebook as it was last saved. Save it."
    )
    return Notebook(content=content, name=os.path.basename(found.path), current=True, warning=warning)


def _save(file: Path, path: str) -> bool:
    """Ask the front end to save, and wait until the file has changed; says whether it did."""
    from IPython.display import display

    before = file.stat().st_mtime_ns
    script = _SAVE % json.dumps(path)
    # Without plain text: front ends that run no scripts must not print one.
    handle = display({"application/javascript": script, "text/plain": ""}, raw=True, display_id=True)

    def show(text: str) -> None:
        if handle is not None:
            handle.update({"text/plain": text}, raw=True)

    end = time.monotonic() + SAVE_WITHIN
    saved = False
    with ticking(lambda elapsed: show(f"waiting for {file.name} to be saved … {elapsed:.0f} s")):
        while not saved and time.monotonic() < end:
            time.sleep(0.05)
            try:
                saved = file.stat().st_mtime_ns != before
            except FileNotFoundError:
                continue  # it is just being replaced
    # Nothing may run when the notebook is opened again.
    show("")
    return saved


def _as_saved(ip: Any, file: Path) -> Notebook:
    """Read a notebook's file, and warn when the cell that runs now is not in it."""
    notebook = replace(_read_when_whole(file), current=True)
    if _holds(notebook.content, running_cell(ip).source):
        return notebook
    return replace(notebook, warning=_warning(file))


def _read_when_whole(file: Path) -> Notebook:
    """Read a notebook that may just be being written."""
    end = time.monotonic() + 2.0
    while True:
        try:
            return read_notebook(file)
        except (InvalidInput, NotFound):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _warning(file: Path) -> str:
    when = show_time(file.stat().st_mtime)
    return (
        f"{file.name}: edits that are not saved are missing. The runs use the version saved at {when}: save, run again."
    )


def _as_of(file: Path) -> str:
    """Say which version it is, where the front end neither saves nor tells of edits."""
    when = show_time(file.stat().st_mtime)
    return (
        f"The runs use {file.name} as saved at {when}; VS Code hands over no later edits: save first if there are any."
    )


def _holds(content: dict[str, Any], cell: str) -> bool:
    """Whether a notebook has a cell of that source."""
    wanted = cell.strip()
    return not wanted or any(source_of(one).strip() == wanted for one in content["cells"])


def with_parameters(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Put the parameters with which papermill executes this notebook where papermill put them: its runs have them too.

    Not tagged as papermill's own: what it injects into a run comes on top.
    """
    cells = [cell for cell in content["cells"] if not is_injected(cell)]
    at = next((number for number, cell in enumerate(cells, start=1) if "parameters" in tags(cell)), 0)
    made = {"cell_type": "code", "metadata": {}, "source": source, "id": "papermill-parameters"}
    return {**content, "cells": [*cells[:at], made, *cells[at:]]}
