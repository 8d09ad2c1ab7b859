"""A stand-in for Google Sheets on the loopback: the part of its REST interface (v4) that a queue uses.

    with sheets_server() as server:
        book = server.add(Book([Sheet(0, "runs", [["run_name", "status", "worker_name", "lr"]])]))
        server.set(monkeypatch)
        SheetsQueue(server.link(book))

Requests and answers are held against the document that Google publishes (`discovery`): what it does not know is
refused, and an answer of ours that it does not know fails the test. Who asks proves it as a service account does. It
delays, stalls, drops answers, refuses by quota, and lets people sort and edit in between (`Server.before_write`).

What it cannot show about Google: that batches of different users are applied one after another (they are here, under a
lock; ``%queue probe`` tries it there); that ``^$`` finds an empty cell (it does here); what a search makes of texts
that look like numbers or dates (here they become some, the worst case); that two developer metadata cannot have one id;
how long anything takes; what a formula shows beyond the one kind that we write; and what the quota counts in its
minutes beyond "refilled every minute".
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
import socket
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import discovery
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from discovery import Invalid
from sheets_book import Book, Sheet

__all__ = ["Book", "Server", "Sheet", "sheets_server"]

MAIL = "worker@project.iam.gserviceaccount.com"
FAULTS = ("429", "500", "503", "500 after", "drop", "drop before", "stall", "late")


class Server:
    """Spreadsheets, who may use them, and what goes wrong.

    Parameters
    ----------
    quota : int, optional
        Calls of each kind, read and write, that a user may make in a minute.
    minute : float, default 60
        Its seconds, for tests that cannot wait.
    """

    def __init__(self, *, quota: int | None = None, minute: float = 60.0) -> None:
        self.quota, self.minute = quota, minute
        self.books: dict[str, Book] = {}
        self.lock = threading.RLock()
        self.faults: list[str] = []
        """What goes wrong with the next writes, one each; ``read:500`` with the next reads, empty for nothing."""
        self.chances: dict[str, float] = {}
        """How often a fault befalls a write."""
        self.dice = random.Random(1)
        self.pause = 0.0
        """Seconds that each call takes on its way there."""
        self.stall = 1.0
        """Seconds of ``stall`` (before it is applied) and ``late`` (applied that long after the answer was lost)."""
        self.retry_after = ""
        self.is_enabled = True
        self.before_write: Callable[[Book], None] = lambda book: None
        self.check_answers = True
        self.calls: Counter[str] = Counter()
        self.wrong: list[str] = []
        """Answers of ours that Google's document does not know."""
        self._windows: dict[tuple[str, str], tuple[int, int]] = {}
        self._http = _Http(("127.0.0.1", 0), _handler(self))

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def add(self, book: Book) -> Book:
        """Keep a spreadsheet."""
        self.books[f"book-{len(self.books)}-{id(book)}"] = book
        return book

    def link(self, book: Book, gid: int | None = None) -> str:
        """Return a spreadsheet's link as the browser shows it."""
        name = next(name for name, one in self.books.items() if one is book)
        return f"https://docs.google.com/spreadsheets/d/{name}/edit" + ("" if gid is None else f"?gid={gid}#gid={gid}")

    def key(self, folder: Path, mail: str = MAIL) -> Path:
        """Write the key of a service account that this server knows."""
        path = folder / f"{mail.partition('@')[0]}.json"
        info = {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": "1",
            "private_key": _PRIVATE,
            "client_email": mail,
            "client_id": "1",
            "token_uri": f"{self.address}/token",
        }
        path.write_text(json.dumps(info))
        return path

    def environment(self, folder: Path) -> dict[str, str]:
        """Return the variables by which a program uses it."""
        # google-auth asks Google at home for what a service account may do where; from here nobody goes there.
        nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
        found = {"COLAB_MAGICS_SHEETS": self.address, "GOOGLE_APPLICATION_CREDENTIALS": str(self.key(folder))}
        return {**found, **nowhere}

    def set(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        """Let this process use it."""
        for name, value in self.environment(folder).items():
            monkeypatch.setenv(name, value)

    def start(self) -> None:
        """Begin to answer."""
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self._http.shutdown()
        self._http.server_close()

    def fault(self, kind: str) -> str:
        """Return what goes wrong with this call; empty for nothing."""
        with self.lock:
            if kind == "read":
                if self.faults and self.faults[0].startswith("read:"):
                    return self.faults.pop(0).removeprefix("read:")
                return ""
            if self.faults and not self.faults[0].startswith("read:"):
                return self.faults.pop(0)
            return next((name for name, chance in self.chances.items() if self.dice.random() < chance), "")

    def over_quota(self, user: str, kind: str) -> bool:
        """Count a call; whether it is one too many in this minute."""
        if self.quota is None:
            return False
        with self.lock:
            window = int(time.monotonic() / self.minute)
            before, count = self._windows.get((user, kind), (window, 0))
            count = count + 1 if before == window else 1
            self._windows[user, kind] = (window, count)
            return count > self.quota


def sheets_server(**options: Any) -> contextlib.AbstractContextManager[Server]:
    """Answer while the block runs; see `Server`."""
    return _running(Server(**options))


@contextlib.contextmanager
def _running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()
    assert not server.wrong, server.wrong[:3]


class _Answer(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, word: str, message: str, reason: str = "") -> None:
        super().__init__(message)
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
        self.status = status
        self.body = {"error": {"code": status, "message": message, "status": word, "details": details}}


def _refusal(status: int) -> _Answer:
    words = {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}
    messages = {429: "Quota exceeded for quota metric 'Write requests' and limit 'Write requests per minute per user'"}
    return _Answer(status, words[status], messages.get(status, "The service is currently unavailable."))


class _Dropped(Exception):
    """The connection is to be cut."""


def _answer(server: Server, verb: str, url: str, headers: Any, content: bytes) -> Any:
    """Answer a call; the part that is Google's."""
    parts = urllib.parse.urlsplit(url)
    user = headers.get("Authorization", "").removeprefix("Bearer token-of-")
    if not user:
        raise _Answer(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
    if not server.is_enabled:
        message = "Google Sheets API has not been used in project 1 before or it is disabled."
        raise _Answer(403, "PERMISSION_DENIED", message, "SERVICE_DISABLED")
    method, names = discovery.route(verb, parts.path)
    query = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
    discovery.check_query(method, query)
    kind = "write" if method.endswith("batchUpdate") else "read"
    server.calls[kind] += 1
    if server.over_quota(user, kind):
        server.calls["429"] += 1
        raise _refusal(429)
    time.sleep(server.pause)
    fault = server.fault(kind)
    if fault in ("429", "500", "503"):
        raise _refusal(int(fault))
    if fault == "drop before":
        raise _Dropped
    schemas = discovery.methods()[method]
    body = json.loads(content) if content else {}
    if "request" in schemas:
        discovery.check(body, schemas["request"]["$ref"])
    mask = discovery.mask(query["fields"][0], schemas["response"]["$ref"]) if "fields" in query else {}
    if fault == "late":
        threading.Timer(server.stall, _late, (server, names, user, body, mask)).start()
        raise _Dropped
    if fault == "stall":
        time.sleep(server.stall)
    found = _do(server, method, names["spreadsheetId"], user, query, body, mask)
    if fault == "500 after":
        raise _refusal(500)
    if fault == "drop":
        raise _Dropped
    found = discovery.masked(found, mask)
    if server.check_answers:
        try:
            discovery.check(found, schemas["response"]["$ref"])
        except Invalid as error:
            server.wrong.append(str(error))
    return found


def _late(server: Server, names: dict[str, str], user: str, body: Any, mask: Any) -> None:
    with contextlib.suppress(Invalid, _Answer):
        _do(server, "sheets.spreadsheets.batchUpdate", names["spreadsheetId"], user, {}, body, mask)


def _do(server: Server, method: str, name: str, user: str, query: Any, body: Any, mask: Any) -> dict[str, Any]:
    """Do what a call asks for, alone."""
    with server.lock:
        book = server.books.get(name)
        if book is None:
            raise _Answer(404, "NOT_FOUND", "Requested entity was not found.")
        writes = method.endswith(".batchUpdate")
        may = book.editors is None or user in book.editors or (user in book.viewers and not writes)
        if not may:
            raise _Answer(403, "PERMISSION_DENIED", "The caller does not have permission")
        if method == "sheets.spreadsheets.get":
            return book.seen(_of_ranges(book, query.get("ranges", [])), mask)
        if method == "sheets.spreadsheets.getByDataFilter":
            gids = [one["gridRange"].get("sheetId", 0) for one in body["dataFilters"]]
            for gid in gids:
                if gid not in book.sheets:
                    raise Invalid(f"No grid with id: {gid}")
            return book.seen(gids, mask)
        if not writes:
            raise Invalid(f"this server does not do {method}")
        server.before_write(book)
        gids = _of_ranges(book, body.get("responseRanges", []))
        if not body.get("requests"):
            raise Invalid("Must specify at least one request.")
        replies = book.apply(body["requests"])
        found: dict[str, Any] = {"spreadsheetId": name, "replies": replies}
        if body.get("includeSpreadsheetInResponse"):
            found["updatedSpreadsheet"] = book.seen(gids, mask.get("updatedSpreadsheet", {}))
        return found


def _of_ranges(book: Book, ranges: list[str]) -> list[int]:
    titles = {sheet.title: gid for gid, sheet in book.sheets.items()}
    found = []
    for one in ranges:
        title = one[1:-1].replace("''", "'") if one.startswith("'") else one
        if title not in titles:
            raise Invalid(f"Unable to parse range: {one}")
        found.append(titles[title])
    return found or list(book.sheets)


class _Http(ThreadingHTTPServer):
    daemon_threads, block_on_close = True, False
    request_queue_size = 100

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that were killed."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/token":
                self._token(content)
                return
            status, body = 200, {}
            try:
                body = _answer(server, self.command, self.path, self.headers, content)
            except _Dropped:
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            except Invalid as error:
                refused = _Answer(400, "INVALID_ARGUMENT", str(error))
                status, body = refused.status, refused.body
            except _Answer as error:
                status, body = error.status, error.body
            self._send(status, body)

        do_GET = do_POST

        def _token(self, content: bytes) -> None:
            claims = urllib.parse.parse_qs(content.decode())["assertion"][0].split(".")[1]
            info = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
            answer = {"access_token": f"token-of-{info['iss']}", "expires_in": 3600, "token_type": "Bearer"}
            self._send(200, answer)

        def _send(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if status == 429 and server.retry_after:
                    self.send_header("Retry-After", server.retry_after)
                self.end_headers()
                self.wfile.write(data)

    return Handler


_PRIVATE = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048)
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    .decode()
)
"""Of these tests alone."""
