"""``%download s3://…``: objects of real servers of object stores."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from buckets_server import SERVERS, Server
from sshd import sshd

from colab_magics import download
from colab_magics.errors import ColabMagicsError, InvalidInput, NotFound
from colab_magics.transport.downloads import bucket_file, fetch
from colab_magics.transport.downloads.fetch import Passing

DATA = os.urandom(5_000_000)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Run a server with a bucket, and let this process use it."""
    with SERVERS[request.param](tmp_path / "server") as running:
        running.make_bucket("inputs")
        running.put("inputs", "d/a.bin", DATA)
        running.set(monkeypatch)
        yield running


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch.random, "uniform", lambda *_: 0.01)
    (tmp_path / "server").mkdir()
    monkeypatch.chdir(tmp_path)


def test_an_object_is_fetched_once(server: Server, tmp_path: Path) -> None:
    got = download("s3://inputs/d/a.bin", to="in", sha256=hashlib.sha256(DATA).hexdigest())
    assert got.path == tmp_path / "in" / "a.bin"
    assert got.path.read_bytes() == DATA
    server.process.terminate()
    assert "there already" in str(download("s3://inputs/d/a.bin", to="in"))


@pytest.mark.parametrize("changes", [False, True])
def test_a_cut_is_resumed_and_a_changed_object_begins_anew(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: bool
) -> None:
    starts: list[int] = []
    read, opens = bucket_file._Body.read_into, bucket_file.BucketFile.open
    new = DATA[::-1]

    def cut(self: Any, view: memoryview) -> int:
        if len(starts) == 1 and starts.append(-1) is None:
            read(self, view)
            return len(view)
        if starts[-1] == -1:
            if changes:
                server.put("inputs", "d/a.bin", new)
            raise Passing("cut")
        return read(self, view)

    def opened(self: Any, start: int, version: str) -> Any:
        answer = opens(self, start, version)
        starts.append(answer.start)
        return answer

    monkeypatch.setattr(bucket_file._Body, "read_into", cut)
    monkeypatch.setattr(bucket_file.BucketFile, "open", opened)
    assert download("s3://inputs/d/a.bin", to="in").path.read_bytes() == (new if changes else DATA)
    # rclone sends no part of what is named by its ETag.
    assert [one for one in starts if one >= 0][-1] == (0 if changes or server.name == "rclone" else fetch._BLOCK)


def test_what_is_not_there_is_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        download("s3://inputs/none.bin", to="in")
    with pytest.raises(ColabMagicsError):
        download("s3://no-such-bucket/none.bin", to="in")
    with pytest.raises(InvalidInput, match="names no object"):
        download("s3://inputs", to="in")


def test_a_host_fetches_it_by_a_signed_address(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sshd(tmp_path) as running:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(running.config_file))
        download("s3://inputs/d/a.bin", to=f"box:{tmp_path}/there")
    assert (tmp_path / "there" / "a.bin").read_bytes() == DATA
