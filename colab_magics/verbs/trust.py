"""``colab-magics trust``: let count what the files of a checkout set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import session
from ..errors import NotFound
from . import call_only

if TYPE_CHECKING:
    from ..ui import Table


@call_only("yes", "forget")
def trust(folder: str | None = None, /, *, yes: bool = False, forget: bool = False) -> Table:
    """Let options count that the files of a checkout set, such as where outputs go; shows them and asks first.

    A repository may set by itself what is harmless: names, patterns, numbers, times. What sends, fetches, installs,
    names secrets, runs something or points elsewhere counts from the call and from your own config.toml; from the
    repository's pyproject.toml, ``.colab_magics.json``, ``.recompute/include``, and a ``.env`` or a
    ``config/kube.yaml`` that git tracks, only after a yes, which holds for this checkout until one of these values
    changes.

    Parameters
    ----------
    folder : str, optional
        The checkout, or a folder in it; by default the project in use, else the current folder.
    yes : bool, default False
        Do not ask.
    forget : bool, default False
        Take the yes back.

    Returns
    -------
    Table
        What was allowed, or would have been.

    Raises
    ------
    NotFound
        When the folder is not there.
    """
    from ..checkout import dotenv, git, recompute
    from ..checkout import trust as room
    from ..checkout.project import find_marker
    from ..engines.kubernetes import settings as pods
    from ..ui import Table

    here = session.current()
    start = Path(folder).expanduser() if folder is not None else here.project.root if here.project else Path.cwd()
    if not start.is_dir():
        raise NotFound(f"There is no folder {start}.", "Name a checkout: %trust FOLDER")
    requests = [room.request(*found)] if (found := room.pyproject(start, here.warn_once)) is not None else []
    requests += [marker.request] if (marker := find_marker(start, here.warn_once)) is not None else []
    roots = dict.fromkeys((start, git.toplevel(start) or start))
    requests += [asked for root in roots if (asked := recompute.request(root, here.warn_once)) is not None]
    requests += [asked] if (asked := dotenv.request(start, here.warn_once)) is not None else []
    requests += [asked for root in roots if (asked := pods.request(root, here.warn_once)) is not None]
    requests = [one for one in requests if one.values]
    if not requests:
        return Table([], [], caption=f"Nothing in {start} asks for it.")
    columns, rows = ["file", "option", "value"], [row for one in requests for row in one.rows]
    if forget:
        for one in requests:
            one.note("no")
        return Table(columns, rows, caption="These do not count any more.")
    if all(one.allowed for one in requests):
        return Table(columns, rows, caption="These count already.", notes=["--forget takes that back."])
    if not yes:
        here.ui.say(str(Table(columns, rows, caption="What these files want to set:")))
        if not here.ui.ask("Shall it count, as long as it stays as it is?"):
            return Table([], [], caption="Nothing was allowed.", notes=["--yes allows without asking."])
    for one in requests:
        one.note("yes")
    return Table(columns, rows, caption="These count from now on.")
