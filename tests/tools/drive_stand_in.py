"""A stand-in for Google Drive's pages: a proxy that answers for its hosts, with a certificate of its own.

Programs reach it as they would reach Google, through ``https_proxy``; nothing of theirs is replaced. What it cannot
show is that Google's pages look so today: they are written here as the sources of gdown 5 and 6 know them.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HOSTS = ("drive.google.com", "docs.google.com", "drive.usercontent.google.com", "accounts.google.com")
QUOTA = (
    "<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>"
    '<p class="uc-error-caption">Sorry, you can&#39;t view or download this file at this time.</p>'
    '<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently. Please try accessing '
    "the file again later. If the file you are trying to access is particularly large or is shared with many people, "
    "it may take up to 24 hours to be able to view or download the file.</p></body></html>"
)


@dataclass
class DriveFile:
    """A file.

    Parameters
    ----------
    name : str
        Its name.
    data : bytes
        What it holds.
    confirm : bool
        It is too big to be looked at for viruses: a page asks first.
    state : str
        ``shared``, ``quota``, ``private`` or ``document``.
    cuts : int
        So many answers end after 100 kB.
    """

    name: str
    data: bytes = b""
    confirm: bool = False
    state: str = "shared"
    cuts: int = 0


@dataclass
class Drive:
    """The running stand-in.

    Parameters
    ----------
    files : dict of str to DriveFile
        Files by id.
    folders : dict of str to (str, list of str)
        Folders by id: their names, and the ids of what is in them.
    seen : list of (str, str, dict)
        Host, path and headers of all requests.
    """

    files: dict[str, DriveFile] = field(default_factory=dict)
    folders: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def drive(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drive]:
    """Stand in for Drive until the block ends, for this process and those that it starts."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl: apt-get install openssl")
    certificate = _certificate(tmp)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    there, listening = Drive(), socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_serve, args=(listening, context, there), daemon=True)
    thread.start()
    proxy = f"http://127.0.0.1:{listening.getsockname()[1]}"
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, str(certificate))
    for name in ("no_proxy", "NO_PROXY", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    try:
        yield there
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def _certificate(tmp: Path) -> Path:
    names = ",".join(f"DNS:{host}" for host in HOSTS)
    file = tmp / "stand-in.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=stand-in"]
    command += ["-addext", f"subjectAltName={names}", "-keyout", f"{file}.key", "-out", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(Path(f"{file}.key").read_text() + file.read_text())
    return file


def _serve(listening: socket.socket, context: ssl.SSLContext, there: Drive) -> None:
    with suppress(OSError):
        while True:
            client, _ = listening.accept()
            threading.Thread(target=_one, args=(client, context, there), daemon=True).start()


def _one(client: socket.socket, context: ssl.SSLContext, there: Drive) -> None:
    with suppress(OSError), client:
        host = _head(client).split()[1].partition(":")[0]
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with context.wrap_socket(client, server_side=True) as secure:
            first, *lines = _head(secure).split("\r\n")
            heads = dict(line.split(": ", 1) for line in lines if ": " in line)
            path = first.split()[1]
            there.seen.append((host, path, heads))
            _answer(secure, there, host, urllib.parse.urlsplit(path), heads)


def _head(stream: socket.socket) -> str:
    data = b""
    while not data.endswith(b"\r\n\r\n") and (more := stream.recv(1)):
        data += more
    return data.decode()


def _answer(out: socket.socket, there: Drive, host: str, url: urllib.parse.SplitResult, heads: dict[str, str]) -> None:
    query = dict(urllib.parse.parse_qsl(url.query))
    if host == "accounts.google.com":
        _page(out, "<html><head><title>Sign in</title></head></html>")
        return
    if match := re.match(r"/drive/folders/([-\w]+)", url.path):
        _page(out, _folder_page(there, match[1]))
        return
    if url.path == "/embeddedfolderview":
        _page(out, _embedded_page(there, query.get("id", "")))
        return
    match = re.match(r"/document/d/([-\w]+)", url.path)
    file = there.files.get(match[1] if match else query.get("id", ""))
    if file is None:
        _page(out, "", "404 Not Found")
    elif file.state == "quota":
        _page(out, QUOTA)
    elif file.state == "private":
        _page(out, "", "302 Found", Location="https://accounts.google.com/ServiceLogin")
    elif file.state == "document" and not url.path.endswith("/export"):
        if url.path == "/uc":
            _page(out, "", "500 Internal Server Error")
        elif url.path == "/open":
            _page(out, "", "302 Found", Location=f"https://docs.google.com/document/d/{query['id']}/edit")
        else:
            _page(out, f"<html><head><title>{html.escape(file.name)} - Google Docs</title></head></html>")
    elif file.confirm and query.get("confirm") != "t":
        _page(
            out,
            "<html><head><title>Google Drive - Virus scan warning</title></head><body>"
            '<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">'
            '<input type="submit" value="Download anyway"/>'
            f'<input type="hidden" name="id" value="{query["id"]}"><input type="hidden" name="export" value="download">'
            '<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="1-2-3"></form>',
        )
    elif host == "drive.google.com" and not file.confirm:
        _page(out, "", "303 See Other", Location=f"https://drive.usercontent.google.com/download?{url.query}")
    else:
        _bytes(out, file, heads)


def _page(out: socket.socket, text: str, status: str = "200 OK", **headers: str) -> None:
    data = text.encode()
    fields = {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(data)), **headers}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items()), "Connection: close"]
    out.sendall("\r\n".join([*lines, "", ""]).encode() + data)


