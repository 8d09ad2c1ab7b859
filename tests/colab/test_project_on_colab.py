"""``%project`` as on Colab: ``/content/<project>``, Drive, packages."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import git, poll

from colab_magics import process, project, session
from colab_magics.checkout.project import find_project
from colab_magics.errors import CommandFailed, InvalidInput, NotFound, Unavailable
from colab_magics.mirror import control

from .conftest import ColabUI, Page


@pytest.fixture
def bare(repository: Path, tmp_path: Path) -> Path:
    """Return a bare repository with one commit."""
    folder = tmp_path / "server" / "net.git"
    git("clone", "--quiet", "--bare", str(repository), str(folder))
    return folder


def on_drive(page: Page) -> Path:
    return page.drive / "MyDrive" / "colab_data" / "net"


# B2, B5, B6, B21
def test_b2_b5_b6_one_line_with_a_drive_that_has_data(bare: Path, page: Page, ui: ColabUI, content: Path) -> None:
    page.mount(str(page.drive))
    page.asked.clear()
    (on_drive(page) / "data_project").mkdir(parents=True)
    (on_drive(page) / "data_project" / "in.txt").write_text("test input")
    (on_drive(page) / "data_job" / "a").mkdir(parents=True)
    (on_drive(page) / "data_job" / "a" / "earlier.txt").write_text("earlier")
    made = project(git=str(bare), job="a", every="1s")
    assert made.root == content / "net"
    assert Path.cwd() == content / "net" / "notebooks"
    assert (made.data_project / "in.txt").read_text() == "test input"
    assert (made.data_job / "earlier.txt").read_text() == "earlier"
    assert ui.variables["data_job"] == str(content / "net" / "data_job" / "a")
    (made.data_job / "out.txt").write_text("out")
    poll((on_drive(page) / "data_job" / "a" / "out.txt").exists, what="the output reaches Drive")
    assert page.asked == [], "Drive is there: nobody is asked"
    assert made.place == "drive"
    assert "fill its trash" in str(made)  # B21
    assert "fill its trash" not in str(project(git=str(bare), job="a"))


# ✗ Target folder not created when Drive is already mounted.
@pytest.mark.parametrize("mounted", [True, False])
def test_drives_folder_is_made(bare: Path, page: Page, mounted: bool) -> None:
    if mounted:
        page.mount(str(page.drive))
    made = project(git=str(bare))
    (made.data_job / "out.txt").write_text("out")
    control.running(made.data_job)[0].now(30)
    assert (on_drive(page) / "data_job" / "default" / "out.txt").read_text() == "out"
    assert page.asked == [f"mount {page.drive} False"]


def test_no_consent_to_drive_stops_before_anything_is_made(bare: Path, page: Page, ui: ColabUI, content: Path) -> None:
    page.mount_error = ValueError("no consent")
    with pytest.raises(Unavailable, match="no consent"):
        project(git=str(bare))
    assert not (content / "net").exists()
    assert project(git=str(bare), to="none").place is None
    assert control.running() == []


def test_to_none_is_remembered(bare: Path, page: Page, ui: ColabUI, content: Path) -> None:
    project(git=str(bare), to="none")
    assert project(git=str(bare)).place is None
    session._active.clear()
    os.chdir(content)
    session.activate(session.Session(ui=ui, start_folder=content))
    assert project(git=str(bare), job="b").place is None
    assert page.asked == []
    assert project(git=str(bare), to="drive").place == project(git=str(bare)).place == "drive"


def test_a_repository_cannot_say_that_nothing_is_kept(repository: Path, page: Page, ui: ColabUI) -> None:
    (repository / ".colab_magics.json").write_text('{"name": "net", "job": "a", "place": "none"}')
    git("add", ".", cwd=repository)
    git("commit", "--quiet", "-m", "marker", cwd=repository)
    assert project(git=str(repository), every="1s").place == "drive"


def test_files_in_a_folder_that_only_looks_like_drive(bare: Path, page: Page, content: Path) -> None:
    (page.drive / "MyDrive" / "colab_data").mkdir(parents=True)
    (page.drive / "MyDrive" / "colab_data" / "lost.txt").touch()
    with pytest.raises(Unavailable, match=r"holds files(.|\n)*: MyDrive/colab_data/lost.txt\.(.|\n)*→(.|\n)*mv /"):
        project(git=str(bare))
    assert not (content / "net").exists()


# B8, ✗ After a kernel restart "already initialised", but nothing syncs any more.
def test_b8_after_a_restart_of_the_kernel(bare: Path, page: Page, ui: ColabUI, content: Path) -> None:
    first = project(git=str(bare), job="a")
    (sync,) = control.running(first.data_job)
    process.end_tree(sync.status()["identity"]["pid"], grace=0)
    session._active.clear()
    os.chdir(content)
    session.activate(session.Session(ui=ui, start_folder=content))
    assert project(git=str(bare), job="a") == first
    assert len(control.running(first.data_job)) == 1


def test_the_folder_holds_another_repository(bare: Path, page: Page, repository: Path, content: Path) -> None:
    git("clone", "--quiet", str(repository), str(content / "net"))
    with pytest.raises(InvalidInput, match="another repository"):
        project(git=str(bare))


def test_without_git(page: Page, content: Path) -> None:
    assert project(name="net").root == content / "net"
    session.current().project = None
    os.chdir(content)
    with pytest.raises(NotFound, match="git=URL"):
        project()


def test_a_private_repository_by_a_secret_of_colab(bare: Path, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    from checkout.git_server import git_server

    page.secrets["GITHUB"] = "s3cret"
    with git_server(bare.parent, password="s3cret") as server:
        made = project(git=f"{server.url}/net.git", token="secret:GITHUB")
    assert "s3cret" not in (made.root / ".git" / "config").read_text()
    assert "secret GITHUB" in page.asked


class TestPackages:
    """B3: installed by default on Colab."""

    @pytest.fixture
    def installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Put an interpreter in front whose pip writes down what it is asked; returns that file."""
        asked, python = tmp_path / "asked of pip", tmp_path / "python"
        python.write_text(
            f'#!/bin/sh\ncase "$*" in *pip\\ install*) pwd >>"{asked}"; printf "%s\\n" "$@" >>"{asked}"; '
            f'[ ! -e "{tmp_path}/broken" ] || exit; [ ! -e "{tmp_path}/says" ] || cat "{tmp_path}/says"; exit;; '
            f'esac\nexec "{sys.executable}" "$@"\n'
        )
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        return asked

    def commit(self, repository: Path, name: str, text: str) -> None:
        (repository / name).write_text(text)
        git("add", ".", cwd=repository)
        git("commit", "--quiet", "-m", name, cwd=repository)

    def test_b3_requirements_by_default_once(
        self, repository: Path, page: Page, content: Path, installed: Path
    ) -> None:
        self.commit(repository, "requirements.txt", "pytest\n")
        project(git=str(repository))
        lines = installed.read_text().splitlines()
        assert lines[0] == str(content / "net")
        assert lines[-2:] == ["--requirement", str(content / "net" / "requirements.txt")]
        installed.unlink()
        project(git=str(repository))
        assert not installed.exists(), "a second call changes nothing"
        project(force=True)
        assert installed.exists()

    def test_b3_the_project_itself(self, repository: Path, page: Page, content: Path, installed: Path) -> None:
        self.commit(repository, "pyproject.toml", '[project]\nname = "net"\nversion = "1"\n')
        project(git=str(repository))
        assert installed.read_text().splitlines()[-2:] == ["--editable", str(content / "net")]

    def test_what_was_exchanged_under_a_notebook_needs_a_restart(
        self, repository: Path, page: Page, installed: Path, tmp_path: Path
    ) -> None:
        self.commit(repository, "requirements.txt", "pytest\npackaging\nnothing\n")
        (tmp_path / "says").write_text(
            "Collecting pytest\nSuccessfully installed nothing-1 pytest-99.0 docopt-2.0rc1\n"
        )
        (note,) = [note for note in project(git=str(repository), to="none").notes if "restart" in note.lower()]
        assert "imported already: _pytest, py, pytest. " in note

    @pytest.mark.parametrize("options", [{"install": False}, {"requirements": "none"}])
    def test_b3_it_can_be_switched_off(self, repository: Path, page: Page, installed: Path, options: Any) -> None:
        self.commit(repository, "requirements.txt", "pytest\n")
        project(git=str(repository), **options)
        assert not installed.exists()

    def test_b3_a_failed_install_is_an_error_and_done_again(
        self, repository: Path, page: Page, ui: ColabUI, content: Path, installed: Path, tmp_path: Path
    ) -> None:
        self.commit(repository, "requirements.txt", "pytest\n")
        (tmp_path / "broken").touch()
        with pytest.raises(CommandFailed, match=r"pip could not install(.|\n)*→"):
            project(git=str(repository))
        assert ui.variables == {}
        assert find_project(content / "net") is None
        (tmp_path / "broken").unlink()
        installed.unlink()
        project(git=str(repository))
        assert installed.exists()


def test_in_a_run_on_colab_nobody_is_asked(
    bare: Path, page: Page, ui: ColabUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = project(git=str(bare), job="a")
    run = made.data_job / "sub_job_000"
    run.mkdir()
    page.asked.clear()
    (page.drive / "MyDrive").rename(page.drive / "gone")
    monkeypatch.setenv("COLAB_MAGICS_RUN", str(run))
    project(git=str(bare), job="a", token="secret:GITHUB", secrets="B")
    assert page.asked == []
    assert ui.variables["data_job"] == str(run)
