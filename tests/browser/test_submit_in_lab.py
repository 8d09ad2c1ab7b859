"""Commands in a real JupyterLab: what they print is seen, the table shows them, a kernel that restarts ends none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import poll

from colab_magics.records.run import runs_of

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")
pytest.importorskip("playwright", reason="needs playwright: pip install 'colab-magics[browser]'")

if TYPE_CHECKING:
    from lab_in_chromium import Lab

pytest_plugins = ("lab_in_chromium",)
pytestmark = pytest.mark.browser


def test_commands_are_runs_beside_those_of_the_notebook(lab: Lab, tmp_path: Path) -> None:
    (lab.root / "submit").mkdir()
    lab.write(
        "submit/main.ipynb",
        "%load_ext colab_magics\n%project name=net root=. job=mine",
        "%%writefile train.py\nimport sys, time\nfor step in range(3):\n    print('lr', sys.argv[1], 'step', step)",
        "%submit --wait -- python train.py 0.1",
        "%%submit workers=2 -- python train.py {lr}\nlr: [0.5, 0.7]",
        '%submit --wait -- "echo no good; exit 4"',
        "%jobs",
    )
    lab.open("submit/main.ipynb")
    for cell in range(3):
        lab.run_cell(cell)
    assert "lr 0.1 step 2" in lab.said(2), lab.story()
    lab.run_cell(3)
    assert "python train.py 0.7" in lab.said(3), lab.story()
    lab.run_cell(4)
    assert "no good" in lab.said(4)
    assert "exit code 4" in lab.said(4)
    assert "Traceback" not in lab.said(4)
    job = lab.root / "submit" / "net" / "data_job" / "mine"
    poll(lambda: [run.status().phase for run in runs_of(job)] == ["done", "done", "done", "failed"])
    lab.run_cell(5)
    lab.page.screenshot(path=tmp_path / "commands.png", full_page=True)
    shown = lab.said(5)
    assert "python train.py 0.5" in shown
    assert "failed: exit code 4" in shown
