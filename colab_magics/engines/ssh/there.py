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
import importlib
import importlib.metadata
import io
import json
import os
import select
import shutil
import signal
import socket
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ... import process
from ...errors import ColabMagicsError, InvalidInput, NotFound
from ...records import lock
from ...records.names import PRELOAD, RECORD, SCHEDULER, STATE
from ...relay import wire
from ...session import CODE_VARIABLE
from ...transport import copying
from ..base import Program, Submission, Work
from ..local import LocalEngine
from . import attempts
from .attempts import Attempts
from .code import Snapshot, States
from .folders import GROWING
from .line import ANSWER, ASK, NEVER, NEWS
from .room import Room

SERVING = "colab_magics-runs: serving"
ROOT = "colab_magics"


MOST_AT_ONCE = 1 << 20
MOST_BESIDE = 10_000
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
        self.home = home
        (home / ROOT).mkdir(mode=0o700, exist_ok=True)
        self.attempts = Attempts(home / ROOT / ".runs")
        self.states = States(home / ROOT / ".code")
        self.room = Room()
        self._engines: dict[tuple[Path, str], LocalEngine] = {}

    def hello(self) -> Answer:
        """Say who this is, and which packages are missing; remove what has come home long ago."""
        self.states.sweep(self.attempts.sweep(KEPT_SECONDS), KEPT_SECONDS)
        return {"host": socket.gethostname(), "python": sys.version.split()[0], "unmet": _unmet()}, []

    def settle(self, workers: str, gpus: str | float | None, inputs: str) -> Answer:
        """Say what runs get here, and whether any inputs are here."""
        found = LocalEngine().settle(self.home, self.home, workers, gpus)
        said: dict[str, Any] = {"workers": found.workers, "gpus": found.gpus, "only_free": found.only_free}
        own = self.home / inputs
        said["inputs"] = own.is_dir() and any(own.iterdir())
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
        return {}, []

    def folder(self, session: str, job: str, name: str) -> Answer:
        """Make a run's folder, so that large files can be copied into it; returns its path."""
        made = self.attempts.folder_of(session, job, name)
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {"folder": str(made)}, []

    def companions(self, blob: bytes, *, session: str, job: str) -> Answer:
        """Take runs of other forks, on whose results some build."""
        folder = self.attempts.folder_of(session, job, "sub_job_000").parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        copying.unpack(blob, folder)
        return {}, []

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
        answers: list[dict[str, Any]] = [{}] * len(runs)
        fresh: list[tuple[int, Submission]] = []
        for number, (one, blob) in enumerate(zip(runs, blobs, strict=True)):
            if self.attempts.is_cancelled(one["key"]):
                answers[number] = {"problem": "it was cancelled before it came here"}
            elif (known := self.attempts.sought(one["key"])) is not None:
                answers[number] = {"who": known["who"]}
            elif problem := self.room.take(one["record"]):
                answers[number] = {"problem": problem}
            else:
                folder = self.attempts.folder_of(session, job, one["folder"])
                _write_run(folder, one, blob, code)
                fresh.append((number, Submission(folder, one["key"])))
        if fresh:
            job_folder = fresh[0][1].folder.parent
            engine = self._prepared(job_folder, code, program, environment, preload, [one.folder for _, one in fresh])
            for number, submission in fresh:
                about = {"folder": str(submission.folder), "base": runs[number]["base"], "code": str(code)}
                answers[number] = self._start(engine, submission, {**about, "began": time.time()})
                self.room.started(runs[number]["record"], answers[number].get("who"))
        return {"runs": answers}, []

    def _start(self, engine: LocalEngine, one: Submission, known: dict[str, Any]) -> dict[str, Any]:
        self.attempts.note(one.key, **known)
        try:
            who = engine.submit([one])[0]
        except OSError:
            self.attempts.forget(one.key)
            raise
        if who is None:
            self.attempts.forget(one.key)
            return {}
        self.attempts.note(one.key, **known, who=who)
        self.attempts.begun(one.key, engine)
        return {"who": who}

    def _prepared(
        self,
        job_folder: Path,
        code: Path,
        program: str,
        environment: Mapping[str, str],
        preload: dict[str, Any] | None,
        folders: Sequence[Path],
    ) -> LocalEngine:
        """Return the engine for a job and a state of its code: what it is forked from has loaded that state."""
        if (engine := self._engines.get((job_folder, code.name))) is not None:
            return engine
        module, _, name = program.partition(":")
        what = cast("type[Program]", getattr(importlib.import_module(module), name))
        (job_folder / SCHEDULER).mkdir(mode=0o700, exist_ok=True)
        if preload is not None:
            process.write_json(job_folder / SCHEDULER / PRELOAD, _of_this_python(preload))
        engine = self._engines[job_folder, code.name] = LocalEngine()
        with contextlib.chdir(job_folder):
            engine.prepare(Work(job_folder, what(), folders, environment={**environment, CODE_VARIABLE: str(code)}))
        return engine

    def find(self, keys: list[str]) -> Answer:
        """Look for attempts; None for those that were never started here."""
        found = [self.attempts.sought(key) for key in keys]
        return {"runs": [known and {"base": known.get("base") or {}} for known in found]}, []

    def poll(self, keys: list[str]) -> Answer:
        """Tell how attempts are doing; ``never`` of those that are not known here."""
        found = [(key, self.attempts.sought(key)) for key in keys]
        return {"phases": [NEVER if known is None else self.attempts.phase(key, known) for key, known in found]}, []

    def handles(self) -> list[int]:
        """Return what becomes readable when a run that this process has started ends."""
        return [fd for engine in self._engines.values() for fd in engine.handles()]

    def fetch(self, runs: list[dict[str, Any]]) -> Answer:
        """Return what runs have written: their state, what is new of what grows, and perhaps a list of the rest."""
        answers, blobs = list[dict[str, Any]](), list[bytes]()
        left = MOST_AT_ONCE
        for one in runs:
            known = self.attempts.known(one["key"])
            if known is None:
                answers.append({})
                continue
            folder, more = Path(known["folder"]), False
            blobs.append(attempts.read(folder / STATE, 0, MOST_AT_ONCE))
            for name in GROWING:
                blobs.append(attempts.read(folder / name, int(one["have"].get(name, 0)), left))
                more = more or len(blobs[-1]) == left
                left = max(left - len(blobs[-1]), 1)
            files = list(attempts.listed(folder, quiet=one["final"])) if one["list"] else None
            beside = self._beside(known) if one["final"] else None
            answers.append({"more": more, "files": files, "beside": beside})
        return {"runs": answers}, blobs

    def _beside(self, known: Mapping[str, Any]) -> list[tuple[str, int, int]]:
        """Return what was written beside the code since an attempt began."""
        state = Path(str(known.get("code"))).name
        if self.states.folder_of(state) is None:
            return []
        return self.states.written(state, float(known.get("began") or 0))[:MOST_BESIDE]

    def files(self, key: str, names: list[str], beside: bool = False) -> Answer:
        """Return files of a run, as an archive; with `beside` those beside its code."""
        folder, packed = self._folder(key, beside=beside), io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # gone again
                    archive.add(attempts.inside(folder, name), name, recursive=False)
        return {}, [packed.getvalue()]

    def stage(self, key: str, names: list[str], beside: bool = False) -> Answer:
        """Give files of a run a second name in a folder of their own, to be copied from there; returns its path."""
        folder = self._folder(key, beside=beside)
        staged = self._folder(key).with_name(f"{attempts.STAGED}-{key}")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(mode=0o700)
        for name in names:
            to = staged / name
            source = attempts.inside(folder, name)
            to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.link(source, to, follow_symlinks=False)
        return {"folder": str(staged)}, []

    def _folder(self, key: str, *, beside: bool = False) -> Path:
        known = self.attempts.known(key)
        if known is None:
            raise NotFound("Nothing is known of that run here any more.")
        code = self.states.folder_of(Path(str(known.get("code"))).name) if beside else None
        return code or Path(known["folder"])

    def cancel(self, keys: list[str]) -> Answer:
        """End runs; what comes later under one of these keys is not started."""
        for key in keys:
            self.attempts.cancel(key)
        return {}, []

    def home_again(self, keys: list[str], remove: bool) -> Answer:
        """Note that all of these runs has come home, or remove it."""
        for key in keys:
            self.attempts.came_home(key, remove=remove)
        return {}, []


