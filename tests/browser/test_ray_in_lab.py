"""Runs on a Ray cluster in a real JupyterLab: Run All forks there, while the notebook uses Ray by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ray_server import ray_server

pytest.importorskip("ray", reason="needs Ray: pip install 'colab-magics[ray]'")
pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")
pytest.importorskip("playwright", reason="needs playwright: pip install 'colab-magics[browser]'")

if TYPE_CHECKING:
    from lab_in_chromium import Lab

pytest_plugins = ("lab_in_chromium",)
pytestmark = [pytest.mark.browser, pytest.mark.long]


def test_a_sweep_of_a_notebook_that_uses_ray_itself(lab: Lab, tmp_path: Path) -> None:
    with ray_server() as server:
        (lab.root / "ray").mkdir()
        (lab.root / "ray" / "helper.py").write_text("def twice(x):\n    return 2 * x\n")
        lab.write(
            "ray/main.ipynb",
            f"import os\nos.environ.update({server.environment!r})",
            "%load_ext colab_magics\n%project name=net root=. job=sweep",
            "from colab_magics import report\nimport helper",
            "if globals().get('i_sub_job') is None:\n    import ray, logging\n"
            "    ray.init(log_to_driver=False, logging_level=logging.ERROR)\n    kept = ray.put(41)",
            "%%fork on=ray gpus=1\nlr: [0.1, 0.2, 0.3]",
            "report(loss=helper.twice(lr))\n"
            "open(data_job + '/model.pt', 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])\nprint('trained', lr)",
            "runs = %join",
            "best = runs.best('loss')\nprint('best', best.lr, open(best.folder / 'model.pt').read() in '01')\n"
            "print(ray.get(kept) + 1)",
            "%jobs",
        )
        lab.open("ray/main.ipynb")
        lab.run_all()
        lab.page.screenshot(path=tmp_path / "ray.png", full_page=True)
        assert "best 0.1 True" in lab.said(7), lab.story()
        assert "42" in lab.said(7), lab.story()
        assert "Traceback" not in lab.story()
        assert "3 done" in lab.said(8), lab.story()
