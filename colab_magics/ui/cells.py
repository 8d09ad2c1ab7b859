"""The cells in front of the user: which notebook they are of, which is executed, which are skipped or go elsewhere."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

from ..errors import InvalidInput, NotFound, Unavailable
from ..process import read_json


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


class Cells(Protocol):
    """A face with cells."""

    @property
    def cell(self) -> int:
        """Number of the cell that is executed; 0 where there are no cells."""

    def running_cell(self) -> RunningCell:
        """Tell which cell is being executed."""

    def notebook(self, path: str | None = None) -> Notebook:
        """Find the notebook that this kernel runs, or read the one at `path`."""

    def notebook_as_saved(self) -> Notebook | None:
        """Read the file of the notebook that this kernel runs, without asking it to be saved; None without one."""

    def notebook_name(self) -> str | None:
        """Name the notebook that this kernel runs, by its path where that is known, without asking it to be saved."""

    def notebook_label(self) -> str:
        """Name this notebook, as it is named again after a restart of its kernel."""

    def stop(self, message: str, *, interrupted: bool = False) -> NoReturn:
        """End the script, or Run All, here: quietly and as a success.

        A script that was `interrupted` ends with the status of Ctrl-C.
        """

    def skip(
        self, cells: Sequence[tuple[str, str]], join: tuple[str, str], known: Collection[str] = (), hint: str = ""
    ) -> None:
        """Mark cells (ids and sources) as skipped, until `join` comes.

        `known` are the ids of all cells there are; `hint` says how this notebook executes them all the same.
        """

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


class NoCells:
    """A script's: there are none."""

    @property
    def cell(self) -> int:
        """0: a script has no cells."""
        return 0

    def running_cell(self) -> RunningCell:
        """None: a script has no cells."""
        return RunningCell()

    def notebook(self, path: str | None = None) -> Notebook:
        if path is None:
            raise NotFound(
                "Which notebook? Outside a notebook there is no current one.", "Name it: notebook=train.ipynb"
            )
        return read_notebook(path)

    def notebook_as_saved(self) -> Notebook | None:
        """None: a script is no notebook."""
        return None

    def notebook_name(self) -> str | None:
        """None: a script is no notebook."""
        return None

    def notebook_label(self) -> str:
        """Name the kernel of a script."""
        return "script"

    def skip(
        self, cells: Sequence[tuple[str, str]], join: tuple[str, str], known: Collection[str] = (), hint: str = ""
    ) -> None:
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
