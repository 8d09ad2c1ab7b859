"""Files of runs that somebody else wrote: a field that is wrong makes that run unreadable, and nothing else."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs.folders import leave_run
from runs.notebooks import write_notebook

from colab_magics import fork, jobs, process
from colab_magics.checkout.project import Project
from colab_magics.errors import ColabMagicsError, InvalidInput, RunsFailed
from colab_magics.records import schema
from colab_magics.records.run import Run, runs_of
from colab_magics.runs import joined, retry, scheduler
from colab_magics.units import without_controls

from .looking import shown

DEEP = "[" * 3000 + "]" * 3000


def changed(file: str, **fields: Any) -> Callable[[Path], None]:
    """Set fields of a file; a text that begins with ``!`` is put there as JSON that Python would not write."""

    def change(folder: Path) -> None:
        value = json.loads((folder / file).read_text()) | fields
        text = json.dumps(value)
        for word in fields.values():
            if isinstance(word, str) and word.startswith("!"):
                text = text.replace(json.dumps(word), word[1:])
        (folder / file).write_text(text)

    change.__name__ = f"{file} {' '.join(fields)}={str([*fields.values()])[:20]}"
    return change


def holding(file: str, raw: bytes) -> Callable[[Path], None]:
    """Let a file hold these bytes."""

    def change(folder: Path) -> None:
        (folder / file).write_bytes(raw)

    change.__name__ = f"{file} {raw[:12]!r}"
    return change


def pipe(folder: Path) -> None:
    """Put a pipe there, which nobody writes to."""
    (folder / "run.json").unlink()
    os.mkfifo(folder / "run.json")


def state_is_a_pipe(folder: Path) -> None:
    """Put a pipe there, which nobody writes to."""
    (folder / "state.json").unlink()
    os.mkfifo(folder / "state.json")


def link_to_another(folder: Path) -> None:
    """Let the record be another's."""
    (folder / "run.json").unlink()
    (folder / "run.json").symlink_to(folder.parent / "sub_job_000" / "run.json")


def a_folder(folder: Path) -> None:
    """Put a folder where the record should be."""
    (folder / "run.json").unlink()
    (folder / "run.json").mkdir()


CRAFTED = [
    holding("run.json", b""),
    holding("run.json", b"{}"),
    holding("run.json", b"[]"),
    holding("run.json", b"\xff\xfe{}"),
    holding("run.json", DEEP.encode()),
    holding("run.json", b'{"index": ' + b"9" * 5000 + b"}"),
    pipe,
    state_is_a_pipe,
    link_to_another,
    a_folder,
    changed("run.json", index="1"),
    changed("run.json", index=-1),
    changed("run.json", index=0),
    changed("run.json", index=[1]),
    changed("run.json", index=f"!{'9' * 4000}"),
    changed("run.json", parameters=[1, 2]),
    changed("run.json", parameters="lr=0.1"),
    changed("run.json", parameters=f'!{{"a": {"[" * 300 + "]" * 300}}}'),
    changed("run.json", attempt="first"),
    changed("run.json", attempt=None),
    changed("run.json", attempts={"1": "failed"}),
    changed("run.json", attempts=["failed"]),
    changed("run.json", attempts=[{"phase": 3, "ended": "yesterday"}]),
    changed("run.json", payload="notebook"),
    changed("run.json", payload=None),
    changed("run.json", payload={"kind": "command", "words": "rm -rf"}),
    changed("run.json", payload={"kind": ["command"]}),
    changed("run.json", gpus="two"),
    changed("run.json", fork={}),
    changed("run.json", i_sub_job="x"),
    changed("run.json", code=["a"]),
    changed("run.json", submitted="!NaN"),
    changed("run.json", submitted="!1e400"),
    holding("state.json", b""),
    holding("state.json", b"null"),
    changed("state.json", phase=7),
    changed("state.json", phase="well"),
    changed("state.json", attempt="1"),
    changed("state.json", started="now"),
    changed("state.json", started="!NaN"),
    changed("state.json", ended="!1e300"),
    changed("state.json", beat=[]),
    changed("state.json", beat="!-1e300"),
    changed("state.json", cell="nine"),
    changed("state.json", error="bad"),
    changed("state.json", error={"cell": [], "evalue": 3}),
    changed("state.json", process=1),
    changed("state.json", process={"pid": "1", "boot": process.boot_id()}),
    changed("state.json", usage=[1]),
    changed("state.json", usage={"memory": "much"}),
    changed("state.json", gpus=3),
]


