"""Runs as pods of a Kubernetes cluster: ``on=kubernetes``. Never tried on a real cluster so far.

One submission is one Indexed Job; which of its indices is which run stands in a config map that the job owns, beside
others with the code, this package and a secret with the runs' secret variables. The map of runs comes last: a job
without it has started nothing, and is taken away by who finds it. The keys of its runs stand in the job's annotations,
so that they are found after a scheduler that died.

What a run prints, its state and its metrics come home through its container's log, and at its end what it has written
(`colab_magics.engines.kubernetes.frames`): that is the one way that needs nothing but the API. More than a log holds
waits on a volume or in a bucket (`colab_magics.engines.kubernetes.home`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ... import process
from ...checkout.trust import Warn
from ...errors import ColabMagicsError, InvalidInput, Unavailable
from ...records.names import RECORD, STATE
from ...ui import UI
from ...units import count
from .. import base
from .. import options as reading
from ..base import Engine, Phase, Ref, Resources, Submission, Work
from ..ssh.code import root_of
from . import built, cluster, code, home, interactive, names, objects, pods, settings, submission, there
from .arrivals import Arrivals
from .cluster import Cluster, Conflict, Refused
from .objects import Object
from .options import Options
from .settings import Settings
from .submission import KEYS, LABEL, PODS, RESULTS, Made
from .watched import Watched

_MOST_RUNS = 2000
"""Runs of one Job; annotations and config maps have their limits."""
_DRY_RUN = "dry-run"
_LOG_EVERY, _LOGS = 2.0, 20
"""Seconds between two looks into the logs of so many pods; of more it is longer."""
Pods = Sequence[Mapping[str, Any]]
"""Settings of pods, the later ones winning."""


class KubernetesEngine(Engine):
    """A reference names the cluster, the job and the run's index in it."""

    Options = Options
    poll_every = 0.5
    previews = stays = True

    def __init__(self, where: str = "", options: Any = None) -> None:
        base.nothing_more("kubernetes", where)
        super().__init__(where, options)
        self._clusters: dict[tuple[str | None, str | None], Cluster] = {}
        self._arrivals = Arrivals()
        self._says: dict[str, str] = {}
        self._watches: dict[tuple[Cluster, str], Watched] = {}
        self._waits_at: set[str] = set()
        """Where results of jobs wait that this process has made."""
        self._work: Work | None = None
        self._root = Path()

    @classmethod
    def why_not(cls) -> str:
        """Say that the client or a kubeconfig is missing, where that is so."""
        return cluster.why_not()

    def _cluster(self, context: str | None, namespace: str | None) -> Cluster:
        key = (context, namespace)
        if key not in self._clusters:
            self._clusters[key] = Cluster(context, namespace)
        return self._clusters[key]

    def _settings(
        self, root: Path, gpus: Any = None, pods: Pods | None = None, warn: Warn = process.log.debug
    ) -> Settings:
        return settings.read(root, self.options, project=root.name, gpus=gpus, over=pods or (), warn=warn)

    def _where_said(self, folder: Path) -> Cluster:
        """Return the cluster that a run's line meant; who asks may know nothing but its folder."""
        record = process.read_json(folder / RECORD) or {}
        try:
            options = reading.read(Options, record.get("options") or {}, on="kubernetes")
            root = Path(os.path.abspath(folder)).parents[2]
            found = settings.read(root, options, project=root.name, over=record.get(PODS) or ())
        except InvalidInput as problem:
            raise Unavailable(problem.what, problem.mend) from None
        return self._cluster(found.context, found.namespace)

    def settle(
        self,
        job_folder: Path,
        cwd: Path,
        workers: str | int = "auto",
        gpus: str | float | None = None,
        ui: UI | None = None,
    ) -> Resources:
        """Look at what the line and the project say of pods; all runs are given to the cluster. See `Engine`."""
        return self.settle_pods(job_folder, cwd, workers, gpus, [()])

    def settle_pods(
        self, job_folder: Path, cwd: Path, workers: str | int, gpus: str | float | None, each: Sequence[Pods]
    ) -> Resources:
        """Do what `settle` does for runs whose pods differ: `each` are the settings of theirs over the project's."""
        warnings: dict[str, None] = {}
        root, found = Path(os.path.abspath(job_folder)).parents[1], list[Settings]()
        for one in each:
            found.append(self._settings(root, gpus, one, lambda text: warnings.setdefault(text)))
            code.of(found[-1], root_of(root, cwd), root, lambda text: warnings.setdefault(text))
            home.of(found[-1], root).check(lambda text: warnings.setdefault(text))
            if not self.why_not():  # else `available` says so, and a dry run does without
                self._cluster(found[-1].context, found[-1].namespace)
        at_once = None if str(workers) == "auto" else count(workers, name="workers")
        if at_once is not None and (kinds := len({repr(one) for one in found})) > at_once:
            said = f"workers={at_once}: pods of {kinds} kinds are {kinds} jobs, each with at least one run at once."
            warnings[said] = None
        every = {one.gpus for one in found}
        return Resources(
            base.EVERY, float(every.pop()) if len(every) == 1 else None, warnings=list(warnings), at_once=at_once
        )

    def available(self, *, gpus: float = 0) -> None:
        """Return when there is a client and a kubeconfig."""
        if why := self.why_not():
            raise Unavailable(f"on=kubernetes is of no use here: {why}.", "See: kubectl cluster-info")

    def prepare(self, work: Work) -> None:
        """Keep the work; code and package go with each job."""
        self._work, self._root = work, Path(os.path.abspath(work.job_folder)).parents[1]

    def submit(self, runs: Sequence[Submission]) -> list[Ref | None]:
        """Make a job of the runs, or several where they are more than one holds; see `Engine`."""
        if self._work is None:
            raise TypeError("an engine submits nothing before it was prepared")
        refs: dict[str, Ref] = {}
        try:
            for some, made in self._made(self._work, runs):
                refs |= self._create(some, made)
        except InvalidInput as problem:
            if not refs:
                raise base.NotSubmitted(problem.what, problem.mend) from None
        except base.NotSubmitted:
            if not refs:
                raise
        return [refs.get(run.key) for run in runs]

    def _made(self, work: Work, runs: Sequence[Submission], mark: str = "") -> Iterator[tuple[list[Submission], Made]]:
        """Build a job of the runs, or several where they differ in what their pods are, or are more than one holds.

        Raises
        ------
        InvalidInput
            When some can go no way; after those that can.
        """
        left: list[tuple[Settings, Path, list[Submission]]] = []
        for found, root, mine in self._by_kind(runs):
            left += [(found, root, mine[start : start + _MOST_RUNS]) for start in range(0, len(mine), _MOST_RUNS)]
        too_large: InvalidInput | None = None
        number = before = 0
        while left:
            found, root, some = left.pop(0)
            records = [process.read_json(run.folder / RECORD) or {} for run in some]
            own = f"{mark} {(number := number + 1)}" if mark else ""
            # Of several jobs each has its part of those that execute at once: together they are as many as were said.
            part = work.at_once and max(1, submission.share(work.at_once, before, len(some), len(runs)))
            try:
                made = submission.of(found, dataclasses.replace(work, at_once=part), root, some, records, mark=own)
            except objects.TooLarge as problem:
                if len(some) > 1:
                    left[:0] = [(found, root, half) for half in (some[: len(some) // 2], some[len(some) // 2 :])]
                else:
                    too_large = problem
                continue
            before += len(some)
            yield some, made
        if too_large is not None:
            raise too_large

    def _by_kind(self, runs: Sequence[Submission]) -> list[tuple[Settings, Path, list[Submission]]]:
        """Put those together whose pods are the same, and their code."""
        known: dict[str, Settings] = {}
        kinds: dict[str, tuple[Settings, Path, list[Submission]]] = {}
        for run in runs:
            record = process.read_json(run.folder / RECORD) or {}
            said = process.as_json([record.get("gpus"), record.get(PODS)])
            if said not in known:
                known[said] = self._settings(self._root, record.get("gpus"), record.get(PODS))
            found, root = known[said], self._code(record)
            kinds.setdefault(f"{found!r} {root}", (found, root, []))[2].append(run)
        return list(kinds.values())

    def preview(self, work: Work) -> Sequence[str]:
        """Write the YAML of what the cluster would get into ``build/`` of the project, and ask it; see `Engine`."""
        self.prepare(work)
        runs = [Submission(folder, f"{_DRY_RUN}-{folder.name}") for folder in work.folders]
        written, said = [], list[str]()
        for _, made in self._made(work, runs, _DRY_RUN):
            written += built.write(self._root, made.texts())
            said.append(self._asked(made))
        return [built.say(written), *dict.fromkeys(said)]

    def _asked(self, made: Made) -> str:
        """Say what the cluster says of something, without having it made."""
        if why := self.why_not():
            return f"No cluster was asked: {why}."
        return submission.ask(self._cluster(made.settings.context, made.settings.namespace), made)

    def _code(self, record: Mapping[str, Any]) -> Path:
        """Return the folder of the code of a run."""
        return root_of(self._root, Path(record["cwd"]) if record.get("cwd") else None)

    def stay(
        self,
        job_folder: Path,
        cwd: Path,
        gpus: str | float | None,
        environment: Mapping[str, str],
        *,
        ui: UI,
        dry_run: bool = False,
    ) -> Sequence[str]:
        """Make a pod that stays; see `Engine`."""
        root = Path(os.path.abspath(job_folder)).parents[1]
        found, mark = self._settings(root, gpus, None, ui.warn), _DRY_RUN if dry_run else uuid.uuid4().hex
        made = interactive.of(found, root_of(root, cwd), root, environment, mark=mark, warn=ui.warn)
        if dry_run:
            written = built.say(built.write(root, made.texts()))
            return [written, self._asked(made), "Nothing was started (--dry-run)."]
        self.available()
        there_is = self._cluster(found.context, found.namespace)
        try:
            submission.put(there_is, made)
        except Unavailable:
            with contextlib.suppress(Unavailable):
                there_is.delete_pod(made.name)  # it would wait for ever
            raise
        return interactive.how(found, made.name, there_is.namespace)

    def _create(self, runs: Sequence[Submission], made: Made) -> dict[str, Ref]:
        """Have the cluster make a job and what it owns."""
        there_is = self._cluster(made.settings.context, made.settings.namespace)
        try:
            made.way.prepare(made.name)
        except OSError as error:
            raise base.NotSubmitted(f"{error.filename}: {error.strerror}.", "Choose a place to write to.") from None
        try:
            submission.put(there_is, made)
        except Conflict as problem:  # from an attempt to submit these: it is looked for
            raise Unavailable(problem.what, problem.mend) from None
        except Refused as problem:
            raise base.NotSubmitted(problem.what, problem.mend) from None
        self._waits_at.add(where := made.way.where(made.name))
        return {run.key: submission.ref(there_is, made.name, index, run, where) for index, run in enumerate(runs)}

    def finish(self, *, well: bool) -> None:
        """Take away the folders on volumes in which nothing waits any more, and watch no longer."""
        for where in self._waits_at:
            home.finish(where)
        for one in self._watches.values():
            one.end()

    def find(self, runs: Sequence[Submission]) -> list[Ref | None]:
        """Look for runs by the keys that jobs have in their annotations; see `Engine`."""
        if not runs:
            return []
        by_cluster: dict[Cluster, dict[str, Submission]] = {}
        for run in runs:
            by_cluster.setdefault(self._where_said(run.folder), {})[run.key] = run
        refs: dict[str, Ref] = {}
        label = names.label(runs[0].folder.parent.name)
        for there_is, wanted in by_cluster.items():
            for one in there_is.jobs(f"colab-magics/job={label}"):
                about = one["metadata"]
                keys = str((about.get("annotations") or {}).get(KEYS) or "").split()
                mine = [(index, key) for index, key in enumerate(keys) if key in wanted]
                if mine and not there_is.has_map(f"{about['name']}-runs"):
                    there_is.delete_job(about["name"])  # it never came so far that it could start anything
                else:
                    where = str(about["annotations"].get(RESULTS) or "")
                    refs |= {
                        key: submission.ref(there_is, about["name"], index, wanted[key], where) for index, key in mine
                    }
        return [refs.get(run.key) for run in runs]

    def poll(self, runs: Sequence[Submission]) -> list[Phase]:
        """Tell what the watches of jobs and pods have seen; see `Engine`."""
        phases: dict[str, Phase] = {}
        for there_is, by_name in self._by_cluster(runs).items():
            try:
                jobs, seen = (self._watched(there_is, kind).of(by_name) for kind in ("Job", "Pod"))
            except ColabMagicsError as problem:
                process.log.debug("%s: %s", there_is.namespace, problem.what)
                continue
            for name, mine in by_name.items():
                one, found = next(iter(jobs[name]), None), seen[name]
                for run in mine:
                    index = int((run.ref or {})["index"])
                    phases[run.key] = phase = pods.phase(one, found, index)
                    self._says[run.key] = pods.why_queued(one, found, index) if phase == base.QUEUED else ""
        return [phases.get(run.key, base.UNKNOWN) for run in runs]

    def _by_cluster(self, runs: Sequence[Submission]) -> dict[Cluster, dict[str, list[Submission]]]:
        """Put runs together by where they are, and by their jobs."""
        found: dict[Cluster, dict[str, list[Submission]]] = {}
        for (context, namespace, name), mine in submission.by_job(runs).items():
            try:
                found.setdefault(self._cluster(context, namespace), {})[name] = mine
            except ColabMagicsError as problem:
                process.log.debug("%s: %s", name, problem.what)
        return found

    def _watched(self, there_is: Cluster, kind: str) -> Watched:
        if (there_is, kind) not in self._watches:
            self._watches[there_is, kind] = Watched(there_is, kind, LABEL)
        return self._watches[there_is, kind]

    def says(self, run: Submission) -> str:
        """Return why a run waits, in the cluster's words: ``ImagePullBackOff``, ``Unschedulable``."""
        return self._says.get(run.key, "")

    def fetch(self, runs: Sequence[Submission], *, final: bool) -> list[str]:
        """Read the logs of the runs' containers, and bring home what they have written; see `Engine`."""
        troubles: dict[str, str] = {}
        every = 0.0 if final else _LOG_EVERY * max(1.0, len(runs) / _LOGS)
        for (context, namespace, name), mine in submission.by_job(runs).items():
            try:
                there_is = self._cluster(context, namespace)
                if final:  # a watch may be a little behind
                    found = there_is.pods(f"{LABEL}={name}")
                else:
                    found = self._watched(there_is, "Pod").of([name])[name]
                for run in mine:
                    own = pods.every(found, int((run.ref or {})["index"]))
                    troubles[run.key] = self._arrivals.fetch(there_is, run, own, final=final, every=every)
            except OSError as problem:
                troubles |= dict.fromkeys((run.key for run in mine), f"{problem.strerror or problem}: {name}")
            except ColabMagicsError as problem:
                troubles |= dict.fromkeys((run.key for run in mine), problem.what.rstrip("."))
        return [troubles.get(run.key, "") for run in runs]

    def cancel(self, runs: Sequence[Submission]) -> None:
        """End runs: their pods are deleted, and what has none yet ends when it begins; see `Engine`."""
        for (context, namespace, name), mine in submission.by_job(runs).items():
            there_is = self._cluster(context, namespace)
            one = there_is.job(name)
            if one is None:
                continue
            found = there_is.pods(f"{LABEL}={name}")
            live = {index for index in range(int(one["spec"]["completions"])) if not pods.is_over(one, index)}
            meant = {int((run.ref or {})["index"]) for run in mine}
            if live <= meant:
                there_is.delete_job(name)
                continue
            there_is.change_map(f"{name}-runs", {there.cancelled(run.key): "" for run in mine})
            for index in meant & live:
                if (pod := pods.newest(found, index)) is not None and not pod["metadata"].get("deletionTimestamp"):
                    there_is.delete_pod(pod["metadata"]["name"])

    def stop_early(self, run: Submission, why: str) -> bool:
        """Tell its pod through the job's config map, which a node reads again within a minute or two; see `Engine`."""
        ((context, namespace, name),) = submission.by_job([run])
        self._cluster(context, namespace).change_map(f"{name}-runs", {there.stopped(run.key): why})
        return True

    def log(self, run: Submission) -> str:
        """Return what the cluster says of a run's pod that did not come to an end of its own."""
        pod = self._pod(run)
        return pods.why(pod) if pod is not None else ""

    def verdict(self, run: Submission) -> tuple[Literal["lost", "killed"], str]:
        """Say what became of a run; of one that has said it itself its program's exit status says no more."""
        pod = self._pod(run)
        if pod is None or (pods.ended_by_itself(pod) and there.is_over(there.bytes_of(run.folder / STATE))):
            return "lost", ""
        return "lost", pods.why(pod)

    def _pod(self, run: Submission) -> Object | None:
        ref = run.ref or {}
        with contextlib.suppress(ColabMagicsError, KeyError):
            there_is = self._cluster(ref.get("context"), ref.get("namespace"))
            return pods.newest(there_is.pods(f"{LABEL}={ref['job']}"), int(ref["index"]))
        return None
