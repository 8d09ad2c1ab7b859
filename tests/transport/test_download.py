"""``%download``: files from servers that are good, bad and worse."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import poll
from web_server import WebServer, web_server

from colab_magics import download
from colab_magics.archives import packing, unpacking
from colab_magics.checkout.project import Project
from colab_magics.errors import ColabMagicsError, InvalidInput, NotFound, Unavailable
from colab_magics.mirror import patterns
from colab_magics.transport import filters
from colab_magics.transport.downloads import fetch, file_names, web
from colab_magics.transport.downloads import part as fetch_part
from colab_magics.transport.downloads import several as downloads

DATA = bytes(range(256)) * 8192
"""Two megabytes."""


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as running:
        yield running


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(fetch.random, "uniform", lambda *_: 0.01)


def left(folder: Path) -> list[str]:
    """Return the names of what is not whole."""
    return sorted(one.name for one in folder.iterdir() if ".get-" in one.name)


def test_b17_inputs_go_to_data_project(server: WebServer, project: Project) -> None:
    url = server.add("/a.csv", DATA)
    got = download(url)
    assert got.path == project.data_project / "a.csv"
    assert got.path.read_bytes() == DATA
    assert not left(project.data_project)


def test_a_repeated_line_asks_nobody(server: WebServer, project: Project) -> None:
    url = server.add("/a.csv", DATA)
    first = download(url).path.stat()
    assert "there already" in str(download(url))
    assert len(server.asked("/a.csv")) == 1
    assert (project.data_project / "a.csv").stat().st_ino == first.st_ino


def test_without_a_project_files_go_to_the_current_folder(server: WebServer, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    download(server.add("/a.csv", DATA))
    assert (tmp_path / "a.csv").read_bytes() == DATA


def test_a_file_that_came_otherwise_is_compared(server: WebServer, tmp_path: Path) -> None:
    url = server.add("/a.csv", DATA)
    (tmp_path / "a.csv").write_bytes(DATA)
    assert "of the same size" in str(download(url, to=str(tmp_path)))
    (tmp_path / "a.csv").write_bytes(DATA[:1000])
    with pytest.raises(InvalidInput, match="another file, or a part of it"):
        download(url, to=str(tmp_path))
    assert (tmp_path / "a.csv").read_bytes() == DATA[:1000]
    download(url, to=str(tmp_path), force=True)
    assert (tmp_path / "a.csv").read_bytes() == DATA


@pytest.mark.parametrize("validator", [{}, {"etag": 'W/"weak"', "changed": "Wed, 21 Oct 2020 07:28:00 GMT"}])
def test_a_cut_connection_is_resumed(server: WebServer, tmp_path: Path, validator: dict[str, str]) -> None:
    url = server.add("/a.bin", DATA, cuts=5, **validator)
    got = download(url, to=str(tmp_path))
    assert got.path.read_bytes() == DATA
    asked = server.asked("/a.bin")
    assert [heads.get("Range") for heads in asked] == [None, *(f"bytes={n << 18}-" for n in range(1, 6))]
    assert got.outcomes[0].came == len(DATA)


@pytest.mark.parametrize("how", [{"ranges": False}, {"etag": None}])
def test_without_ranges_or_a_version_it_begins_anew(server: WebServer, tmp_path: Path, how: dict) -> None:
    url = server.add("/a.bin", DATA, cuts=2, **how)
    assert download(url, to=str(tmp_path)).path.read_bytes() == DATA


def test_a_server_that_always_cuts_is_given_up(server: WebServer, tmp_path: Path) -> None:
    url = server.add("/a.bin", DATA, cuts=1000, ranges=False)
    with pytest.raises(Unavailable, match="ended before the file did"):
        download(url, to=str(tmp_path))
    assert len(server.asked("/a.bin")) == fetch.ANEW + 2
    assert not (tmp_path / "a.bin").exists()


def test_what_came_waits_for_the_next_line(server: WebServer, tmp_path: Path) -> None:
    url = server.add("/a.bin", DATA, cuts=1)
    file = server.files["/a.bin"]
    file.then = lambda: file.statuses.extend([503] * 99)
    with pytest.raises(Unavailable, match=r"busy.*262 kB of it wait"):
        download(url, to=str(tmp_path))
    assert len(left(tmp_path)) == 2
    file.statuses.clear()
    got = download(url, to=str(tmp_path))
    assert got.path.read_bytes() == DATA
    assert got.outcomes[0].came == len(DATA) - (1 << 18)
    assert not left(tmp_path)


@pytest.mark.parametrize("ignores", [False, True])
def test_a_file_that_changes_meanwhile_is_never_mixed(server: WebServer, tmp_path: Path, ignores: bool) -> None:
    url = server.add("/a.bin", DATA, cuts=1, ignores_if_range=ignores)
    file = server.files["/a.bin"]
    file.then = lambda: setattr(file, "data", DATA[::-1])
    assert download(url, to=str(tmp_path)).path.read_bytes() == DATA[::-1]


@pytest.mark.parametrize("says", [len(DATA) - 5000, len(DATA) + 5000, 10])
def test_a_wrong_length_makes_no_whole_file(server: WebServer, tmp_path: Path, says: int) -> None:
    url = server.add("/a.bin", DATA, says=says)
    with pytest.raises(Unavailable):
        download(url, to=str(tmp_path))
    assert not (tmp_path / "a.bin").exists()


def test_chunks_without_a_size_are_whole_when_they_say_so(server: WebServer, tmp_path: Path) -> None:
    url = server.add("/a.bin", DATA, chunked=True, cuts=1)
    assert download(url, to=str(tmp_path)).path.read_bytes() == DATA


def test_an_end_that_nobody_announced_is_told(server: WebServer, tmp_path: Path) -> None:
    url = server.add("/a.bin", DATA, until_close=True)
    assert "sha256= would tell" in str(download(url, to=str(tmp_path)))
    server.add("/b.bin", DATA, until_close=True, cuts=99)
    with pytest.raises(Unavailable, match="The sha256 of what came"):
        download(f"{server.url}/b.bin#sha256={hashlib.sha256(DATA).hexdigest()}", to=str(tmp_path))
    assert not (tmp_path / "b.bin").exists()


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_checksum_counts_also_after_a_cut(server: WebServer, tmp_path: Path, kind: str) -> None:
    url = server.add("/a.bin", DATA, cuts=3)
    right = hashlib.new(kind, DATA).hexdigest()
    assert download(url, to=str(tmp_path), **{kind: right.upper()}).path.read_bytes() == DATA
    with pytest.raises(InvalidInput, match=f"its {kind} is another one"):
        download(url, to=str(tmp_path), **{kind: "0" * len(right)})
    with pytest.raises(Unavailable, match=f"The {kind} of what came as b.bin is {right}"):
        download(url, to=str(tmp_path / "b.bin"), **{kind: "0" * len(right)})
    assert not (tmp_path / "b.bin").exists()


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, Unavailable, "wants a login"),
        (403, Unavailable, "refuses the file"),
        (404, NotFound, "has no such file"),
        (410, NotFound, "has no such file"),
        (418, Unavailable, "418"),
        (429, Unavailable, "too many requests"),
        (500, Unavailable, "has a problem"),
    ],
)
def test_statuses_are_told(
    server: WebServer, tmp_path: Path, status: int, error: type[ColabMagicsError], words: str
) -> None:
    url = server.add("/a.bin", DATA, statuses=[status] * 50)
    with pytest.raises(error, match=words) as raised:
        download(url, to=str(tmp_path))
    assert raised.value.mend
    assert len(server.asked("/a.bin")) == (fetch.TRIES + 1 if status in (429, 500) else 1)
    assert list(tmp_path.iterdir()) == []


def test_retry_after_is_kept_and_a_long_one_is_told(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(fetch.Watch, "pause", lambda self, seconds: waited.append(seconds / 0.01))
    url = server.add("/a.bin", DATA, statuses=[429], headers={"Retry-After": "7"})
    assert download(url, to=str(tmp_path)).path.read_bytes() == DATA
    assert waited == [pytest.approx(7)]
    url = server.add("/b.bin", DATA, statuses=[429], headers={"Retry-After": "7200"})
    with pytest.raises(Unavailable, match="asks to wait 2 h"):
        download(url, to=str(tmp_path))


def test_one_that_fails_stops_no_other(server: WebServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    urls = [server.add(f"/{n}.bin", DATA[n:]) for n in range(6)]
    with pytest.raises(ColabMagicsError) as raised:
        download(*urls, f"{server.url}/gone.bin", f"{server.url}/x/0.bin", to=str(tmp_path))
    assert "2 of 8 files" in str(raised.value)
    assert "/gone.bin" in str(raised.value)
    assert {one.name for one in tmp_path.iterdir() if not one.name.startswith(".")} == {f"{n}.bin" for n in range(6)}
    assert "5.bin" in capsys.readouterr().out


def test_two_files_of_one_name_are_refused(server: WebServer, tmp_path: Path) -> None:
    urls = [server.add("/x/a.bin", DATA), server.add("/y/a.bin", DATA[:-1])]
    with pytest.raises(InvalidInput, match="same name"):
        download(*urls, to=str(tmp_path), workers="1")
    assert (tmp_path / "a.bin").read_bytes() == DATA


def test_redirects_are_followed_and_take_no_login_along(server: WebServer, tmp_path: Path) -> None:
    with web_server() as other:
        target = other.add("/real-name.bin", DATA)
        server.add("/a.bin", b"", leads_to=target)
        address = server.url.replace("//", "//me:s3cret@")
        got = download(f"{address}/a.bin", to=str(tmp_path))
        assert got.path == tmp_path / "a.bin"
        assert "s3cret" not in str(got)
        assert server.asked("/a.bin")[0]["Authorization"].startswith("Basic ")
        assert "Authorization" not in other.asked("/real-name.bin")[0]


def test_a_token_goes_to_the_named_server_alone(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB", "t0ken")
    with web_server() as other:
        server.add("/same.bin", b"", leads_to="/b.bin", login="Bearer t0ken")
        server.add("/b.bin", b"", leads_to=other.add("/c.bin", DATA), login="Bearer t0ken")
        assert download(f"{server.url}/same.bin", to=str(tmp_path), token="secret:HUB").path.read_bytes() == DATA
        assert "Authorization" not in other.asked("/c.bin")[0]
    assert not any(b"t0ken" in one.read_bytes() for one in tmp_path.iterdir())


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://127.0.0.1/"])
def test_redirects_to_other_schemes_are_refused(server: WebServer, tmp_path: Path, where: str) -> None:
    server.add("/a.bin", b"", leads_to=where)
    with pytest.raises(InvalidInput, match="refused"):
        download(f"{server.url}/a.bin", to=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_redirects_from_https_to_http_are_refused() -> None:
    request = web.urllib.request.Request("https://example.org/a")
    handler = web._Redirects("", ("https", "example.org", 443))
    with pytest.raises(InvalidInput, match="from https to http"):
        handler.http_error_302(request, None, 302, "", {"Location": "http://example.org/a"})


def test_a_circle_of_redirects_ends(server: WebServer, tmp_path: Path) -> None:
    server.add("/a.bin", b"", leads_to="/b.bin")
    server.add("/b.bin", b"", leads_to="/a.bin")
    with pytest.raises(Unavailable, match="leads on too often"):
        download(f"{server.url}/a.bin", to=str(tmp_path))


def test_a_page_is_no_file(server: WebServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", b"<html>", headers={"Content-Type": "text/html; charset=utf-8"})
    with pytest.raises(Unavailable, match="answers with a web page"):
        download(url, to=str(tmp_path))
    page = server.add("/a.html", b"<html>", headers={"Content-Type": "text/html"})
    assert download(page, to=str(tmp_path)).path.read_bytes() == b"<html>"


def test_what_is_packed_on_the_way_is_refused(server: WebServer, tmp_path: Path) -> None:
    url = server.add("/a.csv", DATA, headers={"Content-Encoding": "gzip"})
    with pytest.raises(Unavailable, match="packed as gzip"):
        download(url, to=str(tmp_path))
    url = server.add("/a.csv.gz", DATA, headers={"Content-Encoding": "gzip"})
    assert download(url, to=str(tmp_path)).path.read_bytes() == DATA


def test_a_checksum_of_the_store_counts(server: WebServer, tmp_path: Path) -> None:
    import base64

    md5 = base64.b64encode(hashlib.md5(DATA).digest()).decode()
    url = server.add("/a.bin", DATA, headers={"x-goog-hash": f"crc32c=AAAAAA==,md5={md5}"})
    assert download(url, to=str(tmp_path)).path.read_bytes() == DATA
    url = server.add("/b.bin", DATA[:-1], headers={"x-goog-hash": f"md5={md5}"})
    with pytest.raises(Unavailable, match="as the server said"):
        download(url, to=str(tmp_path))


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="train.csv"', "train.csv"),
        ("attachment; filename=train.csv", "train.csv"),
        ("attachment; filename*=UTF-8''d%C3%A4ta%20%E6%97%A5.csv; filename=\"x.csv\"", "däta 日.csv"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="/etc/passwd"', "passwd"),
        ('attachment; filename="..\\\\..\\\\x.csv"', "x.csv"),
        ("attachment; filename*=UTF-8''..%2F..%2Fx.csv", "x.csv"),
        ('attachment; filename="..."', "download"),
        ('attachment; filename=".bashrc"', "bashrc"),
        ('attachment; filename="-rf"', "rf"),
        ('attachment; filename=".~colab_magics.x"', "colab_magics.x"),
        ('attachment; filename="a\x07b\u202ecsv.exe"', "abcsv.exe"),
        ('attachment; filename=""', "a.bin"),
        ('attachment; filename="' + "é" * 300 + '.csv"', "é" * 98 + ".csv"),
        ("inline", "a.bin"),
    ],
)
def test_names_of_servers_stay_in_the_folder(header: str, name: str) -> None:
    said = file_names.of_header(header.encode().decode("latin-1")) or "a.bin"
    assert file_names.safe(said) == name
    assert len(file_names.safe(said).encode()) <= 200


def test_a_hostile_name_lands_in_the_folder(server: WebServer, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    url = server.add("/a", DATA, headers={"Content-Disposition": 'attachment; filename="../../../evil.sh"'})
    assert download(url, to=str(folder)).path == folder / "evil.sh"
    assert [one.name for one in tmp_path.iterdir()] == ["in"]


def test_a_file_there_that_is_a_link_is_not_followed(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.bin").symlink_to(tmp_path / "precious")
    with pytest.raises(InvalidInput, match="no plain file"):
        download(server.add("/a.bin", DATA), to=str(tmp_path / "in"), force=True)
    assert (tmp_path / "precious").read_text() == "mine"


def test_no_room_is_told_before_anything_comes(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(Unavailable, match=r"needs 2\.1 MB more, and 0 B are free"):
        download(server.add("/a.bin", DATA), to=str(tmp_path))


def test_two_at_once_fetch_it_once(server: WebServer, tmp_path: Path) -> None:
    url = server.add("/a.bin", DATA, pause=0.01)
    got: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: got.append(download(url, to=str(tmp_path)).path.read_bytes())) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [DATA] * 3
    assert not left(tmp_path)
    assert sum("Range" not in heads for heads in server.asked("/a.bin")) <= 3


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("example.org/a.zip", "did you mean https://example.org/a.zip"),
        ("ftp://example.org/a", "Known: http"),
        ("file:///etc/passwd", "Known: http"),
        ("https://", "no address"),
        ("http://exa mple/a", "no address"),
        ("https://example.org/a#sha256=12", "64 digits"),
        ("s3://bucket", "names no object"),
    ],
)
def test_addresses_that_cannot_be(url: str, words: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        download(url)
    assert words in str(raised.value)


def test_to_names_a_file_for_one_url(server: WebServer, project: Project, tmp_path: Path) -> None:
    url = server.add("/a?id=3".partition("?")[0], DATA)
    assert download(url, to="data_project/raw/b.csv").path == project.data_project / "raw" / "b.csv"
    assert download(url, to=str(tmp_path / "folder")).path == tmp_path / "folder" / "a"


def test_nobody_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1 cannot be reached: Connection refused"):
        download("http://127.0.0.1:9/a.bin", to=str(tmp_path))


def zipped(**files: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def test_b17_unpacked_once(server: WebServer, project: Project) -> None:
    url = server.add("/x.zip", zipped(a=b"1"))
    got = download(url, unpack=True)
    assert "unpacked, 1 file" in str(got)
    assert got.path == project.data_project / "x"
    (got.path / "a").write_bytes(b"mine")
    assert "unpacked already" in str(download(url, unpack=True))
    assert (got.path / "a").read_bytes() == b"mine"
    server.add("/x.zip", zipped(a=b"2"))
    download(url, unpack=True, force=True)
    assert (got.path / "a").read_bytes() == b"2"
    assert (project.data_project / "x.old1" / "a").read_bytes() == b"mine"


def test_a_folder_of_an_earlier_archive_is_told(server: WebServer, project: Project) -> None:
    url = server.add("/x.zip", zipped(a=b"1"))
    download(url, unpack=True)
    server.add("/x.zip", zipped(a=b"22"))
    download(url, force=True)
    with pytest.raises(InvalidInput, match=r"unpacked from an earlier x\.zip"):
        download(url, unpack=True)


def test_unpacking_needs_an_archive(server: WebServer, tmp_path: Path) -> None:
    assert "no archive" in str(download(server.add("/a.csv", b"1,2"), to=str(tmp_path), unpack=True))
    with pytest.raises(InvalidInput, match="no archive, although its name says so"):
        download(server.add("/x.zip", b"<html>login"), to=str(tmp_path), unpack=True)


def test_a_hostile_archive_is_kept_and_not_unpacked(server: WebServer, tmp_path: Path) -> None:
    url = server.add("/x.zip", zipped(**{"../evil": b"1"}))
    with pytest.raises(InvalidInput, match="leads out of the folder"):
        download(url, to=str(tmp_path / "in"), unpack=True)
    assert [one.name for one in tmp_path.iterdir()] == ["in"]
    assert not (tmp_path / "in" / "x").exists()


def test_an_interrupt_keeps_the_parts(server: WebServer, tmp_path: Path) -> None:
    script = (
        "import colab_magics, sys\n"
        f"colab_magics.download({server.add('/a.bin', DATA, pause=0.05)!r}, "
        f"{server.add('/b.bin', DATA, pause=1000, block=1 << 19)!r}, to={str(tmp_path)!r})"
    )
    running = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    parts = lambda: [one for one in tmp_path.iterdir() if ".get-" in one.name and one.stat().st_size > 100_000]  # noqa: E731
    poll(lambda: len(parts()) == 2)
    running.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, said = running.communicate(timeout=20)
    assert time.monotonic() - began < 10
    assert "the parts wait, and go on" in said
    assert len(parts()) == 2
    for name in ("/a.bin", "/b.bin"):
        server.files[name].pause = 0
    got = download(f"{server.url}/a.bin", f"{server.url}/b.bin", to=str(tmp_path))
    assert [one.read_bytes() for one in got.paths] == [DATA] * 2
    assert all(one.came < one.size for one in got.outcomes)


def test_long_downloads_say_how_far_they_are(
    server: WebServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    download(server.add("/a.bin", DATA, pause=0.08), to=str(tmp_path))
    assert re.search(r"a\.bin +\d+ %, .* of 2\.1 MB, .*/s, .* left", capsys.readouterr().err)


def test_the_shell_has_it_too(server: WebServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from colab_magics.__main__ import main

    url = server.add("/x.zip", zipped(a=b"1"))
    assert main(["download", url, f"to={tmp_path}", "--unpack"]) == 0
    assert "unpacked, 1 file" in capsys.readouterr().out
    assert main(["download", f"{url}x", f"to={tmp_path}"]) == 1
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("to", ["drive", "s3://bucket/x", " "])
def test_what_is_no_folder_is_told(to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput):
        download("http://127.0.0.1:9/a", to=to)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_gone_on_with_does_not_stay(server: WebServer, tmp_path: Path) -> None:
    url = server.add("/a.bin", DATA, etag=None, cuts=99)
    with pytest.raises(Unavailable, match="ended before the file did") as raised:
        download(url, to=str(tmp_path))
    assert "wait" not in raised.value.what
    assert not list(tmp_path.iterdir())


def test_notes_of_others_lead_nobody_astray(server: WebServer, tmp_path: Path) -> None:
    url = server.add("/a.bin", DATA)
    download(url, to=str(tmp_path))
    note = tmp_path / downloads.NOTES
    said = json.loads(note.read_text())
    (key,) = said["files"]
    (tmp_path / "in").mkdir()
    for crafted in ({key: {"name": "../a.bin", "looks": said["files"][key]["looks"]}}, {key: 3}, [], "x", {key: {}}):
        (tmp_path / "in" / downloads.NOTES).write_text(json.dumps({"files": crafted}))
        assert download(url, to=str(tmp_path / "in")).path == tmp_path / "in" / "a.bin"
        (tmp_path / "in" / "a.bin").unlink()
    (tmp_path / "in" / downloads.NOTES).unlink()
    os.mkfifo(tmp_path / "in" / downloads.NOTES)
    assert download(url, to=str(tmp_path / "in")).path.read_bytes() == DATA


def test_a_sync_leaves_out_what_is_not_whole() -> None:
    out = filters.matcher(patterns.OURS)
    for name in (fetch_part.TEMPORARY, unpacking.TEMPORARY, downloads.NOTES, packing.TEMPORARY):
        assert out(f"{name}x", False)
