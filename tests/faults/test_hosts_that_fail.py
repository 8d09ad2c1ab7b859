"""A Place on another machine: its connection is cut, its disk is full or read-only, the machine is gone for a while.

The rule is that of all Places (see `test_places_that_fail`): the newest whole copy stays whole, the reason is told,
and once it is mended all arrives by itself.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from conftest import poll

from colab_magics.transport.places.store import INCOMING
from faults.kit import Host, during, files, picture, whole

BWLIMIT = "-a --bwlimit=1000"
"""A megabyte a second: time to cut the connection."""


def on_its_way(kept: Host) -> bool:
    """Whether some of a file has arrived under its temporary name."""
    there = picture(kept.there, ours=True)
    return any(INCOMING.encode() in name for name, what in there.items() if what != "folder")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.long)])
def test_a_connection_cut_while_a_file_is_sent(on_host: Host, times: int) -> None:
    old, new = b"old" * 1000, os.urandom(3_000_000)
    whole(on_host.source / "last.pt", old)
    sync = on_host.start(rsync=BWLIMIT)
    on_host.arrived()
    whole(on_host.source / "last.pt", new)
    for _ in range(times):
        poll(lambda: on_its_way(on_host), what="a file that is being sent")
        cut = time.time()
        poll(on_host.cut, what="a connection to cut")
        # Its state is back-off for half a second only, which may pass unseen. A line that dies in the wrong moment is
        # noticed by rsync's and ssh's own limits of a minute.
        poll(lambda cut=cut: sync.status().get("error_at", 0.0) > cut, timeout=100, what="an error")
        assert (on_host.there / "last.pt").read_bytes() == old, "half a file has no name"
    on_host.works_again()
    assert (on_host.there / "last.pt").read_bytes() == new
    left = [name for name in picture(on_host.there, ours=True) if name.rpartition(b"/")[2].startswith(b".~")]
    assert left in ([], [INCOMING.encode()])


def test_a_machine_that_is_gone_for_a_while(on_host: Host) -> None:
    on_host.write(5)
    sync = on_host.start()
    on_host.arrived()
    os.kill(on_host.server.process.pid, 19)  # SIGSTOP: it takes connections, and says nothing
    on_host.cut()
    on_host.write(5, prefix="meanwhile")
    during(1.0, lambda: None)
    assert sync.alive
    assert on_host.told()
    os.kill(on_host.server.process.pid, 18)
    on_host.works_again()
    assert "audit" not in sync.status(), "nobody but us has been there: nothing is compared"


def test_full_disk_of_a_host(on_host: Host, disk: Path) -> None:
    whole(on_host.source / "last.pt", b"old" * 1_000_000)
    on_host.start()
    on_host.arrived()
    (disk / "others.bin").write_bytes(bytes(8_000_000))
    before = picture(disk)
    whole(on_host.source / "last.pt", os.urandom(4_500_000))
    on_host.says("space")
    assert picture(disk) == before
    on_host.write(1, prefix="small", size=500)
    poll(lambda: (on_host.there / "small_0.bin").exists(), what="a small file still fits")
    (disk / "others.bin").unlink()
    on_host.works_again()


def test_read_only_disk_of_a_host(on_host: Host, disk: Path) -> None:
    on_host.write()
    on_host.start()
    on_host.arrived()
    before = picture(disk, ours=True)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    on_host.write(prefix="meanwhile")
    on_host.says("read-only")
    assert picture(disk, ours=True) == before
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    on_host.works_again()
    assert files(on_host.source) == files(on_host.there)
