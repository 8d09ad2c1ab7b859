"""A job that is kept in a bucket, in a real JupyterLab: a sweep, and another machine that goes on with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bucket_folder import BucketFolder
from buckets_server import moto_server

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")
pytest.importorskip("playwright", reason="needs playwright: pip install 'colab-magics[browser]'")

if TYPE_CHECKING:
    from lab_in_chromium import Lab

pytest_plugins = ("lab_in_chromium",)
pytestmark = pytest.mark.browser


def test_a_sweep_goes_to_a_bucket_and_comes_back_on_another_machine(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "moto").mkdir()
    with moto_server(tmp_path / "moto") as moto:
        there = BucketFolder(moto, moto.make_bucket(f"bucket-{os.urandom(6).hex()}"), "net")
        keys = moto.environment()
        for machine in ("first", "second"):
            (lab.root / machine).mkdir()
            lab.write(
                f"{machine}/main.ipynb",
                f"import os\nos.environ.update({keys!r}, XDG_STATE_HOME=os.getcwd() + '/state')",
                f"%load_ext colab_magics\n%project name=net root=. job=sweep to={there}",
                "%sync every=1s",
                "%%fork workers=2\nlr: [0.1, 0.2, 0.3]",
                "from colab_magics import report\nreport(loss=lr * 2)\n"
                "open(data_job + '/model.pt', 'w').write(str(lr))",
                "runs = %join",
                "best = runs.best('loss')\nprint('best', best.lr, open(best.folder / 'model.pt').read())",
                "%sync wait",
                "%sync stop",
            )
            lab.open(f"{machine}/main.ipynb")
            lab.run_all()
            lab.page.screenshot(path=tmp_path / f"{machine}.png", full_page=True)
            assert "best 0.1 0.1" in lab.said(6), lab.story()
            assert "Traceback" not in lab.story()
            assert there.joinpath("data_job", "sweep", "sub_job_001", "model.pt").read_text() == "0.2"
            assert moto.secret not in lab.story().replace(lab.said(0), "")
        assert "3 kept" in lab.said(3), lab.story()
