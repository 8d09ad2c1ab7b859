"""Which runs are kept, executed, left out, moved aside: the rules of resuming."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from colab_magics import process
from colab_magics.errors import ColabMagicsError, InvalidInput
from colab_magics.payloads import forks
from colab_magics.payloads.notebook_draft import NotebookDraft, Whose
from colab_magics.records.names import NOTEBOOK, STATE, folder_name
from colab_magics.records.run import Run, runs_of
from colab_magics.runs import attempts, plan
from colab_magics.runs.plan import Point
from colab_magics.ui import Notebook

CODE = {"1": "aa", "2": "bb"}
CELL = Notebook({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, "a.ipynb", current=True)
DRAFT = NotebookDraft(CELL, forks.NOWHERE, Path(), Path())
make = functools.partial(plan.make, whose=Whose())


def make_run(
    job: Path,
    index: int,
    phase: str | None,
    *,
    code: dict[str, str] = CODE,
    attempt: int = 1,
    started: float | None = None,
) -> Path:
    """Leave a run's folder as an earlier call would have."""
    folder = job / folder_name(index)
    folder.mkdir(parents=True)
    process.write_json(folder / "run.json", {"index": index, "repeat": index, "attempt": attempt, "code": code})
    if phase:
        dead = {"pid": 1, "started": 0, "boot": "another", "host": process.host()}
        process.write_json(
            folder / STATE, {"attempt": attempt, "phase": phase, "beat": 1.0, "started": started, "process": dead}
        )
        (folder / NOTEBOOK).write_text("{}")
    return folder


def points(n: int) -> list[Point]:
    return [Point(i) for i in range(n)]


def test_finished_runs_are_kept_and_the_others_go_on(tmp_path: Path) -> None:  # B14, ✗ result overwritten
    for index, phase in enumerate(["done", "failed", "killed", "running", None]):
        make_run(tmp_path, index, phase)
    made = make(points(6), tmp_path, CODE)
    assert [run.index for run in made.keep] == [0]
    assert [index for index, _ in made.execute] == [1, 2, 3, 4, 5]
    assert str(made) == "1 kept, 5 to go"


def test_the_next_morning(tmp_path: Path) -> None:
    for index in range(3):
        make_run(tmp_path, index, "done" if index < 2 else "running", started=1.0)
    (tmp_path / "sub_job_002" / "checkpoint.pt").touch()
    metrics = tmp_path / "sub_job_002" / "metrics.jsonl"
    metrics.write_text('{"time": 1.0, "attempt": 1, "step": 9, "values": {"loss": 0.5, "epoch": 37}}\n')
    assert str(make(points(9), tmp_path, CODE)) == "2 kept, 1 resumed at epoch 37, 6 to go"


def test_first_only_and_done_file_leave_runs_out(tmp_path: Path) -> None:  # B10, B14
    (tmp_path / "sub_job_002").mkdir()
    (tmp_path / "sub_job_002" / "model.pt").touch()
    made = make(points(5), tmp_path, CODE, first=1, done_file="model.pt")
    assert [index for index, _ in made.execute] == [1, 3, 4]
    assert made.skip == [(0, "below first=1"), (2, "model.pt is there")]
    assert [index for index, _ in make(points(5), tmp_path, CODE, only=[3]).execute] == [3]
    with pytest.raises(InvalidInput, match="only=7"):
        make(points(5), tmp_path, CODE, only=[7])


def test_other_code_stops_the_call_until_the_user_says(tmp_path: Path) -> None:
    make_run(tmp_path, 0, "done")
    make_run(tmp_path, 1, "done")
    new = {"1": "aa", "2": "cc"}
    with pytest.raises(InvalidInput, match=r"2 runs finished with other code \(cell 2\)(?s:.*)resume=rerun"):
        make(points(2), tmp_path, new)
    assert len(make(points(2), tmp_path, new, resume="keep").keep) == 2
    made = make(points(2), tmp_path, new, resume="rerun")
    (tmp_path / "sub_job_000" / "result.txt").write_text("old")
    attempts.write(made, tmp_path, DRAFT, {"code": new})
    assert (tmp_path / attempts.SUPERSEDED / "sub_job_000.1" / "result.txt").read_text() == "old"
    assert not (tmp_path / "sub_job_000" / "result.txt").exists()


def test_a_retry_keeps_the_folder_and_the_notebook_of_the_attempt_before(tmp_path: Path) -> None:
    folder = make_run(tmp_path, 0, "failed")
    (folder / "checkpoint.pt").write_text("epoch 7")
    made = make(points(1), tmp_path, CODE)
    attempts.write(made, tmp_path, DRAFT, {"code": CODE})
    run = Run.load(folder)
    assert run.attempt == 2
    assert run.status().phase == "waiting"  # the state of attempt 1 is not this attempt's
    assert (folder / "checkpoint.pt").read_text() == "epoch 7"
    assert (folder / "attempt_1.ipynb").exists()
    assert not (folder / NOTEBOOK).exists()


def test_only_attempts_that_began_count(tmp_path: Path) -> None:
    for _ in range(3):
        made = make(points(1), tmp_path, CODE)
        attempts.write(made, tmp_path, DRAFT, {"code": CODE})
    assert Run.load(tmp_path / "sub_job_000").attempt == 1


def test_grid_points_take_free_numbers_and_are_found_by_their_values(tmp_path: Path) -> None:
    attempts.write(
        make([Point(0, {"lr": 0.1})], tmp_path, CODE),
        tmp_path,
        DRAFT,
        {"code": CODE},
    )
    more = [Point(0, {"lr": 1}), Point(0, {"lr": 0.1}), Point(0, {"lr": True}), Point(0, {"lr": 1.0})]
    assert [index for index, _ in make(more, tmp_path, CODE).execute] == [1, 0, 2, 3]


def test_a_folder_that_cannot_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "sub_job_000").write_text("a file where the folder should be")
    with pytest.raises(ColabMagicsError, match="cannot be written"):
        attempts.write(make(points(1), tmp_path, CODE), tmp_path, DRAFT, {})


def test_a_folder_without_a_record_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "sub_job_000").mkdir()
    (tmp_path / "sub_job_0001").mkdir()
    (tmp_path / "sub_job_x").mkdir()
    assert runs_of(tmp_path) == []
