"""A Place, and another machine, are other people's words: what goes there, and what comes from there."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import poll
from mirror.tools import begin, for_python, state_of, tmpfs, tree, write
from runs.folders import leave_run
from sshd import sshd

from colab_magics import process
from colab_magics.errors import ColabMagicsError, InvalidInput, Unavailable
from colab_magics.kernels.journal import path_of
from colab_magics.mirror import control, native
from colab_magics.mirror.lease import Leases
from colab_magics.mirror.patterns import AGES
from colab_magics.records import metrics
from colab_magics.runs import show
from colab_magics.transport.places import parse
from colab_magics.transport.places.folder_store import FolderStore
from colab_magics.verbs.sync import sync as sync_verb


def mode(path: Path) -> int:
    """Return all twelve bits of a file's mode."""
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=["folder", "host"])
def there(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return what to write before a folder's path, so that it is a Place of this machine or of another."""
    if request.param == "folder":
        yield ""
        return
    with sshd(tmp_path) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        yield f"{server.host}:"


@contextmanager
def umask(value: int) -> Iterator[None]:
    """Let all bits through, as on machines whose users share everything."""
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


# ── going out: a copy never has more rights than its source ───────────────────────────────────────────────────────


@pytest.mark.parametrize("keeps_modes", [True, False])
def test_a_copy_has_never_more_rights_than_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps_modes: bool
) -> None:
    """Seen while each piece is copied; 0600 files were 0644 until the last one."""
    file, to, seen = write(tmp_path, key_bin="x" * 100) / "key.bin", tmp_path / "to", []
    file.chmod(0o600)
    os.utime(file, (1e9, 1e9))
    piece = native._piece

    def watched(fd: int, out: int, at: int, count: int) -> int:
        seen.append(mode(to))
        return piece(fd, out, at, 10)

    monkeypatch.setattr(native, "_piece", watched)
    with umask(0):
        done = native.copy(
            str(tmp_path), "key.bin", str(to), Leases(), open_since=None, modes=keeps_modes, urgent=False
        )
    assert done.outcome == native.DONE
    assert {*seen, mode(to)} == {0o600}


def test_a_folder_there_has_never_more_rights_than_here(tmp_path: Path, there: str) -> None:
    """0700 folders were 0755 there, and so were the mirror itself, its trash and what lost a conflict."""
    place, source = tmp_path / "kept" / "here", tmp_path / "job"
    for folder, rights in (("secret", 0o700), ("secret/deep", 0o755), ("team", 0o750), ("empty", 0o700)):
        (source / folder).mkdir(parents=True)
        (source / folder).chmod(rights)
    write(source / "secret" / "deep", a_txt="a")
    write(source / "team", b_txt="b")
    source.chmod(0o700)
    with umask(0o022):
        sync = begin(source, f"{there}{place}", delete=True).now()
    found = {str(path.relative_to(place)): mode(path) for path in place.rglob("*") if path.is_dir()}
    found = {name: bits for name, bits in found.items() if not name.startswith(".~")}
    assert found == {"secret": 0o700, "secret/deep": 0o755, "team": 0o750, "empty": 0o700}
    assert mode(place) == 0o700
    (source / "secret" / "deep" / "a.txt").unlink()
    sync.now()
    assert mode(place / ".sync_trash") == 0o700


