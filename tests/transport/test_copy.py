"""Files to and from another machine: by rsync, and as a stream of tar where a side has no rsync."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import HOSTILE_NAMES, poll
from sshd import Sshd, sshd

from colab_magics.errors import ColabMagicsError, InvalidInput, NotFound, Unavailable
from colab_magics.transport import ssh

PROGRAMS = ("sh", "tar", "mktemp", "mv", "rm", "mkdir", "find", "cat", "sleep")
"""What there is on a machine without rsync."""


@pytest.fixture(params=["rsync", "no rsync there", "no rsync here"])
def box(request: pytest.FixtureRequest, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """Run a machine; one side of it may have no rsync."""
    few = tmp_path / "few programs"
    few.mkdir()
    for name in PROGRAMS:
        (few / name).symlink_to(shutil.which(name) or "")
    there = str(few) if request.param == "no rsync there" else None
    (home / "there").mkdir()
    with sshd(tmp_path, session_home=home / "there", session_path=there) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        if request.param == "no rsync here":
            (few / "ssh").symlink_to(shutil.which("ssh") or "")
            monkeypatch.setenv("PATH", str(few))
        yield server


def tree(folder: Path) -> dict[str, object]:
    """Return what a folder holds: text, whether it is executable, time; where links lead; folders as None."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_dir():
            found[name] = None
        else:
            about = path.stat()
            found[name] = (path.read_bytes(), bool(about.st_mode & 0o100), int(about.st_mtime))
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Make a folder of all that makes copies difficult."""
    folder = tmp_path / "-so'urce $(x)"
    (folder / "empty").mkdir(parents=True)
    for number, name in enumerate(HOSTILE_NAMES):
        (folder / "in\nner" / name).mkdir(parents=True)
        file = folder / "in\nner" / name / name
        file.write_bytes(name.encode() + b"\0\xff")
        file.chmod(0o755 if number % 2 else 0o644)
        os.utime(file, (1_600_000_000 + number, 1_600_000_000 + number))
    (folder / ("long" * 40)).write_text("x")
    (folder / "link").symlink_to("/etc/hostname")
    (folder / "in\nner" / "broken").symlink_to("../nowhere")
    return folder


def test_a_folder_goes_and_comes_back_as_it_is(box: Sshd, home: Path, source: Path, tmp_path: Path) -> None:
    target = "deep/ta'rget $(y)\nz"
    ssh.copy(str(source), f"box:{home}/there/{target}")
    assert tree(home / "there" / target) == tree(source)
    ssh.copy(f"box:{home}/there/{target}/", str(tmp_path / "back" / "x"))
    back = tree(source)
    assert back.pop("link") == "/etc/hostname"  # it leads out: what comes from another machine does not
    assert tree(tmp_path / "back" / "x") == back
    # Again, with a change: into the folder that is there, and what else is there stays.
    (source / "new").write_text("new")
    (source / "link").unlink()
    (source / "link").write_text("a file now")
    (home / "there" / target / "own").write_text("own")
    ssh.copy(str(source), f"box:{home}/there/{target}")
    assert tree(home / "there" / target).keys() == {*tree(source), "own"}
    assert (home / "there" / target / "link").read_text() == "a file now"
    (tmp_path / "back" / "x" / "mine").write_text("mine")
    ssh.copy(f"box:{home}/there/{target}", str(tmp_path / "back" / "x"))
    assert tree(tmp_path / "back" / "x").keys() == {*tree(source), "own", "mine"}
    assert not [*(home / "there").rglob(".copy.*"), *tmp_path.rglob(".copy.*")]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_file_goes_and_comes_back(box: Sshd, home: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_text("one")
    ssh.copy(str(tmp_path / "a" / name), f"box:{home}/there/{name}")
    assert (home / "there" / name).read_text() == "one"
    (home / "there" / "into").mkdir()
    ssh.copy(str(tmp_path / "a" / name), f"box:{home}/there/into")
    assert (home / "there" / "into" / name).read_text() == "one"
    ssh.copy(f"box:{home}/there/{name}", str(tmp_path / "b" / name))
    assert (tmp_path / "b" / name).read_text() == "one"
    (tmp_path / "into").mkdir()
    ssh.copy(f"box:{home}/there/into/{name}", str(tmp_path / "into"))
    assert (tmp_path / "into" / name).read_text() == "one"


def test_relative_names_that_look_like_hosts_and_options(
    box: Sshd, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-rf").write_text("dash")
    Path("a:b").write_text("colon")
    # A session begins in the home folder of the password database, wherever HOME is.
    there = os.path.relpath(home / "there", pwd.getpwuid(os.getuid()).pw_dir)
    ssh.copy("-rf", f"box:{there}/-x")
    ssh.copy("./a:b", f"box:{there}/c:d")
    assert (home / "there" / "-x").read_text() == "dash"
    assert (home / "there" / "c:d").read_text() == "colon"
    ssh.copy(f"box:{there}/c:d", "-back")
    assert Path("-back").read_text() == "colon"


@pytest.mark.parametrize("way", ["put", "get"])
def test_a_copy_that_is_cut_leaves_nothing_that_looks_whole(
    box: Sshd, home: Path, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "big", home / "there" / "big"
    source, target = (here, there) if way == "put" else (there, here)
    with open(source, "wb") as stream:
        stream.truncate(3_000_000_000)
    target.write_text("what was there")
    ends = (str(source), f"box:{there}") if way == "put" else (f"box:{there}", str(target))
    failed: list[BaseException] = []

    def copy() -> None:
        try:
            ssh.copy(*ends)
        except ColabMagicsError as error:
            failed.append(error)

    # The shared connection is there before, so that the copy runs in a session of its own.
    ssh.connect("box")
    working = threading.Thread(target=copy)
    working.start()
    parts = poll(lambda: [p for p in parts_of(target) if p.stat().st_size > 10_000_000])
    sessions = [p for p in psutil.Process(box.process.pid).children(recursive=True) if p.name().startswith("sshd")]
    for session in sessions:
        session.send_signal(signal.SIGKILL)
    working.join(60)
    assert isinstance(failed[0], Unavailable), failed
    assert target.read_text() == "what was there"
    assert parts
    # rsync's own part may stay, under its hidden name.
    poll(lambda: not list(target.parent.glob(".copy.*")), what="what was gathered is removed")


def parts_of(target: Path) -> list[Path]:
    """Return files in which a copy is being gathered."""
    found = [*target.parent.glob(".big.*"), *target.parent.glob(".copy.*/**/*")]
    return [path for path in found if path.is_file()]


def test_what_cannot_be_is_said(box: Sshd, home: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    for ends in [("a", "b"), ("box:a", "box:b")]:
        with pytest.raises(InvalidInput, match="from here to another machine"):
            ssh.copy(*ends)
    with pytest.raises(InvalidInput, match="There is no"):
        ssh.copy(str(tmp_path / "nothing"), "box:b")
    with pytest.raises(NotFound, match="There is no nothing on box"):
        ssh.copy("box:nothing", str(tmp_path / "b"))
    with pytest.raises(InvalidInput, match="host"):
        ssh.copy(str(tmp_path / "a"), "-oProxyCommand=x:b")
    (home / "there" / "file").write_text("x")
    (tmp_path / "folder" / "file").mkdir(parents=True)
    with pytest.raises(ColabMagicsError):
        ssh.copy(str(tmp_path / "folder"), f"box:{home}/there/file")
    assert (home / "there" / "file").read_text() == "x"


def test_the_limit_of_time_is_kept(box: Sshd, home: Path, tmp_path: Path) -> None:
    with open(tmp_path / "big", "wb") as stream:
        stream.truncate(5_000_000_000)
    with pytest.raises(Unavailable):
        ssh.copy(str(tmp_path / "big"), f"box:{home}/there/big", timeout=0.5)
    assert not (home / "there" / "big").exists()
    poll(lambda: not list((home / "there").glob(".copy.*")), what="what was gathered is removed")


def test_what_comes_has_no_rights_and_leads_nowhere(box: Sshd, home: Path, tmp_path: Path) -> None:
    there, back = home / "there" / "evil", tmp_path / "back"
    (there / "open").mkdir(parents=True)
    (there / "open").chmod(0o3777)
    (there / "private").mkdir(mode=0o700)
    for name, bits in (("setuid", 0o4777), ("private/setgid", 0o2775), ("key", 0o600)):
        (there / name).write_text(name)
        (there / name).chmod(bits)
    os.link(there / "key", there / "open" / "the same")
    (there / "abs").symlink_to(home)
    (there / "open" / "up").symlink_to("../../x")
    (there / "open" / "top").symlink_to("..")
    (there / "inside").symlink_to("open/the same")
    ssh.copy(f"box:{there}", str(back))
    modes = {str(path.relative_to(back)): path.lstat().st_mode & 0o7777 for path in back.rglob("*")}
    links = {name: os.readlink(back / name) for name in modes if (back / name).is_symlink()}
    assert links == {"inside": "open/the same", "open/top": ".."}
    assert {name: bits for name, bits in modes.items() if name not in links} == {
        **{"open": 0o755, "private": 0o700, "setuid": 0o755, "private/setgid": 0o755},
        **{"key": 0o600, "open/the same": 0o600},
    }
    assert (back / "open" / "the same").read_text() == "key"


def test_a_new_folder_in_one_that_is_there_has_no_more_rights(box: Sshd, home: Path, tmp_path: Path) -> None:
    (tmp_path / "a" / "private").mkdir(parents=True)
    (tmp_path / "a" / "private").chmod(0o700)
    (tmp_path / "a" / "private" / "x").write_text("x")
    (home / "there" / "a").mkdir()
    ssh.copy(str(tmp_path / "a"), f"box:{home}/there/a")
    assert (home / "there" / "a" / "private").stat().st_mode & 0o7777 == 0o700
    assert (home / "there" / "a" / "private" / "x").read_text() == "x"


@pytest.fixture
def liar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run a machine without rsync, and return its program tar, which a test writes anew."""
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in PROGRAMS:
        (evil / name).symlink_to(shutil.which(name) or "")
    (evil / "tar").unlink()
    (tmp_path / "there" / "folder").mkdir(parents=True)
    (tmp_path / "there" / "file").touch()
    with sshd(tmp_path, session_home=tmp_path / "there", session_path=str(evil)) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        yield evil / "tar"


