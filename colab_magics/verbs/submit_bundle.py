"""``%submit --bundle``: a command with its code and its packages in one file, for a machine without a network."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import session
from ..errors import InvalidInput

if TYPE_CHECKING:
    from ..ui import Table


def write_bundle(
    words: list[str],
    grid: Mapping[str, Any] | None,
    to: str,
    of_runs: Mapping[str, object],
    *,
    python: str | None,
    platform: str | None,
    requirements: str | None,
    inputs: str | None,
) -> Table | None:
    """Write a bundle; the options are those of ``%submit``."""
    from ..bundle import make as room
    from ..checkout.project import DATA_PROJECT, find_project
    from ..payloads.command import CommandDraft
    from ..relay.wheels import Target
    from ..runs import in_run, which_job
    from ..ui import Table
    from ..units import show_size

    here = session.current()
    if in_run.is_run(here.ui):
        here.ui.say("A run makes no bundles: %submit is the main notebook's.")
        return None
    if idle := [name for name, value in of_runs.items() if value]:
        here.ui.warn(f"A bundle starts nothing: {', '.join(idle)} does not count.")
    if grid:
        raise InvalidInput(
            "A bundle holds one command, and no grid.",
            "Leave the cell empty. Where it runs, each start may have words of its own: sh FILE --work a --lr 0.1",
        )
    project = here.project or find_project(Path.cwd(), warn=here.warn_once)
    root = which_job.folder_of_commands(project) if project is not None else Path.cwd()
    draft = CommandDraft(words, root)
    if draft.unknown:
        here.ui.warn(f"{{{draft.unknown[0]}}} is no value that a bundle has, and stays in the command as it is.")
    target = Target.of(python or "", platform or "")
    place = Path(os.path.abspath(Path(to).expanduser()))
    room.check_place(place)
    data = (project.root if project is not None else root) / DATA_PROJECT
    needs = room.needed(root, requirements)
    packed = room.collect(root, draft, inputs, data, needs, here.warn_once)
    for note in (*packed.notes, *needs.notes):
        here.ui.warn(note)
    with here.ui.progress(f"making {place.name} with {needs.what} for {target}"):
        made = room.make(place, root, words, packed, needs, target)
    about = made.about
    rows = [name.split("-")[:2] for name in about["wheels"]]
    notes = [f"Copy it, and start it there: sh {shlex.quote(place.name)} (--help says more)", f"sha256 {made.digest}"]
    what = f"files: {len(about['files'])}, packages: {len(rows)}, for {target}"
    return Table(["package", "version"], rows, caption=f"{place}: {show_size(made.size)}, {what}", notes=notes)
