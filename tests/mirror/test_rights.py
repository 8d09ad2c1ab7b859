"""Folders at a Place follow the rights of those here: when these change, too, and never through a link."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import poll
from sshd import sshd

from colab_magics import process
from colab_magics.mirror import control
from colab_magics.mirror.ledger import Ledger
from colab_magics.mirror.rights import REFUSED, FolderRights
from colab_magics.mirror.scan import Unreadable
from colab_magics.mirror.state import Config
from colab_magics.transport.places import parse
from colab_magics.transport.places.base import Place
from colab_magics.transport.places.folder_store import FolderStore
from mirror.tools import begin, for_python, tree, write


class There(NamedTuple):
    """A Place, as users write it and as a folder."""

    to: str
    folder: Path


@pytest.fixture(params=["folder", "host"])
def there(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[There]:
    kept = tmp_path / "kept"
    if request.param == "folder":
        yield There(str(kept), kept)
        return
    with sshd(tmp_path) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        yield There(f"{server.host}:{kept}", kept)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def folders(top: Path) -> dict[str, int]:
    """Return the modes of a folder, ``.``, and of all in it."""
    found = {str(path.relative_to(top)): path for path in (top, *top.rglob("*")) if path.is_dir()}
    return {name: mode(path) for name, path in found.items() if name == "." or not name.startswith(".")}


def made(source: Path, rights: dict[str, int]) -> Path:
    """Make folders with a file in each but those that are called empty."""
    for name in rights:
        (source / name).mkdir(parents=True, exist_ok=True)
        if not name.endswith("empty"):
            write(source / name, a_txt=name)
    return change(source, rights)


def change(source: Path, rights: dict[str, int]) -> Path:
    for name, bits in rights.items():
        (source / name).chmod(bits)
    return source


WIDE = {".": 0o755, "a'; echo foo": 0o755, "a'; echo foo/-rf ünï": 0o755, "empty": 0o755, "close": 0o700}
OTHER = {".": 0o711, "a'; echo foo": 0o700, "a'; echo foo/-rf ünï": 0o750, "empty": 0o700, "close": 0o755}


def test_changed_rights_of_folders_follow(tmp_path: Path, there: There) -> None:
    source = made(tmp_path / "job", WIDE)
    sync = begin(source, there.to).now()
    assert folders(there.folder) == WIDE
    change(source, OTHER)
    sync.now()
    assert folders(there.folder) == OTHER
    change(source, {"a'; echo foo/-rf ünï": 0o777, "empty": 0o755})
    sync.now()
    assert folders(there.folder) == {**OTHER, "a'; echo foo/-rf ünï": 0o777, "empty": 0o755}


def test_they_follow_without_being_asked_for(tmp_path: Path, there: There) -> None:
    source = made(tmp_path / "job", WIDE)
    begin(source, there.to, every=0.2).now()
    change(source, OTHER)
    poll(lambda: folders(there.folder) == OTHER, what=str(folders(there.folder)))


def test_they_follow_when_nobody_looked_while_they_changed(tmp_path: Path, there: There) -> None:
    source = made(tmp_path / "job", WIDE)
    begin(source, there.to).now().stop()
    change(source, OTHER)
    begin(source, there.to).now()
    assert folders(there.folder) == OTHER


def test_after_an_older_version_rights_are_taken_away_and_none_given(tmp_path: Path, there: There) -> None:
    """Its journal tells nothing of folders; what is closer at the Place somebody may have meant so."""
    source = made(tmp_path / "job", WIDE)
    sync = begin(source, there.to).now().stop()
    journal = sync.folder / "journal.jsonl"
    lines = journal.read_text().splitlines()
    old = [line for line in lines if not line.startswith('["d"')]
    assert 0 < len(old) < len(lines)
    journal.write_text("".join(f"{line}\n" for line in old))
    change(source, {"a'; echo foo": 0o700, "close": 0o755})
    sync = begin(source, there.to).now()
    assert folders(there.folder) == {**WIDE, "a'; echo foo": 0o700}
    assert sync.status()["handed"]["files"] == 0, "what the journal tells of files still counts"
    change(source, {"close": 0o750})
    sync.now()
    assert mode(there.folder / "close") == 0o750, "from now on it is known"


def test_what_is_new_in_a_folder_finds_its_rights_there(tmp_path: Path, there: There) -> None:
    """No look at everything is due: the batch itself looks at the folders of its files."""
    source = made(tmp_path / "job", {"secret/deep": 0o755, "secret": 0o755})
    begin(source, there.to).now()
    (source / "secret").chmod(0o700)
    write(source / "secret" / "deep", key_pem="k")
    poll((there.folder / "secret" / "deep" / "key.pem").exists)
    assert mode(there.folder / "secret") == 0o700
    # The same of a folder that no look at everything has found yet.
    made(source, {"young": 0o755})
    poll((there.folder / "young" / "a.txt").exists)
    (source / "young").chmod(0o700)
    write(source / "young", b_txt="b")
    poll((there.folder / "young" / "b.txt").exists)
    assert mode(there.folder / "young") == 0o700


def test_a_folder_that_stands_there_already_loses_what_the_one_here_does_not_grant(
    tmp_path: Path, there: There
) -> None:
    made(there.folder, {"shared": 0o775, "close": 0o700, ".": 0o775})
    source = made(tmp_path / "job", {"shared": 0o750, "close": 0o755, ".": 0o755})
    sync = begin(source, there.to, restore="none").now()
    assert folders(there.folder) == {"shared": 0o750, "close": 0o700, ".": 0o775}
    change(source, {".": 0o750})
    sync.now()
    assert mode(there.folder) == 0o750, "what the user named as the Place loses what the one here lost"
    change(source, {".": 0o755})
    sync.now()
    assert mode(there.folder) == 0o750, "and gets nothing"


def test_what_is_restored_is_no_change(tmp_path: Path, there: There) -> None:
    """It arrives here without write rights of others, which says nothing about the Place."""
    made(there.folder, {"team": 0o775, "team/deep": 0o777, "team/empty": 0o775})
    source = tmp_path / "job"
    source.mkdir(mode=0o700)
    sync = begin(source, there.to).now()
    assert mode(source / "team" / "deep") == 0o755
    assert {**folders(there.folder), ".": 0} == {".": 0, "team": 0o775, "team/deep": 0o777, "team/empty": 0o775}
    (source / "team").chmod(0o700)
    sync.now()
    assert mode(there.folder / "team") == 0o700


def test_rights_that_forbid_their_owner_leave_the_place_usable(tmp_path: Path, there: There) -> None:
    rights = {"read": 0o500, "none": 0, "later": 0o755}
    source = made(tmp_path / "job", rights)
    sync = begin(source, there.to).now()
    change(source, {"later": 0o000, "none": 0o010})
    sync.now()
    assert {**folders(there.folder), ".": 0} == {".": 0, "read": 0o700, "none": 0o710, "later": 0o700}
    for name in rights:
        change(source, {name: 0o700})
        write(source / name, b_txt="b")
        change(source, {name: 0o500})
    sync.now()
    assert all((there.folder / name / "b.txt").read_text() == "b" for name in rights)
    assert not sync.warning


CLOSED = """
import os, sys
from pathlib import Path
from mirror.tools import begin, for_python, tree, write
source, to, options = Path(sys.argv[1]), sys.argv[2], {"rsync": sys.argv[3]} if len(sys.argv) > 3 else {}
sync = begin(source, to, **options).now()
write(source / "none", late_txt="late")
for name, bits in {"names": 0o400, "none": 0}.items():
    (source / name).chmod(bits)