@pytest.mark.parametrize("change", CRAFTED, ids=lambda change: change.__name__)
def test_a_wrong_field_makes_that_run_unreadable_and_nothing_else(
    project: Project, change: Callable[[Path], None]
) -> None:
    for index in range(3):
        leave_run(project.data_job, index, "failed", reports=[{"loss": 1.0, "step": 1}])
    change(project.data_job / "sub_job_001")
    first = next(iter(shown()))
    assert [run.status().phase for run in runs_of(project.data_job)] == ["failed", "unreadable", "failed"]
    assert "baseline/1  unreadable: " in first
    assert "baseline/2  failed in cell 1: ValueError" in first
    assert list(shown())
    with pytest.raises(InvalidInput, match=r"baseline/1 cannot be|is done"):
        _retry_if_its_record_is_wrong("1")
    assert "Nothing to kill" in str(jobs.kill("1"))
    assert "baseline/1" in str(jobs.rm("unreadable", yes=True))
    assert not (project.data_job / "sub_job_001").exists()


def _retry_if_its_record_is_wrong(word: str) -> None:
    run = jobs(word).runs[0]
    if not run.problem:
        raise InvalidInput("baseline/1 is done")  # its record tells what to execute, and retry would
    retry.start([run], {}, [])


@pytest.mark.parametrize(
    "payload", [{"kind": "command"}, {"kind": "command", "words": []}, {"kind": "\x1b]0;evil\x07"}, {"kind": ""}]
)
def test_a_payload_that_says_nothing_ends_no_list(project: Project, payload: dict[str, Any]) -> None:
    leave_run(project.data_job, 0, "failed")
    leave_run(project.data_job, 1, "failed", payload=payload)
    texts = list(shown())
    assert all(texts)
    assert not [text for text in texts if "\x1b]" in text]
    with pytest.raises(ColabMagicsError, match=r"no command|no payload"):
        jobs.retry("1")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"time": 1, "attempt": 1, "step": "two", "values": {"loss": 1}}',
        b'{"time": 1, "attempt": 1, "step": [2], "values": {"loss": 1, "total": 3}}',
        b'{"time": 1, "attempt": 1, "step": 1' + b"0" * 400 + b', "values": {"loss": 1}}',
        b'{"time": 1, "attempt": 1, "step": 2, "values": {"total": 1e999}}',
        b'{"time": 1, "attempt": 1, "values": {"loss": [1, 2]}}',
        b'{"time": 1, "attempt": 1, "values": [["loss", 1]]}',
        b'{"time": "x", "attempt": 1, "values": {"loss": 1}}',
        b'{"time": 1e999, "attempt": {}, "values": {"loss": 1}}',
        b'{"time": 1, "attempt": 1, "values": {"\\ud800": "\\udfff"}}',
        b'{"time": 1, "attempt": 1, "values": {"loss": 1' + b"0" * 4000 + b"}}",
        DEEP.encode(),
        b"\xff\xfe",
        b"\x00",
    ],
)
def test_a_line_of_metrics_that_is_none_is_left_out(project: Project, raw: bytes) -> None:
    for index in range(2):
        leave_run(project.data_job, index, "running", alive=True, reports=[{"loss": 0.25, "step": 1}])
    with open(project.data_job / "sub_job_001" / "metrics.jsonl", "ab") as stream:
        stream.write(raw + b"\n")
    assert all(list(shown()))
    assert "0.25" in str(jobs())


def test_what_others_have_named_says_nothing_to_a_terminal(project: Project) -> None:
    # ✗ the names of metrics in an error; a device without a name: IndexError
    leave_run(project.data_job, 0, "done")
    changed("state.json", gpus=["GPU-1"])(project.data_job / "sub_job_000")
    line = {"time": 1, "attempt": 1, "values": {"\x1f": 0.5, "\x1b]0;theirs\x07": 1}}
    (project.data_job / "sub_job_000" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (project.data_job / ".scheduler").mkdir()
    (project.data_job / ".scheduler" / "gpus.json").write_text('{"devices": {"GPU-1": ""}}')
    for text in shown():
        assert without_controls(text, colours=True) == text
    with pytest.raises(InvalidInput, match="Which metric") as caught:
        jobs.plot()
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"runs": 3}', b'{"feed": {"workers": "many"}}', DEEP.encode()])
@pytest.mark.parametrize("name", ["plan.json", "state.json", "forks.json", "gpus.json", "workers.json"])
def test_what_a_scheduler_left_is_not_believed(project: Project, name: str, raw: bytes) -> None:
    leave_run(project.data_job, 0)
    (project.data_job / ".scheduler").mkdir()
    (project.data_job / ".scheduler" / name).write_bytes(raw)
    assert list(shown())
    assert scheduler.fed(project.data_job) == set()
    assert retry._feed_before(project.data_job) == scheduler.Feed()
    assert len(joined.recall(project.data_job)) == 1


@pytest.mark.parametrize("how", ["deleted", "empty", "another's"])
def test_an_old_state_without_its_record_is_no_finished_run(project: Project, how: str, said: io.StringIO) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", "open(data_job + '/ran', 'a').write('x')"))
    fork(n=2, notebook=notebook)
    folder = project.data_job / "sub_job_001"
    if how == "deleted":
        (folder / "run.json").unlink()
    elif how == "empty":
        (folder / "run.json").write_text("")
    else:
        changed("run.json", submitted=12345.0)(folder)
    assert [run.status().phase for run in runs_of(project.data_job)] != ["done", "done"]
    fork(n=2, notebook=notebook)
    assert [run.status().phase for run in runs_of(project.data_job)] == ["done", "done"]
    assert (folder / "ran").read_text() == "xx", "it was executed again"
    assert (project.data_job / "sub_job_000" / "ran").read_text() == "x"


