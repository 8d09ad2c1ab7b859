"""The sync's process: passes, waiting, stopping, one process each. Real rsync, real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES, poll

from colab_magics import process
from colab_magics.errors import Busy, CommandFailed, InvalidInput, Unavailable
from colab_magics.mirror import control, show, state
from colab_magics.mirror.sync import Sync
from mirror.tools import begin, for_python, state_of, tree, write

PLAIN = f'case "$*" in *--version*) exec {process.need("rsync")} "$@";; esac; '
"""Beginning of a stand-in for rsync that answers questions as rsync does."""


def test_restored_once_then_sent_every_interval(tmp_path: Path) -> None:  # B6
    place = write(tmp_path / "place", old_txt="kept")
    source = tmp_path / "data_job"
    sync = begin(source, place, every=0.3)
    assert tree(source) == {"old.txt": "kept"}, "start returns when the restore is done"
    write(source, new_txt="made here")
    poll(lambda: tree(place) == {"old.txt": "kept", "new.txt": "made here"})
    (place / "other.txt").write_text("appeared later")
    sync.now()
    assert "other.txt" not in tree(source), "fetched once, at the start"
    assert sync.state() in ("IDLE", "SYNCING")


def test_nothing_is_deleted_without_the_users_word(tmp_path: Path) -> None:  # B7, house rule 7
    place, source = write(tmp_path / "place", a_txt="a", b_txt="b"), tmp_path / "job"
    sync = begin(source, place)
    (source / "a.txt").unlink()
    sync.now()
    assert tree(place) == {"a.txt": "a", "b.txt": "b"}


@pytest.mark.parametrize("options", [{"delete": True}, {"rsync": "-av --delete"}, {"rsync": "-r -t --delete-after"}])
def test_deletes_what_is_gone_when_told_to(tmp_path: Path, options: dict[str, object]) -> None:  # B7
    place, source = write(tmp_path / "place", a_txt="a", b_txt="b"), tmp_path / "job"
    sync = begin(source, place, **options)
    (source / "a.txt").unlink()
    sync.now()
    assert tree(place) == {"b.txt": "b"}
    assert (place / ".colab_magics_place.json").is_file(), "the Place's own file is never one of them"


def test_flags_that_delete_even_what_is_excluded_spare_what_is_not_ours(tmp_path: Path) -> None:
    place, source = write(tmp_path / "place", a_txt="a", b_log="b"), tmp_path / "job"
    sync = begin(source, place, rsync="-a --delete-excluded", exclude=["*.log"])
    sync.now()
    assert tree(place) == {"a.txt": "a", "b.log": "b"}
    assert (place / ".colab_magics_place.json").is_file()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("-av --dry-run", "sends nothing"),
        ("-avn", "sends nothing"),
        ("-a --bogus", "unknown option"),
        ("-a *.txt", "no flag"),
        ("-a '", "quot"),
        ("-a --remove-source-files", "deletes the outputs here"),
    ],
)
def test_flags_that_make_no_sense_are_refused_at_once(tmp_path: Path, flags: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        begin(tmp_path / "job", tmp_path / "place", rsync=flags)
    assert control.known() == []


def test_restore_overwrites_nothing_newer_and_deletes_nothing(tmp_path: Path) -> None:
    place, source = write(tmp_path / "place", both_txt="old", only_txt="there"), tmp_path / "job"
    os.utime(place / "both.txt", (1_000_000, 1_000_000))
    write(source, both_txt="newer", mine_txt="here")
    begin(source, place).now()
    assert tree(source) == {"both.txt": "newer", "only.txt": "there", "mine.txt": "here"}
    assert tree(place) == tree(source)


def test_light_restore_leaves_big_files_and_never_leads_to_deletes(tmp_path: Path) -> None:
    place, source = write(tmp_path / "place", small_txt="s"), tmp_path / "job"
    with open(place / "big.bin", "wb") as stream:
        stream.truncate(11 * 2**20)
    sync = begin(source, place, restore="light", delete=True)
    assert tree(source) == {"small.txt": "s"}
    sync.now()
    (source / "small.txt").unlink()
    write(source, other_txt="o")
    sync.now()
    assert (place / "big.bin").is_file(), "we never put it there"
    assert tree(place).keys() == {"big.bin", "other.txt"}


def test_now_and_wait_mean_a_pass_that_began_after_the_call(tmp_path: Path) -> None:  # ✗ returns on an earlier sync
    place, source = tmp_path / "place", tmp_path / "job"
    sync = begin(source, place)
    for i in range(5):
        (source / "log.txt").write_text(f"line {i}")
        (sync.now if i % 2 else sync.wait)()
        assert tree(place)["log.txt"] == f"line {i}"


def test_wait_is_not_satisfied_by_a_pass_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, source = tmp_path / "place", write(tmp_path / "job", a_txt="first")
    gate, began = tmp_path / "gate", tmp_path / "began"
    os.mkfifo(gate)
    slow = write(tmp_path / "bin") / "rsync"  # a real rsync that lingers after its work until it is let go
    slow.write_text(
        f'#!/bin/sh\n{PLAIN}{process.need("rsync")} "$@"; code=$?; : >"{began}"; cat "{gate}"; exit $code\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    sync = begin(source, place, restore="none", rsync="-a --bwlimit=0")
    poll(began.exists)  # the first pass has copied, and has not ended
    (source / "a.txt").write_text("second!")
    answers: list[Sync] = []
    waiting = threading.Thread(target=lambda: answers.append(sync.wait()))
    waiting.start()
    poll((sync.folder / "push.request").exists)
    began.unlink()
    gate.write_text("go\n")  # the early pass ends
    poll(began.exists)  # the later one is under way
    assert not answers
    gate.write_text("go\n")
    waiting.join(30)
    assert answers
    assert tree(place) == {"a.txt": "second!"}


def test_a_rewrite_within_the_same_second_at_the_same_size_is_sent(tmp_path: Path) -> None:
    place, source = tmp_path / "place", tmp_path / "job"
    sync = begin(source, place)
    for text in ("cell 4", "cell 5", "cell 6"):
        (source / "state").write_text(text)
        second = 1_700_000_000_000_000_000
        os.utime(source / "state", ns=(second, second + ord(text[-1])))
        sync.now()
        assert tree(place) == {"state": text}


def test_stop_and_sigterm_flush(tmp_path: Path) -> None:  # ✗ no last flush at the end
    place, source = tmp_path / "place", tmp_path / "job"
    sync = begin(source, place)
    write(source, last_txt="1")
    sync.stop()
    assert tree(place) == {"last.txt": "1"}
    assert sync.state() == "STOPPED"
    assert not control.running(source)
    with pytest.raises(Unavailable, match="is stopped"):
        sync.now()

    sync = begin(source, place)
    write(source, last_txt="22")
    who = sync.status()["identity"]
    os.kill(who["pid"], signal.SIGTERM)
    poll(lambda: not process.is_alive(who))
    assert tree(place) == {"last.txt": "22"}
    assert sync.stop() is sync, "stopping what is stopped is no error"


def test_a_last_flush_that_fails_is_told(tmp_path: Path) -> None:
    place, source = tmp_path / "place", write(tmp_path / "job", a_txt="a")
    sync = begin(source, place)
    sync.now()
    (place / ".colab_magics_place.json").unlink()
    with pytest.raises(CommandFailed, match="last pass failed"):
        sync.stop()
    assert sync.state() == "STOPPED"


def test_a_killed_process_is_seen_and_started_again(tmp_path: Path) -> None:
    place, source = tmp_path / "place", write(tmp_path / "job", a_txt="a")
    sync = begin(source, place)
    os.kill(sync.status()["identity"]["pid"], signal.SIGKILL)
    poll(lambda: sync.state() == "GONE")
    for act in (sync.now, sync.wait, sync.restore):
        with pytest.raises(Unavailable, match="is gone") as caught:
            act()
        assert "%sync starts it again" in str(caught.value)
    assert "is gone" in str(sync)
    assert begin(source, place).now().state() in ("IDLE", "SYNCING")


def test_it_survives_the_kernel_and_is_found_again(tmp_path: Path) -> None:  # ✗ nothing syncs after a kernel restart
    place, source = tmp_path / "place", tmp_path / "job"
    script = (
        "import sys, os, signal; from pathlib import Path; from mirror.tools import begin\n"
        "begin(Path(sys.argv[1]), sys.argv[2], every=0.3); os.killpg(0, signal.SIGKILL)"
    )
    kernel = subprocess.run(
        [sys.executable, "-c", script, source, place],
        env=for_python(),
        start_new_session=True,
        check=False,
    )
    assert kernel.returncode == -signal.SIGKILL
    [found] = control.running(source)
    write(source, later_txt="made after the restart")
    poll(lambda: tree(place) == {"later.txt": "made after the restart"})
    again = begin(source, place, every=0.3)
    assert again.status()["identity"] == found.status()["identity"], "the same process, not a second one"


def test_a_kernel_that_ends_asks_for_a_pass(tmp_path: Path) -> None:
    place, source = tmp_path / "place", tmp_path / "job"
    script = (
        "import sys; from pathlib import Path; from mirror.tools import begin\n"
        "sync = begin(Path(sys.argv[1]), sys.argv[2]); sync.now()\n"
        "Path(sys.argv[1], 'last.txt').write_text('bye')"
    )
    subprocess.run([sys.executable, "-c", script, source, place], env=for_python(), check=True)
    poll(lambda: tree(place) == {"last.txt": "bye"})


def test_starts_at_once_give_one_process(tmp_path: Path) -> None:
    place, source = tmp_path / "place", write(tmp_path / "job", a_txt="a")
    script = (
        "import sys; from pathlib import Path; from mirror.tools import begin\n"
        "print(begin(Path(sys.argv[1]), sys.argv[2]).status()['identity']['pid'])"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, source, place],
            env=for_python(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    pids = {one.communicate(timeout=60)[0].strip() for one in started}
    assert len(pids) == 1, pids
    assert pids == {str(sync.status()["identity"]["pid"]) for sync in control.running(source)}


def test_starts_in_the_same_moment_give_one_process(tmp_path: Path) -> None:
    place, source = tmp_path / "place", write(tmp_path / "job", a_txt="a")
    together = threading.Barrier(4)

    def one() -> int:
        together.wait(30)
        pid: int = begin(source, place).status()["identity"]["pid"]
        return pid

    with ThreadPoolExecutor(4) as pool:
        pids = [answer.result(60) for answer in [pool.submit(one) for _ in range(4)]]
    assert len(set(pids)) == 1


def test_a_daemon_waits_for_what_is_left_of_the_one_before(tmp_path: Path) -> None:
    # ✗ One that was killed a moment ago still had its lock: "The process that syncs … did not start."
    source, place = tmp_path / "job", tmp_path / "place"
    sync = begin(source, place)
    os.kill(sync.status()["identity"]["pid"], signal.SIGKILL)
    poll(lambda: not sync.alive)
    with ThreadPoolExecutor(1) as pool:
        with state.locked(sync.folder / "lock", wait=True):
            started = pool.submit(begin, source, place)
            with contextlib.suppress(TimeoutError):
                started.exception(1.5)
        assert started.result(60).alive


def test_a_second_daemon_ends(tmp_path: Path) -> None:
    sync = begin(tmp_path / "job", tmp_path / "place")
    second = subprocess.run(
        process.python("colab_magics.mirror.daemon", sync.folder),
        env=for_python(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 0
    assert "another process" in second.stderr
    assert sync.now().alive


def test_a_second_start_brings_its_options(tmp_path: Path) -> None:
    place, source = write(tmp_path / "place", a_txt="a", b_txt="b"), tmp_path / "job"
    first = begin(source, place)
    again = begin(source, place, every=0.3, delete=True, exclude=["*.log"])
    assert again.status()["identity"] == first.status()["identity"]
    again.now()  # a pass that was under way may still have had the old ones
    (source / "a.txt").unlink()
    write(source, big_log="noise")
    poll(lambda: tree(place) == {"b.txt": "b"})


def test_one_mirror_has_one_source(tmp_path: Path) -> None:  # ✗ two sessions delete each other's files
    place = tmp_path / "place"
    begin(tmp_path / "one", place)
    with pytest.raises(Busy, match=r"mirror of .*one already"):
        begin(tmp_path / "two", place)


@pytest.mark.parametrize("to", ["job", "job/kept", "."])
def test_a_place_in_the_source_is_refused(tmp_path: Path, to: str) -> None:
    write(tmp_path / "job", a_txt="a")
    with pytest.raises(InvalidInput, match="lie in each other"):
        begin(tmp_path / "job", tmp_path / to)


def test_hostile_names_arrive(tmp_path: Path) -> None:  # ✗ ASCII decoding kills the sync thread
    source = tmp_path / "so'urce <b>$(touch gone) ünï"
    place = tmp_path / 'pla ce"; echo -日本'
    for name in HOSTILE_NAMES:
        write(source / name, x_txt=name)
    (source / os.fsdecode(b"not utf-8 \xff")).write_text("bytes")
    sync = begin(source, place).now()
    assert tree(place) == tree(source)
    assert len(tree(place)) == len(HOSTILE_NAMES) + 1
    assert str(source) in str(sync)
    assert "<b>" not in sync._repr_html_()
    assert "&lt;b&gt;$(touch gone) ünï" in sync._repr_html_()
    sync.stop()
    for path in source.rglob("*.txt"):
        path.unlink()
    begin(source, place)
    assert tree(source) == tree(place), "and come back"


def test_the_tools_own_half_written_files_stay_here(tmp_path: Path) -> None:
    source, place = write(tmp_path / "job", a_txt="a"), tmp_path / "place"
    (source / ".run.json.123.456789.tmp").write_text("{")
    (source / ".config.tmp").write_text("the user's own")
    begin(source, place).now()
    assert tree(place) == {"a.txt": "a", ".config.tmp": "the user's own"}


def test_files_that_vanish_meanwhile_are_no_error(tmp_path: Path) -> None:  # B7: rsync's code 24
    source, place = tmp_path / "job", tmp_path / "place"
    sync = begin(source, place)
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            for i in range(200):
                (source / f"{i}.tmp").write_text("x")
            for i in range(200):
                (source / f"{i}.tmp").unlink()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(10):
            sync.now()
    finally:
        done.set()
        thread.join()
    assert sync.state() in ("IDLE", "SYNCING")


def test_code_24_is_success_and_other_codes_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # B7
    fake = write(tmp_path / "bin") / "rsync"
    code = tmp_path / "code"
    code.write_text("24")
    fake.write_text(f'#!/bin/sh\n{PLAIN}{process.need("rsync")} "$@" || exit $?\nexit $(cat {code})\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    source = write(tmp_path / "job", a_txt="a")
    sync = begin(source, tmp_path / "place", rsync="-a --bwlimit=0")  # with such a flag rsync does the copying
    assert sync.now().state() in ("IDLE", "SYNCING")
    code.write_text("23")
    write(source, a_txt="changed")
    with pytest.raises(CommandFailed, match="could not be sent"):
        sync.now()
    state_of(sync, "BACKOFF")
    code.write_text("0")
    assert sync.wait().state() in ("IDLE", "SYNCING"), "it recovers by itself"


def test_wait_gives_up_in_time_and_tells_the_last_error(tmp_path: Path) -> None:
    place, source = tmp_path / "place", write(tmp_path / "job", a_txt="a")
    sync = begin(source, place)
    sync.now()
    (place / ".colab_magics_place.json").unlink()
    began = time.monotonic()
    with pytest.raises(CommandFailed, match=r"within 0\.5 s\. Last error: .*is not there"):
        sync.wait(timeout=0.5)
    assert time.monotonic() - began < 10


def test_the_handle_shows_where_the_files_are(tmp_path: Path) -> None:
    place, source = write(tmp_path / "place", a_txt="a"), tmp_path / "job"
    sync = begin(source, place)
    sync.now()
    text = show.text(sync)
    assert f"copied to {place} " in text
    assert "restored" in text
    assert "1 files fetched" in text
    assert str(sync.status()["identity"]["pid"]) in text
    assert text.splitlines()[0].startswith(f"{source} → {place}, every 1 h 00 min: ")
    assert str(place) in repr(sync)
