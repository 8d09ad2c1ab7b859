"""How a job and its pods stand, read from what the cluster says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import base
from ..base import Phase
from .objects import EXITS, QUEUE, Object

_INDEX = "batch.kubernetes.io/job-completion-index"
_AS_EVER = frozenset({"ContainerCreating", "PodInitializing"})
"""What containers wait for on their way, when nothing is wrong."""


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


def why_queued(one: Object | None, pods: Sequence[Object], index: int) -> str:
    """Return why the run of an index does not begin, in the cluster's words; empty when there is nothing to say.

    An image that cannot be pulled, a secret that is not there, no node that it fits on, a queue in which it waits.
    """
    pod = newest(pods, index)
    if pod is None:
        about = (one or {}).get("metadata") or {}
        queue = (about.get("labels") or {}).get(QUEUE)
        return f"in the queue {queue}" if queue and ((one or {}).get("spec") or {}).get("suspend") else ""
    status = pod.get("status") or {}
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in _AS_EVER:
            return _said(waiting)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _said(condition)
    return ""


def _said(about: Mapping[str, Any]) -> str:
    return ": ".join(str(about[word]) for word in ("reason", "message") if about.get(word))


def ended_by_itself(pod: Object) -> bool:
    """Whether a run's program has ended as the run did, and nothing has happened to it."""
    states = [one.get("state") or {} for one in (pod.get("status") or {}).get("containerStatuses") or ()]
    return bool(states) and all((one.get("terminated") or {}).get("exitCode") in (0, *EXITS) for one in states)


def why(pod: Object) -> str:
    """Return what the cluster says of a pod's end, or of why it does not begin; empty when it says nothing."""
    status = pod.get("status") or {}
    found = [str(status.get(word)) for word in ("reason", "message") if status.get(word)]
    # Of what comes before the run, such as the clone of its code, an end that was none of its making counts alone.
    before = [
        one
        for one in status.get("initContainerStatuses") or ()
        if ((one.get("state") or {}).get("terminated") or {}).get("exitCode", 1)
    ]
    for one in (*before, *(status.get("containerStatuses") or ())):
        state = one.get("state") or {}
        for how in ("terminated", "waiting"):
            about = state.get(how) or {}
            found += [str(about[word]).strip() for word in ("reason", "message") if about.get(word)]
            if about.get("exitCode"):
                found.append(f"exit code {about['exitCode']}")
    return ", ".join(found)
