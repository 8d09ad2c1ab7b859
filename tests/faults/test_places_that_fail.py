"""The Place goes away, empties, fills, breaks or hangs while a folder is kept there.

The rule for all of them (facts on keeping outputs safe): the guard looks before every batch; what is not surely the
Place is HELD and nothing is written; errors back off; the newest whole copy at the Place stays whole; once it is
mended all arrives by itself, and the source was never touched.
"""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import poll

from colab_magics.errors import ColabMagicsError, Unmounted
from colab_magics.mirror import control
from colab_magics.transport.places import folder as folder_place
from colab_magics.transport.places import parse
from colab_magics.transport.places.base import SENTINEL
from faults.drive import WRITES, Drive, detach
from faults.kit import Kept, age_of_heartbeat, during, empty, files, picture, whole

LONG = pytest.mark.long


def test_drive_unmounted_holds_and_fills_no_empty_folder(on_drive: Kept, drive: Drive) -> None:  # guard: mounted
    on_drive.write()
    on_drive.start()
    on_drive.arrived()
    before = picture(drive.backing, ours=True)
    drive.unmount()
    on_drive.write(prefix="meanwhile")
    on_drive.says("mount", states=("HELD",))
    assert os.listdir(drive.mountpoint) == [], "rsync would fill this folder, and then it could not be mounted again"
    assert picture(drive.backing, ours=True) == before
    drive.mount()
    on_drive.works_again()


def test_drive_that_died_is_held_and_says_so(on_drive: Kept, drive: Drive) -> None:  # guard: ENOTCONN
    on_drive.write()
    on_drive.start()
    on_drive.arrived()
    drive.kill()
    on_drive.write(prefix="meanwhile")
    on_drive.says("mount", states=("HELD",))
    drive.end()
    drive.mount()
    on_drive.works_again()


def test_drive_that_dies_while_it_is_asked_has_died(drive: Drive) -> None:  # guard: ECONNABORTED
    """What is on its way to the process just then gets another error than all that is asked later."""
    place = parse("drive", project="net")
    sentinel = place.prepare()
    drive.set(hang=["*"])
    with ThreadPoolExecutor(1) as executor:
        asked = executor.submit(lambda: place.opened(sentinel).__enter__())
        poll(drive.hanging, what="a request that is on its way")
        drive.kill()
        with pytest.raises(Unmounted, match="has died: Software caused connection abort"):
            asked.result(timeout=30)


def test_a_disk_unmounted_is_an_empty_folder_without_sentinel(on_disk: Kept, disk: Path) -> None:  # guard: sentinel
    on_disk.write()
    on_disk.start()
    on_disk.arrived()
    detach(disk)
    on_disk.write(prefix="meanwhile")
    on_disk.says(states=("HELD",))
    during(3 * 0.5, lambda: None)
    assert os.listdir(disk) == []


def test_another_disk_under_the_same_name_is_not_the_place(on_disk: Kept, disk: Path) -> None:  # guard: our id
    on_disk.write()
    on_disk.start()
    on_disk.arrived()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=True)
    try:
        (disk / SENTINEL).write_text('{"id": "of somebody else"}\n')
        before = picture(disk, ours=True)
        on_disk.write(prefix="meanwhile")
        on_disk.says(states=("HELD",))
        assert picture(disk, ours=True) == before
    finally:
        detach(disk)
    on_disk.works_again()


def test_emptied_place_is_held_and_the_source_stays(anywhere: Kept) -> None:  # guard: sentinel; restore never deletes
    before = anywhere.write(20)
    anywhere.start(delete=True)
    anywhere.arrived()
    root = anywhere.root
    empty(root)
    before = anywhere.write(1, prefix="meanwhile")
    anywhere.says(states=("HELD",))
    assert picture(root, ours=True) == {}, "nothing is written where the Place was emptied"
    assert files(anywhere.source) == before


def test_a_mirror_emptied_by_others_costs_nothing_here(anywhere: Kept) -> None:  # restore never deletes
    before = anywhere.write(20)
    sync = anywhere.start(delete=True)
    anywhere.arrived()
    empty(anywhere.there)
    assert files(anywhere.there) == {}
    sync.wait(30)
    assert files(anywhere.source) == before
    sync.stop()
    anywhere.start(delete=True)
    anywhere.sync.wait(30)
    assert files(anywhere.source) == before, "only the Place changed, but a restore never deletes"


