"""The source empties, goes away, moves, or holds what no Place can take.

Deletes follow only what this session saw go, within a budget, into the trash of the Place; beyond it they are held and
shown. What is not a plain file, or leads out of the tree, is skipped and told, never followed.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections import Counter
from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES, poll

from faults.drive import Drive
from faults.kit import Kept, during, files, picture, rename_exchange, tmpfs, trashed, whole

LONG = pytest.mark.long
BUDGET = 20
"""Files that may be deleted in ten minutes of few; of many it is a quarter."""
HELD_WORDS = ("delet",)
BAD_UTF8 = b"not \xff\xfe utf8 \x80.bin"


def nothing_lost(kept: Kept, before: dict[bytes, str], *, most: int) -> None:
    """Everything that was at the Place is still there: in place, or in the trash, and few of it in the trash."""
    there = files(kept.there)
    gone = {name: what for name, what in before.items() if there.get(name) != what}
    assert len(gone) <= most, f"{len(gone)} files went, {most} may"
    lost = Counter(gone.values()) - Counter(trashed(kept.there))
    assert not lost, f"gone, and not in the trash: {len(lost)}"


@pytest.mark.parametrize("delete", [False, True])
def test_emptied_source_deletes_no_more_than_the_budget(anywhere: Kept, delete: bool) -> None:  # deletes: budget
    before = anywhere.write(200)
    sync = anywhere.start(delete=delete)
    anywhere.arrived()
    for path in anywhere.source.iterdir():
        path.unlink()
    sync.wait(30)
    if delete:
        anywhere.says(*HELD_WORDS, states=("WAITING", "SCANNING", "SYNCING", "HELD"))
    nothing_lost(anywhere, before, most=200 // 4 if delete else 0)
    sync.stop()
    nothing_lost(anywhere, before, most=200 // 4 if delete else 0)


def test_few_deletes_follow_into_the_trash(anywhere: Kept) -> None:  # B7
    before = anywhere.write(100)
    sync = anywhere.start(delete=True)
    anywhere.arrived()
    for i in range(5):
        (anywhere.source / f"file_{i}.bin").unlink()
    anywhere.arrived()
    sync.wait(30)
    nothing_lost(anywhere, before, most=5)
    assert len(trashed(anywhere.there)) == 5


def test_deletes_that_nobody_asked_for_do_not_follow(anywhere: Kept) -> None:  # B7
    before = anywhere.write(10)
    sync = anywhere.start()
    anywhere.arrived()
    (anywhere.source / "file_0.bin").unlink()
    sync.wait(30)
    nothing_lost(anywhere, before, most=0)


def test_a_source_that_is_gone_is_held(anywhere: Kept) -> None:  # deletes: only what was seen to go
    before = anywhere.write(10)
    anywhere.start(delete=True)
    anywhere.arrived()
    anywhere.source.rename(anywhere.source.with_name("moved away"))
    anywhere.says("gone", states=("HELD",))
    assert files(anywhere.there) == before
    anywhere.source.with_name("moved away").rename(anywhere.source)
    anywhere.works_again()


def test_another_folder_in_the_place_of_the_source_deletes_nothing(anywhere: Kept) -> None:
    before = anywhere.write(10)
    anywhere.start(delete=True)
    anywhere.arrived()
    anywhere.source.rename(anywhere.source.with_name("moved away"))
    anywhere.source.mkdir()
    during(2.5, lambda: nothing_lost(anywhere, before, most=0))
    anywhere.sync.stop()
    nothing_lost(anywhere, before, most=0)


def test_a_source_that_is_unmounted_deletes_nothing(on_folder: Kept, tmp_path: Path) -> None:
    on_folder.source = tmp_path / "scratch" / "job"
    with tmpfs(tmp_path / "scratch", size="4m"):
        before = on_folder.write(10)
        on_folder.start(delete=True)
        on_folder.arrived()
    on_folder.source.mkdir()
    during(2.5, lambda: nothing_lost(on_folder, before, most=0))
    assert files(on_folder.there) == before


def test_a_full_source_leads_to_no_deletes(anywhere: Kept, tmp_path: Path) -> None:  # an unfinished restore
    anywhere.there.mkdir(parents=True)
    for i in range(20):
        whole(anywhere.there / f"result_{i}.bin", os.urandom(300_000))
    before = files(anywhere.there)
    anywhere.source = tmp_path / "small" / "job"
    with tmpfs(tmp_path / "small", size="2m"):
        anywhere.source.mkdir()
        sync = anywhere.start(delete=True)
        anywhere.says("space", states=("HELD", "BACKOFF", "RESTORING", "IDLE", "SCANNING", "SYNCING"))
        for path in list(anywhere.source.iterdir()):
            path.unlink()
        during(2.0, lambda: None)
        assert sync.alive
        assert files(anywhere.there) == before


def test_an_unfinished_restore_leads_to_no_deletes(on_drive: Kept, drive: Drive) -> None:
    on_drive.there.mkdir(parents=True)
    for i in range(20):
        whole(on_drive.there / f"result_{i}.bin", os.urandom(3000))
    before = files(on_drive.there)
    drive.set(fail={"read": "EIO"}, where="result_")
    on_drive.start(delete=True)
    on_drive.says("input/output", states=("HELD", "BACKOFF", "RESTORING"))
    on_drive.write(1, prefix="new")
    during(2.0, lambda: None)
    assert before.items() <= files(on_drive.there).items()
    drive.set(fail={})
    poll(lambda: before.items() <= files(on_drive.source).items(), what="the rest of the restore", timeout=60)
    on_drive.arrived()


@pytest.mark.parametrize("many", [1000, pytest.param(20_000, marks=[LONG, pytest.mark.timeout(400)])])
def test_a_big_tree_renamed(on_folder: Kept, many: int) -> None:  # scan is the truth; deletes: budget
    for i in range(many // 100):
        on_folder.write(100, size=40, folder=f"old/{i}") if i == 0 else _fill(on_folder.source / f"old/{i}", 100)
    before = files(on_folder.source)
    sync = on_folder.start(every=2.0, delete=True)
    on_folder.arrived(timeout=120)
    (on_folder.source / "old").rename(on_folder.source / "new name")
    (on_folder.source / "new name" / "3").rename(on_folder.source / "3 moved")
    now = files(on_folder.source)
    on_folder.arrived(timeout=120)  # also the old names go: what has another name now is not lost
    sync.wait(60)
    nothing_lost(on_folder, before, most=many)
    assert not (on_folder.there / "old").exists(), "with their folders"
    assert files(on_folder.source) == now
    assert not sync.notices()
    # The tree under its new name is watched as the old one was: the next scan is far away.
    sync = on_folder.start(every=3600.0, delete=True)
    sync.wait(60)
    whole(on_folder.source / "new name" / "5" / "later.bin", b"later")
    poll(lambda: (on_folder.there / "new name" / "5" / "later.bin").exists(), timeout=10, what="an event of that tree")


def _fill(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        (folder / f"{i}.txt").write_text(f"{folder} {i}")


def test_two_names_exchanged(anywhere: Kept) -> None:
    anywhere.write(5, folder="one")
    anywhere.write(5, folder="two")
    anywhere.start(every=3600.0)
    anywhere.arrived()
    rename_exchange(anywhere.source / "one", anywhere.source / "two")
    anywhere.sync.wait(30)
    anywhere.arrived()


@pytest.mark.parametrize("many", [2000, pytest.param(20_000, marks=[LONG, pytest.mark.timeout(400)])])
def test_many_files_at_once(on_folder: Kept, tmp_path: Path, many: int) -> None:  # events are hints
    on_folder.start(every=5.0)
    unpacked = tmp_path / "work" / "unpacked"
    for i in range(many // 20):
        _fill(unpacked / f"{i % 10}" / f"{i}", 20)
    unpacked.rename(on_folder.source / "moved in")
    shutil.copytree(on_folder.source / "moved in" / "3", on_folder.source / "copied")
    on_folder.arrived(timeout=120)
    assert len(files(on_folder.there)) == many + many // 10


@pytest.mark.parametrize("where", ["on_folder", "on_drive"])
def test_names_with_newlines_and_bytes_that_are_no_text(request: pytest.FixtureRequest, where: str) -> None:
    kept: Kept = request.getfixturevalue(where)
    names = [*map(os.fsencode, HOSTILE_NAMES), b"two\nlines\n", BAD_UTF8, b"\xc3\x28", b"back\\slash", b"*?[a]", b" "]
    for name in names:
        folder = os.path.join(os.fsencode(kept.source), name)
        os.mkdir(folder)
        with open(os.path.join(folder, name), "wb") as stream:
            stream.write(name)
    before = files(kept.source)
    assert len(before) == len(names)
    sync = kept.start(delete=True)
    kept.arrived()
    for name in names[:2] + names[-5:]:
        path = os.path.join(os.fsencode(kept.source), name, name)
        with open(path, "ab") as stream:
            stream.write(b" changed")
    os.unlink(os.path.join(os.fsencode(kept.source), BAD_UTF8, BAD_UTF8))
    kept.arrived()
    assert kept.told()
    assert sync._repr_html_()
    sync.stop()
    shutil.rmtree(kept.source)
    kept.source.mkdir()
    kept.start()
    kept.arrived()


@pytest.mark.parametrize("where", ["on_folder", "on_drive"])
def test_links_out_of_the_tree_are_not_followed(
    request: pytest.FixtureRequest, tmp_path: Path, where: str
) -> None:  # skipped symlinks are shown
    kept: Kept = request.getfixturevalue(where)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("not yours")
    kept.write(2)
    (kept.source / "to file.txt").symlink_to(outside / "secret.txt")
    (kept.source / "to folder").symlink_to(outside)
    (kept.source / "to nothing").symlink_to("nowhere")
    (kept.source / "round").symlink_to(".")
    sync = kept.start(delete=True)
    kept.arrived()
    sync.wait(30)
    there = picture(kept.there)
    assert files(kept.source).values() == files(kept.there).values() or files(kept.source) == files(kept.there)
    assert not any(name.startswith((b"to folder/", b"round/")) for name in there)
    assert all(there[name].startswith("link ") for name in there if name.startswith(b"to "))
    if where == "on_drive":
        assert not any(name.startswith((b"to ", b"round")) for name in there), "Drive keeps no links"
        kept.says("link", states=("IDLE", "SCANNING", "SYNCING"))
    assert picture(outside) == {b"secret.txt": files(outside)[b"secret.txt"]}


def test_a_link_at_the_place_leads_no_writer_out_of_it(on_folder: Kept, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    whole(outside / "file_0.bin", b"of somebody else")
    before = picture(outside)
    on_folder.there.mkdir(parents=True)
    (on_folder.there / "sub").symlink_to(outside)
    (on_folder.there / "last.pt").symlink_to(outside / "file_0.bin")
    on_folder.write(3, folder="sub")
    whole(on_folder.source / "last.pt", b"mine")
    sync = on_folder.start(delete=True, restore="none")
    poll(lambda: on_folder.state() in ("IDLE", "HELD", "BACKOFF"))
    during(1.5, lambda: None)
    (on_folder.source / "sub" / "file_0.bin").unlink()
    during(1.5, lambda: None)
    assert picture(outside) == before
    sync.stop()
    assert picture(outside) == before


@pytest.mark.parametrize("where", ["on_folder", "on_drive"])
def test_sockets_fifos_and_devices_are_skipped_and_hang_nobody(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    kept: Kept = request.getfixturevalue(where)
    monkeypatch.chdir(kept.source)  # the name of a socket is short
    os.mkfifo("a fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("a socket")
        if os.getuid() == 0:
            os.mknod("a device", stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero: whoever reads it reads for ever
        before = kept.write(3)
        sync = kept.start()
        kept.arrived()
        os.mkfifo("a later fifo")
        sync.wait(30)
        assert files(kept.there) == before
        assert not [name for name in picture(kept.there) if name.startswith(b"a ")]
        kept.says("not sent", states=("IDLE", "SCANNING", "SYNCING"))


def test_a_fifo_in_the_place_of_a_file(anywhere: Kept) -> None:
    anywhere.write(3)
    sync = anywhere.start(delete=True)
    anywhere.arrived()
    (anywhere.source / "file_0.bin").unlink()
    os.mkfifo(anywhere.source / "file_0.bin")
    anywhere.write(1, prefix="other")
    sync.wait(30)
    assert (anywhere.there / "other_0.bin").exists()
    assert sync.alive


@pytest.mark.parametrize("becomes", ["folder", "file"])
def test_a_file_becomes_a_folder_and_back(anywhere: Kept, becomes: str) -> None:
    thing = anywhere.source / "thing"
    if becomes == "folder":
        thing.write_text("a file")
    else:
        anywhere.write(3, folder="thing")
    sync = anywhere.start(delete=True)
    anywhere.arrived()
    if becomes == "folder":
        thing.unlink()
        anywhere.write(3, folder="thing")
    else:
        shutil.rmtree(thing)
        thing.write_text("a file")
    anywhere.write(1, prefix="other")
    poll(lambda: (anywhere.there / "other_0.bin").exists(), what="others arrive all the same")
    anywhere.arrived()
    sync.stop()