SENDS = """#!{python}
import io, sys, tarfile
t = tarfile.open(fileobj=sys.stdout.buffer, mode="w|")
def put(name, kind=tarfile.REGTYPE, to="", data=b"evil"):
    one = tarfile.TarInfo(name)
    one.type, one.linkname, one.size = kind, to, len(data) if kind == tarfile.REGTYPE else 0
    t.addfile(one, io.BytesIO(data))
{what}
t.close()
"""


@pytest.mark.parametrize("what", ["put('.bashrc')", "put('file'); put('.bashrc')", "put('sub/file')", "pass"])
def test_a_file_is_what_was_asked_for(liar: Path, tmp_path: Path, what: str) -> None:
    (tmp_path / "a home").mkdir()
    liar.write_text(SENDS.format(python=sys.executable, what=what))
    liar.chmod(0o755)
    there = os.path.relpath(tmp_path / "there" / "file", pwd.getpwuid(os.getuid()).pw_dir)
    with pytest.raises(ColabMagicsError, match=r"something else|Not a directory|No such file|ended"):
        ssh.copy(f"box:{there}", str(tmp_path / "a home"))
    assert list((tmp_path / "a home").iterdir()) == []


def test_an_archive_cannot_write_outside_of_its_folder(tmp_path: Path, home: Path) -> None:
    """What another machine sends is not trusted: a tar of its own making, in place of the one there."""
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in PROGRAMS:
        (evil / name).symlink_to(shutil.which(name) or "")
    (evil / "tar").unlink()
    (tmp_path / "outside").mkdir()
    script = (
        "import sys, tarfile, io\nt = tarfile.open(fileobj=sys.stdout.buffer, mode='w|')\n"
        "d = tarfile.TarInfo('.'); d.type = tarfile.DIRTYPE; t.addfile(d)\n"
        "s = tarfile.TarInfo('s'); s.type = tarfile.SYMTYPE\n"
        f"s.linkname = {str(tmp_path / 'outside')!r}; t.addfile(s)\n"
        "f = tarfile.TarInfo(WHERE); f.size = 1; t.addfile(f, io.BytesIO(b'x'))\nt.close()\n"
    )
    python = sys.executable
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "folder").mkdir()
    with sshd(tmp_path, session_home=tmp_path / "there", session_path=str(evil)) as server:
        os.environ["COLAB_MAGICS_SSH_CONFIG"] = str(server.config_file)
        try:
            for where in ("../../gone", "/tmp/colab_magics-gone", "s/gone"):
                (evil / "tar").write_text(f"#!{python}\n{script.replace('WHERE', repr(where))}")
                (evil / "tar").chmod(0o755)
                with pytest.raises(ColabMagicsError):
                    ssh.copy("box:folder", str(tmp_path / "back"))
        finally:
            del os.environ["COLAB_MAGICS_SSH_CONFIG"]
    assert not list((tmp_path / "outside").iterdir())
    assert not list(tmp_path.rglob("gone"))
    assert not Path("/tmp/colab_magics-gone").exists()
