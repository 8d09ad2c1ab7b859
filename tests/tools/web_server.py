"""A server of files on the loopback that does what bad servers do, on request."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_BLOCK = 1 << 16


@dataclass
class File:
    """A file of a server, and how it is served.

    Parameters
    ----------
    data : bytes
        What it holds.
    etag, changed : str or None
        Its headers ``ETag`` (by default a strong one of its content) and ``Last-Modified``; None for none.
    cuts : int
        So many answers end early, each after `cut_after` bytes.
    cut_after : int
        See `cuts`.
    then : callable
        Called before each cut.
    ranges : bool
        Whether parts are served; otherwise each answer is the whole file.
    ignores_if_range : bool
        Parts are served whatever version is asked for.
    says : int or None
        ``Content-Length`` in place of the true one.
    chunked : bool
        In chunks, without a size.
    until_close : bool
        Without any word about its end.
    statuses : list of int
        The statuses of the first answers, before the file is served.
    headers : mapping of str to str
        Further headers.
    login : str
        ``Authorization`` that every request needs.
    leads_to : str
        Redirect there.
    pause : float
        Seconds between blocks of `block` bytes.
    block : int
        See `pause`.
    """

    data: bytes = b""
    etag: str | None = "of content"
    changed: str | None = None
    cuts: int = 0
    cut_after: int = 1 << 18
    then: Callable[[], None] = lambda: None
    ranges: bool = True
    ignores_if_range: bool = False
    says: int | None = None
    chunked: bool = False
    until_close: bool = False
    statuses: list[int] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)
    login: str = ""
    leads_to: str = ""
    pause: float = 0.0
    block: int = _BLOCK

    @property
    def tag(self) -> str | None:
        """The header ``ETag``."""
        return f'"{hashlib.md5(self.data).hexdigest()}"' if self.etag == "of content" else self.etag


@dataclass
class WebServer:
    """A running server.

    Parameters
    ----------
    url : str
        Its address, without a slash at the end.
    files : dict of str to File
        What it serves, by path.
    seen : list of (str, dict)
        Path and headers of all requests.
    """

    url: str
    files: dict[str, File] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def add(self, path: str, data: bytes, **how: Any) -> str:
        """Serve a file; returns its address."""
        self.files[path] = File(data, **how)
        return self.url + path

    def asked(self, path: str) -> list[dict[str, str]]:
        """Return the headers of the requests for a path."""
        return [heads for one, heads in self.seen if one == path]


@contextmanager
def web_server() -> Iterator[WebServer]:
    """Run a server until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            server.seen.append((path, dict(self.headers.items())))
            self.close_connection = True
            file = server.files.get(path)
            if file is None:
                self._plain(404)
            elif file.statuses:
                self._plain(file.statuses.pop(0), file.headers)
            elif file.login and self.headers.get("Authorization") != file.login:
                self._plain(401)
            elif file.leads_to:
                self._plain(302, {"Location": file.leads_to, **file.headers})
            else:
                with suppress(BrokenPipeError, ConnectionResetError):
                    self._serve(file)

        def _plain(self, status: int, headers: Mapping[str, str] = {}) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": "0", "Connection": "close", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def _serve(self, file: File) -> None:
            start, data = 0, file.data
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            version = self.headers.get("If-Range")
            if asked and file.ranges and (version in (None, file.tag, file.changed) or file.ignores_if_range):
                start = int(asked[1])
                if start >= len(data):
                    self._plain(416)
                    return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            if file.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            elif not file.until_close:
                self.send_header("Content-Length", str(len(data) - start if file.says is None else file.says))
            for name, value in (("ETag", file.tag), ("Last-Modified", file.changed)):
                if value:
                    self.send_header(name, value)
            for name, value in file.headers.items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            end, cut = len(data), False
            if file.cuts:
                file.cuts -= 1
                end = min(end, start + file.cut_after)
                cut = True
            for at in range(start, end, file.block):
                block = data[at : min(at + file.block, end)]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if file.chunked else block)
                if file.pause:
                    time.sleep(file.pause)
            if cut:
                file.then()
            if file.chunked and end == len(data):
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    httpd = Server(("127.0.0.1", 0), Handler)
    server = WebServer(f"http://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
