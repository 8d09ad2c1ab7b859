"""``%jobs`` over folders that earlier calls have left: which runs a word names, and what is shown of them."""

from __future__ import annotations

import builtins
import io
import json
import math
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas
import pytest
from conftest import HOSTILE_NAMES

import colab_magics
from colab_magics import __main__ as face
from colab_magics import jobs, process, session
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, NotFound, Unavailable
from colab_magics.records.names import STATE
from colab_magics.records.run import Run
from colab_magics.runs import compare, select, show
from colab_magics.runs.glance import as_table
from colab_magics.session import Session
from colab_magics.ui import Table, TerminalUI

from .folders import leave_run

PHASES = ["done", "failed", "killed", "running", None, "failed"]


@pytest.fixture
def job(project: Project) -> Path:
    """A job with a run in each phase; "running" of a dead runner is interrupted."""
    for index, phase in enumerate(PHASES):
        leave_run(project.data_job, index, phase)
    return project.data_job


def ids(*words: str) -> list[str]:
    return [run.id for run in jobs(*words).runs]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["failed"], [1, 5]),
        (["baseline/failed"], [1, 5]),
        (["done"], [0]),
        (["killed"], [2]),
        (["interrupted"], [3]),
        (["waiting"], [4]),
        (["running"], []),
        (["cancelled"], []),
        (["failed", "3-5", "baseline/0"], [1, 5, 3, 4, 0]),
        (["3"], [3]),
        (["baseline"], [0, 1, 2, 3, 4, 5]),
        ([], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_words_name_runs(job: Path, words: list[str], found: list[int]) -> None:
    assert ids(*words) == [f"baseline/{index}" for index in found]


def test_a_state_that_no_run_has_is_said_and_is_no_error(job: Path) -> None:
    assert "No such runs: running. The current job is baseline" in str(jobs("running"))
    assert "No such runs: running" in str(jobs.watch("running"))


def test_words_of_another_job(job: Path) -> None:
    leave_run(job.parent / "other", 0, "failed")
    assert ids("other/failed") == ["other/0"]
    assert ids("failed") == ["baseline/1", "baseline/5"]


def test_a_job_that_is_really_named_so_wins(job: Path) -> None:
    leave_run(job.parent / "failed", 0, "done")
    leave_run(job.parent / "7", 0, "done")
    assert ids("failed") == ["failed/0"]
    assert ids("baseline/failed") == ["baseline/1", "baseline/5"]
    assert ids("7") == ["7/0"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("faild", "did you mean failed"),
        ("baselin", "did you mean baseline"),
        ("baseline/faild", "did you mean failed"),
        ("nope/3", "is no job"),
        ("baseline/7", "no run 7"),
        ("3-1", "names no runs"),
        ("3-900000", "no run 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, …"),
    ],
)
def test_words_that_name_nothing(job: Path, word: str, said: str) -> None:
    with pytest.raises((InvalidInput, NotFound)) as caught:
        jobs(word)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", HOSTILE_NAMES[:-1])
