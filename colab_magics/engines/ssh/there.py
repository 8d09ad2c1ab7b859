"""An engine of a machine, for a scheduler elsewhere: ``python -P -m colab_magics.engines.ssh.there [NAME OPTIONS]``.

It is the local one, or another by its name, with options as JSON in hexadecimal digits.

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
import dataclasses
import importlib
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
from typing import Any, ClassVar, cast

from ... import process
from ...errors import ColabMagicsError, InvalidInput, NotFound
from ...records import lock
from ...records.names import PRELOAD, RECORD, REFERENCE, SCHEDULER, STATE
from ...records.run import LOCAL, Run
from ...relay import wire
from ...session import CODE_VARIABLE
from ...transport import copying
from .. import open_engine
from ..base import Engine, NotSubmitted, Program, Submission, Work
from ..local import LocalEngine
from . import attempts, python_there
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
    on : str, default "local"
        The engine's name.
    options : mapping, optional
        What was said to it.
    """

    QUESTIONS: ClassVar[Sequence[str]] = (
        *("hello", "settle", "code", "bring", "folder", "companions", "submit"),
        *("find", "poll", "verdict", "fetch", "files", "stage", "cancel", "stop", "home_again"),
    )
    """Methods that answer one."""

    def __init__(self, home: Path, on: str = LOCAL, options: Mapping[str, Any] | None = None) -> None:
        self.home, self.on, self._options = home, on, options or {}
        (home / ROOT).mkdir(mode=0o700, exist_ok=True)
        self.attempts = Attempts(home / ROOT / ".runs", self._engine())
        self.states = States(home / ROOT / ".code")
        self.room = Room()
        self._engines: dict[tuple[Path, str], Engine] = {}

    def _engine(self) -> Engine:
        return open_engine(self.on, self._options)

    def hello(self) -> Answer:
        """Say who this is, and which packages are missing; remove what has come home long ago."""
        self.states.sweep(self.attempts.sweep(KEPT_SECONDS), KEPT_SECONDS)
        return {"host": socket.gethostname(), "python": sys.version.split()[0], "unmet": python_there.unmet()}, []

    def settle(self, workers: str, gpus: str | float | None, inputs: str) -> Answer:
        """Say what runs get here, and whether any inputs are here."""
        found = self._engine().settle(self.home, self.home, workers, gpus)
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
        at_once: int | None = None,
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
                _write_run(folder, one, blob, code, self.on)
                fresh.append((number, Submission(folder, one["key"])))
        if fresh:
            job_folder = fresh[0][1].folder.parent
            work = Work(job_folder, _program(program), [one.folder for _, one in fresh], (), environment, 1, at_once)
            engine = self._prepared(work, code, preload)
            known = {}
            for number, submission in fresh:
                about = {"folder": str(submission.folder), "base": runs[number]["base"], "code": str(code)}
                known[submission.key] = {**about, "began": time.time()}
            started = self._start(engine, [one for _, one in fresh], known)
            for (number, _), who in zip(fresh, started, strict=True):
                answers[number] = {} if who is None else {"who": who}
                self.room.started(runs[number]["record"], who)
        return {"runs": answers}, []

    def _start(
        self, engine: Engine, runs: Sequence[Submission], known: Mapping[str, Any]
    ) -> list[dict[str, Any] | None]:
        for one in runs:
            self.attempts.note(one.key, **known[one.key])
        try:
            started = engine.submit(runs)
        except (OSError, NotSubmitted):
            for one in runs:
                self.attempts.forget(one.key)
            raise
        for one, who in zip(runs, started, strict=True):
            if who is None:
                self.attempts.forget(one.key)
            else:
                self.attempts.note(one.key, **known[one.key], who=who)
                self.attempts.begun(one.key, engine)
        return started

    def _prepared(self, work: Work, code: Path, preload: dict[str, Any] | None) -> Engine:
        """Return the engine for a job and a state of its code: what it is forked from has loaded that state."""
        if (engine := self._engines.get((work.job_folder, code.name))) is not None:
            return engine
        (work.job_folder / SCHEDULER).mkdir(mode=0o700, exist_ok=True)
        if preload is not None:
            process.write_json(work.job_folder / SCHEDULER / PRELOAD, python_there.preload_of(preload))
        engine = self._engines[work.job_folder, code.name] = self._engine()
        with contextlib.chdir(work.job_folder):
            engine.prepare(dataclasses.replace(work, environment={**work.environment, CODE_VARIABLE: str(code)}))
        return engine

    def find(self, keys: list[str]) -> Answer:
        """Look for attempts; None for those that were never started here."""
        found = [self.attempts.sought(key) for key in keys]
        return {"runs": [known and {"base": known.get("base") or {}} for known in found]}, []

    def poll(self, keys: list[str], at_once: int = 0) -> Answer:
        """Tell how attempts are doing; ``never`` of those that are not known here.

        `at_once` is how many of them are to execute at once, where the engine itself holds the others back.
        """
        known = {key: one for key in keys if (one := self.attempts.sought(key)) is not None}
        if at_once:
            for engine in {id(one): one for one in map(self.attempts.engine_of, known)}.values():
                engine.change_at_once(at_once)
        phases = self.attempts.phases(known)
        says = [self.attempts.engine_of(key).says(attempts.submission(key, known.get(key, {}))) for key in keys]
        return {"phases": [phases.get(key, NEVER) for key in keys], "says": says}, []

    def verdict(self, key: str) -> Answer:
        """Say what became of an attempt that has ended."""
        known = self.attempts.known(key) or {}
        word, why = self.attempts.engine_of(key).verdict(attempts.submission(key, known))
        return {"word": word, "why": why}, []

    def handles(self) -> list[int]:
        """Return what becomes readable when a run that this process has started ends."""
        return [fd for one in self._engines.values() if isinstance(one, LocalEngine) for fd in one.handles()]

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
            if one["final"]:  # what a node of a cluster has written last may be on its way to this machine
                more = more or bool(
                    self.attempts.engine_of(one["key"]).fetch([attempts.submission(one["key"], known)], final=True)[0]
                )
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
        self.attempts.cancel(*keys)
        return {}, []

    def stop(self, key: str, why: str) -> Answer:
        """Have a run end at its next report."""
        Run.load(self._folder(key)).stop_early(why)
        return {}, []

    def home_again(self, keys: list[str], remove: bool) -> Answer:
        """Note that all of these runs has come home, or remove it."""
        for key in keys:
            self.attempts.came_home(key, remove=remove)
        return {}, []


