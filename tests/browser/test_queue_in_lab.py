"""A queue in a real JupyterLab: filled by a cell, eaten by two notebooks, looked at, requeued, edited meanwhile."""

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


def cells(job: str) -> list[str]:
    """A worker's notebook; what the table holds is added once."""
    return [
        f"%load_ext colab_magics\n%project name=net root=. job={job}",
        "%%queue ../runs.db\n- {run_name: small, lr: 0.1, remarks: try first}\n- {run_name: big, lr: 0.2}\n"
        "- {run_name: bad, lr: 0}\n- {run_name: idea, lr: 3, status: draft}",
        "%fork runs=../runs.db workers=2 max_failures=9",
        "from colab_magics import report\nfor step in range(5):\n    report(loss=1 / lr, step=step + 1, total=5)",
        "open(data_job + '/result.txt', 'w').write(str(lr))",
        "runs = %join\nruns",
        "%queue ../runs.db",
        "%queue requeue ../runs.db failed",
        "print(sorted(run.name for run in runs.runs))",
    ]


def test_two_notebooks_eat_from_one_table(lab: Lab, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (lab.root / "queue" / name).mkdir(parents=True)
        lab.write(f"queue/{name}/t.ipynb", *cells(name))
    lab.open("queue/one/t.ipynb")
    lab.run_all()
    lab.page.screenshot(path=tmp_path / "one.png", full_page=True)
    story = lab.story()
    assert "Traceback" not in story
    assert "3 added" in lab.said(1) or "4" in lab.said(1), story
    assert "Nothing uses the column remarks" in lab.said(2), story
    assert "2 done" in lab.said(2), story
    assert "ZeroDivisionError" in lab.said(2), story
    assert "» skipped" in lab.said(3)
    assert "here=0" not in lab.said(3)
    assert "draft" in lab.said(6), story
    assert "5 / 5" in lab.said(6), story
    assert "bad" in lab.said(7), story
    assert "['bad', 'big', 'small']" in lab.said(8), story
    lab.open("queue/two/t.ipynb")
    lab.run_all()
    lab.page.screenshot(path=tmp_path / "two.png", full_page=True)
    assert "there already" in lab.said(1), lab.story()
    assert "['bad']" in lab.said(8), "the one that was made ready again"
    assert "by other workers" in lab.said(2), lab.story()
