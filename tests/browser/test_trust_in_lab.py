"""A checkout that wants to send outputs elsewhere, in a real JupyterLab: it is shown what it wants, and asked once."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import poll

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")
pytest.importorskip("playwright", reason="needs playwright: pip install 'colab-magics[browser]'")

if TYPE_CHECKING:
    from lab_in_chromium import Lab

pytest_plugins = ("lab_in_chromium",)
pytestmark = pytest.mark.browser


def test_what_a_checkout_sets_is_asked_for_in_the_notebook(lab: Lab, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    net = lab.root / "trust" / "net"
    net.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", net], check=True)
    (net / "pyproject.toml").write_text(
        f'[project]\nname = "net"\nversion = "1"\n\n[tool.colab_magics.project]\nto = "{place}"\nevery = "7s"\n'
    )
    lab.write("trust/net/main.ipynb", "%load_ext colab_magics\n%project", "%trust", "%project", "%sync stop")
    lab.open("trust/net/main.ipynb")
    lab.run_cell(0)
    assert "to" in lab.said(0)
    assert "%trust" in lab.said(0), lab.story()
    assert not place.exists()
    lab.page.screenshot(path=tmp_path / "before.png", full_page=True)

    lab.page.evaluate(
        """() => {
            window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1;
            window.jupyterapp.commands.execute('notebook:run-cell');
        }"""
    )
    box = lab.page.locator(".jp-Stdin-input")
    box.wait_for()
    lab.page.screenshot(path=tmp_path / "asked.png", full_page=True)
    assert str(place) in lab.said(1)
    box.fill("y")
    box.press("Enter")
    poll(lambda: "count from now on" in lab.said(1), what=lab.story())

    lab.run_cell(2)
    lab.page.screenshot(path=tmp_path / "after.png", full_page=True)
    assert str(place) in lab.said(2), lab.story()
    poll(place.exists)
    lab.run_cell(3)
