"""Every reader of foreign files, with what no writer of ours would leave: text or an error of ours comes of it.

Nothing is written, run or removed meanwhile, and nothing is waited for.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.kit import picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs.folders import leave_run

from colab_magics import process, session
from colab_magics.checkout.project import Project, find_project
from colab_magics.errors import ColabMagicsError
from colab_magics.faces import jupyter_server
from colab_magics.payloads.notebook_draft import Whose
from colab_magics.records import metrics, schema
from colab_magics.records.names import METRICS, SCHEDULER
from colab_magics.records.run import Run, runs_of
from colab_magics.runs import joined, plan, retry, scheduler, workers
from colab_magics.session import Session
from colab_magics.ui import TerminalUI, read_notebook
from colab_magics.units import without_controls

from .looking import shown

pytestmark = [pytest.mark.long, pytest.mark.timeout(3000)]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 10**40, 10**400, 1e308, -1e308, 1e-320, 1e11, math.inf, -math.inf, math.nan]),
    st.floats(),
    st.text(st.characters(), max_size=20),
    st.sampled_from(
        ["", "\ud800", "\x1b]0;x\x07", "../../etc", "/", "done", "running", "failed", "a\nb", "🙂", "%s{}"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(
                st.text(max_size=8), st.sampled_from(["pid", "boot", "cell", "ename", "kind", "attempt", "ended"])
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)

NOW = {"pid": os.getpid(), "started": 1, "host": process.host(), "boot": process.boot_id(), "pids": "pid:[1]"}
RECORD: dict[str, Any] = {
    "format": 1,
    "index": 1,
    "i_sub_job": 1,
    "repeat": 0,
    "fork": 1,
    "attempt": 2,
    "attempts": [{"attempt": 1, "phase": "failed", "text": "failed in cell 1", "ended": 1.0}],
    "parameters": {"lr": 0.1, "name": "x"},
    "notebook": "train.ipynb",
    "notebook_path": "notebooks/train.ipynb",
    "engine": "nowhere:gpu1",
    "start": "cold",
    "gpus": None,
    "cwd": "/",
    "commit": "abc",
    "payload": {"kind": "notebook", "kernel": None, "time": None},
    "code": {"1": "ab"},
    "others": {},
    "submitted": 1000.0,
}
STATE: dict[str, Any] = {
    "attempt": 2,
    "phase": "failed",
    "started": 1000.0,
    "ended": 1060.0,
    "beat": 1060.0,
    "cell": 1,
    "cells": 3,
    "cell_began": 1000.0,
    "process": NOW,
    "kernel": 7,
    "kernel_process": NOW,
    "gpus": ["GPU-1"],
    "usage": {"memory": 1, "memory_peak": 2, "cpu": 3, "gpu_memory_peak": 4},
    "start_up": {"kernel": 1.0, "imports": 2.0, "modules": ["numpy"]},
    "error": {"cell": 1, "ename": "E", "evalue": "bad", "traceback": "trace"},
    "note": "a note",
}
VERDICT: dict[str, Any] = {"attempt": 2, "verdict": "lost", "at": 1000.0, "reason": "why", "by": NOW}
REFERENCE: dict[str, Any] = {
    "attempt": 2,
    "key": "a key",
    "engine": "nowhere:gpu1",
    "ref": {"pid": 1},
    "seen": "unknown",
    "since": 1.0,
    "by": NOW,
}
COMMAND: dict[str, Any] = {**RECORD, "index": 2, "payload": {"kind": "command", "words": ["echo", "{lr}"], "time": 9.0}}
LINE: dict[str, Any] = {"time": 1.0, "attempt": 2, "step": 3, "values": {"loss": 0.5, "total": 10}}
SOURCE: dict[str, Any] = {
    "cells": [{"cell_type": "code", "source": "x = 1", "metadata": {"tags": ["a"]}, "id": "a", "outputs": []}],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}
PLAN: dict[str, Any] = {
    "runs": ["sub_job_001"],
    "adopt": [],
    "engine": "local",
    "feed": {"workers": 2, "trial": None, "max_failures": None, "retries": 1},
    "by": NOW,
    "begun": {},
}
FORKS: dict[str, Any] = {"forks": [{"notebook": "a", "notebook_path": "a", "fork": 1, "at": 1.0, "runs": [1]}]}
DESK: dict[str, Any] = {"devices": {"GPU-1": "0 A"}, "waiting": "x", "memory": {"sub_job_001": 1}, "problem": ""}

FILES: dict[str, dict[str, Any]] = {
    "sub_job_001/run.json": RECORD,
    "sub_job_001/state.json": STATE,
    "sub_job_001/verdict.json": VERDICT,
    "sub_job_001/ref.json": REFERENCE,
    "sub_job_002/run.json": COMMAND,
    "sub_job_001/metrics.jsonl": LINE,
    "sub_job_001/source.ipynb": SOURCE,
    ".scheduler/plan.json": PLAN,
    ".scheduler/forks.json": FORKS,
    ".scheduler/gpus.json": DESK,
    ".scheduler/state.json": {"process": NOW, "started": 1.0, "problem": "full"},
    ".scheduler/workers.json": {"workers": 3},
}


def paths(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where anything stands in a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above, *(path for key, part in inner for path in paths(part, (*above, key)))]


@st.composite
def changed(draw: st.DrawFn, value: dict[str, Any]) -> bytes:
    """Change a file of ours at one to three places, or cut, or replace it."""
    how = draw(st.integers(0, 9))
    if how == 0:
        return draw(st.binary(max_size=60))
    if how == 1:
        return json.dumps(draw(VALUES)).encode("utf-8", "replace")
    made = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths(made)[1:] or [()]))
        if not path:
            continue
        holder = made
        for key in path[:-1]:
            holder = holder[key]
        if draw(st.booleans()) or isinstance(holder, list):
            holder[path[-1]] = draw(VALUES)
        else:
            del holder[path[-1]]
    raw = json.dumps(made).encode()
    return raw[: draw(st.integers(0, len(raw)))] if how == 2 else raw


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("fuzz") / "net"
    root.mkdir()
    project = Project(name="net", job="baseline", root=root, notebooks=root)
    project.save()
    for index in range(2):
        leave_run(project.data_job, index, "failed", reports=[{"loss": 0.25, "step": 1}])
    return project


def put(project: Project, file: str, raw: bytes) -> None:
    for name, value in FILES.items():
        path = project.data_job / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(json.dumps(value).encode() + b"\n")
    (project.data_job / file).write_bytes(raw)


def readers(project: Project) -> list[Callable[[], Any]]:
    """What else reads these files, beside what `shown` asks."""
    job, points = project.data_job, [plan.Point(0, {"lr": 0.1, "name": "x"}), plan.Point(1)]

    def made() -> None:
        for resume in (None, "keep"):
            plan.make(points, job, {"1": "ab"}, whose=Whose(), resume=resume)

    return [
        made,
        lambda: scheduler.fed(job),
        lambda: scheduler.waits_for(job),
        lambda: scheduler._busy(job),
        lambda: retry._feed_before(job),
        lambda: retry._engine(runs_of(job)),
        lambda: joined.recall(job),
        lambda: workers.Said(job / SCHEDULER).news(),
        lambda: [run.runner() for run in runs_of(job)],
        lambda: [str(run) for run in runs_of(job)],
        lambda: [metrics.read(run.folder) for run in runs_of(job)],
        lambda: read_notebook(job / "sub_job_001" / "source.ipynb"),
    ]


@pytest.mark.parametrize("file", list(FILES))
def test_what_is_shown_of_crafted_runs(project: Project, file: str) -> None:
    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(raw=changed(FILES[file]))
    def look(raw: bytes) -> None:
        session.activate(Session(ui=TerminalUI(out=io.StringIO()), project=project))
        put(project, file, raw)
        before = picture(project.root, ours=True)
        texts = list(shown())
        assert "baseline/0  failed" in texts[0], "another run is shown as ever"
        for text in texts:
            assert without_controls(text, colours=True) == text
        for reader in readers(project):
            try:
                reader()
            except ColabMagicsError as error:
                str(error).encode()
        assert picture(project.root, ours=True) == before

    look()


@pytest.mark.parametrize(
    "kind", [schema.Record, schema.State, schema.Verdict, schema.Reference, schema.Plan, schema.Forks]
)
def test_a_file_is_what_its_schema_says_or_unreadable(tmp_path: Path, kind: Any) -> None:
    whole = {schema.Record: RECORD, schema.State: STATE, schema.Verdict: VERDICT, schema.Plan: PLAN}.get(kind, FORKS)
    whole = REFERENCE if kind is schema.Reference else whole
    file = tmp_path / "sub_job_001" / "run.json"
    file.parent.mkdir()

    @settings(max_examples=1300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(raw=changed(whole))
    def look(raw: bytes) -> None:
        file.write_bytes(raw)
        try:
            said = "" if isinstance(schema.read(file, kind), dict) else "nothing"
        except schema.Unreadable as problem:
            said = str(problem)
        assert not said or said.startswith("run.json: ")
        assert str(Run.look(file.parent).status())

    look()


def test_lines_of_metrics(tmp_path: Path) -> None:
    @settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(lines=st.lists(changed(LINE), min_size=1, max_size=5))
    def look(lines: list[bytes]) -> None:
        (tmp_path / METRICS).write_bytes(b"\n".join(lines))
        found = metrics.read(tmp_path)
        metrics.show(metrics.compared(found)).encode()
        metrics.progress(tmp_path, attempt=2)
        for name in metrics.numeric_names(found):
            metrics.sparkline([y for _, y in metrics.series(found, name)])

    look()


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    raw=changed({"url": "http://localhost:1/", "token": "t", "root_dir": "/", "pid": 2**22 + 1, "base_url": "/"}),
    marker=changed({"name": "net", "job": "baseline", "place": None, "notebooks": "notebooks", "jobs": {"a": "b"}}),
)
def test_files_of_servers_and_projects(tmp_path_factory: pytest.TempPathFactory, raw: bytes, marker: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "servers"
    folder.mkdir(exist_ok=True)
    (folder / "jpserver-1.json").write_bytes(raw)
    (folder / ".colab_magics.json").write_bytes(marker)
    assert jupyter_server.find_session("k", folder) is None
    with contextlib.suppress(ColabMagicsError):  # one clear error: a marker that nobody of ours wrote
        find_project(folder)


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    text=st.text(st.characters(), max_size=200)
    | st.text(st.sampled_from("\x1b]PX^_[0;m\x07\\\x9c\x9b\x9dz\n\r"), max_size=60)
)
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    for colours in (False, True):
        clean = without_controls(text, colours=colours)
        clean.encode()
        assert without_controls(clean, colours=colours) == clean
        assert "\x1b" not in clean.replace("\x1b[", "") if colours else "\x1b" not in clean
