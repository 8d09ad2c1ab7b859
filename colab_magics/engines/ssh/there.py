"""The local engine of a machine, for a scheduler elsewhere: ``python -P -m colab_magics.engines.ssh.there``.

It answers questions that come through standard input, one after the other (see `colab_magics.engines.ssh.line` for the
other end). Nothing depends on it: runs are processes of their own, and what is known of them stands in files, so that
the next one finds them when this one has died with its connection.

Below ``~/colab_magics``::

    .runs/<session>/<job>/sub_job_003/    a run's folder; a session is one scheduler's
    .runs/keys/<key>.json                 what is known of one attempt at a run, from before it is started
    .code/<state>/                        the project's code in one state, in which runs work
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import importlib.metadata
import io
import json
import os
import re
import select
import shutil
import signal
import socket
import stat
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ... import files, process
from ...errors import ColabMagicsError, InvalidInput, NotFound
from ...records import lock
from ...records.names import PRELOAD, RECORD, SCHEDULER, STATE, number_of
from ...relay import wire
from ...session import CODE_VARIABLE
from ...transport import copying
from .. import base
from ..base import Phase, Program, Submission, Work
from ..local import LocalEngine
from .code import Snapshot, States
from .folders import GROWING, OF_HOME
from .line import ANSWER, ASK, NEWS

SERVING = "colab_magics-runs: serving"
ROOT = "colab_magics"
STAGED = ".staged"
"""Begins the name of a folder with what is to be copied home."""
MOST_AT_ONCE = 4 << 20
KEPT_SECONDS = 86_400.0
"""How long a run's folder stays when it has come home and nobody has removed it."""

Answer = tuple[dict[str, Any], list[bytes]]


