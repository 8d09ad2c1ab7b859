"""Runs on other machines, by ssh alone: ``on=ssh:gpu1,gpu2``.

Each of them serves its own local engine over one connection (`host`, `line`, `there`); here runs are
divided among them, and what they write is brought home. A reference says on which host an attempt is, and how large
the files that only grow were before. The key of an attempt is known there from before it is started, so that asking
for it a second time starts nothing; a key that was cancelled is refused when it comes later.
"""

from __future__ import annotations

import collections
import contextlib
import math
import os
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ... import process
from ...errors import ColabMagicsError, InvalidInput, Unavailable
from ...records.names import PRELOAD, RECORD, SCHEDULER
from ...relay.code import folder_there
from ...ui import UI
from .. import base
from ..base import Engine, Phase, Ref, Resources, Submission, Work
from .code import Checkout, Snapshot
from .folders import Arrivals, Departures, packed, sizes
from .host import Host
from .line import Answer, all_of

_CONNECT_SECONDS = 1200.0
"""A host that is used for the first time installs packages."""
_ASK_SECONDS = 5.0
"""So long a poll waits for all hosts; one that answers later is not known about meanwhile."""
_SEND_SECONDS = 300.0
_NEVER = "never"


class SshEngine(Engine):
    """Runs are processes of the machines that ``ssh:`` names, each the project's folder of its own.

    Parameters
    ----------
    where : str
        Names for ssh, with commas between them.

    Raises
    ------
    InvalidInput
        Without any, or for what is none.
    """

    starts = frozenset({"cold", "warm"})

    def __init__(self, where: str = "") -> None:
        super().__init__(where)
        names = [name.strip() for name in where.split(",") if name.strip()]
        if not names:
            raise InvalidInput("on=ssh: on which machine?", "Name it, or several: on=ssh:gpu1,gpu2. See %host list")
        self._news = threading.Event()
        self._names = list(dict.fromkeys(names))
        self._made: dict[str, Host] = {}
        self._project = ""
        self._work: Work | None = None
        self._checkout: Checkout | None = None
        self._session = uuid.uuid4().hex
        self._room: dict[str, float] = {}
        """How many runs each host takes at once."""
        self._own_gpus: dict[str, float | None] = {}
        self._out: dict[str, str] = {}
        """Where attempts are, by key, as far as this process knows."""
        self._unsure: dict[str, tuple[str, Submission]] = {}
        """Those of which nobody knows whether they arrived."""
        self._polled: dict[str, Future[Answer]] = {}
        self._full: dict[str, float] = {}
        self._departures = Departures()
        self._states: dict[str, str] = {}
        self._arrivals = Arrivals(self._host)

    @property
    def poll_every(self) -> float:  # type: ignore[override]
        """Seconds between two polls: none when something has happened."""
        return 0.0 if self._news.is_set() else 1.0

    @property
    def _hosts(self) -> list[Host]:
        return [self._host(name) for name in self._names]

    def _host(self, name: str) -> Host:
        if name not in self._made:
            self._made[name] = Host(name, self._project, self._news.set)
        return self._made[name]

    def _of_job(self, job_folder: Path) -> None:
        """Learn which project the runs belong to: its folder stands above that of its jobs."""
        self._root = Path(os.path.abspath(job_folder)).parents[1]
        self._project = folder_there(self._root)

    def settle(
        self,
        job_folder: Path,
        workers: str | int = "auto",
        gpus: str | float | None = None,
        ui: UI | None = None,
    ) -> Resources:
        """Ask all hosts at once what they have; see `Engine`. Those that cannot be reached are left out, by name."""
        self._of_job(job_folder)
        Checkout(self._root).look()
        found, problems = self._settled(gpus, ui)
        if not found:
            raise next(iter(problems.values()))
        warnings = [f"{problem.what} The runs go to the others." for problem in problems.values()]
        several = len(self._names) > 1
        for name, said in found.items():
            warnings += [f"{name}: {text}" if several else str(text) for text in said["warnings"]]
        shares = {said["gpus"] for said in found.values()}
        return Resources(
            sum(int(said["workers"]) for said in found.values()) if str(workers) == "auto" else _count(workers),
            shares.pop() if len(shares) == 1 else None,
            all(said["only_free"] for said in found.values()),
            [f"{name}: {device}" for name, said in found.items() for device in said["devices"]],
            warnings,
        )

    def _settled(
        self, gpus: str | float | None, ui: UI | None
    ) -> tuple[dict[str, dict[str, Any]], dict[str, ColabMagicsError]]:
        many = self._names[0] if len(self._names) == 1 else f"{len(self._names)} hosts"
        with ui.progress(f"preparing {many} for runs") if ui is not None else contextlib.nullcontext():
            opened: dict[str, Future[Any]] = {host.name: host.open() for host in self._hosts}
            all_of(list(opened.values()), _CONNECT_SECONDS)
            asked = {
                name: self._host(name).ask("settle", workers="auto", gpus=gpus)
                for name, line in opened.items()
                if _has(line)
            }
            all_of(list(asked.values()), 60.0)
        problems = {name: _problem(name, line) for name, line in opened.items() if not _has(line)}
        problems |= {name: _problem(name, answer) for name, answer in asked.items() if not _has(answer)}
        return {name: answer.result()[0] for name, answer in asked.items() if _has(answer)}, problems

    def available(self, *, gpus: float = 0) -> None:
        """Return: runs wait for hosts that are away."""

    def prepare(self, work: Work) -> None:
        """Connect to the hosts; code goes to each when it gets its first run."""
        self._work = work
        self._of_job(work.job_folder)
        self._checkout = Checkout(self._root)
        records = [process.read_json(folder / RECORD) or {} for folder in work.folders]
        gpus = next((record.get("gpus") for record in records), None)
        self._gpus = gpus
        for host in self._hosts:
            host.open()

    def _learn(self, name: str) -> bool:
        """Ask a host once how many runs it takes; whether that is known."""
        if name not in self._room:
            answer = self._host(name).ask("settle", workers="auto", gpus=self._gpus)
            all_of([answer], 20.0)
            if not _has(answer):
                return False
            said = answer.result()[0]
            self._room[name], self._own_gpus[name] = float(said["workers"]), said["gpus"]
        return True

    def _most(self, name: str) -> int:
        """How many runs a host takes: what it has room for, and more where the user asked for more than all have."""
        wanted = self._work.workers if self._work is not None else 0
        return max(1, math.ceil(self._room[name] * max(1.0, wanted / max(sum(self._room.values()), 1.0))))

    def submit(self, runs: Sequence[Submission]) -> list[Ref | None]:
        """Give runs to hosts that have room, the emptiest first; see `Engine`."""
        if self._work is None or self._checkout is None:
            raise TypeError("an engine submits nothing before it was prepared")
        ready = [name for name in self._names if self._is_ready(name)]
        if not ready:
            raise self._nobody()
        busy = collections.Counter(self._out.values())
        given: dict[str, list[Submission]] = {}
        for run in runs:
            free = [name for name in ready if busy[name] < self._most(name)]
            if free:
                name = min(free, key=lambda one: (busy[one] + 1) / self._room[one])
                busy[name] += 1
                given.setdefault(name, []).append(run)
        refs: dict[str, Ref] = {}
        problems: list[ColabMagicsError] = []
        snapshot = self._checkout.look()
        asked = {}
        for name, mine in given.items():
            try:
                asked[name] = self._send(name, mine, snapshot)
            except (OSError, ColabMagicsError) as problem:
                self._full[name] = time.monotonic() + 15.0
                problems.append(problem if isinstance(problem, ColabMagicsError) else Unavailable(str(problem)))
        all_of([future for future, _ in asked.values()], _SEND_SECONDS)
        for name, (answer, sent) in asked.items():
            refs |= self._sent(name, answer, sent, problems)
        if problems and not refs:
            raise problems[0]
        return [refs.get(run.key) for run in runs]

    def _is_ready(self, name: str) -> bool:
        host = self._host(name)
        if not host.is_open():
            host.open()
            return False
        return time.monotonic() >= self._full.get(name, 0.0) and self._learn(name)

    def _nobody(self) -> Unavailable:
        problems = [host.problem for host in self._hosts if host.problem is not None]
        if problems:
            return Unavailable("; ".join(problem.what.rstrip(".") for problem in problems), problems[0].mend)
        return Unavailable(f"{', '.join(self._names)}: being connected to")

    def _send(
        self, name: str, runs: Sequence[Submission], snapshot: Snapshot
    ) -> tuple[Future[Answer], list[Submission]]:
        """Bring the code and the folders of runs to a host, and have them started."""
        self._bring_code(name, snapshot)
        heads, blobs, sent = [], [], []
        for run in runs:
            names = self._departures.names(self._host(name), run, self._session)
            if names is None:
                continue
            record = process.read_json(run.folder / RECORD) or {}
            blobs.append(packed(run.folder, names))
            cwd = self._inside(record.get("cwd"))
            own = {"engine": "local", "gpus": record.get("gpus", self._own_gpus.get(name))}
            if own["gpus"] is None:
                own["gpus"] = self._own_gpus.get(name)
            heads.append(
                {"key": run.key, "folder": run.folder.name, "cwd": cwd, "record": {**record, **own}}
                | {"base": sizes(run.folder)}
            )
            sent.append(run)
        work, program = self._the_work(), type(self._the_work().program)
        answer = self._host(name).ask(
            "submit",
            *blobs,
            session=self._session,
            job=work.job_folder.name,
            program=f"{program.__module__}:{program.__qualname__}",
            state=snapshot.state,
            environment=dict(work.environment),
            preload=process.read_json(work.job_folder / SCHEDULER / PRELOAD),
            runs=heads,
        )
        return answer, sent

    def _the_work(self) -> Work:
        if self._work is None:
            raise TypeError("an engine submits nothing before it was prepared")
        return self._work

    def _inside(self, cwd: str | None) -> str | None:
        """Return a folder of the project relative to it; None for one that is none of it."""
        if not cwd or not Path(cwd).is_relative_to(self._root):
            return None
        return str(Path(cwd).relative_to(self._root))

    def _bring_code(self, name: str, snapshot: Snapshot) -> None:
        if self._states.get(name) == snapshot.state or self._checkout is None:
            return
        files = {path: list(one) for path, one in snapshot.files.items()}
        missing = _result(self._host(name).ask("code", state=snapshot.state, files=files))[0]["missing"]
        if missing is not None:
            blob = self._checkout.pack(snapshot, missing)
            marker, inputs = self._checkout.marker(), self._checkout.inputs_there
            _result(self._host(name).ask("bring", blob, files=files, marker=marker, inputs=inputs))
        self._states[name] = snapshot.state

    def _sent(
        self,
        name: str,
        answer: Future[Answer],
        runs: Sequence[Submission],
        problems: list[ColabMagicsError],
    ) -> dict[str, Ref]:
        """Read what a host has answered; an answer that does not come leaves it open whether it has them."""
        refs: dict[str, Ref] = {}
        try:
            said = answer.result(0)[0]["runs"]
        except (TimeoutError, ColabMagicsError) as problem:
            if getattr(problem, "number", None) is not None:  # it answers, and has started none
                self._full[name] = time.monotonic() + 15.0
                self._states.pop(name, None)
                problems.append(problem)  # type: ignore[arg-type]
                return {}
            for run in runs:
                self._unsure[run.key] = name, run
                refs[run.key] = self._ref(name, run)
        else:
            for run, one in zip(runs, said, strict=True):
                if "who" in one:
                    refs[run.key] = self._ref(name, run)
                elif "problem" in one:
                    problems.append(Unavailable(f"{name}: {one['problem']}."))
        self._out |= dict.fromkeys(refs, name)
        return refs

    def _ref(self, name: str, run: Submission) -> Ref:
        return {"host": name, "base": sizes(run.folder)}

    def find(self, runs: Sequence[Submission]) -> list[Ref | None]:
        """Ask all hosts for the keys; see `Engine`."""
        lines = [host.open() for host in self._hosts]
        all_of(lines, 60.0)
        asked = {host.name: host.ask("find", keys=[run.key for run in runs]) for host in self._hosts}
        all_of(list(asked.values()), 30.0)
        refs: list[Ref | None] = [None] * len(runs)
        unknown: list[ColabMagicsError] = []
        for name, answer in asked.items():
            if not _has(answer):
                unknown.append(_problem(name, answer))
                continue
            for number, one in enumerate(answer.result()[0]["runs"]):
                if one is not None:
                    refs[number] = {"host": name, "base": one["base"]}
                    self._out[runs[number].key] = name
        if unknown and None in refs:
            raise Unavailable(unknown[0].what, unknown[0].mend)
        return refs

    def poll(self, runs: Sequence[Submission]) -> list[Phase]:
        """Ask each host about its runs; of one that does not answer soon nothing is known. See `Engine`."""
        self._news.clear()
        by_host: dict[str, list[Submission]] = {}
        for run in runs:
            by_host.setdefault(_host_of(run), []).append(run)
        self._reach(by_host)
        phases: dict[str, Phase] = {}
        asked: dict[str, tuple[Future[Answer], list[Submission]]] = {}
        for name, mine in by_host.items():
            late = self._polled.get(name)
            if late is not None and not late.done():
                self._host(name).ask("find", keys=[])  # which breaks a line that is dead
                continue
            self._polled[name] = self._host(name).ask("poll", keys=[run.key for run in mine])
            asked[name] = self._polled[name], mine
        all_of([future for future, _ in asked.values()], _ASK_SECONDS)
        for name, (answer, mine) in asked.items():
            if _has(answer):
                phases |= self._phases(name, mine, answer.result()[0]["phases"])
        return [phases.get(run.key, base.UNKNOWN) for run in runs]

    def _reach(self, by_host: Mapping[str, Any]) -> None:
        """Wait for hosts that this process has not spoken to yet; in a scheduler they are connected to meanwhile."""
        if self._work is None:
            all_of([self._host(name).open() for name in by_host if self._host(name).problem is None], 60.0)

    def _phases(self, name: str, runs: Sequence[Submission], said: Sequence[str]) -> dict[str, Phase]:
        found: dict[str, Phase] = {}
        for run, phase in zip(runs, said, strict=True):
            if phase == _NEVER and run.key in self._unsure:
                self._again(name, run)
                continue
            self._unsure.pop(run.key, None)
            ended = phase in (_NEVER, base.ENDED)
            found[run.key] = base.ENDED if ended else base.RUNNING if phase == base.RUNNING else base.UNKNOWN
            if ended:
                self._out.pop(run.key, None)
            else:
                self._out[run.key] = name
        return found

    def _again(self, name: str, run: Submission) -> None:
        """Send a run once more to the host to which it was on its way when the line was cut."""
        with contextlib.suppress(OSError, ColabMagicsError):
            if self._checkout is not None:
                answer, _ = self._send(name, [run], self._checkout.look())
                all_of([answer], _ASK_SECONDS)

    def fetch(self, runs: Sequence[Submission], *, final: bool) -> list[str]:
        """Bring home what runs have written; see `Engine`."""
        return self._arrivals.fetch([(_host_of(run), run) for run in runs], final=final)

    def cancel(self, runs: Sequence[Submission]) -> None:
        """Ask the hosts to end runs; see `Engine`."""
        by_host: dict[str, list[str]] = {}
        for run in runs:
            by_host.setdefault(_host_of(run), []).append(run.key)
        self._reach(by_host)
        asked = {name: self._host(name).ask("cancel", keys=keys) for name, keys in by_host.items()}
        all_of(list(asked.values()), _ASK_SECONDS)
        for name, answer in asked.items():
            if not _has(answer):
                raise Unavailable(*_problem(name, answer).args)

    def wait(self, seconds: float) -> None:
        """Wait so long, or until something has happened at a host."""
        self._news.wait(seconds)

    def finish(self, *, well: bool) -> None:
        """Remove from the hosts what has come home, and let go of them."""
        self._arrivals.finish()
        for host in self._made.values():
            host.close()


def _count(workers: str | int) -> int:
    from ...units import count

    return count(workers, name="workers")


def _host_of(run: Submission) -> str:
    return str((run.ref or {}).get("host") or "")


def _has(future: Future[Any]) -> bool:
    return future.done() and future.exception() is None


def _problem(name: str, future: Future[Any]) -> ColabMagicsError:
    if not future.done():
        return Unavailable(f"{name} does not answer.", f"Try it in a terminal: ssh {name}")
    problem = future.exception()
    if isinstance(problem, ColabMagicsError):
        return problem
    raise problem if problem is not None else RuntimeError(name)


def _result(future: Future[Answer]) -> Answer:
    try:
        return future.result(_SEND_SECONDS)
    except TimeoutError:
        raise Unavailable("It takes too long to send the code.") from None
