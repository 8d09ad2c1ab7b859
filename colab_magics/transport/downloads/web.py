"""A file at an http address: asked for from some byte on, its answer checked, its errors told.

By Python's own client. requests, which gdown brings, hides how a body ended, and is not there on a bare host, where
this module works too: the same lines fetch here and there (see `downloads_there`). What counts is in few places:
`_Redirects` (where we let ourselves be sent), `Body` (whether all has come), `_refused` (what a status means). Stands
alone: shipped to hosts.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import http.client
import re
import select
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from typing import Any

from ...errors import ColabMagicsError, InvalidInput, NotFound, Unavailable
from . import file_names
from .fetch import Answer, Passing

SILENT_SECONDS = 60.0
"""A connection that says nothing for so long is dead."""
_REST_SECONDS = 0.3
_PAGES = re.compile(r"\.(html?|php|aspx?|jsp)$|^[^.]*$", re.IGNORECASE)
_PACKED = re.compile(r"\.(gz|tgz|svgz|br|zst|z)$", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}


class Web:
    """A file at an http address.

    Parameters
    ----------
    url : str
        ``http://…`` or ``https://…``; ``user:password@`` in it is sent as such, to this server alone.
    token : str
        A bearer token for this server; empty for none.
    agent : str
        What we call ourselves.
    cookies : CookieJar, optional
        What the server gets along with a request; none at first by default.
    """

    def __init__(
        self, url: str, *, token: str = "", agent: str = "colab_magics", cookies: CookieJar | None = None
    ) -> None:
        self.url, self._login = split_login(url)
        if token:
            self._login = f"Bearer {token}"
        self.agent, self._sock = agent, _Noted()
        self._cookies = urllib.request.HTTPCookieProcessor(cookies)

    @property
    def place(self) -> str:
        """The server's name, for messages."""
        return urllib.parse.urlsplit(self.url).hostname or self.url

    def abort(self) -> None:
        """Break the connection: whoever reads sees the end. Any thread may."""
        if (sock := self._sock.sock) is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def open(self, start: int, version: str) -> Answer:
        """Ask for the file from a byte on, should it still be that version; see `fetch.Remote`."""
        return self.answer_of(self.ask(self.url, start, version), start)

    def ask(self, url: str, start: int = 0, version: str = "") -> http.client.HTTPResponse:
        """Send the request, follow where it leads, and raise for what is no success."""
        headers = {"User-Agent": self.agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            headers["If-Range"] = version.partition(" ")[2]
        request = urllib.request.Request(url, headers=headers)
        if self._login and _origin(url) == _origin(self.url):
            request.add_unredirected_header("Authorization", self._login)
        try:
            answer: http.client.HTTPResponse = self._opener().open(request, timeout=SILENT_SECONDS)
        except ColabMagicsError:
            raise
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error.code, error.headers, self.place) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._not_reached(error) from error
        return answer

    def answer_of(self, answer: http.client.HTTPResponse, start: int) -> Answer:
        """Read an answer's headers."""
        heads = answer.headers
        name = file_names.of_header(heads.get("Content-Disposition", ""))
        shown = name or file_names.of_path(urllib.parse.urlsplit(answer.url).path)
        first = file_names.of_path(urllib.parse.urlsplit(self.url).path)
        # Of an address that leads on, the name that the user wrote says more, when it looks like one.
        name = name or (first if "." in first else shown)
        _check_kind(heads, name, self.place)
        begins, total = _extent(answer, start)
        chunked = "chunked" in heads.get("Transfer-Encoding", "").lower()
        return Answer(
            name=name,
            start=begins,
            total=total,
            version=_version(heads),
            check=_digest(heads) if begins == 0 else "",
            ends=chunked or total is not None,
            body=Body(answer, None if total is None else total - begins, self),
        )

    def _opener(self) -> urllib.request.OpenerDirector:
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            _Plain(self._sock),
            _Secure(self._sock),
            self._cookies,
            _Redirects(self._login, _origin(self.url)),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
        ):
            opener.add_handler(handler)
        return opener

    def _not_reached(self, error: Exception) -> Exception:
        reason = getattr(error, "reason", error)
        reason = reason if isinstance(reason, Exception) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            return Unavailable(
                f"The certificate of {self.place} is not trusted: {reason.verify_message}.",
                "Is the address right? Certificates of your own: SSL_CERT_FILE=FILE in the environment.",
            )
        if isinstance(reason, ValueError) and not isinstance(reason, OSError):
            return InvalidInput(f"The address cannot be read: {reason}.", "Write it as a browser shows it.")
        said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        few = isinstance(reason, (socket.gaierror, ConnectionRefusedError))
        return Passing(f"{self.place} cannot be reached: {str(said).rstrip('.')}.", tries=3 if few else 0)


