"""A Ceph cluster of one monitor and one store in memory, with its S3 gateway, all on the loopback: 13 seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import pytest
from buckets_server import KEY, LOCAL, SECRET, Server, answers, end, free_port
from conftest import poll

PROGRAMS = ("ceph-mon", "ceph-osd", "ceph", "ceph-authtool", "monmaptool", "radosgw", "radosgw-admin")


@contextmanager
def ceph_server(tmp: Path) -> Iterator[Server]:
    """Run a gateway until the block ends; skips the test where Ceph is not installed."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install radosgw ceph-mon ceph-osd ceph-base ceph-common")
    # Sockets of the daemons have paths of at most a hundred characters.
    folder = Path("/tmp") / f"ceph-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o700)
    try:
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            yield _start(folder, stack)
    except subprocess.CalledProcessError as error:
        raise AssertionError(f"{error}\n{error.stderr}") from error


def _start(folder: Path, stack: ExitStack) -> Server:
    fsid, port, gateway = str(uuid.uuid4()), free_port(), free_port()
    log = stack.enter_context((folder / "log").open("wb"))
    _write_settings(folder, fsid, port, gateway)

    def run(*words: str, timeout: float = 60.0) -> str:
        done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=timeout, cwd=folder)
        return done.stdout

    def ask(*words: str) -> str:
        return run("ceph", "-c", f"{folder}/ceph.conf", *words)

    conf = ("-c", f"{folder}/ceph.conf")
    ring = f"{folder}/keyring"
    caps = [word for name in ("mon", "osd", "mgr", "mds") for word in ("--cap", name, "allow *")]
    run("ceph-authtool", "--create-keyring", ring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    run("ceph-authtool", ring, "--gen-key", "-n", "client.admin", *caps)
    gate = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
    run("ceph-authtool", ring, "--gen-key", "-n", "client.rgw", *gate)
    run("monmaptool", "--create", "--addv", "a", f"[v2:{LOCAL}:{port}]", "--fsid", fsid, f"{folder}/monmap")
    run("ceph-mon", *conf, "--mkfs", "-i", "a", "--monmap", f"{folder}/monmap", "--keyring", ring)
    _daemon(stack, log, "ceph-mon", *conf, "-f", "-i", "a")
    ask("auth", "import", "-i", ring)
    number, secret = str(uuid.uuid4()), run("ceph-authtool", "--gen-print-key").strip()
    (folder / "osd").mkdir()
    (folder / "secret").write_text(f'{{"cephx_secret": "{secret}"}}')
    ask("osd", "new", number, "-i", f"{folder}/secret")
    run("ceph-authtool", "--create-keyring", f"{folder}/osd/keyring", "-n", "osd.0", "--add-key", secret)
    run("ceph-osd", *conf, "-i", "0", "--mkfs", "--osd-uuid", number)
    _daemon(stack, log, "ceph-osd", *conf, "-f", "-i", "0")
    poll(lambda: "1 up" in ask("osd", "stat"), what="the store is up", timeout=60)
    process = _daemon(stack, log, "radosgw", *conf, "-f", "-n", "client.rgw")
    poll(lambda: process.poll() is not None or answers(gateway), what="the gateway answers", timeout=90)
    assert process.poll() is None, (folder / "log").read_text(errors="replace")
    keys = ("--access-key", KEY, "--secret-key", SECRET)
    run("radosgw-admin", *conf, "user", "create", "--uid", "test", "--display-name", "test", "--max-buckets=0", *keys)
    return Server("ceph", f"http://{LOCAL}:{gateway}", KEY, SECRET, process, folder)


def _write_settings(folder: Path, fsid: str, port: int, gateway: int) -> None:
    (folder / "ceph.conf").write_text(
        f"""[global]
fsid = {fsid}
mon host = [v2:{LOCAL}:{port}]
keyring = {folder}/keyring
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
crash dir = {folder}
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon warn on pool no redundancy = false
auth allow insecure global id reclaim = false
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 6442450944
[osd.0]
public addr = {LOCAL}
cluster addr = {LOCAL}
keyring = {folder}/osd/keyring
[client.rgw]
rgw frontends = beast endpoint={LOCAL}:{gateway}
rgw data = {folder}
rgw enable usage log = false
rgw gc obj min wait = 1
rgw gc processor period = 2
rgw gc processor max time = 2
"""
    )
    (folder / "mon").mkdir()


def _daemon(stack: ExitStack, log: IO[bytes], *words: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "HOME": "/"}  # not that of one test, after which its processes are ended
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
    stack.callback(end, process)
    return process
