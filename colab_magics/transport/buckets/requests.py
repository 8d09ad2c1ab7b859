"""Requests to S3 that obstore has no words for: keys as they really are, and what became of each deletion.

obstore ends a listing at the first key that is no path (``a//b``, ``../x``, a control character), shows the folder
marker ``a/`` as the file ``a``, and says of a batch of deletions only which one failed first. These few requests are
signed here (Signature Version 4); they are small, so that ``urllib`` carries them.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import http.client
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple
from xml.sax.saxutils import escape

ANSWER_SECONDS = 8.0
"""So long one request may wait; a dead endpoint is told after `_TRIES` of them."""
BATCH = 1000
"""Keys that one request may delete."""
_BREAKS = {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}
_TRIES = 2
_TRIES_REFUSED = 4
_Answer = tuple[bytes, Mapping[str, str]]
_PASSING = (500, 502, 503, 504, 429)


class Keys(NamedTuple):
    """Whose request it is; all empty for nobody's."""

    key: str = ""
    secret: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"Keys({self.key!r})"


class Found(NamedTuple):
    """An object as a listing tells it; `modified` is when it came there, in seconds since the epoch."""

    key: str
    size: int
    etag: str
    modified: float


class Refused(Exception):
    """A server's answer that is an error.

    Parameters
    ----------
    status : int
        Of HTTP; 0 when there was no answer.
    code, message : str
        What its body says.
    region : str
        The bucket's region, where the server says it.
    """

    def __init__(self, status: int, code: str = "", message: str = "", region: str = "") -> None:
        super().__init__(status, code, message, region)
        self.status, self.code, self.message, self.region = status, code, message, region

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.message}"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Another host must not get a signed request."""

    def redirect_request(self, *args: object, **words: object) -> None:
        return None


