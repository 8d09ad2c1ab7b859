"""``%download to=HOST:FOLDER``: another machine fetches for itself."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import poll
from sshd import sshd
from web_server import WebServer, web_server

from colab_magics import download
from colab_magics.checkout.project import Project
from colab_magics.errors import ColabMagicsError, InvalidInput, NotFound, Unavailable
from colab_magics.relay.code import folder_there

DATA = bytes(range(256)) * 8192


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as running:
        yield running


@pytest.fixture
def there(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run a machine called box; returns the home folder there."""
    folder = home / "home there"
    folder.mkdir()
    with sshd(tmp_path, session_home=folder) as running:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(running.config_file))
        monkeypatch.chdir(tmp_path)
        yield folder


def test_r14_data_is_fetched_into_the_remote_project(server: WebServer, there: Path, project: Project) -> None:
    url = server.add("/a.csv", DATA, cuts=3)
    got = download(url, to="box:data")
    assert (there / "data" / "a.csv").read_bytes() == DATA
    assert server.asked("/a.csv")[-1]["Range"].startswith("bytes=")
    assert got.outcomes[0].came == len(DATA)
    assert "there already" in str(download(url, to="box:data"))
    assert len(server.asked("/a.csv")) == 4


def test_r14_a_host_alone_means_its_data_project(server: WebServer, there: Path, project: Project) -> None:
    url = server.add("/a.csv", DATA)
    got = download(url, to="box:")
    assert got.folder == f"{folder_there(project.root)}/data_project"
    assert got.host == "box"
    assert got.path == there / got.folder / "a.csv"
    assert got.path.read_bytes() == DATA
    assert re.search(r"^a\.csv +fetched", str(got), re.M)


def test_it_is_checked_unpacked_and_told_there(server: WebServer, there: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a", b"1")
    url = server.add("/x.zip", made.getvalue())
    check = hashlib.sha256(made.getvalue()).hexdigest()
    assert "unpacked, 1 file" in str(download(url, to=f"box:{there}/in", unpack=True, sha256=check))
    assert (there / "in" / "x" / "a").read_bytes() == b"1"
    with pytest.raises(NotFound, match="no such file"):
        download(f"{server.url}/none", to=f"box:{there}/in")
    with pytest.raises(Unavailable, match="The sha256 of what came"):
        download(f"{url}#sha256={'0' * 64}", to=f"box:{there}/other")
    hostile = io.BytesIO()
    with zipfile.ZipFile(hostile, "w") as archive:
        archive.writestr("../evil", b"1")
    with pytest.raises(InvalidInput, match="leads out of the folder"):
        download(server.add("/y.zip", hostile.getvalue()), to=f"box:{there}/in", unpack=True)
    assert not (there / "evil").exists()


def test_no_address_and_no_token_stands_in_an_argument(
    server: WebServer, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB", "t0ken")
    url = server.add("/a.bin", DATA, login="Bearer t0ken", pause=0.02)
    seen: set[str] = set()

    def look() -> bool:
        for one in psutil.process_iter():
            try:
                seen.add(" ".join(one.cmdline()))
            except psutil.Error:
                continue
        return bool(server.asked("/a.bin"))

    import threading

    thread = threading.Thread(target=lambda: poll(look))
    thread.start()
    download(url, to=f"box:{there}/in", token="secret:HUB")
    thread.join()
    assert (there / "in" / "a.bin").read_bytes() == DATA
    assert not any("t0ken" in line or "a.bin" in line for line in seen if "pytest" not in line)


def test_an_interrupt_here_ends_it_there_and_keeps_the_part(server: WebServer, there: Path, home: Path) -> None:
    url = server.add("/a.bin", DATA, pause=0.05)
    script = f"import colab_magics; colab_magics.download({url!r}, to={f'box:{there}/in'!r})"
    running = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)

    def parts() -> list[Path]:
        return [one for one in (there / "in").iterdir() if ".get-" in one.name and one.stat().st_size > 100_000]

    poll(parts)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=20)
    assert "the parts wait on box, and go on" in said
    server.files["/a.bin"].pause = 0
    got = download(url, to=f"box:{there}/in")
    assert (there / "in" / "a.bin").read_bytes() == DATA
    assert got.outcomes[0].came < len(DATA)


def test_a_host_without_python_is_told(server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = tmp_path / "few"
    few.mkdir()
    (few / "sh").symlink_to(shutil.which("sh") or "")
    from colab_magics.transport.downloads import there as downloads_there

    monkeypatch.setattr(
        downloads_there, "_PYTHON", re.sub(r'"\$HOME".*\*conda\*/bin/python', "", downloads_there._PYTHON)
    )
    with sshd(tmp_path, session_path=str(few)) as running:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(running.config_file))
        with pytest.raises(Unavailable, match="box has no Python") as raised:
            download(server.add("/a.bin", DATA), to="box:in")
    assert "%host put" in raised.value.mend


def test_unknown_hosts_and_ways_out_are_told(server: WebServer, there: Path) -> None:
    with pytest.raises(ColabMagicsError, match="There is no host bxo"):
        download(f"{server.url}/a", to="bxo:in")
    with pytest.raises(InvalidInput, match="leads out"):
        download(f"{server.url}/a", to="box:../in")
