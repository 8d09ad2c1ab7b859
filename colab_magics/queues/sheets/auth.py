"""Who asks Google: a service account, or on Colab the user, who is asked for consent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import google.auth
import google.auth.exceptions
from google.oauth2 import service_account

from ...colab import consent, runtime, secrets
from ...errors import InvalidInput, NotFound, Unavailable

SCOPES = ("https://www.googleapis.com/auth/spreadsheets",)
_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_SECRET = "secret:"
_MEND = (
    f"Make a service account with a key (JSON), name its file: {_FILE}=FILE.json, or keep it as a secret: "
    "credentials=secret:NAME; then share the sheet with its e-mail as an editor."
)


def credentials(where: str = "", named: str = "") -> tuple[Any, str]:
    """Find who asks.

    The first of: the secret that is named, the file of GOOGLE_APPLICATION_CREDENTIALS, gspread's usual file, on Colab
    the user's consent, and what ``gcloud auth application-default login`` has left.

    Parameters
    ----------
    where : str
        The face; see `UI.where`. Where it is a notebook on Colab its user may be asked.
    named : str
        ``secret:NAME`` of a service account's key, or its file; empty to look in the usual places.

    Returns
    -------
    tuple of Credentials and str
        And how that user is called.

    Raises
    ------
    Unavailable
        When there are none.
    InvalidInput
        When what is named is no key.
    """
    if named.startswith(_SECRET):
        name = named.removeprefix(_SECRET)
        return _of_key(secrets.read(name, where), f"The secret {name!r}")
    file = named or os.environ.get(_FILE, "")
    if file:
        return _of_file(Path(file).expanduser(), named or f"{_FILE}={file}")
    for usual in _usual_files():
        if usual.is_file():
            return _of_file(usual, str(usual))
    if runtime.on_colab():
        consent.ask(where)
    elif not _gcloud().is_file():
        raise Unavailable("Nothing here says who asks Google Sheets.", _MEND)
    try:
        found, _ = google.auth.default(scopes=SCOPES)
    except google.auth.exceptions.GoogleAuthError as error:
        raise Unavailable(f"Google gives no access: {error}", _MEND) from error
    return found, getattr(found, "service_account_email", "") or "you"


def _of_key(text: str, what: str) -> tuple[Any, str]:
    try:
        info = json.loads(text)
        found = service_account.Credentials.from_service_account_info(info, scopes=SCOPES)
    except (ValueError, TypeError, AttributeError, google.auth.exceptions.GoogleAuthError):
        # Nothing of the text is shown: it may be a key after all.
        raise InvalidInput(f"{what} is no key of a service account.", _MEND) from None
    return found, str(found.service_account_email)


def _of_file(path: Path, what: str) -> tuple[Any, str]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise NotFound(f"The credentials of {what} cannot be read: {why}.", _MEND) from None
    try:
        kind = json.loads(text).get("type")
    except (ValueError, AttributeError):
        kind = None
    if kind == "service_account" or kind is None:
        return _of_key(text, what)
    try:
        found, _ = google.auth.load_credentials_from_file(str(path), scopes=SCOPES)
    except google.auth.exceptions.GoogleAuthError as error:
        raise Unavailable(f"{what} gives no access: {str(error).splitlines()[0]}", _MEND) from None
    return found, "you"


def _usual_files() -> list[Path]:
    """Return where gspread looks for a service account's key."""
    from gspread import auth

    return [Path(auth.DEFAULT_SERVICE_ACCOUNT_FILENAME), Path(str(auth.get_config_dir())) / "service_account.json"]


def _gcloud() -> Path:
    folder = os.environ.get("CLOUDSDK_CONFIG")
    return (Path(folder) if folder else Path.home() / ".config" / "gcloud") / "application_default_credentials.json"
