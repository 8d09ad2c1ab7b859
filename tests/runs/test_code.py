"""What of a notebook's code makes a finished run another one."""

from __future__ import annotations

import pytest

from colab_magics.payloads import forks
from colab_magics.payloads.code import cell_hashes as hashes_of
from colab_magics.payloads.code import changed_cells, normal_form
from colab_magics.ui import RunningCell


def cell_hashes(content: dict[str, object]) -> dict[str, str]:
    """Hash what the runs of a notebook's one fork execute."""
    content = forks.prepare(content)
    return hashes_of(forks.program(content, forks.the(content, RunningCell())).content)


def notebook(*cells: str) -> dict[str, object]:
    return {"cells": [{"cell_type": "code", "metadata": {}, "source": text} for text in cells]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1", "x  =  1  # a comment"),
        ("f(a,\n  b)", "f(a, b)"),
        ("%fork n=5\ntrain()", "%fork n=9 workers=2\ntrain()"),
        ("%sync every=5m", "%sync every=1m"),
        ("if x:\n    %stop now", "if x:\n    %stop later"),
        ("%%fork\nlr: [1, 2]", "%%fork\nlr: [1, 2, 3]"),
        ("# really?\nx = 1", "x = 1"),
    ],
)
def test_layout_comments_and_our_verbs_do_not_count(before: str, after: str) -> None:
    assert normal_form(before) == normal_form(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = 1.0"),
        ("!pip install a", "!pip install b"),
        ("%%bash\nls", "%%bash\nls -l"),
        ("files = !ls", "files = !ls -l"),
        ("%matplotlib inline", "%matplotlib widget"),
        ("x = '%fork n=1'", "x = '%fork n=2'"),
    ],
)
def test_what_a_cell_does_counts(before: str, after: str) -> None:
    assert normal_form(before) != normal_form(after)


def test_cells_below_the_end_of_a_run_do_not_count() -> None:
    one = cell_hashes(notebook("a", "%fork n=2", "b", "%join", "plot()"))
    two = cell_hashes(notebook("a", "%fork n=2", "b", "%join", "plot(color=1)"))
    assert one == two
    assert changed_cells(one, cell_hashes(notebook("a", "%fork n=2", "c", "%join"))) == ["3"]


def test_stop_main_ends_no_run() -> None:
    assert cell_hashes(notebook("%stop main", "b")) != cell_hashes(notebook("%stop main", "c"))


def test_moved_in_and_removed_cells_are_seen() -> None:
    old = cell_hashes(notebook("a", "b"))
    assert changed_cells(old, cell_hashes(notebook("a", "new", "b"))) == ["2"]
    assert changed_cells(old, cell_hashes(notebook("a"))) == ["removed"]
    assert changed_cells(old, cell_hashes(notebook("a", "# only a comment", "b"))) == []
