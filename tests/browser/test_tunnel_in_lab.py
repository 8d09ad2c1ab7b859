"""``%tunnel lab`` said in a real JupyterLab: the address that it shows leads to another one, where a notebook runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import poll
from sshd import sshd

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")
pytest.importorskip("playwright", reason="needs playwright: pip install 'colab-magics[browser]'")

if TYPE_CHECKING:
    from lab_in_chromium import Lab

pytest_plugins = ("lab_in_chromium",)
pytestmark = [pytest.mark.browser, pytest.mark.long]


@pytest.mark.timeout(240)
def test_the_address_that_it_shows_leads_to_a_notebook_that_runs(lab: Lab, tmp_path: Path) -> None:
    with sshd(tmp_path, host="box") as server:
        lab.write(
            "main.ipynb",
            f"import os\nos.environ['COLAB_MAGICS_SSH_CONFIG'] = {str(server.config_file)!r}\n%load_ext colab_magics",
            "%tunnel lab via=ssh:box",
            "%tunnel lab",
            "%tunnel",
        )
        lab.open("main.ipynb")
        for number in range(4):
            lab.run_cell(number)
            poll(lambda: lab.cells()[number].get("execution_count"), timeout=120, what=lab.story())  # noqa: B023
        address = re.search(r"http://localhost:\d+/lab\?token=\w+", lab.said(1))
        assert address is not None, lab.story()
        assert address[0].partition("?")[0] in lab.said(2)
        assert "token=" not in lab.said(2)
        assert "of box" in lab.said(3)
        lab.page.screenshot(path=tmp_path / "line.png", full_page=True)
        far = lab.page.context.browser.new_page()
        # Both have one home, and so one workspace: a notebook of its own is opened, and not the one of this page.
        lab.write("other.ipynb", "")
        far.goto(address[0].replace("/lab?", "/lab/tree/other.ipynb?reset&"))
        far.wait_for_selector(".jp-Notebook .cm-content", timeout=90_000)
        far.get_by_text(re.compile(r"\| Idle")).first.wait_for(timeout=60_000)
        far.locator(".jp-Notebook .cm-content").first.click()
        far.wait_for_selector(".jp-Notebook.jp-mod-editMode .cm-focused")
        far.keyboard.type("import os; print(os.getcwd(), os.environ.get('COLAB_MAGICS_RUN'))")
        far.keyboard.press("Control+Enter")
        far.wait_for_selector(".jp-OutputArea-output", timeout=60_000)
        poll(lambda: f"{lab.root} None" in far.locator(".jp-OutputArea-output").first.inner_text(), timeout=60)
        far.screenshot(path=tmp_path / "runs.png", full_page=True)
