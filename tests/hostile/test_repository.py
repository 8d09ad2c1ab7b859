"""What a repository says: the words of whoever wrote it, not of the user who cloned it.

Each test plays that user: the repository holds links, a marker or a pyproject.toml that somebody hostile has committed,
and the user writes the usual lines.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from checkout.conftest import RecordingUI, blocks
from conftest import git
from runs.folders import leave_run

from colab_magics import VERBS, fork, jobs, process, project, session, sync, trust
from colab_magics import __main__ as face
from colab_magics.checkout.project import MARKER, Project, find_project
from colab_magics.checkout.trust import HARMLESS
from colab_magics.errors import InvalidInput, NotFound
from colab_magics.faces.defaults import defaults
from colab_magics.faces.signature import options
from colab_magics.mirror import control
from colab_magics.transport.places import parse
from colab_magics.verbs import load, subcommands


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

    @pytest.mark.parametrize("link", ["", "/.scheduler", "/.superseded"])
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

    def test_a_linked_run_is_unreadable_and_nothing_is_done_to_it(
        self, repository: Path, clone: Any, home: Path, ui: RecordingUI
    ) -> None:
        leave_run(repository / "data_job" / "own", 0)
        theirs = leave_run(home / "elsewhere", 1, "failed")
        (repository / "data_job" / "own" / "sub_job_001").symlink_to(theirs.folder)
        root = clone()
        Project("net", "own", root, root).save()
        before = {name: (home / "elsewhere" / name).read_bytes() for name in files(home / "elsewhere")}
        board = jobs()
        assert [(run.id, run.status().phase) for run in board] == [("own/0", "done"), ("own/1", "unreadable")]
        assert f"{root / 'data_job' / 'own' / 'sub_job_001'} is a link" in str(board)
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

    def test_a_folder_that_is_named_is_within_the_project_too(
        self, repository: Path, clone: Any, home: Path, tmp_path: Path
    ) -> None:
        (repository / "results").symlink_to(home / "keys")
        (repository / "deep").mkdir()
        (repository / "deep" / "er").symlink_to("../data_job")
        root = clone()
        (root / "data_job" / "default").mkdir(parents=True)
        Project("net", "default", root, root).save()
        (home / "shortcut").symlink_to(root)
        session.current().project = Project("net", "default", home / "shortcut", home / "shortcut")
        with pytest.raises(InvalidInput, match="is a link to"):
            sync("results", to=str(tmp_path / "kept"))
        session.current().project = None
        with pytest.raises(InvalidInput) as error:
            sync("results", to=str(tmp_path / "kept"))
        assert f"{root / 'results'} is a link to {home / 'keys'}" in blocks(error.value)
        assert not (tmp_path / "kept").exists()
        (home / "mine").symlink_to(home / "keys")
        named = sync(str(home / "mine"), to=str(tmp_path / "kept"))
        named.stop()  # type: ignore[union-attr]
        assert (tmp_path / "kept" / "id_rsa").read_text() == "secret", "a link of the user's own is the user's word"

    def test_runs_of_another_project_are_not_shown_through_a_link(
        self, repository: Path, clone: Any, home: Path
    ) -> None:
        (home / "other").mkdir()
        leave_run(home / "other" / "data_job" / "own", 0)
        Project("other", "own", home / "other", home / "other").save()
        (repository / "below").symlink_to(home / "other")
        clone()
        with pytest.raises(NotFound, match="No project was set up"):
            jobs()

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


def says(root: Path, **values: Any) -> Path:
    """Write a marker as a repository may hold one."""
    process.write_json(root / MARKER, {"name": "net", "job": "default", "notebooks": ".", **values})
    return root / MARKER


def lines(ui: RecordingUI, part: str) -> list[str]:
    """Return the lines that the user was told with these words in them."""
    return [line for line in ui.out.getvalue().splitlines() if part in line]


class TestMarker:
    """``.colab_magics.json``: the user's own goes on to count, one that came with the files does not."""

    @pytest.mark.parametrize(
        "notebooks", [7, 10**3000, "n" * 300, "a\0b", "../..", "/", None, ["."]], ids=lambda one: f"{one!r:.9}"
    )
    def test_a_folder_of_notebooks_that_cannot_be_is_the_projects_own(self, tmp_path: Path, notebooks: Any) -> None:
        says(tmp_path, notebooks=notebooks)  # ✗ a number of 300 digits: OSError
        found = find_project(tmp_path)
        assert found is not None
        assert found.notebooks == tmp_path

    def test_one_that_was_cloned_names_no_place(
        self, repository: Path, clone: Any, home: Path, ui: RecordingUI, tmp_path: Path
    ) -> None:
        theirs = tmp_path / "theirs"
        (theirs / "data_project").mkdir(parents=True)
        (theirs / "data_project" / "in.txt").write_text("theirs")
        says(repository, place=str(theirs), inputs="full")
        root = clone()
        before = files(theirs)
        made = project()
        assert (made.place, made.job) == (None, "default")
        (made.data_job / "out.txt").write_text("out")
        assert len(lines(ui, "place=")) == 1
        assert str(root / MARKER) in lines(ui, "place=")[0]
        assert f"%trust {root}" in lines(ui, "place=")[0]
        session.current().project = None
        with pytest.raises(InvalidInput, match="has no Place"):
            sync()
        assert project(force=True).place is None
        assert control.running() == []
        assert files(theirs) == before
        assert not (root / "data_project" / "in.txt").exists()
        assert len(lines(ui, "place=")) == 1, "it is said once"

    def test_it_counts_after_a_yes_until_it_changes(
        self, repository: Path, clone: Any, ui: RecordingUI, tmp_path: Path
    ) -> None:
        says(repository, place=str(tmp_path / "theirs"))
        root = clone()
        project()
        session.current().project = None
        trust(yes=True)
        assert project().place == str(tmp_path / "theirs")
        marker = process.read_json(root / MARKER) or {}
        process.write_json(root / MARKER, {**marker, "place": str(tmp_path / "others")})
        session.current().project = None
        assert project().place is None
        assert str(tmp_path / "others") in (root / MARKER).read_text(), "it can be allowed yet"

    def test_the_users_own_goes_on(self, clone: Any, home: Path, ui: RecordingUI, tmp_path: Path) -> None:
        root = clone()
        first = project(to=str(tmp_path / "kept"))
        for answers in ("kept", "of an earlier version"):
            if answers != "kept":
                shutil.rmtree(home / ".local" / "state" / "colab_magics" / "trusted")
            session._active.clear()
            session.activate(session.Session(ui=ui, start_folder=root))
            found = find_project(root)
            assert found == first
            assert project().place == str(tmp_path / "kept")
            session.current().project = None
            assert sync().place == str(tmp_path / "kept" / "data_job" / "default")
        assert lines(ui, "place=") == []

    def test_one_that_replaces_the_users_own_does_not_count(self, clone: Any, ui: RecordingUI, tmp_path: Path) -> None:
        root = clone()
        project(to=str(tmp_path / "kept"))
        marker = process.read_json(root / MARKER) or {}
        process.write_json(root / MARKER, {**marker, "place": f"{tmp_path / 'kept'},{tmp_path / 'theirs'}"})
        session.current().project = None
        assert project().place is None

    def test_a_project_that_was_moved_asks_anew(self, clone: Any, home: Path, ui: RecordingUI, tmp_path: Path) -> None:
        root = clone()
        project(to=str(tmp_path / "kept"))
        found = find_project(root.rename(home / "moved"), warn=ui.warn)
        assert found is not None
        assert found.place is None
        assert "place=" in ui.out.getvalue()

    @pytest.mark.parametrize("folder", [".hidden", "-x", "a\u00a0b", "back\\slash"])
    def test_of_a_folder_with_an_odd_name(
        self, home: Path, ui: RecordingUI, monkeypatch: pytest.MonkeyPatch, folder: str
    ) -> None:
        (home / folder).mkdir()
        monkeypatch.chdir(home / folder)
        cells = _cells("%fork n=1", "x = 1")
        nbformat.write(nbformat.v4.new_notebook(cells=cells), home / folder / "a\\b.ipynb")
        fork(n=1, notebook="a\\b.ipynb", dry_run=True)
        found = find_project(home / folder)
        assert found is not None
        assert (found.name, found.job) == (folder, "a b")
        to = home / f"kept{folder}"
        Project(found.name, found.job, found.root, found.root, place=str(to)).save()
        assert find_project(home / folder).place == str(to)  # type: ignore[union-attr]

    def test_a_run_does_not_speak_of_it(self, clone: Any, ui: RecordingUI, monkeypatch: pytest.MonkeyPatch) -> None:
        root = clone()
        run = leave_run(root / "data_job" / "own", 0).folder
        says(root, place="/theirs")
        git("init", "--quiet", str(run))
        monkeypatch.setenv("COLAB_MAGICS_RUN", str(run))
        assert (project().job, project().root) == ("own", root)
        assert "place=" not in ui.out.getvalue()

    @pytest.mark.parametrize(
        "wrong",
        [
            *({"name": name} for name in ("..", "/etc", "", "-rf", ".git", "a/b", "a\u202eb")),
            *({"job": job} for job in ("..", "../../x", "/etc", "-rf", ".scheduler", "a\x1b]0;x\x07", ["a/b"])),
            *({"jobs": {"main.ipynb": job}} for job in ("..", "a/b")),
            *({"place": place} for place in (["/etc"], 3, {"to": "/etc"})),
        ],
        ids=str,
    )
    def test_its_words_are_checked_as_typed_ones(self, clone: Any, ui: RecordingUI, wrong: dict[str, Any]) -> None:
        root = clone()
        file = says(root, **wrong)
        for line in (project, jobs, sync):
            with pytest.raises(InvalidInput) as error:
                line()
            assert blocks(error.value).startswith(f"{file}: ")
        assert sorted(os.listdir(root)) == sorted([".git", MARKER, "README.md"])

    @pytest.mark.parametrize("notebooks", ["..", "/etc", "../../..", "out", ["a"], {"a": 1}, "gone"])
    def test_its_notebooks_stand_in_the_project(
        self, clone: Any, home: Path, ui: RecordingUI, notebooks: object
    ) -> None:
        root = clone()
        (root / "out").symlink_to(home / "keys")
        says(root, notebooks=notebooks)
        found = find_project(root)
        assert found is not None
        assert found.notebooks == root

    def test_one_that_cannot_be_read_is_none(self, clone: Any, home: Path, ui: RecordingUI) -> None:
        root = clone()
        for text in (b"[" * 100_000, b"\xff\xfe", b'{"name": 1e999}', b"9" * 5000, b'{"name": "x", "y": "\\ud800"}'):
            (root / MARKER).write_bytes(text)
            assert find_project(root) is None
        (root / MARKER).unlink()
        os.mkfifo(root / MARKER)
        assert find_project(root) is None
        (root / MARKER).unlink()
        says(home / "keys", name="elsewhere")
        (root / MARKER).symlink_to(home / "keys" / MARKER)
        assert find_project(root, warn=ui.warn) is None
        assert "is not read (a link to" in ui.out.getvalue()
        assert project().name == "net"
        assert not (root / MARKER).is_symlink(), "the user's own set-up has written its own"
        assert "elsewhere" in (home / "keys" / MARKER).read_text()


