"""The kernel of another machine in a real JupyterLab: the launcher, cells, the stop button, restarts, errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from conftest import poll
from sshd import sshd

import colab_magics

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")
pytest.importorskip("playwright", reason="needs playwright: pip install 'colab-magics[browser]'")

if TYPE_CHECKING:
    from lab_in_chromium import Lab

pytest_plugins = ("lab_in_chromium",)
pytestmark = pytest.mark.browser

KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"


def write(lab: Lab, name: str, kernel: str, *sources: str) -> None:
    """Write a notebook of this kernel."""
    lab.write(name, *sources)
    file = lab.root / name
    content = json.loads(file.read_text())
    content["metadata"]["kernelspec"]["name"] = kernel
    file.write_text(json.dumps(content))


def test_a_notebook_whose_kernel_is_elsewhere(
    lab: Lab, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(lab.root.parent / "data"))
    with sshd(tmp_path, session_home=home) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        colab_magics.host.kernel("box", name="gpu1", env=sys.executable)
        lab.page.goto(f"{lab.url}/lab?token=t0k&reset")
        lab.page.locator(".jp-LauncherCard", has_text="gpu1 (colab_magics)").first.wait_for(timeout=60_000)
        lab.page.screenshot(path=tmp_path / "launcher.png")
        (lab.root / "net").mkdir()
        (lab.root / "net" / "helper.py").write_text("x = 41\n")
        write(
            lab,
            "net/t.ipynb",
            "gpu1",
            "import os, time, helper\nprint(os.getcwd(), os.getpid())\nhelper.x + 1",
            "print('in it', flush=True)\ntime.sleep(300)",
            "print('after')",
            "os.kill(os.getpid(), 9)",
        )
        lab.open("net/t.ipynb")
        lab.run_cell(0)
        assert "42" in lab.said(0), lab.story()
        folder, pid = lab.said(0).split()[:2]
        assert folder.startswith(str(home / "colab_magics"))
        assert folder.endswith("/net")
        lab.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        poll(lambda: "in it" in lab.said(1), timeout=60)
        lab.page.screenshot(path=tmp_path / "running.png")
        lab.page.locator('[data-command="notebook:interrupt-kernel"]').first.click()
        poll(lambda: "KeyboardInterrupt" in lab.said(1), what="the stop button reaches the cell there")
        lab.page.evaluate(f"async () => await {KERNEL}.restart()")
        lab.run_cell(0)
        again = poll(lambda: (said := lab.said(0).split()) and len(said) > 2 and said[1] != pid and said[1])
        assert not psutil.pid_exists(int(pid))
        lab.page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 3; }")
        lab.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-cell'); }")
        poll(lambda: "The kernel died (killed by SIGKILL)" in lab.said(3), what="the death is told", timeout=60)
        lab.page.get_by_text("appears to have died").first.wait_for(timeout=60_000)
        lab.page.screenshot(path=tmp_path / "died.png")
        lab.page.locator(".jp-Dialog button", has_text="Ok").click()
        # JupyterLab does not hear of its own restart's end, of a kernel of this machine neither: a user restarts it.
        poll(lambda: lab.page.evaluate(f"() => {KERNEL}.connectionStatus") == "connected", timeout=60)
        # While its own restart is on its way the server refuses: a user clicks again.
        poll(lambda: lab.page.evaluate(f"() => {KERNEL}.restart().then(() => true, () => false)"), timeout=60)
        lab.run_cell(0)
        poll(lambda: (said := lab.said(0).split()) and len(said) > 2 and said[1] not in (pid, again))
        write(lab, "net/u.ipynb", "gpu1", "1")
        server.config_file.with_name("user_key.pub").write_text("")
        for one in psutil.Process(server.process.pid).children(recursive=True):
            one.kill()
        lab.page.goto(f"{lab.url}/lab/tree/net/u.ipynb?token=t0k&reset")
        lab.page.get_by_text("box does not let us in").first.wait_for(timeout=60_000)
        lab.page.screenshot(path=tmp_path / "refused.png")