def _bytes(out: socket.socket, file: DriveFile, heads: dict[str, str]) -> None:
    match = re.fullmatch(r"bytes=(\d+)-", heads.get("Range", ""))
    start, total = int(match[1]) if match else 0, len(file.data)
    data = file.data[start:]
    name = urllib.parse.quote(file.name)
    lines = ["HTTP/1.1 206 Partial Content" if start else "HTTP/1.1 200 OK", "Content-Type: application/octet-stream"]
    lines += [f"Content-Disposition: attachment; filename=\"{file.name}\"; filename*=UTF-8''{name}"]
    lines += [f"Content-Length: {len(data)}", "Last-Modified: Wed, 21 Oct 2020 07:28:00 GMT", "Connection: close"]
    lines += [f"Content-Range: bytes {start}-{total - 1}/{total}"] if start else []
    if file.cuts:
        file.cuts -= 1
        data = data[:100_000]
    out.sendall("\r\n".join([*lines, "", ""]).encode() + data)


def _entries(there: Drive, folder: str) -> list[tuple[str, str, bool]]:
    return [
        (one, there.folders[one][0] if one in there.folders else there.files[one].name, one in there.folders)
        for one in there.folders[folder][1]
    ]


def _folder_page(there: Drive, folder: str) -> str:
    """Write the page that gdown 5 reads: an array within a script, at most 50 entries of it."""
    if folder not in there.folders:
        return "<html><head><title>Sign in</title></head></html>"
    kind = {True: "application/vnd.google-apps.folder", False: "application/octet-stream"}
    rows = [[one, [folder], name, kind[is_folder]] for one, name, is_folder in _entries(there, folder)][:50]
    data = json.dumps([rows], ensure_ascii=True)
    coded = "".join(char if char.isalnum() or char == " " else f"\\x{ord(char):02x}" for char in data)
    title = html.escape(there.folders[folder][0])
    return (
        f"<html><head><title>{title} - Google Drive</title></head><body>"
        f"<script>window['_DRIVE_ivd'] = '{coded}';</script></body></html>"
    )


def _embedded_page(there: Drive, folder: str) -> str:
    """Write the page that gdown 6 reads: links."""
    if folder not in there.folders:
        return "<html></html>"
    rows = "".join(
        f'<a href="https://drive.google.com/{f"drive/folders/{one}" if is_folder else f"file/d/{one}/view"}">'
        f"<div>{html.escape(name)}</div></a>"
        for one, name, is_folder in _entries(there, folder)
    )
    return f"<html><head><title>{html.escape(there.folders[folder][0])}</title></head><body>{rows}</body></html>"
