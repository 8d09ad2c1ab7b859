"""How a job and its pods stand, read from what the cluster says of them."""

from __future__ import annotations

from collections.abc import Sequence

from .. import base
from ..base import Phase
from .objects import Object

_INDEX = "batch.kubernetes.io/job-completion-index"


def every(found: Sequence[Object], index: int) -> list[Object]:
    """Return the pods of an index, the newest last: one that had to give way is followed by another."""
    mine = [pod for pod in found if str((pod["metadata"].get("annotations") or {}).get(_INDEX)) == str(index)]
    return sorted(mine, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))


def newest(found: Sequence[Object], index: int) -> Object | None:
    """Return the newest pod of an index."""
    return next(reversed(every(found, index)), None)


def is_over(one: Object, index: int) -> bool:
    """Whether the job's controller has seen the end of an index."""
    status = one.get("status") or {}
    if any(
        c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in status.get("conditions") or ()
    ):
        return True
    return any(index in _indices(str(status.get(word) or "")) for word in ("completedIndexes", "failedIndexes"))


def _indices(text: str) -> set[int]:
    """Read ``1,3-5``."""
    found = set[int]()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def phase(one: Object | None, pods: Sequence[Object], index: int) -> Phase:
    """Tell how the run of an index is doing; what a pod says counts once the job's controller has seen it."""
    if one is None or is_over(one, index):
        return base.ENDED
    pod = newest(pods, index)
    said = ((pod or {}).get("status") or {}).get("phase")
    return base.RUNNING if said in ("Running", "Succeeded", "Failed") else base.QUEUED


def why(pod: Object) -> str:
    """Return what the cluster says of a pod's end, or of why it does not begin; empty when it says nothing."""
    status = pod.get("status") or {}
    found = [str(status.get(word)) for word in ("reason", "message") if status.get(word)]
    for one in status.get("containerStatuses") or ():
        state = one.get("state") or {}
        for how in ("terminated", "waiting"):
            about = state.get(how) or {}
            found += [str(about[word]) for word in ("reason", "message") if about.get(word)]
            if about.get("exitCode"):
                found.append(f"exit code {about['exitCode']}")
    return ", ".join(found)
