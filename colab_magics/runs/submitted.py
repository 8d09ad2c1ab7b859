"""Runs that an engine has: how it knows each of them, and what becomes of those whose scheduler has died.

A run's ``ref.json`` holds the key of its attempt from before the engine hears of it, and the engine's reference from
after. So whoever comes later, in whatever process, can tell what was submitted, look for what may have been, and go on
with it; nothing is submitted a second time. The scheduler writes it; where there is none, who holds the job's lock.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from .. import process
from ..checkout import trust
from ..engines import ENGINES, base, name_of, open_engine
from ..engines.base import Engine, Phase, Ref, Submission
from ..errors import ColabMagicsError, InvalidInput, Unavailable
from ..records import lock, schema
from ..records.names import REFERENCE, SCHEDULER, STATE
from ..records.run import LOCAL, Run, runs_of
from ..records.status import ENDED

_PATIENCE = 30.0
"""Seconds in which runs have to end that are ended without a scheduler."""


def known(run: Run) -> Submission | None:
    """Return how an engine knows a run, by its folder; None when it was never submitted, or its end was seen."""
    found = run.reference()
    if found is not None:
        return None if found.get("seen") == base.ENDED else Submission(run.folder, found["key"], found.get("ref"))
    # Earlier versions wrote no reference, and nobody does who executes a run by hand.
    runner = run.runner()
    return None if runner is None else Submission(run.folder, "", runner)


def announce(run: Run) -> Submission:
    """Write down the key of an attempt that is about to be submitted; raises OSError.

    On this machine a full disk is no reason to wait: no two runners get the lock of one folder.
    """
    submission = Submission(run.folder, uuid.uuid4().hex)
    try:
        _write(run, submission)
    except OSError:
        if run.engine != LOCAL or not run.folder.is_dir():
            raise
    return submission


def confirm(run: Run, submission: Submission, ref: Ref) -> Submission:
    """Write down how the engine knows a run; raises OSError."""
    submitted = replace(submission, ref=ref)
    _write(run, submitted)
    return submitted


def note(run: Run, submission: Submission, seen: Phase, says: str = "") -> None:
    """Write down what was seen of a run that is elsewhere, and why it waits or where it is; raises OSError."""
    _write(run, submission, seen=seen, since=time.time(), **({"says": says} if says else {}))


def forget(run: Run) -> None:
    """Take back what was never submitted."""
    (run.folder / REFERENCE).unlink(missing_ok=True)


def _write(run: Run, submission: Submission, **seen: object) -> None:
    said = {"attempt": run.attempt, "key": submission.key, "engine": run.engine, "ref": submission.ref, **seen}
    # What this machine executes ends with it; what others do outlives its loss of power.
    process.write_json(run.folder / REFERENCE, {**said, "by": process.identity()}, durable=run.engine != LOCAL)


def say(job_folder: Path, engine: str) -> None:
    """Note that this user's own line executes runs of a job there: whoever wrote the folder may name any machine."""
    if engine != LOCAL:
        trust.Request(job_folder, {"on": engine}).note("yes")


def is_meant(run: Run) -> bool:
    """Whether this user has said where a run is: nobody is asked, or sent anything, because a folder names him."""
    return run.engine == LOCAL or trust.Request(run.folder.parent, {"on": run.engine}).allowed


def check_meant(run: Run) -> None:
    """Check that a run may be executed where it was submitted to.

    Raises
    ------
    InvalidInput
        When this user has never said so.
    """
    if not is_meant(run):
        raise InvalidInput(
            f"{run.id} was submitted with on={run.engine}, and no line of yours has said that for {run.job}.",
            f"If you mean it, say it: %fork or %submit with on={run.engine} goes on with what is there.",
        )


def wait_for_killed(job_folder: Path) -> None:
    """Wait until runs elsewhere that were killed just now have ended: no line takes those over."""
    end = time.monotonic() + 2 * _PATIENCE
    killed = [run for run in runs_of(job_folder) if run.engine != LOCAL and run.verdict() is not None]
    while lock.is_held(job_folder) and any(run.is_out() for run in killed) and time.monotonic() < end:
        time.sleep(0.1)


def is_over(run: Run) -> bool:
    """Whether its runner itself has said how it ended."""
    return (run.state() or {}).get("phase") in ENDED


def judge(run: Run, engine: Engine, submission: Submission) -> None:
    """Write down what its engine knows of a run's end, unless that was asked for here, or the run did well.

    A runner that was told to end says that it was killed, and knows neither by whom nor why.
    """
    phase = (run.state() or {}).get("phase")
    if run.verdict() is not None or phase in ("done", "stopped"):
        return
    word, why = engine.verdict(submission)
    if why or phase not in ENDED:
        run.judge(word, why)


