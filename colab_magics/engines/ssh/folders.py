"""The folders of runs on other machines: what a run needs on its way there, what it has written on its way home.

State, log and metrics come after each poll, results every minute and when a run has ended: small ones over the
connection that is there, large ones by a copy of their own, beside which everything else goes on. The state that says
that a run has ended comes last: whoever reads it finds the results.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ... import files, process
from ...errors import ColabMagicsError, Unavailable
from ...records.names import LOCK, LOG, METRICS, RECORD, REFERENCE, SOURCE, STATE, VERDICT, is_ours
from ...records.status import ENDED
from ...transport import copying
from ...units import show_size
from ..base import Submission
from .beside import MOST_INLINE, MOST_NAMES, Beside
from .host import Host
from .line import Answer, all_of

GROWING = (LOG, METRICS)
"""Files of a run that only grow: what is new of them is asked for."""
OF_HOME = frozenset({RECORD, REFERENCE, VERDICT, SOURCE, STATE, *GROWING, LOCK})
"""Files of a run that are written at home, or have a way of their own to there."""
RESULTS_EVERY = 60.0
"""Seconds between two looks for results of a run that lives."""
_SOON, _FINAL, _LONG = 2.0, 20.0, 60.0
_MORE = "more of its log is to come"

File = tuple[int, int]
"""Size, and time of change in nanoseconds."""


def own_files(folder: Path) -> list[str]:
    """Return what of a run's folder its next attempt needs: what it executes, and what its cells wrote before."""
    found = [SOURCE] if (folder / SOURCE).is_file() else []
    for at, folders, names in os.walk(folder):
        top = at == str(folder)
        folders[:] = [name for name in folders if not (top and is_ours(name))]
        links = [name for name in folders if os.path.islink(os.path.join(at, name))]
        found += [
            os.path.relpath(os.path.join(at, name), folder) for name in (*names, *links) if not top or not is_ours(name)
        ]
    return found


def size_of(folder: Path, names: Iterable[str]) -> int:
    """Return how many bytes files have."""
    return sum(os.lstat(folder / name).st_size for name in names)


