"""When the process of a sync works, what it hears, and what it leaves alone while it can do nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import poll

from colab_magics import process
from colab_magics.errors import Unavailable
from colab_magics.mirror import control, show
from colab_magics.mirror.ledger import Ledger
from colab_magics.mirror.scan import Entry
from colab_magics.mirror.sync import Sync
from colab_magics.transport.places.base import SENTINEL
from mirror.tools import begin, for_python, state_of, tmpfs, tree, write


def test_a_request_that_is_written_while_a_turn_begins_is_heard(tmp_path: Path) -> None:  # ✗ now() took a minute
    sync = begin(write(tmp_path / "job", a_txt="a"), tmp_path / "place").now()
    poll(lambda: sync.state() == "IDLE")
    found = sync.status()
    # Its time lies before the turn that has just ended, which did not know of it.
    asked = (found["heard"]["push"] + found["began"]) / 2
    assert found["heard"]["push"] < asked < found["began"]
    process.write_json(sync.folder / "push.request", {"asked": asked})
    os.kill(found["identity"]["pid"], signal.SIGUSR1)
    poll(lambda: sync.status()["heard"]["push"] == asked, timeout=5)


def test_the_users_word_survives_a_request_that_follows_at_once(tmp_path: Path) -> None:
    place, source = tmp_path / "place", tmp_path / "job"
    write(source, **{f"f{n}_txt": str(n) for n in range(60)})
    sync = begin(source, place, delete=True).now()
    for n in range(40):
        (source / f"f{n}.txt").unlink()
    sync.now()
    assert len(tree(place)) == 60
    os.kill(sync.status()["identity"]["pid"], signal.SIGSTOP)
    sync.ask("delete")
    sync.ask("push")
    sync.ask("push")  # of another session, before anybody has read the first
    os.kill(sync.status()["identity"]["pid"], signal.SIGCONT)
    sync.wait()
    assert len(tree(place)) == 20


def test_who_waits_need_not_wait_for_the_pause_after_failures(tmp_path: Path) -> None:
    place, source = tmp_path / "place", write(tmp_path / "job", a_txt="a")
    sync = begin(source, place).now()
    (place / SENTINEL).rename(tmp_path / "sentinel")
    for _ in range(8):  # by now the pause is half a minute
        with pytest.raises(Unavailable, match="is not there"):
            sync.now()
    (tmp_path / "sentinel").rename(place / SENTINEL)
    began = time.monotonic()
    sync.wait()
    assert time.monotonic() - began < 10


def test_while_it_is_held_nothing_grows(tmp_path: Path) -> None:
    disk, source = tmp_path / "disk", write(tmp_path / "job", a_txt="a")
    with tmpfs(disk, size="256k"):
        sync = begin(source, disk, every=0.2).now()
        (source / "big.bin").write_bytes(os.urandom(400_000))
        state_of(sync, "HELD")
        poll(lambda: sync.status()["failures"] >= 2)
        sizes = {name: (sync.folder / name).stat().st_size for name in ("journal.jsonl", "log.txt")}
        failures = sync.status()["failures"]
        poll(lambda: sync.status()["failures"] >= failures + 2)
        assert {name: (sync.folder / name).stat().st_size for name in sizes} == sizes
        assert "big.bin" not in (sync.folder / "journal.jsonl").read_text(), "no copy has begun"
        assert (sync.folder / "log.txt").read_text().count("HELD") == 1
        (source / "big.bin").unlink()
        sync.wait()
        sync.stop()


def test_all_is_compared_only_where_the_place_may_lack_something(tmp_path: Path) -> None:
    place, source = tmp_path / "place", write(tmp_path / "job", a_txt="a", b_txt="b")
    sync = begin(source, place, every=0.2).now()
    poll(lambda: time.time() - (place / SENTINEL).stat().st_mtime > 4, what="a sentinel that is not of this moment")
    sync.now()
    place.rename(tmp_path / "aside")
    state_of(sync, "HELD")
    (tmp_path / "aside").rename(place)
    sync.wait()
    assert "audit" not in sync.status(), "it is the very same folder"
    shutil.copytree(place, tmp_path / "copy")
    (tmp_path / "copy" / "b.txt").unlink()
    place.rename(tmp_path / "aside")
    (tmp_path / "copy").rename(place)
    sync.wait()
    assert sync.status()["audit"]["lacking"] == 1
    assert tree(place) == {"a.txt": "a", "b.txt": "b"}


def test_what_was_begun_is_known_after_two_kills(tmp_path: Path) -> None:
    file = tmp_path / "ledger"
    ledger = Ledger(file, "place")
    ledger.acknowledge("a", Entry(1, 1, 1))
    ledger.intend(["a", "b"])
    size = file.stat().st_size
    ledger.intend(["b", "a"])
    assert file.stat().st_size == size, "noted once"
    for _ in range(2):  # each makes the file anew, and is killed before it copies
        ledger = Ledger(file, "place")
        assert ledger.intended == {"a", "b"}
    ledger.acknowledge("b", Entry(2, 2, 2))
    ledger.flush()
    ledger = Ledger(file, "place")
    assert ledger.intended == {"a"}
    assert ledger.acknowledged == {"a": Entry(1, 1, 1), "b": Entry(2, 2, 2)}
    ledger.compact()
    assert Ledger(file, "place", write=False).intended == {"a"}


def limited(watches: int, source: Path, place: Path, every: float = 3600.0) -> Sync:
    """Start a sync whose process may watch only so many folders: a user name space has limits of its own."""
    script = (
        "import sys; from pathlib import Path; from mirror.tools import begin\n"
        "begin(Path(sys.argv[1]), sys.argv[2], every=float(sys.argv[3])).now()"
    )
    limit = f'echo {watches} >/proc/sys/user/max_inotify_watches && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh", sys.executable, "-c", script]
    made = subprocess.run(
        [*command, source, place, str(every)], env=for_python(), capture_output=True, text=True, check=False
    )
    if "unshare" in made.stderr or "cannot create" in made.stderr:
        pytest.skip(f"this machine has no user name spaces: {made.stderr}")
    assert made.returncode == 0, made.stderr
    [sync] = control.running(source)
    return sync


def told(sync: Sync) -> str:
    """Wait for the one notice of a sync."""
    [text] = poll(lambda: [one["text"] for one in sync.notices()], what=f"a notice, {sync.status()}")
    return text


def test_a_limit_of_watches_that_is_reached_is_told_at_once(tmp_path: Path) -> None:  # new folders go unwatched
    place, source = tmp_path / "place", write(tmp_path / "job", a_txt="a")
    for limit, every in ((10, 3600.0), (1, 0.5)):
        sync = limited(limit, source, place, every)
        if limit > 1:
            assert sync.status()["observer"] == "watching"
            assert not sync.notices()
        for n in range(12):
            write(source / f"{limit} {n}")
        assert "limit of watched folders" in told(sync)
        assert "sysctl fs.inotify.max_user_watches" in told(sync)
        assert "limit of watched folders" in show.text(sync)
        write(source / f"{limit} 11", late_txt="late")
        sync.wait()
        assert f"{limit} 11/late.txt" in tree(place)
        sync.stop()


def test_whether_a_folder_is_watched_is_asked_without_taking_room(tmp_path: Path) -> None:  # ✗ it took the last one
    place, source = tmp_path / "place", write(tmp_path / "job")
    sync = limited(13, source, place)  # the folder itself and twelve in it: room for exactly these
    for n in range(12):
        write(source / str(n), a_txt="a")
    poll(lambda: len(tree(place)) == 12)
    for n in range(12):
        write(source / str(n), late_txt="late")
    poll(lambda: len(tree(place)) == 24, what="all folders watched")
    assert sync.status()["observer"] == "watching"
    assert not sync.notices()
    write(source / "one more")
    assert "limit of watched folders" in told(sync)
    sync.stop()


def test_a_folder_in_a_new_one_that_cannot_be_watched_is_told(tmp_path: Path) -> None:  # ✗ nothing came any more
    place, source = tmp_path / "place", write(tmp_path / "job")
    sync = limited(2, source, place)
    pid = sync.status()["identity"]["pid"]
    os.kill(pid, signal.SIGSTOP)  # it finds both at once, and watchdog's thread does not survive it
    write(source / "new" / "inner", a_txt="a")
    os.kill(pid, signal.SIGCONT)
    assert "limit of watched folders" in told(sync)
    sync.wait()
    assert tree(place) == {"new/inner/a.txt": "a"}
    sync.stop()
