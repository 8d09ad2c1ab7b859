"""Execute runs again that did not end well, as they were submitted."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..checkout.project import real_folder
from ..engines import open_engine
from ..errors import Busy, InvalidInput
from ..payloads import payload_of
from ..records.names import SCHEDULER
from ..records.run import LOCAL, Run, runs_of
from ..units import count
from . import attempts, scheduler, submitted
from .of_queue import claims
from .scheduler import Feed
from .select import Choice, reread


def chosen(found: Sequence[Choice]) -> list[Run]:
    """Return the runs to execute again: of a whole job those that did not end well, else the very runs named.

    Raises
    ------
    InvalidInput
        When a run that finished was named.
    """
    runs: dict[Path, Run] = {}
    for choice in found:
        done = [run for run in choice.runs if run.status().ended_well]
        if done and choice.which:
            raise InvalidInput(
                f"{done[0].id} is done: retry executes runs that did not end well.",
                "To execute it anew, run the %fork line with resume=rerun, or remove it first by %jobs rm.",
            )
        runs |= {run.folder: run for run in choice.runs if run not in done}
    return list(runs.values())


def said(workers: str, retries: int | None, max_failures: int | None) -> dict[str, int]:
    """Return those of the settings of `Feed` that a line says."""
    feed = {} if str(workers) == "auto" else {"workers": count(workers, name="workers")}
    if retries is not None:
        feed["retries"] = count(retries, name="retries", least=0)
    if max_failures is not None:
        feed["max_failures"] = count(max_failures, name="max_failures")
    return feed


def start(runs: Sequence[Run], feed: Mapping[str, Any], secrets: Sequence[str]) -> None:
    """Start a scheduler for each job.

    Parameters
    ----------
    runs : sequence of Run
        What to execute.
    feed : mapping
        Values of `Feed` that count here; the others are those of the job's last ``%fork``.
    secrets : sequence of str
        See `scheduler.start`.

    Raises
    ------
    ColabMagicsError
        Before anything was started: a job's runs are being executed, a run's notebook is gone, the engine is not
        there, or one job's runs were submitted to different engines.
    """
    jobs: dict[Path, list[Run]] = {}
    for run in runs:
        jobs.setdefault(run.folder.parent, []).append(run)
    with ExitStack() as stack:
        ready = []
        for job_folder, mine in jobs.items():
            real_folder(job_folder, SCHEDULER)
            lock = stack.enter_context(scheduler.taken(job_folder))[0]
            # Under the lock: nobody else starts or ends them now.
            submitted.settle(job_folder, {run.engine for run in mine})
            mine = reread(mine)
            ready.append((job_folder, mine, lock, _engine(mine)))
        for job_folder, mine, lock, (engine, options) in ready:
            chosen = dataclasses.replace(_feed_before(job_folder), **feed)
            try:
                for run in mine:
                    if run.status().phase != "waiting":
                        attempts.renew(run.folder)
            except OSError as error:
                raise scheduler.cannot_start(error, job_folder) from error
            folders = [run.folder for run in mine]
            at_once = scheduler.last_plan(job_folder).get("at_once")
            scheduler.start(
                job_folder, folders, lock, engine=engine, options=options, feed=chosen, at_once=at_once, secrets=secrets
            )


def attend(runs: Sequence[Run], secrets: Sequence[str]) -> None:
    """Start a scheduler for each job that has runs on other machines and none: they come home while it lives.

    Those of a queue are left alone: only the line that names the queue can go on to hold them there.
    """
    out_there = [run for run in runs if run.engine != LOCAL and run.is_out() and not run.is_named]
    for job_folder in dict.fromkeys(run.folder.parent for run in out_there):
        if scheduler.is_running(job_folder):
            continue
        real_folder(job_folder, SCHEDULER)
        with scheduler.taken(job_folder) as (lock, *_):
            submitted.settle(job_folder, {run.engine for run in runs})
            out = [run for run in runs_of(job_folder) if run.engine != LOCAL and run.is_out() and not run.is_named]
            for run in out:
                submitted.check_meant(run)
            mine = [run.folder for run in out if run.engine == out[0].engine]  # a scheduler feeds one engine
            if mine:
                feed = _feed_before(job_folder)
                scheduler.start(job_folder, [], lock, engine=out[0].engine, feed=feed, secrets=secrets, adopt=mine)


def _engine(runs: Sequence[Run]) -> tuple[str, dict[str, Any]]:
    """Check that a job's runs can be executed; return where, and what was said to that engine."""
    for run in runs:
        if run.problem:
            raise InvalidInput(
                f"{run.id} cannot be executed again: {run.problem}.",
                f"Name the others; the %fork line makes it anew, %jobs rm {run.id} removes it.",
            )
        if run.is_named:
            queue = (claims.read(run.folder) or {}).get("queue", "URL")
            raise InvalidInput(
                f"{run.id} is a run of the queue {queue}: who executes it is decided there.",
                f"Make it ready again: %queue requeue {queue} {shlex.quote(run.name)}",
            )
        if run.status().phase == "running" or run.is_out():
            raise Busy(f"{run.id} is being executed.", f"%jobs watch {run.id} shows it; %jobs kill {run.id} ends it.")
        payload_of(run.record).check(run)
    engines = sorted({str(run.record.get("engine") or "local") for run in runs})
    if len(engines) > 1:
        raise InvalidInput(
            f"The runs of {runs[0].job} were submitted to {' and '.join(engines)}.",
            "Name those of one engine at a time: %jobs retry 3-5",
        )
    options = dict(runs[0].record.get("options") or {})
    if other := next((run for run in runs if (run.record.get("options") or {}) != options), None):
        raise InvalidInput(
            f"{runs[0].id} and {other.id} were submitted with different options of on={engines[0]}.",
            "Name those with the same options at a time: %jobs retry 3-5",
        )
    engine = open_engine(engines[0], options)
    submitted.check_meant(runs[0])
    engine.available(gpus=max(run.record.get("gpus") or 0 for run in runs))
    return engines[0], options


def _feed_before(job_folder: Path) -> Feed:
    """Return how the engine was fed at the job's last ``%fork``; one run at a time where nobody knows."""
    known: dict[str, Any] = dict(scheduler.last_plan(job_folder).get("feed") or {})
    return Feed(**{field.name: known[field.name] for field in dataclasses.fields(Feed) if field.name in known})
