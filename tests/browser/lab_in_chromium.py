"""A real JupyterLab in a real Chromium: one server and one browser for the file, a fresh page for each test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import poll

from colab_magics import process

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "t0k"
CHROMIUM = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
]
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    # What a test types must stay unsaved until something saves it.
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}
READY = """async () => {
    const session = window.jupyterapp?.shell.currentWidget?.sessionContext;
    if (!session) return false;
    await session.ready;
    const kernel = session.session?.kernel;
    return !!kernel && kernel.connectionStatus === 'connected' && kernel.status === 'idle';
}"""


@dataclass
class Lab:
    """A running JupyterLab and the page that shows it."""

    url: str
    root: Path
    page: Any

    def write(self, name: str, *sources: str) -> None:
        """Write a notebook of these code cells; a source that starts with ``#md`` is Markdown."""
        cells: list[dict[str, Any]] = []
        for number, source in enumerate(sources):
            cell: dict[str, Any] = {"id": f"cell-{number}", "metadata": {}, "source": source.removeprefix("#md ")}
            code = {"cell_type": "code", "execution_count": None, "outputs": []}
            cells.append(cell | ({"cell_type": "markdown"} if source.startswith("#md ") else code))
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        (self.root / name).write_text(json.dumps(content))

    def open(self, name: str) -> None:
        """Open a notebook and wait until its kernel answers."""
        self.page.goto(f"{self.url}/lab/tree/{name}?token={TOKEN}&reset")
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        """Wait until the kernel answers."""
        poll(lambda: self.page.evaluate(READY), timeout=60, what="the kernel is connected and idle")

    def click(self, command: str) -> None:
        """Click a button of the notebook's toolbar."""
        self.page.locator(f'.jp-NotebookPanel-toolbar [data-command="{command}"]').click()

    def choose(self, menu: str, entry: str) -> None:
        """Choose an entry of a menu with the mouse."""
        self.page.locator(".lm-MenuBar-itemLabel", has_text=menu).click()
        self.page.locator(".lm-Menu-itemLabel", has_text=entry).first.click()

    def run_all(self) -> None:
        """Run All, as the menu does it; returns when the front end has nothing more to run."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")

    def start_run_all(self) -> None:
        """Run All, and return at once."""
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")

    def run_cell(self, index: int) -> None:
        """Run one cell, as a user who clicks it."""
        self.page.evaluate(
            """async (index) => {
                window.jupyterapp.shell.currentWidget.content.activeCellIndex = index;
                await window.jupyterapp.commands.execute('notebook:run-cell');
            }""",
            index,
        )

    def start_cell(self, index: int) -> None:
        """Run one cell, and return at once."""
        self.page.evaluate(
            """(index) => {
                window.jupyterapp.shell.currentWidget.content.activeCellIndex = index;
                window.jupyterapp.commands.execute('notebook:run-cell');
            }""",
            index,
        )

    def slow_down(self, times: int) -> None:
        """Let the page compute so many times slower; 1 is its own speed."""
        tools = self.page.context.new_cdp_session(self.page)
        tools.send("Emulation.setCPUThrottlingRate", {"rate": times})

    def type_into(self, index: int, text: str) -> None:
        """Type at the end of a cell with the keyboard; nothing is saved."""
        self.page.locator(".jp-Notebook .jp-Cell").nth(index).locator(".cm-content").click()
        self.page.keyboard.press("Control+End")
        self.page.keyboard.type(text)

    def rename(self, name: str) -> None:
        """Rename the open notebook, as the menu does it."""
        self.page.evaluate("(name) => window.jupyterapp.shell.currentWidget.context.rename(name)", name)

    def theme(self, name: str) -> None:
        """Change the theme: ``Light`` or ``Dark``."""
        self.page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", f"JupyterLab {name}"
        )
        poll(lambda: self.page.locator(f'body[data-jp-theme-name="JupyterLab {name}"]').count())

    def cells(self) -> list[dict[str, Any]]:
        """Return the cells as the front end holds them; long notebooks are not all in the page."""
        cells: list[dict[str, Any]] = self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells"
        )
        return cells

    def kinds(self) -> set[str]:
        """Return of which kinds the outputs of all cells are."""
        return {output["output_type"] for cell in self.cells() for output in cell.get("outputs", [])}

    def unsaved(self) -> bool:
        """Whether the open notebook has edits that are not in its file."""
        return bool(self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.model.dirty"))

    def story(self) -> str:
        """Return what all cells say, for the message of an assertion."""
        return "\n".join(f"[{number}] {self.said(number)}" for number in range(len(self.cells())))

    def said(self, index: int) -> str:
        """Return everything that a cell's outputs say."""
        parts: list[Any] = []
        for output in self.cells()[index].get("outputs", []):
            parts += [output.get("text"), output.get("ename"), output.get("evalue"), *output.get("traceback", [])]
            parts += [value for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
        return "\n".join("".join(part) for part in parts if part)


@pytest.fixture(scope="module")
def lab_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Start a JupyterLab with folders of its own; yields its address and the folder it shows."""
    top = tmp_path_factory.mktemp("lab")
    folders = {name: top / name for name in ("root", "home", "config", "data", "runtime", "ipython")}
    for folder in folders.values():
        folder.mkdir()
    (folders["config"] / "labconfig").mkdir()
    (folders["config"] / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(SETTINGS))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "JPY_", "XDG_"))}
    environment |= {
        "HOME": str(folders["home"]),
        "PYTHONPATH": str(ROOT),
        "JUPYTER_CONFIG_DIR": str(folders["config"]),
        "JUPYTER_DATA_DIR": str(folders["data"]),
        "JUPYTER_RUNTIME_DIR": str(folders["runtime"]),
        "IPYTHONDIR": str(folders["ipython"]),
    }
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folders['root']}"]
    command += ["--LabApp.expose_app_in_browser=True", "--ServerApp.terminals_enabled=False"]
    with open(top / "server.log", "wb") as log:
        server = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        info = poll(
            lambda: next((process.read_json(f) for f in folders["runtime"].glob("jpserver-*.json")), None),
            timeout=60,
            what=f"JupyterLab has started; its log is {top / 'server.log'}",
        )
        yield f"http://127.0.0.1:{info['port']}", folders["root"]
    finally:
        # Kernels, and what they left running in the background, live in this home.
        end_all_of(server, folders["home"])


def end_all_of(server: subprocess.Popen[bytes], home: Path) -> None:
    """End the server and every process that was started with its home."""
    import psutil

    process.end_tree(server.pid)
    server.wait(timeout=20)
    for candidate in psutil.process_iter():
        try:
            mine = candidate.environ().get("HOME") == str(home)
        except psutil.Error:
            continue
        if mine:
            process.end_tree(candidate.pid, grace=2.0)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Start a browser without a window."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def lab(lab_server: tuple[str, Path], chromium: Any) -> Iterator[Lab]:
    """Show JupyterLab on a fresh page; afterwards its kernels are shut down."""
    url, root = lab_server
    page = chromium.new_page(viewport={"width": 1200, "height": 1000})
    try:
        yield Lab(url, root, page)
    finally:
        page.close()
        for session in _api(url, "sessions"):
            _api(url, f"sessions/{session['id']}", method="DELETE")


def _api(url: str, path: str, method: str = "GET") -> Any:
    request = urllib.request.Request(f"{url}/api/{path}", method=method, headers={"Authorization": f"token {TOKEN}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        body = answer.read()
    return json.loads(body) if body else None
