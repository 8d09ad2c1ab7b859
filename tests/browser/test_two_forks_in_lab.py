"""The manual's notebook of two forks in a real JupyterLab: the second builds on the first, without %project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")
pytest.importorskip("playwright", reason="needs playwright: pip install 'colab-magics[browser]'")

if TYPE_CHECKING:
    from lab_in_chromium import Lab

pytest_plugins = ("lab_in_chromium",)
pytestmark = pytest.mark.browser

CELLS = [
    "%load_ext colab_magics\nfrom colab_magics import report",
    "def train(lr, epochs, seed=0):\n    for step in range(epochs):\n        report(loss=abs(lr - 0.01) / (step + 1))",
    "%%fork workers=2\nlr: [0.1, 0.01]",
    "train(lr, epochs=1)",
    "runs = %join",
    "lr = runs.best('loss').lr",
    "%fork n=2 workers=2",
    "train(lr, epochs=5, seed=i_sub_job)\nprint('with', lr, 'as', i_sub_job)",
    "runs = %join\nruns",
    "print(len(runs), [run.i_sub_job for run in runs], lr)",
]


def test_the_second_fork_builds_on_the_first(lab: Lab, tmp_path: Path) -> None:
    (lab.root / "forks").mkdir(exist_ok=True)
    lab.write("forks/two.ipynb", *CELLS)
    lab.open("forks/two.ipynb")
    lab.run_all()
    lab.page.screenshot(path=tmp_path / "forks.png", full_page=True)
    assert "error" not in lab.kinds(), lab.story()
    assert [number for number in range(len(CELLS)) if "» skipped" in lab.said(number)] == [3, 7]
    assert "2 [0, 1] 0.01" in lab.said(9)
    job = lab.root / "forks" / "data_job" / "two"  # the job is the notebook's
    texts = [(job / f"sub_job_00{i}" / "log.txt").read_text() for i in (2, 3)]
    assert "with 0.01 as 0" in texts[0]
    assert "with 0.01 as 1" in texts[1]
