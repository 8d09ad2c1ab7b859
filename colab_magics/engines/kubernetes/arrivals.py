"""What comes home of pods: their logs, and in them state, metrics and results; larger results by a way of their own."""

from __future__ import annotations

import gzip
import os
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

from ... import files, process
from ...records.names import LOG, METRICS, RECORD, STATE
from ...records.status import ENDED
from ...transport import copying
from ..base import Submission
from ..ssh.folders import Copy
from . import home, objects, there
from .cluster import Cluster
from .frames import Reader
from .objects import Object

_SOON = 2.0
_AT_ONCE = 4
"""Copies of results at a time."""
_NOT_KEPT = "the cluster did not keep all of its log, nor its results in it"


class Arrivals:
    """What has come of pods to this process."""

    def __init__(self) -> None:
        self._readers: dict[str, dict[str, Reader]] = {}
        """By the run's key and the pod's uid, the newest last."""
        self._copies: dict[str, Copy] = {}
        self._lost: dict[str, str] = {}

    def fetch(
        self, there_is: Cluster, run: Submission, found: Sequence[Object], *, final: bool, every: float = 0.0
    ) -> str:
        """Read the logs of a run's pods, one after the other; the newest says how it stands.

        Parameters
        ----------
        there_is : Cluster
            Where they are.
        run : Submission
            The run.
        found : sequence of Object
            Its pods, the newest last.
        final : bool
            They have ended: results come, too.
        every : float, default 0
            Seconds between two looks into a log.

        Returns
        -------
        str
            What is still to come; empty when all is here.
        """
        if final and _is_home(run.folder):
            return ""
        readers = self._readers.setdefault(run.key, {})
        fresh = [_read(there_is, pod, readers.setdefault(pod["metadata"]["uid"], Reader()), every) for pod in found]
        if not final and not any(fresh):
            return ""
        if readers:
            _write_grown(run, list(readers.values()), final=final)
        last = next(reversed(readers.values()), Reader())
        problem, where = "", str((run.ref or {}).get("results") or "")
        if final and (last.files or (last.expected and not where)):
            problem = _from_log(last, run.folder)
        elif final and where:
            if to_come := self._bring(run, where, last.expected if last.ended else None):
                return to_come
            problem = self._lost.pop(run.key, "")
        state = there.without_results(last.state, problem) if problem else last.state
        if state and (final or not there.is_over(state)):
            process.write_whole(run.folder / STATE, state.decode("utf-8", "replace"), durable=final)
        if final and where:
            home.let_go(where, run.key, run.folder.parents[2])
        return ""

    def _bring(self, run: Submission, where: str, expected: int | None) -> str:
        copy = self._copies.get(run.key)
        if copy is None:
            if sum(one.is_alive() for one in self._copies.values()) >= _AT_ONCE:
                return f"results of {run.folder.name} wait for others to come from {where}"

            def bring() -> None:
                try:
                    home.bring(where, run.key, run.folder, expected)
                except home.Lost as problem:
                    self._lost[run.key] = problem.what

            copy = self._copies[run.key] = Copy(where, bring, f"results of {run.folder.name}")
        copy.join(_SOON)
        if copy.is_alive():
            return f"{copy.what} are being brought home from {where}"
        del self._copies[run.key]
        return copy.problem


def _is_home(folder: Path) -> bool:
    """Whether all has come of this attempt at a run: how it ended is written last."""
    state, record = (process.read_json(folder / name) or {} for name in (STATE, RECORD))
    return state.get("phase") in ENDED and state.get("attempt") == record.get("attempt")


def _read(there_is: Cluster, pod: Object, reader: Reader, every: float) -> bool:
    """Read what is new of a log; whether it was asked for."""
    now = time.monotonic()
    if reader.ended or (reader.asked is not None and now < reader.asked + every):
        return False
    text = there_is.log(pod["metadata"]["name"], objects.CONTAINER, reader.since(now))
    if text is not None:
        reader.asked = now
        reader.feed(text)
    return text is not None


def _write_grown(run: Submission, every: Sequence[Reader], *, final: bool) -> None:
    before = (run.ref or {}).get("base") or {}
    log = b"".join(one.log for one in every)
    if final and (lost := sum(one.lost for one in every)):
        log += f"── {lost:,} bytes of this log were not kept by the cluster\n".encode()
    _add(run.folder / LOG, log, int(before.get(LOG, 0)))
    _add(run.folder / METRICS, b"".join(one.metrics for one in every), int(before.get(METRICS, 0)))


def _from_log(last: Reader, folder: Path) -> str:
    """Unpack what has come through the log; returns why it cannot be."""
    if len(last.files) != last.expected:
        return _NOT_KEPT if last.ended else ""
    try:
        copying.unpack(gzip.decompress(last.files), folder)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return _NOT_KEPT
    return ""


def _add(path: Path, data: bytes, before: int) -> None:
    """Add to a file that only grows what is not in it yet, of all that an attempt has written behind `before`."""
    try:
        have = max(0, os.lstat(path).st_size - before)
    except OSError:
        have = 0
    if fresh := data[have:]:
        with open(files.plain(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab", buffering=0) as stream:
            stream.write(fresh)
