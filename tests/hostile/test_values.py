"""Hostile values of a project's options: names, jobs, Places, addresses, branches, inputs, files and patterns.

They try to leave the project's folder, to be read as an option of a program, and to reach a shell, here or on the other
machine. Each is either refused with an error that says what to do, or taken for nothing but a name. Repositories are
cloned and Places reached for real, through a real sshd.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkout.conftest import RecordingUI, blocks
from conftest import git
from sshd import Sshd, sshd

from colab_magics import project, session, sync
from colab_magics.errors import ColabMagicsError
from colab_magics.mirror import control

SHELL = [
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "a'; touch pwned; '",
    'a"; touch pwned; "',
    "| touch pwned",
    "&& touch pwned",
    "a\ntouch pwned\n",
    "${IFS}touch${IFS}pwned",
    "!touch pwned",
    "{__import__('os').system('touch pwned')}",
    "%0atouch pwned",
    "\\$(touch pwned)",
]
OPTIONS = [
    "-rf",
    "--force",
    "--upload-pack=touch pwned",
    "-e touch pwned",
    "--rsh=touch pwned",
    "-oProxyCommand=touch pwned",
]
LEADING_OUT = [
    "..",
    "../outside",
    "a/../../outside",
    "/etc",
    "/",
    ".",
    "~root",
    "~/outside",
    "..\\outside",
    "a/b",
    "\0",
    "a\0/../..",
]
ODD = [
    "",
    " ",
    " a",
    "a ",
    ".git",
    ".ssh",
    ".hidden",
    "\x1b]0;title\x07",
    "a\u202etxt",
    "a\u2028b",
    "\ud800",
    "x" * 300,
]

NAMES = [*SHELL, *OPTIONS, *LEADING_OUT, *ODD]
ADDRESSES = [
    *SHELL,
    *OPTIONS,
    *("ext::sh -c touch% pwned", "ext::touch pwned", "fd::3", "a::b", "::", "transport::address"),
    *("ssh://-oProxyCommand=touch%20pwned/net", "ssh://-oProxyCommand=touch${IFS}pwned/net"),
    *("-oProxyCommand=touch pwned:net", "git@-oProxyCommand=touch pwned:net", "box;touch pwned:net"),
    *(
        "box:$(touch pwned)",
        "box:`touch pwned`",
        "box:;touch pwned",
        "box:a'; touch pwned; '",
        "box:-rf",
        "box:\npwned",
    ),
    *("ssh://box/$(touch pwned)", "ssh://box/;touch pwned", "ssh://$(touch pwned)/net", "ssh://box:1;touch pwned/net"),
    *("https://name:s3cret@127.0.0.1:1/net", "https://127.0.0.1:1/..", "https://127.0.0.1:1/", "https:///net"),
    *("file:///etc/passwd", "file://", "javascript:touch", "data:text/plain,x", "\0", "http://a b/net", "~nobody/net"),
]
PLACES = [
    *(
        "-oProxyCommand=touch pwned:kept",
        "git@-oProxyCommand=touch pwned:kept",
        "-e touch pwned:kept",
        "$(touch pwned):kept",
    ),
    *(
        "box:-rf",
        "box:--rsh=touch pwned",
        "box:~root",
        "box:",
        "box:\0",
        "box;touch pwned:kept",
        "box touch pwned:kept",
    ),
    *("box:HERE/$(touch pwned)", "box:HERE/`touch pwned`", "box:HERE/;touch pwned", "box:HERE/a'; touch pwned; '"),
    *("ext::touch pwned", "s3://kept", "rclone:kept:x", "file:///kept", "\0", "", " ", ",", "drive", "\nkept:x"),
]
INPUTS = [
    "/etc/passwd",
    "../outside",
    "a/../../outside",
    "..",
    "",
    ",",
    "/",
    "\0",
    "~/outside",
    "-rf",
    "$(touch pwned)",
]
FOLDERS = ["..", "/etc", "a/../..", "~", "\0", "-rf", "$(touch pwned)", "net/../.."]
BRANCHES = ["--upload-pack=touch pwned", "-b", "", "$(touch pwned)", "../..", "\0", "a..b", "--orphan"]
PATTERNS = [*SHELL[:4], *OPTIONS, "/", "../*", "\0", "[", "**", "- *", "merge /etc/passwd", ". /etc/passwd"]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A machine named box; who logs in stands in an empty folder."""
    folder = tmp_path_factory.mktemp("box")
    (folder / "home").mkdir()
    with sshd(folder, session_home=folder / "home") as server:
        yield server