# ── coming in: rights, links, names ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """Make a Place of a hostile hand: programs with rights, folders open to all, links that lead out, rc files."""
    place, home = tmp_path / "kept", tmp_path / "a home"
    write(home, **{"_bashrc": "mine"})
    for name, bits in (("setuid", 0o4777), ("setgid", 0o2775), ("plain", 0o664), ("tool", 0o755), ("key", 0o600)):
        write(place, **{name: name})
        (place / name).chmod(bits)
    (place / "open" / "deep").mkdir(parents=True)
    (place / "open").chmod(0o1777)
    (place / "private").mkdir(mode=0o700)
    write(place / "private", a_txt="a")
    write(place / "open" / "deep", b_txt="b")
    write(place / "own", _bashrc="evil")
    for name in (".bashrc", ".ipython/profile_default/startup/x.py", ".jupyter/jupyter_notebook_config.py", ".ssh/rc"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("evil")
    (place / "abs").symlink_to(home)
    (place / "up").symlink_to("../a home")
    (place / "open" / "up").symlink_to("../../a home")
    (place / "inside").symlink_to("private/a.txt")
    (place / "open" / "top").symlink_to("..")
    (place / "open" / "two steps").symlink_to("top/../a home")  # out by way of another link
    return place


def check_arrived(into: Path, home: Path) -> None:
    """Make sure that what `evil` holds has arrived without its teeth."""
    wide = {str(p.relative_to(into)): oct(mode(p)) for p in into.rglob("*") if not p.is_symlink() and mode(p) & 0o7022}
    assert not wide
    assert (into / "setuid").read_text() == "setuid"
    assert [mode(into / name) for name in ("tool", "key", "private", "open/deep")] == [0o755, 0o600, 0o700, 0o755]
    links = {str(path.relative_to(into)): os.readlink(path) for path in into.rglob("*") if path.is_symlink()}
    assert links == {"inside": "private/a.txt", "open/top": ".."}
    assert (into / ".ssh" / "rc").read_text() == "evil", "within the data folder names may be what they are"
    assert {path.name: path.read_text() for path in home.iterdir()} == {".bashrc": "mine"}


def test_what_is_restored_has_no_rights_and_leads_nowhere(tmp_path: Path, there: str, evil: Path) -> None:
    source, home = tmp_path / "job", tmp_path / "a home"
    source.mkdir(mode=0o700)
    (source / "own").symlink_to(home)  # the user's: nothing is read, written or moved through it
    with umask(0):
        sync = begin(source, f"{there}{evil}", delete=True)
    sync.now()
    assert (source / "own").readlink() == home
    kept = [path.read_text() for path in evil.rglob(".bashrc") if "own" in path.parts]
    assert kept == ["evil"], "it stays there, or is put aside as what loses against the link"
    (source / "own").unlink()
    check_arrived(source, home)
    assert mode(source) == 0o700, "what was here keeps its rights"
    told = "".join(one["text"] for one in sync.notices())
    assert "links lead out" in told
    assert "abs" in told
    assert (evil / "abs").is_symlink(), "it stays there"


def test_inputs_have_no_rights_and_lead_nowhere(tmp_path: Path, there: str, evil: Path) -> None:
    into, told = tmp_path / "data_project", list[str]()
    into.mkdir(mode=0o700)
    (into / "own").symlink_to(tmp_path / "a home")
    with umask(0):
        control.fetch(parse(f"{there}{evil}", project="net"), into, None, warn=told.append)
    (into / "own").unlink()
    check_arrived(into, tmp_path / "a home")
    assert mode(into) == 0o700
    assert "links lead out" in told[0]
    assert "abs" in told[0]


@pytest.mark.parametrize("name", ["../gone", "a/../../gone", "/etc/gone", "a//b", "./a", ".."])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    """rsync sends no such name; a program in its place may print what it likes."""
    line = f">f+++++++++|1|2026/01/01-00:00:00|rw-r--r--|{name}"
    evil = tmp_path / "bin" / "rsync"
    evil.parent.mkdir()
    evil.write_text(f"#!/bin/sh\necho '{line}'\n")
    evil.chmod(0o755)
    place = parse(str(tmp_path / "kept"), project="net")
    place.prepare()
    write(tmp_path / "kept", a_txt="a")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PATH", f"{evil.parent}:{os.environ['PATH']}")
        with pytest.raises(Unavailable, match="outside of it"):
            control.fetch(place, tmp_path / "into", None)


# ── our own files in folders that others fill ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["log.txt", "state.json", "notebook.ipynb", "journal", "metrics.jsonl"])
def test_a_runner_writes_through_no_link(tmp_path: Path, name: str) -> None:
    """Appended to, emptied, overwritten: a link in a run's folder led what a run writes anywhere."""
    victim = write(tmp_path / "a home", _bashrc="mine\n") / ".bashrc"
    cells = ("print('hello')", "import colab_magics; colab_magics.report(loss=1.0)" if name == "metrics.jsonl" else "1")
    run = leave_run(tmp_path / "data_job" / "default", 0, None, cells=cells)
    link = path_of(run.notebook) if name == "journal" else run.folder / name
    link.symlink_to(victim)
    subprocess.run(process.python("colab_magics.runs.runner", run.folder), check=False, env=for_python(), timeout=100)
    assert victim.read_text() == "mine\n"
    state = run.state() or {}
    assert state["phase"] == "done", "what we write of a run, and cannot, does not end it"
    if name == "metrics.jsonl":
        assert "it is a link, which is not followed" in run.log.read_text()
    elif name != "log.txt":  # that one is not written
        assert not link.is_symlink(), "what is written by rename, or made anew, takes the link's place"


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("name", ["log.txt", "state.json", "metrics.jsonl", "run.json"])
def test_no_reader_follows_a_link_or_waits_for_a_pipe(tmp_path: Path, kind: str, name: str) -> None:
    run = leave_run(tmp_path / "data_job" / "default", 0, reports=[{"loss": 1.0}])
    file = run.folder / name
    secret = tmp_path / "secret"
    secret.write_bytes(file.read_bytes())
    file.unlink()
    if kind == "link":
        file.symlink_to(secret)
    else:
        os.mkfifo(file)
    shown = {
        "log.txt": lambda: (show.printed(run), show.printed(run, 3), list(show.grow(run))),
        "state.json": run.state,
        "metrics.jsonl": lambda: (metrics.read(run.folder), metrics.recent(run.folder)),
        "run.json": lambda: process.read_json(file),
    }[name]()
    assert "hello" not in str(shown)
    assert "loss" not in str(shown)
    assert shown is None or name not in ("state.json", "run.json")


# ── a full Place, and what is counted ─────────────────────────────────────────────────────────────────────────────


def test_a_full_place_still_deletes_purges_and_takes_what_fits(tmp_path: Path) -> None:
    place, source = tmp_path / "kept", tmp_path / "job"
    with tmpfs(place, size="4m"):
        write(place / ".sync_trash" / "2026-01-01_000000", old="x" * 1_000_000)
        ages = {"kept": 10 * 86_400.0, "folders": {"2026-01-01_000000": 0.0}}
        write(source, big_bin="b" * 2_000_000, gone_txt="gone", a_txt="a")
        sync = begin(source, place, delete=True).now()
        sync.stop()
        (place / AGES).write_text(json.dumps(ages))
        write(place, **{"of somebody else": "x" * 900_000})
        sync = begin(source, place, delete=True)
        poll(lambda: sync.state() == "IDLE" or sync.status().get("failures"))
        (source / "gone.txt").unlink()
        write(source, too_big="c" * 3_000_000, fits_txt="fits")
        with pytest.raises(Unavailable, match="No space left"):
            sync.now()
        poll(lambda: "fits.txt" in tree(place), what="a small file has room")
        poll(lambda: "gone.txt" not in tree(place), what="deletes go on")
        poll(lambda: not (place / ".sync_trash" / "2026-01-01_000000").exists(), what="the trash is emptied")
        assert "too.big needs" in sync.warning
        assert tree(place)["big.bin"] == "b" * 2_000_000
        (source / "too.big").unlink()
        sync.now()
        state_of(sync, "IDLE")
        sync.stop()


def test_the_owner_still_says_so_where_nothing_fits(tmp_path: Path) -> None:
    place = tmp_path / "kept"
    with tmpfs(place, size="64k"):
        store = FolderStore(str(place))
        store.put("owner.json", b'{"beat": 1111}\n')
        with pytest.raises(OSError, match="No space left"), open(place / "full", "wb") as stream:
            stream.write(b"x" * 100_000)
        store.put("owner.json", b'{"beat": 2}\n')
        assert json.loads((place / "owner.json").read_bytes()) == {"beat": 2}
        assert sorted(os.listdir(place)) == ["full", "owner.json"]


def test_a_restart_does_not_reset_the_budget_of_deletes(tmp_path: Path) -> None:
    source, place = write(tmp_path / "job", **{f"f{n}": str(n) for n in range(40)}), tmp_path / "kept"
    sync = begin(source, place, delete=True).now()
    for n in range(15):
        (source / f"f{n}").unlink()
    sync.now()
    assert len(tree(place)) == 25
    os.kill(sync.status()["identity"]["pid"], 9)
    poll(lambda: not sync.alive)
    sync = begin(source, place, delete=True)
    for n in range(15, 30):
        (source / f"f{n}").unlink()
    sync.now()
    assert len(tree(place)) == 25, "30 at once, in two halves"
    assert "15 files are gone" in sync.warning


def test_sparse_files_stay_sparse(tmp_path: Path, there: str) -> None:
    source, place, size = tmp_path / "job", tmp_path / "kept", 50_000_000
    source.mkdir()
    for name, at in (("begin", 0), ("middle", 20_000_000), ("end", size - 4)):
        with open(source / name, "wb") as stream:
            stream.truncate(size)
            stream.seek(at)
            stream.write(b"data")
    with open(source / "nothing", "wb") as stream:
        stream.truncate(size)
    if (source / "nothing").stat().st_blocks * 512 >= size:
        pytest.skip("no holes on this disk")
    sync = begin(source, f"{there}{place}").now()
    sync.stop()
    back = tmp_path / "back"
    begin(back, f"{there}{place}").stop()
    for folder in (place, back):
        for name in ("begin", "middle", "end", "nothing"):
            assert (folder / name).read_bytes() == (source / name).read_bytes()
            assert (folder / name).stat().st_blocks * 512 < 1_000_000, f"{folder.name}/{name}"


# ── odd names and folders ─────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def bound(folder: Path, at: Path) -> Iterator[None]:
    """Mount a folder at another one, too."""
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    at.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "--bind", folder, at], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", at], check=True)


