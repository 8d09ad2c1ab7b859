"""The lock of a job's or a run's folder: one holder, gone with it, on a file that can be written."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import poll

from colab_magics.mirror import patterns
from colab_magics.records import lock
from colab_magics.records.names import LOCK
from colab_magics.transport import filters

HOLD = (
    "import sys; from pathlib import Path; from colab_magics.records import lock; lock.take(Path(sys.argv[1])); input()"
)


def test_one_holds_it_and_it_ends_with_the_holder(tmp_path: Path) -> None:
    assert not lock.is_held(tmp_path)
    assert os.listdir(tmp_path) == [], "looking writes nothing"
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE) as holder:
        poll(lambda: lock.is_held(tmp_path))
        with pytest.raises(BlockingIOError):
            lock.take(tmp_path)
        holder.send_signal(signal.SIGKILL)
    assert not lock.is_held(tmp_path)
    os.close(lock.take(tmp_path))


def test_it_is_on_a_file_that_is_open_for_writing(tmp_path: Path) -> None:
    # ✗ a folder, which NFS lets nobody lock: there only what is open for writing can be locked against all others
    fd = lock.take(tmp_path)
    assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
    assert os.readlink(f"/proc/self/fd/{fd}") == str(tmp_path / LOCK)
    os.close(fd)


def test_a_lock_of_an_earlier_version_counts(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert lock.is_held(tmp_path)
    with pytest.raises(BlockingIOError):
        lock.take(tmp_path)
    os.close(fd)
    assert not lock.is_held(tmp_path)


@pytest.mark.parametrize("what", ["a folder", "a link out of it", "a pipe"])
def test_where_the_file_cannot_be_the_folder_is_locked(tmp_path: Path, what: str) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    folder.mkdir()
    if what == "a folder":
        (folder / LOCK).mkdir()
    elif what == "a pipe":
        os.mkfifo(folder / LOCK)
    else:
        (folder / LOCK).symlink_to(outside)
    fd = lock.take(folder)
    assert lock.is_held(folder)
    with pytest.raises(BlockingIOError):
        lock.take(folder)
    os.close(fd)
    assert not lock.is_held(folder)
    assert not outside.exists()


def test_a_file_that_was_made_anew_is_locked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock, left = fcntl.flock, [1]

    def replaced_meanwhile(fd: int, how: int) -> None:
        flock(fd, how)
        if how & fcntl.LOCK_EX and left:
            left.clear()
            (tmp_path / LOCK).unlink()

    monkeypatch.setattr(fcntl, "flock", replaced_meanwhile)
    fd = lock.take(tmp_path)
    assert os.path.samestat(os.fstat(fd), os.stat(tmp_path / LOCK))
    assert lock.is_held(tmp_path)
    os.close(fd)


def test_a_folder_that_is_not_there_is_held_by_nobody(tmp_path: Path) -> None:
    assert not lock.is_held(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        lock.take(tmp_path / "gone")


def test_sync_neither_sends_nor_fetches_it() -> None:
    # What replaces the file while it is locked would let a second one in.
    assert filters.within(f"sub_job_000/{LOCK}", filters.matcher(patterns.OURS))