class Body:
    """What an answer brings, told whole from cut."""

    def __init__(self, answer: http.client.HTTPResponse, size: int | None, web: Web) -> None:
        self._answer, self._left, self._web = answer, size, web
        # Where the size is known the client's own counting would close the stream too early to look behind it.
        self._stream: Any = answer if size is None else answer.fp

    def read_into(self, view: memoryview) -> int:
        """Fill a part of `view`; 0 at the end.

        Raises
        ------
        Passing
            When the end is not that of the file.
        """
        if self._left is not None:
            view = view[: self._left]
            if not self._left:
                self._look_for_more()
                return 0
        try:
            size = self._read(view)
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            said = "it said nothing any more" if isinstance(error, TimeoutError) else str(error) or "it was cut"
            raise Passing(f"The connection to {self._web.place} broke: {said.rstrip('.')}.") from error
        if self._left is not None:
            if not size:
                raise Passing(f"{self._web.place} ended before the file did.")
            self._left -= size
        return size

    def _read(self, view: memoryview) -> int:
        """Take what is there: to wait until `view` is full would lose more when it is cut."""
        if self._left is not None:
            return int(self._stream.readinto1(view))
        data = self._stream.read1(len(view))
        view[: len(data)] = data
        return len(data)

    def _look_for_more(self) -> None:
        """A server that said too small a size sends on: what is here then is no whole file."""
        with contextlib.suppress(OSError, ValueError):
            if select.select([self._stream], [], [], _REST_SECONDS)[0] and self._stream.read1(1):
                raise Passing(f"{self._web.place} sends more than it says.", anew=True)

    def close(self) -> None:
        """End it."""
        self._web.abort()
        self._answer.close()


class _Noted:
    """The socket of the connection in use, so that it can be broken from outside."""

    sock: Any = None


class _PlainConnection(http.client.HTTPConnection):
    noted: _Noted

    def connect(self) -> None:
        super().connect()
        self.noted.sock = self.sock


class _SecureConnection(http.client.HTTPSConnection):
    noted: _Noted

    def connect(self) -> None:
        super().connect()
        self.noted.sock = self.sock


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, noted: _Noted) -> None:
        super().__init__()
        self._noted = noted

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        def connection(host: str, **options: Any) -> http.client.HTTPConnection:
            made = _PlainConnection(host, **options)
            made.noted = self._noted
            return made

        return self.do_open(connection, req)


class _Secure(urllib.request.HTTPSHandler):
    def __init__(self, noted: _Noted) -> None:
        super().__init__()
        self._noted = noted

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        def connection(host: str, **options: Any) -> http.client.HTTPSConnection:
            made = _SecureConnection(host, **options)
            made.noted = self._noted
            return made

        return self.do_open(connection, req, context=ssl.create_default_context())


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https alone, never from the second to the first, and takes no login along."""

    def __init__(self, login: str, origin: tuple[str, str, int]) -> None:
        self._login, self._origin = login, origin

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        where = urllib.parse.urljoin(req.full_url, headers.get("Location", ""))
        parts = urllib.parse.urlsplit(where)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise InvalidInput(
                f"{req.host} leads to {parts.scheme or 'nowhere'}:, which is no address of the web: refused.",
                "Look at the address in a browser.",
            )
        if parts.scheme == "http" and req.type == "https":
            raise InvalidInput(
                f"{req.host} leads from https to http, where anybody on the way could change the file: refused.",
                f"If you trust it, name the address itself: http://{parts.hostname}/…",
            )
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        request = super().redirect_request(req, fp, 302 if code == 308 else code, msg, headers, split_login(newurl)[0])
        if request is not None and self._login and _origin(request.full_url) == self._origin:
            request.add_unredirected_header("Authorization", self._login)
        return request


def split_login(url: str) -> tuple[str, str]:
    """Return an address without a login in it, and the login as a header's value; empty without one."""
    parts = urllib.parse.urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    # What stands behind # is for us, and what is no ASCII has to be written as a browser does.
    path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~-._") or "/"
    query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]")
    plain = urllib.parse.urlunsplit((parts.scheme.lower(), _ascii(host), path, query, ""))
    name, _, password = login.partition(":")
    pair = f"{urllib.parse.unquote(name)}:{urllib.parse.unquote(password)}".encode()
    return plain, f"Basic {base64.b64encode(pair).decode()}" if at else ""