def _write_run(folder: Path, one: Mapping[str, Any], blob: bytes, code: Path) -> None:
    """Write a run's folder; what an attempt before it has left there stays, as it does everywhere."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if lock.is_held(folder):
        raise InvalidInput(f"{folder} is being executed: no second attempt begins beside it.")
    for name in (*GROWING, STATE):
        (folder / name).unlink(missing_ok=True)
    copying.unpack(blob, folder)
    record = dict(one["record"])
    record["cwd"] = str(folder if one["cwd"] is None else code / one["cwd"])
    payload = dict(record.get("payload") or {})
    if payload.get("kernel") and not _has_kernel(payload["kernel"]):
        payload["kernel"] = None  # the project's Python here
    process.write_json(folder / RECORD, {**record, "payload": payload})


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


def _answered(there: There, payload: bytes) -> bytes:
    head, *blobs = wire.split(payload)
    words = wire.parse(head)
    said: dict[str, Any]
    parts: list[bytes] = []
    try:
        if (question := words.pop("ask", None)) not in _QUESTIONS:
            raise InvalidInput(f"{question!r} is no question.")
        said, parts = getattr(there, question)(*blobs, **words)
    except ColabMagicsError as error:
        said = {"error": {"what": error.what, "mend": error.mend}}
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        said = {"error": {"what": f"{error.strerror or error}{where}", "errno": error.errno or 0}}
    return wire.frames([json.dumps(said).encode(), *parts])


_QUESTIONS = (
    *("hello", "settle", "code", "bring", "folder", "companions", "submit"),
    *("find", "poll", "fetch", "files", "stage", "cancel", "home_again"),
)
"""Methods of `There` that answer one."""


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
        if ready - {source} and there.attempts.look():
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
    # A file that is looked at while somebody opens it to write ends nobody; see fcntl(2), leases.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    there = There(Path.home())
    _write(target, f"{SERVING}\n".encode())
    with contextlib.suppress(BrokenPipeError):
        serve(there, 0, target)


if __name__ == "__main__":
    main()
