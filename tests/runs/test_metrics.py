"""``colab_magics.report``: what a run may report, what is kept, how it is read again."""

from __future__ import annotations

import decimal
import io
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest

import colab_magics
from colab_magics import process, session
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput
from colab_magics.records import metrics
from colab_magics.records.metrics import Line
from colab_magics.records.names import METRICS, RECORD
from colab_magics.session import RUN_VARIABLE, Session
from colab_magics.ui import TerminalUI

from .notebooks import outputs, write_notebook


class Scalar:
    """A scalar as torch has it: only ``item()`` gives the number; its repr has many lines."""

    def __init__(self, value: object, shape: tuple[int, ...] = ()) -> None:
        self.value, self.shape = value, shape

    def item(self) -> object:
        if self.shape:
            raise RuntimeError("a Tensor with 3 elements cannot be converted to Scalar")
        return self.value

    def __repr__(self) -> str:
        return "tensor(\n" * 100


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder; this process is its second attempt."""
    run = tmp_path / "sub_job_003"
    run.mkdir()
    process.write_json(run / RECORD, {"index": 3, "attempt": 2})
    monkeypatch.setenv(RUN_VARIABLE, str(run))
    return run


def test_values_of_all_kinds_survive(folder: Path) -> None:
    values = {
        "loss": numpy.float32(0.5),
        "acc": numpy.float64(0.25),
        "count": numpy.int64(7),
        "array": numpy.array(1.5),
        "flag": numpy.bool_(True),
        "tensor": Scalar(2.5),
        "exact": decimal.Decimal("0.1"),
        "big": 10**400,
        "nan": math.nan,
        "inf": -math.inf,
        "yes": True,
        "none": None,
        "text": "ünï\n\udc80",
        "val/loss": 1,
    }
    colab_magics.report(step=numpy.int32(10), **values)
    assert len((folder / METRICS).read_bytes().splitlines()) == 1
    (line,) = metrics.read(folder)
    assert (line.attempt, line.step) == (2, 10)
    assert abs(line.time - time.time()) < 60
    assert math.isnan(line.values["nan"])
    plain = {name: value for name, value in line.values.items() if name != "nan"}
    assert plain == {
        "loss": 0.5,
        "acc": 0.25,
        "count": 7,
        "array": 1.5,
        "flag": True,
        "tensor": 2.5,
        "exact": 0.1,
        "big": 10**400,
        "inf": -math.inf,
        "yes": True,
        "none": None,
        "text": "ünï\n\udc80",
        "val/loss": 1,
    }
    assert plain["flag"] is True


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (numpy.zeros(3), r"ndarray of shape \(3,\) is no single number"),
        (Scalar(0, shape=(3,)), r"Scalar of shape \(3,\)"),
        (numpy.complex128(1j), "complex"),
        ([0.1], "list is no single number"),
        ({"a": 1}, "dict"),
        ("x" * 1001, "1,001 characters"),
        (print, "builtin_function"),
        pytest.param(10**5000, "int is no single number", id="digits"),
    ],
)
def test_a_value_that_is_no_metric_is_refused_and_nothing_kept(folder: Path, value: object, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        colab_magics.report(loss=value)
    assert "loss" in str(caught.value)
    assert len(str(caught.value)) < 300
    assert not (folder / METRICS).exists()


def test_names_that_are_none_of_pythons_come_in_a_mapping(folder: Path) -> None:
    colab_magics.report({"val/loss": 0.25, "acc": 0.5}, step=3)
    assert metrics.last(metrics.read(folder)) == {"val/loss": 0.25, "acc": 0.5, "step": 3}
    with pytest.raises(InvalidInput, match=r"report\(0\.3\): which metric"):
        colab_magics.report(0.3)
    assert len(metrics.read(folder)) == 1


@pytest.mark.parametrize("step", ["a", True, math.nan, math.inf, 10**400])
def test_a_step_is_a_number(folder: Path, step: object) -> None:
    with pytest.raises(InvalidInput, match="step"):
        colab_magics.report(loss=1, step=step)
    with pytest.raises(InvalidInput, match="nothing to report"):
        colab_magics.report()


def test_outside_of_runs_it_says_so_once(tmp_path: Path) -> None:
    said = io.StringIO()
    session.activate(Session(ui=TerminalUI(out=said)))
    for _ in range(3):
        colab_magics.report(loss=1)
    assert said.getvalue().splitlines() == ["Not in a run: what report() gets here is not kept."]
    with pytest.raises(InvalidInput):  # what would fail in a run fails here too
        colab_magics.report(loss=[1])


def test_a_folder_that_cannot_be_written_ends_no_training(folder: Path) -> None:
    said = io.StringIO()
    session.activate(Session(ui=TerminalUI(out=said)))
    (folder / METRICS).mkdir()
    for _ in range(3):
        colab_magics.report(loss=1)
    assert said.getvalue().count("report() cannot write") == 1


def test_a_program_that_a_run_started_reports_too(folder: Path) -> None:
    (folder / METRICS).write_text('{"time":1,"attempt":1,"values":{"loss":9}}\n{"time":2,"atte')  # cut off
    script = "import sys, colab_magics; colab_magics.report(loss=0.5); assert 'IPython' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [(line.attempt, line.values) for line in metrics.read(folder)] == [(1, {"loss": 9}), (2, {"loss": 0.5})]


def test_reports_of_several_processes_do_not_mix(folder: Path) -> None:
    script = "import colab_magics\nfor i in range(300): colab_magics.report(step=i, who={}, text='x' * 900)"
    writers = [subprocess.Popen([sys.executable, "-c", script.format(who)]) for who in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    lines = metrics.read(folder)
    # A process that begins while another is in the middle of a line ends that line: an empty one is none.
    assert len((folder / METRICS).read_bytes().split()) == len(lines) == 900
    for who in range(3):
        assert [line.step for line in lines if line.values["who"] == who] == list(range(300))


def test_it_is_cheap(folder: Path) -> None:
    colab_magics.report(loss=0.5)
    best = math.inf
    for _ in range(20):
        began = time.perf_counter()
        for step in range(50):
            colab_magics.report(loss=0.5, step=step)
        best = min(best, (time.perf_counter() - began) / 50)
    assert best < 200e-6  # some 30 µs on a machine that does nothing else


def test_lines_that_are_none_are_skipped(folder: Path) -> None:
    good = json.dumps({"time": 1, "attempt": 1, "values": {"a": 1}})
    bad = ["", "[]", "5", "null", '{"time": 1}', '{"time": 1, "attempt": 1, "values": 3}', "\udcff", "{"]
    (folder / METRICS).write_bytes("\n".join([*bad, good, *bad]).encode("utf-8", "surrogateescape"))
    assert [line.values for line in metrics.read(folder)] == [{"a": 1}]
    assert metrics.read(folder / "gone") == metrics.recent(folder / "gone") == []


def test_recent_reads_the_end_alone_and_sees_what_is_new(folder: Path) -> None:
    with open(folder / METRICS, "w") as stream:
        for i in range(20_000):
            stream.write(json.dumps({"time": i, "attempt": 1, "step": i, "values": {"loss": i}}) + "\n")
    lines = metrics.recent(folder)
    assert lines[-1].step == 19_999
    assert len(lines) < 2000
    colab_magics.report(loss=5, note="end")
    assert metrics.show(metrics.last(metrics.recent(folder))) == "loss=5 note=end step=19999"


def line(attempt: int, step: float | None, **values: object) -> Line:
    return Line(0.0, attempt, step, values)


def test_a_series_leaves_out_what_a_cluster_has_started_again() -> None:
    first = [line(1, step, loss=10 - step)._replace(life=5.0) for step in range(5)]
    resumed = [line(1, step, loss=100 + step)._replace(life=9.0) for step in (3, 4)]
    anew = [line(1, 0, loss=7)._replace(life=12.0)]
    assert metrics.series(first + resumed, "loss") == [(0, 10), (1, 9), (2, 8), (3, 103), (4, 104)]
    assert metrics.series(first + resumed + anew, "loss") == [(0, 7)]


def test_a_series_has_steps_or_counts_and_leaves_out_what_was_computed_again() -> None:
    first = [line(1, step, loss=10 - step) for step in range(5)]
    again = [line(2, step, loss=100 + step) for step in (3, 4, 5)]
    assert [x for x, _ in metrics.series(first + again, "loss")] == [0, 1, 2, 3, 4, 5]
    assert metrics.series(first + again, "loss")[-1] == (5, 105)
    assert metrics.series([line(1, None, a=3), line(1, None, b=1), line(1, None, a=True)], "a") == [(0, 3), (1, 1)]
    assert metrics.series([line(1, None, a="text"), line(1, None, a=None), line(1, None, a=10**400)], "a") == [
        (0, math.inf)
    ]


def test_sparkline() -> None:
    assert metrics.sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert metrics.sparkline([1, math.nan, 2]) == "▁ █"
    assert metrics.sparkline([5, 5]) == "▄▄"
    assert metrics.sparkline([math.nan, math.inf]) == "  "
    assert metrics.sparkline([]) == ""
    assert metrics.sparkline([-1e308, 1e308]) == "▁█"
    assert metrics.sparkline([1e308] * 100) == "▄" * 20
    falling = metrics.sparkline(list(range(1000, 0, -1)), width=8)
    assert falling == "█▇▆▅▄▃▂▁"


def test_hostile_names_and_texts_stay_on_one_line() -> None:
    shown = metrics.show({"a\nb": "x\x1b[31m\r\n\x00y", "long": "z" * 500, "loss": 0.123456})
    assert shown.isprintable()
    assert "loss=0.1235" in shown
    assert len(shown) < 120


def test_unknown_metrics_are_answered_with_the_nearest() -> None:
    lines = [line(1, 1, loss=1, val_loss=2, note="text")]
    with pytest.raises(InvalidInput, match=r"did you mean val_loss\? Known: loss, val_loss"):
        metrics.known_metric("val_los", lines)
    with pytest.raises(InvalidInput, match="reported as text"):
        metrics.known_metric("note", lines)
    with pytest.raises(LookupError, match=r"colab_magics\.report"):
        metrics.known_metric("loss", [])


def test_a_real_run_reports_and_a_tried_cell_does_not(project: Project, said: io.StringIO) -> None:
    cell = """
import subprocess, sys
from colab_magics import report
for epoch in range(3):
    report(loss=1 / (1 + epoch + i_sub_job), step=epoch)
subprocess.run([sys.executable, "-c", "import colab_magics; colab_magics.report(final=True)"], check=True)
"""
    notebook = write_notebook(project.root / "a.ipynb", cell)
    board = colab_magics.fork(n=2, workers=2, notebook=str(notebook))
    assert board is not None
    assert "not kept" not in outputs(board.runs[0].notebook)  # type: ignore[union-attr]
    assert [metrics.last(metrics.read(run.folder)) for run in board.runs] == [  # type: ignore[union-attr]
        {"loss": 1 / 3, "final": True, "step": 2},
        {"loss": 1 / 4, "final": True, "step": 2},
    ]
    table = colab_magics.jobs().overview()
    assert table.columns[3:7] == ["step", "loss", "trend", "final"]
    assert table.rows[0][3:7] == ["2", "0.3333", "█▃▁", "True"]
