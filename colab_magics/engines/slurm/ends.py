"""How a task has ended, by what Slurm knows, in words for the table of runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from ...records.names import LOG
from .arrays import NOT_SEEN, OTHER_ATTEMPT, SETUP_FAILED
from .asking import Seen

QUEUED = frozenset(
    "PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD".split()  # noqa: SIM905
)
ENDED = frozenset(
    """BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED LAUNCH_FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED RECONFIG_FAIL
    REVOKED TIMEOUT""".split()  # noqa: SIM905
)
_MEMORY = re.compile(r"oom[_-]?kill|exceeded (job |step )?memory limit", re.IGNORECASE)

Word = Literal["lost", "killed"]


def verdict(seen: Seen | None, printed: str, folder: Path, *, spoke: bool) -> tuple[Word, str]:
    """Say how a run ended of which nobody here has said that it is to end.

    Parameters
    ----------
    seen : Seen or None
        What the controller had of it last; None when it knows nothing any more.
    printed : str
        What Slurm has printed of it.
    folder : Path
        The run's.
    spoke : bool
        Whether its runner has said how it ended.

    Returns
    -------
    str
        Whether it was lost or killed.
    str
        Why; empty when Slurm has nothing to say of it.
    """
    if _MEMORY.search(printed) or (seen is not None and seen.state == "OUT_OF_MEMORY"):
        given = f" ({seen.memory})" if seen is not None and seen.memory else ""
        return "lost", f"over its memory at Slurm{given}; mem= gives it more"
    if seen is None:
        return "lost", "" if spoke else "Slurm knows nothing of it any more"
    where = f"node {seen.node}" if seen.node else "its node"
    known = {
        "TIMEOUT": f"over its time at Slurm ({seen.limit})",
        "NODE_FAIL": f"{where} failed",
        "BOOT_FAIL": f"{where} did not start",
        "PREEMPTED": "preempted by others on the cluster, and not started again",
        "DEADLINE": "its deadline at Slurm has passed",
    }
    if seen.state in known:
        return "lost", known[seen.state]
    if seen.state == "CANCELLED":
        return "killed", "cancelled at Slurm"
    if spoke or seen.state == "COMPLETED":
        return "lost", ""
    return "lost", _not_started(seen, where, folder)


def _not_started(seen: Seen, where: str, folder: Path) -> str:
    known = {
        OTHER_ATTEMPT: f"on {where} its folder is not as it is here",
        NOT_SEEN: f"{where} does not see {folder.parent}: the project has to be on a disk that the nodes share",
        SETUP_FAILED: f"setup= failed on {where}; {LOG} has what it said",
        126: f"the Python of the runs cannot be started on {where}",
        127: f"the Python of the runs is not there on {where}; python= names another",
    }
    if seen.exit:
        return known.get(seen.exit, f"ended on {where} with exit status {seen.exit}; see its {LOG}")
    return f"ended by Slurm on {where} ({seen.reason or seen.state})"
