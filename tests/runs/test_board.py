"""The runs that ``%fork`` and ``%join`` return: a table, the best run, and how they show themselves."""

from __future__ import annotations

import copy
import io
import math
from pathlib import Path
from typing import Any

import pandas
import pytest
from conftest import poll

from colab_magics import fork, jobs, join, process
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, NotFound, Unavailable
from colab_magics.records.names import RECORD
from colab_magics.records.run import Run, runs_of
from colab_magics.runs import compare
from colab_magics.runs.board import Board
from colab_magics.runs.watching import summary

from .folders import leave_run
from .notebooks import write_notebook
from .test_jobs import without_pandas


@pytest.fixture
def runs(project: Project) -> Board:
    """Six runs: three with a loss, one NaN, one that reported nothing, one that failed with the least loss of all."""
    values: list[tuple[str, dict[str, Any] | None]] = [
        ("done", {"loss": 0.5, "accuracy": 0.7}),
        ("done", {"loss": 0.25, "accuracy": 0.6}),
        ("done", {"loss": math.nan}),
        ("done", None),
        ("failed", {"loss": 0.001}),
        ("done", {"loss": 0.75, "accuracy": 0.9, "note": "late"}),
    ]
    for index, (phase, last) in enumerate(values):
        reports = None if last is None else [{"loss": 9.0}, last]
        leave_run(project.data_job, index, phase, parameters={"lr": 0.1 * index, "size": "big"}, reports=reports)
    return join()


def test_the_runs_are_a_table_at_once(runs: Board) -> None:
    table = runs.table()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["run", "state", "seconds", "lr", "size", "loss", "accuracy", "note"]
    assert runs["loss"].min() == 0.001
    assert list(runs[["run", "lr"]].columns) == ["run", "lr"]
    assert runs[runs.state == "failed"]["run"].tolist() == ["baseline/4"]
    assert runs.sort_values("accuracy")["run"].tolist()[0] == "baseline/1"
    assert runs.groupby("size")["lr"].count().tolist() == [6]


def test_runs_can_be_counted_and_walked_through_as_runs(runs: Board) -> None:
    assert len(runs) == 6
    assert [run.id for run in runs] == [run.id for run in runs.runs]
    assert all(isinstance(run, Run) for run in runs)
    assert len(copy.copy(runs)) == 6


def test_a_name_that_neither_runs_nor_table_have(runs: Board) -> None:
    assert not hasattr(runs, "_repr_png_")
    with pytest.raises(AttributeError, match=r"runs have no 'los'.*columns: run, state, seconds, lr, size, loss"):
        _ = runs.los


def test_the_order_of_the_runs_is_that_in_which_they_were_found(project: Project, runs: Board) -> None:
    turned = Board(lambda: runs_of(project.data_job)[::-1])
    backwards = [f"baseline/{index}" for index in reversed(range(6))]
    assert [run.id for run in turned] == backwards
    assert turned["run"].tolist() == backwards
    assert [row[0] for row in turned.overview().rows] == ["baseline/4", *(id for id in backwards if id[-1] != "4")]
    assert [run.id for run in Board.of(turned.runs).runs] == backwards


