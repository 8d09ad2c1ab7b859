"""What ``%jobs`` shows in a real JupyterLab: a link that opens the executed notebook, a chart that can be read."""

from __future__ import annotations

import time
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

LOOKS = """() => {
    const output = [...document.querySelectorAll('.jp-OutputArea-output')].find(e => e.querySelector('td'));
    const rows = [...output.querySelectorAll('tr')];
    const light = (color) => {
        const most = color.startsWith('color(') ? 1 : 255;
        const parts = color.match(/[0-9.]+/g).slice(0, 3).map(Number).map(
            v => (v /= most) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const behind = light(getComputedStyle(output.closest('.jp-Notebook')).backgroundColor);
    const contrast = (element) => {
        const own = light(getComputedStyle(element).color);
        return (Math.max(own, behind) + 0.05) / (Math.min(own, behind) + 0.05);
    };
    const around = output.querySelector('table').parentElement;
    return {
        rows: rows.length,
        highest: Math.max(...rows.map(row => row.getBoundingClientRect().height)),
        hidden: around.scrollWidth - around.clientWidth,
        contrast: Math.min(...[...output.querySelectorAll('td, td span, td a')].map(contrast)),
    };
}"""
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


def test_24_runs_and_4_metrics_are_one_line_each_and_can_be_read(lab: Lab, tmp_path: Path) -> None:
    root = lab.root / "many"
    project = Project(name="many", job="sweep", root=root, notebooks=root)
    root.mkdir()
    project.save()
    for index in range(24):
        reports = [
            {
                "loss": 1 / (index + step),
                "val_loss": 2 / (1 + step),
                "acc": step / 9,
                "grad_norm": 0.5**step,
                "step": step,
            }
            for step in range(1, 9)
        ]
        phase = "failed" if index in (3, 4) else "running" if index > 21 else "done"
        given = {"lr": 0.1 / (1 + index), "width": 64, "seed": index % 2}
        now = {"alive": True, "started": time.time() - 60} if phase == "running" else {}
        leave_run(project.data_job, index, phase, parameters=given, reports=reports, **now)  # type: ignore[arg-type]
    lab.write("many/main.ipynb", "%load_ext colab_magics", "%jobs")
    lab.page.set_viewport_size({"width": 1300, "height": 800})
    lab.open("many/main.ipynb")
    lab.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    lab.run_all()
    for theme in ("Light", "Dark"):
        lab.theme(theme)
        lab.page.screenshot(path=tmp_path / f"many-{theme}.png")
        looks = lab.page.evaluate(LOOKS)
        assert looks["rows"] <= 24
        assert looks["highest"] < 22, f"{theme}: rows of one line: {looks}"
        assert looks["contrast"] > 4.5, f"{theme}: {looks}"
        assert looks["hidden"] == 0, f"{theme}: no column is cut off: {looks}"
