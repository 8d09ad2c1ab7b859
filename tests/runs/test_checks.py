"""What cells do with parameters, seen before anything starts."""

from __future__ import annotations

import pytest

from colab_magics.errors import InvalidInput
from colab_magics.payloads import checks, forks
from colab_magics.payloads.forks import Fork
from colab_magics.ui import RunningCell


def the_fork(content: dict[str, object]) -> Fork:
    return forks.the(content, RunningCell())


def check_parameters(content: dict[str, object], names: list[str]) -> None:
    content = forks.prepare(content)
    mine = the_fork(content)
    checks.check_parameters(forks.program(content, mine).content, mine, names)


def notebook(*cells: str) -> dict[str, object]:
    return {
        "cells": [{"cell_type": "code", "metadata": {}, "source": text, "id": f"c{i}"} for i, text in enumerate(cells)]
    }


@pytest.mark.parametrize(
    "cell",
    [
        "train(lr)",
        "def step():\n    return lr",
        "print(f'{lr}')",
        "!python train.py --lr {lr}",
        "%run train.py $lr",
        "%%bash\npython train.py $lr",
        "globals()['lr']",
        "train(**{'rate': lr})",
    ],
)
def test_a_parameter_that_is_used(cell: str) -> None:
    check_parameters(notebook("lr = 0.1", "%%fork\nlr: [1, 2]", cell), ["lr"])


@pytest.mark.parametrize(
    "cell", ["train()", "x.lr = 3", "# lr", "train(lr=0.1)", "'lr of text'", "%%queue runs.db\nlr: [1, 2]"]
)
def test_a_parameter_that_no_cell_uses(cell: str) -> None:
    with pytest.raises(InvalidInput, match="No cell uses the parameter lr"):
        check_parameters(notebook("lr = 0.1", "%%fork\nlr: [1, 2]", cell), ["lr"])


@pytest.mark.parametrize(
    "cell",
    [
        "lr = 0.1",
        "lr: float = 0.1",
        "lr, name = 0.1, 'a'",
        "for lr in (1, 2): pass",
        "if True:\n    lr = 0.1",
        "a, (lr, b) = 1, (2, 3)",
        "import lr",
        "from x import y as lr",
        "with open('f') as lr: pass",
        "print(lr := 3)",
        "def lr(): pass",
        "def f():\n    global lr\n    lr = 1",
        "%%time\nlr = 3",
        "del lr",
        "try: pass\nexcept OSError as lr: pass",
    ],
)
def test_the_wrong_default_trap(cell: str) -> None:
    content = notebook("lr = 0.1", "%%fork\nlr: [1, 2]", "train(lr)", cell)
    with pytest.raises(InvalidInput, match="Cell 4, below %fork, assigns lr again"):
        check_parameters(content, ["lr"])


@pytest.mark.parametrize(
    "cell",
    [
        "def f(lr=1):\n    lr = 2",
        "[lr for lr in x]",
        "class A:\n    lr = 1",
        "f = lambda lr: lr",
        "x.lr = 1",
        "d['lr'] = 1",
    ],
)
def test_names_of_inner_scopes_are_their_own(cell: str) -> None:
    check_parameters(notebook("%%fork\nlr: [1, 2]", "train(lr)", cell), ["lr"])


@pytest.mark.parametrize(
    "cell", ["lr = float(lr)", "lr: float = float(lr)", "lr *= 2", "lr, n = convert(lr, n)", "f(lr := lr / 2)"]
)
def test_a_value_made_from_the_runs_own_is_no_trap(cell: str) -> None:
    check_parameters(notebook("lr = 0.1", "%%fork\nlr: [1, 2]", cell, "train(lr)"), ["lr"])


def test_below_the_line_in_its_own_cell_and_below_join() -> None:
    with pytest.raises(InvalidInput, match="Cell 1"):
        check_parameters(notebook("%fork n=2\nlr = 3", "train(lr)"), ["lr"])
    check_parameters(notebook("%%fork\nlr: [1, 2]", "train(lr)", "%join", "lr = 'summary'"), ["lr"])