def _ascii(host: str) -> str:
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return host


def _origin(url: str) -> tuple[str, str, int]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def _extent(answer: http.client.HTTPResponse, start: int) -> tuple[int, int | None]:
    """Return where an answer begins, and how big the whole file is, as far as it says."""
    if answer.status == 206:
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
        if match is None or int(match[1]) != start:
            raise Passing("The server answers with another part than was asked for.", anew=True)
        end = int(match[2]) + 1
        if match[3] != "*" and int(match[3]) != end:
            raise Passing("The server answers with a smaller part than was asked for.", anew=True)
        return start, end
    if answer.status != 200:
        raise Unavailable(f"The server answers with status {answer.status}, and no file.", "Is the address right?")
    if "chunked" in answer.headers.get("Transfer-Encoding", "").lower():
        return 0, None
    size = answer.headers.get("Content-Length", "").strip()
    return 0, int(size) if re.fullmatch(r"\d{1,18}", size) else None


def _version(heads: Any) -> str:
    """Return what tells this version of the file from others for sure; empty where nothing does."""
    etag, changed = heads.get("ETag", "").strip(), heads.get("Last-Modified", "").strip()
    if re.fullmatch(r'"[^"]*"', etag):
        return f"etag {etag}"
    if changed and (when := _seconds(changed)) is not None:
        asked = _seconds(heads.get("Date", ""))
        # A file that was written in this very second may be written in it again.
        if asked is None or asked - when >= 1:
            return f"changed {changed}"
    return ""


def _seconds(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, IndexError):
        return None


def _digest(heads: Any) -> str:
    """Return the checksum of the whole file that some stores send along."""
    match = re.search(r"md5=([A-Za-z0-9+/]{22}==)", ",".join(heads.get_all("x-goog-hash") or ()))
    return f"md5={base64.b64decode(match[1]).hex()}" if match else ""


def _check_kind(heads: Any, name: str, place: str) -> None:
    """Refuse what is no file: a page about it, or one that is packed on the way."""
    page = heads.get("Content-Type", "").lower().startswith("text/html")
    if page and not heads.get("Content-Disposition") and not _PAGES.search(name):
        raise Unavailable(
            f"{place} answers with a web page, not with {file_names.safe(name)}.",
            "It may want a login, or be a page about the file: take the address of the download itself.",
        )
    packed = heads.get("Content-Encoding", "identity").strip().lower()
    if packed not in ("", "identity") and not _PACKED.search(name):
        raise Unavailable(
            f"{place} sends {file_names.safe(name)} packed as {packed} although it was asked not to.",
            "Fetch it by another program: curl --compressed -O URL",
        )


def _refused(status: int, heads: Any, place: str) -> Exception:
    """Build the error for a status."""
    if status in (408, 425, 429, 500, 502, 503, 504):
        words = {429: "has had too many requests", 503: "is busy"}.get(status, "has a problem")
        return Passing(f"{place} {words} (status {status}).", wait=_retry_after(heads), status=status)
    if status == 416:
        return Passing(f"{place} has no such part of the file (status 416).", anew=True)
    if status in (401, 407):
        return Unavailable(
            f"{place} wants a login (status {status}).",
            "Add token=secret:NAME for a token, or write https://USER:PASSWORD@…"
            if status == 401
            else "It is your proxy that asks: http_proxy=http://USER:PASSWORD@HOST:PORT in the environment.",
        )
    if status == 403:
        return Unavailable(
            f"{place} refuses the file (status 403).",
            "A link may have run out, or the file may want a login: open it in a browser, or add token=secret:NAME.",
        )
    if status in (404, 410):
        return NotFound(f"{place} has no such file (status {status}).", "Look at the address in a browser.")
    if 300 <= status < 400:
        return Unavailable(f"{place} leads on too often, or nowhere (status {status}).", "Look at it in a browser.")
    reason = http.client.responses.get(status, "")
    return Unavailable(f"{place} answers with status {status} {reason}".rstrip() + ".", "Look at it in a browser.")


def _retry_after(heads: Any) -> float:
    text = str(heads.get("Retry-After", "")).strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    when = _seconds(text)
    return max(0.0, when - time.time()) if when is not None else 0.0
