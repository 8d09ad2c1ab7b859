"""Which cells of a notebook belong to which fork, whatever else stands in them."""

from __future__ import annotations

import pytest

from colab_magics.errors import InvalidInput
from colab_magics.payloads import forks
from colab_magics.payloads.code import SKIP, executed_cells
from colab_magics.ui import RunningCell


def notebook(*cells: str) -> dict[str, object]:
    made = [{"cell_type": "code", "metadata": {}, "source": text, "id": f"c{i}"} for i, text in enumerate(cells)]
    return forks.prepare({"cells": made})


def executed(content: dict[str, object], number: int) -> list[str]:
    fork = forks.find(content)[number - 1]
    return [cell.source for cell in executed_cells(forks.program(content, fork).content)]


@pytest.mark.parametrize(
    "cell",
    [
        "%fork n=2",
        "runs = %fork n=2",
        "%%fork\nlr: [1]",
        "if x:\n    %fork n=2",
        "%%time\n%fork n=2",
        "%fork \\\n  n=2",
        "from colab_magics import fork as f\nf(n=2)",
        "import colab_magics as cm\nboard = cm.fork(n=2)",
        "%fork n=2\nthis is no python",
    ],
)
def test_what_is_a_fork(cell: str) -> None:
    assert len(forks.find(notebook(cell))) == 1


@pytest.mark.parametrize(
    "cell",
    [
        "import os\nos.fork()",
        "repo.fork()",
        "fork(n=2)",
        "'''\n%fork n=2\n'''",
        "print('%fork n=2')",
        "# %fork n=2",
        "from colab_magics import fork\ndef later():\n    fork(n=2)",
        "%%bash\n%fork n=2",
        "%forks n=2",
    ],
)
def test_what_is_none(cell: str) -> None:
    assert forks.find(notebook(cell)) == []


def test_a_call_that_the_text_does_not_show_is_one_when_it_is_executed() -> None:
    content = notebook("from helpers import go", "go()", "work()")
    fork = forks.the(content, RunningCell("go()"))
    assert (fork.number, [cell.source for cell in fork.own]) == (1, ["work()"])


def test_each_fork_has_its_own_cells() -> None:
    content = notebook(
        "top", "a = 1\n%fork n=2\nb = 2", "one", "%join\nshow()", "between", "%fork n=3", "two", "%stop", "end"
    )
    assert executed(content, 1) == ["top", "a = 1\n%fork n=2\nb = 2", "one", "%join"]
    assert executed(content, 2) == ["top", "a = 1\n%fork n=2", "%join\nshow()", "between", "%fork n=3", "two", "%stop"]


def test_without_a_join_the_next_fork_ends_the_one_above() -> None:
    content = notebook("top", "%fork n=2", "one", "%fork n=3", "two")
    first, second = forks.find(content)
    assert [cell.source for cell in first.own] == ["one"]
    assert first.before_next is not None
    assert (first.before_next.number, second.before_next) == (4, None)
    assert executed(content, 2) == ["top", "%fork n=2", "%fork n=3", "two"]


def test_cells_between_the_end_of_runs_and_join_belong_to_nobody() -> None:
    content = notebook("%fork n=2", "one", "%stop", "nobody's", "%join", "end")
    (fork,) = forks.find(content)
    assert [cell.source for cell in fork.between] == ["one", "%stop", "nobody's"]
    assert executed(content, 1) == ["%fork n=2", "one", "%stop"]


def test_a_stop_of_the_main_notebook_alone_ends_no_run() -> None:
    content = notebook("%stop main", "%fork n=2", "%stop main", "one", "if x:\n    %stop", "two")
    assert executed(content, 1) == ["%stop main", "%fork n=2", "%stop main", "one", "if x:\n    %stop", "two"]


def test_numbers_are_those_that_a_notebook_shows() -> None:
    content = notebook("a", "", "  \n", "%fork n=2", "b")
    assert [cell.number for cell in executed_cells(content)] == [1, 2, 3]


def test_the_copy_keeps_all_cells_and_the_notebook_is_left_alone() -> None:
    content = notebook("top", "%fork n=2", "one", "%join", "end")
    made = forks.program(content, forks.find(content)[0]).content
    assert len(made["cells"]) == 5
    assert [SKIP in cell["metadata"].get("tags", []) for cell in made["cells"]] == [False] * 4 + [True]
    assert all("tags" not in cell["metadata"] for cell in content["cells"])  # type: ignore[attr-defined]


def test_another_notebook_with_two_forks_does_not_say_which() -> None:
    with pytest.raises(InvalidInput, match=r"train\.ipynb forks 2 times \(cells 1, 3\)"):
        forks.the(notebook("%fork n=2", "a", "%fork n=3", "b"), RunningCell(), named="train.ipynb")


def test_a_notebook_of_an_older_format_gets_ids() -> None:
    cell = {"cell_type": "code", "metadata": {}, "source": "%fork n=2"}
    made = forks.prepare({"cells": [cell, cell], "nbformat": 4, "nbformat_minor": 4})
    assert [one["id"] for one in made["cells"]] == ["cell-0", "cell-1"]
    assert made["nbformat_minor"] == 5