write(source, after_txt="after")
sync.now()
print(sorted(sync.status()["refused"]))
(source / "none").chmod(0o755)
sync.now().stop()
"""


@pytest.mark.parametrize("options", [[], ["--checksum"]], ids=["by hand", "by rsync"])
def test_folders_that_are_closed_to_us_hold_up_nothing(tmp_path: Path, options: list[str]) -> None:
    """As an ordinary user; those that only tell their names, and what waits in one, had stopped everything."""
    source = made(tmp_path / "job", {"names": 0o755, "none": 0o755, "read": 0o500})
    there = tmp_path / "kept"
    plain = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.getuid() == 0 else []
    try:
        done = process.run([*plain, sys.executable, "-c", CLOSED, source, there, *options], env=for_python())
    finally:
        change(source, dict.fromkeys(("names", "none", "read"), 0o700))
    assert done.stdout.strip() == "['names/', 'none/']"
    assert tree(there) == tree(source)
    assert {**folders(there), ".": 0} == {".": 0, "names": 0o700, "none": 0o755, "read": 0o700}


def test_special_bits_stay_on_their_side(tmp_path: Path, there: There) -> None:
    source = made(tmp_path / "job", {"a": 0o755})
    sync = begin(source, there.to).now()
    (there.folder / "a").chmod(0o2755)  # so that files there belong to the folder's group
    (source / "a").chmod(0o5750)
    sync.now()
    assert mode(there.folder / "a") == 0o2750


def test_nothing_behind_a_link_is_changed(tmp_path: Path, there: There) -> None:
    source = made(tmp_path / "job", {"a": 0o755, "a/deep": 0o755})
    sync = begin(source, there.to).now()
    outside = tmp_path / "outside"
    made(outside, {"deep": 0o755, ".": 0o755})
    shutil.rmtree(there.folder / "a")
    (there.folder / "a").symlink_to(outside)
    change(source, {"a": 0o700, "a/deep": 0o700})
    sync.now()
    assert folders(outside) == {".": 0o755, "deep": 0o755}


def test_a_folder_of_the_project_at_the_place_follows_exactly(tmp_path: Path, there: There) -> None:
    """Below a Place the mirror itself is ours, as it is for ``%sync`` of a project."""
    source = made(tmp_path / "job", {".": 0o700, "a": 0o755})
    place = parse(there.to, project="net").below("data_job", "base line")
    sync = control.start(Config.of(source, place, every=3600, project="net")).now()
    mirror = there.folder / "data_job" / "base line"
    assert mode(mirror) == 0o700
    above = mode(there.folder), mode(mirror.parent)
    for bits in (0o755, 0o710):
        source.chmod(bits)
        sync.now()
        assert mode(mirror) == bits
    assert (mode(there.folder), mode(mirror.parent)) == above


def test_drive_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, table = tmp_path / "content", tmp_path / "mounts"
    drive = content / "drive" / "MyDrive" / "colab_data" / "net"
    drive.mkdir(parents=True)
    table.write_text(f"drive {content}/drive fuse.drive rw 0 0\n")
    monkeypatch.setenv("COLAB_MAGICS_CONTENT", str(content))
    monkeypatch.setenv("COLAB_MAGICS_MOUNTS", str(table))
    source = made(tmp_path / "job", {"a": 0o755, "empty": 0o755})
    sync = begin(source, "drive").now()
    before = {name: ((drive / name).stat().st_ctime_ns, mode(drive / name)) for name in ("a", "empty")}
    change(source, {"a": 0o700, "empty": 0o700})
    sync.now()
    assert {name: ((drive / name).stat().st_ctime_ns, mode(drive / name)) for name in before} == before
    assert '["d"' not in (sync.folder / "journal.jsonl").read_text()


# ── what it costs, and Places that refuse ─────────────────────────────────────────────────────────────────────────


class Counting(FolderStore):
    """Tells what it was asked for."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.asked: list[tuple[str, int, bool]] = []

    def set_rights(self, folders: Mapping[str, int], *, less: bool) -> list[str]:
        self.asked += [(name, bits, less) for name, bits in folders.items()]
        return super().set_rights(folders, less=less)