def test_a_link_in_place_of_a_run_or_a_job_is_neither_written_nor_removed(project: Project, tmp_path: Path) -> None:
    leave_run(project.data_job, 0, "failed")
    elsewhere = leave_run(tmp_path / "elsewhere" / "job", 1, None)
    (project.data_job / "sub_job_001").symlink_to(elsewhere.folder)
    (project.data_job.parent / "linked").symlink_to(elsewhere.folder.parent)
    before = sorted((path.name, path.read_bytes()) for path in elsewhere.folder.iterdir())
    assert "unreadable" in str(jobs("1"))
    jobs.kill("1")
    assert "link" in str(jobs.rm("1", yes=True))
    with pytest.raises(ColabMagicsError, match="link"):
        jobs.retry("1")
    for verb in (jobs, jobs.kill, jobs.rm, jobs.retry):
        for word in ("linked", "linked/1"):
            with pytest.raises(ColabMagicsError, match="is a link to"):
                verb(word)
    notebook = str(write_notebook(project.root / "a.ipynb", "x = 1"))
    fork(n=2, notebook=notebook)
    assert sorted((path.name, path.read_bytes()) for path in elsewhere.folder.iterdir()) == before


def test_our_own_files_are_not_written_through_links(project: Project, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = leave_run(project.data_job, 0, "failed", cells=("import colab_magics; colab_magics.report(x=1)",)).folder
    for name in ("log.txt", "metrics.jsonl", ".notebook.ipynb.journal.1.1.tmp", "notebook.ipynb", "state.json"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(victim)
    jobs.retry("0")
    assert [run.status().phase for run in runs_of(project.data_job)] == ["done"]
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("name", [".scheduler", ".superseded"])
def test_our_own_folders_are_no_links(project: Project, tmp_path: Path, name: str) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", "x = 1"))
    fork(n=1, notebook=notebook)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(project.data_job / name, ignore_errors=True)
    (project.data_job / name).symlink_to(elsewhere)
    with pytest.raises(InvalidInput, match="is a link"):
        fork(n=1, notebook=notebook, resume="rerun")
    assert not list(elsewhere.iterdir())
    assert [run.status().phase for run in runs_of(project.data_job)] == ["done"]


def test_what_a_cell_writes_over_its_own_files_ends_no_sweep(project: Project) -> None:
    cell = """
import os
for name in ("state.json", "verdict.json", "metrics.jsonl"):
    open(os.path.join(data_job, name), "w").write('{"attempt": 1, "phase": 5, "verdict": [], "process": "no"}')
if i_sub_job == 0:
    os._exit(1)
"""
    with pytest.raises(RunsFailed):
        fork(n=3, workers=1, notebook=str(write_notebook(project.root / "a.ipynb", cell)))
    phases = [run.status().phase for run in runs_of(project.data_job)]
    assert phases[0] != "done"
    assert len(phases) == 3
    assert "waiting" not in phases


def test_escapes_of_a_log_do_nothing_to_a_terminal(project: Project) -> None:
    run = leave_run(project.data_job, 0, "failed")
    evil = "\x1b]52;c;ZXZpbA==\x07\x1b]0;title\x1b\\\x1bPq\x1b\\\x9d0;x\x9c\x1b[2J\x1bc\x00\x07"
    run.log.write_text(f"{evil}\x1b[31mred\x1b[0m\n{evil}last\n", encoding="utf-8")
    changed("state.json", error={"cell": 1, "ename": f"E{evil}", "evalue": f"bad{evil}", "traceback": evil + "trace"})(
        run.folder
    )
    for text in [str(jobs.logs("0")), str(jobs.logs("0", lines=5)), *shown()]:
        assert without_controls(text, colours=True) == text
    assert str(jobs.logs("0")).endswith("\x1b[31mred\x1b[0m\nlast")
    assert "last" in str(jobs())


def test_the_schemas_know_what_is_written(project: Project) -> None:
    with pytest.raises(RunsFailed):
        fork(n=2, notebook=str(write_notebook(project.root / "a.ipynb", "if i_sub_job: 1 / 0")))
    for run in runs_of(project.data_job):
        for name, kind in (("run.json", schema.Record), ("state.json", schema.State)):
            known = set(kind.__annotations__) | {"format", "handed_over", "not_handed_over"}
            assert set(json.loads((run.folder / name).read_text())) <= known
    plan = schema.read(project.data_job / ".scheduler" / "plan.json", schema.Plan)
    assert plan is not None
    assert set(plan) <= set(schema.Plan.__annotations__)
    assert Run.look(project.data_job / "sub_job_000").problem == ""
