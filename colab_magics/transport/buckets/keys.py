"""Who opens a bucket: keys that were given, and those that a profile or a machine of a cloud gives."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...errors import InvalidInput, Unavailable
from ...process import log
from . import settings as said
from .settings import Settings


class StaticKeys:
    """Keys that stay the same, in the form in which obstore asks for them."""

    def __init__(self, key: str, secret: str, token: str = "") -> None:
        self._keys = {"access_key_id": key, "secret_access_key": secret, "token": token or None, "expires_at": None}

    def __call__(self) -> dict[str, Any]:
        return dict(self._keys)

    def __repr__(self) -> str:
        return f"StaticKeys({self._keys['access_key_id']!r})"


def of_amazon(found: Settings, *, own_server: bool) -> tuple[Callable[[], dict[str, Any]] | None, str]:
    """Return what gives keys, and its region; None for what obstore finds itself.

    Raises
    ------
    Unavailable
        At once when there are none: obstore would ask for a machine of Amazon's for minutes.
    """
    if unsigned(found):
        return None, ""
    if found.get(said.KEY):
        return StaticKeys(found[said.KEY], found[said.SECRET], found.get(said.TOKEN, "")), ""
    if profile := found.get(said.PROFILE):
        try:
            boto3, auth = importlib.import_module("boto3"), importlib.import_module("obstore.auth.boto3")
        except ImportError:
            raise Unavailable(
                f"The keys of the profile {profile!r} are asked for elsewhere (single sign-on, a role or a program).",
                "boto3 does that: pip install boto3",
            ) from None
        try:
            provider = auth.Boto3CredentialProvider(boto3.Session(profile_name=profile))
        except Exception as error:  # noqa: BLE001 - botocore has dozens of kinds, and says well what is wrong
            raise Unavailable(f"The profile {profile!r} gives no keys: {error}", "Log in: aws sso login") from None
        return provider, provider.config.get("region", "")
    names = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if any(os.environ.get(name) for name in (*names, "AWS_CONTAINER_CREDENTIALS_FULL_URI")):
        return None, ""
    if not own_server and _made_by("Amazon"):
        return None, ""
    raise Unavailable(
        "There are no keys for S3: neither in the environment, nor in .env, nor in ~/.aws.",
        f"Set {said.KEY} and {said.SECRET}; a public bucket needs {said.UNSIGNED}=true instead.",
    )


def of_google(found: Settings) -> dict[str, Any]:
    """Return what opens a bucket of Google: a file of keys, or what this machine of theirs has."""
    if any(os.environ.get(name) for name in ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH")):
        return {}
    if os.environ.get("GOOGLE_SERVICE_ACCOUNT_KEY") or os.environ.get("GOOGLE_BEARER_TOKEN"):
        return {}
    config = Path(os.environ.get("CLOUDSDK_CONFIG") or "~/.config/gcloud").expanduser()
    named = found.get(said.GOOGLE_FILE)
    file = Path(named).expanduser() if named else config / "application_default_credentials.json"
    try:
        kind = json.loads(file.read_text()).get("type")
    except FileNotFoundError:
        if named:
            raise InvalidInput(
                f"{said.GOOGLE_FILE} names {file}, which is not there.", "Name the key's file."
            ) from None
        if _made_by("Google"):
            return {}
        raise Unavailable(
            "Nothing here opens buckets of Google.",
            f"Set {said.GOOGLE_FILE} to a key's file, or say: gcloud auth application-default login "
            f"(in Colab: google.colab.auth.authenticate_user()). A public bucket: {said.GOOGLE_UNSIGNED}=true",
        ) from None
    except (OSError, ValueError, AttributeError):
        raise InvalidInput(f"{file} is no file of keys that can be read.", "Fetch it again from Google.") from None
    if kind in ("service_account", "authorized_user"):
        return {"application_credentials": str(file)}
    try:
        google = importlib.import_module("obstore.auth.google")
    except ImportError:
        raise Unavailable(f"{file} holds keys of type {kind!r}.", "pip install google-auth requests") from None
    return {"credential_provider": google.GoogleCredentialProvider()}


def unsigned(found: Mapping[str, str], name: str = said.UNSIGNED) -> bool:
    """Whether requests are to be nobody's: a public bucket."""
    return found.get(name, "").lower() in ("1", "true", "yes")


def _made_by(maker: str) -> bool:
    """Whether this machine is one of a maker's cloud, which then gives keys."""
    folder = Path(os.environ.get("COLAB_MAGICS_DMI") or "/sys/class/dmi/id")
    for name in ("sys_vendor", "product_name", "board_vendor"):
        try:
            if maker in (folder / name).read_text():
                return True
        except OSError as error:
            log.debug("%s: %s", name, error)
    return False
