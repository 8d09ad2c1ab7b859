"""A grid and %join in a real JupyterLab: the runs' cells are skipped, the cells below %join see the results."""

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
    "%load_ext colab_magics\n%project name=net root=. job=sweep",
    "lr, model = 0.1, 'none'",
    "%%fork workers=2\nlr: [0.1, 0.2]\nmodel: [a, b]",
    "from colab_magics import report\nfor step in range(20):\n    report(loss=1 / (1 + lr * step), step=step)",
    "open(data_job + '/result.txt', 'w').write(f'{model} {lr}')",
    "runs = %join\nruns",
    "print([open(run.folder / 'result.txt').read() for run in runs.runs])",
    "%jobs plot loss",
]


def test_run_all_skips_to_join_and_goes_on(lab: Lab, tmp_path: Path) -> None:
    (lab.root / "join").mkdir(exist_ok=True)
    lab.write("join/t.ipynb", *CELLS)
    lab.open("join/t.ipynb")
    lab.run_all()
    lab.page.screenshot(path=tmp_path / "join.png", full_page=True)
    assert "» skipped" in lab.said(3)
    assert "» skipped" in lab.said(4)
    assert "sweep/3" in lab.said(2)
    assert lab.said(2).count("4 done") == 2  # text and HTML of the one live table
    assert "4 done" in lab.said(5)
    assert "['a 0.1', 'b 0.1', 'a 0.2', 'b 0.2']" in lab.said(6)
    assert "error" not in lab.kinds(), lab.story()
    # Again: all is kept, and the notebook goes through to its end in the same way.
    lab.run_all()
    assert "4 kept" in lab.said(2)
    assert "['a 0.1', 'b 0.1', 'a 0.2', 'b 0.2']" in lab.said(6)