def test_without_pandas_the_mend_is_said(runs: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pandas(monkeypatch)
    with pytest.raises(Unavailable, match="pip install pandas"):
        runs.table()
    with pytest.raises(AttributeError, match="pip install pandas"):
        runs.sort_values("loss")
    assert runs.best("loss").id == "baseline/1"
    assert "baseline/1" in str(runs)


def test_the_best_run_is_the_finished_one_with_the_least_value(runs: Board) -> None:
    best = runs.best("loss")
    assert best.id == "baseline/1"
    assert best.loss == best["loss"] == best.metrics["loss"] == 0.25
    assert best.lr == best["lr"] == best.parameters["lr"] == 0.1
    assert best.folder.name == "sub_job_001"
    assert isinstance(best.folder, Path)
    assert str(best).startswith("baseline/1  lr=0.1, size='big'  loss=0.25 accuracy=0.6  /")
    assert runs.best("accuracy", "max").id == "baseline/5"
    with pytest.raises(InvalidInput, match="did you mean size"):
        _ = best["siz"]
    with pytest.raises(AttributeError, match="no 'los'"):
        _ = best.los


def test_what_cannot_be_the_best_is_said_with_the_metrics_there_are(project: Project, runs: Board) -> None:
    with pytest.raises(InvalidInput, match=r"did you mean accuracy\? Known: accuracy, loss"):
        runs.best("acuracy")
    with pytest.raises(InvalidInput, match="Known: max, min"):
        runs.best("loss", "least")
    with pytest.raises(InvalidInput, match="'note' is no metric"):  # a text
        runs.best("note")
    only = Board.of([run for run in runs if run.index == 2])
    with pytest.raises(NotFound, match=r"loss is NaN in every finished run(?s:.*)Metrics: loss"):
        only.best("loss")
    with pytest.raises(NotFound, match="No run has finished"):
        Board.of([run for run in runs if run.index == 4]).best("loss")
    with pytest.raises(NotFound, match="report"):
        Board.of([run for run in runs if run.index == 3]).best("loss")


def test_a_name_stands_for_the_same_in_the_best_run_and_in_the_table(project: Project) -> None:
    leave_run(project.data_job, 0, parameters={"loss": "l1"}, reports=[{"loss": 0.5}])
    best = join().best("metric.loss")
    assert (best["loss"], best["metric.loss"], best.metrics) == ("l1", 0.5, {"loss": 0.5})


def test_as_a_cells_value_each_parameter_and_metric_has_a_column(runs: Board) -> None:
    shown = runs.overview()
    assert list(shown.columns) == [
        *("run", "state", "time", "lr", "size", "loss", "trend", "accuracy", "note", "last line")
    ]
    rows = {row[0]: row for row in shown.rows}
    assert rows["baseline/1"][3:8] == ["0.1", "big", "0.25", "█▁", "0.6"]
    assert rows["baseline/3"][5:9] == ["", "", "", ""]
    assert all(f">{name}<" in runs._repr_html_() for name in ("lr", "size", "loss", "accuracy"))


def test_many_parameters_share_one_column(project: Project) -> None:
    leave_run(project.data_job, 0, parameters={f"p{i}": i for i in range(30)}, reports=[{"loss": 1}])
    assert list(jobs().overview().columns) == ["run", "state", "time", "parameters", "loss", "last line"]
    assert "p29" in jobs().table().columns


def test_runs_of_several_forks_and_numbers_of_their_own_have_columns(project: Project) -> None:
    leave_run(project.data_job, 0, fork=1, i_sub_job=0, parameters={"fork": "x"})
    leave_run(project.data_job, 1, fork=2, i_sub_job=0)
    both = jobs().overview()
    assert both.columns[3:5] == ["fork", "i_sub_job"]
    assert [row[3:5] for row in both.rows] == [["1", "0"], ["2", "0"]]
    frame = jobs.table()
    assert list(frame.columns) == ["run", "state", "seconds", "fork", "i_sub_job", "parameter.fork"]
    assert frame["fork"].tolist() == [1, 2]
    assert "fork       2, i_sub_job 0" in str(jobs.show("1"))
    assert list(jobs("0").overview().columns) == ["run", "state", "time", "fork", "last line"]  # the parameter
    assert compare.places(jobs("0").runs) == [{}]
    assert compare.places([]) == []


def test_a_table_of_runs_that_move_says_when_it_was_true(project: Project) -> None:
    leave_run(project.data_job, 0)
    assert jobs().overview().caption == "1 done"
    leave_run(project.data_job, 1, "running", alive=True, reports=[{"loss": 1}])
    for table in (jobs().overview(), jobs.metrics()):
        said, comma, when = table.caption.partition(", as of ")
        assert said == "1 done, 1 running"
        assert comma
        hours, minutes = when.split(":")
        assert int(hours) < 24
        assert int(minutes) < 60


def test_times_of_kept_runs_are_not_shown_as_taken_now(project: Project, said: io.StringIO) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", "x = 1"))
    fork(n=1, notebook=notebook)
    run = runs_of(project.data_job)[0]
    state = process.read_json(run.folder / "state.json") or {}
    yesterday = {"started": state["started"] - 90_000, "ended": state["started"] - 80_000}
    process.write_json(run.folder / "state.json", state | yesterday)
    board = fork(n=2, notebook=notebook)
    assert isinstance(board, Board)
    times = [row[2] for row in board.overview().rows]
    assert times[0] == "kept (2 h 46 min)"
    assert "h" not in times[1]
    assert jobs().overview().rows[0][2] == "2 h 46 min"  # how long it took, whenever that was


def test_the_summary_of_a_fork_counts_what_it_executed(project: Project) -> None:
    leave_run(project.data_job, 0, took=10_000.0)
    leave_run(project.data_job, 1, started=50_000.0, took=3.0)
    kept = [run.folder for run in runs_of(project.data_job)[:1]]
    board = Board(lambda: runs_of(project.data_job), kept=kept)
    assert summary(board) == "2 done, 1 of them kept, in 3.0 s."
    board.kept = [run.folder for run in board]
    assert summary(board) == "2 done, 2 of them kept."
    board.kept = ()
    assert summary(board).startswith("2 done in 13 h")


def test_one_run_at_a_time_is_said_with_the_way_to_have_more(
    project: Project, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    notebook = str(write_notebook(project.root / "a.ipynb", "x = 1"))
    fork(n=2, notebook=notebook)
    assert said.getvalue().count("One run at a time on 2 cores; workers=2 executes two at once.") == 1
    said.truncate(0)
    fork(n=3, notebook=notebook)  # one to go
    assert "One run at a time" not in said.getvalue()
    fork(n=5, notebook=notebook, workers="1")
    assert "One run at a time" not in said.getvalue()
    assert poll(lambda: len(jobs()) == 5)
    assert (project.data_job / "sub_job_004" / RECORD).exists()
