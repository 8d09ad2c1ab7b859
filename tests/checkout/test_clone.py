"""Clones and updates, by real git."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import git as run_git
from conftest import poll

from colab_magics.checkout import clone, git
from colab_magics.errors import ColabMagicsError, CommandFailed, InvalidInput, Unavailable

from .conftest import blocks
from .git_server import git_server

SECRET = "ghp_Zq7'$(touch gone) \"w"


def files_with(text: str, folder: Path) -> list[Path]:
    """Return the files below a folder that hold a text."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and text.encode() in path.read_bytes()
    ]


@pytest.mark.parametrize("name", ["net", "with space", "a'; echo foo", "$(touch gone)", "ünï-日本"])
def test_clone_of_a_folder(bare: Path, work: Path, name: str) -> None:
    clone.clone(git.parse(str(bare)), work / name)
    assert (work / name / "README.md").read_text() == "net\n"
    assert os.listdir(work) == [name]
    assert run_git("config", "remote.origin.url", cwd=work / name) == str(bare)


def test_clone_of_a_branch(bare: Path, work: Path, push: Any) -> None:
    run_git("branch", "dev", cwd=bare)
    push("late.txt", "x")
    clone.clone(git.parse(bare.as_uri()), work / "net", branch="dev")
    assert run_git("branch", "--show-current", cwd=work / "net") == "dev"
    assert not (work / "net" / "late.txt").exists()
    with pytest.raises(CommandFailed, match="branch gone") as error:
        clone.clone(git.parse(str(bare)), work / "other", branch="gone")
    assert "branch=" in blocks(error.value)
    with pytest.raises(InvalidInput, match="no branch"):
        clone.clone(git.parse(str(bare)), work / "other", branch="--config=x")
    assert os.listdir(work) == ["net"]


def test_a_missing_repository_is_an_error_and_leaves_nothing(work: Path) -> None:
    with pytest.raises(CommandFailed, match="does not exist") as error:
        clone.clone(git.parse("./gone.git"), work / "net")
    assert "path of a git repository" in blocks(error.value)
    assert os.listdir(work) == []


def test_an_interrupted_clone_is_not_taken_for_a_project(bare: Path, work: Path, tmp_path: Path) -> None:
    # A git that stops half-way: it has made the folder, and never ends.
    tools, started = tmp_path / "tools", tmp_path / "started"
    tools.mkdir()
    (tools / "git").write_text(
        "#!/bin/sh\n"
        f'for last; do :; done; mkdir -p "$last/.git"; echo half >"$last/half"; touch "{started}"; exec sleep 100\n'
    )
    (tools / "git").chmod(0o755)
    code = (
        "from pathlib import Path; from colab_magics.checkout import clone, git; "
        f"clone.clone(git.Source({str(bare)!r}, 'local', 'k', 'net'), Path('net'))"
    )
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", code], cwd=work, env=env, stderr=subprocess.DEVNULL)
    poll(started.exists, what="git has begun")
    child.send_signal(signal.SIGINT)
    assert child.wait(30) != 0
    assert not (work / "net").exists()


