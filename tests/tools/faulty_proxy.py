"""A proxy in front of an HTTP server on the loopback: counts requests, and lets some of them go wrong.

    with faulty_proxy(server.port) as proxy:
        proxy.rule = lambda request: 403 if request.method == "PUT" else None
        ...
        assert proxy.count("GET") == 2

A client's ``Host`` goes through as it is, so that signed requests stay valid.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

LOCAL = "127.0.0.1"
_OWN = ("connection", "transfer-encoding", "keep-alive", "proxy-connection")


@dataclass(frozen=True)
class Request:
    """A request that came by.

    Parameters
    ----------
    method : str
        ``GET``, ``PUT`` …
    path, query : str
        Of its address, the path without escapes.
    number : int
        From 1, among all.
    """

    method: str
    path: str
    query: str
    number: int


Fate = int | Literal["cut", "cut-request", "hang", "reset"] | None
"""What becomes of a request: an HTTP status instead of an answer; ``cut``: half of the answer's body, then an end;
``cut-request``: it reaches the server, and the answer is lost; ``hang``: no answer until the proxy ends; ``reset``: an
end at once; None: all is well."""


@dataclass
class Proxy:
    """A running proxy.

    Parameters
    ----------
    port, to : int
        Where it listens, and where the server does.
    rule : callable
        Decides each request's fate.
    answer_headers : dict of str to str
        Headers that answers have in place of the server's.
    requests : list of Request
        What came by.
    """

    port: int
    to: int
    rule: Callable[[Request], Fate] = lambda request: None
    answer_headers: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://{LOCAL}:{self.port}"

    def count(self, *methods: str) -> int:
        """Return how many requests of some methods came by; of all, without any."""
        return sum(not methods or one.method in methods for one in self.requests)

    def note(self, method: str, target: str) -> Request:
        """Write a request down."""
        url = urllib.parse.urlsplit(target)
        with self.lock:
            one = Request(method, urllib.parse.unquote(url.path), url.query, len(self.requests) + 1)
            self.requests.append(one)
        return one


@contextmanager
def faulty_proxy(to: int) -> Iterator[Proxy]:
    """Run a proxy in front of a port of this machine until the block ends."""
    server = ThreadingHTTPServer((LOCAL, 0), _Handler)
    server.daemon_threads = True
    proxy = Proxy(server.server_address[1], to)
    server.proxy = proxy  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ended.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextmanager
def silent_port() -> Iterator[int]:
    """Listen at a port, and never answer."""
    with socket.socket() as silent:
        silent.bind((LOCAL, 0))
        silent.listen(64)
        yield silent.getsockname()[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def _pass(self) -> None:
        proxy: Proxy = self.server.proxy  # type: ignore[attr-defined]
        request = proxy.note(self.command, self.path)
        fate = proxy.rule(request)
        body = self._body()
        if fate == "hang":
            proxy.ended.wait()
        if fate in ("hang", "reset"):
            self._end()
            return
        if isinstance(fate, int):
            self._answer(fate)
            return
        with contextlib.closing(http.client.HTTPConnection(LOCAL, proxy.to, timeout=120)) as server:
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _OWN:
                    server.putheader(name, value)
            server.endheaders(body)
            answer = server.getresponse()
            if fate == "cut-request":
                self._end()
                return
            self._relay(answer, cut=fate == "cut")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

    def _body(self) -> bytes | None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        length = self.headers.get("Content-Length")
        return self.rfile.read(int(length)) if length else None

    def _answer(self, status: int) -> None:
        code = {403: "AccessDenied", 503: "SlowDown", 500: "InternalError"}.get(status, "Error")
        text = (
            b"" if self.command == "HEAD" else f"<Error><Code>{code}</Code><Message>made up</Message></Error>".encode()
        )
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _relay(self, answer: http.client.HTTPResponse, *, cut: bool) -> None:
        data = b"" if self.command == "HEAD" else None
        length = answer.headers.get("Content-Length")
        if data is None and length is None:
            data = answer.read()
        changed = {name.lower(): value for name, value in self.server.proxy.answer_headers.items()}  # type: ignore[attr-defined]
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in (*_OWN, "content-length", *changed):
                self.send_header(name, value)
        for name, value in changed.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length if length is not None else str(len(data or b"")))
        self.end_headers()
        if self.command == "HEAD":
            return
        if data is not None:
            self.wfile.write(data[: len(data) // 2] if cut else data)
        else:
            left = int(length or 0) // 2 if cut else int(length or 0)
            while left and (block := answer.read(min(left, 1 << 16))):
                self.wfile.write(block)
                left -= len(block)
        if cut:
            self._end()

    def _end(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