class TestPyproject:
    """``[tool.colab_magics]`` of a pyproject.toml that came with the files."""

    def test_what_is_harmless_counts_and_the_rest_is_told(
        self, repository: Path, clone: Any, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (repository / "pyproject.toml").write_text(
            f'[tool.colab_magics.project]\njob = "mine"\nto = "{tmp_path}/theirs"\nsecrets = "HOME"\ninstall = true\n'
        )
        root = clone()
        session._active.clear()
        assert face.main(["project"]) == 0
        shown = capsys.readouterr().err.splitlines()
        assert len(shown) == 1, shown
        for word in ("to=", "secrets=", "install=", f"colab-magics trust {root}"):
            assert word in shown[0]
        assert (root / "data_job" / "mine").is_dir()
        assert not (tmp_path / "theirs").exists()
        session._active.clear()
        assert face.main(["project", f"to={tmp_path}/own", "secrets=", "--no-install"]) == 0
        assert "trust" not in capsys.readouterr().err, "nothing was left out of this call"

    def test_it_counts_after_a_yes_for_these_values_of_this_checkout(
        self, repository: Path, clone: Any, home: Path, ui: RecordingUI
    ) -> None:
        def said() -> dict[str, Any]:
            return defaults("sync", None, root)

        text = '[tool.colab_magics.sync]\nto = "kept"\nevery = "5m"\n'
        (repository / "pyproject.toml").write_text(text)
        root = clone()
        assert said() == {"every": "5m"}
        shown = str(trust(str(root)))
        assert "Nothing was allowed" in shown, "nobody can answer here"
        assert '"kept"' in ui.out.getvalue(), "it is shown before it is asked"
        assert said() == {"every": "5m"}
        trust(str(root), yes=True)
        assert said() == {"to": "kept", "every": "5m"}
        assert "count already" in str(trust(str(root)))
        (root / "pyproject.toml").write_text(text.replace("5m", "9m") + "[project]\nname = 'net'\n")
        assert said() == {"to": "kept", "every": "9m"}, "what is harmless may change"
        (root / "pyproject.toml").write_text(text + '[tool.colab_magics.remote]\nenv = "theirs"\n')
        assert said() == {"every": "5m"}, "what is not may not"
        (root / "pyproject.toml").write_text(text)
        shutil.copytree(root, home / "copy")
        assert defaults("sync", None, home / "copy") == {"every": "5m"}
        trust(str(root), forget=True)
        assert said() == {"every": "5m"}
        notes = home / ".local" / "state" / "colab_magics" / "trusted"
        assert notes.stat().st_mode & 0o777 == 0o700
        assert {note.stat().st_mode & 0o777 for note in notes.iterdir()} == {0o600}

    @pytest.mark.parametrize("answer", [True, False])
    def test_the_user_is_asked_once(
        self, clone: Any, ui: RecordingUI, monkeypatch: pytest.MonkeyPatch, answer: bool
    ) -> None:
        asked: list[str] = []
        monkeypatch.setattr(ui, "ask", lambda question: asked.append(ui.out.getvalue()) or answer)
        root = clone()
        (root / "pyproject.toml").write_text("[tool.colab_magics.sync]\nevery = '1s'\n")
        assert "asks for it" in str(trust())
        (root / "pyproject.toml").write_text(
            "[tool.colab_magics.sync]\nto = 'kept'\n[tool.colab_magics.fork]\non = 'x'\n"
        )
        says(root, place="/theirs")
        shown = str(trust())
        assert len(asked) == 1
        assert all(part in asked[0] for part in ("sync.to", '"kept"', "fork.on", '"x"', "place", '"/theirs"'))
        assert ("from now on" in shown) == answer
        assert defaults("fork", None, root) == ({"on": "x"} if answer else {})
        assert (find_project(root).place is not None) == answer  # type: ignore[union-attr]
        with pytest.raises(NotFound, match="There is no folder"):
            trust("gone")

    def test_the_question_cannot_be_answered_by_the_repository(
        self, repository: Path, clone: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (repository / "pyproject.toml").write_text("[tool.colab_magics.trust]\nyes = true\n")
        clone()
        assert face.main(["trust"]) == 2
        assert "only the call itself may say it" in capsys.readouterr().err

    def test_what_is_shown_does_not_rule_the_terminal(self, clone: Any, ui: RecordingUI) -> None:
        root = clone()
        (root / "pyproject.toml").write_text('[tool.colab_magics.sync]\nto = "\\u001b[2J\\u202elmx\\nx"\n')
        trust()
        assert r"\u001b[2J\u202elmx\nx" in ui.out.getvalue()
        assert "\x1b" not in ui.out.getvalue()

    @pytest.mark.parametrize("name", ["pyproject.toml", MARKER])
    def test_what_another_user_owns_is_not_read(
        self, clone: Any, home: Path, ui: RecordingUI, tmp_path: Path, name: str
    ) -> None:
        if os.geteuid() != 0:
            pytest.skip("giving a file to another user needs root")
        root = clone()
        says(root, job="theirs")
        (root / "pyproject.toml").write_text('[tool.colab_magics.sync]\nevery = "1s"\n')
        os.chown(root / name, 65534, -1)
        git("config", "--global", "--unset", "safe.directory")
        read = (defaults("sync", None, root), find_project(root, warn=ui.warn) is not None)
        assert read == ({"every": "1s"}, False) if name == MARKER else ({}, True)
        assert f"{root / name} is not read: it belongs to another user" in ui.out.getvalue()
        assert f"safe.directory {root}" in ui.out.getvalue()
        git("config", "--global", "--add", "safe.directory", str(root))
        assert (defaults("sync", None, root), find_project(root) is not None) == ({"every": "1s"}, True)

    @pytest.mark.parametrize("edge", ["checkout", "home"])
    def test_what_stands_above_is_not_read(
        self, clone: Any, home: Path, ui: RecordingUI, monkeypatch: pytest.MonkeyPatch, edge: str
    ) -> None:
        root = clone()
        if edge == "home":
            shutil.rmtree(root / ".git")
            monkeypatch.setenv("HOME", str(root))
        says(home, name="above")
        (home / "pyproject.toml").write_text('[tool.colab_magics.sync]\nto = "/theirs"\nevery = "1s"\n')
        (root / "deep").mkdir()
        assert defaults("sync", None, root / "deep") == {}
        assert find_project(root / "deep", warn=ui.warn) is None
        for name in (MARKER, "pyproject.toml"):
            assert f"{home / name} is not read: it stands above {root}" in ui.out.getvalue()

    def test_no_other_file_is_followed_or_waited_for(self, clone: Any, home: Path, ui: RecordingUI) -> None:
        root = clone()
        (home / "keys" / "x.toml").write_text('[tool.colab_magics.sync]\nevery = "1s"\n')
        (root / "pyproject.toml").symlink_to(home / "keys" / "x.toml")
        assert defaults("sync", None, root) == {}
        assert "is not read (a link to" in ui.out.getvalue()
        (root / "pyproject.toml").unlink()
        os.mkfifo(root / "pyproject.toml")
        assert defaults("sync", None, root) == {}
        (root / "pyproject.toml").unlink()
        (root / "pyproject.toml").write_text("[tool.colab_magics.sync]\nevery = " + "[" * 100_000)
        with pytest.raises(InvalidInput, match="cannot be read"):
            defaults("sync", None, root)


def every_option() -> list[tuple[str, str | None, str]]:
    """Return all options of all verbs and their subcommands."""
    return [
        (verb, word, option)
        for verb in VERBS
        for word, function in {None: load(verb), **subcommands(load(verb))}.items()
        for option in options(function)
    ]


@pytest.mark.parametrize(("verb", "word", "option"), every_option())
def test_no_option_counts_that_nobody_has_thought_about(
    clone: Any, ui: RecordingUI, verb: str, word: str | None, option: str
) -> None:
    root = clone()
    heading = f"tool.colab_magics.{verb}" + (f".{word}" if word else "")
    (root / "pyproject.toml").write_text(f'[{heading}]\n{option} = "x"\n')
    function = subcommands(load(verb))[word] if word else load(verb)
    if option in {name.replace("_", "-") for name in getattr(function, "call_only", ())}:
        with pytest.raises(InvalidInput, match="only the call itself"):
            defaults(verb, word, root)
        return
    harmless = option in HARMLESS.get(verb, ())
    assert defaults(verb, word, root) == ({option: "x"} if harmless else {})
    assert len(lines(ui, f"{option}=")) == (not harmless)


def test_the_list_of_what_is_harmless_holds_nothing_else() -> None:
    known = {(verb, option) for verb, _, option in every_option()}
    assert {(verb, option) for verb, names in HARMLESS.items() for option in names} <= known
    never = {"git", "token", "secrets", "to", "inputs", "root", "install", "requirements", "notebook", "rsync", "env"}
    never |= {
        "python",
        "on",
        "folder",
        "include",
        "branch",
        "update",
        "force",
        "delete",
        "yes",
        "detach",
        "restore",
        "keep",
    }
    assert not [option for names in HARMLESS.values() for option in names if option in never]
    assert "need" not in HARMLESS["submit"], "it picks machines, and the code goes there"


def _cells(*sources: str) -> list[Any]:
    return [nbformat.v4.new_code_cell(source) for source in sources]