@pytest.fixture
def work(box: Sshd, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in an empty folder beside another one; afterwards that one is untouched, and nothing was executed."""
    folder, outside = tmp_path / "work", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "in.txt").write_text("mine")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("GIT_SSH_COMMAND", f"ssh -F '{box.config_file}' -o BatchMode=yes")
    monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(box.config_file))
    session.activate(session.Session(ui=RecordingUI(), start_folder=folder))
    yield folder
    assert os.listdir(outside) == ["in.txt"]
    assert (outside / "in.txt").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["outside", "work"]
    assert set(os.listdir(home)) <= {".local", "gitconfig"}
    for base in (tmp_path, home, box.config_file.parents[1]):
        assert not list(base.rglob("pwned"))
    assert not (Path(pwd.getpwuid(os.getuid()).pw_dir) / "pwned").exists(), "where who logs in stands"
    assert Path.cwd().is_relative_to(folder)


def survive(**values: Any) -> Path | None:
    """Set a project up; return its folder, or None when that was refused with an error that says what to do."""
    try:
        made = project(**values)
    except ColabMagicsError as error:
        blocks(error)
        return None
    for folder in (made.data_project, made.data_job, made.notebooks):
        assert Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(made.root))
    return made.root


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names(work: Path, name: str) -> None:
    assert survive(name=name) in (None, work / name)


@pytest.mark.parametrize("job", NAMES, ids=ascii)
def test_jobs(work: Path, job: str) -> None:
    survive(name="net", job=job)
    assert set(os.listdir(work)) <= {"net"}


@pytest.mark.parametrize("address", ADDRESSES, ids=ascii)
def test_addresses(work: Path, address: str) -> None:
    root = survive(git=address, root=".")
    assert root is None, "none of them is a repository"
    assert os.listdir(work) == []


@pytest.mark.parametrize("place", PLACES, ids=ascii)
def test_places(work: Path, box: Sshd, place: str) -> None:
    here = box.config_file.parents[1] / "home"
    root = survive(name="net", to=place.replace("HERE", str(here)))
    assert (root is not None) == place.startswith("box:HERE/"), "the others are no Places"
    if root is not None:
        (handle,) = control.running()
        handle.stop(30)
        assert (here / place.removeprefix("box:HERE/") / "data_job" / "default").is_dir()


@pytest.mark.parametrize("inputs", INPUTS, ids=ascii)
def test_inputs(work: Path, tmp_path: Path, inputs: str) -> None:
    (tmp_path / "work" / "kept" / "data_project").mkdir(parents=True)
    assert survive(name="net", to="kept", inputs=inputs) is None


@pytest.mark.parametrize("option", ["notebooks", "requirements"])
@pytest.mark.parametrize("value", FOLDERS, ids=ascii)
def test_folders(work: Path, option: str, value: str) -> None:
    assert survive(name="net", **{option: value}) is None


def test_a_root_that_cannot_be(work: Path) -> None:
    assert survive(name="net", root="\0") is None, "else where a project stands is the user's to say"


@pytest.mark.parametrize("branch", BRANCHES, ids=ascii)
def test_branches(work: Path, tmp_path: Path, branch: str) -> None:
    source = work / "source"
    git("init", "--quiet", str(source))
    git("commit", "--quiet", "--allow-empty", "-m", "first", cwd=source)
    assert survive(git=str(source), root="there", branch=branch) is None
    assert not (work / "there" / "source").exists()


@pytest.mark.parametrize("option", ["exclude", "keep"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=ascii)
def test_patterns(work: Path, option: str, pattern: str) -> None:
    (work / "results").mkdir()
    (work / "results" / "out.txt").write_text("out")
    (work / "kept").mkdir()
    (work / "kept" / "earlier.txt").write_text("earlier")
    try:
        handle = sync("results", to="kept", **{option: pattern if option == "exclude" else f"3:{pattern}"})
    except ColabMagicsError as error:
        blocks(error)
        return
    assert handle is not None
    handle.stop(30)
    assert (work / "kept" / "earlier.txt").read_text() == "earlier"
