"""Runs on other machines in a real JupyterLab: Run All forks there, the table says where, ``%join`` has the results."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from boxes import boxes

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")
pytest.importorskip("playwright", reason="needs playwright: pip install 'colab-magics[browser]'")

if TYPE_CHECKING:
    from lab_in_chromium import Lab

pytest_plugins = ("lab_in_chromium",)
pytestmark = pytest.mark.browser


def test_a_sweep_over_two_machines(lab: Lab, tmp_path: Path, home: Path) -> None:
    with boxes(tmp_path, home):
        (lab.root / "ssh").mkdir()
        config = os.environ["COLAB_MAGICS_SSH_CONFIG"]
        lab.write(
            "ssh/main.ipynb",
            f"import os\nos.environ['COLAB_MAGICS_SSH_CONFIG'] = {config!r}",
            "%load_ext colab_magics\n%project name=net root=. job=sweep",
            "import time\nfrom colab_magics import report",
            "%%fork on=ssh:alpha,beta workers=2\nlr: [0.1, 0.2, 0.3, 0.4]",
            "report(loss=lr * 2)\ntime.sleep(1)\n"
            "open(data_job + '/model.pt', 'w').write(str(lr))\nprint('trained', lr)",
            "runs = %join",
            "best = runs.best('loss')\nprint('best', best.lr, open(best.folder / 'model.pt').read())",
            "%jobs",
        )
        lab.open("ssh/main.ipynb")
        lab.run_all()
        lab.page.screenshot(path=tmp_path / "ssh.png", full_page=True)
        assert "best 0.1 0.1" in lab.said(6), lab.story()
        assert "Traceback" not in lab.story()
        assert "4 done" in lab.said(7), lab.story()