def _program(name: str) -> Program:
    module, _, attribute = name.partition(":")
    return cast("Program", getattr(importlib.import_module(module), attribute)())


def _write_run(folder: Path, one: Mapping[str, Any], blob: bytes, code: Path, on: str) -> None:
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
    if payload.get("kernel") and not python_there.has_kernel(payload["kernel"]):
        payload["kernel"] = None  # the project's Python here
    process.write_json(folder / RECORD, {**record, "payload": payload})
    said = {"attempt": record.get("attempt", 1), "key": one["key"], "engine": on}
    process.write_json(folder / REFERENCE, said, durable=False)  # a task that comes late looks whether it is meant


def answered(there: There, payload: bytes) -> bytes:
    """Return the answer to a question, as they travel; a problem is one, too."""
    head, *blobs = wire.split(payload)
    words = wire.parse(head)
    said: dict[str, Any]
    parts: list[bytes] = []
    try:
        if (question := words.pop("ask", None)) not in there.QUESTIONS:
            raise InvalidInput(f"{question!r} is no question.")
        said, parts = getattr(there, question)(*blobs, **words)
    except ColabMagicsError as error:
        said = {"error": {"what": error.what, "mend": error.mend}}
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        said = {"error": {"what": f"{error.strerror or error}{where}", "errno": error.errno or 0}}
    return wire.frames([json.dumps(said).encode(), *parts])


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
                _write(target, wire.record(ANSWER, answered(there, payload), number))


def main() -> None:
    """Run as a program."""
    # What is printed by whoever is imported must not come between the records.
    target = os.dup(1)
    os.dup2(2, 1)
    # A file that is looked at while somebody opens it to write ends nobody; see fcntl(2), leases.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    on, said = sys.argv[1:] or (LOCAL, b"{}".hex())
    there = There(Path.home(), on, json.loads(bytes.fromhex(said)))
    _write(target, f"{SERVING}\n".encode())
    with contextlib.suppress(BrokenPipeError):
        serve(there, 0, target)


if __name__ == "__main__":
    main()
