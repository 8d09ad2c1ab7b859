"""What Google refuses, in words: what happened, then the one thing to do."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ...errors import ColabMagicsError, InvalidInput, NotFound, Unavailable

_API = "https://console.cloud.google.com/apis/library/sheets.googleapis.com"


class Refused(Exception):
    """An answer of Google's that is an error.

    Parameters
    ----------
    status : int
        Of HTTP.
    reason : str
        Google's word for it: ``PERMISSION_DENIED``, ``SERVICE_DISABLED``.
    message : str
        What it says.
    retry_after : float
        Seconds that it asks to be left alone for.
    """

    def __init__(self, status: int, reason: str = "", message: str = "", retry_after: float = 0.0) -> None:
        super().__init__(status, reason, message)
        self.status, self.reason, self.message, self.retry_after = status, reason, message, retry_after

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.message}"

    @property
    def for_ever(self) -> bool:
        """Whether waiting cannot help: a quota of 0, a day's quota."""
        return self.status == 429 and bool(re.search(r"per day|limit '?0'?\b", self.message))

    @classmethod
    def of(cls, status: int, content: bytes, retry_after: str) -> Refused:
        """Read an answer."""
        try:
            said = json.loads(content)
        except ValueError:
            said = {}
        error: Mapping[str, Any] = said.get("error", {}) if isinstance(said, dict) else {}
        error = error if isinstance(error, dict) else {"message": str(error)}
        details = [one for one in error.get("details") or () if isinstance(one, dict)]
        reason = next((str(one["reason"]) for one in details if one.get("reason")), str(error.get("status", "")))
        wait = float(retry_after) if re.fullmatch(r"\d+(\.\d+)?", retry_after) else 0.0
        return cls(status, reason, str(error.get("message", "")), min(wait, 120.0))


def explain(error: BaseException, who: str) -> ColabMagicsError:
    """Say why Google did not do something.

    Parameters
    ----------
    error : BaseException
        What a call has raised.
    who : str
        As whom it was asked: a service account's e-mail, or ``you``.
    """
    if isinstance(error, ColabMagicsError):
        return error
    if not isinstance(error, Refused):
        name = type(error).__name__
        if name == "RefreshError":
            return Unavailable(
                f"Google does not accept the credentials of {who}: {_first(error)}",
                "Make a new key of the service account, or allow the access again.",
            )
        return Unavailable(
            f"Google Sheets does not answer ({name}: {_first(error)}).", "Is there a network? Say it again later."
        )
    text = f"{error.reason} {error.message}"
    if error.status == 404:
        return NotFound(
            "There is no spreadsheet at this link, or nobody has shared it.",
            f"Copy the link anew, and share the sheet with {who} as an editor.",
        )
    if error.reason == "SERVICE_DISABLED" or "has not been used in project" in text or "is disabled" in text:
        return Unavailable(
            "The Google Sheets API is not enabled in the project of these credentials.", f"Enable it: {_API}"
        )
    if error.reason == "ACCESS_TOKEN_SCOPE_INSUFFICIENT" or "insufficient authentication scopes" in text:
        return Unavailable(
            "These credentials are not for Google Sheets.",
            "Allow access to spreadsheets, or use a service account: GOOGLE_APPLICATION_CREDENTIALS=FILE.json",
        )
    if error.status in (400, 403) and "protected" in text:
        return Unavailable(
            f"A part of the sheet is protected, and {who} may not edit it.", f"Data → Protect: let {who} edit it."
        )
    if error.status == 403:
        return Unavailable(
            f"{who} may not do that with this sheet: it is not shared with {who}, or only for viewing.",
            f"Share → {who} → Editor.",
        )
    if error.status == 401:
        return Unavailable(f"Google does not know {who} any more ({error.reason}).", "Allow the access again.")
    if error.status == 429:
        return Unavailable(
            f"Google allows no more calls for now: {error.message}", "Wait a minute, or use fewer workers."
        )
    if error.status == 400 and ("No grid with id" in text or "Unable to parse range" in text):
        return NotFound("The spreadsheet has no such tab (any more).", "Open the tab and copy its link again.")
    if error.status == 400:
        return InvalidInput(f"Google refuses it: {error.message}", "Look at the sheet; then say it again.")
    return Unavailable(f"Google Sheets answers {error}".rstrip() + ".", "Say it again in a while.")


def _first(error: BaseException) -> str:
    return (str(error).split("\n", 1)[0] or type(error).__name__)[:300]
