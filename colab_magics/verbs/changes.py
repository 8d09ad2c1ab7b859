"""``changes()``: what people have edited in a run's row of a queue. For runs' own code, and no verb of lines."""

from __future__ import annotations

from typing import Any

from .. import session


def changes() -> dict[str, Any]:
    """Return the parameters that people have edited in this run's row of its queue since the last call.

    A run of ``%fork runs=URL`` or ``%submit runs=URL`` begins with the values of its row, and keeps them. A loop that
    wants to follow edits asks: ``if "lr" in (new := changes()): optimizer.lr = new["lr"]``. An edit arrives with a
    heartbeat: within ten seconds from SQL, a minute or so from a sheet. Asking costs no request.

    Returns
    -------
    dict of str to value
        Names and new values; None for a column or value that is gone. Empty when nothing was edited, in a run of no
        queue, in one on another machine (``on=``), and outside of runs: the same code works everywhere.
    """
    from ..queues.values import changed
    from ..records.run import Run
    from ..runs.grid import why_no_parameter
    from ..runs.of_queue import claims

    here, folder = session.current(), session.run_folder()
    said = claims.read(folder) if folder is not None else None
    if folder is None or said is None:
        return {}
    before = Run.look(folder).record.get("parameters") or {} if here.row is None else here.row
    here.row = {name: value for name, value in said["config"].items() if why_no_parameter(name) is None}
    return changed(before, here.row)
