"""What the cluster gets for some runs: a job, and what it owns.

The map of runs comes last: a job without it has started nothing, and is taken away by who finds it. The keys of its
runs stand in the job's annotations, so that they are found after a scheduler that died.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InvalidInput, Unavailable
from ..base import Ref, Submission, Work
from ..ssh.code import Checkout
from ..ssh.folders import own_files, sizes
from ..ssh.host import package
from . import code, home, names, objects, there
from .cluster import Cluster, Refused
from .home import Way
from .objects import Object, Task
from .settings import Settings

LABEL = "colab-magics/submission"
KEYS = "colab-magics/keys"
NAMES = "colab-magics/names"
"""Annotations of a job: its runs' keys, and what they are called, in the order of its indices."""
RESULTS = "colab-magics/results"
"""Another: where what they have written waits to be brought home."""
PODS = "pods"
"""What a run's record says of its own pod: settings over those of the project's file, the later ones winning."""
NAME = "name"
"""What a run's record calls it, besides its number."""
_NEEDED = "cyclopts, gdown, ipykernel, jupyter_client, msgspec, nbclient, papermill, psutil, ruamel.yaml, watchdog"
_START = f"""tar -xzf "$COLAB_MAGICS_MAPS/package/{objects.PACKED}" -C "$COLAB_MAGICS_WORK"
python -c 'import {_NEEDED}' 2>/dev/null || python -m pip install --quiet --disable-pip-version-check "$@" >&2
PYTHONPATH="$COLAB_MAGICS_WORK${{PYTHONPATH:+:$PYTHONPATH}}" exec python -P -m {there.__name__}
"""


@dataclass(frozen=True)
class Made:
    """What the cluster gets.

    Parameters
    ----------
    settings : Settings
        What its pods are made of.
    main : dict
        What owns the rest, and is made first: a job, or a pod.
    owned : list of dict
        The rest, in order; the map of runs is the last.
    way : Way
        How results come home.
    """

    settings: Settings
    main: Object
    owned: list[Object]
    way: Way

    @property
    def name(self) -> str:
        """The name of what owns the rest."""
        return str(self.main["metadata"]["name"])

    def texts(self) -> dict[str, str]:
        """Return all of it as YAML, by names of files; values of secrets are left out."""
        return {one["metadata"]["name"]: _readable(one) for one in (self.main, *self.owned)}


def of(
    found: Settings,
    work: Work,
    root: Path,
    runs: Sequence[Submission],
    records: Sequence[Mapping[str, Any]],
    *,
    mark: str = "",
) -> Made:
    """Build what some runs need.

    Parameters
    ----------
    found : Settings
        What their pods are made of.
    work : Work
        That of their scheduler.
    root : Path
        The folder of their code.
    runs, records : sequence
        The runs, and their records.
    mark : str, optional
        What tells the job's name from others; by default the keys of its runs.

    Raises
    ------
    TooLarge
        When they are more than one job holds.
    InvalidInput
        When the code cannot go that way.
    """
    job, project = work.job_folder.name, Path(os.path.abspath(work.job_folder)).parents[1]
    try:
        way = code.of(found, root, project)
    except objects.TooLarge as problem:  # whatever the number of runs
        raise InvalidInput(problem.what, problem.mend) from None
    keys = [run.key for run in runs]
    name = names.name([found.prefix, found.project, job], unique=names.mark(*([mark] if mark else keys)))
    home_by = home.of(found, project)
    environment = {**work.environment, **home_by.environment()}
    labels = {"colab-magics/job": job, LABEL: name}
    program = type(work.program)
    said = {
        "job": job,
        "program": f"{program.__module__}:{program.__qualname__}",
        "marker": Checkout(root, project).marker(),
        there.RESULTS: home_by.told(name),
        "runs": [_head(run, record, root) for run, record in zip(runs, records, strict=True)],
    }
    folders, texts = {there.RUNS: _folders(runs)}, {there.ABOUT: json.dumps(said)}
    mend = "Large files of earlier attempts go with a run: move them away, or submit fewer runs at once."
    mark_of_package, packed = package()
    owned = [
        *of_code(way, name),
        objects.config_map(found, f"{name}-package", files={objects.PACKED: packed}, labels={"mark": mark_of_package}),
        *of_environment(found, name, environment),
        objects.config_map(found, f"{name}-runs", texts=texts, files=folders, labels=labels, mend=mend),
    ]
    maps = {folder: f"{name}-{folder}" for folder in (*way.maps, "package", "runs")}
    wanted = [one for one in importlib.metadata.requires("colab-magics") or () if "extra ==" not in one]
    env = {there.MAPS_VARIABLE: objects.MOUNTED, there.WORK_VARIABLE: "/work"}
    wanted += home_by.packages
    secret = f"{name}-env" if environment else None
    start = _START.replace(_NEEDED, ", ".join([_NEEDED, *(re.split(r"\W", one)[0] for one in home_by.packages)]))
    task = Task(["sh", "-c", start, "sh", *wanted], maps, way.clone, secret, env, wanted)
    notes = {KEYS: " ".join(keys), **({RESULTS: where} if (where := home_by.where(name)) else {})}
    if any(called := [str(record.get(NAME) or "") for record in records]):
        notes[NAMES] = " ".join(called)
    made = objects.job(found, name, task, labels=labels, annotations=notes, runs=len(runs), at_once=work.at_once)
    return Made(found, made, owned, home_by)


