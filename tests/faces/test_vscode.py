"""VS Code's way of sending: a cell when the one before has ended, and between them questions without history.

As its Jupyter extension does it: cells have ``stop_on_error`` false and the address of their document as ``cellId``,
the rest of Run All is cancelled after an error, nothing is saved, and the list of variables asks after each cell by
requests that are not silent, but have no history.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
import pytest
from conftest import poll
from fronts import Front, Reply, notebook

pytest_plugins = ("shells",)

VARIABLES = "print('variables', sorted(name for name in globals() if name == 'lr'))"
NAME = (
    "from colab_magics.faces import magics; nb = magics.ensure_session().ui.notebook(); "
    "print(repr((str(nb.path), nb.warning)))"
)
SWEEP = (
    "%load_ext colab_magics\n%project name=net root=. job=sweep",
    "lr = 0.1",
    "%%fork workers=2\nlr: [0.2, 0.3]",
    "open(data_job + '/result.txt', 'w').write(str(lr))",
    "runs = %join",
    "print(sorted(open(run.folder / 'result.txt').read() for run in runs.runs), lr)",
)


class VSCode:
    """A client that sends as VS Code does."""

    def __init__(self, front: Front, file: Path) -> None:
        self.front, self.file = front, file
        self.asked: list[Reply] = []
        self.ask(f"__vsc_ipynb_file__ = {str(file)!r}")

    def address(self, number: int) -> str:
        """Return the address of a cell's document."""
        scheme = base64.urlsafe_b64encode(b"file").decode().rstrip("=")
        return f"vscode-notebook-cell:{quote(str(self.file))}#W{number % 7}s{scheme}"

    def send(self, code: str, metadata: dict[str, Any], *, history: bool) -> Reply:
        """Send a request and wait for its end."""
        content = {"code": code, "silent": False, "store_history": history, "user_expressions": {}}
        content |= {"allow_stdin": True, "stop_on_error": False}
        message = self.front.client.session.msg("execute_request", content, metadata=metadata)
        self.front.client.shell_channel.send(message)
        return self.front.collect(message["header"]["msg_id"])[0]

    def ask(self, code: str) -> Reply:
        """Ask the kernel something that is no cell."""
        return self.send(code, {}, history=False)

    def run(self, code: str, number: int = 0) -> Reply:
        """Run a cell; then the variables are listed."""
        reply = self.send(code, {"cellId": self.address(number), "tags": []}, history=True)
        self.asked.append(self.ask(VARIABLES))
        return reply

    def run_all(self, cells: Sequence[str]) -> list[Reply]:
        """Run All: up to the first cell that fails."""
        replies: list[Reply] = []
        for number, code in enumerate(cells):
            replies.append(self.run(code, number))
            if replies[-1].status != "ok":
                break
        return replies


@pytest.fixture
def vscode(start_kernel: Callable[..., Front], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VSCode:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    file = tmp_path / "a ü#b.ipynb"
    nbformat.write(notebook("%load_ext colab_magics", NAME, "%stop", "print('by hand')"), file)
    return VSCode(start_kernel(), file)


def test_a_grid_and_join_go_through_run_all(vscode: VSCode, tmp_path: Path) -> None:
    nbformat.write(notebook(*SWEEP), vscode.file)
    replies = vscode.run_all(SWEEP)
    assert len(replies) == len(SWEEP), replies[-1]
    assert "2 done" in replies[2].updates[-1]["text/plain"]
    assert "» skipped" in replies[3].out
    assert "['0.2', '0.3'] 0.1" in replies[5].out
    assert [reply.out for reply in vscode.asked[1:]] == ["variables ['lr']\n"] * 5
    assert "as saved at" in replies[2].out  # VS Code saves nothing for us


def test_the_list_of_variables_is_answered_after_stop_and_the_next_cell_runs(vscode: VSCode) -> None:
    # ✗ Each answer was "not run: stopped above", and each question put off the moment from which cells run again.
    stopped = vscode.run_all(["%load_ext colab_magics\nlr = 1", "%stop enough", "print('never')"])
    assert [reply.status for reply in stopped] == ["ok", "error"]
    assert stopped[1].data[-1]["text/plain"] == "■ enough"
    assert vscode.asked[-1].out == "variables ['lr']\n"

    def asked_until_it_runs() -> bool:
        assert vscode.ask(VARIABLES).out == "variables ['lr']\n"
        return vscode.run("print('by hand')", 3).out == "by hand\n"

    assert poll(asked_until_it_runs, timeout=20)


def test_the_notebook_is_the_one_whose_cell_runs_also_after_save_as(vscode: VSCode) -> None:
    # ✗ The variable that VS Code sets when the kernel starts still holds the first name.
    assert eval(vscode.run(NAME, 1).out)[0] == str(vscode.file)
    other = vscode.file.with_name("saved as.ipynb")
    nbformat.write(nbformat.read(vscode.file, as_version=4), other)
    vscode.file = other
    path, warning = eval(vscode.run(NAME, 1).out)
    assert path == str(other)
    assert "saved as.ipynb as saved at" in warning
    assert "edits that are not saved are missing" in eval(vscode.run(NAME + "  # edited", 1).out)[1]


def test_where_this_is_is_known_without_the_variable(vscode: VSCode) -> None:
    # An untitled notebook that was saved later: the variable was never set.
    vscode.run("del __vsc_ipynb_file__")
    said = vscode.run("from colab_magics.faces.front_end import where; print(where(get_ipython()))", 0)
    assert said.out == "vscode\n"
