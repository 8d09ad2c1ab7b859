"""The mouse on ■, on the button that restarts the kernel, and a reload of the page, while runs go on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import poll

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")
pytest.importorskip("playwright", reason="needs playwright: pip install 'colab-magics[browser]'")

if TYPE_CHECKING:
    from lab_in_chromium import Lab

pytest_plugins = ("lab_in_chromium",)
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

CELLS = (
    "%load_ext colab_magics\n%project name=net root=. job=wait",
    "%fork n=2 workers=2",
    "import os, time\nwhile not os.path.exists(f'{data_project}/go'):\n    time.sleep(0.05)\nprint('went', i_sub_job)",
    "%stop",
    "%jobs watch",
)


def test_runs_go_on_over_an_interrupt_a_restart_and_a_reload(lab: Lab, tmp_path: Path) -> None:
    folder = lab.root / "interrupts"
    folder.mkdir()
    lab.write("interrupts/t.ipynb", *CELLS)
    lab.open("interrupts/t.ipynb")
    lab.choose("Run", "Run All Cells")
    poll(lambda: "2 running" in lab.said(1), timeout=60, what=f"two runs run: {lab.story()}")

    lab.click("notebook:interrupt-kernel")
    poll(lambda: "Stopped watching (2 running)" in lab.said(1), what=f"■ ends the watching: {lab.story()}")
    lab.page.screenshot(path=tmp_path / "interrupted.png")
    assert "Traceback" not in lab.said(1)
    assert "error" not in lab.kinds(), "the end is no red box"
    assert lab.cells()[2]["outputs"] == []

    lab.click("notebook:restart-kernel")
    lab.page.locator(".jp-Dialog .jp-mod-accept").click()
    lab.wait_for_kernel()
    lab.run_cell(0)
    lab.start_cell(4)
    poll(lambda: "2 running" in lab.said(4), timeout=60, what=f"%jobs watch sees them: {lab.story()}")

    lab.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    lab.page.on("dialog", lambda dialog: dialog.accept())  # what came after the save would be lost
    lab.page.reload()
    output = lab.page.locator(".jp-OutputArea-output")
    poll(lambda: output.get_by_text("2 running").count(), what="the page shows what was saved")
    lab.page.screenshot(path=tmp_path / "reloaded.png")
    (folder / "net" / "data_project" / "go").touch()
    lab.wait_for_kernel()
    lab.run_cell(4)
    lab.page.screenshot(path=tmp_path / "ended.png")
    assert "2 done" in lab.said(4), lab.story()
    for index in range(2):
        assert f"went {index}" in (folder / f"net/data_job/wait/sub_job_00{index}/log.txt").read_text()
