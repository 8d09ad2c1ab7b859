"""What google.colab asks in a run, with real kernels and a stand-in for the package that speaks as Google's does."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from fronts import ROOT, Front
from kernels.executing import run_cells
from runs.notebooks import write_notebook

from colab_magics.colab import asked
from colab_magics.records.run import Run

pytest_plugins = ("shells",)

PACKAGE = ROOT / "tests" / "tools" / "colab_package"
ASKS = (
    "%load_ext google.colab\n"
    "from google.colab import drive, userdata, files, output, auth\n"
    "import time; began = time.monotonic()",
    "drive.mount('{drive}')",
    "print(userdata.get('TOKEN'))",
    "!echo by a program",
    "output.eval_js('1', ignore_result=True)",
    "print('asked for', time.monotonic() - began < 5)",
)
QUESTIONS = "GetSecret", "request_auth", "colab_request"


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let kernels import the stand-in, with a Drive and a secret."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{PACKAGE}")
    monkeypatch.setenv("TOKEN", "s3cret")
    (tmp_path / "drive" / "My Drive").mkdir(parents=True)


@pytest.mark.parametrize("start", ["cold", "warm", "live"])
def test_a_run_asks_nobody_and_waits_for_nothing(
    start_kernel: Callable[..., Front], tmp_path: Path, start: str
) -> None:
    cells = [cell.format(drive=tmp_path / "drive") for cell in ASKS]
    setup, line = "%load_ext colab_magics\n%project name=net root=. job=base", f"%fork n=1 start={start}"
    write_notebook(tmp_path / "main.ipynb", setup, line, *cells)
    front = start_kernel(COLAB_MAGICS_NOTEBOOK=str(tmp_path / "main.ipynb"), PYTHONPATH=f"{ROOT}{os.pathsep}{PACKAGE}")
    front.run(setup)
    front.run(line)
    run = Run.load(tmp_path / "net" / "data_job" / "base" / "sub_job_000")
    log = run.log.read_text()
    assert run.status().phase == "done", log
    said = [text for text in log.splitlines() if not text.startswith(("──", "══", "run "))]
    # Below them ipykernel 6 may complain of its own end, where it sees that these are tests.
    assert said[:4] == [f"Drive already mounted at {tmp_path / 'drive'}", "s3cret", "by a program", "asked for True"]
    assert not any(word in log or word in str(nbformat.read(run.notebook, 4)) for word in QUESTIONS)


def test_warm_runs_begin_with_what_the_systems_configuration_loads(
    start_kernel: Callable[..., Front], tmp_path: Path
) -> None:
    profile = Path(os.environ["IPYTHONDIR"]) / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text("get_config().InteractiveShellApp.extensions = ['google.colab']\n")
    front = start_kernel(PYTHONPATH=f"{ROOT}{os.pathsep}{PACKAGE}")
    known = front.run("from colab_magics.kernels import preload\nprint(*preload.kernel_here())").out.split()
    assert {"google.colab", "google.colab._message", "IPython", "ipykernel.kernelapp"} <= set(known)
    assert not [name for name in known if name.startswith("colab_magics") or name == "google"]


@pytest.mark.parametrize(
    ("cell", "word"),
    [
        ("userdata.get('OTHER')", "secrets=OTHER"),
        ("files.upload()", "data_project"),
        ("output.eval_js('1')", "no page of Colab"),
        ("auth.authenticate_user()", r"no page of Colab that could answer \(auth\)"),
        ("drive.mount('{}/gdrive')", "not mounted at .*gdrive"),
        ("drive.mount('{}/drive', force_remount=True)", "would lose theirs"),
        ("drive.mount('{}/drive', True)", "would lose theirs"),
    ],
)
def test_what_cannot_be_answered_fails_at_once_in_one_sentence(tmp_path: Path, cell: str, word: str) -> None:
    done = run_cells(tmp_path, ASKS[0] + "\n" + cell.format(tmp_path))
    error: Any = done.outcome.error
    assert error["ename"] == "MessageError"
    assert "\n" not in error["evalue"]
    assert re.search(word, error["evalue"]), error["evalue"]


def request(kind: str, **body: str) -> dict[str, Any]:
    return {"metadata": {"colab_request_type": kind, "colab_msg_id": 7}, "content": {"request": body}}


class TestDrive:
    """`drive.mount` does not say where it mounts: the cell does, as far as it can."""

    ASKED = request("request_auth", authType="dfs_ephemeral")

    def says(self, source: str) -> bool:
        return "data" in (asked.answer(self.ASKED, source) or {})

    def test_of_the_cell_its_calls_count(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLAB_MAGICS_MOUNTS", str(tmp_path / "mounts"))
        point = tmp_path / "drive"
        assert self.says(f"%%time\n# drive.mount('/elsewhere')\ndrive.mount(mountpoint='{point}', readonly=True)")
        assert self.says(f"drive.mount('{point}', force_remount=False)")
        assert not self.says(f"drive.mount('{point}', force_remount=again)")
        assert not self.says("drive.mount('/elsewhere')")

    def test_else_the_table_of_mounts_does(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLAB_MAGICS_MOUNTS", str(tmp_path / "mounts"))
        assert not self.says("set_up()")
        (tmp_path / "mounts").write_text(f"/dev/sda / ext4 rw 0 0\ndrive {tmp_path}/drive fuse.drive rw 0 0\n")
        assert self.says("set_up()")
        assert self.says("drive.mount(WHERE)")
        (tmp_path / "drive" / "My Drive").rmdir()
        assert not self.says("drive.mount(WHERE)")


def test_who_expects_no_reply_gets_none() -> None:
    silent = {"metadata": {"colab_request_type": "cell_display_stdin"}, "content": {"request": {}}}
    assert asked.answer(silent, "") is None
    assert asked.answer(request("register_snippets"), "") == {"type": "colab_reply", "colab_msg_id": 7, "data": None}
    assert asked.answer({"metadata": {"colab_msg_id": 1}, "content": {}}, "") is not None
