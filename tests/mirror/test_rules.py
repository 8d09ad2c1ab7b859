"""The rules by which files are handed over: whole, logs, versions, big files, conflicts, owners, notices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import poll

from colab_magics import process
from colab_magics.errors import Unavailable
from colab_magics.mirror import control, half_written, patterns, show
from colab_magics.mirror.pending import Pending
from colab_magics.transport import filters
from mirror.tools import begin, for_python, state_of, tree, write


def test_an_event_brings_a_file_within_a_second(tmp_path: Path) -> None:
    place, source = tmp_path / "place", write(tmp_path / "job" / "deep" / "er", a_txt="a").parents[1]
    begin(source, place).now()
    write(source / "deep" / "er", b_txt="b")
    (source / "new" / "folder").mkdir(parents=True)
    write(source / "new" / "folder", c_txt="c")
    began = time.monotonic()
    poll(lambda: {"deep/er/b.txt", "new/folder/c.txt"} <= set(tree(place)))
    assert time.monotonic() - began < 5, "every= is an hour: it was an event"


def test_a_file_that_is_being_written_waits_for_its_end(tmp_path: Path) -> None:  # ✗ half-written files are uploaded
    place, source = tmp_path / "place", write(tmp_path / "job", model_pt="whole")
    sync = begin(source, place).now()
    with open(source / "model.pt", "r+b") as stream:
        stream.write(b"\0half")
        stream.flush()
        sync.now()
        assert tree(place) == {"model.pt": "whole"}
        assert "model.pt" in sync.warning
        assert sync.status()["busy"][0]["path"] == "model.pt"
        stream.write(b" and half")
    poll(lambda: tree(place) == {"model.pt": "\0half and half"}, what="its closing is an event")
    assert not sync.now().warning


def test_of_a_log_that_stays_open_goes_what_there_is(tmp_path: Path) -> None:
    place, source = tmp_path / "place", tmp_path / "job"
    sync = begin(source, place)
    with open(source / "train.log", "w") as stream:
        for line in ("epoch 1\n", "epoch 2\n"):
            stream.write(line)
            stream.flush()
            sync.now()
            assert tree(place)["train.log"].endswith(line)
            assert "open since" not in show.text(sync), "what is there is the same"


def test_a_lease_slows_a_writer_by_little(tmp_path: Path) -> None:
    file = write(tmp_path, data_bin="x") / "data.bin"
    script = (
        "import os, sys, signal, time; from colab_magics.mirror.lease import Leases\n"
        "leases = Leases(); fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "with leases.on(fd) as lease:\n"
        "    print(lease.answer, flush=True); sys.stdin.readline(); print(leases.check(fd, lease), flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, file], env=for_python(), stdin=-1, stdout=-1, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "granted\n"
        began = time.perf_counter()
        os.close(os.open(file, os.O_WRONLY))
        took = time.perf_counter() - began
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "False\n", "whoever holds it knows that somebody came"
    assert took < 1.0, "without letting go it would be 45 seconds"


def test_versions_of_what_is_overwritten(tmp_path: Path) -> None:
    place, source = tmp_path / "place", tmp_path / "job"
    sync = begin(source, place, keep=(2, "*.pt"))
    for n in range(5):
        write(source, model_pt=f"version {n}", other_txt=f"{n}")
        sync.now()
    assert tree(place) == {"model.pt": "version 4", "other.txt": "4"}
    kept = sorted(path.read_text() for path in (place / ".sync_versions").iterdir())
    assert kept == ["version 2", "version 3"]


def test_a_big_file_goes_only_so_often_but_at_last(tmp_path: Path) -> None:
    place, source = tmp_path / "place", tmp_path / "job"
    sync = begin(source, place, large=(1000, 3600.0), every=0.3)
    write(source, last_pt="1" * 2000)
    poll(lambda: tree(place).get("last.pt") == "1" * 2000, what="the first time it goes at once")
    write(source, last_pt="2" * 2000, small_txt="s")
    poll(lambda: "small.txt" in tree(place))
    poll(lambda: sync.status()["pending"]["files"] == 1)
    assert tree(place)["last.pt"] == "1" * 2000
    sync.stop()
    assert tree(place)["last.pt"] == "2" * 2000


def test_what_another_hand_changed_at_the_place_is_kept(tmp_path: Path) -> None:
    place, source = tmp_path / "place", write(tmp_path / "job", notes_md="mine")
    sync = begin(source, place).now()
    (place / "notes.md").write_text("edited at the Place")
    os.utime(place / "notes.md", (1_000_000_000, 1_000_000_000))
    write(source, notes_md="mine again")
    sync.now()
    assert tree(place) == {"notes.md": "mine again"}
    [lost] = place.glob(".sync_conflict/*/notes.md")
    assert lost.read_text() == "edited at the Place"
    assert "1 files lost" in show.text(sync)


def test_restore_shows_first_what_it_would_do(tmp_path: Path) -> None:
    place, source = write(tmp_path / "place", a_txt="a"), tmp_path / "job"
    sync = begin(source, place).now()
    write(place, b_txt="b")
    plan = sync.plan()
    assert [one.name for one in plan.fetch] == ["b.txt"]
    assert "b.txt" not in tree(source)
    sync.restore()
    assert tree(source) == {"a.txt": "a", "b.txt": "b"}


def test_verify_sends_again_what_is_gone_there(tmp_path: Path) -> None:
    place, source = tmp_path / "place", write(tmp_path / "job", a_txt="a", b_txt="b")
    sync = begin(source, place).now()
    assert sync.verify() == 0
    (place / "a.txt").unlink()
    assert sync.verify() == 1
    poll(lambda: tree(place) == {"a.txt": "a", "b.txt": "b"})


def test_many_deletes_wait_for_the_users_word(tmp_path: Path) -> None:
    place, source = tmp_path / "place", tmp_path / "job"
    write(source, **{f"f{n}_txt": str(n) for n in range(60)})
    sync = begin(source, place, delete=True).now()
    for n in range(40):
        (source / f"f{n}.txt").unlink()
    sync.now()
    assert len(tree(place)) == 60
    [told] = [one["text"] for one in sync.notices()]
    assert "40 files are gone here at once" in told
    assert "%sync now --delete" in told
    sync.now(delete=True)
    assert len(tree(place)) == 20
    assert len(list(place.glob(".sync_trash/*/*"))) == 40
    assert not sync.notices()


def test_secrets_are_told(tmp_path: Path) -> None:
    sync = begin(write(tmp_path / "job", a_txt="a"), tmp_path / "place")
    (sync.source / ".env").write_text("KEY=1")
    sync.now()
    assert any(".env looks like a secret" in one["text"] for one in sync.notices())
    assert [text for _, text in control.news(set())] == [one["text"] for one in sync.notices()]


def test_a_second_session_waits_and_can_take_over(tmp_path: Path) -> None:  # ✗ two sessions delete each other's files
    place, source = tmp_path / "place", write(tmp_path / "job", a_txt="mine")
    write(place, a_txt="theirs", b_txt="b")
    os.utime(place / "a.txt", (1_000_000_000, 1_000_000_000))
    other = {"who": "x", "host": "colab-7", "since": time.time() - 60, "beat": time.time(), "identity": {}}
    other["identity"] = {"host": "colab-7", "boot": "another", "pid": 1, "started": 1}
    (place / patterns.OWNER).write_text(json.dumps(other))
    sync = begin(source, place)
    found = state_of(sync, "HELD")
    assert "colab-7" in found["reason"]
    assert "--take-over" in found["reason"]
    assert tree(source)["b.txt"] == "b", "reading harms nobody"
    with pytest.raises(Unavailable, match="another session"):
        sync.now()
    assert tree(place)["a.txt"] == "theirs"
    begin(source, place, take_over=True).now(10)
    assert tree(place)["a.txt"] == "mine"
    assert json.loads((place / patterns.OWNER).read_text())["host"] == process.host()


def test_it_ends_when_nobody_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, source = tmp_path / "place", write(tmp_path / "job", a_txt="a")
    sync = begin(source, place).now()
    dead = process.identity(process.start_detached(["true"], log_file=tmp_path / "log"))
    poll(lambda: process.reap() or not process.is_alive(dead))
    replace(sync.config, starters=(dead,), quiet_end=0.1).save(sync.folder)
    poll(lambda: sync.state() == "STOPPED")
    assert not (place / patterns.OWNER).exists(), "the next session need not wait"


def test_results_are_handed_over_or_it_is_told_why_not(tmp_path: Path) -> None:
    place, source = tmp_path / "place", write(tmp_path / "job", a_txt="a")
    assert control.hand_over(source, timeout=5) is None
    begin(source, place)
    write(source, b_txt="b")
    assert control.hand_over(source, timeout=30) == ""
    assert tree(place) == {"a.txt": "a", "b.txt": "b"}
    (place / ".colab_magics_place.json").unlink()
    assert "is not there" in str(control.hand_over(source, timeout=30))


@pytest.mark.parametrize(
    ("pattern", "hit", "missed"),
    [
        ("*.log", ["a.log", "x/y/b.log"], ["a.logs", "log"]),
        ("/top", ["top"], ["x/top"]),
        ("cache/", ["cache/a", "x/cache/b/c"], ["cache"]),
        ("a/b", ["a/b", "x/a/b"], ["a/c/b"]),
        ("a/**/b", ["a/x/y/b"], ["a/b", "a/bb"]),
        ("f?[0-9].t", ["fx1.t"], ["f/1.t", "fxx.t"]),
        ("we ird[!x]", ["we irdy"], ["we irdx"]),
    ],
)
def test_patterns_are_those_of_rsync(tmp_path: Path, pattern: str, hit: list[str], missed: list[str]) -> None:
    left_out = filters.matcher([pattern])
    assert all(filters.within(name, left_out) for name in hit)
    assert not any(filters.within(name, left_out) for name in missed)
    for name in [*hit, *missed]:  # rsync itself agrees
        folder = tmp_path / name.replace("/", "_") / "src"
        write((folder / name).parent)
        (folder / name).write_text("x")
        there = tmp_path / name.replace("/", "_") / "there"
        process.run(["rsync", "-r", f"--exclude={pattern}", f"{folder}/", f"{there}/"])
        assert (there / name).exists() == (name in missed), name


def test_small_files_go_first() -> None:
    pending = Pending()
    for name, size in (("big", 10**9), ("small", 10), ("middle", 1000)):
        pending.add(name, size=size, quiet=True)
    assert pending.ready() == ["small", "middle", "big"]


def test_only_what_is_appended_to_counts_as_a_log(tmp_path: Path) -> None:
    def is_log(name: str, data: bytes) -> bool:
        (tmp_path / "x").write_bytes(data)
        with open(tmp_path / "x", "rb") as stream:
            return half_written.is_log(name, stream.fileno(), len(data))

    assert is_log("a/train.log", b"epoch 1\n")
    assert is_log("events.out.tfevents.123", b"\0\1")
    assert not is_log("model.log", b"\0\1")
    assert not is_log("state.json", b"{}")


def test_what_a_run_writes_of_itself_goes_to_drive_once_a_minute_and_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive, table = tmp_path / "content" / "drive", tmp_path / "mounts"
    (drive / "MyDrive").mkdir(parents=True)
    table.write_text(f"drive {drive} fuse.drive rw 0 0\n")
    monkeypatch.setenv("COLAB_MAGICS_DRIVE", str(drive))
    monkeypatch.setenv("COLAB_MAGICS_MOUNTS", str(table))
    source, place = tmp_path / "job", drive / "MyDrive" / "colab_data" / "net"
    run = write(source / "sub_job_003", state_json="beat 0")
    sync = begin(source, "drive", every=0.3).now()
    write(run, state_json="beat 1", result_txt="result")
    poll((place / "sub_job_003" / "result.txt").exists)
    poll(lambda: sync.status()["pending"]["files"] == 1)
    assert (place / "sub_job_003" / "state.json").read_text() == "beat 0"
    process.write_json(run / "run.json", {"index": 3, "attempt": 1, "payload": {"kind": "none that is known"}})
    subprocess.run(process.python("colab_magics.runs.runner", run), env=for_python(), check=False)
    ended = process.read_json(run / "state.json")
    assert ended is not None
    assert (ended["phase"], ended["handed_over"]) == ("failed", True)
    poll(lambda: process.read_json(place / "sub_job_003" / "state.json") == ended, timeout=10)


def test_only_a_runs_own_files_wait_so_long() -> None:
    pending = Pending(hot=10.0)
    waits = {}
    for name in (
        "sub_job_003/state.json",
        "a/sub_job_1/log.txt",
        "state.json",
        "sub_job_003/model.pt",
        "sub_job_big~1a2fd878/log.txt",
        "sub_jobs/log.txt",
    ):
        pending.done(name, 10)
        pending.add(name, quiet=True)
        pending.hold_back(name, 10)
        waits[name] = round(pending.waiting[name].not_before - time.monotonic())
    assert list(waits.values()) == [60, 60, 10, 10, 60, 10]
    elsewhere = Pending()  # a folder or a host keeps no bin
    elsewhere.done("sub_job_003/state.json", 10)
    elsewhere.add("sub_job_003/state.json", quiet=True)
    elsewhere.hold_back("sub_job_003/state.json", 10)
    assert elsewhere.ready() == ["sub_job_003/state.json"]
