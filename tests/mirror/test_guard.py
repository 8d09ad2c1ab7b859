"""What must never happen to the files at a Place: failed restores, lost mounts, full disks. Real rsync, real mounts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import poll

from colab_magics import process
from colab_magics.errors import Unavailable
from colab_magics.mirror import show
from colab_magics.mirror.sync import Sync
from colab_magics.transport.places.base import SENTINEL
from mirror.tools import begin, state_of, tmpfs, tree, write


def rsync_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, when: str) -> Path:
    """Put an rsync on the PATH that ends with status 23 when its arguments match, while the file exists."""
    broken, fake = write(tmp_path, broken="") / "broken", write(tmp_path / "bin") / "rsync"
    fake.write_text(
        f'#!/bin/sh\nif [ -e "{broken}" ]; then case " $* " in {when}) '
        'echo "rsync: [sender] read errors mapping \\"x\\": Input/output error (5)" >&2; exit 23;; esac; fi\n'
        f'exec {process.need("rsync")} "$@"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    return broken


def test_after_a_failed_restore_nothing_is_deleted_or_overwritten(  # ✗ the next --delete empties Drive
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, source = write(tmp_path / "place", a_txt="kept", b_txt="newer there"), write(tmp_path / "job", c_txt="new")
    (source / "b.txt").write_text("older here")
    os.utime(source / "b.txt", (1_000_000, 1_000_000))
    broken = rsync_that_fails(tmp_path, monkeypatch, when="*' -- ./ '*")  # from the Place, not to it
    sync = begin(source, place, delete=True, rsync="-a --delete")
    assert "The restore failed" in sync.warning
    assert "Input/output error" in sync.warning
    sync.wait()
    assert tree(place) == {"a.txt": "kept", "b.txt": "newer there", "c.txt": "new"}, "new files are sent all the same"
    write(source, d_txt="d")
    sync.wait()
    (source / "d.txt").unlink()
    sync.wait()
    assert "d.txt" in tree(place), "an unfinished restore never leads to deletes"
    assert "did not end well" in sync.warning

    broken.unlink()  # it mends itself: the restore is tried again, and then the user's word counts
    poll(lambda: sync.status()["restore"]["ok"])
    assert tree(source) == {"a.txt": "kept", "b.txt": "newer there", "c.txt": "new", "d.txt": "d"}
    older = [path.read_text() for side in (source, place) for path in side.glob(".sync_conflict/*/b.txt")]
    assert older
    assert set(older) == {"older here"}, "what lost is kept"
    (source / "a.txt").unlink()
    sync.now()
    assert tree(place) == {"b.txt": "newer there", "c.txt": "new", "d.txt": "d"}
    assert not sync.warning


def test_only_what_we_put_there_and_saw_go_is_deleted(tmp_path: Path) -> None:
    place, source = tmp_path / "place", write(tmp_path / "job", a_txt="a", c_txt="c")
    sync = begin(source, place, delete=True)
    sync.now()
    write(place, of_another_session_txt="x")
    (source / "a.txt").unlink()
    sync.now()
    assert set(tree(place)) == {"c.txt", "of.another.session.txt"}
    [kept] = place.glob(".sync_trash/*/a.txt")
    assert kept.read_text() == "a"
    assert not sync.warning


def test_an_emptied_or_remade_source_deletes_nothing(tmp_path: Path) -> None:
    place, source = write(tmp_path / "place", a_txt="a", b_txt="b"), tmp_path / "job"
    sync = begin(source, place, delete=True)
    for name in ("a.txt", "b.txt"):
        (source / name).unlink()
    sync.now()
    assert set(tree(place)) == {"a.txt", "b.txt"}
    assert f"{source} is empty" in sync.warning

    source.rename(tmp_path / "elsewhere")  # its place in the file system is not free for the next one
    write(source, c_txt="c")
    sync.now()
    assert set(tree(place)) == {"a.txt", "b.txt", "c.txt"}
    assert "deleted and made again" in sync.warning


def test_a_source_that_is_gone_is_held(tmp_path: Path) -> None:
    place, source = write(tmp_path / "place", a_txt="a"), tmp_path / "job"
    sync = begin(source, place, delete=True, every=0.2)
    shutil.rmtree(source)
    assert "is gone" in state_of(sync, "HELD")["reason"]
    assert tree(place) == {"a.txt": "a"}
    write(source, b_txt="b")
    poll(lambda: tree(place) == {"a.txt": "a", "b.txt": "b"}, what="it recovers by itself")


def test_an_unmounted_place_is_left_alone_and_comes_back(tmp_path: Path) -> None:
    disk, source = tmp_path / "disk", write(tmp_path / "job", a_txt="a")
    with tmpfs(disk):
        sync = begin(source, disk, delete=True, every=0.2)
        sync.now()
        kept = (disk / SENTINEL).read_text()
        subprocess.run(["umount", disk], check=True)
        write(source, b_txt="b")
        found = state_of(sync, "HELD")
        assert SENTINEL in found["reason"]
        with pytest.raises(Unavailable, match="is not there"):
            sync.now()
        assert list(disk.iterdir()) == [], "nothing may land in the empty folder that is left"
        assert "HELD" in show.text(sync)
        with tmpfs(disk):  # another disk
            state_of(sync, "HELD")
            (disk / SENTINEL).write_text(json.dumps({"id": "another"}))
            poll(lambda: "another Place" in sync.status()["reason"])
            (disk / SENTINEL).write_text(kept)  # the same Place again
            poll(lambda: tree(disk) == {"a.txt": "a", "b.txt": "b"}, what="it recovers by itself")
            assert state_of(sync, "IDLE")
            sync.stop()


def test_a_disk_that_is_unmounted_in_the_middle_of_a_pass_leaves_its_folder_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, source, gate = tmp_path / "disk", write(tmp_path / "job", a_txt="a"), tmp_path / "gate"
    os.mkfifo(gate)
    began, late = tmp_path / "began", write(tmp_path / "bin") / "rsync"
    plain = f'case "$*" in *--version*) exec {process.need("rsync")} "$@";; esac; '
    late.write_text(f'#!/bin/sh\n{plain}: >"{began}"; cat "{gate}"; exec {process.need("rsync")} "$@"\n')
    late.chmod(0o755)
    monkeypatch.setenv("PATH", f"{late.parent}:{os.environ['PATH']}")
    with tmpfs(disk):
        sync = begin(source, disk, restore="none", rsync="-a --partial")  # a flag for which rsync does the copying
        poll(began.exists)  # the check is over, rsync has not begun
        subprocess.run(["umount", "-l", disk], check=True)
        gate.write_text("go\n")
        poll(lambda: sync.state() not in ("SYNCING", "SCANNING", "INIT"))
        assert list(disk.iterdir()) == []


def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, mounted: bool) -> tuple[Path, Path]:
    """Make a folder that stands for Drive, and a table of mounts that tells whether it is mounted."""
    content, table = tmp_path / "con tent", tmp_path / "mounts"
    point = content / "drive"
    monkeypatch.setenv("COLAB_MAGICS_CONTENT", str(content))
    monkeypatch.setenv("COLAB_MAGICS_MOUNTS", str(table))
    (point / "MyDrive").mkdir(parents=True)
    line = f"drive {str(point).replace(' ', chr(92) + '040')} fuse.drive rw,nosuid 0 0\n"
    table.write_text(f"proc /proc proc rw 0 0\n{line if mounted else ''}")
    return point, table


def test_drive_counts_only_while_it_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point, table = drive(tmp_path, monkeypatch, mounted=False)
    source = write(tmp_path / "job", a_txt="a")
    with pytest.raises(Unavailable, match="Drive is not mounted") as caught:
        begin(source, "drive")
    assert "rclone config" in str(caught.value)
    assert not (point / "MyDrive" / "colab_data").exists()

    point, table = drive_again = point, table
    rows = table.read_text()
    table.write_text(rows + f"drive {str(point).replace(' ', chr(92) + '040')} fuse.drive rw 0 0\n")
    sync = begin(source, "drive", every=0.2)
    sync.now()
    kept = point / "MyDrive" / "colab_data" / "net"
    assert tree(kept) == {"a.txt": "a"}
    assert "handed to Drive" in show.text(sync)
    assert "its upload cannot be confirmed" in show.text(sync)
    assert sync.config.large == (200_000_000, 900.0), "rewrites of big files would fill its bin"
    table.write_text(rows)
    write(source, b_txt="b")
    assert "not mounted" in state_of(sync, "HELD")["reason"]
    assert tree(kept) == {"a.txt": "a"}
    assert drive_again


def test_links_are_left_out_of_drive_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point, _ = drive(tmp_path, monkeypatch, mounted=True)
    source = write(tmp_path / "job", a_txt="a")
    (source / "latest.txt").symlink_to("a.txt")
    os.mkfifo(source / "pipe")
    (source / "a.txt").chmod(0o400)
    sync = begin(source, "drive").now()
    assert list(tree(point / "MyDrive/colab_data/net")) == ["a.txt"]
    assert "latest.txt" in sync.warning


def test_a_full_destination_keeps_the_old_file_and_recovers(tmp_path: Path) -> None:
    disk, source = tmp_path / "disk", write(tmp_path / "job", checkpoint_pt="old" * 1000)
    with tmpfs(disk, size="256k"):
        sync = begin(source, disk, every=0.3)
        sync.now()
        (source / "checkpoint.pt").write_bytes(os.urandom(400_000))
        with pytest.raises(Unavailable, match="No space left"):
            sync.now()
        assert (disk / "checkpoint.pt").read_text() == "old" * 1000
        found = state_of(sync, "HELD")
        assert "Free some space" in found["reason"]
        assert any("Free some space" in one["text"] for one in sync.notices())
        write(source, small_txt="small ones go all the same")
        poll((disk / "small.txt").exists)
        (source / "checkpoint.pt").write_text("small")
        sync.wait()
        assert (disk / "checkpoint.pt").read_text() == "small"
        sync.stop()


def test_a_place_that_is_not_writable_is_an_error_that_says_so(tmp_path: Path) -> None:
    blocker = write(tmp_path, file="x") / "file"
    with pytest.raises(Unavailable, match="cannot be used") as caught:
        begin(tmp_path / "job", blocker / "below")
    assert "→" in str(caught.value)


def test_what_went_while_nobody_looked_is_not_deleted(tmp_path: Path) -> None:
    """A process that starts anew cannot know whether a file was deleted or lost."""
    place, source = write(tmp_path / "place", a_txt="a"), tmp_path / "job"
    first = begin(source, place, delete=True)
    first.stop()
    (source / "a.txt").unlink()
    write(source, b_txt="b")
    again: Sync = begin(source, place, delete=True, restore="none")
    again.now()
    assert tree(place) == {"a.txt": "a", "b.txt": "b"}
    assert "(a.txt): what went before this sync followed deletions stays" in again.warning
