"""``%host put`` and ``get``: files and folders of a project there and back, to be continued when they were cut."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import HOSTILE_NAMES, poll, set_up
from fronts import ROOT
from sshd import Sshd, sshd
from test_copy import PROGRAMS, tree
from test_login_shells import SHELLS

import colab_magics
from colab_magics.errors import ColabMagicsError, CommandFailed, InvalidInput, NotFound, Unavailable
from colab_magics.transport import bulk, hosts
from colab_magics.ui import TerminalUI

BIG = 60_000_000


@pytest.fixture
def there(home: Path) -> Path:
    """The project's folder on the machine; it is not there yet."""
    (home / "there").mkdir()
    return home / "there" / "colab's $(x) net"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The project's folder here."""
    return set_up(tmp_path / "net", TerminalUI(out=io.StringIO())).root


@pytest.fixture
def box(tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """Run a machine."""
    with sshd(tmp_path, session_home=there.parent) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        yield server


@pytest.fixture
def few(tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """Run a machine without rsync."""
    programs = tmp_path / "few"
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).symlink_to(shutil.which(name) or "")
    with sshd(tmp_path, session_home=there.parent, session_path=str(programs)) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        yield server


@pytest.fixture
def slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have rsync copy twenty megabytes in a second; the call lets it go at full speed again."""
    real = shutil.which("rsync")
    (tmp_path / "bin").mkdir()
    slow = tmp_path / "bin" / "rsync"
    slow.write_text(f'#!/bin/sh\nexec {real} --bwlimit=20m "$@"\n')
    slow.chmod(0o755)
    before = os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{slow.parent}:{before}")
    return lambda: monkeypatch.setenv("PATH", before)


def fill(root: Path) -> None:
    for name in HOSTILE_NAMES:
        (root / "data_project" / name).mkdir(parents=True)
        (root / "data_project" / name / name).write_text(name)
    (root / "data_project" / "empty").mkdir()
    (root / "data_project" / "inner").symlink_to("empty")


@pytest.mark.parametrize("machine", ["box", "few"])
def test_a_folder_goes_and_comes_back(
    machine: str, root: Path, there: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    request.getfixturevalue(machine)
    fill(root)
    (root / "data_project" / "__pycache__").mkdir()
    (root / "data_project" / ".env").write_text("KEY=1")
    (root / "data_project" / "out").symlink_to("/etc")
    told = str(colab_magics.host.put("data_project", host="box", folder=str(there)))  # type: ignore[attr-defined]
    assert "data_project/.env: looks like a secret" in told
    assert "data_project/out: a link that leads out" in told
    kept = tree(root)
    for gone in ("data_project/.env", "data_project/out", "data_project/__pycache__", "data_job", ".colab_magics.json"):
        kept.pop(gone, None)
    kept = {name: value for name, value in kept.items() if name.startswith("data_project")}
    assert tree(there) == kept
    # Again, into what is there: nothing is deleted.
    (there / "data_project" / "own").write_text("own")
    (root / "data_project" / "empty" / "new").write_text("new")
    bulk.put("box", root, ["data_project"], str(there))
    assert (there / "data_project" / "own").read_text() == "own"
    assert (there / "data_project" / "empty" / "new").read_text() == "new"
    back = tmp_path / "back"
    back.mkdir()
    bulk.get("box", back, ["data_project"], str(there))
    assert tree(back).keys() == tree(there).keys()


@pytest.mark.parametrize("machine", ["box", "few"])
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_single_files_of_any_name(
    machine: str, name: str, root: Path, there: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(machine)
    (root / "a").mkdir()
    (root / "a" / name).write_text("one")
    bulk.put("box", root, [f"a/{name}"], str(there))
    assert [path.name for path in (there / "a").iterdir()] == [name]
    (root / "a" / name).unlink()
    bulk.get("box", root, [f"a/{name}"], str(there))
    assert (root / "a" / name).read_text() == "one"


def test_a_secret_goes_when_it_is_named(box: Sshd, root: Path, there: Path) -> None:
    (root / "conf").mkdir()
    (root / "conf" / ".env").write_text("KEY=1")
    moved = bulk.put("box", root, ["conf", "."], str(there))
    assert moved.secret == ["conf/.env", "conf/.env"]
    assert not (there / "conf" / ".env").exists()
    assert bulk.put("box", root, ["conf/.env"], str(there)).secret == []
    assert (there / "conf" / ".env").read_text() == "KEY=1"


def test_what_is_newer_there_stays(box: Sshd, root: Path, there: Path) -> None:
    (root / "a").write_text("old")
    os.utime(root / "a", (1_600_000_000, 1_600_000_000))
    there.mkdir()
    (there / "a").write_text("newer")
    told = str(colab_magics.host.put("a", host="box", folder=str(there)))  # type: ignore[attr-defined]
    assert "a: newer on the other side" in told
    assert (there / "a").read_text() == "newer"
    colab_magics.host.put("a", host="box", folder=str(there), force=True)  # type: ignore[attr-defined]
    assert (there / "a").read_text() == "old"
    (root / "a").write_text("mine, newer")
    assert bulk.get("box", root, ["a"], str(there)).newer == ["a"]
    assert (root / "a").read_text() == "mine, newer"


def test_a_folder_there_that_is_a_link_stays_one(box: Sshd, root: Path, there: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    there.mkdir()
    (there / "data_project").symlink_to(tmp_path / "scratch")
    fill(root)
    bulk.put("box", root, ["data_project"], str(there))
    assert (there / "data_project").is_symlink()
    assert tree(tmp_path / "scratch") == tree(root / "data_project")
    shutil.rmtree(root / "data_project")
    bulk.get("box", root, ["data_project"], str(there))
    assert tree(tmp_path / "scratch") == tree(root / "data_project")
    (root / "data_project" / "empty" / "x").write_text("x")
    bulk.put("box", root, ["data_project/empty/x"], str(there))
    assert (tmp_path / "scratch" / "empty" / "x").read_text() == "x"
    # One that stands deeper is left alone too, though nothing goes through it.
    (tmp_path / "deep").mkdir()
    (there / "a").mkdir()
    (there / "a" / "b").symlink_to(tmp_path / "deep")
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "x").write_text("x")
    with contextlib.suppress(CommandFailed):  # rsync goes through links no more from 3.5 on
        bulk.put("box", root, ["a"], str(there))
    assert (there / "a" / "b").is_symlink()


def test_nothing_is_read_or_written_outside_of_the_project(box: Sshd, root: Path, there: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("mine")
    (root / "out").symlink_to(outside)
    (root / "data").mkdir()
    (root / "data" / "out").symlink_to(outside)
    (there / "data" / "out").mkdir(parents=True)
    (there / "data" / "out" / "x").write_text("evil")
    (there / "data" / "link").symlink_to("/etc/passwd")
    (there / ".git" / "hooks").mkdir(parents=True)
    (there / ".git" / "hooks" / "post-commit").write_text("evil")
    for name in ("../outside", "/etc/passwd", "out", "out/x", "data/out/x", "a\0b", ""):
        for copy in (bulk.put, bulk.get):
            with pytest.raises(InvalidInput):
                copy("box", root, [name], str(there))
    with pytest.raises(InvalidInput, match="leads out"):
        bulk.get("box", root, ["data"], str(there))
    assert (outside / "x").read_text() == "mine"
    (root / "data" / "out").unlink()
    bulk.get("box", root, ["data"], str(there))
    assert not os.path.lexists(root / "data" / "link")
    (root / "out").unlink()
    bulk.get("box", root, [".", ".git"], str(there))
    assert (root / "data" / "out" / "x").exists()
    assert not (root / ".git").exists()


def test_what_is_not_there_is_said(box: Sshd, root: Path, there: Path) -> None:
    with pytest.raises(NotFound, match="There is no nothing in"):
        bulk.put("box", root, ["nothing"], str(there))
    with pytest.raises(NotFound, match=r"There is no b in .* on box"):
        bulk.get("box", root, ["b"], str(there))
    (root / "a").write_text("a")
    (there.parent / "file").write_text("x")
    with pytest.raises(Unavailable, match="cannot be made on box"):
        bulk.put("box", root, ["a"], str(there.parent / "file" / "x"))
    with pytest.raises(InvalidInput, match=r"Known: box"):
        colab_magics.host.put("a")  # type: ignore[attr-defined]
    with pytest.raises(Unavailable, match=r"did you mean box\? Known: box"):
        colab_magics.host.get("a", host="bax")  # type: ignore[attr-defined]
    (there / "a").mkdir(parents=True)
    (there / "a" / "b").touch()
    with pytest.raises(CommandFailed, match="Copying to or from box failed"):
        bulk.put("box", root, ["a"], str(there))


def _rsyncs_of(home: str) -> list[int]:
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if one.name() == "rsync" and one.environ().get("HOME") == home:
                found.append(one.pid)
    return found


@pytest.mark.parametrize("way", ["put", "get"])
def test_a_copy_that_was_cut_goes_on(way: str, box: Sshd, root: Path, there: Path, slowly: Callable[[], None]) -> None:
    source, target = (root, there) if way == "put" else (there, root)
    for folder in (root, there):
        (folder / "data").mkdir(parents=True)
    (source / "data" / "big").write_bytes(os.urandom(BIG))
    copy = bulk.put if way == "put" else bulk.get
    failed: list[BaseException] = []

    def work() -> None:
        try:
            copy("box", root, ["data"], str(there))
        except ColabMagicsError as error:
            failed.append(error)

    working = threading.Thread(target=work)
    working.start()
    poll(lambda: [path for path in (target / "data").glob(".big.*") if path.stat().st_size > BIG // 4])
    cut = [p for p in psutil.Process(box.process.pid).children(recursive=True) if p.name().startswith("sshd")]
    for session in cut:
        session.send_signal(signal.SIGKILL)
    working.join(60)
    assert isinstance(failed[0], Unavailable), failed
    assert "goes on where it stopped" in str(failed[0])
    assert not (target / "data" / "big").exists()
    part = poll(lambda: list((target / "data").glob(f"{bulk.PARTIAL}/big")), what="what has arrived is kept")
    # An end may still be writing: rsync would find the file changed, and send it twice.
    poll(lambda: not any(map(_rsyncs_of, (str(there.parent), os.environ["HOME"]))), what="both ends are gone")
    slowly()
    kept = part[0].stat().st_size
    assert kept >= BIG // 4
    moved = copy("box", root, ["data"], str(there))
    assert moved.size == BIG
    assert moved.sent <= BIG - kept + 100_000
    assert (target / "data" / "big").read_bytes() == (source / "data" / "big").read_bytes()
    assert [path.name for path in (target / "data").iterdir()] == ["big"]


def test_an_interrupted_copy_goes_on(box: Sshd, root: Path, there: Path, slowly: Callable[[], None]) -> None:
    (there / "data").mkdir(parents=True)
    (there / "data" / "big").write_bytes(os.urandom(BIG))
    command = [sys.executable, "-m", "colab_magics", "host", "get", "data", "host=box", f"folder={there}"]
    working = subprocess.Popen(
        command, cwd=root, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    poll(lambda: [path for path in (root / "data").glob(".big.*") if path.stat().st_size > BIG // 4])
    working.send_signal(signal.SIGINT)
    assert working.wait(30) == 130
    assert "Traceback" not in working.communicate()[1]
    kept = (root / "data" / bulk.PARTIAL / "big").stat().st_size
    slowly()
    assert bulk.get("box", root, ["data"], str(there)).sent <= BIG - kept + 100_000


def test_a_copy_of_some_seconds_shows_how_far_it_is(
    box: Sshd, root: Path, there: Path, slowly: Callable[[], None]
) -> None:
    (root / "big").write_bytes(os.urandom(BIG + BIG // 2))
    said = io.StringIO()
    with bulk.shown(TerminalUI(out=said), "copying to box") as tell:
        bulk.put("box", root, ["big"], str(there), tell=tell)
    assert "copying to box" in said.getvalue()
    assert "%" in said.getvalue()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", ["colab_magics/net", *HOSTILE_NAMES])
def test_the_line_that_opens_a_shell(shell: str, name: str, tmp_path: Path, home: Path) -> None:
    """The words that ssh gets of the line, given to a login shell as sshd gives them."""
    words = shlex.split(hosts.shell_line("box", name, "my.net: 1"))
    assert words[:2] == ["ssh", "-t"]
    for tmux in (True, False):
        programs = tmp_path / f"{tmux}"
        programs.mkdir()
        for program in ("sh", "mkdir", "pwd"):
            (programs / program).symlink_to(shutil.which(program) or "")
        for program in ["tmux"] if tmux else []:
            (programs / program).write_text(f'#!/bin/sh\necho {program} "$@"; pwd\n')
            (programs / program).chmod(0o755)
        login = tmp_path / "login"
        login.write_text('#!/bin/sh\necho shell "$@"; pwd\n')
        login.chmod(0o755)
        done = subprocess.run(
            [shutil.which(shell) or "", "-c", words[3]],
            capture_output=True,
            text=True,
            cwd=home,
            env={"HOME": str(home), "PATH": str(programs), "SHELL": str(login)},
            check=False,
        )
        first, _, at = done.stdout.partition("\n")
        assert first == ("tmux new -A -s my_net_1" if tmux else "shell -l"), done
        assert at == f"{home}/{name}\n"