def test_full_disk_keeps_the_old_checkpoint_and_no_leftovers(on_disk: Kept, disk: Path) -> None:  # temp + rename
    whole(on_disk.source / "last.pt", b"old" * 1_000_000)
    on_disk.start()
    on_disk.arrived()
    (disk / "others.bin").write_bytes(bytes(8_000_000))
    before = picture(disk)
    whole(on_disk.source / "last.pt", b"new" * 1_500_000)
    on_disk.says("space")
    assert picture(disk) == before
    on_disk.write(1, prefix="small", size=500)
    poll(lambda: (on_disk.there / "small_0.bin").exists(), what="a small file still fits")
    (disk / "others.bin").unlink()
    on_disk.works_again()
    assert [name for name in os.listdir(on_disk.there) if name.startswith(".~")] == []


def test_quota_of_drive(on_drive: Kept, drive: Drive) -> None:
    whole(on_drive.source / "last.pt", b"old" * 100_000)
    on_drive.start()
    on_drive.arrived()
    drive.set(quota=500_000)
    before = files(on_drive.there)
    whole(on_drive.source / "last.pt", b"new" * 150_000)
    on_drive.says("space")
    assert files(on_drive.there) == before
    drive.set(quota=None)
    on_drive.works_again()


def test_read_only_disk(on_disk: Kept, disk: Path) -> None:
    on_disk.write()
    on_disk.start()
    on_disk.arrived()
    before = picture(disk, ours=True)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    on_disk.write(prefix="meanwhile")
    on_disk.says("read-only")
    assert picture(disk, ours=True) == before
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    on_disk.works_again()


def test_read_only_drive(on_drive: Kept, drive: Drive) -> None:
    on_drive.write()
    on_drive.start()
    on_drive.arrived()
    before = picture(drive.backing, ours=True)
    drive.set(fail=dict.fromkeys(WRITES, "EROFS"))
    on_drive.write(prefix="meanwhile")
    on_drive.says("read-only")
    assert picture(drive.backing, ours=True) == before
    drive.set(fail={})
    on_drive.works_again()


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=[LONG, pytest.mark.timeout(240)])])
def test_errors_for_a_while(on_drive: Kept, drive: Drive, seconds: int) -> None:  # back-off with a reason
    on_drive.write(20)
    on_drive.start()
    on_drive.arrived()
    before = files(on_drive.there)
    drive.set(fail={"*": "EIO"})
    drive.reset()
    steps = iter(range(10_000))
    written = during(seconds, lambda: whole(on_drive.source / "last.pt", b"%d" % next(steps) * 1000), pause=0.1)
    assert written > seconds
    on_drive.says("input/output error")
    assert files(on_drive.there) == before
    assert drive.counts().total() < 60 * seconds, "it backs off"
    drive.set(fail={})
    on_drive.works_again()


@pytest.mark.parametrize("operation", ["create", "write", "flush", "rename", "getattr", "open", "utimens", "statfs"])
def test_one_operation_that_fails_publishes_nothing_torn(  # a copy whose close failed is no copy
    on_drive: Kept, drive: Drive, operation: str
) -> None:
    old, new = b"old" * 50_000, b"new" * 50_000
    whole(on_drive.source / "last.pt", old)
    on_drive.start()
    on_drive.arrived()
    drive.set(fail={operation: "EIO"})
    whole(on_drive.source / "last.pt", new)

    def seen() -> bool:
        content = (on_drive.there / "last.pt").read_bytes()
        assert content in (old, new)
        return content == new or on_drive.state() in ("HELD", "BACKOFF")

    poll(seen, what="an error that is shown, or success without that operation")
    drive.set(fail={})
    on_drive.works_again()