def test_hostile_names_of_jobs(project: Project, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    leave_run(project.data_job.parent / name, 3, "failed", parameters={"a": "<script>\n"}, reports=[{"loss": 1}])
    assert ids(f"{name}/failed") == [f"{name}/3"]
    assert len(str(jobs(name)).splitlines()) == 3
    assert "<script>" not in jobs(name)._repr_html_()
    os.chdir(project.root)
    if not name.startswith("-"):
        assert face.main(["jobs", "plot", "loss", f"{name}/3"]) == 0
        assert f"{name}/3" in capsys.readouterr().out


def test_the_table_shows_the_last_metrics_and_their_trend(project: Project) -> None:
    leave_run(project.data_job, 0, reports=[{"loss": 3 - i, "step": i} for i in range(4)])
    leave_run(project.data_job, 1)
    table = jobs().overview()
    assert table.columns[3:6] == ["step", "loss", "trend"]
    assert [row[3:6] for row in table.rows] == [["3", "0", "█▆▃▁"], ["", "", ""]]
    assert list(jobs("1").overview().columns) == ["run", "state", "time", "last line"]
    assert as_table(jobs().statuses()).columns == table.columns  # as the live table has it


def test_show_names_the_metrics_and_the_files(project: Project) -> None:
    leave_run(project.data_job, 0, "failed", parameters={"lr": 0.1}, reports=[{"loss": 0.5, "step": 3}])
    text = str(jobs.show("0"))
    assert "parameters lr=0.1" in text
    assert "metrics    loss=0.5 step=3" in text
    assert "metrics.jsonl" in text


# diff


def test_diff_names_what_differs_and_nothing_else(project: Project) -> None:
    same = "import os\nprint(lr)"
    old = {"lr": 0.1, "n": 1, "name": "a"}
    new = {"lr": 0.1, "n": 1.0, "seed": 7}
    leave_run(
        project.data_job, 3, parameters=old, cells=(same, "train()  # well"), reports=[{"loss": 0.5, "x": math.nan}]
    )
    leave_run(
        project.data_job,
        7,
        "failed",
        parameters=new,
        cells=(same, "more()", "train()  # better", "end()"),
        reports=[{"loss": 0.25, "x": math.nan}],
        took=180,
        commit="def",
    )
    text = str(jobs.diff("3", "baseline/7"))
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == "baseline/3 → baseline/7"
    assert lines[lines.index("parameters") + 1 : lines.index("metrics") - 1] == [
        "n     1 → 1.0",
        "name  'a' → –",
        "seed  – → 7",
    ]
    assert "loss  0.5 → 0.25" in lines
    assert not [line for line in lines if line.startswith("x ")]  # NaN on both sides
    assert "duration  1 min 00 s → 3 min 00 s" in lines
    assert "state     done → failed in cell 1: ValueError" in lines
    assert "commit    abc → def" in lines
    assert "cell 2" in lines
    assert "-train()  # well" in lines
    assert "+train()  # better" in lines
    assert "cell 4, in baseline/7 only" in lines
    assert "import os" not in text


def test_diff_of_the_same(project: Project) -> None:
    for index in (3, 7):
        leave_run(project.data_job, index)
    assert str(jobs.diff("3", "7")).count("the same") == 4


def test_diff_without_the_notebook_of_one_and_without_two_runs(project: Project) -> None:
    for index in (3, 7):
        leave_run(project.data_job, index)
    (project.data_job / "sub_job_007" / "source.ipynb").write_text("no json")
    assert "sub_job_007/source.ipynb cannot be read" in str(jobs.diff("3", "7"))
    with pytest.raises(InvalidInput, match="names 2 runs"):
        jobs.diff("baseline", "3")


# table


def test_table_is_a_data_frame_with_typed_columns(project: Project) -> None:
    leave_run(project.data_job, 0, parameters={"lr": 0.1, "size": "big"}, reports=[{"loss": 0.5, "step": 3}])
    leave_run(project.data_job, 1, "failed", parameters={"lr": 1e-3, "size": "small"})
    frame = jobs.table()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["run", "state", "seconds", "lr", "size", "loss", "step"]
    assert frame["run"].tolist() == ["baseline/0", "baseline/1"]
    assert frame["state"].tolist() == ["done", "failed"]
    assert frame["lr"].dtype == frame["loss"].dtype == frame["seconds"].dtype == "float64"
    assert frame["seconds"].tolist() == [60, 60]
    assert frame.sort_values("lr")["run"].tolist() == ["baseline/1", "baseline/0"]
    assert math.isnan(frame["loss"][1])
    assert list(jobs.table("failed")["run"]) == ["baseline/1"]
    assert list(jobs.table("running").columns) == ["run", "state", "seconds"]


def test_names_that_meet_get_a_word_in_front(project: Project) -> None:
    leave_run(
        project.data_job,
        0,
        parameters={"state": 5, "loss": "l1"},
        reports=[{"loss": 0.5, "run": 7, "ok": True}],
        repeat=1,
    )
    (row,) = compare.rows(select.select(project.data_job.parent, [], job="baseline"))
    assert row == {
        "run": "baseline/0",
        "state": "done",
        "seconds": 60.0,
        "repeat": 1,
        "parameter.state": 5,
        "loss": "l1",
        "metric.loss": 0.5,
        "metric.run": 7,
        "ok": True,
    }


def without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = builtins.__import__

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_without_pandas_shells_get_text_and_notebooks_the_mend(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_run(project.data_job, 0, parameters={"lr": 0.1}, reports=[{"loss": None}])
    without_pandas(monkeypatch)
    table = jobs.table()
    assert isinstance(table, Table)
    assert table.rows == [["baseline/0", "done", "60", "0.1", ""]]
    session.activate(Session(ui=TerminalUI(where="jupyter"), project=project))
    with pytest.raises(Unavailable, match="pip install pandas"):
        jobs.table()


def test_the_shell_prints_all_columns_of_a_table(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = {f"a_parameter_with_a_long_name_{i}": i for i in range(30)}
    leave_run(project.data_job, 0, parameters=parameters)
    os.chdir(project.root)
    assert face.main(["jobs", "table"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in parameters)
    assert "..." not in shown


# metrics


def test_metrics_shows_all_of_them_with_their_trends(project: Project) -> None:
    reports = [{"loss": 4.0 - step, "note": f"n{step}", "step": 10 * step} for step in range(4)]
    leave_run(project.data_job, 0, reports=[*reports, {"loss": math.nan, "step": 40}])
    leave_run(project.data_job, 1, reports=[{"once": True}])
    leave_run(project.data_job, 2)
    table = jobs.metrics()
    assert list(table.columns) == ["run", "metric", "trend", "last", "min", "max", "reports"]
    assert [list(row) for row in table.rows] == [
        ["baseline/0", "loss", "█▆▃▁ ", "nan at 40", "1", "4", "5"],
        ["baseline/0", "note", "", "n3 at 30", "", "", "4"],
        ["baseline/1", "once", "", "True", "1", "1", "1"],
    ]
    assert table.notes == ["Nothing reported: baseline/2"]
    assert [row[1] for row in jobs.metrics("0", names="note,loss").rows] == ["note", "loss"]
    with pytest.raises(InvalidInput, match=r"did you mean loss\?"):
        jobs.metrics(names="los")
    with pytest.raises(NotFound, match="reported nothing"):
        jobs.metrics("2")


def test_metrics_of_many_runs_are_cut_with_a_word(project: Project) -> None:
    names = [f"m{i}" for i in range(70)]
    for index in range(3):
        leave_run(project.data_job, index, reports=[dict.fromkeys(names, 1)])
    table = jobs.metrics()
    assert len(table.rows) == 200
    assert table.notes == ["… and 10 more: name runs, or metrics by names="]


# open


def test_open_in_a_shell_is_a_path(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    run = leave_run(project.data_job, 3)
    os.chdir(project.root)
    assert face.main(["jobs", "open", "3"]) == 0
    assert capsys.readouterr().out == f"{run.notebook}\n"


def test_open_in_jupyter_is_a_link_from_the_notebooks_folder(tmp_path: Path) -> None:
    root = tmp_path / "a b:%<net"
    (root / "notebooks").mkdir(parents=True)
    project = Project(name="net", job="x'&", root=root, notebooks=root)
    run = leave_run(project.data_job, 3)
    session.activate(Session(ui=TerminalUI(where="jupyter"), project=project, start_folder=root / "notebooks"))
    link = jobs.open("3")
    assert link.href is not None
    assert unquote(link.href) == "../data_job/x'&/sub_job_003/notebook.ipynb"
    assert (root / "notebooks" / unquote(link.href)).samefile(run.notebook)
    markup = ET.fromstring(link._repr_html_())
    assert markup.findall("a")[0].attrib["href"] == link.href
    assert markup.findall("a")[0].text == str(run.notebook)
    below = show.Link(root / "c:d.ipynb", base=root).href
    assert below == "./c%3Ad.ipynb"  # not an address of scheme "c"


def test_open_uses_the_notebooks_own_folder_where_the_server_tells(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = leave_run(project.data_job, 3)
    monkeypatch.setenv("JPY_SESSION_NAME", str(project.root / "deep" / "er" / "main.ipynb"))
    made = show.link(run, where="jupyter", start_folder=project.root)
    assert made.href == "../../data_job/baseline/sub_job_003/notebook.ipynb"
    assert show.link(run, where="colab", start_folder=project.root).href is None


def test_open_of_a_failed_run_says_where_and_how_to_go_on(project: Project) -> None:
    leave_run(project.data_job, 3, "failed")
    text = str(jobs.open("3"))
    assert "baseline/3 failed in cell 1: ValueError: no <b>" in text
    assert "here=3" in text
    assert "<b>" not in jobs.open("3")._repr_html_()


def test_open_of_a_run_that_was_not_executed(project: Project) -> None:
    run = leave_run(project.data_job, 3, None, attempt=2)
    with pytest.raises(NotFound, match="waiting"):
        jobs.open("3")
    (run.folder / "attempt_1.ipynb").write_text("{}")
    assert "attempt_1.ipynb\nThis is an earlier attempt: baseline/3 is waiting." in str(jobs.open("3"))


# logs -f


def test_follow_prints_while_it_grows_and_ends_with_the_run(project: Project) -> None:  # ✗ a program printing EOF
    run = leave_run(project.data_job, 0, "running", alive=True)
    parts = []
    more = iter([b"EOF\n", b"half", b" a line \xc3", b"\xbc\nEOF\n1%\r2%\r", b"100%\n", b"last"])
    for text in show.grow(run, every=0):
        parts.append(text)
        for data in more:
            with open(run.log, "ab") as stream:
                stream.write(data)
            if b"\n" in data or b"\r" in data:
                break
        else:
            state = json.loads((run.folder / STATE).read_text())
            process.write_json(run.folder / STATE, state | {"phase": "done", "ended": 2000.0})
    assert parts == ["══ attempt 1\nhello", "EOF", "half a line ü\nEOF\n2%", "100%", "last"]


def test_follow_of_a_run_that_is_executed_again_goes_on(project: Project) -> None:
    run = leave_run(project.data_job, 0, "failed")
    record = json.loads((run.folder / "run.json").read_text())
    old = Run.load(run.folder)
    process.write_json(run.folder / "run.json", record | {"attempt": 2})
    process.write_json(run.folder / STATE, {"attempt": 2, "phase": "done", "ended": 1.0})
    assert list(show.grow(old)) == ["══ attempt 1\nhello"]


def test_logs_in_the_shell(job: Path, project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "colab_magics", "jobs", "logs", "-f", "baseline/0"],
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": str(Path(colab_magics.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "hello\n" in done.stdout
    assert done.stdout.endswith("baseline/0: done\n")


def test_nothing_here_and_no_runs(project: Project, said: io.StringIO) -> None:
    assert "No runs yet" in str(jobs())
    for verb in (jobs.show, jobs.logs):
        with pytest.raises(NotFound):
            verb()
    assert len(jobs.table()) == 0
    assert "0 folders, 0 B" in str(jobs.du())


def test_numbers_in_python(job: Path) -> None:
    assert [run.index for run in jobs(3, "failed").runs] == [3, 1, 5]  # type: ignore[arg-type]
    assert str(jobs.diff(0, 1)).startswith("baseline/0 → baseline/1")
    assert jobs.open(0).path.parent.name == "sub_job_000"
    with pytest.raises(InvalidInput, match="names 2 runs"):
        jobs.open("0-1")
    assert [row[0] for row in jobs.rm(0, older=10, yes=True).rows] == ["baseline/0"]
