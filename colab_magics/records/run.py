"""A run, rebuilt from its folder, and how it stands."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import process
from ..errors import NotFound
from ..session import RUN_VARIABLE
from . import beats, injected, lock, metrics, schema
from .names import LOG, NOTEBOOK, RECORD, REFERENCE, STATE, STOP, VERDICT, is_named, is_ours, number_of, word_of
from .plain import linked
from .schema import Unreadable
from .status import ENDED, Status, derive

_NO_RECORD = f"{RECORD} is not there"
GONE = "its folder is not there any more"

LOCAL = "local"
"""The engine of this machine: its references are what `process.identity` says of a runner."""


@dataclass(frozen=True)
class Run:
    """A run, rebuilt from its folder.

    Parameters
    ----------
    folder : Path
        ``…/data_job/<job>/sub_job_<index>``.
    record : dict
        Contents of run.json; of an unreadable one the number of its folder alone.
    problem : str
        Why run.json cannot be read; empty when it can.
    """

    folder: Path
    record: Mapping[str, Any]
    problem: str = ""

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Read the run in `folder`.

        Raises
        ------
        NotFound
            When no run was ever submitted there, or its record cannot be read.
        """
        run = cls.look(folder)
        if run.problem in (_NO_RECORD, GONE):
            raise NotFound(f"There is no run in {folder}.", "%jobs lists the runs there are.")
        if run.problem:
            raise NotFound(f"The run in {folder} is unreadable: {run.problem}.", "%jobs lists the runs there are.")
        return run

    @classmethod
    def look(cls, folder: Path) -> Run:
        """Read the run in `folder`, as far as it can be read."""
        number = number_of(folder.name)
        nothing = {"index": number or 0}
        if link := linked(folder):
            return cls(folder, nothing, f"{link} is a link")
        try:
            record = schema.read(folder / RECORD, schema.Record)
        except Unreadable as problem:
            return cls(folder, nothing, str(problem))
        if record is None:
            return cls(folder, nothing, _NO_RECORD if os.path.lexists(folder) else GONE)
        if number is not None and record["index"] != number:
            return cls(folder, nothing, f"{RECORD}: it is that of run {record['index']}")
        return cls(folder, record)

    @property
    def index(self) -> int:
        """The number of its folder, and of its id; that of a queue's run is made from its name."""
        return int(self.record["index"])

    @property
    def word(self) -> str:
        """How it is called within its job: its number, or its name as its folder has it."""
        return word_of(self.folder.name) or str(self.index)

    @property
    def name(self) -> str:
        """How people call it: by the name that a queue or its line gave it, any other by its number."""
        return str(self.record.get("name") or self.word)

    @property
    def is_named(self) -> bool:
        """Whether it is a queue's."""
        return is_named(self.folder.name)

    @property
    def i_sub_job(self) -> int:
        """Its number among the runs of its fork; a grid's runs are numbered as their folders."""
        return int(self.record.get("i_sub_job", self.index))

    @property
    def fork(self) -> int:
        """The place of its ``%fork`` among those of its notebook, from 1."""
        return int(self.record.get("fork", 1))

    @property
    def job(self) -> str:
        """Name of the job."""
        return self.folder.parent.name

    @property
    def id(self) -> str:
        """``job/index``, such as ``baseline/3``; of a queue's run ``baseline/lr-3``."""
        return f"{self.job}/{self.word}"

    @property
    def engine(self) -> str:
        """Where it executes, as ``on=`` says it."""
        return str(self.record.get("engine") or LOCAL)

    @property
    def attempt(self) -> int:
        """How often this run was submitted, from 1."""
        return int(self.record.get("attempt", 1))

    @property
    def parameters(self) -> dict[str, Any]:
        """The run's own parameters, without ``i_sub_job`` and ``data_job``."""
        return dict(self.record.get("parameters", {}))

    @property
    def injected(self) -> dict[str, Any]:
        """The variables that this run gets; see `colab_magics.records.injected`."""
        return injected.values(self.i_sub_job, self.folder, self.parameters)

    @property
    def log(self) -> Path:
        """File with everything the run printed."""
        return self.folder / LOG

    @property
    def notebook(self) -> Path:
        """The executed notebook."""
        return self.folder / NOTEBOOK

    def state(self) -> dict[str, Any] | None:
        """Return state.json of *this* attempt; None before the runner has written it, or when it cannot be read."""
        with contextlib.suppress(Unreadable):
            return self._state()
        return None

    def verdict(self) -> dict[str, Any] | None:
        """Return verdict.json of this attempt; None when there is none that can be read."""
        with contextlib.suppress(Unreadable):
            return self._verdict()
        return None

    def reference(self) -> dict[str, Any] | None:
        """Return ref.json of this attempt: how an engine knows it; None when it was never submitted."""
        with contextlib.suppress(Unreadable):
            return self._of_this_attempt(REFERENCE, schema.Reference)
        return None

    def is_out(self) -> bool:
        """Whether an engine has it, by all that is known here: it was submitted, and nobody saw its end."""
        found = self._out()
        if found is None or self.engine != LOCAL:
            return found is not None
        ended = self.verdict() is not None or (self.state() or {}).get("phase") in ENDED
        return not ended and self._is_executed_by(found.get("ref") or {})

    def _out(self) -> dict[str, Any] | None:
        found = self.reference()
        return found if found is not None and found.get("seen") != "ended" else None

    def _lives_elsewhere(self, beat: float, now: float) -> bool:
        """Whether a runner lives that is no process of this machine.

        Whoever executes a run holds its folder's lock, which a shared file system shows to other machines, too. Where
        it shows none, its beat tells.
        """
        return lock.is_held(self.folder) or beats.seen.is_fresh(self.folder, beat, now)

    def _state(self) -> dict[str, Any] | None:
        found = self._of_this_attempt(STATE, schema.State)
        # What is done is what was executed: a record that came later, under the same number, has done nothing.
        return found if found is None or found.get("record", self.mark) == self.mark else None

    def _verdict(self) -> dict[str, Any] | None:
        found = self._of_this_attempt(VERDICT, schema.Verdict)
        if found is None:
            with contextlib.suppress(OSError):
                at = os.lstat(self.killed_mark).st_mtime
                return {"attempt": self.attempt, "verdict": "killed", "at": at}
        return found

    def _of_this_attempt(self, name: str, kind: Any) -> dict[str, Any] | None:
        if self.problem:
            return None
        value: dict[str, Any] | None = schema.read(self.folder / name, kind)
        return value if value is not None and value.get("attempt") == self.attempt else None

    @property
    def killed_mark(self) -> Path:
        """An empty file that says "killed" of this attempt where a full disk takes no verdict.json."""
        return self.folder / f".killed.{self.attempt}"

    @functools.cached_property
    def mark(self) -> str:
        """What tells this record from every other; the runner writes it down."""
        own = [self.record.get(name) for name in ("index", "attempt", "submitted", "parameters", "code")]
        return hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def judge(self, verdict: str, reason: str = "") -> None:
        """Write what the scheduling side has to say of it; a kill can be said on a full disk, too."""
        said = {"attempt": self.attempt, "verdict": verdict, "at": time.time(), "reason": reason}
        try:
            process.write_json(self.folder / VERDICT, {**said, "by": process.identity()})
        except OSError as error:
            if verdict != "killed" or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.killed_mark.touch()

    def stop_early(self, reason: str) -> None:
        """Have it end at its next report, which looks into the folder; raises OSError."""
        said = {"attempt": self.attempt, "at": time.time(), "reason": reason, "by": process.identity()}
        process.write_json(self.folder / STOP, said, durable=False)

    def why_stopped(self) -> str:
        """Return why it is to end at its next report; empty when it is not."""
        with contextlib.suppress(Unreadable):
            return str((self._of_this_attempt(STOP, schema.Stop) or {}).get("reason") or "")
        return ""

    def runner_lives(self) -> bool:
        """Whether this attempt's runner is a living process of this machine."""
        return bool(process.is_alive((self.state() or {}).get("process") or {}))

    def runner(self) -> dict[str, Any] | None:
        """Return this attempt's runner, when it lives and is one: by its environment it executes this very run.

        Whoever writes a state.json may name any process.
        """
        who: dict[str, Any] = (self.state() or {}).get("process") or {}
        return who if self._is_executed_by(who) else None

    def _is_executed_by(self, who: Mapping[str, Any]) -> bool:
        if not process.is_alive(who):
            return False
        said = process.variable(who["pid"], RUN_VARIABLE)
        return bool(said) and os.path.realpath(str(said)) == os.path.realpath(self.folder)

    def status(self, *, now: float | None = None, is_home: bool = False) -> Status:
        """Derive how the run stands.

        Parameters
        ----------
        now : float, optional
            The present moment in seconds since the epoch, for tests.
        is_home : bool, default False
            That the engine has it no more, and all that it has written is here, though nothing says so yet.
        """
        moment = time.time() if now is None else now
        if self.problem:
            return Status("unreadable", self.problem if self.problem == GONE else f"unreadable: {self.problem}")
        try:
            state = self._state()
            found = derive(
                state,
                self._verdict(),
                now=moment,
                step=self._step(state),
                out=None if is_home or self.engine == LOCAL else self._out(),
                lives=lambda beat: self._lives_elsewhere(beat, moment),
            )
        except Unreadable as problem:
            return Status("unreadable", f"unreadable: {problem}")
        if (
            found.phase == "stopped"
            and (step := metrics.last(metrics.recent(self.folder)).get(metrics.STEP)) is not None
        ):
            found = replace(found, text=f"{found.text} at step {step:.12g}")
        return replace(found, attempts=self._attempts(found.phase))

    def _step(self, state: Mapping[str, Any] | None) -> str:
        """Say how far the cell that runs, or ran last, is by its own word."""
        if state is None or state.get("phase") in ("done", "stopped"):
            return ""
        since = float(state.get("cell_began") or 0)
        return metrics.progress(self.folder, attempt=self.attempt, since=since)

    def _attempts(self, phase: str) -> str:
        if phase not in ENDED or phase in ("done", "stopped") or not self.earlier:
            return ""
        before = [str(one.get("phase")) for one in self.earlier]
        if len(before) > 1:
            return f"attempt {self.attempt}; before: {', '.join(before)}"
        ended = before[0] if before[0] == "failed" else f"was {before[0]}"
        return (
            f"attempt {self.attempt}; attempt {self.earlier[0].get('attempt')} {ended}{' too' * (before[0] == phase)}"
        )

    @property
    def earlier(self) -> list[dict[str, Any]]:
        """How earlier attempts ended, in their order: ``attempt``, ``phase``, ``text``, ``ended``."""
        return list(self.record.get("attempts") or [])

    def holds_results(self) -> bool:
        """Whether its folder holds anything that its cells wrote, such as a checkpoint."""
        try:
            return any(not is_ours(name) for name in os.listdir(self.folder))
        except OSError:
            return False

    def __str__(self) -> str:
        return f"{self.id}  {self.status().full}  {self.folder}"