def test_a_folder_that_appears_meanwhile_is_kept(bare: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def late(source: Any, target: Any) -> None:
        Path(target).mkdir()
        (Path(target) / "mine.txt").write_text("mine")
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(Unavailable, match="cannot become") as error:
        clone.clone(git.parse(str(bare)), work / "net")
    assert "root=" in blocks(error.value)
    assert os.listdir(work / "net") == ["mine.txt"]


@pytest.fixture
def spied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a git on the PATH that writes its arguments down; returns the file."""
    tools, seen = tmp_path / "tools", tmp_path / "arguments"
    tools.mkdir()
    real = subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout.strip()
    (tools / "git").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>"{seen}"\nexec "{real}" "$@"\n')
    (tools / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return seen


def test_a_token_clones_and_updates_and_is_found_nowhere(
    bare: Path,
    work: Path,
    home: Path,
    spied: Path,
    push: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    # The user's own helper would store whatever it is shown.
    run_git("config", "--global", "credential.helper", f"store --file={home}/stored")
    with git_server(bare.parent, password=SECRET) as server:
        source = git.parse(f"{server.url}/net.git")
        token = git.Token("MY_TOKEN", SECRET)
        clone.clone(source, work / "net", token=token)
        push("later.txt", "later")
        assert "1 new commit" in clone.update(work / "net", token=token)
    assert (work / "net" / "later.txt").exists()
    assert f"x-access-token:{SECRET}" in server.logins
    assert "clone" in spied.read_text()
    assert SECRET not in spied.read_text()
    assert SECRET not in caplog.text
    assert files_with(SECRET, tmp_path) == []
    assert files_with(SECRET, home) == []
    assert not (home / "stored").exists(), "the user's helper was not asked to keep it"
    assert run_git("config", "remote.origin.url", cwd=work / "net") == source.text
    assert os.listdir(temporary) == []


def test_a_wrong_token_says_which_secret_and_never_its_value(
    bare: Path, work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with git_server(bare.parent, password="right") as server, pytest.raises(CommandFailed) as error:
        clone.clone(git.parse(f"{server.url}/net.git"), work / "net", token=git.Token("MY_TOKEN", SECRET))
    assert "secret MY_TOKEN was not accepted" in blocks(error.value)
    assert SECRET not in f"{error.value} {error.value.output} {caplog.text}"
    assert f"x-access-token:{SECRET}" in server.logins
    assert os.listdir(work) == []


def test_a_token_that_a_program_prints_is_blotted_out(
    bare: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git").write_text('#!/bin/sh\necho "fatal: $COLAB_MAGICS_GIT_TOKEN was refused" >&2\nexit 128\n')
    (tools / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with pytest.raises(CommandFailed, match=r"fatal: \*\*\* was refused") as error:
        clone.clone(git.parse("https://example.org/net"), work / "net", token=git.Token("T", SECRET))
    assert SECRET not in f"{error.value!r} {error.value.output} {caplog.text}"


def test_a_token_is_not_given_to_the_server_that_another_redirects_to(bare: Path, work: Path) -> None:
    with (
        git_server(bare.parent, password="x") as thief,
        git_server(bare.parent, password=SECRET, moved_to=thief.url) as server,
        pytest.raises(CommandFailed),
    ):
        clone.clone(git.parse(f"{server.url}/net.git"), work / "net", token=git.Token("MY_TOKEN", SECRET))
    assert thief.logins == []


@pytest.mark.parametrize("asker", ["GIT_ASKPASS", "SSH_ASKPASS"])
def test_a_private_repository_without_a_login_fails_at_once(
    bare: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asker: str
) -> None:
    # A window that asks, and waits for somebody to answer.
    (tmp_path / "ask").write_text(f"#!/bin/sh\ntouch '{tmp_path}/asked'\nexec sleep 100\n")
    (tmp_path / "ask").chmod(0o755)
    monkeypatch.setenv(asker, str(tmp_path / "ask"))
    monkeypatch.setenv("DISPLAY", ":0")
    with git_server(bare.parent, password="x") as server, pytest.raises(CommandFailed) as error:
        clone.clone(git.parse(f"{server.url}/net.git"), work / "net")
    assert not (tmp_path / "asked").exists()
    text = blocks(error.value)
    assert "token=secret:NAME" in text
    assert "your own credentials" in text


def test_the_users_own_helper_serves(bare: Path, work: Path, home: Path) -> None:
    with git_server(bare.parent, password="mine") as server:
        (home / "stored").write_text(server.url.replace("://", "://me:mine@") + "\n")
        run_git("config", "--global", "credential.helper", f"store --file={home}/stored")
        clone.clone(git.parse(f"{server.url}/net.git"), work / "net")
    assert (work / "net" / "README.md").exists()
    assert server.logins[0] == "me:mine"


def test_a_server_that_is_not_there_is_no_matter_of_logins(bare: Path, work: Path) -> None:
    with git_server(bare.parent, password=None) as server:
        pass
    with pytest.raises(CommandFailed) as error:
        clone.clone(git.parse(f"{server.url}/net.git"), work / "net")
    assert "Check the address" in blocks(error.value)


class TestUpdate:
    """``--update`` fast-forwards only."""

    @pytest.fixture
    def here(self, bare: Path, work: Path) -> Path:
        clone.clone(git.parse(str(bare)), work / "net")
        return work / "net"

    def head(self, here: Path) -> str:
        return run_git("rev-parse", "HEAD", cwd=here)

    def test_fast_forward(self, here: Path, push: Any) -> None:
        assert "up to date" in clone.update(here)
        push("later.txt", "later")
        assert "updated to origin/main" in clone.update(here)
        assert (here / "later.txt").read_text() == "later"

    def test_edits_are_not_touched(self, here: Path, push: Any) -> None:
        push("README.md", "theirs")
        before = self.head(here)
        (here / "README.md").write_text("mine")
        with pytest.raises(InvalidInput, match="not committed") as error:
            clone.update(here)
        assert "git stash" in blocks(error.value)
        assert (here / "README.md").read_text() == "mine"
        assert self.head(here) == before

    def test_a_diverged_branch_is_left_alone(self, here: Path, push: Any) -> None:
        push("theirs.txt", "theirs")
        (here / "mine.txt").write_text("mine")
        run_git("add", ".", cwd=here)
        run_git("commit", "--quiet", "-m", "mine", cwd=here)
        before = self.head(here)
        with pytest.raises(InvalidInput, match="1 commits here, 1 there") as error:
            clone.update(here)
        assert "git rebase" in blocks(error.value)
        assert self.head(here) == before
        assert not (here / "theirs.txt").exists()

    def test_own_commits_alone_are_up_to_date(self, here: Path) -> None:
        run_git("commit", "--quiet", "--allow-empty", "-m", "mine", cwd=here)
        assert "up to date" in clone.update(here)

    def test_an_untracked_file_in_the_way_is_kept(self, here: Path, push: Any) -> None:
        push("later.txt", "theirs")
        (here / "later.txt").write_text("mine")
        with pytest.raises(InvalidInput, match=r"nothing was changed(.|\n)*later.txt") as error:
            clone.update(here)
        blocks(error.value)
        assert (here / "later.txt").read_text() == "mine"

    def test_without_a_branch_to_follow(self, here: Path) -> None:
        run_git("checkout", "--quiet", "--detach", cwd=here)
        with pytest.raises(InvalidInput, match="follows no branch") as error:
            clone.update(here)
        assert "--set-upstream" in blocks(error.value)

    def test_a_password_in_the_origin_is_not_shown(
        self, here: Path, bare: Path, spied: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with git_server(bare.parent, password="r1ght") as server:
            address = f"{server.url}/net.git".replace("://", "://me:s3cret@")
            run_git("remote", "set-url", "origin", address, cwd=here)
            spied.write_text("")
            with pytest.raises(ColabMagicsError, match="could not read") as error:
                clone.update(here)
            assert "s3cret" not in f"{error.value} {caplog.text} {spied.read_text()}"
            assert "up to date" in clone.update(here, token=git.Token("T", "r1ght"))
        assert server.logins[0] == "me:s3cret"
        assert server.logins[-1] == "x-access-token:r1ght"
        assert "r1ght" not in caplog.text + spied.read_text()
        assert "s3cret" not in caplog.text + spied.read_text()

    def test_a_server_that_is_gone(self, here: Path, bare: Path) -> None:
        bare.rename(bare.with_name("moved"))
        with pytest.raises(ColabMagicsError, match="could not read") as error:
            clone.update(here)
        blocks(error.value)