@pytest.mark.parametrize(
    ("what", "at"),
    [
        ("kept", "job/in it"),
        (".", "job/deep/all"),
        ("kept/sub", "job/part"),
        ("job", "kept/mine"),
        ("job/sub", "kept"),
    ],
)
def test_a_place_that_is_mounted_into_its_source_is_refused(tmp_path: Path, what: str, at: str) -> None:
    """It was copied into itself until the disk was full."""
    for folder in ("kept/sub", "job/sub"):
        (tmp_path / folder).mkdir(parents=True)
    begin(tmp_path / "job", tmp_path / "kept").stop()
    with bound(tmp_path / what, tmp_path / at), pytest.raises(InvalidInput, match="lie in each other"):
        begin(tmp_path / "job", tmp_path / "kept")


def test_names_that_are_no_text_are_kept_and_told(tmp_path: Path, there: str) -> None:
    source = tmp_path / os.fsdecode(b"job \xff")
    source.mkdir()
    (source / os.fsdecode(b"file \xfe\n")).write_text("a")
    write(source, stays="s")
    sync = begin(source, f"{there}{tmp_path / 'kept'}", delete=True).now()
    assert tree(tmp_path / "kept") == {os.fsdecode(b"file \xfe\n"): "a", "stays": "s"}
    assert control.running(source)
    assert str(sync).encode()
    (source / os.fsdecode(b"file \xfe\n")).unlink()
    sync.now()
    assert tree(tmp_path / "kept") == {"stays": "s"}


@pytest.mark.parametrize("name", ["a\0b", "../a", ""])
def test_a_name_with_nul_is_an_error_of_ours(tmp_path: Path, name: str) -> None:
    with pytest.raises(ColabMagicsError):
        control.fetch(parse(str(tmp_path / "kept"), project="net"), tmp_path / "into", [name])
    with pytest.raises(ColabMagicsError):
        sync_verb(name or "\0", to=str(tmp_path / "kept"))


def test_what_is_known_of_syncs_that_are_over_goes(tmp_path: Path) -> None:
    over, stays, runs = (begin(write(tmp_path / name, a_txt="a"), tmp_path / f"kept {name}") for name in "abc")
    over.stop()
    stays.stop()
    shutil.rmtree(tmp_path / "a")
    shutil.rmtree(tmp_path / "c")
    begin(write(tmp_path / "d", a_txt="a"), tmp_path / "kept d")
    assert not over.folder.exists()
    assert stays.folder.exists()
    assert runs.folder.exists()
