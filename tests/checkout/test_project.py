"""``project`` as users call it, on real git; Places and Colab have files of their own."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import git as run_git

from colab_magics import project, session
from colab_magics.checkout.project import MARKER, find_project
from colab_magics.errors import ColabMagicsError, CommandFailed, InvalidInput, NotFound

from .conftest import RecordingUI, blocks
from .git_server import git_server


def tree(folder: Path) -> dict[str, str]:
    """Return the files below a folder with their texts, git's own aside."""
    return {
        str(path.relative_to(folder)): path.read_text(errors="replace")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


class TestClone:
    """With ``git=`` where no checkout is."""

    # B2, B4
    def test_b2_one_line_sets_a_project_up(self, bare: Path, work: Path, ui: RecordingUI) -> None:
        made = project(git=str(bare), root="below here", job="base line")
        root = work / "below here" / "net"
        assert (made.name, made.job, made.root, made.url) == ("net", "base line", root, str(bare))
        assert Path.cwd() == root / "notebooks"
        assert ui.variables == {
            "data_project": str(root / "data_project"),
            "data_job": str(root / "data_job" / "base line"),
        }
        assert all(type(value) is str and Path(value).is_dir() for value in ui.variables.values())
        assert importlib.import_module("net").answer == 42
        assert session.current().project is made
        assert session.current().start_folder == work
        assert find_project(Path.cwd()) == made
        assert run_git("status", "--porcelain", cwd=root) == ""
        sys.modules.pop("net")

    def test_b2_it_shows_the_last_commit_with_its_files(self, bare: Path, ui: RecordingUI, push: Any) -> None:
        push("a <b> & ü.txt", "x", message="Add <i>more</i>")
        made = project(git=str(bare), root=".")
        text, html = str(made), made._repr_html_()
        for part in ("net", "default", str(made.data_job), "Add <i>more</i>", "a <b> & ü.txt (new)", "to=PLACE"):
            assert part in text
        assert "<i>" not in html
        assert "Add &lt;i&gt;more&lt;/i&gt;" in html

    def test_root_is_asked_for(self, bare: Path, work: Path, ui: RecordingUI) -> None:
        with pytest.raises(InvalidInput, match="Where shall net be") as error:
            project(git=str(bare))
        assert "root=FOLDER" in blocks(error.value)
        assert os.listdir(work) == []
        for root in ("", "  "):
            with pytest.raises(InvalidInput, match="root= is empty"):
                project(git=str(bare), root=root)

    def test_another_name(self, bare: Path, work: Path, ui: RecordingUI) -> None:
        assert project(git=str(bare), root=".", name="ünï 'q").root == work / "ünï 'q"

    @pytest.mark.parametrize("job", ["", "..", "a/b", ".x", "-x"])
    def test_a_job_that_is_no_folder(self, bare: Path, work: Path, ui: RecordingUI, job: str) -> None:
        with pytest.raises(InvalidInput, match="job=") as error:
            project(git=str(bare), root=".", job=job)
        blocks(error.value)
        assert os.listdir(work) == []

    def test_the_folder_holds_another_repository(
        self, bare: Path, work: Path, ui: RecordingUI, repository: Path
    ) -> None:
        other = work / "net"
        run_git("clone", "--quiet", str(repository), str(other))
        with pytest.raises(InvalidInput, match="another repository") as error:
            project(git=str(bare), root=".")
        assert "name=NAME" in blocks(error.value)
        assert not (other / "data_job").exists()

    def test_the_folder_holds_other_files(self, bare: Path, work: Path, ui: RecordingUI) -> None:
        (work / "net").mkdir()
        (work / "net" / "mine.txt").write_text("mine")
        with pytest.raises(InvalidInput, match="no checkout of") as error:
            project(git=str(bare), root=".")
        blocks(error.value)
        assert os.listdir(work / "net") == ["mine.txt"]

    def test_an_empty_folder_is_filled(self, bare: Path, work: Path, ui: RecordingUI) -> None:
        (work / "net").mkdir()
        assert (project(git=str(bare), root=".").root / "README.md").exists()


class TestHere:
    """In a checkout."""

    # B9
    def test_b9_nothing_is_cloned_and_folders_are_at_the_root(
        self, repository: Path, ui: RecordingUI, restart: Any
    ) -> None:
        (repository / "notebooks" / "deep").mkdir()
        restart(repository / "notebooks" / "deep")
        made = project()
        assert (made.name, made.root, made.url) == ("net", repository, None)
        assert ui.variables["data_project"] == str(repository / "data_project")
        assert ui.variables["data_job"] == str(repository / "data_job" / "default")
        assert Path.cwd() == repository / "notebooks"
        assert f"The working folder is {repository / 'notebooks'} now." in ui.out.getvalue()
        ui.out.truncate(0)
        project()
        assert "working folder" not in ui.out.getvalue(), "it is said when it changes"

    def test_the_same_repository_in_another_spelling(self, repository: Path, ui: RecordingUI, restart: Any) -> None:
        folder = repository.rename(repository.with_name("my fork"))
        run_git("remote", "add", "origin", "git@example.org:owner/net.git", cwd=folder)
        restart(folder)
        made = project(git="https://example.org/owner/net")
        assert (made.name, made.root, made.notes) == ("net", folder, [])

    def test_a_checkout_of_that_name_is_used_with_a_notice(
        self, repository: Path, ui: RecordingUI, restart: Any
    ) -> None:
        run_git("remote", "add", "origin", "https://me:s3cret@example.org/me/net.git", cwd=repository)
        restart(repository)
        made = project(git="https://example.org/owner/net")
        assert made.root == repository
        assert "its origin is https://example.org/me/net.git" in made.notes[0]
        assert "s3cret" not in f"{made} {made!r} {(repository / MARKER).read_text()}"

    def test_another_checkout_is_not_used(self, repository: Path, ui: RecordingUI, restart: Any) -> None:
        restart(repository)
        with pytest.raises(InvalidInput, match="no checkout of"):
            project(git="https://example.org/owner/other")

    def test_the_checkout_itself(self, repository: Path, ui: RecordingUI, restart: Any) -> None:
        restart(repository / "notebooks")
        made = project(git="..")
        assert (made.root, made.notes) == (repository, [])

    @pytest.mark.parametrize("root", [".", "..", "../..", "../notebooks"])
    def test_root_of_the_checkout_itself_is_no_other(
        self, repository: Path, ui: RecordingUI, restart: Any, root: str
    ) -> None:
        restart(repository / "notebooks")
        assert project(git="..", root=root).notes == []

    def test_another_root_is_said_to_be_left_aside(self, repository: Path, ui: RecordingUI, restart: Any) -> None:
        restart(repository / "notebooks")
        made = project(git="..", root="../../elsewhere")
        assert made.root == repository
        assert [note.partition(" is left")[0] for note in made.notes] == [f"root={repository.parent / 'elsewhere'}"]

    def test_a_checkout_of_another_user_says_how_to_trust_it(
        self, repository: Path, ui: RecordingUI, restart: Any, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        restart(repository)
        run_git("config", "--global", "--unset", "safe.directory")
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        with pytest.raises(ColabMagicsError, match="another user") as error:
            project()
        assert f"safe.directory {repository}" in blocks(error.value)

    def test_no_checkout_no_name(self, work: Path, ui: RecordingUI) -> None:
        with pytest.raises(NotFound, match="no checkout") as error:
            project()
        assert "name=NAME" in blocks(error.value)
        with pytest.raises(InvalidInput, match="needs a project's name") as named:
            project(root="there")
        blocks(named.value)


class TestDataAlone:
    """Without ``git=``: ``name=`` makes a project of data folders."""

    def test_here_or_below_root(self, work: Path, ui: RecordingUI, restart: Any) -> None:
        made = project(name="notes")
        assert (made.root, made.url) == (work / "notes", None)
        assert Path.cwd() == work, "the working folder is left alone"
        assert project(name="notes").root == work / "notes", "again"
        restart(work / "notes" / "data_job")
        assert project(name="notes").root == work / "notes", "after a restart, from within it"
        restart()
        assert project(name="notes", root="else where").root == work / "else where" / "notes"

    def test_in_a_checkout_of_that_name(self, repository: Path, ui: RecordingUI, restart: Any) -> None:
        restart(repository / "notebooks")
        assert project(name="net").root == repository

    def test_another_project_or_a_file_is_there(self, work: Path, ui: RecordingUI, restart: Any) -> None:
        project(name="one")
        (work / "one").rename(work / "two")
        restart()
        with pytest.raises(InvalidInput, match="the project 'one'") as error:
            project(name="two")
        blocks(error.value)
        (work / "three").touch()
        with pytest.raises(InvalidInput, match="is a file"):
            project(name="three")

    def test_nothing_to_update(self, work: Path, ui: RecordingUI) -> None:
        with pytest.raises(InvalidInput, match="nothing to update"):
            project(name="notes", update=True)

    def test_without_git_installed(
        self, work: Path, ui: RecordingUI, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))
        assert "notes" in str(project(name="notes"))
        with pytest.raises(ColabMagicsError, match="'git' is not installed"):
            project(git="https://example.org/net")


class TestAgain:
    """A second call."""

    # B8
    def test_b8_changes_nothing(self, bare: Path, work: Path, ui: RecordingUI, push: Any, restart: Any) -> None:
        first = project(git=str(bare), root=".", job="a")
        (first.data_job / "out.txt").write_text("mine")
        (first.root / "README.md").write_text("edited")
        before = tree(work)
        push("later.txt", "later")
        assert project(git=str(bare), root=".", job="a") == first
        assert project() == first, "without options: the current one"
        restart()
        again = project(git=str(bare), root=".", job="a")
        assert again == first
        assert "set up before" in again.notes[-1]
        assert tree(work) == before
        assert ui.variables["data_job"] == str(first.data_job)

    # ✗ A second job name silently reuses the first one's folder.
    def test_another_job_is_another_folder(self, bare: Path, work: Path, ui: RecordingUI) -> None:
        first = project(git=str(bare), root=".", job="a")
        second = project(job="b")
        assert (second.root, second.job) == (first.root, "b")
        assert ui.variables["data_job"] == str(second.data_job) == str(first.root / "data_job" / "b")
        assert project(git=str(bare), root=".").job == "default", "a line without job= means the same every time"

    def test_a_notebooks_job_has_its_name_until_it_says_another(
        self, bare: Path, work: Path, ui: RecordingUI, restart: Any
    ) -> None:
        def line(notebook: str, **options: str) -> str:
            restart(work)
            session.current().ui.named = str(work / notebook)  # type: ignore[attr-defined]
            return project(**options).job  # type: ignore[arg-type]

        first = project(git=str(bare), root=".", job="by hand")
        here = {"git": str(bare), "root": "."}
        assert line("a b.ipynb", **here) == "a b"
        assert line("-rf.ipynb", **here) == "rf"
        assert line("..ipynb", **here) == "default"
        assert line("c.ipynb", job="mine", **here) == "mine"
        assert line("c.ipynb", **here) == "c", "a line without job= means the same every time"
        assert "last was 'mine'; this one is 'c'" in str(session.current().project)
        line("a b.ipynb", **here)
        assert "last was" not in str(session.current().project), "another notebook's job is none of its business"
        assert line("c.ipynb", job="mine", **here) == "mine"
        for notebook, job in (("c.ipynb", "mine"), ("d.ipynb", "d")):
            restart(first.root)
            session.current().ui.named = str(work / notebook)  # type: ignore[attr-defined]
            assert project().job == job, "%project alone is the job that this notebook used last"

    def test_a_fresh_shell_shows_the_job_in_use(self, bare: Path, work: Path, ui: RecordingUI, restart: Any) -> None:
        first = project(git=str(bare), root=".", job="a")
        restart(first.root)
        assert project() == first
        restart(first.root)
        other = project(git=str(bare))
        assert other.job == "default"
        assert "last was 'a'; this one is 'default'" in str(other)

    def test_update(self, bare: Path, work: Path, ui: RecordingUI, push: Any) -> None:
        made = project(git=str(bare), root=".")
        push("later.txt", "later")
        assert "updated to origin/main" in project(update=True).notes[0]
        assert (made.root / "later.txt").exists()
        push("README.md", "theirs")
        (made.root / "README.md").write_text("mine")
        with pytest.raises(InvalidInput, match="not committed") as error:
            project(update=True)
        blocks(error.value)
        assert (made.root / "README.md").read_text() == "mine"

    def test_force_keeps_outputs_and_edits(self, bare: Path, work: Path, ui: RecordingUI, push: Any) -> None:
        made = project(git=str(bare), root=".")
        push("later.txt", "later")
        (made.data_job / "out.txt").write_text("mine")
        (made.root / "README.md").write_text("edited")
        forced = project(force=True)
        assert "left as it is" in forced.notes[0]
        assert (made.data_job / "out.txt").read_text() == "mine"
        assert (made.root / "README.md").read_text() == "edited"
        run_git("checkout", "--quiet", "README.md", cwd=made.root)
        project(force=True)
        assert (made.root / "later.txt").exists()
        assert (made.data_job / "out.txt").read_text() == "mine"

    def test_another_branch_is_only_spoken_of(self, bare: Path, work: Path, ui: RecordingUI) -> None:
        run_git("branch", "dev", cwd=bare)
        made = project(git=str(bare), root=".")
        assert "git switch dev" in project(git=str(bare), branch="dev").notes[0]
        assert run_git("branch", "--show-current", cwd=made.root) == "main"

    def test_a_set_up_that_failed_is_done_in_full(self, bare: Path, work: Path, ui: RecordingUI) -> None:
        with pytest.raises(NotFound, match=r"gone\.txt"):
            project(git=str(bare), root=".", requirements="gone.txt")
        assert not (work / "net" / MARKER).exists()
        assert project(git=str(bare), root=".").notes == []

    def test_relative_paths_mean_the_same_after_the_change_of_folder(
        self, bare: Path, work: Path, ui: RecordingUI
    ) -> None:
        text = os.path.relpath(bare, work)
        first = project(git=text, root="below", to="kept")
        again = project(git=text, root="below", to="kept")
        assert (again.root, again.place) == (first.root, str(work / "kept"))
        for folder in work.rglob("kept"):
            assert folder == work / "kept"

    def test_a_project_that_was_removed_is_forgotten(self, work: Path, ui: RecordingUI) -> None:
        made = project(name="notes")
        os.chdir(work)
        made.root.rename(work / "moved")
        with pytest.raises(NotFound, match="no checkout"):
            project()


class TestPackages:
    """Outside Colab nothing is installed unasked."""

    # B3
    def test_b3_what_is_missing_is_said(self, repository: Path, ui: RecordingUI, restart: Any) -> None:
        (repository / "requirements.txt").write_text("pytest\nnot-there-at-all>=2\n")
        restart(repository)
        made = project()
        assert made.notes == ["Missing packages: not-there-at-all>=2. --install installs them."]
        assert "not-there-at-all" in str(made)
        assert project(requirements="none").notes == [made_again()]

    def test_b3_a_failed_install_is_an_error(
        self, repository: Path, ui: RecordingUI, restart: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        (repository / "requirements.txt").write_text("not-there-at-all>=2\n")
        restart(repository)
        with pytest.raises(CommandFailed, match="No matching distribution") as error:
            project(install=True)
        blocks(error.value)
        assert ui.variables == {}


def made_again() -> str:
    return "It was set up before and is used as it is; --force does the set-up again."


class TestSecrets:
    """``secrets=`` and ``token=``."""

    def test_secrets_go_to_the_environment_and_are_never_shown(
        self, work: Path, ui: RecordingUI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ONE", "s3cret")
        made = project(name="notes", secrets="ONE")
        assert os.environ["ONE"] == "s3cret"
        assert "s3cret" not in f"{made}{made!r}{ui.out.getvalue()}{tree(work)}"
        with pytest.raises(NotFound, match="'GONE'") as error:
            project(name="notes", secrets="ONE,GONE")
        blocks(error.value)
        with pytest.raises(InvalidInput, match="no name"):
            project(name="notes", secrets="ONE=1")

    @pytest.mark.parametrize("token", ["ghp_s3cret", "secret:", "SECRET:ghp_s3cret", "secret:a=b ghp_s3cret", ""])
    def test_a_token_itself_is_refused_unseen(self, work: Path, ui: RecordingUI, token: str) -> None:
        with pytest.raises(InvalidInput, match="never stands in a notebook") as error:
            project(git="https://example.org/net", root=".", token=token)
        assert "s3cret" not in str(error.value)

    def test_a_private_repository(
        self, bare: Path, work: Path, ui: RecordingUI, monkeypatch: pytest.MonkeyPatch, push: Any
    ) -> None:
        monkeypatch.setenv("MY_TOKEN", "s3cret")
        with git_server(bare.parent, password="s3cret") as server:
            url = f"{server.url}/net.git"
            with pytest.raises(NotFound, match="'OTHER'"):
                project(git=url, root=".", token="secret:OTHER")
            assert os.listdir(work) == []
            made = project(git=url, root=".", token="secret:MY_TOKEN")
            push("later.txt", "later")
            project(token="secret:MY_TOKEN", update=True)
        assert (made.root / "later.txt").exists()
        assert "s3cret" not in ui.out.getvalue() + str(made) + str(tree(work))
        assert "s3cret" not in (made.root / ".git" / "config").read_text()


class TestInARun:
    """In a run the line repeats no work."""

    def test_variables_imports_and_folder_only(
        self, bare: Path, work: Path, ui: RecordingUI, restart: Any, monkeypatch: pytest.MonkeyPatch, push: Any
    ) -> None:
        made = project(git=str(bare), root=".", job="a", to="kept")
        run = made.data_job / "sub_job_003"
        run.mkdir()
        project(job="b", to="none")
        sys.path[:] = [path for path in sys.path if path != str(made.root)]
        restart()
        monkeypatch.setenv("COLAB_MAGICS_RUN", str(run))
        push("later.txt", "x")
        marker = (made.root / MARKER).read_bytes()
        inside = project(
            git="https://example.org/gone", job="a", update=True, force=True, token="secret:GONE", to="drive"
        )
        assert (inside.root, inside.job, inside.data_job) == (made.root, "a", made.data_job)
        assert ui.variables == {"data_project": str(made.data_project), "data_job": str(run)}
        assert Path.cwd() == made.root / "notebooks"
        assert str(made.root) in sys.path
        assert (made.root / MARKER).read_bytes() == marker
        assert not (made.root / "later.txt").exists()

    def test_a_run_of_no_project(self, work: Path, ui: RecordingUI, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLAB_MAGICS_RUN", str(work / "sub_job_000"))
        with pytest.raises(NotFound, match="belongs to no project") as error:
            project()
        blocks(error.value)


def test_the_marker_is_the_contract(bare: Path, work: Path, ui: RecordingUI) -> None:
    made = project(git=str(bare), root=".", job="a")
    marker = json.loads((made.root / MARKER).read_text())
    assert marker == {
        "name": "net",
        "job": "a",
        "place": None,
        "url": str(bare),
        "notebooks": "notebooks",
        "inputs": "full",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"restore": "some"},
        {"every": "soon"},
        {"inputs": ""},
        {"inputs": "../x"},
        {"inputs": "/etc"},
        {"notebooks": ".."},
    ],
)
def test_values_that_cannot_be_are_refused(work: Path, ui: RecordingUI, wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as error:
        project(name="notes", **wrong)  # type: ignore[arg-type]
    blocks(error.value)
    assert ui.variables == {}


def test_force_is_taken_from_the_call_alone() -> None:
    assert project.call_only == {"force"}  # type: ignore[attr-defined]
