"""``%runtime``, ``%runtime end`` and ``%fork --end-runtime``, on Colab and elsewhere."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from conftest import poll
from fake_gpus import FakeGpus, gpus
from fronts import notebook

from colab_magics import fork, jobs, project, runtime, session, submit
from colab_magics.checkout.project import Project
from colab_magics.errors import Busy, ColabMagicsError, InvalidInput, RunsFailed, Unavailable
from colab_magics.faces.front_end import where
from colab_magics.mirror import control
from colab_magics.ui import Notebook, RunningCell, Table, TerminalUI

from .conftest import ColabUI, Page

__all__ = ["gpus"]  # a fixture


@pytest.fixture
def made(page: Page) -> Project:
    """Return a project that is kept on Drive, in a notebook on Colab."""
    handle = project(name="net", job="a", every="1s")
    page.asked.clear()
    return handle


def kept(page: Page, name: str) -> Path:
    return page.cloud / "MyDrive" / "colab_data" / "net" / "data_job" / "a" / name


def rows(table: Table) -> dict[str, str]:
    return {str(row[0]): str(row[1]) for row in table.rows}


# B16
class TestB16Where:
    @pytest.mark.parametrize(
        ("face", "environ", "name"),
        [
            ("script", {}, "a shell or a script"),
            ("terminal", {}, "IPython in a terminal"),
            ("jupyter", {}, "Jupyter"),
            ("vscode", {}, "VS Code"),
            ("colab", {"COLAB_RELEASE_TAG": "r1"}, "a notebook on Google Colab, r1"),
            ("colab-other", {"COLAB_RELEASE_TAG": "r1"}, "Google Colab through another front end than its page, r1"),
            ("colab-enterprise", {"VERTEX_PRODUCT": "COLAB_ENTERPRISE"}, "Colab Enterprise"),
            ("script", {"COLAB_RELEASE_TAG": "r1"}, "a shell or a script, on a runtime of Google Colab, r1"),
        ],
    )
    def test_it_says_where_this_is(
        self, face: str, environ: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("COLAB_MAGICS_CONTENT", str(tmp_path))
        for variable, value in environ.items():
            monkeypatch.setenv(variable, value)
        session.activate(session.Session(ui=TerminalUI(where=face)))
        assert rows(runtime())["this is"] == name

    def test_a_run_says_so(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        run = project.data_job / "sub_job_003"
        run.mkdir(parents=True)
        monkeypatch.setenv("COLAB_MAGICS_RUN", str(run))
        assert rows(runtime())["this is"] == "the run baseline/3"

    @pytest.mark.parametrize(
        ("shell", "names", "environ", "face"),
        [
            ("google.colab._shell", {}, {"COLAB_RELEASE_TAG": "r1"}, "colab"),
            ("google.colab._shell", {"__vsc_ipynb_file__": "a.ipynb"}, {"COLAB_RELEASE_TAG": "r1"}, "colab-other"),
            ("ipykernel.zmqshell", {}, {"COLAB_RELEASE_TAG": "r1"}, "colab-other"),
            ("google.colab._shell", {}, {"COLAB_RELEASE_TAG": "r1", "VERTEX_PRODUCT": "COLAB_ENTERPRISE"},
             "colab-enterprise"),
            ("ipykernel.zmqshell", {"__vsc_ipynb_file__": "a.ipynb"}, {}, "vscode"),
            ("ipykernel.zmqshell", {}, {}, "jupyter"),
        ],
    )  # fmt: skip
    def test_front_ends_are_told_apart(
        self, shell: str, names: dict[str, str], environ: dict[str, str], face: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for variable, value in environ.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.delenv("VSCODE_PID", raising=False)
        kind = type("Shell", (SimpleNamespace,), {"__module__": shell})
        assert where(kind(kernel=SimpleNamespace(get_parent=lambda channel: {}), user_ns=names)) == face

    def test_enterprise_has_neither_drive_nor_an_end(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VERTEX_PRODUCT", "COLAB_ENTERPRISE")
        session.activate(session.Session(ui=ColabUI(where="colab-enterprise")))
        with pytest.raises(Unavailable, match="Enterprise keeps"):
            runtime.end()
        assert page.asked == []


def test_the_table_tells_what_the_machine_has(gpus: FakeGpus, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    gpus.say(2, free=[1000, 15000], percent=[97, 0])
    found = rows(runtime())
    assert set(found) == {"this is", "GPU 0", "GPU 1", "memory", "disk", "processors", "up"}
    assert "1.0 GB free of" in found["GPU 0"]
    assert "97 % busy" in found["GPU 0"]
    assert " free of " in found["memory"]
    assert str(Path.cwd()) in found["disk"]
    assert ", since " in found["up"]
    gpus.say(0)
    assert rows(runtime.status())["GPU"] == "none"


# B17
class TestB17End:
    def test_everything_is_on_drive_before_it_ends(self, page: Page, ui: ColabUI, made: Project) -> None:
        (made.data_job / "last.txt").write_text("last")
        runtime.end(timeout="5m")
        assert page.asked == ["flush 300000", "unassign"]
        assert kept(page, "last.txt").read_text() == "last"
        assert not control.running()
        assert "handed over" in ui.out.getvalue()

    @pytest.mark.parametrize("trouble", ["drive", "sync"])
    def test_it_is_kept_when_not_all_is_handed_over(self, page: Page, made: Project, trouble: str) -> None:
        if trouble == "drive":
            page.flush_error = ValueError("timed out")
        else:
            page.unmount()
            (made.data_job / "late.txt").write_text("late")
        with pytest.raises(ColabMagicsError, match="The runtime is kept: ") as failed:
            runtime.end(force=True, timeout="20s")
        assert "unassign" not in page.asked
        assert failed.value.mend
        if trouble == "drive":
            page.flush_error = None
            runtime.end()  # what was handed over once need not be again
            assert page.asked[-1] == "unassign"

    def test_a_file_that_is_open_keeps_it(self, page: Page, made: Project) -> None:
        with (made.data_job / "model.pt").open("wb", buffering=0) as stream:
            stream.write(b"half")
            with pytest.raises(ColabMagicsError, match=r"(?s)runtime is kept: .*Open for writing.*model\.pt"):
                runtime.end()
            assert "unassign" not in page.asked

    def test_while_runs_live_it_is_kept_and_names_them(self, page: Page, ui: ColabUI, made: Project) -> None:
        submit("sleep", "600")
        poll(lambda: [run for run in jobs().runs if run.status().phase == "running"])
        with pytest.raises(Busy, match=r"a run has not ended: a/0") as busy:
            runtime.end()
        assert "--force" in busy.value.mend
        assert page.asked == []
        assert control.running(made.data_job), "nothing was ended"
        runtime.end(force=True)
        assert [run.status().phase for run in jobs().runs] == ["killed"]
        assert page.asked[-1] == "unassign"
        assert '"killed"' in kept(page, "sub_job_000/verdict.json").read_text()

    def test_outputs_that_nobody_keeps_keep_it(self, page: Page) -> None:
        made = project(name="net", job="a", to="none")
        made.data_job.mkdir(parents=True, exist_ok=True)
        runtime.end()
        assert page.asked == ["unassign"], "there is nothing to be lost"
        (made.data_job / "result.txt").write_text("1")
        with pytest.raises(InvalidInput, match="No sync keeps the outputs of a"):
            runtime.end()
        runtime.end(force=True)
        assert page.asked == ["unassign"] * 2

    def test_what_came_after_the_sync_was_stopped_keeps_it(self, page: Page, made: Project) -> None:
        (made.data_job / "old.txt").write_text("1")
        control.running(made.data_job)[0].stop()
        (made.data_job / "new.txt").write_text("1")
        os.utime(made.data_job / "new.txt", (time.time() + 60, time.time() + 60))
        with pytest.raises(InvalidInput, match="No sync keeps the outputs of a"):
            runtime.end()
        (made.data_job / "new.txt").unlink()
        runtime.end()
        assert page.asked[-1] == "unassign"

    def test_colab_that_does_not_end_it_is_one_clear_error(
        self, page: Page, made: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused() -> None:
            raise ConnectionRefusedError("no service")

        monkeypatch.setattr(sys.modules["google.colab.runtime"], "unassign", refused)
        with pytest.raises(Unavailable, match="did not end the runtime: no service"):
            runtime.end()

    def test_elsewhere_there_is_none_to_end(self, project: Project) -> None:
        with pytest.raises(Unavailable, match="no runtime of Google Colab"):
            runtime.end()

    def test_a_run_ends_no_runtime(self, page: Page, made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLAB_MAGICS_RUN", str(made.data_job / "sub_job_000"))
        with pytest.raises(Unavailable, match="Only the notebook itself"):
            runtime.end()


class TestForkThatEndsTheRuntime:
    @pytest.fixture
    def train(self, made: Project) -> Path:
        file = made.root / "train.ipynb"
        made.root.mkdir(exist_ok=True)
        nbformat.write(notebook("%load_ext colab_magics", "%fork n=1", "print(1 / (1 - i_sub_job))"), file)
        return file

    def test_after_runs_that_ended_well(self, page: Page, made: Project, train: Path) -> None:
        fork(n=1, notebook=str(train), end_runtime=True)
        assert page.asked[-1] == "unassign"
        assert '"done"' in kept(page, "sub_job_000/state.json").read_text()

    def test_a_failure_keeps_it(self, page: Page, made: Project, train: Path) -> None:
        with pytest.raises(RunsFailed):
            fork(n=2, notebook=str(train), end_runtime=True)
        assert page.asked == []

    @pytest.mark.parametrize(
        ("options", "says"),
        [({"detach": True}, "waited for its runs"), ({"here": 0}, "waited"), ({"then": "continue"}, "goes on below")],
    )
    def test_what_cannot_be_is_said_before_anything_starts(
        self, page: Page, made: Project, train: Path, options: Any, says: str
    ) -> None:
        with pytest.raises(InvalidInput, match=says):
            fork(n=1, notebook=str(train), end_runtime=True, **options)
        assert not list(made.data_job.glob("sub_job_*"))

    def test_a_notebook_that_goes_on_at_join_ends_it_itself(self, page: Page, made: Project, ui: ColabUI) -> None:
        cells = ("%load_ext colab_magics", "%fork n=1 --end-runtime", "1", "%join", "2")
        current = Notebook(notebook(*cells), "train.ipynb", current=True, running=RunningCell(cells[1]))
        ui.notebook = lambda path=None: current  # type: ignore[method-assign]
        with pytest.raises(InvalidInput, match=r"(?s)goes on at its %join \(cell 4\).*%runtime end in the last cell"):
            fork(n=1, end_runtime=True)

    def test_outputs_that_nobody_keeps(self, page: Page, made: Project, train: Path) -> None:
        control.running(made.data_job)[0].stop()
        with pytest.raises(InvalidInput, match="No sync keeps"):
            fork(n=1, notebook=str(train), end_runtime=True)

    def test_elsewhere(self, project: Project) -> None:
        project.save()
        file = project.root / "train.ipynb"
        nbformat.write(notebook("%fork n=1", "1"), file)
        with pytest.raises(Unavailable, match="no runtime of Google Colab"):
            fork(n=1, notebook=str(file), end_runtime=True)
        assert not list(project.data_job.glob("sub_job_*"))
