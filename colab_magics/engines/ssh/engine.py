"""Runs on other machines, by ssh alone: ``on=ssh:gpu1,gpu2``.

Each of them serves its own local engine over one connection (`there`, `line`, `host`); here runs are divided among
them, and what they write is brought home. A reference says on which host an attempt is, and how large the files that
only grow were before. The key of an attempt is known there from before it is started, so that asking for it a second
time starts nothing; a key that was cancelled is refused when it comes later. A run stays with the host that may have
it until that one says that it has not: a host that is away holds its own runs up, and no others.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ... import process
from ...checkout.project import DATA_PROJECT
from ...errors import ColabMagicsError, InvalidInput, Unavailable
from ...records.names import RECORD
from ...relay.code import folder_there
from ...ui import UI
from ...units import count
from .. import base
from ..base import Engine, Phase, Ref, Resources, Submission, Work
from .code import Checkout, root_of
from .fences import Fences
from .folders import Arrivals, sizes
from .hosts import Hosts, result
from .line import NEVER, Answer, Refusal, all_of
from .sending import Sending

_ASK_SECONDS = 5.0
"""So long a poll waits for all hosts; of one that answers later nothing is known meanwhile."""
_REACH_SECONDS = 60.0
_SEND_SECONDS = 300.0


class SshEngine(Engine):
    """Runs are processes of the machines that ``ssh:`` names, each of which has the project's code.

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

    def __init__(self, where: str = "", options: Any = None) -> None:
        super().__init__(where, options)
        self._news = threading.Event()
        self._hosts = self._hosts_of(where)
        self._root = Path()
        self._ready: Sending | None = None
        self._out: dict[str, str] = {}
        """Where attempts are, by key, as far as this process knows."""
        self._unsure: dict[str, Submission] = {}
        """Those of which nobody knows whether they arrived."""
        self._polled: dict[str, Future[Answer]] = {}
        self._says: dict[str, str] = {}
        self._fences: Fences | None = None
        self._arrivals = Arrivals(self._hosts.__getitem__)

    def _hosts_of(self, where: str) -> Hosts:
        """Return the machines that the line names."""
        names = [name.strip() for name in where.split(",") if name.strip()]
        if not names:
            raise InvalidInput("on=ssh: on which machine?", "Name it, or several: on=ssh:gpu1,gpu2. See %host list")
        return Hosts(names, self._news.set, self._engine_there())

    def _engine_there(self) -> Sequence[str]:
        """Name the engine that executes runs on the hosts, with what is said to it; by default the local one."""
        return ()

    @classmethod
    def why_not(cls) -> str:
        """Say that there is no ssh, where that is so."""
        return "" if shutil.which("ssh") else "there is no ssh on PATH"

    @property
    def poll_every(self) -> float:  # type: ignore[override]
        """Seconds between two polls: none when something has happened."""
        return 0.0 if self._news.is_set() else 1.0

    def _of_job(self, job_folder: Path) -> None:
        """Learn which project the runs belong to: its folder stands above that of its jobs."""
        self._root = Path(os.path.abspath(job_folder)).parents[1]
        self._fences = Fences(job_folder)
        self._hosts.project = folder_there(self._root)

    def settle(
        self,
        job_folder: Path,
        cwd: Path,
        workers: str | int = "auto",
        gpus: str | float | None = None,
        ui: UI | None = None,
    ) -> Resources:
        """Ask all hosts at once what they have; see `Engine`. Those that cannot be reached are left out, by name."""
        self._of_job(job_folder)
        code = root_of(self._root, cwd)
        Checkout(code, self._root).look()
        self._hosts.gpus = gpus
        said = None if str(workers) == "auto" else count(workers, name="workers")
        found, problems = self._hosts.settle(ui)
        if not found:
            raise next(iter(problems.values()))
        warnings = [f"{problem.what} The runs go to the others." for problem in problems.values()]
        if not cwd.resolve().is_relative_to(code.resolve()):
            warnings.append(f"{cwd} is no folder of a project: of the code, only what stands in {code} goes there.")
        several, inputs = len(self._hosts.names) > 1, has_files(self._root / DATA_PROJECT)
        for name, has in found.items():
            warnings += [f"{name}: {text}" if several else str(text) for text in has["warnings"]]
            if inputs and not has["inputs"]:
                warnings.append(f"{name} has none of your inputs: %host put {DATA_PROJECT} host={name}")
        shares = {has["gpus"] for has in found.values()}
        return Resources(
            said or sum(has["workers"] for has in found.values()),
            shares.pop() if len(shares) == 1 else None,
            all(has["only_free"] for has in found.values()) and said is None,
            [f"{name}: {device}" for name, has in found.items() for device in has["devices"]],
            warnings,
        )

    def available(self, *, gpus: float = 0) -> None:
        """Return: runs wait for hosts that are away."""

    def prepare(self, work: Work) -> None:
        """Begin to connect; the code goes to each host with its first run."""
        self._of_job(work.job_folder)
        records = [process.read_json(folder / RECORD) or {} for folder in work.folders]
        self._hosts.gpus = next((record.get("gpus") for record in records), None)
        self._ready = Sending(work, self._root, self._hosts)
        self._hosts.open()

    def submit(self, runs: Sequence[Submission]) -> list[Ref | None]:
        """Give runs to hosts that have room, the emptiest first; see `Engine`."""
        ready = self._prepared()
        for name in self._hosts.names:
            self._end_fenced(name)
        given = self._hosts.share_out([run.key for run in runs], self._out, ready.work.workers)
        by_host: dict[str, list[Submission]] = {}
        for run in runs:
            if run.key in given:
                by_host.setdefault(given[run.key], []).append(run)
        problems: list[ColabMagicsError] = []
        asked: list[tuple[str, Future[Answer], list[Submission]]] = []
        for name, mine in by_host.items():
            try:
                asked += [(name, answer, sent) for answer, sent in ready.send(name, mine)]
            except (OSError, ColabMagicsError) as problem:
                self._hosts.is_full(name)
                problems.append(problem if isinstance(problem, ColabMagicsError) else Unavailable(str(problem)))
        all_of([answer for _, answer, _ in asked], _SEND_SECONDS)
        refs: dict[str, Ref] = {}
        for name, answer, sent in asked:
            refs |= self._sent(name, answer, sent, problems)
        if problems and not refs:
            raise base.NotSubmitted(*problems[0].args)
        return [refs.get(run.key) for run in runs]

    def _prepared(self) -> Sending:
        if self._ready is None:
            raise TypeError("an engine submits nothing before it was prepared")
        return self._ready

    def _sent(
        self, name: str, answer: Future[Answer], runs: Sequence[Submission], problems: list[ColabMagicsError]
    ) -> dict[str, Ref]:
        """Read what a host has answered; where no answer came it may have the runs, and they stay with it."""
        refs: dict[str, Ref] = {}
        try:
            said = result(name, answer)[0]["runs"]
        except Refusal as problem:  # it answers, and has started none
            self._hosts.is_full(name)
            self._prepared().forget_code(name)
            problems.append(problem)
            return {}
        except ColabMagicsError:
            refs = {run.key: _ref(name, run) for run in runs}
            self._unsure |= {run.key: run for run in runs}
        else:
            for run, one in zip(runs, said, strict=False):
                if "problem" in one:
                    problems.append(Unavailable(f"{name}: {one['problem']}."))
                elif "who" in one:
                    refs[run.key] = _ref(name, run)
        self._out |= dict.fromkeys(refs, name)
        return refs

    def find(self, runs: Sequence[Submission]) -> list[Ref | None]:
        """Ask all hosts for the keys; see `Engine`."""
        self._reach(runs, self._hosts.names)
        asked = {name: self._hosts[name].ask("find", keys=[run.key for run in runs]) for name in self._hosts.names}
        all_of(asked.values(), _REACH_SECONDS)
        refs: list[Ref | None] = [None] * len(runs)
        problem: ColabMagicsError | None = None
        for name, answer in asked.items():
            try:
                said = result(name, answer)[0]["runs"]
            except ColabMagicsError as unknown:
                problem = unknown
                continue
            for number, one in enumerate(said[: len(runs)]):
                if one is not None:
                    refs[number] = {"host": name, "base": one.get("base") or {}}
                    self._out[runs[number].key] = name
        if problem is not None and None in refs:
            raise Unavailable(*problem.args)
        return refs

    def poll(self, runs: Sequence[Submission]) -> list[Phase]:
        """Ask each host about its runs; of one that does not answer soon nothing is known. See `Engine`."""
        self._news.clear()
        by_host = self._by_host(runs)
        self._reach(runs, by_host)
        asked: dict[str, Future[Answer]] = {}
        for name, mine in by_host.items():
            self._end_fenced(name)
            late = self._polled.get(name)
            if late is not None and not late.done():
                continue
            words = {"keys": [run.key for run in mine], **self._told_at_polls()}
            asked[name] = self._polled[name] = self._hosts[name].ask("poll", **words)
        all_of(asked.values(), _ASK_SECONDS)
        phases: dict[str, Phase] = {}
        for name, answer in asked.items():
            with contextlib.suppress(ColabMagicsError):
                said = result(name, answer)[0]
                for run, phase in zip(by_host[name], said["phases"], strict=False):
                    phases[run.key] = self._phase(name, run, phase)
                self._says |= zip((run.key for run in by_host[name]), said.get("says") or (), strict=False)
        # What is said to be on a host that is none of this engine's is nowhere.
        nowhere = {run.key for run in runs if host_of(run) not in self._hosts.names}
        nowhere |= {run.key for run in runs if run.key not in phases and run.key in self._fenced}
        return [base.ENDED if run.key in nowhere else phases.get(run.key, base.UNKNOWN) for run in runs]

    def _told_at_polls(self) -> Mapping[str, Any]:
        """Return what the engine on the hosts is told each time, besides which runs are asked about."""
        return {}

    @property
    def _fenced(self) -> Fences:
        if self._fences is None:
            raise TypeError("an engine that knows no job has no runs")
        return self._fences

    def _end_fenced(self, name: str) -> None:
        """End on a host that is back what was killed while it was away."""
        if self._hosts[name].is_open() and (keys := self._fenced.of(name)):
            answer = self._hosts[name].ask("cancel", keys=keys)
            all_of([answer], _ASK_SECONDS)
            with contextlib.suppress(ColabMagicsError):
                result(name, answer)
                self._fenced.lift(keys)

    def _phase(self, name: str, run: Submission, said: str) -> Phase:
        if said == NEVER and run.key in self._unsure:
            self._send_again(name, run)
            return base.UNKNOWN
        self._unsure.pop(run.key, None)
        if said in (NEVER, base.ENDED):
            self._out.pop(run.key, None)
            return base.ENDED
        self._out[run.key] = name
        return base.RUNNING if said == base.RUNNING else base.QUEUED if said == base.QUEUED else base.UNKNOWN

    def _send_again(self, name: str, run: Submission) -> None:
        """Send a run once more to the host to which it was on its way when the line was cut."""
        with contextlib.suppress(OSError, ColabMagicsError):
            all_of([answer for answer, _ in self._prepared().send(name, [run])], _ASK_SECONDS)

    def _by_host(self, runs: Iterable[Submission]) -> dict[str, list[Submission]]:
        found: dict[str, list[Submission]] = {}
        for run in runs:
            if (name := host_of(run)) in self._hosts.names:
                found.setdefault(name, []).append(run)
        return found

    def _reach(self, runs: Sequence[Submission], names: Iterable[str]) -> None:
        """Connect to hosts and wait for that; in a scheduler it is done meanwhile."""
        if self._ready is None and runs:
            self._of_job(runs[0].folder.parent)
            all_of([self._hosts[name].open() for name in names], _REACH_SECONDS)

    def fetch(self, runs: Sequence[Submission], *, final: bool) -> list[str]:
        """Bring home what runs have written; see `Engine`."""
        known = [(name, run) for run in runs if (name := host_of(run)) in self._hosts.names]
        # Of what was given up on a host that is away nothing is waited for.
        known = [(name, run) for name, run in known if self._hosts[name].is_open() or run.key not in self._fenced]
        troubles = dict(zip([run.key for _, run in known], self._arrivals.fetch(known, final=final), strict=True))
        return [troubles.get(run.key, "") for run in runs]

    def cancel(self, runs: Sequence[Submission]) -> None:
        """Ask the hosts to end runs; see `Engine`. Those of one that is away count as ended from now on."""
        by_host = self._by_host(runs)
        self._reach(runs, by_host)
        for name, mine in list(by_host.items()):
            if not self._hosts[name].is_open() and self._hosts[name].is_away():
                self._fenced.add(name, [run.key for run in mine])
                del by_host[name]
        asked = {
            name: self._hosts[name].ask("cancel", keys=[run.key for run in mine]) for name, mine in by_host.items()
        }
        all_of(asked.values(), _ASK_SECONDS)
        for name, answer in asked.items():
            result(name, answer)

    def stop_early(self, run: Submission, why: str) -> bool:
        """Tell its host; see `Engine`."""
        by_host = self._by_host([run])
        self._reach([run], by_host)
        for name in by_host:
            answer = self._hosts[name].ask("stop", key=run.key, why=why)
            all_of([answer], _ASK_SECONDS)
            result(name, answer)
            return True
        return False

    def wait(self, seconds: float) -> None:
        """Wait so long, or until something has happened at a host."""
        self._news.wait(seconds)

    def finish(self, *, well: bool) -> None:
        """Remove from the hosts what has come home, and let go of them."""
        self._arrivals.finish()
        self._hosts.close()


def has_files(folder: Path) -> bool:
    """Whether a folder is there, and holds anything."""
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def _ref(name: str, run: Submission) -> Ref:
    return {"host": name, "base": sizes(run.folder)}


def host_of(run: Submission) -> str:
    """Return the host that a run's reference names."""
    return str((run.ref or {}).get("host") or "")
