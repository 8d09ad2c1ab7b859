"""Clocks that jump: of the daemon (injected into its Python), and of files that came with another time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from conftest import poll

from faults.kit import Kept, age_of_heartbeat, files, trashed, whole

YEAR = 365 * 86_400
JUMPING = """
import os, time
_time, _time_ns = time.time, time.time_ns
def _jump():
    with open(os.environ["JUMPED_CLOCK"]) as stream:
        return int(stream.read() or 0)
time.time = lambda: _time() + _jump()
time.time_ns = lambda: _time_ns() + _jump() * 10**9
"""


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every Python that starts from now on a clock that is off by the seconds in this file."""
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(JUMPING)
    file = tmp_path / "clock" / "jump"
    file.write_text("0")
    monkeypatch.setenv("JUMPED_CLOCK", str(file))
    monkeypatch.setenv("PYTHONPATH", f"{file.parent}:{os.environ.get('PYTHONPATH', '')}")
    return file


def jump(clock: Path, seconds: int) -> None:
    """Set the clock; by rename, as it is read all the time."""
    whole(clock, str(seconds).encode())


@pytest.mark.parametrize("seconds", [YEAR, -YEAR])
def test_a_jumping_clock_stops_nothing_and_deletes_nothing(on_folder: Kept, clock: Path, seconds: int) -> None:
    on_folder.write(5)
    sync = on_folder.start(delete=True)
    on_folder.arrived()
    began = sync.status()["scan"]["at"]
    jump(clock, seconds)
    on_folder.write(5, prefix="after the jump")
    on_folder.arrived(timeout=10)
    poll(lambda: abs(sync.status()["scan"]["at"] - began) > YEAR / 2, what="the daemon to have this clock")
    jump(clock, 0)
    on_folder.write(5, prefix="after it jumped back")
    on_folder.arrived(timeout=10)
    sync.wait(20)
    poll(lambda: age_of_heartbeat(sync) < 5, what="a heartbeat")
    assert on_folder.told()
    assert len(files(on_folder.there)) == 15


@pytest.mark.parametrize("seconds", [YEAR, -YEAR, -2])
def test_a_rewrite_with_any_time_is_sent(on_folder: Kept, seconds: int) -> None:  # a scan compares, it does not order
    state = on_folder.source / "state.bin"
    whole(state, b"step 1")
    on_folder.start()
    on_folder.arrived()
    whole(state, b"step 2")
    when = time.time() + seconds
    os.utime(state, (when, when))
    on_folder.arrived(timeout=10)


def test_the_same_time_and_size_with_other_content_is_sent(on_folder: Kept) -> None:  # ctime, or an event, tells
    state = on_folder.source / "state.bin"
    whole(state, b"step 1")
    on_folder.start()
    on_folder.arrived()
    before = state.stat()
    state.write_bytes(b"step 2")
    os.utime(state, ns=(before.st_atime_ns, before.st_mtime_ns))
    on_folder.arrived(timeout=10)


def test_a_restart_with_a_clock_that_is_behind_keeps_both_versions(on_folder: Kept, clock: Path) -> None:
    """After a restart both sides have changed, and no clock can be trusted: nothing may be lost of either."""
    state = on_folder.source / "state.bin"
    whole(state, b"step 1")
    on_folder.start().stop()
    whole(on_folder.there / "state.bin", b"from another machine")
    whole(state, b"from here")
    past = time.time() - YEAR
    os.utime(state, (past, past))
    jump(clock, -YEAR)
    on_folder.start().wait(30)
    contents = [path.read_bytes() for top in (on_folder.source, on_folder.there) for path in top.rglob("state.bin*")]
    assert {b"from another machine", b"from here"} <= set(contents)


@pytest.mark.parametrize("seconds", [YEAR, -YEAR])
def test_a_clock_that_is_off_purges_no_trash(on_folder: Kept, clock: Path, seconds: int) -> None:
    on_folder.write(5)
    sync = on_folder.start(delete=True)
    on_folder.arrived()
    (on_folder.source / "file_0.bin").unlink()
    on_folder.arrived()
    assert len(trashed(on_folder.there)) == 1
    sync.stop()
    jump(clock, seconds)
    sync = on_folder.start(delete=True)
    sync.wait(20)
    on_folder.write(1, prefix="later")
    sync.wait(20)
    assert sync.status()["trash"]["files"] == 1
    assert len(trashed(on_folder.there)) == 1
    # Nor do other sessions, which know the trash by its names alone.
    sync.stop()
    shutil.rmtree(sync.folder)
    on_folder.start(delete=True).wait(20)
    assert len(trashed(on_folder.there)) == 1


@pytest.mark.parametrize("seconds", [1000, -1000])
def test_a_session_with_another_clock_takes_over_nothing(
    on_folder: Kept, clock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    on_folder.write(2)
    on_folder.start()
    on_folder.arrived()
    owner = on_folder.there / ".colab_magics_owner.json"
    record = json.loads(owner.read_text())
    # As another machine's: whether it lives nobody can see from here.
    elsewhere = {
        **record,
        "host": "elsewhere",
        "identity": {**record["identity"], "host": "elsewhere", "boot": "other"},
    }
    poll(lambda: on_folder.state() == "IDLE")
    os.kill(on_folder.sync.status()["identity"]["pid"], signal.SIGKILL)
    whole(owner, json.dumps({**elsewhere, "who": "another"}).encode())
    jump(clock, seconds)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other machine"))
    other = Kept(tmp_path / "other machine" / "job", on_folder.there, on_folder.place)
    other.write(1, prefix="second")
    other.start()
    other.says("elsewhere", states=("HELD",))
    assert json.loads(owner.read_text())["who"] == "another"
