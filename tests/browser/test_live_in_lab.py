"""``%fork start=live`` in a real JupyterLab: runs begin with what the notebook has loaded, the notebook goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")
pytest.importorskip("playwright", reason="needs playwright: pip install 'colab-magics[browser]'")

if TYPE_CHECKING:
    from lab_in_chromium import Lab

pytest_plugins = ("lab_in_chromium",)
pytestmark = pytest.mark.browser

CELLS = [
    "%load_ext colab_magics\n%project name=net root=. job=live",
    "import os\nstate = {'loaded by': os.getpid()}\nrate = 0.1",
    "%%fork start=live workers=2\nrate: [0.2, 0.3, 0.4]",
    "assert state['loaded by'] != os.getpid()\nopen(data_job + '/result.txt', 'w').write(f'{rate} {state}')",
    "runs = %join\nruns",
    "print(sorted(open(run.folder / 'result.txt').read().split()[0] for run in runs.runs), rate)",
]


def test_run_all_forks_this_very_notebook(lab: Lab, tmp_path: Path) -> None:
    (lab.root / "live").mkdir(exist_ok=True)
    lab.write("live/t.ipynb", *CELLS)
    lab.open("live/t.ipynb")
    lab.run_all()
    lab.page.screenshot(path=tmp_path / "live.png", full_page=True)
    assert "3 done" in lab.said(2), lab.story()
    assert "» skipped" in lab.said(3)
    assert "['0.2', '0.3', '0.4'] 0.1" in lab.said(5)
    first = lab.root / "live" / "net" / "data_job" / "live" / "sub_job_000"
    executed = nbformat.read(first / "notebook.ipynb", as_version=4)
    assert any("**Forked** from the running `t.ipynb` at cell 3" in cell.source for cell in executed.cells)
    assert not any("loaded by':" in cell.source for cell in executed.cells)  # the cells above did not run again
    # The kernel's ports were let go of: it can be restarted, and forks again.
    lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    lab.run_all()
    assert "3 kept" in lab.said(2), lab.story()
    assert "['0.2', '0.3', '0.4'] 0.1" in lab.said(5)
