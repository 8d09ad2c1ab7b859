"""``%submit --interactive``: a machine of an engine that stays, to be entered."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import session
from ..errors import InvalidInput

if TYPE_CHECKING:
    from ..ui import Table


def stay(
    command: Sequence[Any],
    on: str | None,
    options: Mapping[str, Any],
    gpus: str | float | None,
    others: Mapping[str, object],
    *,
    dry_run: bool,
) -> Table | None:
    """Have an engine make a machine that stays; the options are those of ``%submit``, and `others` do not count."""
    from ..engines import open_engine
    from ..runs import in_run, which_job
    from ..ui import Table

    here = session.current()
    if in_run.is_run(here.ui):
        here.ui.say("A run starts no others: %submit is the main notebook's.")
        return None
    if command:
        raise InvalidInput(
            "--interactive makes a pod that waits for you, and takes no command.",
            "Leave one of both out; server_command= says what it executes in place of waiting.",
        )
    engine = open_engine(on or "local", options)
    if not engine.stays:
        raise InvalidInput(
            f"on={on or 'local'} has nothing that stays.",
            "Write on=kubernetes; %host shell HOST opens a shell on a host that ssh reaches.",
        )
    if idle := [name for name, value in others.items() if value]:
        here.ui.warn(f"--interactive executes no runs: {', '.join(idle)} does not count.")
    project = which_job.of_commands(here)
    secrets = {name: "" if dry_run else os.environ[name] for name in here.secrets if name in os.environ}
    folder = which_job.folder_of_commands(project)
    first, *notes = engine.stay(project.data_job, folder, gpus, secrets, ui=here.ui, dry_run=dry_run)
    return Table([], [], caption=first, notes=notes)
