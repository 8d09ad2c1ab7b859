"""What the cluster says of jobs and pods, by watches: a poll costs no request as long as nothing changes.

A thread a kind lists once and then reads what changes. A watch that ends, or is cut, goes on where it was; what the
server knows no more (410) is listed again, and so is what may not be watched. As long as the server cannot be reached
nobody can tell how runs stand.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence

from ... import process
from ...errors import ColabMagicsError, Unavailable
from .cluster import Cluster, Refused
from .objects import Object

_FIRST = 30.0
"""Seconds that the first list may take."""
_UNASKED = 90.0
"""Seconds after which a watch ends that nobody asks any more."""
_PAUSE, _LONGEST_PAUSE = 0.5, 10.0


class Watched:
    """Objects of one kind, as the cluster has them.

    Parameters
    ----------
    there_is : Cluster
        Where they are.
    kind : str
        ``Job`` or ``Pod``.
    label : str
        The label by which they are chosen.
    """

    def __init__(self, there_is: Cluster, kind: str, label: str) -> None:
        self._cluster, self._kind, self._label = there_is, kind, label
        self._changed = threading.Condition()
        self._values: tuple[str, ...] = ()
        self._objects: dict[str, Object] | None = None
        self._problem: ColabMagicsError | None = None
        self._asked = 0.0
        self._thread: threading.Thread | None = None

    def of(self, values: Iterable[str]) -> dict[str, list[Object]]:
        """Return those with each of these values of the label.

        Raises
        ------
        ColabMagicsError
            When nobody can tell now.
        """
        wanted = list(values)
        with self._changed:
            self._asked = time.monotonic()
            if more := [one for one in wanted if one not in self._values]:
                self._values = (*self._values, *more)
                self._thread = None  # the one before sees that it is not meant any more
            if self._thread is None or not self._thread.is_alive():
                self._objects = self._problem = None
                self._thread = threading.Thread(target=self._watch, args=(self._values,), daemon=True)
                self._thread.start()
            self._changed.wait_for(lambda: self._objects is not None or self._problem is not None, _FIRST)
            if self._problem is not None or self._objects is None:
                raise self._problem or Unavailable("The cluster does not answer.", "Try it: kubectl get jobs")
            found: dict[str, list[Object]] = {value: [] for value in wanted}
            for one in self._objects.values():
                found.get(str((one["metadata"].get("labels") or {}).get(self._label)), []).append(one)
            return found

    def end(self) -> None:
        """Let the thread end."""
        with self._changed:
            self._thread = None

    def _is_meant(self) -> bool:
        return self._thread is threading.current_thread() and time.monotonic() < self._asked + _UNASKED

    def _watch(self, values: Sequence[str]) -> None:
        selector = f"{self._label} in ({','.join(values)})"
        version, pause = "", _PAUSE
        while self._is_meant():
            try:
                version = version or self._list(selector)
                for at in self._follow(selector, version):
                    version, pause = at, _PAUSE
                continue
            except Refused as problem:
                # Gone by; or who may list need not be one who may watch.
                self._failed(problem, tell=not version)
                version = ""
            except ColabMagicsError as problem:
                self._failed(problem, tell=not version or pause > _PAUSE)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _failed(self, problem: ColabMagicsError, *, tell: bool) -> None:
        process.log.debug("watching %s: %s", self._kind, problem.what)
        if tell:
            self._note(problem)

    def _note(self, problem: ColabMagicsError | None) -> None:
        with self._changed:
            if self._thread is threading.current_thread():
                self._problem = problem
                self._changed.notify_all()

    def _list(self, selector: str) -> str:
        found, version = self._cluster.listed(self._kind, selector)
        with self._changed:
            if self._thread is threading.current_thread():
                self._objects, self._problem = {one["metadata"]["uid"]: one for one in found}, None
                self._changed.notify_all()
        return version

    def _follow(self, selector: str, version: str) -> Iterator[str]:
        """Take what changes; yields where that is, so that a watch which is cut goes on there."""
        for event in self._cluster.watch(self._kind, selector, version):
            self._note(None)
            if event is None:
                yield version  # it has begun
                continue
            about = event["object"]["metadata"]
            version = str(about.get("resourceVersion") or version)
            with self._changed:
                if self._thread is not threading.current_thread() or self._objects is None:
                    return
                if event["type"] == "DELETED":
                    self._objects.pop(about["uid"], None)
                elif event["type"] in ("ADDED", "MODIFIED"):
                    self._objects[about["uid"]] = event["object"]
            yield version
