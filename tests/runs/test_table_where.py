"""``%jobs table sort= where=`` and ``%jobs best``: which rows, in which order, and which of them is best."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest

from colab_magics import jobs, process
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, NotFound
from colab_magics.records.names import FORKS, SCHEDULER
from colab_magics.runs.where import Where, chosen, ordered

from .folders import leave_run

ROW: dict[str, Any] = {
    "run": "baseline/1",
    "lr": 0.01,
    "size": "small",
    "deep": True,
    "loss": None,
    "tags": ["good"],
    "val/loss": 2,
    "metric.lr": 3,
    "spread": math.nan,
}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("lr<0.1", True),
        ("lr < 0.1 and size == 'big'", False),
        ("lr>0.1 or los_t", None),
        ("not size=='big'", True),
        ("1e-3 < lr <= 1e-2", True),
        ("lr > -1", True),
        ("'good' in tags", True),
        ("'bad' in tags", False),
        ("size in ('small', 'tiny') and size not in ['big']", True),
        ("'mal' in size", True),
        ("deep", True),
        ("deep == true and deep == True", True),
        ("`val/loss` == 2", True),
        ("metric.lr == 3", True),
        ("'`' in size", False),
        ("loss < 1", None),
        ("not loss < 1", None),
        ("loss is None", True),
        ("lr is not None", True),
        ("loss < 1 or lr < 1", True),
        ("loss < 1 and lr > 1", False),
        ("spread < 1", False),
        ("size == 3", False),
    ],
)
def test_conditions(text: str, meant: bool | None) -> None:
    assert Where(text, {*ROW, "los_t"})(ROW) is meant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr<0.1 and", "cannot be read"),
        ("lr", "lr is a number, and no condition.\n→ Compare it, all in quotes"),
        ("not lr", "lr is a number, and no condition"),
        ("lr=0.1", r"cannot be read.\n→ Equal is written =="),
        ("lrr<1", r"'lrr' is no parameter or metric of these runs.\n→ did you mean lr\?"),
        ("size == small", "A text stands in quotes: 'small'"),
        ("__import__('os').system('x')", "is no comparison"),
        ("lr.__class__ == 1", "no parameter or metric"),
        ("''.join == 1", "is no comparison"),
        ("(lambda: 1)() == 1", "is no comparison"),
        ("[x for x in tags]", "is no comparison"),
        ("lr ** 9 ** 9 > 1", "is no comparison"),
        ("f'{lr}' == 1", "is no comparison"),
        ("b'x' == lr", "is no comparison"),
        ("tags[0] == 'x'", "is no comparison"),
        ("(lr := 3) == 3", "is no comparison"),
        ("lr < 'a'", "cannot be compared so"),
        ("'good' in lr", "cannot be compared so"),
        ("lr is 3", "`is` asks for None alone"),
        ("not " * 3000 + "lr", "has 12,002 characters"),
        ("(" * 900 + "lr" + ")" * 900, "cannot be read"),
        ("\0", "cannot be read"),
    ],
)
def test_what_is_no_condition_is_said_and_nothing_is_executed(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Where(text, ROW)(ROW)


def test_rows_in_order() -> None:
    values = [3, None, math.nan, 1, True, "b", "a", 2.5]
    rows = [{"x": value, "run": i} for i, value in enumerate(values)]
    assert [row["run"] for row in ordered(rows, "x")] == [3, 4, 7, 0, 6, 5, 1, 2]
    assert [row["run"] for row in ordered(rows, "-x")] == [5, 6, 0, 7, 3, 4, 1, 2], "what is missing stays last"
    pairs = [{"a": 1, "b": 2}, {"a": 1, "b": 1}, {"a": 0, "b": 3}]
    assert ordered(pairs, "-a,b") == [pairs[1], pairs[0], pairs[2]]
    assert chosen([], "anything") == ([], [])
    with pytest.raises(InvalidInput, match="did you mean"):
        ordered(pairs, "bb")


@pytest.fixture
def sweep(project: Project) -> Project:
    for index, (lr, loss) in enumerate([(0.1, 3.0), (0.01, 1.0), (0.001, 2.0)]):
        leave_run(project.data_job, index, parameters={"lr": lr}, reports=[{"loss": loss, "acc": -loss}])
    leave_run(project.data_job, 3, "failed", parameters={"lr": 0.5})
    return project


def test_a_table_of_some_runs_in_order(sweep: Project, said: io.StringIO) -> None:
    assert jobs.table(where="lr<0.1", sort="-loss")["run"].tolist() == ["baseline/2", "baseline/1"]
    assert jobs.table(sort="loss")["run"].tolist() == [f"baseline/{index}" for index in (1, 2, 0, 3)]
    assert "Left out" not in said.getvalue()
    assert jobs.table(where="not loss > 1")["run"].tolist() == ["baseline/1"]
    assert "Left out, because they have not all of these values: baseline/3" in said.getvalue()
    assert list(jobs.table(where="lr > 7").columns) == ["run", "state", "seconds"]


def test_best_by_the_goal_of_the_fork(sweep: Project) -> None:
    assert jobs.best("loss").id == "baseline/1"
    assert str(jobs.best("loss")).startswith("baseline/1  lr=0.01  loss=1")
    assert str(jobs.best("loss")).endswith("\nleast loss of 3 finished runs")
    assert jobs.best("max:loss").id == "baseline/0"
    assert jobs.best("loss", "0,2")["lr"] == 0.001
    with pytest.raises(InvalidInput, match="The best by which metric"):
        jobs.best()
    with pytest.raises(InvalidInput, match="did you mean loss"):
        jobs.best("los")
    with pytest.raises(NotFound, match="No run has finished yet"):
        jobs.best("loss", "3")
    forks = [{"goal": "max:acc", "runs": [0, 1, 2, 3]}]
    (sweep.data_job / SCHEDULER).mkdir()
    process.write_json(sweep.data_job / SCHEDULER / FORKS, {"forks": forks})
    assert (jobs.best().id, jobs.best("acc").id, jobs.best("min:acc").id) == ("baseline/1", "baseline/1", "baseline/0")
    process.write_json(sweep.data_job / SCHEDULER / FORKS, {"forks": [*forks, {"goal": "min:acc", "runs": [0]}]})
    with pytest.raises(InvalidInput, match="different goals"):
        jobs.best("acc")
    assert jobs.best("acc", "1-2").id == "baseline/1", "the other fork has none of these"