def settle(job_folder: Path, engines: Collection[str]) -> None:
    """Ask these engines about what an earlier scheduler has left, before anything is decided about it.

    What has ended elsewhere comes home, and what was never submitted is forgotten. The rest is out, or nobody can tell:
    it is no run to be started. Called by who holds the job's lock. Only engines that the user's line is about are
    asked: where else a folder says that its run is, anybody may have written.
    """
    if schema.read_or_nothing(job_folder / SCHEDULER / STATE, schema.Scheduler).get("phase") == "ended":
        return
    for engine, runs in _by_engine(run for run in runs_of(job_folder) if run.engine in engines):
        asked = [(run, one) for run, one in _sought(engine, runs) if run.engine != LOCAL and one.ref is not None]
        for run, submission in _come_home(engine, asked):
            judge(run, engine, submission)


def _come_home(engine: Engine, runs: Sequence[tuple[Run, Submission]]) -> list[tuple[Run, Submission]]:
    """Bring home those that have ended on other machines, and write down that they have; returns them."""
    phases = engine.poll([submission for _, submission in runs])
    ended = [pair for pair, phase in zip(runs, phases, strict=True) if phase == base.ENDED]
    troubles = engine.fetch([submission for _, submission in ended], final=True)
    home = [pair for pair, trouble in zip(ended, troubles, strict=True) if not trouble]
    for run, submission in home:
        note(run, submission, base.ENDED)
    return home


def _by_engine(runs: Iterable[Run]) -> Iterator[tuple[Engine, list[tuple[Run, Submission]]]]:
    """Yield each engine with those of the runs that were submitted to it."""
    by_name: dict[str, list[tuple[Run, Submission]]] = {}
    for run in runs:
        if submission := known(run):
            by_name.setdefault(run.engine, []).append((run, submission))
    for name, mine in by_name.items():
        if any(not is_meant(run) for run, _ in mine):
            continue
        try:
            engine = open_engine(name)
        except ColabMagicsError:
            continue  # a folder of another installation: its run is out, for all that is known here
        yield engine, mine


def _sought(engine: Engine, runs: Iterable[tuple[Run, Submission]]) -> list[tuple[Run, Submission]]:
    """Look for those that have no reference; what was never submitted is forgotten, what nobody can tell stays."""
    found = []
    for run, submission in runs:
        if submission.ref is None:
            try:
                ref = engine.find([submission])[0]
            except (OSError, Unavailable):
                found.append((run, submission))
                continue
            if ref is None:
                forget(run)
                continue
            submission = confirm(run, submission, ref)
        found.append((run, submission))
    return found


def end(runs: Iterable[Run]) -> None:
    """End runs that no scheduler attends, wherever they are; what has ended elsewhere comes home.

    Raises
    ------
    ColabMagicsError
        When one cannot be reached.
    """
    runs = list(runs)
    unreached = [
        f"{run.id} ({run.engine})" for run in runs if not (_is_known_engine(run) and is_meant(run)) and known(run)
    ]
    for engine, mine in _by_engine(runs):
        left = [submission for _, submission in _sought(engine, mine)]
        over = time.monotonic() + _PATIENCE
        while left and time.monotonic() < over:
            with contextlib.suppress(OSError, Unavailable):
                engine.cancel([submission for submission in left if submission.ref is not None])
            left = [one for one, phase in zip(left, _phases(engine, left), strict=True) if phase != base.ENDED]
            if left:
                engine.wait(min(max(engine.poll_every, 0.1), 1.0))
        still = {submission.folder for submission in left}
        unreached += [f"{run.id} ({run.engine})" for run, _ in mine if run.folder in still]
        over_there = [
            (run, now) for run, _ in mine if run.engine != LOCAL and (now := known(run)) and now.ref is not None
        ]
        _come_home(engine, over_there)
    if unreached:
        raise ColabMagicsError(
            f"Nobody could see the end of {', '.join(unreached)}.",
            "It was asked for; when they can be reached again, say it once more.",
        )


def _is_known_engine(run: Run) -> bool:
    return name_of(run.engine) in ENGINES.names()


def _phases(engine: Engine, submissions: list[Submission]) -> list[Phase]:
    seen = iter(engine.poll([one for one in submissions if one.ref is not None]))
    return [next(seen) if one.ref is not None else base.UNKNOWN for one in submissions]
