"""The disk over there is full: it is said, nothing hangs, and the kernel's state survives."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from conftest import poll
from mirror.tools import tmpfs

from colab_magics.relay.remote_kernel import Message, RemoteKernel
from relay.conftest import printed, run, value
from relay.test_faults import displayed

Connect = Callable[..., RemoteKernel]
TEXT = "from IPython.display import display\nclass Text(str):\n    def __repr__(self): return self + ' ' * 10_000"


@pytest.fixture
def disk(home: Path) -> Iterator[Path]:
    """Mount a small disk where relays keep what was said."""
    folder = home / ".cache" / "colab_magics" / "kernels"
    folder.mkdir(parents=True)
    for part in (folder, folder.parent):
        part.chmod(0o700)
    with tmpfs(folder, size="3m"):
        folder.chmod(0o700)
        yield folder


def fill(disk: Path) -> Path:
    """Leave no room at all."""
    file = disk / "filler"
    with open(file, "wb", buffering=0) as stream:
        _write_until_full(stream)
    return file


def _write_until_full(stream: IO[bytes]) -> None:
    while os.statvfs(stream.fileno()).f_bavail:
        stream.write(b"x" * 4096)


def losses(late: list[Message]) -> list[dict[str, object]]:
    return [m.content for m in late if m.header["msg_type"] == "output_lost"]


def test_cells_end_and_output_comes_again_when_there_is_room(connect: Connect, disk: Path) -> None:
    late: list[Message] = []
    kernel = connect(on_message=late.append)
    run(kernel, f"{TEXT}\nx = 41")
    filler = fill(disk)
    for _ in range(3):
        messages = run(kernel, "for i in range(300): display(Text(i))\nx += 1", timeout=20)
        assert [m.content["status"] for m in messages if m.channel == "shell"] == ["ok"]
    poll(lambda: losses(late))
    assert all(lost["disk"] for lost in losses(late))
    assert "No space" not in str(kernel.status())
    filler.unlink()
    assert value(kernel, "x") == "44"
    assert displayed(run(kernel, "for i in range(20): display(Text(i))")) == list(range(20))


def test_what_was_taken_makes_room(connect: Connect, disk: Path) -> None:
    late: list[Message] = []
    kernel = connect(on_message=late.append)
    run(kernel, TEXT)
    # Three times what the disk holds, and nothing is lost for a client that takes it.
    for _ in range(6):
        assert displayed(run(kernel, "for i in range(150): display(Text(i))")) == list(range(150))
        # What was said is dropped when the client has confirmed it, a moment later.
        poll(lambda: kernel.status()["spool"] < 10_000)
    assert losses(late) == []


def test_what_nobody_took_is_dropped_and_said(connect: Connect, disk: Path) -> None:
    late: list[Message] = []
    kernel = connect()
    run(kernel, f"{TEXT}\nx = 1")
    kernel.execute("import time; time.sleep(1)\nfor i in range(900): display(Text(i))\nx = 2")
    kernel.execute("print('the', 'end')")
    kernel.close()
    poll(lambda: any(b"the end" in file.read_bytes() for file in disk.glob("*/main/spool-*")))
    again = connect(on_message=late.append)
    cells = [list(again.messages(cell.msg_id, 20)) for cell in again.missed]
    assert [[m.content["status"] for m in cell if m.channel == "shell"] for cell in cells] == [["ok"], ["ok"]]
    left = displayed(cells[0])
    assert left == list(range(900))[len(range(900)) - len(left) :]
    assert printed(cells[1]) == "the end\n"
    assert losses(late)
    assert all(lost["disk"] for lost in losses(late))
    assert value(again, "x") == "2"


def test_a_full_disk_while_nobody_is_there(connect: Connect, disk: Path, tmp_path: Path) -> None:
    late: list[Message] = []
    over = tmp_path / "over"
    kernel = connect()
    run(kernel, "x = 1")
    kernel.execute(f"import time; time.sleep(1)\nprint('unheard', flush=True)\nx = 2\nopen({str(over)!r}, 'w').close()")
    kernel.close()
    filler = fill(disk)
    poll(over.exists)
    again = connect(on_message=late.append)
    for cell in again.missed:
        assert [m.content["status"] for m in again.messages(cell.msg_id, 20) if m.channel == "shell"] == ["ok"]
    assert len(again.missed) == 1
    poll(lambda: losses(late))
    # Whoever was told may have gone before it was read: the next one is told again.
    again.close()
    third = connect()
    for cell in third.missed:
        assert [m.content["status"] for m in third.messages(cell.msg_id, 20) if m.channel == "shell"] == ["ok"]
    filler.unlink()
    assert value(third, "x") == "2"
    third.shutdown()
