"""What hosts have promised: who counts, how much is still to be kept free, and what anybody may have put there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import poll
from fake_gpus import FakeGpus, gpus

from colab_magics import process
from colab_magics.errors import InvalidInput, Unavailable
from colab_magics.transport import host_leases, pick, probe
from colab_magics.transport.choose import choose, missing
from colab_magics.transport.host_leases import Lease, Promise
from colab_magics.transport.need import Need
from colab_magics.transport.probe import HERE, Report

__all__ = ["gpus"]  # a fixture
GB = 10**9
EATS = """
import sys, time
held = bytearray(300_000_000)
held[::4096] = b"x" * len(held[::4096])
print("eaten", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where leases of this machine lie."""
    monkeypatch.setenv(host_leases.VARIABLE, str(tmp_path / "with space"))
    return tmp_path / "with space"


def lease(need: str = "1GB ram", what: str = "net/a", **more: object) -> Lease:
    return replace(Lease(Need.from_text(need), what), **more)  # type: ignore[arg-type]


def promises() -> list[Promise]:
    return list(probe.probe([HERE])[0].promises)


def test_leases_are_placed_one_after_the_other_and_all_may_read_them(folder: Path) -> None:
    first, second = lease(), lease(what="net/b")
    for one in (first, second, first):  # placed anew, it is the last one
        probe.probe([HERE], lease=one)
    assert [(one.number, one.lease) for one in promises()] == [(2, second), (3, first)]
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert [path.stat().st_mode & 0o777 for path in folder.glob("*.lease")] == [0o644] * 2
    pick.drop(HERE, first)
    assert [one.lease for one in promises()] == [second]


def test_it_counts_while_a_process_has_it_and_until_one_may_come(folder: Path) -> None:
    mine, other = lease(), lease()
    for one in (mine, other):
        probe.probe([HERE], lease=one)
    with subprocess.Popen(["sleep", "100"]) as running:
        host_leases.hold(mine.id, process.identity(running.pid))
        for path in folder.glob("*.lease"):
            old = time.time() - host_leases.UNTIL_IT_STARTS - 10
            os.utime(path, (old, old))
        assert [one.lease.id for one in promises()] == [mine.id]
        assert (host_leases.held(mine.id), host_leases.held(other.id)) == ((mine, set()), None)
        running.kill()
    assert promises() == []
    assert host_leases.held(mine.id) is None
    (path,) = folder.glob(f"*.{mine.id}.lease")
    probe.probe([HERE], lease=(new := lease()))
    host_leases.hold(new.id, process.identity())
    assert [path.name.split(".")[1] for path in folder.glob("*.lease")] == [new.id], "what nobody has is removed"


def test_what_its_processes_use_already_counts_no_more(folder: Path, gpus: FakeGpus) -> None:
    (uuid,) = gpus.say(1)
    mine = lease("1GB ram, 2GB disk, 4GB gpu", devices=(uuid,))
    probe.probe([HERE], lease=mine)
    shell = ["sh", "-c", '"$@"; exit', "sh", sys.executable, "-c", EATS]
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        host_leases.hold(mine.id, process.identity(running.pid))
        assert running.stdout is not None
        assert running.stdout.readline() == b"eaten\n"
        (eater,) = poll(lambda: [int(pid) for pid in _children(running.pid)])
        gpus.say(1, free=[12000], apps=[(eater, uuid, 3000), (1, uuid, 500)])
        (seen,) = promises()
        running.kill()
        assert running.stdin is not None
        running.stdin.close()
    assert 0.5 * GB < seen.left.memory < 0.7 * GB
    assert seen.left.disk == 2 * GB
    assert seen.gpus == {uuid: 4 * GB - (3000 << 20)}


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_what_is_promised_is_not_free(folder: Path) -> None:
    promised = Promise(lease("1 gpu"), 1, "anna", Need(disk=3 * GB, memory=GB, cpu=2.0), {"GPU-1": 6 * GB})
    card = probe.Gpu(0, "GPU-1", "T4", 16 * GB, 10 * GB)
    free = Report("a", "", 0.01, 8, 0.0, 8 * GB, 4 * GB, 9 * GB, 9 * GB, (card,))
    busy = replace(free, promises=(promised,))
    for need in ("9GB gpu", "3.5GB ram", "7GB disk", "7 cpu", "1 gpu"):
        wanted = Need.from_text(need)
        assert missing(free, wanted) == ""
        assert "; net/a of anna has a lease on a GPU" in missing(busy, wanted)
    wanted = Need.from_text("3GB gpu, 2GB ram, 5GB disk, 6 cpu")
    assert choose([busy], wanted).report is busy
    assert missing(busy, Need.from_text("90GB disk")) == "6.0 GB of disk free, 90.0 GB + 10 % needed"


@pytest.mark.parametrize("how", ["a file", "not sticky", "a link"])
def test_a_folder_that_is_not_to_be_trusted_takes_no_lease(folder: Path, how: str, tmp_path: Path) -> None:
    if how == "a file":
        folder.touch()
    elif how == "a link":
        (tmp_path / "real").mkdir()
        (tmp_path / "real").chmod(0o1777)
        folder.symlink_to(tmp_path / "real")
    else:
        folder.mkdir(mode=0o777)
    picked = pick.pick(probe.probe([HERE]), lease("1MB disk"))
    assert not picked.is_kept
    assert not list(tmp_path.rglob("*.lease"))


def test_what_others_put_there_breaks_nothing(folder: Path) -> None:
    probe.probe([HERE], lease=(mine := lease()))
    text = mine.text
    told = json.loads(text)
    for number, content in enumerate(
        [
            *("", "[]", "{}", "null", "\0", "x" * 100_000, "[" * 5000, text.replace('"disk": 0', '"disk": "much"')),
            *(text.replace("holders", "none"), text.replace('"disk": 0', '"disk": -1')),
            json.dumps(told | {"holders": "abc"}) + "\n" + text,
            json.dumps(told | {"id": "../../x"}),
            json.dumps(told | {"what": "\x1b[2J\n" + "w" * 5000}),
            json.dumps(told | {"holders": [{"pid": "1"}, {"pid": 10**30}, {}, None]}),
        ]
    ):
        (folder / f"{number + 5}.{number:016x}.lease").write_text(content)
    for name in ("new\nline.lease", "$(touch gone).lease", "7.lease", "-rf.lease", "99999999999999999999.a.lease"):
        (folder / name).write_text(text)
    os.mkfifo(folder / "50.00000000000000aa.lease")
    (folder / "51.00000000000000ab.lease").mkdir()
    (folder / "52.00000000000000ac.lease").symlink_to("/etc/passwd")
    (report,) = probe.probe([HERE])
    assert report.alive
    assert report.promises[0].lease == mine
    assert all(len(one.lease.what) <= 80 and one.lease.what.isprintable() for one in report.promises)
    probe.probe([HERE], lease=(late := lease()))
    assert promises()[-1].lease == late
    assert host_leases.held(late.id) == (late, set())
    host_leases.hold(late.id, process.identity())
    assert not list(folder.parent.glob("gone"))


def test_a_run_starts_when_there_is_room(folder: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    mine = lease("1MB disk")
    assert pick.start_here(mine.record) == []
    assert [one.lease.id for one in promises()] == [mine.id]
    with pytest.raises(Unavailable, match=f"there is no room for {cores + 1} idle cores now: it has {cores} cores"):
        pick.start_here(lease(f"{cores + 1} cpu").record)
    for nonsense in ({}, {"id": 1}, {**mine.record, "need": {"disk": "x"}}, {**mine.record, "id": "../x"}):
        with pytest.raises(InvalidInput, match="a lease that is none"):
            pick.start_here(nonsense)


@pytest.mark.skipif(os.getuid() != 0, reason="being another user needs root")
def test_users_of_a_machine_see_each_others_leases_and_touch_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:
        os.chmod(parent, 0o777)
        monkeypatch.setenv(host_leases.VARIABLE, f"{parent}/leases")
        theirs, mine = lease(what="theirs"), lease(what="mine")
        words = ["sh", "-c", probe._SCRIPT, "sh", "mark", "/"]
        other = {
            "user": 65534,
            "group": 65534,
            "extra_groups": [],
            "cwd": "/",
            "capture_output": True,
            "input": b"\n\n",
        }
        probe.probe([HERE], lease=mine)
        subprocess.run([*words, theirs.id, theirs.text], check=True, **other)  # type: ignore[call-overload]
        assert [(one.number, one.lease, one.owner) for one in promises()] == [(1, mine, "root"), (2, theirs, "nobody")]
        host_leases.hold(mine.id, process.identity())
        seen = subprocess.run(words, check=True, **other).stdout.decode()  # type: ignore[call-overload]
        told = [line.removeprefix("mark ") for line in seen.splitlines()]
        assert [one.lease for one in probe.read("box", told, None).promises] == [mine, theirs]
        for path in Path(parent, "leases").glob("*.lease"):
            os.utime(path, (0, 0))
        subprocess.run(["sh", "-c", host_leases.REMOVE, "sh", mine.id], check=False, **other)  # type: ignore[call-overload]
        host_leases.hold(lease().id, process.identity())
        assert len(list(Path(parent, "leases").glob("*.lease"))) == 2, "who owns a lease removes it"