def of_code(way: code.Code, name: str) -> list[Object]:
    """Return the code's own objects as those of one owner, of that name."""
    return [{**one, "metadata": {**one["metadata"], "name": f"{name}-code"}} for one in way.objects]


def of_environment(found: Settings, name: str, environment: Mapping[str, str]) -> list[Object]:
    """Build the secret with the variables that came from the session; none without any."""
    if not environment:
        return []
    about = {"name": f"{name}-env", **objects.namespace_of(found), "labels": objects.labels_of(found)}
    return [{"apiVersion": "v1", "kind": "Secret", "metadata": about, "stringData": dict(environment)}]


def put(there_is: Cluster, made: Made) -> None:
    """Make an object and what it owns; where something of that is refused nothing of it stays.

    Raises
    ------
    Conflict
        When there is one of its name.
    Refused
        When the cluster does not take it.
    Unavailable
        When nobody knows.
    """
    owner = there_is.create(made.main)
    kind = made.main["kind"]
    owns = {"apiVersion": made.main["apiVersion"], "kind": kind, "name": made.name, "uid": owner["metadata"]["uid"]}
    try:
        for one in made.owned:
            one["metadata"]["ownerReferences"] = [owns]
            there_is.create(one)
    except Refused as problem:
        (there_is.delete_job if kind == "Job" else there_is.delete_pod)(made.name)
        raise Refused(problem.what, problem.mend) from None


def ask(there_is: Cluster, made: Made) -> str:
    """Ask the cluster whether it would take an object and what it owns, none of which is made; returns what it says."""
    for one in (made.main, *made.owned):
        try:
            there_is.create(one, dry_run=True)
        except Refused as problem:
            return f"The cluster would not take {one['kind']} {one['metadata']['name']}: {problem.what}"
        except Unavailable as problem:
            return f"The cluster was not asked: {problem.what}"
    return f"The cluster would take {made.name} (it was asked by a dry run)."


def ref(there_is: Cluster, name: str, index: int, run: Submission, results: str) -> Ref:
    """Return how a run is named that has been submitted: its cluster, job and index, and where its results wait."""
    where = {"context": there_is.context, "namespace": there_is.namespace}
    return {**where, "job": name, "index": index, "base": sizes(run.folder), "results": results}


def share(all_of: int, before: int, mine: int, every: int) -> int:
    """Return the part of a whole that some have after those before them."""
    return all_of * (before + mine) // every - all_of * before // every


def by_job(runs: Sequence[Submission]) -> dict[tuple[str | None, str | None, str], list[Submission]]:
    """Put runs together by context, namespace and job."""
    found: dict[tuple[str | None, str | None, str], list[Submission]] = {}
    for run in runs:
        own = run.ref or {}
        found.setdefault((own.get("context"), own.get("namespace"), str(own.get("job"))), []).append(run)
    return found


def _readable(one: Object) -> str:
    if one["kind"] != "Secret":
        return objects.as_yaml([one])
    return objects.as_yaml([{**one, "stringData": dict.fromkeys(one["stringData"], "")}], "The values are left out.")


def _head(run: Submission, record: Mapping[str, Any], root: Path) -> dict[str, Any]:
    cwd = record.get("cwd")
    inside = str(Path(cwd).relative_to(root)) if cwd and Path(cwd).is_relative_to(root) else None
    own = {**record, "engine": "local", "gpus": None}
    for name in ("options", PODS):
        own.pop(name, None)
    return {"key": run.key, "folder": run.folder.name, "cwd": inside, "record": own}


def _folders(runs: Sequence[Submission]) -> bytes:
    """Return what the runs' folders hold, each below its name; what is the same is packed once."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        for run in runs:
            for name in own_files(run.folder):
                archive.add(run.folder / name, f"{run.folder.name}/{name}", recursive=False)
    return out.getvalue()
