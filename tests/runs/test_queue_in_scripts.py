"""``for run in colab_magics.queue(URL)``: leaving the loop decides about the run, edits reach it."""

from __future__ import annotations

import math
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import poll

import colab_magics
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, NotFound
from colab_magics.queues import open_queue
from colab_magics.queues.base import New, Row
from colab_magics.queues.sqlite import SqliteQueue
from colab_magics.queues.values import changed
from colab_magics.runs.of_queue import run_table

LOOP = """
import colab_magics, sys, threading, time
def main():
    for run in colab_magics.queue('runs.db'):
        print(f'Starting run {run.name} with config={dict(run.config)}', flush=True)
        if run.config.lr == 0.2:
            BODY
MAIN
"""


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a queue of three runs in the current folder."""
    monkeypatch.chdir(tmp_path)
    colab_magics.queue.add("runs.db", [{"lr": lr, "n_epoch": 10} for lr in (0.1, 0.2, 0.3)])
    return str(tmp_path / "runs.db")


def rows(url: str) -> list[Row]:
    return open_queue(url).rows()


def script(body: str, main: str = "main()") -> subprocess.CompletedProcess[str]:
    text = LOOP.replace("BODY", body).replace("MAIN", main)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)


def test_the_main_example(url: str) -> None:  # S main example, S3, S4
    done = script("pass")
    assert done.stdout.splitlines() == [
        f"Starting run run_00{n} with config={{'lr': 0.{n}, 'n_epoch': 10}}" for n in (1, 2, 3)
    ]
    assert "No more ready runs" in done.stderr
    assert [row.status for row in rows(url)] == ["done"] * 3
    assert {len(row.worker) for row in rows(url)} == {6}


@pytest.mark.parametrize(
    ("body", "main", "status", "error"),
    [
        ("raise ValueError('too big')", "main()", "failed", "ValueError: too big (<string>, line 7)"),
        ("int('x')", "main()", "failed", "ValueError: invalid literal"),
        ("sys.exit(3)", "main()", "failed", "sys.exit()"),
        ("int('x')", "try: main()\nexcept ValueError: time.sleep(3)", "failed", "an exception has left the loop"),
        ("int('x')", "t = threading.Thread(target=main); t.start(); t.join()", "failed", "invalid literal"),
        ("break", "main()", "ready", ""),
        ("return", "main()", "ready", ""),
        ("raise KeyboardInterrupt", "main()", "ready", ""),
        ("run.give_back(); break", "main()", "ready", ""),
        ("run.done('good enough'); break", "main()", "good enough", ""),
        ("run.fail('no luck'); break", "main()", "failed", "no luck"),
    ],
)
def test_leaving_the_loop_decides_about_the_run(url: str, body: str, main: str, status: str, error: str) -> None:  # S8
    script(body, main)
    found = rows(url)
    assert [row.status for row in found] == ["done", status, "ready"]
    assert error in found[1].error
    assert bool(found[1].error) == bool(error)


def test_with_run_marks_it_failed_and_the_loop_goes_on(url: str) -> None:
    done = script("\n            with run: 1 / 0".strip())
    assert [row.status for row in rows(url)] == ["done", "failed", "done"]
    assert "ZeroDivisionError: division by zero" in rows(url)[1].error
    assert "1 / 0" in done.stderr or "ZeroDivisionError" in done.stderr


def test_an_iterator_that_is_kept_is_no_way_to_lose_a_run(url: str) -> None:
    script("pass", "it = iter(colab_magics.queue('runs.db'))\nfor run in it:\n    1 / 0")
    assert "ZeroDivisionError" in rows(url)[0].error


def test_edits_reach_the_run_and_its_metrics_the_table(url: str, monkeypatch: pytest.MonkeyPatch) -> None:  # S9, S10
    monkeypatch.setattr(SqliteQueue, "default_lease", 0.6)
    worker = colab_magics.queue(url)
    run = worker.claim()
    assert run is not None
    assert run.config["lr"] == run.config.lr == 0.1
    assert run.sync(status="4 / 10", loss=0.3) == {}
    assert (rows(url)[0].report.text, rows(url)[0].report.metrics) == ("4 / 10", {"loss": 0.3})
    with closing(sqlite3.connect(url, timeout=30, isolation_level=None)) as people:
        people.execute("""UPDATE runs SET config = '{"lr": 0.5, "extra": NaN}' WHERE name = 'run_001'""")
    changed = poll(lambda: run.sync())
    assert changed.pop("extra") != changed.get("extra")  # NaN
    assert changed == {"lr": 0.5, "n_epoch": None}
    poll(lambda: run._last)  # it was asked again, and NaN is no change
    assert run.sync() == {}
    open_queue(url).stop(["run_001"], "enough")
    poll(lambda: run.stop == "enough")  # by the thread's heartbeat
    run.done("stopped")
    assert rows(url)[0].status == "stopped"


@pytest.mark.parametrize(("looks", "ends"), [(True, ("stopped", "enough")), (False, ("done", ""))])
def test_s16_who_has_read_that_it_is_to_stop_ends_as_stopped(
    url: str, monkeypatch: pytest.MonkeyPatch, looks: bool, ends: tuple[str, str]
) -> None:
    monkeypatch.setattr(SqliteQueue, "default_lease", 0.6)
    for run in colab_magics.queue(url):
        if run.name == "run_001":
            open_queue(url).stop([run.name], "enough")
            poll(lambda run=run: run._stop)
            if looks and run.stop:
                continue
    first = rows(url)[0]
    assert (first.status, first.error) == ends
    assert {one.status for one in rows(url)[1:]} == {"done"}


def test_a_run_that_was_lost_says_so_and_its_end_changes_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SqliteQueue, "default_lease", 0.6)
    run = colab_magics.queue(url).claim()
    assert run is not None
    with closing(sqlite3.connect(url, timeout=30, isolation_level=None)) as other:
        other.execute("UPDATE runs SET worker = 'other', epoch = epoch + 1 WHERE name = 'run_001'")
    poll(lambda: "not this worker's" in run.stop)
    run.done()
    assert (rows(url)[0].status, rows(url)[0].worker) == ("running", "other")


def test_code_s_own_defaults_come_last(url: str) -> None:  # S5, S6
    colab_magics.queue.create("new.db", defaults="{a: 1, b: 1}")
    colab_magics.queue.add("new.db", [{"a": 2}])
    run = colab_magics.queue("new.db", defaults="{a: 0, b: 0, c: 3}").claim()
    assert run is not None
    assert dict(run.config) == {"a": 2, "b": 1, "c": 3}
    run.give_back()


def test_a_fork_of_the_program_ends_nothing(url: str) -> None:
    script(
        "import os; p = os.fork()\n            if not p: sys.exit(0)\n            os.waitpid(p, 0)".replace("\n", "\n")
    )
    assert [row.status for row in rows(url)] == ["done"] * 3


def test_a_worker_that_is_killed_leaves_its_run_to_its_lease(url: str) -> None:
    text = LOOP.replace("BODY", "time.sleep(60)").replace("MAIN", "main()")
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.DEVNULL) as worker:
        poll(lambda: rows(url)[1].status == "running")
        worker.send_signal(signal.SIGKILL)
    assert rows(url)[1].status == "running"
    with closing(sqlite3.connect(url, timeout=30, isolation_level=None)) as clock:
        clock.execute("UPDATE runs SET lease_until = 0 WHERE name = 'run_002'")
    assert rows(url)[1].status == "stale"
    colab_magics.queue.requeue(url, "stale")
    assert rows(url)[1].status == "ready"


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("TRUE", True), ("7", 7), ("-7", -7), ("1e-3", 1e-3), ("5.00E-04", 5e-4), ("0.5", 0.5)]
    + [(text, text) for text in ("007", "1_000", "no", "1,5", "", "x y", "0x10", "1e", "[1, 2")]
    + [("[1, 2]", [1, 2]), ('{"a": 1}', {"a": 1})],
)
def test_what_a_cell_of_text_means(text: str, value: Any) -> None:  # S7
    found = run_table.typed(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("ending", ["csv", "json", "yaml", "tsv"])
def test_an_export_can_be_added_again(url: str, tmp_path: Path, ending: str) -> None:
    colab_magics.queue.add(url, [{"run_name": "x;y", "lr": math.inf, "list": [1, 2], "text": 'a,b\n"c"'}])
    file = str(tmp_path / f"out.{ending}")
    colab_magics.queue.export(url, file)
    colab_magics.queue.add("again.db", file)
    had, has = rows(url), rows(str(tmp_path / "again.db"))
    assert [(row.name, dict(row.config), row.status) for row in has] == [
        (row.name, dict(row.config), row.status) for row in had
    ]


def test_runs_from_files_and_dicts_and_what_is_none(url: str, tmp_path: Path) -> None:  # S11
    given = [{"lr": 1, "run_name": "mine"}, {"lr": 2, "status": "draft"}]
    before = [dict(one) for one in given]
    colab_magics.queue.add(url, given)
    assert given == before  # ✗ the caller's dicts are changed
    assert [(row.name, row.status) for row in rows(url)[3:]] == [("mine", "ready"), (rows(url)[4].name, "draft")]
    (tmp_path / "grid.yaml").write_text("lr: [1e-3, 1e-4]\nk: {a: 1}\nn: 2\n")
    colab_magics.queue.add("grid.db", str(tmp_path / "grid.yaml"))
    assert [row.config["lr"] for row in rows(str(tmp_path / "grid.db"))] == [1e-3, 1e-4, 1e-3, 1e-4]
    with pytest.raises(NotFound, match="is not there"):
        colab_magics.queue.add(url, "nix.csv")
    with pytest.raises(InvalidInput, match="These are no runs"):
        colab_magics.queue.add(url, [1])
    with pytest.raises(InvalidInput, match="no Python name"):
        colab_magics.queue.add(url, [{"learning rate": 1}])
    (tmp_path / "bad.csv").write_text('lr\n"1\n')
    with pytest.raises(InvalidInput, match="cannot be read"):
        colab_magics.queue.add(url, "bad.csv")


def test_a_cell_that_is_executed_again_adds_nothing(project: Project, tmp_path: Path) -> None:
    url = str(tmp_path / "runs.db")
    for _ in range(2):
        colab_magics.queue(url, runs={"lr": [1, 2]}, n=2)
    assert len(rows(url)) == 4
    colab_magics.queue(url, runs=[{"lr": 1}, {"lr": 1.0}, {"lr": 1, "run_name": "own"}])
    assert len(rows(url)) == 6  # 1 is not 1.0, and a name is a run
    colab_magics.queue(url, runs=[{"lr": 1}], again=True)
    assert len(rows(url)) == 7


def test_changed_values_are_told_by_type_and_nan_is_nan() -> None:  # ✗ nan always changed
    before = {"nan": math.nan, "one": 1, "two": 2, "gone": 0}
    assert changed(before, {"nan": math.nan, "one": True, "two": 2.0}) == {"one": True, "two": 2.0, "gone": None}
    assert not changed(before, dict(before))


def test_the_queue_shows_itself(url: str) -> None:
    worker = colab_magics.queue(url)
    assert "run_002" in str(worker)
    assert "<table" in worker._repr_html_()
    assert "3 ready" in str(colab_magics.queue.show(url))
    assert "run_001" not in str(colab_magics.queue.show(url, status="failed"))
    assert [row.attempts for row in rows(url)] == [0, 0, 0]


def test_names_of_new_runs_may_be_anything(url: str) -> None:
    open_queue(url).add([New({}, "a\nb"), New({}, "<b>")])
    assert "&lt;b&gt;" in colab_magics.queue.show(url)._repr_html_()