@pytest.mark.parametrize("patient", [False, pytest.param(True, marks=LONG)])
def test_hung_drive_is_told_and_hangs_nobody(on_drive: Kept, drive: Drive, patient: bool) -> None:  # heartbeat thread
    on_drive.write()
    sync = on_drive.start()
    on_drive.arrived()
    drive.set(hang=["*"])
    on_drive.write(prefix="meanwhile")
    poll(drive.hanging, what="the daemon to run into it")
    began = time.monotonic()
    for act in (sync.now, sync.wait):
        with pytest.raises(ColabMagicsError):
            act(timeout=1.0)
    assert on_drive.told()
    assert control.running(on_drive.source), "the other calls answer too"
    assert time.monotonic() - began < 10
    poll(lambda: age_of_heartbeat(sync) < 3, what="a heartbeat while the mount hangs")
    if patient:
        on_drive.says("does not answer", states=("HELD", "BACKOFF", "SYNCING", "SCANNING", "IDLE"), timeout=60)
    drive.set(hang=[])
    on_drive.works_again()


@pytest.mark.parametrize("patience", [1.0, pytest.param(folder_place.ANSWER_SECONDS, marks=LONG)])
def test_starting_at_a_hung_drive_comes_back(  # nothing blocks the notebook
    on_drive: Kept, drive: Drive, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr(folder_place, "ANSWER_SECONDS", patience)
    drive.set(hang=["*"])
    began = time.monotonic()
    with pytest.raises(ColabMagicsError, match="does not answer"):
        on_drive.start()
    assert time.monotonic() - began < patience + 10


def test_stopping_at_a_hung_drive_comes_back(on_drive: Kept, drive: Drive) -> None:
    on_drive.write()
    sync = on_drive.start()
    on_drive.arrived()
    drive.set(hang=["*"])
    on_drive.write(prefix="meanwhile")
    poll(drive.hanging)
    with pytest.raises(ColabMagicsError):
        sync.stop(timeout=1.0)
    drive.set(hang=[])
    poll(lambda: not sync.alive, what="it ends once Drive answers")
    on_drive.arrived()


def test_a_slow_drive_never_shows_half_a_file(on_drive: Kept, drive: Drive) -> None:  # temp + verify + rename
    drive.set(latency=0.02)
    on_drive.start()
    last = on_drive.source / "last.pt"
    seen: set[bytes] = set()

    def rewrite(step: int) -> None:
        whole(last, bytes([step]) * 700_000)
        if (there := on_drive.there / "last.pt").exists():
            content = there.read_bytes()
            assert len(content) == 700_000
            assert len(set(content)) == 1
            seen.add(content[:1])

    steps = iter(range(1, 250))
    during(6.0, lambda: rewrite(next(steps)), pause=0.07)
    on_drive.arrived()
    assert seen, "some step has arrived while the next ones were written"


def test_what_another_session_wrote_shows_up_late(on_drive: Kept, drive: Drive) -> None:  # restore with conflicts
    on_drive.there.mkdir(parents=True)
    on_drive.write(3)
    sync = on_drive.start()
    on_drive.arrived()
    sync.stop()
    drive.set(late=3600)
    whole(on_drive.there / "late.bin", b"written elsewhere")
    on_drive.start(delete=True).wait(30)
    drive.set(late=0)
    assert (on_drive.there / "late.bin").read_bytes() == b"written elsewhere", "unseen is no reason to delete"
    on_drive.sync.wait(30)
    assert (on_drive.there / "late.bin").read_bytes() == b"written elsewhere"


def test_what_drive_had_not_uploaded_is_handed_over_again(on_drive: Kept, drive: Drive) -> None:  # "rsync finished"
    """Drive uploads later than it says; when its process dies meanwhile, what was handed over is gone there."""
    before = on_drive.write(5)
    sync = on_drive.start()
    on_drive.arrived()
    drive.set(lag=3600)
    lost = on_drive.write(5, prefix="later")
    sync.wait(30)
    assert "handed to Drive" in on_drive.told()
    assert "(its upload cannot be confirmed)" in on_drive.told()
    assert "safe" not in on_drive.told()
    assert sync.status()["uploaded"] is None
    assert len([path for path in drive.lose() if "later" in path]) == 5
    assert before.keys() == files(on_drive.there).keys() - {name for name in lost if name not in before}
    on_drive.says("died", states=("HELD",))
    drive.end()
    drive.mount()
    on_drive.arrived()
    assert sync.status()["audit"]["lacking"] == 5
    on_drive.works_again()