def a_place(tmp_path: Path) -> Place:
    place = parse(str(tmp_path / "kept"), project="net")
    place.prepare()
    return place


def test_the_place_is_asked_only_for_what_has_changed(tmp_path: Path) -> None:
    source, place = made(tmp_path / "job", {".": 0o755, "a": 0o755, "b": 0o755}), a_place(tmp_path)
    (tmp_path / "kept" / "a").mkdir()
    (tmp_path / "kept" / "b").mkdir()
    ledger = Ledger(tmp_path / "journal.jsonl", "id")
    rights, store = FolderRights(str(source), place, ledger), Counting(str(tmp_path / "kept"))
    rights.looked({"": 0o755, "a": 0o755, "b": 0o755}, Unreadable([]))
    assert rights.due == {"", "a", "b"}
    rights.carry(store)
    assert sorted(store.asked) == [("a", 0o755, True), ("b", 0o755, True)]
    change(source, {"b": 0o700})
    store.asked.clear()
    again = FolderRights(str(source), place, Ledger(tmp_path / "journal.jsonl", "id"))
    again.looked({"": 0o755, "a": 0o755, "b": 0o700}, Unreadable([]))
    assert again.due == {"b"}
    for _ in range(3):
        again.carry(store, ["a", "b"])
    assert store.asked == [("b", 0o700, False)]
    again.looked({"": 0o755, "b": 0o755, "c": 0o755}, Unreadable([]))
    assert set(again.ledger.folders) == {"", "b"}, "what is gone is forgotten"
    again.looked({"": 0o755}, Unreadable(["b"]))
    assert set(Ledger(tmp_path / "journal.jsonl", "id").folders) >= {"", "b"}


def test_a_refusal_is_told_and_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, place = made(tmp_path / "job", {"a": 0o700}), a_place(tmp_path)
    (tmp_path / "kept" / "a").mkdir(mode=0o755)

    def refuse(fd: int, bits: int) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    ledger = Ledger(tmp_path / "journal.jsonl", "id")
    rights, store = FolderRights(str(source), place, ledger), Counting(str(tmp_path / "kept"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fchmod", refuse)
        for _ in range(2):
            rights.carry(store, ["a"])
    assert (rights.told(), store.asked) == ({"a/": REFUSED}, [("a", 0o700, True)])
    assert "a" not in ledger.folders
    change(source, {"a": 0o710})
    rights.carry(store, ["a"])
    assert (rights.told(), mode(tmp_path / "kept" / "a") & 0o077) == ({}, 0o010)


def test_a_host_that_refuses_is_named_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    fake = write(programs, chmod='#!/bin/sh\ncase "$*" in *team*) exit 1;; esac\nexec /bin/chmod "$@"\n') / "chmod"
    fake.chmod(0o755)
    with sshd(tmp_path, session_path=f"{programs}:{os.environ['PATH']}") as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        source = made(tmp_path / "job", {"a": 0o755, "team \\ ünï": 0o755})
        sync = begin(source, f"{server.host}:{tmp_path}/kept").now()
        change(source, {"a": 0o700, "team \\ ünï": 0o700})
        write(source, b_txt="b")
        sync.now()
        found = folders(tmp_path / "kept")
        assert (found["a"], found["team \\ ünï"]) == (0o700, 0o755)
        assert (tmp_path / "kept" / "b.txt").exists()
        assert sync.status()["refused"] == {"team \\ ünï/": REFUSED}
        sync.stop()
