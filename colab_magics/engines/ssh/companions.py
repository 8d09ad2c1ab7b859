"""Runs of other forks that a run builds on: its cells above read their results, so they go along to its host."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import Unavailable
from ...records import schema
from ...records.names import FORKS, LOCK, SCHEDULER, STATE, folder_name
from .folders import Copy, packed, size_of
from .host import Host

MOST_INLINE = 32 << 20
"""What goes over the connection; more is copied by itself."""
_SECONDS = 300.0


class Companions:
    """What hosts have got of other forks' runs, in one session.

    Parameters
    ----------
    job_folder : Path
        The job.
    session : str
        Name of the session's folder there.
    """

    def __init__(self, job_folder: Path, session: str) -> None:
        self._job_folder, self._session = job_folder, session
        self._sent: dict[str, set[tuple[str, int]]] = {}
        self._copies: dict[str, Copy] = {}

    def are_there(self, host: Host, record: Mapping[str, Any]) -> bool:
        """Bring to a host what a run builds on; False while that is on its way.

        Raises
        ------
        Unavailable
            When it cannot be brought.
        """
        wanted = {(folder.name, _changed(folder)) for folder in self._folders(record)}
        wanted -= self._sent.setdefault(host.name, set())
        copy = self._copies.get(host.name)
        if copy is not None:
            if copy.is_alive():
                return False
            del self._copies[host.name]
            if copy.problem:
                raise Unavailable(copy.problem)
            self._sent[host.name] |= {(name, _changed(self._job_folder / name)) for name in copy.names}
            wanted -= self._sent[host.name]
        if not wanted:
            return True
        folders = sorted(name for name, _ in wanted)
        names = [f"{SCHEDULER}/{FORKS}"]
        for folder in folders:
            for at, inside, files in os.walk(self._job_folder / folder):
                inside[:] = [name for name in inside if not name.startswith(".")]
                own = [name for name in files if name != LOCK]
                names += [os.path.relpath(os.path.join(at, name), self._job_folder) for name in own]
        if size_of(self._job_folder, names) > MOST_INLINE:
            bring = functools.partial(self._copy, host, folders)
            self._copies[host.name] = Copy(host.name, bring, f"{len(folders)} runs of another fork", folders)
            return False
        archive = packed(self._job_folder, names)
        host.ask("companions", archive, session=self._session, job=self._job_folder.name).result(_SECONDS)
        self._sent[host.name] |= wanted
        return True

    def _folders(self, record: Mapping[str, Any]) -> list[Path]:
        forks = set((record.get("others") or {}).values())
        known = schema.read_or_nothing(self._job_folder / SCHEDULER / FORKS, schema.Forks) if forks else {}
        mine = [
            one
            for one in known.get("forks", ())
            if one.get("fork") in forks and one.get("notebook") == record.get("notebook")
        ]
        return [
            folder
            for one in mine
            for index in one["runs"]
            if (folder := self._job_folder / folder_name(index)).is_dir()
        ]

    def _copy(self, host: Host, folders: list[str]) -> None:
        archive = packed(self._job_folder, [f"{SCHEDULER}/{FORKS}"])
        words = {"session": self._session, "job": self._job_folder.name}
        host.ask("companions", archive, **words).result(_SECONDS)
        for name in folders:
            said, _ = host.ask("folder", **words, name=name).result(_SECONDS)
            host.take(self._job_folder / name, said["folder"])


def _changed(folder: Path) -> int:
    try:
        return os.lstat(folder / STATE).st_mtime_ns
    except OSError:
        return 0
