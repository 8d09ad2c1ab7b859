"""``%host lab`` said in a real JupyterLab: its page logs in to the one on the other machine, where a notebook runs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from boxes import boxes
from conftest import poll

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")
pytest.importorskip("playwright", reason="needs playwright: pip install 'colab-magics[browser]'")

if TYPE_CHECKING:
    from lab_in_chromium import Lab

pytest_plugins = ("lab_in_chromium",)
pytestmark = pytest.mark.browser

READY = "() => window.jupyterapp && window.jupyterapp.serviceManager && window.jupyterapp.serviceManager.isReady"


@pytest.mark.timeout(240)
def test_the_page_that_it_names_is_jupyterlab_there(lab: Lab, tmp_path: Path, home: Path) -> None:
    with boxes(tmp_path, home, ["alpha"]) as (box,):
        (lab.root / "far").mkdir()
        config = os.environ["COLAB_MAGICS_SSH_CONFIG"]
        lab.write(
            "far/main.ipynb",
            f"import os\nos.environ['COLAB_MAGICS_SSH_CONFIG'] = {config!r}",
            "%load_ext colab_magics\n%project name=net root=. job=base",
            "there = %host lab alpha\nthere",
            "%jobs --all",
            "%jobs kill lab-alpha --all",
        )
        lab.open("far/main.ipynb")
        for number in range(4):
            lab.run_cell(number)
            poll(lambda: lab.cells()[number].get("execution_count"), timeout=120, what=lab.story())  # noqa: B023
        poll(lambda: "lab-alpha/0" in lab.said(3), what=lab.story())
        # Tests that run at the same time have jobs on this machine, too.
        here = re.sub(r"On this machine, too:[^\n<]*", "", lab.said(3))
        assert "wait" not in here, "it runs, and nothing holds it up"
        told = lab.said(2)
        assert "JupyterLab is on alpha" in told
        lab.page.screenshot(path=tmp_path / "line.png", full_page=True)
        page = re.search(r"(/\S+open\.html)", told)
        assert page is not None, told
        far = lab.page.context.browser.new_page()
        far.goto(f"file://{page[1]}")
        far.wait_for_url(re.compile(r"http://127\.0\.0\.1:\d+/lab"), timeout=60_000)
        assert "token" not in far.url
        far.wait_for_selector(".jp-Launcher", timeout=90_000)
        far.screenshot(path=tmp_path / "there.png", full_page=True)
        code = "import os; print(os.getcwd(), os.environ['HOME'])"
        assert far.evaluate("() => window.jupyterapp !== undefined || document.title.includes('Jupyter')")
        far.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
        far.wait_for_selector(".jp-Notebook .cm-content", timeout=60_000)
        # What is executed before the kernel is connected is dropped, and letters mean other things outside of a cell.
        far.get_by_text(re.compile(r"\| Idle")).first.wait_for(timeout=60_000)
        far.locator(".jp-Notebook .cm-content").first.click()
        far.wait_for_selector(".jp-Notebook.jp-mod-editMode .cm-focused")
        far.keyboard.type(code)
        far.keyboard.press("Control+Enter")
        far.wait_for_selector(".jp-OutputArea-output", timeout=60_000)
        poll(lambda: str(box.home) in far.locator(".jp-OutputArea-output").first.inner_text(), timeout=60)
        far.screenshot(path=tmp_path / "runs.png", full_page=True)
        lab.run_cell(4)
        poll(lambda: lab.cells()[4].get("execution_count"), timeout=60, what=lab.story())
