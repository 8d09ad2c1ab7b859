"""The way of messages between client and relay: joined where they wait, whole however large, nobody left standing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import psutil
import pytest
from conftest import poll
from sshd import Sshd

from colab_magics.errors import Unavailable
from colab_magics.relay import arrived
from colab_magics.relay.arrived import MOST_MERGED, Arrived, News
from colab_magics.relay.messages import Message
from colab_magics.relay.remote_kernel import RemoteKernel
from relay.conftest import printed, run, value

Connect = Callable[..., RemoteKernel]


def text(words: str, *, name: str = "stdout", of: str = "1") -> Message:
    content = {"name": name, "text": words}
    return Message("iopub", {"msg_type": "stream"}, {"msg_id": of}, {}, content, [], json.dumps(content).encode())


def test_text_of_one_stream_and_one_request_is_joined() -> None:
    waiting = Arrived(text("a"))
    assert waiting.add(text("b"))
    assert not waiting.add(text("c", name="stderr"))
    assert not waiting.add(text("c", of="2"))
    assert not waiting.add(Message("iopub", {"msg_type": "clear_output"}, {"msg_id": "1"}, {}, {"wait": True}, []))
    joined = waiting.fetch()
    assert joined.content == {"name": "stdout", "text": "ab"}
    assert joined.packed == b""
    assert not waiting.add(text("too late"))


def test_what_waits_alone_stays_as_it_came_and_joined_text_has_a_limit() -> None:
    alone = text("a")
    assert Arrived(alone).fetch() is alone
    display = Arrived(Message("iopub", {"msg_type": "display_data"}, {"msg_id": "1"}, {}, {}, []))
    assert not display.add(text("a"))
    waiting = Arrived(text("a"))
    assert waiting.add(text("b" * (MOST_MERGED + 1)))
    assert not waiting.add(text("c"))


def test_what_nobody_asked_for_waits_joined_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    news = News()
    for words in ("a", "b"):
        news.put(text(words))
    news.put(text("c", name="stderr"))
    assert [one.content["text"] for one in news.take()] == ["ab", "c"]
    assert news.take() == []
    size = len(text("x").packed)
    monkeypatch.setattr(arrived, "MOST_NEWS", 3 * size)
    for number in range(10):
        news.put(text("x", of=str(number)))
    lost, *kept = news.take()
    assert (lost.header["msg_type"], lost.content) == ("output_lost", {"bytes": 7 * size, "messages": 7, "here": True})
    assert [one.parent["msg_id"] for one in kept] == ["7", "8", "9"]
    assert news.take() == []


MIXED = """
import sys
from IPython.display import display, clear_output
for part in range(3):
    for i in range(200): print(part, i, flush=True)
    print("err", part, file=sys.stderr, flush=True)
    display(part)
    clear_output(wait=True)
"""


def test_text_that_waited_is_joined_between_other_messages_only(connect: Connect) -> None:
    kernel = connect()
    msg_id = kernel.execute(MIXED)
    poll(lambda: kernel._requests[msg_id].replied and kernel._requests[msg_id].idle)
    messages = list(kernel.messages(msg_id, 30))
    told = [m for m in messages if m.header["msg_type"] in ("stream", "display_data", "clear_output")]
    # The reply comes through a channel of its own, and may lie in the midst of a text.
    assert len(told) <= 4 * 3 + 1
    joined = [(k, list(g)) for k, g in groupby(told, lambda m: (m.header["msg_type"], m.content.get("name")))]
    kinds = [("stream", "stdout"), ("stream", "stderr"), ("display_data", None), ("clear_output", None)]
    assert [kind for kind, _ in joined] == kinds * 3
    for part in range(3):
        out, err = ("".join(m.content["text"] for m in group) for _, group in joined[4 * part : 4 * part + 2])
        assert out.splitlines() == [f"{part} {i}" for i in range(200)]
        assert err == f"err {part}\n"


def test_large_messages_and_files_are_whole(connect: Connect, tmp_path: Path) -> None:
    kernel = connect(folder=str(tmp_path / "work"))
    data = os.urandom(9_000_000)
    kernel.write_file("data.bin", data)
    kernel.write_file("empty", b"")
    code = (
        "import hashlib\nfrom IPython.display import display\ndata = open('data.bin', 'rb').read()\n"
        "display({'application/x-hex': data.hex()}, raw=True)\nprint(hashlib.sha256(data).hexdigest())"
    )
    messages = run(kernel, code)
    assert printed(messages).split() == [hashlib.sha256(data).hexdigest()]
    (shown,) = [m for m in messages if m.header["msg_type"] == "display_data"]
    assert shown.content["data"]["application/x-hex"] == data.hex()
    assert json.loads(shown.packed) == shown.content


def test_what_was_sent_right_before_leaving_is_executed(connect: Connect, tmp_path: Path) -> None:
    work = tmp_path / "work"
    kernel = connect(folder=str(work))
    run(kernel, "n = 0")
    for number in range(8):
        # A file each: files are written when they come, and a busy kernel reads the cell before that one later.
        kernel.write_file(f"{number}.bin", bytes([number]) * 3_000_000)
        kernel.execute(f"n += (open('{number}.bin', 'rb').read() == bytes([{number}]) * 3_000_000)")
        kernel.close()
        kernel = connect()
    assert value(kernel, "n") == "8"


def _joined(home: Path) -> list[psutil.Process]:
    """Return the processes that joined ssh to a relay and still wait."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if "attach" in words and any(word.startswith(f"{home}/.cache/colab_magics/relay/") for word in words):
            found.append(process)
    return found


def test_nobody_is_left_where_a_client_was(connect: Connect, home: Path) -> None:
    kernel = connect()
    assert len(_joined(home)) == 1
    kernel.close()
    poll(lambda: not _joined(home))
    kernel = connect()
    for _ in range(3):
        pid = kernel.connection_pid
        assert pid  # 0 would be this whole process group
        os.kill(pid, signal.SIGKILL)
        poll(lambda pid=pid: kernel.connection_pid not in (None, pid))
        assert value(kernel, "1 + 1") == "2"
    poll(lambda: len(_joined(home)) == 1)
    relay = psutil.Process(psutil.Process(kernel.welcome["pid"]).ppid())
    kernel.close()
    poll(lambda: not _joined(home))
    # No descriptor of a client that went is kept.
    before = relay.num_fds()
    for _ in range(3):
        connect().close()
    poll(lambda: relay.num_fds() <= before)


def test_the_relay_stops_and_the_client_leaves(connect: Connect, home: Path) -> None:
    kernel = connect()
    relay = psutil.Process(psutil.Process(kernel.welcome["pid"]).ppid())
    relay.suspend()
    try:
        kernel.close()
        poll(lambda: not _joined(home))
    finally:
        relay.resume()
    assert value(connect(), "1 + 1") == "2"


def test_a_relay_of_another_version_is_not_talked_to(connect: Connect, box: Sshd, home: Path) -> None:
    kernel = connect()
    kernel.close()
    (file,) = (home / ".cache/colab_magics/kernels").glob("*/main/relay.json")
    about = json.loads(file.read_text())
    file.write_text(json.dumps({**about, "protocol": about["protocol"] - 1}))
    with pytest.raises(Unavailable, match="another version"):
        connect()
    new = connect(new=True)
    assert new.welcome["pid"] != kernel.welcome["pid"]
    assert value(new, "1 + 1") == "2"