class There:
    """What this machine does when it is asked.

    Parameters
    ----------
    home : Path
        The user's home folder.
    """

    def __init__(self, home: Path) -> None:
        self.runs = home / ROOT / ".runs"
        self.home = home
        self.states = States(home / ROOT / ".code")
        self._engines: dict[tuple[Path, str], LocalEngine] = {}
        self._others = LocalEngine()
        """For runs that this process has not started."""
        self._mine: dict[str, LocalEngine] = {}
        for folder in (home / ROOT, self.runs, self.runs / "keys", self.states.folder):
            folder.mkdir(mode=0o700, exist_ok=True)

    # What is known of attempts.

    def _file(self, key: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{16,64}", key):
            raise InvalidInput(f"{key!r} is no run's key.")
        return self.runs / "keys" / f"{key}.json"

    def _known(self, key: str) -> dict[str, Any] | None:
        known = process.read_json(self._file(key))
        if known is None or known.get("cancelled"):
            return None
        folder = Path(str(known.get("folder")))
        return known if folder.is_relative_to(self.runs) and ".." not in folder.parts else None

    def _note(self, key: str, **known: Any) -> None:
        process.write_json(self._file(key), known, durable=False)

    def _submission(self, key: str, known: Mapping[str, Any]) -> Submission:
        return Submission(Path(known["folder"]), key, known.get("who"))

    def _engine(self, key: str) -> LocalEngine:
        return self._mine.get(key, self._others)

    def _sought(self, key: str) -> dict[str, Any] | None:
        """Return what is known of an attempt that was started; one that was only announced is looked for."""
        known = self._known(key)
        if known is not None and not known.get("who"):
            who = self._others.find([self._submission(key, known)])[0]
            if who is None and not (Path(known["folder"]) / STATE).exists():
                return None
            known["who"] = who or {}
            self._note(key, **known)
        return known

    # Questions.

    def hello(self) -> Answer:
        """Say who this is, and which packages are missing; remove what has come home long ago."""
        self._sweep()
        return {"host": socket.gethostname(), "python": sys.version.split()[0], "unmet": _unmet()}, []

    def settle(self, workers: str, gpus: str | float | None) -> Answer:
        """Say what runs get here."""
        found = self._others.settle(self.runs, workers, gpus)
        said = {"workers": found.workers, "gpus": found.gpus, "only_free": found.only_free, "note": found.note}
        return {**said, "devices": list(found.devices), "warnings": list(found.warnings)}, []

    def code(self, state: str, files: dict[str, list[Any]]) -> Answer:
        """Say what of a state of the code is missing, by the hashes of contents; None when it is there."""
        return {"missing": self.states.missing(state, Snapshot.of(files))}, []

    def bring(self, blob: bytes, *, files: dict[str, list[Any]], marker: str, inputs: str) -> Answer:
        """Make a state of the code from what comes and what is here."""
        leads = (self.home / inputs).resolve()
        if not leads.is_relative_to(self.home.resolve()):
            raise InvalidInput(f"{inputs!r} is not below the home folder.")
        self.states.make(Snapshot.of(files), blob, marker, leads)
        return {"inputs": any(leads.iterdir())}, []

    def folder(self, session: str, job: str, name: str) -> Answer:
        """Make a run's folder, so that large files can be copied into it; returns its path."""
        made = self._folder(session, job, name)
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {"folder": str(made)}, []

    def _folder(self, session: str, job: str, name: str) -> Path:
        plain = job and "/" not in job and job not in (".", "..") and "\0" not in job
        if not re.fullmatch(r"[0-9a-f]{8,64}", session) or number_of(name) is None or not plain:
            raise InvalidInput(f"{job}/{name} is no folder of a run.")
        return self.runs / session / job / name

    def submit(
        self,
        *blobs: bytes,
        session: str,
        job: str,
        program: str,
        state: str,
        environment: dict[str, str],
        preload: dict[str, Any] | None,
        runs: list[dict[str, Any]],
    ) -> Answer:
        """Start runs; for each what is known of it now: its process, nothing while it has to wait, or a problem."""
        code = self.states.folder_of(state)
        if code is None:
            raise NotFound(f"The code of {job} is not here any more.", "It comes again by itself.")
        job_folder = self._folder(session, job, "sub_job_000").parent
        answers: list[dict[str, Any]] = [{}] * len(runs)
        fresh: list[tuple[int, Submission]] = []
        for number, (one, blob) in enumerate(zip(runs, blobs, strict=True)):
            before = process.read_json(self._file(one["key"])) or {}
            if before.get("cancelled"):
                answers[number] = {"problem": "it was cancelled before it came here"}
            elif (known := self._sought(one["key"])) is not None:
                answers[number] = {"who": known["who"]}
            else:
                folder = self._folder(session, job, one["folder"])
                self._write(folder, one, blob, code)
                fresh.append((number, Submission(folder, one["key"])))
        if fresh:
            engine = self._prepared(job_folder, code, program, environment, preload, [one.folder for _, one in fresh])
            for number, submission in fresh:
                known = {"folder": str(submission.folder), "base": runs[number]["base"]}
                known |= {"began": time.time(), "code": str(code)}
                self._note(submission.key, **known)
                who = engine.submit([submission])[0]
                if who is None:
                    self._file(submission.key).unlink()
                    continue
                self._note(submission.key, **known, who=who)
                self._mine[submission.key] = engine
                answers[number] = {"who": who}
        return {"runs": answers}, []

    def _write(self, folder: Path, one: Mapping[str, Any], blob: bytes, code: Path) -> None:
        """Write a run's folder; what an attempt before it has left there stays, as it does everywhere."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if lock.is_held(folder):
            raise InvalidInput(f"{folder} is being executed: no second attempt begins beside it.")
        for name in (*GROWING, STATE):
            (folder / name).unlink(missing_ok=True)
        copying.unpack(blob, folder)
        record = dict(one["record"])
        inside = one["cwd"]
        record["cwd"] = str(code / inside) if inside is not None else str(folder)
        payload = dict(record.get("payload") or {})
        if payload.get("kernel") and not _has_kernel(payload["kernel"]):
            payload["kernel"] = None  # the project's Python here
        record["payload"] = payload
        process.write_json(folder / RECORD, record)

    def _prepared(
        self,
        job_folder: Path,
        code: Path,
        program: str,
        environment: Mapping[str, str],
        preload: dict[str, Any] | None,
        folders: Sequence[Path],
    ) -> LocalEngine:
        if (engine := self._engines.get((job_folder, code.name))) is not None:
            return engine
        module, _, name = program.partition(":")
        what = cast("type[Program]", getattr(importlib.import_module(module), name))
        (job_folder / SCHEDULER).mkdir(mode=0o700, exist_ok=True)
        if preload is not None:
            process.write_json(job_folder / SCHEDULER / PRELOAD, _of_this_python(preload))
        own = {**environment, CODE_VARIABLE: str(code)}
        engine = self._engines[job_folder, code.name] = LocalEngine()
        before = Path.cwd()
        os.chdir(job_folder)
        engine.prepare(Work(job_folder, what(), folders, environment=own))
        os.chdir(before)
        return engine

    def find(self, keys: list[str]) -> Answer:
        """Look for attempts; None for those that were never started here."""
        found = [self._sought(key) for key in keys]
        return {"runs": [known and {"base": known.get("base") or {}} for known in found]}, []

    def poll(self, keys: list[str]) -> Answer:
        """Tell how attempts are doing; ``never`` of those that are not known here."""
        phases: list[str] = []
        for key in keys:
            known = self._sought(key)
            phases.append("never" if known is None else self._phase(key, known))
        return {"phases": phases}, []

    def _phase(self, key: str, known: Mapping[str, Any]) -> Phase:
        if not known["who"]:
            return base.ENDED
        return self._engine(key).poll([self._submission(key, known)])[0]

    def look(self) -> bool:
        """Look at the runs that this process has started; whether one of them has ended."""
        process.reap()
        before = len(self._mine)
        for key in list(self._mine):
            known = self._known(key)
            if known is None or self._phase(key, known) == base.ENDED:
                del self._mine[key]
        return len(self._mine) < before

    def handles(self) -> list[int]:
        """Return what becomes readable when a run that this process has started ends."""
        return [fd for engine in self._engines.values() for fd in engine.handles()]

    def fetch(self, runs: list[dict[str, Any]]) -> Answer:
        """Return what runs have written: their state, what is new of what grows, and perhaps a list of the rest."""
        answers, blobs = list[dict[str, Any]](), list[bytes]()
        left = MOST_AT_ONCE
        for one in runs:
            known = self._known(one["key"])
            if known is None:
                answers.append({})
                continue
            folder, more = Path(known["folder"]), False
            parts = [_read(folder / STATE, 0, MOST_AT_ONCE)]
            for name in GROWING:
                part = _read(folder / name, int(one["have"].get(name, 0)), left)
                more = more or len(part) == left
                left = max(left - len(part), 1)
                parts.append(part)
            blobs += parts
            listed = list(_listed(folder, quiet=one["final"])) if one["list"] else None
            answers.append({"more": more, "files": listed, "base": known.get("base") or {}})
        return {"runs": answers}, blobs

    def files(self, key: str, names: list[str]) -> Answer:
        """Return files of a run, as an archive."""
        folder = Path(self._must_know(key)["folder"])
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # gone again
                    archive.add(_inside(folder, name), name, recursive=False)
        return {}, [packed.getvalue()]

    def stage(self, key: str, names: list[str]) -> Answer:
        """Give files of a run a second name in a folder of their own, to be copied from there; returns its path."""
        folder = Path(self._must_know(key)["folder"])
        staged = folder.with_name(f"{STAGED}-{key}")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(mode=0o700)
        for name in names:
            to = staged / name
            to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.link(_inside(folder, name), to, follow_symlinks=False)
        return {"folder": str(staged)}, []

    def written(self, state: str) -> Answer:
        """Return name, size and time of change of what runs have written beside the code."""
        return {"files": self.states.written(state) if self.states.folder_of(state) else []}, []

    def _must_know(self, key: str) -> dict[str, Any]:
        known = self._known(key)
        if known is None:
            raise NotFound("Nothing is known of that run here any more.")
        return known

    def cancel(self, keys: list[str]) -> Answer:
        """End runs; what comes later under one of these keys is not started."""
        for key in keys:
            known = self._sought(key)
            if known is None:
                self._note(key, cancelled=True, began=time.time())
            elif known["who"]:
                self._engine(key).cancel([self._submission(key, known)])
        return {}, []

    def home_again(self, keys: list[str], remove: bool) -> Answer:
        """Note that all of these runs has come home, or remove it."""
        for key in keys:
            known = self._known(key)
            if known is None or self._phase(key, {"who": {}, **known}) != base.ENDED:
                continue
            self._mine.pop(key, None)
            if remove:
                self._remove(key, known)
            else:
                self._note(key, **known, home=time.time())
        return {}, []

    def _remove(self, key: str, known: Mapping[str, Any]) -> None:
        folder = Path(known["folder"])
        shutil.rmtree(folder.with_name(f"{STAGED}-{key}"), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        self._file(key).unlink(missing_ok=True)
        job = folder.parent
        if not any(number_of(name) is not None for name in os.listdir(job)):
            shutil.rmtree(job, ignore_errors=True)
            with contextlib.suppress(OSError):
                job.parent.rmdir()

    def _sweep(self) -> None:
        now = time.time()
        used = set[str]()
        for file in (self.runs / "keys").glob("*.json"):
            known = process.read_json(file) or {}
            over = known.get("home") or (known.get("began") if known.get("cancelled") else None)
            if over and now - float(over) > KEPT_SECONDS:
                if known.get("cancelled"):
                    file.unlink(missing_ok=True)
                elif self._known(file.stem) is not None:
                    self._remove(file.stem, known)
            elif "folder" in known:
                used.add(str(known.get("code")))
        self.states.sweep(used, KEPT_SECONDS)


def _unmet() -> list[str]:
    """Return the requirements of this package that the Python here does not meet."""
    from packaging.requirements import Requirement

    unmet = []
    for line in importlib.metadata.requires("colab-magics") or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            unmet.append(line)
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            unmet.append(line)
    return unmet


def _has_kernel(name: str) -> bool:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        KernelSpecManager().get_kernel_spec(name)
    except NoSuchKernel:
        return False
    return True


def _of_this_python(preload: dict[str, Any]) -> dict[str, Any]:
    """Say of the process that warm kernels are forked from how it starts here."""
    package = Path(__file__).parents[2]
    known = {}
    for name, order in (preload.get("kernels") or {}).items():
        if name and not _has_kernel(name):
            name = ""
        program = package.joinpath(*Path(order["command"][-1]).parts[-2:])
        known[name] = {**order, "command": [sys.executable, str(program)], "env": {}, "started": None}
    return {"kernels": known}


def _read(path: Path, start: int, most: int) -> bytes:
    try:
        fd = files.plain(path, os.O_RDONLY)
    except OSError:
        return b""
    with open(fd, "rb") as stream:
        stream.seek(start)
        return stream.read(most)


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if os.path.isabs(name) or ".." in Path(name).parts or not path.parent.resolve().is_relative_to(folder.resolve()):
        raise InvalidInput(f"{name!r} is not in that folder.")
    return path


def _listed(folder: Path, *, quiet: bool) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of change of what a run has written; while it lives what is being written is left."""
    for at, folders, names in os.walk(folder):
        if at == str(folder):
            folders[:] = [name for name in folders if not name.startswith(STAGED)]
        for name in (*names, *(one for one in folders if os.path.islink(os.path.join(at, one)))):
            path = os.path.join(at, name)
            inside = os.path.relpath(path, folder)
            if inside in OF_HOME:
                continue
            with contextlib.suppress(OSError):
                seen = os.lstat(path)
                if stat.S_ISLNK(seen.st_mode) or (stat.S_ISREG(seen.st_mode) and (quiet or not _is_written(path))):
                    yield inside, seen.st_size, seen.st_mtime_ns


def _is_written(path: str) -> bool:
    """Whether somebody has a file open to write it, as far as the file system can tell; see fcntl(2), leases."""
    fd = files.plain(path, os.O_RDONLY)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        pass
    finally:
        os.close(fd)
    return False


def _answered(there: There, payload: bytes) -> bytes:
    head, *blobs = wire.split(payload)
    words = wire.parse(head)
    said: dict[str, Any]
    parts: list[bytes] = []
    try:
        said, parts = _QUESTIONS[words.pop("ask")](there, *blobs, **words)
    except ColabMagicsError as error:
        said = {"error": {"what": error.what, "mend": error.mend}}
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        said = {"error": {"what": f"{error.strerror or error}{where}", "errno": error.errno or 0}}
    return wire.frames([json.dumps(said).encode(), *parts])


_QUESTIONS: dict[str, Callable[..., Answer]] = {
    function.__name__: function
    for function in (
        *(There.hello, There.settle, There.code, There.bring, There.folder, There.submit, There.find, There.poll),
        *(There.fetch, There.files, There.stage, There.cancel, There.home_again, There.written),
    )
}


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def serve(there: There, source: int, target: int) -> None:
    """Answer what comes through a file until it ends."""
    reader = wire.Reader()
    while True:
        poll = select.poll()
        for fd in (source, *there.handles()):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(1000)}
        if ready - {source} and there.look():
            _write(target, wire.record(NEWS, b""))
        if source not in ready:
            continue
        data = os.read(source, 1 << 20)
        if not data:
            return
        for kind, number, payload in reader.feed(data):
            if kind == ASK:
                _write(target, wire.record(ANSWER, _answered(there, payload), number))


def main() -> None:
    """Run as a program."""
    # What is printed by whoever is imported must not come between the records.
    target = os.dup(1)
    os.dup2(2, 1)
    os.umask(0o077)
    # A file that is looked at while somebody opens it to write ends nobody; see fcntl(2), leases.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    there = There(Path.home())
    _write(target, f"{SERVING}\n".encode())
    with contextlib.suppress(BrokenPipeError):
        serve(there, 0, target)


if __name__ == "__main__":
    main()
