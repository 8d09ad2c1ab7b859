"""``%jobs`` as notebooks say it: in a shell of IPython, and as JupyterLab shows what it returns."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from IPython.utils.capture import capture_output

from colab_magics import session
from colab_magics.checkout.project import Project

from .folders import leave_run

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

pytest_plugins = ("shells",)


@pytest.fixture
def ip(shell: InteractiveShell, project: Project) -> InteractiveShell:
    shell.run_line_magic("load_ext", "colab_magics")
    session.current().project = project
    for index in range(3):
        leave_run(
            project.data_job,
            index,
            "failed" if index == 1 else "done",
            parameters={"lr": 10.0**-index},
            reports=[{"val_loss": 1 / (1 + step), "step": step} for step in range(9)],
        )
    return shell


def run(ip: InteractiveShell, line: str) -> tuple[Any, str]:
    with capture_output() as captured, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # traitlets of IPython 7 on Python 3.13
        result = ip.run_cell(line, store_history=False)
    result.raise_error()
    return result.result, captured.stdout


def test_lines_of_a_notebook(ip: InteractiveShell, project: Project) -> None:
    frame, _ = run(ip, "frame = %jobs table\nframe[frame.lr < 0.5]")
    assert frame["run"].tolist() == ["baseline/1", "baseline/2"]
    for line in ("%jobs failed", "%jobs list failed", "%jobs list 'baseline/1'", "%jobs 1;"):
        assert [one.index for one in run(ip, f"x = {line}\nx")[0].runs] == [1]
    text, _ = run(ip, "x = %jobs diff 0 2  # two runs\nx")
    assert "lr  1.0 → 0.01" in str(text)
    _, shown = run(ip, "%jobs rm failed older=1d")
    assert "To be removed: 1 folder" in shown
    assert (project.data_job / "sub_job_001").exists()
    run(ip, "%jobs rm failed older=1d --yes")
    assert not (project.data_job / "sub_job_001").exists()


def test_a_plot_is_kept_in_the_notebook_as_drawing_and_as_text(ip: InteractiveShell) -> None:
    pytest.importorskip("matplotlib")
    plot, _ = run(ip, "x = %jobs plot val_loss 0-1 by=matplotlib\nx")
    data, _ = ip.display_formatter.format(plot)
    assert set(data) == {"text/plain", "image/png"}
    assert "0.1111 at 8" in data["text/plain"]
    output = nbformat.v4.new_output("display_data", data)
    cell = nbformat.v4.new_code_cell("%jobs plot val_loss", outputs=[output])
    nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))


def test_words_with_a_slip(ip: InteractiveShell) -> None:
    for line, said in (
        ("%jobs plot vl_loss", "did you mean val_loss?"),
        ("%jobs faild", "did you mean failed?"),
        ("%jobs rm failed odler=3d", "did you mean older=?"),
        ("%jobs diff 0", "NEW is missing"),
    ):
        result = ip.run_cell(line, store_history=False)
        assert said in str(result.error_in_exec), line