def ended_attempts(folder: Path) -> list[dict[str, Any]]:
    """Return how all attempts of a run have ended that began, the last one among them, for the record of another."""
    try:
        run = Run.load(folder)
    except NotFound:
        return []
    if run.state() is None and run.verdict() is None:
        return run.earlier
    status = run.status(is_home=True)
    last = {"attempt": run.attempt, "phase": status.phase, "text": status.text, "ended": status.ended}
    return [*run.earlier, last]


def runs_of(job_folder: Path) -> list[Run]:
    """Read all runs of a job, in the order of their indices; those too that cannot be read."""
    try:
        names = os.listdir(job_folder)
    except OSError:
        return []
    found = [Run.look(job_folder / name) for name in names if number_of(name) is not None]
    there = (run for run in found if run.problem not in (_NO_RECORD, GONE) or _began(run.folder))
    return sorted(there, key=_order)


def _order(run: Run) -> tuple[Any, ...]:
    """Numbers first, then names, with the numbers in them as such: lr-9 stands before lr-10."""
    if not run.is_named:
        return (0, run.index)
    return (1, [(part.isdigit(), part.zfill(80)) for part in re.split(r"(\d+)", run.word.casefold())], run.word)


def _began(folder: Path) -> bool:
    """Whether a run without a record was executed once: else its folder is being made, or is no run's."""
    return os.path.lexists(folder / STATE)
