"""Which notebook does this kernel run? With the edits that are not saved yet, where the front end lets us.

Colab hands the notebook over as its page holds it. JupyterLab is asked to save, by the button of the notebook's own
panel. Elsewhere the file is what it is; when the running cell is not in it, the notebook carries a warning.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import process
from ..errors import InvalidInput, NotFound
from ..ui import Notebook, read_notebook, ticking
from ..units import show_time
from .front_end import where
from .jupyter_server import Found, find_session, kernel_id

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
    named = os.environ.get(NAMED)
    if named:
        return replace(read_notebook(named), current=True)
    if where(ip) == "colab":
        from ..colab.notebook import current_notebook

        content, name = current_notebook()
        return Notebook(content=content, name=name, current=True)
    of_vscode = ip.user_ns.get("__vsc_ipynb_file__")
    if of_vscode and Path(of_vscode).is_file():
        return _as_saved(ip, Path(of_vscode))
    found = _at_server(ip)
    if found is not None:
        return _from_server(ip, found)
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
    warning = "" if _holds(content, running_cell(ip)) else "The runs use the notebook as it was last saved. Save it."
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
    if _holds(notebook.content, running_cell(ip)):
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


def running_cell(ip: Any) -> str:
    """Return the source of the cell that is being executed."""
    cells = ip.history_manager.input_hist_raw
    return str(cells[-1]) if cells else ""


def _holds(content: dict[str, Any], cell: str) -> bool:
    """Whether a notebook has a cell of that source."""
    wanted = cell.strip()
    return not wanted or any(_source(one).strip() == wanted for one in content["cells"])


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)
