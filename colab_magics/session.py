"""What one shell holds: its UI and the handles that verbs left for each other.

A verb asks for `current()`, and hands what it needs to the floors below, which never ask. A face puts its session in
front with `activate`; a script gets one of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .ui import UI, TerminalUI


@dataclass
class Session:
    """State of one shell.

    Parameters
    ----------
    ui : UI
        The face in front of the user.
    start_folder : Path
        The working folder when the session began: a fresh kernel of this notebook would start there too.
    project : Any
        The `colab_magics.checkout.project.Project` that ``%project`` set up, or None.
    said : set of str
        Messages that are said once only.
    told : set
        Keys of the notices of syncs that were shown here; see `mirror.control.news`.
    run_here : Path or None
        Folder of the run that ``%fork here=3`` made of this notebook.
    forked : list
        The `colab_magics.runs.joined.Forked` of each ``%fork`` that was executed here.
    uses_gpu : str
        Which cell made this process use a GPU, and how; empty when none did.
    remotes : dict of str to Any
        The `colab_magics.verbs.remote.Remote` of each host that ``%remote`` connected to.
    labs : dict of str to Any
        The `colab_magics.verbs.host_lab.Lab` of each JupyterLab that ``%host lab`` opened, by the folder of its token.
    row : mapping or None
        What a run was told last of its row in a queue, by ``changes()``.
    secrets : list of str
        Names of the environment variables that ``%project secrets=`` set; runs get them wherever they execute.
    """

    ui: UI = field(default_factory=TerminalUI)
    start_folder: Path = field(default_factory=Path.cwd)
    project: Any = None
    said: set[str] = field(default_factory=set)
    told: set[object] = field(default_factory=set)
    run_here: Path | None = None
    forked: list[Any] = field(default_factory=list)
    uses_gpu: str = ""
    remotes: dict[str, Any] = field(default_factory=dict)
    labs: dict[str, Any] = field(default_factory=dict)
    row: Mapping[str, Any] | None = None
    secrets: list[str] = field(default_factory=list)

    def warn_once(self, text: str) -> None:
        """Show a warning, the first time."""
        if text not in self.said:
            self.said.add(text)
            self.ui.warn(text)


RUN_VARIABLE = "COLAB_MAGICS_RUN"
"""Environment variable that holds a run's folder; the runner sets it for the kernel or command that it starts."""
CODE_VARIABLE = "COLAB_MAGICS_CODE"
"""Environment variable of a run on another machine: the folder that is its project there."""

_active: list[Session] = []


def current() -> Session:
    """Return the session of this shell; a script's is made at its first call."""
    if not _active:
        _active.append(Session())
    return _active[-1]


def activate(session: Session) -> None:
    """Put a session in front of the ones before."""
    _active.append(session)


def deactivate(session: Session) -> None:
    """Take a session away again."""
    if session in _active:
        _active.remove(session)


def run_folder() -> Path | None:
    """Folder of the run that this process belongs to; None outside of runs."""
    folder = os.environ.get(RUN_VARIABLE)
    return Path(folder) if folder else None
