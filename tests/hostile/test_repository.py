"""What a repository says: the words of whoever wrote it, not of the user who cloned it.

Each test plays that user: the repository holds links, a marker or a pyproject.toml that somebody hostile has committed,
and the user writes the usual lines.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from checkout.conftest import RecordingUI, blocks
from conftest import git
from runs.folders import leave_run

from colab_magics import fork, jobs, process, project, session, sync
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput
from colab_magics.mirror import control
from colab_magics.transport.places import parse


@pytest.fixture
def ui(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> RecordingUI:
    """Stand in the user's home, with files in it, and a session with a recording face in front."""
    (home / ".bashrc").write_text("mine")
    (home / "keys").mkdir()
    (home / "keys" / "id_rsa").write_text("secret")
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "path", list(sys.path))
    face = RecordingUI()
    session.activate(session.Session(ui=face, start_folder=home))
    return face


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository as its author has it; `clone` takes what stands in it by then."""
    folder = tmp_path / "author" / "net"
    folder.mkdir(parents=True)
    git("init", "--quiet", str(folder))
    (folder / "README.md").write_text("net\n")
    return folder


@pytest.fixture
def clone(repository: Path, home: Path, ui: RecordingUI, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that commits what stands in the repository and clones it into the user's home."""

    def cloned() -> Path:
        git("add", "--force", ".", cwd=repository)
        git("commit", "--quiet", "-m", "hostile", cwd=repository)
        target = home / "net"
        git("clone", "--quiet", str(repository), str(target))
        monkeypatch.chdir(target)
        return target

    return cloned


def files(folder: Path) -> list[str]:
    """Return the files below a folder, also behind links in it, without those of a sync."""
    return sorted(
        os.path.relpath(os.path.join(base, name), folder)
        for base, _, names in os.walk(folder, followlinks=True)
        for name in names
        if not name.startswith(".colab_magics_place")
    )