def packed(folder: Path, names: Sequence[str]) -> bytes:
    """Return files of a run's folder as an archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in names:
            tar.add(folder / name, name, recursive=False)
    return archive.getvalue()


def sizes(folder: Path) -> dict[str, int]:
    """Return how large the files are that only grow: what an attempt elsewhere writes is added behind that."""
    return {name: _size(folder / name) for name in GROWING}


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


class Arrivals:
    """Brings home what runs have written.

    Parameters
    ----------
    host : callable
        Returns a host by its name.
    """

    def __init__(self, host: Callable[[str], Host]) -> None:
        self._host = host
        self._next: dict[str, float] = {}
        self._brought: dict[str, set[str]] = {}
        self._copies: dict[str, Copy] = {}
        self._home: dict[str, str] = {}
        self._asked: dict[str, tuple[Future[Answer], Sequence[Submission], bool]] = {}
        """What each host was asked last, and has not answered yet."""

    def fetch(self, runs: Sequence[tuple[str, Submission]], *, final: bool) -> list[str]:
        """Bring home what is new; see `colab_magics.engines.base.Engine.fetch`.

        Parameters
        ----------
        runs : sequence of (str, Submission)
            The name of the host, and the run.
        final : bool
            Whether they have ended.
        """
        troubles: dict[str, str] = {}
        left, limit = list(runs), time.monotonic() + _SOON
        while left:
            troubles |= self._fetch(left, final=final)
            # A log is cut into pieces, so that others get their turn between them.
            more = final and time.monotonic() < limit
            left = [(name, run) for name, run in left if more and troubles.get(run.key) == _MORE]
        return [troubles.get(run.key, "") for _, run in runs]

    def _fetch(self, runs: Sequence[tuple[str, Submission]], *, final: bool) -> dict[str, str]:
        by_host: dict[str, list[Submission]] = {}
        for name, run in runs:
            by_host.setdefault(name, []).append(run)
        for name, mine in by_host.items():
            # One question at a time: its answer begins where the files ended when it was asked.
            if name not in self._asked:
                self._asked[name] = self._ask(name, mine, final=final), mine, final
        all_of([self._asked[name][0] for name in by_host], _FINAL if final else _SOON)
        troubles: dict[str, str] = {}
        for name, mine in by_host.items():
            answer, asked, was_final = self._asked[name]
            if not answer.done():
                troubles |= {run.key: f"{name} does not answer" for run in mine}
                continue
            del self._asked[name]
            found = self._arrived(name, asked, answer, final=was_final)
            fits = was_final or not final
            troubles |= {run.key: found[run.key] if fits and run.key in found else _MORE for run in mine}
        return troubles

    def _arrived(self, name: str, runs: Sequence[Submission], answer: Future[Answer], *, final: bool) -> dict[str, str]:
        """Write what a host has answered; returns for each run why something is still to come."""
        try:
            said, blobs = answer.result(0)
        except ColabMagicsError as problem:
            return {run.key: problem.what.rstrip(".") for run in runs}
        troubles, parts = dict.fromkeys((run.key for run in runs), ""), len(GROWING) + 1
        for run, one in zip(runs, said["runs"], strict=False):
            if one and len(blobs) >= parts:
                own, blobs = blobs[:parts], blobs[parts:]
                troubles[run.key] = self._arrive(name, run, one, own, final=final)
        return troubles

    def _ask(self, name: str, runs: Sequence[Submission], *, final: bool) -> Future[Answer]:
        now, heads = time.monotonic(), []
        for run in runs:
            listed = final or now >= self._next.setdefault(run.key, now + RESULTS_EVERY)
            if listed:
                self._next[run.key] = now + RESULTS_EVERY
            heads.append({"key": run.key, "have": self._have(run), "list": listed, "final": final})
        return self._host(name).ask("fetch", runs=heads)

    def _have(self, run: Submission) -> dict[str, int]:
        known = (run.ref or {}).get("base")
        base = known if isinstance(known, dict) else {}
        before = {name: value for name, value in base.items() if isinstance(value, int)}
        return {name: max(0, size - before.get(name, 0)) for name, size in sizes(run.folder).items()}

    def _arrive(
        self, name: str, run: Submission, said: Mapping[str, Any], parts: Sequence[bytes], *, final: bool
    ) -> str:
        """Write what came of one run; returns why something is still to come."""
        state, *grown = parts
        try:
            for file, data in zip(GROWING, grown, strict=True):
                _append(run.folder / file, data)
            trouble = ""
            if said.get("files") is not None:
                trouble = self._results(name, run, said["files"], final=final)
            if said.get("more"):
                trouble = trouble or _MORE
            if final and not trouble:
                trouble = self._beside(name, run, said.get("beside") or ())
            if final and not trouble:
                self._home[run.key] = name
                self._host(name).ask("home_again", keys=[run.key], remove=False)
            if state and (not trouble if final else not _is_over(state)):
                process.write_whole(run.folder / STATE, state.decode("utf-8", "replace"), durable=final)
        except OSError as error:
            return f"{error.strerror or error}: {error.filename or run.folder}"
        except ColabMagicsError as error:
            return error.what.rstrip(".")
        return trouble

    def _results(self, name: str, run: Submission, listed: Sequence[Sequence[Any]], *, final: bool) -> str:
        copy = self._copies.get(run.key)
        if copy is not None and copy.is_alive():
            return f"{name}: {copy.what} of {run.folder.name} are being copied"
        there = {path: (size, changed) for path, size, changed in listed if _stays_in(run.folder, path)}
        wanted = [path for path, seen in there.items() if not _is_here(run.folder / path, seen)]
        if copy is not None:
            del self._copies[run.key]
            if copy.problem and final:
                return f"{name}: {copy.problem}"
            if final and not copy.problem:
                # What did not come now never will, such as a link that leads out of the folder.
                wanted = [path for path in wanted if path not in copy.names]
        brought = self._brought.setdefault(run.key, set())
        trouble = ""
        if wanted:
            size = sum(there[path][0] for path in wanted)
            if size <= MOST_INLINE and len(wanted) <= MOST_NAMES:
                answer = self._host(name).ask("files", key=run.key, names=wanted)
                copying.unpack(answer.result(_LONG)[1][0], run.folder)
            else:
                what = f"{len(wanted):,} files, {show_size(size)}"
                self._copies[run.key] = Copy(name, functools.partial(self._copy, name, run, wanted), what, wanted)
                trouble = f"{name}: {what} of {run.folder.name} are being copied"
        if final:
            for gone in brought - there.keys():
                (run.folder / gone).unlink(missing_ok=True)
        brought |= there.keys()
        return trouble

    def _beside(self, name: str, run: Submission, listed: Sequence[Any]) -> str:
        """Bring home what ``outputs=`` means; returns why that is still to come."""
        found, copy = Beside(run, [tuple(one) for one in listed]), self._copies.get(run.key)
        if copy is not None:
            if copy.is_alive():
                return f"{name}: {copy.what} are being copied"
            del self._copies[run.key]
            if copy.problem:
                return f"{name}: {copy.problem}"
        elif found.is_large:
            what = f"{len(found.wanted):,} files, {show_size(found.size)}"
            bring = functools.partial(found.bring, self._host(name))
            self._copies[run.key] = Copy(name, bring, what)
            return f"{name}: {what} are being copied"
        else:
            found.bring(self._host(name))
        if run.key not in self._home:
            found.tell(name)
        return ""

    def _copy(self, name: str, run: Submission, names: Sequence[str]) -> None:
        said, _ = self._host(name).ask("stage", key=run.key, names=list(names)).result(_LONG)
        self._host(name).bring(said["folder"], run.folder)

    def finish(self) -> None:
        """Remove at the hosts what has come home."""
        by_host: dict[str, list[str]] = {}
        for key, name in self._home.items():
            by_host.setdefault(name, []).append(key)
        asked = [self._host(name).ask("home_again", keys=keys, remove=True) for name, keys in by_host.items()]
        all_of(asked, _SOON)


class Departures:
    """Takes what large run folders hold to hosts, before the runs are submitted."""

    def __init__(self) -> None:
        self._copies: dict[tuple[str, str], Copy] = {}

    def names(self, host: Host, run: Submission, session: str) -> list[str] | None:
        """Return which of a run's files still have to go along with it; None while others are being copied.

        Raises
        ------
        Unavailable
            When they could not be copied.
        """
        names = own_files(run.folder)
        large = [name for name in names if name != SOURCE]
        if size_of(run.folder, names) <= MOST_INLINE and len(names) <= MOST_NAMES:
            return names
        copy = self._copies.get((host.name, run.key))
        if copy is None:
            words = {"session": session, "job": run.folder.parent.name, "name": run.folder.name}

            def send() -> None:
                said, _ = host.ask("folder", **words).result(_LONG)
                host.take(run.folder, said["folder"])

            self._copies[host.name, run.key] = Copy(host.name, send, f"{len(large):,} files")
            return None
        if copy.is_alive():
            return None
        del self._copies[host.name, run.key]
        if copy.problem:
            raise Unavailable(copy.problem)
        return [name for name in names if name == SOURCE]


class Copy(threading.Thread):
    """A copy of large files, beside everything else."""

    def __init__(self, host: str, copy: Callable[[], None], what: str, names: Iterable[str] = ()) -> None:
        super().__init__(name=f"copy {host}", daemon=True)
        self._host, self._copy, self.what, self.names = host, copy, what, set(names)
        self.problem = ""
        self.start()

    def run(self) -> None:
        """Copy, and keep why that could not be."""
        try:
            self._copy()
        except TimeoutError:
            self.problem = f"{self._host} does not answer"
        except ColabMagicsError as problem:
            self.problem = problem.what.rstrip(".")
        except OSError as problem:
            self.problem = f"{problem.strerror}: {problem.filename}"


def _append(path: Path, data: bytes) -> None:
    if data:
        fd = files.plain(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with open(fd, "ab", buffering=0) as stream:
            stream.write(data)


def _is_over(state: bytes) -> bool:
    with contextlib.suppress(ValueError):
        value = json.loads(state)
        return isinstance(value, dict) and value.get("phase") in ENDED
    return False


def _stays_in(folder: Path, path: str) -> bool:
    """Whether a name that another machine says is one within a run's folder, and none that is written here."""
    if path.startswith("/") or {"", ".", ".."} & set(path.split("/")) or "\0" in path or path in OF_HOME:
        return False
    return Path(os.path.realpath((folder / path).parent)).is_relative_to(os.path.realpath(folder))


def _is_here(path: Path, seen: File) -> bool:
    try:
        here = os.lstat(path)
    except OSError:
        return False
    # Archives keep fractions of seconds not to the last digit, or not at all.
    whole = not here.st_mtime_ns % 10**9 and here.st_mtime_ns // 10**9 == seen[1] // 10**9
    return here.st_size == seen[0] and (whole or abs(here.st_mtime_ns - seen[1]) < 1_000_000)
