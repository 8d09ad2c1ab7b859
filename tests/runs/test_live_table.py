"""The table of runs: what comes first, how high it is, what it marks, sums up and foretells."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import poll

from colab_magics import fork, jobs, process
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput
from colab_magics.records.names import RECORD, STATE
from colab_magics.records.run import Run, runs_of
from colab_magics.runs import joined, scheduler
from colab_magics.runs.board import Board
from colab_magics.runs.failures import failure
from colab_magics.runs.looking import Looks, pause
from colab_magics.ui import Table, TerminalUI
from colab_magics.units import goal, show_number

from .folders import leave_run
from .notebooks import write_notebook


def leave(project: Project, phases: str, **given: Any) -> None:
    """Leave runs: d(one), f(ailed), w(aiting), r(unning), s(topped early)."""
    for index, phase in enumerate(phases):
        named = {"d": "done", "f": "failed", "w": None, "r": "running", "s": "stopped"}[phase]
        leave_run(project.data_job, index, named, alive=phase == "r", **given)


def fail(run: Run, message: str, cell: int = 5) -> None:
    state = process.read_json(run.folder / STATE) or {}
    error = {"cell": cell, "ename": "ValueError", "evalue": message}
    process.write_json(run.folder / STATE, {**state, "error": error})


def column(table: Table, name: str) -> list[str]:
    return [row[list(table.columns).index(name)] for row in table.rows]


def test_what_runs_comes_first_then_what_failed_waits_and_is_done(project: Project) -> None:
    leave(project, "dwfrdwfr")
    assert [id[-1] for id in column(jobs().overview(), "run")] == list("37261504")


def test_those_that_could_not_win_come_after_the_finished(project: Project) -> None:
    leave(project, "sdsr")
    assert [id[-1] for id in column(jobs().overview(), "run")] == list("3102")


def test_it_is_no_higher_than_a_screen_and_sums_up_the_rest(project: Project) -> None:
    leave(project, "r" * 4 + "w" * 30 + "d" * 20)
    table = jobs().overview()
    assert len(str(table).splitlines()) == 24
    assert len(table.rows) == 21
    assert table.notes == ["… and 33 more: 20 done, 13 waiting (%jobs table has all)"]
    assert len(table.others) == 33


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1 / 3, "0.3333"),
        (2.0, "2"),
        (12345.678, "12346"),
        (1e-5, "1e-5"),
        (1.23456e9, "1.235e9"),
        (7_000_000, "7000000"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert show_number(value) == text


def test_numbers_are_aligned_at_the_right_and_texts_at_the_left(project: Project) -> None:
    for index, (lr, name) in enumerate([(0.1, "a"), (1e-5, "long")]):
        leave_run(project.data_job, index, parameters={"lr": lr, "name": name, "flag": True}, reports=[{"loss": lr}])
    table = jobs().overview()
    assert set(table.right) >= {"lr", "loss", "time"}
    assert not set(table.right) & {"name", "flag", "last line"}
    heading, first, second = str(table).splitlines()[1:4]
    assert heading.index("lr") + 2 == first.index(" 0.1 ") + 4 == second.index(" 1e-5 ") + 5
    assert heading.index("name") == first.index("  a  ") + 2
    assert table._repr_html_().count("text-align:right") == 3 * len(set(table.right) & set(table.columns))


def test_different_parameters_never_look_the_same(project: Project) -> None:
    for index, lr in enumerate((0.100001, 0.100002)):
        leave_run(project.data_job, index, parameters={"lr": lr})
    assert column(jobs().overview(), "lr") == ["0.100001", "0.100002"]


def test_a_parameter_and_a_metric_named_step_are_no_progress(project: Project) -> None:
    leave_run(project.data_job, 0, parameters={"step": 7}, reports=[{"loss": 1.0, "step": 3}])
    table = jobs().overview()
    assert column(table, "step") == ["3"]
    assert table.rows[0][3:6] == ["3", "7", "1"]


def test_equal_errors_are_told_in_one_line(project: Project) -> None:
    leave(project, "fffdf")
    for run, message in zip(runs_of(project.data_job), ("bad shape", "other", "bad shape", "", "bad\n"), strict=True):
        if message:
            fail(run, message, cell=5)
    table = jobs().overview()
    assert table.notes == ["2 × ValueError: bad shape in cell 5: baseline/0, baseline/2"]
    assert len(table.rows) == 5


def test_equal_errors_share_a_row_where_room_is_short(project: Project) -> None:
    leave(project, "f" * 40)
    for run in runs_of(project.data_job):
        fail(run, "bad shape")
    fail(runs_of(project.data_job)[7], "another")
    table = jobs().overview()
    assert column(table, "run") == ["baseline/0", "baseline/7"]
    assert table.notes[0] == "… and 38 more: 38 failed (%jobs table has all)"
    assert table.notes[1].startswith("39 × ValueError: bad shape in cell 5: baseline/0, baseline/1")
    assert table.notes[1].endswith("and 31 more")


def test_the_error_names_equal_failures_once(project: Project) -> None:
    leave(project, "f" * 30 + "d")
    for run in runs_of(project.data_job)[:30]:
        fail(run, "other" if run.index == 7 else "bad shape")
    error = failure(jobs().statuses())
    told = str(error).splitlines()
    assert told[0] == "30 of 31 runs did not end well:"
    equal = [f"baseline/{number}" for number in (*range(7), 8, 9, 10)]
    assert told[1] == f"  {', '.join(equal)} and 19 more  failed in cell 5: ValueError: bad shape"
    assert told[2] == f"      log {project.data_job}/sub_job_000/log.txt"
    assert [line for line in told if ": other" in line] == ["  baseline/7  failed in cell 5: ValueError: other"]


def test_progress_and_time_left_come_from_finished_runs(project: Project) -> None:
    now = time.time()
    for index in range(4):
        leave_run(project.data_job, index, started=now - 4000, took=600.0)
    for index in range(4, 6):
        leave_run(project.data_job, index, "running", alive=True, started=now - 300)
    for index in range(6, 10):
        leave_run(project.data_job, index, None)
    table = jobs().overview()
    assert table.share == 0.4
    assert table.left == "about 25 min left"  # half of two, and two each beside one another
    assert str(table).splitlines()[0].endswith(" · 40 %, about 25 min left")
    assert '<progress value="0.400" max="1"' in table._repr_html_()
    kept = Board(lambda: runs_of(project.data_job), kept=[run.folder for run in runs_of(project.data_job)])
    assert kept.overview().left == ""


def test_progress_comes_from_the_steps_of_runs(project: Project) -> None:
    now = time.time()
    run = leave_run(project.data_job, 0, "running", alive=True, started=now - 600, reports=[])
    (run.folder / "metrics.jsonl").write_text(
        f'{{"time": {now}, "attempt": 1, "step": 25, "values": {{"total": 100}}}}\n'
    )
    table = jobs().overview()
    assert table.share == 0.25
    assert table.left == "about 30 min left"


def test_nothing_is_foretold_of_what_has_ended(project: Project) -> None:
    leave(project, "ddf")
    assert jobs().overview().share is None


# The best run


def with_goal(project: Project, said: str) -> None:
    for index, loss in enumerate((0.5, 0.25, 0.75)):
        leave_run(
            project.data_job, index, parameters={"lr": index}, reports=[{"acc": 1.0}, {"loss": 9}, {"loss": loss}]
        )
    leave_run(project.data_job, 3, "failed", reports=[{"loss": 0.001}])
    leave_run(project.data_job, 4, reports=[{"loss": math.nan}])
    record = {"notebook": "train.ipynb", "notebook_path": None, "fork": 1}
    (project.data_job / ".scheduler").mkdir()
    joined.remember(project.data_job, record, range(5), goal=said)


@pytest.mark.parametrize(("said", "best"), [("min:loss", 1), ("max:loss", 2)])
def test_the_best_finished_run_is_marked(project: Project, said: str, best: int) -> None:
    with_goal(project, said)
    table = jobs().overview()
    assert [row[0] for row in table.rows if row[1] == "done · best"] == [f"baseline/{best}"]
    assert column(table, "state")[1] == "done · best"  # first of those that are done
    assert table.caption == f"4 done, 1 failed · best by {said}"
    assert table.columns[list(table.columns).index("trend") - 1] == "loss"  # the goal's, not the first that came


def test_the_best_of_some_runs_is_not_the_best(project: Project) -> None:
    with_goal(project, "min:loss")
    assert "best" not in str(jobs("0", "2"))
    assert "best" in str(jobs("1", "2"))


def test_the_best_run_has_a_row_however_many_there_are(project: Project) -> None:
    with_goal(project, "min:loss")
    for index in range(5, 60):
        leave_run(project.data_job, index, None)
    assert "baseline/1" in column(jobs().overview(), "run")


def test_a_goal_that_names_no_metric_is_refused(project: Project) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", "x = 1"))
    for said in ("loss", "min:", "least:loss", ""):
        with pytest.raises(InvalidInput, match=r"Write goal=min:loss or goal=max:loss\."):
            fork(n=1, notebook=notebook, goal=said)
    assert not runs_of(project.data_job)
    assert goal("max:val:acc") == "max:val:acc"


def test_a_goal_said_at_the_line_marks_the_best_run(project: Project) -> None:
    cell = "from colab_magics import report\nreport(loss=abs(i_sub_job - 1))"
    notebook = str(write_notebook(project.root / "a.ipynb", cell))
    board = fork(n=2, notebook=notebook, goal="min:loss", workers="2")
    assert column(board.overview(), "state") == ["done · best", "done"]  # type: ignore[union-attr]
    assert column(jobs().overview(), "run") == ["baseline/1", "baseline/0"]


# Which metrics are drawn


def test_the_metrics_that_are_named_are_drawn(project: Project) -> None:
    for index in range(3):
        leave_run(project.data_job, index, reports=[{"loss": 2 - i, "acc": i, "note": "x"} for i in range(3)])

    def drawn(table: Table) -> list[str]:
        return [name for name, after in itertools.pairwise(table.columns) if after == "trend"]

    assert drawn(jobs().overview()) == ["loss"]
    both = jobs(trend="acc,loss").overview()
    assert drawn(both) == ["loss", "acc"]
    assert [cell for cell in both.rows[0] if "▁" in cell] == ["█▅▁", "▁▅█"]
    missing = jobs(trend="acc,los").overview()
    assert drawn(missing) == ["acc"]
    assert missing.notes == ["Not reported as a number so far: los. There is: loss, acc"]


def test_many_metrics_share_a_column_and_those_that_are_named_have_their_own(project: Project) -> None:
    values = {f"m{number}": 1.0 for number in range(20)}
    leave_run(project.data_job, 0, reports=[values, {**values, "m7": 2.0}])
    table = jobs(trend="m7").overview()
    assert column(table, "m7") == ["2"]
    assert column(table, "trend") == ["▁█"]
    assert "m6=1" in column(table, "metrics")[0]


def test_what_the_line_draws_is_drawn_wherever_the_runs_are_shown(project: Project) -> None:
    cell = "from colab_magics import report\nfor i in range(3): report(loss=i, acc=-i)"
    notebook = str(write_notebook(project.root / "a.ipynb", cell))
    board = fork(n=1, notebook=notebook, trend="acc", goal="min:loss")
    for table in (board.overview(), jobs().overview()):  # type: ignore[union-attr]
        assert table.columns[list(table.columns).index("trend") - 1] == "acc"
        assert list(table.columns).count("trend") == 1


# Links, width, looks


def test_runs_are_links_to_their_notebook_and_log(project: Project) -> None:
    leave(project, "dw")
    board = jobs()
    assert "<a " not in board._repr_html_()  # where links lead nowhere
    board.links_from = project.root / "notebooks"
    markup = board._repr_html_()
    folder = os.path.relpath(project.data_job / "sub_job_000", project.root)
    assert f'href="../{folder}/notebook.ipynb"' in markup
    assert f'href="../{folder}/log.txt"' in markup
    assert markup.count("<a ") == 2  # nothing of the one that waits is there


def test_it_is_cut_to_the_terminals_width() -> None:
    rows = [["a/0", "done", "0.125", "x" * 50, "y" * 90], ["a/1", "running", "2", "x", "y"]]
    table = Table(["run", "state", "loss", "name", "last line"], rows, right=["loss"])
    lines = table.text(80).splitlines()
    assert max(map(len, lines)) == 80
    assert lines[1].startswith("a/0  done     0.125  xxx")
    assert lines[1].endswith("y…")
    assert max(map(len, str(table).splitlines())) > 150  # a pipe gets all
    assert max(map(len, table.text(20).splitlines())) <= 20


def test_what_stands_still_is_not_read_again_and_what_moves_is(project: Project) -> None:
    leave(project, "dwd")
    for run in runs_of(project.data_job):
        os.utime(run.folder, (1000, 1000))
    asked: list[int] = []

    def find() -> list[Run]:
        asked.append(1)
        return runs_of(project.data_job)

    looks = Looks(find)
    first, second = looks.statuses(), looks.statuses()
    assert len(asked) == 1
    assert all(old is new for (old, _), (new, _) in zip(first, second, strict=True))
    waiting = first[1][0]
    process.write_json(waiting.folder / STATE, {"attempt": 1, "phase": "done", "started": 1.0, "ended": 2.0})
    assert [status.phase for _, status in looks.statuses()] == ["done"] * 3
    again = {**first[0][0].record, "attempt": 2}
    process.write_json(first[0][0].folder / RECORD, again)
    assert looks.statuses()[0][1].phase == "waiting"
    leave_run(project.data_job, 3)
    assert poll(lambda: len(looks.statuses()) == 4)


def test_a_terminal_says_what_becomes_of_runs_without_a_row(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(project, "r" * 30 + "dw")
    with TerminalUI().live() as live:
        live.show(jobs().overview())
    out = capsys.readouterr()
    said = (out.err + out.out).splitlines()
    assert "baseline/30  done" in said
    assert not [line for line in said if line.startswith("baseline/31")]


def test_it_needs_no_emoji_font() -> None:
    package = Path(joined.__file__).parents[1]
    texts = [path.read_text() for path in package.rglob("*.py")]
    found = {char for text in texts for char in text if 0x23E9 <= ord(char) <= 0x23FF or ord(char) >= 0x1F000}
    assert not found


HOLDS = """
import sys, time
from pathlib import Path
from colab_magics import process
from colab_magics.records import lock
held = lock.take(Path(sys.argv[1]))
process.write_json(Path(sys.argv[1]) / ".scheduler" / "state.json", {"process": process.identity()})
print("holds", flush=True)
time.sleep(60)
"""


def test_who_watches_sees_the_end_of_the_scheduler_in_that_moment(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(project, "r")
    job, looks = project.data_job, list[Path]()
    (job / ".scheduler").mkdir(exist_ok=True)
    is_running = scheduler.is_running
    monkeypatch.setattr(scheduler, "is_running", lambda folder: (looks.append(folder), is_running(folder))[1])
    with subprocess.Popen([sys.executable, "-c", HOLDS, job], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds\n"
        try:
            pause(0.5, [job])
            assert len(looks) == 1  # it waits, and does not look again and again
            threading.Timer(0.3, holder.kill).start()
            began = time.monotonic()
            pause(30, [job])
            assert time.monotonic() - began < 10
            assert not is_running(job)
        finally:
            holder.kill()


def test_who_watches_a_scheduler_that_nobody_knows_looks_for_its_end(project: Project) -> None:
    leave(project, "r")
    began = time.monotonic()
    pause(30, [project.data_job])
    assert time.monotonic() - began < 10
