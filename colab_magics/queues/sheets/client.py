"""Calls to Google Sheets: tried again as far as that is safe, counted, and within the quota.

A read may be repeated. A write may be repeated when it has certainly not been made: when it was refused (429) or never
sent. When the answer is lost (a time-out, a dropped connection, 5xx) nobody knows, and `Unsure` is raised: whoever
asked reads the sheet and sees.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import google.auth.exceptions
import google.auth.transport.requests
import requests

from ...errors import InvalidInput
from .budget import Budget, Limits
from .failures import Refused, explain
from .requests import SEEN, Request

_HOME = "https://sheets.googleapis.com"
_HERE = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\]):\d+")
_PASSING = frozenset({429, 500, 502, 503, 504})
_BEFORE_SENDING = (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError)
_LOST = (requests.exceptions.ConnectionError, requests.exceptions.Timeout, requests.exceptions.ChunkedEncodingError)
_TABS = "properties(title,locale),sheets(properties(sheetId,title,index))"


class Unsure(Exception):
    """The answer to a write is lost: it may have been made, and may yet be."""


def endpoint() -> str:
    """Return where Sheets answers; ``COLAB_MAGICS_SHEETS`` names a server of this machine, for tests.

    Raises
    ------
    InvalidInput
        When it names another machine, which would get the user's token.
    """
    other = os.environ.get("COLAB_MAGICS_SHEETS", "")
    if other and not _HERE.fullmatch(other):
        raise InvalidInput(f"COLAB_MAGICS_SHEETS={other} is no server of this machine.", "Unset it.")
    return other or _HOME


class Client:
    """One spreadsheet, as one user.

    Parameters
    ----------
    spreadsheet : str
        Its id.
    credentials : google.auth.credentials.Credentials
        Who asks.
    who : str
        How that user is called; for messages and for the quota.
    limits : Limits
        See there.
    sleep : callable
        For tests.
    """

    def __init__(
        self,
        spreadsheet: str,
        credentials: Any,
        who: str,
        limits: Limits,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._base = f"{endpoint()}/v4/spreadsheets/{spreadsheet}"
        self._credentials, self._who, self._limits, self._sleep = credentials, who, limits, sleep
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self.budget = Budget(f"{endpoint()} {who}", limits)
        self.calls: Counter[str] = Counter()

    def tabs(self) -> Mapping[str, Any]:
        """Return the spreadsheet's tabs, without what stands in them."""
        return self._again("read", "GET", "", {"fields": _TABS})

    def read(self, gid: int) -> Mapping[str, Any]:
        """Return what stands in a tab, with the spreadsheet's properties."""
        return self._again("read", "POST", ":getByDataFilter", {"fields": SEEN}, {"dataFilters": [_grid(gid)]})

    def batch(self, asked: Sequence[Request], title: str, *, turn: bool = True) -> Mapping[str, Any]:
        """Make changes, all or none and nothing in between, and return the replies with what the tab holds then.

        Parameters
        ----------
        asked : sequence of Request
            See `requests`.
        title : str
            The tab whose content comes back; empty for none.
        turn : bool, default True
            Whether to wait for a turn; who has taken one says False.

        Raises
        ------
        Unsure
            When the answer is lost.
        ColabMagicsError
            When it is refused, or nothing answers.
        """
        body: dict[str, Any] = {"requests": list(asked)}
        fields = "replies"
        if title:
            quoted = title.replace("'", "''")
            body |= {"includeSpreadsheetInResponse": True, "responseRanges": [f"'{quoted}'"]}
            fields = f"replies,updatedSpreadsheet({SEEN})"
        return self._again("write", "POST", ":batchUpdate", {"fields": fields}, body, turn=turn)

    def close(self) -> None:
        """Let go of the connections that nobody uses now."""
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()

    def _again(
        self,
        kind: str,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        *,
        turn: bool = True,
    ) -> Mapping[str, Any]:
        """Call until there is an answer, for as long as `Limits.patience` says."""
        began, tried = time.monotonic(), 0
        while True:
            if turn or tried:
                self.budget.take(kind)
            self.calls[kind] += 1
            try:
                return self._once(method, path, query, body)
            except (Refused, google.auth.exceptions.GoogleAuthError, requests.exceptions.RequestException) as error:
                if kind == "write" and _is_lost(error):
                    raise Unsure(str(error)) from error
                wait = self._pause(error, tried)
                if not _passes(error) or time.monotonic() - began + wait > self._limits.patience:
                    raise explain(error, self._who) from error
            tried += 1
            self._sleep(wait)

    def _once(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> Mapping[str, Any]:
        with self._session() as session:
            answer = session.request(
                method,
                f"{self._base}{path}",
                params=dict(query),
                json=body,
                timeout=self._limits.timeout,
                allow_redirects=False,
            )
        if answer.status_code != 200:
            raise Refused.of(answer.status_code, answer.content, answer.headers.get("Retry-After", ""))
        try:
            found = answer.json()
        except ValueError:
            raise requests.exceptions.ChunkedEncodingError("half an answer") from None
        return found if isinstance(found, dict) else {}

    @contextlib.contextmanager
    def _session(self) -> Iterator[Any]:
        """Lend a connection; no two threads have the same."""
        with self._lock:
            session = self._idle.pop() if self._idle else None
        session = session or google.auth.transport.requests.AuthorizedSession(self._credentials)
        try:
            yield session
        except BaseException:
            session.close()
            raise
        with self._lock:
            self._idle.append(session)

    def _pause(self, error: Exception, tried: int) -> float:
        """Return for how long to wait before the next try: longer each time, and never in step with others."""
        asked = error.retry_after if isinstance(error, Refused) else 0.0
        wait = min(32.0, 2.0**tried) * self._limits.minute / 60
        return max(asked, wait * random.uniform(0.5, 1.0))


def _grid(gid: int) -> dict[str, Any]:
    return {"gridRange": {"sheetId": gid}}


def _is_lost(error: Exception) -> bool:
    """Whether a write may have been made although it gave this error."""
    if isinstance(error, Refused):
        return error.status >= 500
    return isinstance(error, _LOST) and not _was_not_sent(error)


def _was_not_sent(error: Exception) -> bool:
    return isinstance(error, _BEFORE_SENDING) or "NewConnectionError" in repr(error)


def _passes(error: Exception) -> bool:
    """Whether it may be otherwise in a while."""
    if isinstance(error, Refused):
        return error.status in _PASSING and not error.for_ever
    if isinstance(error, google.auth.exceptions.TransportError):
        return True
    return isinstance(error, _LOST)
