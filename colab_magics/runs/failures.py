"""The error that says which runs did not end well, why, and how to go on."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import RunsFailed
from ..payloads import payload_of
from ..payloads.base import NOTEBOOK, kind_of
from ..records.run import Run, runs_of
from ..records.status import Status
from ..units import without_controls
from .of_queue import claims

_MOST = 10
"""So many different failures are told, with so many of their runs."""


def failure(statuses: Sequence[tuple[Run, Status]]) -> RunsFailed | None:
    """Build the error for runs that did not end well; None when all did."""
    bad = [(run, status) for run, status in statuses if not status.ended_well]
    if not bad:
        return None
    lines = [f"{len(bad)} of {len(statuses)} runs did not end well:"]
    alike: dict[str, list[Run]] = {}
    for run, status in bad:
        alike.setdefault(_what(status), []).append(run)
    for what, runs in list(alike.items())[:_MOST]:
        more = f" and {len(runs) - _MOST} more" if len(runs) > _MOST else ""
        lines.append(f"  {', '.join(run.id for run in runs[:_MOST])}{more}  {what}")
        if not runs[0].folder.exists():
            continue
        lines.append(f"      log {runs[0].log}")
        if kind_of(runs[0].record) == NOTEBOOK:
            lines.append(f"      notebook {runs[0].notebook}")
    if left := sum(len(runs) for runs in list(alike.values())[_MOST:]):
        lines.append(f"  … and {left} more: %jobs")
    # A mended cell is other code than that of the runs that are done, here or in an earlier call.
    done = len(bad) < len(statuses) or any(
        run.status().ended_well and run.record.get("payload") == bad[0][0].record.get("payload")
        for run in runs_of(bad[0][0].folder.parent)
    )
    how = " with resume=keep: it keeps the runs that are done, whose code was another" if done else ""
    mend = payload_of(bad[0][0].record).mend()
    if not any(run.folder.exists() for run, _ in bad):
        mend, how = "Move what was moved back, or run the line again: it executes them anew", ""
    if claim := claims.read(bad[0][0].folder):
        # Whoever claims a run executes it with the code that he has; those that are done are claimed by nobody.
        mend, how = f"%queue requeue {claim['queue']} failed makes them ready again. {mend}", ""
    return RunsFailed("\n".join(lines), f"{mend}{how}.", status=_exit_status(bad))


def _what(status: Status) -> str:
    """Say how a run ended badly; of runs that say the same, one log is named."""
    what = status.text
    if status.error:
        message = without_controls(status.error.get("evalue", "")).strip().splitlines() or [""]
        what += f": {message[0]}" if message[0] else ""
    return what + (f" ({status.attempts})" if status.attempts else "")


def _exit_status(bad: Sequence[tuple[Run, Status]]) -> int:
    """Return the exit status that stands for runs that failed: the command's own, where it is one."""
    codes = {(run.state() or {}).get("exit") for run, _ in bad}
    code = codes.pop() if len(bad) == 1 else None
    return code if isinstance(code, int) and 0 < code < 256 else 1