class TestFolders:
    """The folders of a project are real folders within its root."""

    def test_inputs_of_a_place_in_the_repository_do_not_reach_the_home(
        self, repository: Path, clone: Any, home: Path
    ) -> None:
        (repository / "data_project").symlink_to("..")
        (repository / "kept" / "data_project").mkdir(parents=True)
        (repository / "kept" / "data_project" / ".bashrc").write_text("theirs")
        root = clone()
        os.utime(home / ".bashrc", (1, 1))
        with pytest.raises(InvalidInput) as error:
            project(to="kept")
        assert f"{root / 'data_project'} is a link to {home}" in blocks(error.value)
        assert (home / ".bashrc").read_text() == "mine"

    @pytest.mark.parametrize("link", ["data_job", "data_job/default"])
    def test_the_home_is_not_sent_as_outputs(
        self, repository: Path, clone: Any, home: Path, tmp_path: Path, link: str
    ) -> None:
        (repository / link).parent.mkdir(exist_ok=True)
        (repository / link).symlink_to(home / "keys")
        root = clone()
        for line in (lambda: project(to=str(tmp_path / "kept")), lambda: sync(to=str(tmp_path / "kept"))):
            with pytest.raises(InvalidInput) as error:
                line()
            assert str(root / link) in blocks(error.value)
            assert str(home / "keys") in str(error.value)
            Project("net", "default", root, root).save()  # for %sync, as after a set-up before the link came
        assert files(tmp_path / "kept") == []
        assert files(home / "keys") == ["id_rsa"]
        assert control.running() == []

    @pytest.mark.parametrize("link", ["", "/sub_job_001", "/.scheduler", "/.superseded"])
    def test_runs_write_nothing_behind_a_link(self, repository: Path, clone: Any, home: Path, link: str) -> None:
        (repository / f"data_job/main{link}").parent.mkdir(parents=True)
        (repository / f"data_job/main{link}").symlink_to(home / "keys")
        nbformat.write(nbformat.v4.new_notebook(cells=_cells("%fork n=2", "x = 1")), repository / "main.ipynb")
        root = clone()
        with pytest.raises(InvalidInput) as error:
            fork(n=2, notebook="main.ipynb", then="continue")
        assert f"{root}/data_job/main{link} is a link to {home / 'keys'}" in blocks(error.value)
        assert files(home / "keys") == ["id_rsa"]
        assert not (root / "data_job" / "main" / "sub_job_000" / "run.json").exists(), "nothing was started"

    def test_a_run_by_plain_papermill_writes_nothing_behind_a_link(
        self, repository: Path, clone: Any, home: Path, ui: RecordingUI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (repository / "data_job").symlink_to(home / "keys")
        clone()
        monkeypatch.setattr(RecordingUI, "injected_parameters", lambda self: {"i_sub_job": 3})
        with pytest.raises(InvalidInput, match="is a link to"):
            fork(n=5)
        assert files(home / "keys") == ["id_rsa"]

    def test_a_linked_job_is_refused_and_the_others_are_shown(
        self, repository: Path, clone: Any, home: Path, ui: RecordingUI
    ) -> None:
        leave_run(repository / "data_job" / "own", 0)
        leave_run(home / "elsewhere", 7, "failed")
        (repository / "data_job" / "theirs").symlink_to(home / "elsewhere")
        root = clone()
        Project("net", "own", root, root).save()
        assert [run.id for run in jobs(all=True)] == ["own/0"]
        assert f"{root / 'data_job' / 'theirs'} is a link to {home / 'elsewhere'}" in str(jobs(all=True))
        for line in (jobs, jobs.show, jobs.kill, jobs.retry, jobs.du):
            with pytest.raises(InvalidInput, match="is a link to"):
                line("theirs")
        before = files(home / "elsewhere")
        with pytest.raises(InvalidInput, match="is a link to"):
            jobs.rm("theirs", yes=True)
        assert files(home / "elsewhere") == before

    def test_a_linked_run_is_left_out_with_a_word(
        self, repository: Path, clone: Any, home: Path, ui: RecordingUI
    ) -> None:
        leave_run(repository / "data_job" / "own", 0)
        theirs = leave_run(home / "elsewhere", 1, "failed")
        (repository / "data_job" / "own" / "sub_job_001").symlink_to(theirs.folder)
        root = clone()
        Project("net", "own", root, root).save()
        before = {name: (home / "elsewhere" / name).read_bytes() for name in files(home / "elsewhere")}
        board = jobs()
        assert [run.id for run in board] == ["own/0"]
        assert f"{root / 'data_job' / 'own' / 'sub_job_001'} is a link to {theirs.folder}" in str(board)
        assert str(theirs.folder) in str(jobs.watch())
        assert not len(jobs.kill("failed"))
        assert not len(jobs.retry("failed"))
        assert "own/1 stays: its folder is a link" in str(jobs.rm("own", yes=True))
        after = {name: (home / "elsewhere" / name).read_bytes() for name in files(home / "elsewhere")}
        assert after == before

    def test_a_retry_starts_nothing_where_the_schedulers_folder_is_a_link(
        self, repository: Path, clone: Any, home: Path
    ) -> None:
        leave_run(repository / "data_job" / "own", 0, "failed")
        (repository / "data_job" / "own" / ".scheduler").symlink_to(home / "keys")
        root = clone()
        Project("net", "own", root, root).save()
        with pytest.raises(InvalidInput, match=r"\.scheduler is a link to"):
            jobs.retry("failed")
        assert files(home / "keys") == ["id_rsa"]
        assert process.read_json(root / "data_job" / "own" / "sub_job_000" / "run.json")["attempt"] == 1  # type: ignore[index]

    def test_a_root_behind_a_link_of_the_users_own_is_fine(self, clone: Any, home: Path, ui: RecordingUI) -> None:
        root = clone()
        (home / "shortcut").symlink_to(root)
        os.chdir(home / "shortcut")
        made = project(name="deep", root=str(home / "shortcut"))
        assert made.data_job.is_dir()

    @pytest.mark.parametrize("notebooks", ["notebooks", "deep/er"])
    def test_notebooks_run_within_the_project(
        self, repository: Path, clone: Any, home: Path, ui: RecordingUI, notebooks: str
    ) -> None:
        (repository / notebooks).parent.mkdir(exist_ok=True)
        (repository / notebooks).symlink_to(home / "keys")
        root = clone()
        with pytest.raises(InvalidInput) as error:
            project(notebooks=notebooks)
        assert f"{root / notebooks} is a link to {home / 'keys'}" in blocks(error.value)
        assert Path.cwd() == root


class TestOverlap:
    """A Place and the folder that its files go to do not lie in each other."""

    @pytest.mark.parametrize("place", [".", "data_project", "data_project/data_project/x"])
    def test_inputs_as_outputs(self, clone: Any, ui: RecordingUI, place: str) -> None:
        root = clone()
        (root / place).mkdir(parents=True, exist_ok=True)
        with pytest.raises(InvalidInput, match="lie in each other"):
            control.fetch(parse(str(root / place), project="net").below("data_project"), root / "data_project", None)

    def test_what_is_fetched_stays_in_the_folder(self, home: Path, tmp_path: Path, ui: RecordingUI) -> None:
        place, into = tmp_path / "kept" / "data_project", tmp_path / "into"
        (place / "deep" / "er").mkdir(parents=True)
        (place / "deep" / "er" / "id_rsa").write_text("theirs")
        (place / "keys").mkdir()
        (place / "keys" / "id_rsa").write_text("theirs")
        (place / ".bashrc").write_text("theirs")
        into.mkdir()
        (into / "keys").symlink_to(home / "keys")
        (into / "deep").symlink_to(home)
        (into / ".bashrc").symlink_to(home / ".bashrc")
        control.fetch(parse(str(tmp_path / "kept"), project="net").below("data_project"), into, None)
        assert (home / "keys" / "id_rsa").read_text() == "secret"
        assert (home / ".bashrc").read_text() == "mine"
        assert not (home / "er").exists()


def _cells(*sources: str) -> list[Any]:
    return [nbformat.v4.new_code_cell(source) for source in sources]
