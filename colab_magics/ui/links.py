"""Where a front end finds a file: links are relative to the notebook that shows them."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path


def base(where: str, start_folder: Path) -> Path | None:
    """Return the folder from which a front end reads links; None where links lead nowhere.

    Parameters
    ----------
    where : str
        The front end, as `ui.UI.where` says.
    start_folder : Path
        Where the shell's kernel started.
    """
    if where not in ("jupyter", "vscode"):
        return None
    named = os.environ.get("JPY_SESSION_NAME") or ""
    notebook = Path(named) if named.endswith(".ipynb") and os.path.isabs(named) else None
    return Path(os.path.realpath(notebook.parent if notebook else start_folder))


def href(path: Path, start: Path) -> str:
    """Write the link to a file, from the folder that `base` has returned."""
    relative = os.path.relpath(os.path.realpath(path), os.path.realpath(start))
    # "./" in front: a name with a colon in it would be read as an address.
    return urllib.parse.quote(relative if relative.startswith("../") else f"./{relative}")
