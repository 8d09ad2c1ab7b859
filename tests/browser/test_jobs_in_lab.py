"""What ``%jobs`` shows in a real JupyterLab: a link that opens the executed notebook, a chart that can be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import poll
from runs.folders import leave_run

from colab_magics.checkout.project import Project

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")
pytest.importorskip("playwright", reason="needs playwright: pip install 'colab-magics[browser]'")

if TYPE_CHECKING:
    from lab_in_chromium import Lab

pytest_plugins = ("lab_in_chromium",)
pytestmark = pytest.mark.browser

CURRENT = "() => window.jupyterapp.shell.currentWidget.context?.path"


def test_open_and_plot(lab: Lab, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    root = lab.root / "net"
    project = Project(name="net", job="a b%20'é", root=root, notebooks=root)
    root.mkdir()
    project.save()
    for index in range(12):
        leave_run(
            project.data_job,
            index,
            "failed" if index == 3 else "done",
            parameters={"lr": 10.0**-index, "note": "<img src=x>"},
            reports=[{"loss": (2 + index) / (1 + step), "step": step} for step in range(100)],
            cells=(f"'this is run {index}'",),
        )
    (lab.root / "deep").mkdir()
    lab.write("deep/main.ipynb", "%load_ext colab_magics\n%cd -q ../net", "%jobs open 3", "%jobs plot loss", "%jobs")
    lab.open("deep/main.ipynb")
    lab.run_all()
    for theme in ("Light", "Dark"):
        lab.theme(theme)
        plot = lab.page.locator(".jp-OutputArea-output img")
        plot.scroll_into_view_if_needed()
        assert plot.evaluate("(e) => e.complete && e.naturalWidth > 400")
        assert lab.page.locator(".jp-OutputArea-output td img").count() == 0
        lab.page.screenshot(path=tmp_path / f"jobs-{theme}.png", full_page=True)
    link = lab.page.locator(".jp-OutputArea-output a", has_text="notebook.ipynb")
    link.click()
    wanted = f"net/data_job/{project.job}/sub_job_003/notebook.ipynb"
    poll(lambda: lab.page.evaluate(CURRENT) == wanted, what=f"{lab.page.evaluate(CURRENT)} is {wanted}")
    assert lab.page.url.startswith(lab.url)