@dataclass(frozen=True)
class Requests:
    """A bucket of a server that speaks S3.

    Parameters
    ----------
    url : str
        The bucket's: ``http://127.0.0.1:9000/bucket``, ``https://bucket.s3.eu-west-1.amazonaws.com``.
    region : str
        What requests are signed for.
    keys : callable
        Returns whose requests they are.
    certificates : str
        Authorities beside the usual ones, as PEM.
    """

    url: str
    region: str
    keys: Callable[[], Keys] = field(repr=False)
    certificates: str = ""

    def listing(self, prefix: str = "", *, after: str = "", most: int = BATCH) -> Iterator[Found]:
        """Yield the objects whose keys begin with a prefix, in the server's order, a page of a thousand at a time.

        Raises
        ------
        Refused
            When the server says no, or nothing.
        """
        token = ""
        while True:
            query = {"list-type": "2", "prefix": prefix, "encoding-type": "url", "max-keys": str(most)}
            query |= {"continuation-token": token} if token else {"start-after": after} if after else {}
            page = _xml(self._ask("GET", query)[0])
            plain = _text(page, "EncodingType") != "url"
            for one in page.iter("Contents"):
                key = _text(one, "Key")
                yield Found(
                    key if plain else urllib.parse.unquote_plus(key, errors="surrogateescape"),
                    int(_text(one, "Size") or 0),
                    _text(one, "ETag").strip('"'),
                    _moment(_text(one, "LastModified")),
                )
            token = _text(page, "NextContinuationToken")
            if _text(page, "IsTruncated") != "true" or not token or most < BATCH:
                return

    def headers(self, key: str) -> Mapping[str, str]:
        """Return what the server says of an object beside its content."""
        path = urllib.parse.quote(key, safe="/-_.~", errors="surrogateescape")
        return replace(self, url=f"{self.url.rstrip('/')}/{path}")._ask("HEAD", {})[1]

    def delete(self, keys: Sequence[str]) -> dict[str, str]:
        """Delete objects, a thousand a request; returns why, by key, for each that was not deleted."""
        failed: dict[str, str] = {}
        for first in range(0, len(keys), BATCH):
            batch = [key for key in keys[first : first + BATCH] if not _unwritable(key)]
            failed |= {key: "its key cannot be written" for key in keys[first : first + BATCH] if _unwritable(key)}
            failed |= self._delete(batch) if batch else {}
        return failed

    def _delete(self, keys: Sequence[str]) -> dict[str, str]:
        objects = "".join(f"<Object><Key>{escape(key, _BREAKS)}</Key></Object>" for key in keys)
        body = f'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{objects}</Delete>'.encode()
        answer = _xml(self._ask("POST", {"delete": ""}, body)[0])
        done = {_text(one, "Key") for one in answer.iter("Deleted")}
        failed = {_text(one, "Key"): _text(one, "Message") or _text(one, "Code") for one in answer.iter("Error")}
        # What the answer does not name is not known to be gone.
        return failed | {key: "the server did not say that it is gone" for key in keys if key not in {*done, *failed}}

    def _ask(self, method: str, query: Mapping[str, str], body: bytes = b"") -> _Answer:
        began, tried = time.monotonic(), 0
        while True:
            tried += 1
            try:
                return self._ask_once(method, query, body)
            except Refused as error:
                most = _TRIES_REFUSED if error.status in _PASSING else _TRIES if not error.status else 1
                if tried >= most or time.monotonic() - began > 2 * ANSWER_SECONDS:
                    raise
            time.sleep(0.2 * 2**tried)

    def _ask_once(self, method: str, query: Mapping[str, str], body: bytes) -> _Answer:
        words = urllib.parse.urlencode(sorted(query.items()), quote_via=urllib.parse.quote, safe="-_.~")
        request = urllib.request.Request(f"{self.url}?{words}" if words else self.url, data=body or None, method=method)
        for name, value in self._headers(method, words, body).items():
            request.add_header(name, value)
        try:
            with _opener(self.certificates).open(request, timeout=ANSWER_SECONDS) as answer:
                return answer.read(), {name.lower(): value for name, value in answer.headers.items()}
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(1 << 16)
            raise _refused(error.code, said, error.headers.get("x-amz-bucket-region") or "") from None
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", None) or error
            where = urllib.parse.urlsplit(self.url)
            raise Refused(0, type(why).__name__, f"{where.scheme}://{where.netloc} {why}") from None

    def _headers(self, method: str, query: str, body: bytes) -> dict[str, str]:
        """Return the headers of a request, its signature among them."""
        url, keys, now = urllib.parse.urlsplit(self.url), self.keys(), datetime.now(UTC)
        stamp, digest = f"{now:%Y%m%dT%H%M%SZ}", hashlib.sha256(body).hexdigest()
        headers = {"host": url.netloc, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        if body:
            headers["content-md5"] = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
            headers["content-type"] = "application/xml"
        if not keys.key:
            return headers
        if keys.token:
            headers["x-amz-security-token"] = keys.token
        names = ";".join(sorted(headers))
        lines = [f"{name}:{headers[name]}" for name in sorted(headers)]
        path = urllib.parse.quote(urllib.parse.unquote(url.path or "/"), safe="/-_.~")
        asked = "\n".join([method, path, query, *lines, "", names, digest])
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
        signing = f"AWS4{keys.secret}".encode()
        for part in (*scope.split("/"), text):
            signing = hmac.new(signing, part.encode(), hashlib.sha256).digest()
        credential = f"AWS4-HMAC-SHA256 Credential={keys.key}/{scope}"
        return headers | {"Authorization": f"{credential}, SignedHeaders={names}, Signature={signing.hex()}"}


@functools.lru_cache(maxsize=4)
def _opener(certificates: str) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context()
    if certificates:
        context.load_verify_locations(cadata=certificates)
    return urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=context))


def _refused(status: int, body: bytes, region: str) -> Refused:
    try:
        said = _xml(body)
    except Refused:
        return Refused(status, "", "", region)
    return Refused(status, _text(said, "Code"), _text(said, "Message"), region or _text(said, "Region"))


def _xml(data: bytes) -> ET.Element:
    """Read an answer, without the name space that some servers write and others do not."""
    try:
        # expat as Python has it loads nothing from elsewhere; a definition of entities has no business here.
        if b"<!DOCTYPE" in data:
            raise ET.ParseError("it defines entities")
        top = ET.fromstring(data)
    except ET.ParseError as error:
        raise Refused(200, "NoS3", f"what answers does not speak S3 ({error})") from None
    for one in top.iter():
        one.tag = one.tag.rpartition("}")[2]
    return top


def _text(element: ET.Element, name: str) -> str:
    return element.findtext(name) or ""


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _unwritable(key: str) -> bool:
    """Whether XML cannot carry a key."""
    return any(
        (ord(one) < 0x20 and one not in "\t\n\r") or 0xD800 <= ord(one) < 0xE000 or one in "\ufffe\uffff" for one in key
    )
