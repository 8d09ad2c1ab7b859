"""Buckets of object stores, ``s3://…`` and ``gs://…``, by obstore (extra ``[s3]``).

`connect` opens a bucket; `settings` says with whose keys. What a store refuses becomes an error of ours by `explain`.
What is done with single objects and files stands in `bucket_files`.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ...errors import InvalidInput, Unavailable
from ...process import log
from . import keys as bucket_keys
from . import settings as said
from .errors import explain, missing_package
from .requests import Found, Keys, Refused, Requests
from .settings import Consent, Settings, Warn, refuse, settings

if TYPE_CHECKING:
    from obstore.store import GCSStore, S3Store

    Store = S3Store | GCSStore

__all__ = [
    "Address",
    "Found",
    "check",
    "connect",
    "delete",
    "etag_is_checksum",
    "explain",
    "keys_below",
    "odd",
    "requests",
    "settings",
]

_SCHEMES = ("s3", "gs")
_BUCKET = {"s3": r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "gs": r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"}
_AMAZON = "us-east-1"
_OPTIONS: dict[str, Any] = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=60),  # it counts also while a part is sent
    "timeout": timedelta(hours=24),  # of one request, its body included
    "pool_idle_timeout": timedelta(seconds=60),
    "user_agent": "colab-magics",
}
_RETRIES: dict[str, Any] = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=3), "base": 2},
}


def odd(key: str) -> str:
    """Return why a key cannot be the path of a file; empty when it can."""
    parts = key.split("/")
    if not key:
        return "it is empty"
    if key.startswith("/"):
        return "it begins with /"
    if "" in parts[:-1] or parts[-1] == "":
        return "a part of it is empty"
    if ".." in parts or "." in parts:
        return "it leads elsewhere"
    if any(ord(one) < 0x20 or 0x7F <= ord(one) < 0xA0 or 0xD800 <= ord(one) < 0xE000 for one in key):
        return "it holds characters that are no text"
    if len(key.encode()) > 1024 or any(len(part.encode()) > 255 for part in parts):
        return "it is too long"
    return ""


@dataclass(frozen=True)
class Address:
    """A bucket, and a key or the beginning of keys in it.

    Parameters
    ----------
    scheme : str
        ``s3`` or ``gs``.
    bucket : str
        Its name.
    key : str, default ""
        Without slashes at its ends.
    """

    scheme: str
    bucket: str
    key: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``s3://BUCKET/some/key``.

        Raises
        ------
        InvalidInput
            When no bucket can have that name, or no file that path.
        """
        scheme, mark, rest = text.partition("://")
        if not mark or scheme not in _SCHEMES:
            raise InvalidInput(
                f"{text!r} is no address of a bucket.", "Write s3://BUCKET/FOLDER or gs://BUCKET/FOLDER."
            )
        bucket, _, key = rest.partition("/")
        numbers = re.fullmatch(r"\d+\.\d+\.\d+\.\d+", bucket)
        if not re.fullmatch(_BUCKET[scheme], bucket) or ".." in bucket or numbers:
            raise InvalidInput(
                f"{bucket!r} is no name of a bucket.",
                "Write it as it is there: 3 to 63 small letters, digits, dots and hyphens, such as s3://my-results",
            )
        key = key.removesuffix("/")
        if key and (why := odd(key)):
            raise InvalidInput(
                f"{key!r} is no path in a bucket: {why}.", f"Write it as {scheme}://{bucket}/FOLDER/FILE"
            )
        return cls(scheme, bucket, key)

    def below(self, *parts: str) -> Self:
        """Return the address of something below this one."""
        return replace(self, key="/".join(part for part in (self.key, *parts) if part))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}{'/' if self.key else ''}{self.key}"


@cache
def _first_user() -> int:
    """Return the process that first opened a bucket; a fork of it keeps the answer, and obstore's dead threads."""
    return os.getpid()


def connect(
    address: Address,
    *,
    folder: Path | None = None,
    given: Mapping[str, str] | None = None,
    consent: Consent = refuse,
    warn: Warn = log.debug,
) -> Store:
    """Open a bucket; nothing is asked of the server yet (see `check`).

    Parameters
    ----------
    address : Address
        The bucket; its key does not count: keys are written in full.
    folder : Path, optional
        Where the user stands, for the project's ``.env``.
    given : mapping, optional
        What `settings` has returned, when the caller has it already.
    consent, warn : callable
        See `settings`.

    Returns
    -------
    obstore store
        An ``S3Store`` or ``GCSStore``. A server that is dead is told within 20 seconds.

    Raises
    ------
    Unavailable
        Without obstore, or without any keys.
    InvalidInput
        When the settings cannot be right.
    """
    if _first_user() != os.getpid():
        raise Unavailable(
            "Buckets cannot be reached here: this is a copy of a notebook that has used one, and obstore does not "
            "survive that.",
            "Start such runs with start=warm or start=cold.",
        )
    found = settings(folder, consent=consent, warn=warn) if given is None else Settings(given)
    try:
        store = importlib.import_module("obstore.store")
    except ImportError:
        raise missing_package() from None
    made: Store = (_google if address.scheme == "gs" else _amazon)(store, address.bucket, found)
    return made


def _amazon(module: Any, bucket: str, found: Settings) -> Any:
    endpoint = _endpoint(found.get(said.ENDPOINT, ""), said.ENDPOINT)
    provider, region = bucket_keys.of_amazon(found, own_server=bool(endpoint))
    region = found.get(said.REGION) or region or _AMAZON
    options = _client(endpoint, found.get("AWS_CA_BUNDLE", ""))
    # obstore reads the environment too: what is not set here must not be something else there.
    words: dict[str, Any] = {"region": region, "skip_signature": bucket_keys.unsigned(found)}
    if endpoint:
        words |= {"endpoint": endpoint, "aws_endpoint_url_s3": endpoint, "virtual_hosted_style_request": False}
    else:
        words["virtual_hosted_style_request"] = "." not in bucket  # no certificate is for a.b.s3.amazonaws.com
    if provider is not None:
        words["credential_provider"] = provider
    return module.S3Store(bucket, client_options=options, retry_config=_RETRIES, **words)


def _google(module: Any, bucket: str, found: Settings) -> Any:
    emulator = found.get(said.GOOGLE_ENDPOINT, "")
    endpoint = _endpoint(emulator if "://" in emulator or not emulator else f"http://{emulator}", said.GOOGLE_ENDPOINT)
    words: dict[str, Any] = {}
    if endpoint:
        # skip_signature alone counts for reading; to write, obstore would ask Google for a token.
        nobody = {"gcs_base_url": endpoint, "disable_oauth": True}
        nobody |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        words |= {"service_account_key": json.dumps(nobody), "skip_signature": True}
    elif bucket_keys.unsigned(found, said.GOOGLE_UNSIGNED):
        words["skip_signature"] = True
    else:
        words |= bucket_keys.of_google(found)
    return module.GCSStore(bucket, client_options=_client(endpoint, ""), retry_config=_RETRIES, **words)


def _endpoint(text: str, name: str) -> str:
    if not text:
        return ""
    url = urllib.parse.urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.username is not None:
        raise InvalidInput(
            f"{name}={re.sub('//.*@', '//…@', text)} is no address of a server.",
            f"Write it with https:// and without keys: {name}=https://s3.example.org",
        )
    return text.rstrip("/")


def _client(endpoint: str, certificates: str) -> dict[str, Any]:
    options = dict(_OPTIONS, allow_http=endpoint.startswith("http://"))
    if certificates:
        try:
            options["root_certificate"] = Path(certificates).expanduser().read_bytes()
        except OSError as error:
            raise InvalidInput(
                f"AWS_CA_BUNDLE={certificates}: {error.strerror}.", "Name a file of authorities."
            ) from None
    return options


# What obstore has no words for


def requests(store: Store) -> Requests | None:
    """Return the bucket for requests of our own; None for Google's, and where obstore alone knows the keys."""
    config: dict[str, Any] = dict(store.config)
    if type(store).__name__ != "S3Store":
        return None
    provider: Any = store.credential_provider
    unsigned = str(config.get("skip_signature", "")).lower() in ("1", "true")
    if provider is None and not unsigned:
        return None

    def keys() -> Keys:
        if provider is None:
            return Keys()
        now = provider()
        return Keys(now["access_key_id"], now["secret_access_key"], now.get("token") or "")

    endpoint, region, bucket = (str(config.get(name) or "") for name in ("endpoint", "region", "bucket"))
    if endpoint:
        url = f"{endpoint}/{bucket}"
    elif str(config.get("virtual_hosted_style_request")).lower() == "true":
        url = f"https://{bucket}.s3.{region}.amazonaws.com/"
    else:
        url = f"https://s3.{region}.amazonaws.com/{bucket}"
    options: dict[str, Any] = dict(store.client_options or {})
    return Requests(url, region or _AMAZON, keys, bytes(options.get("root_certificate") or b"").decode())


def etag_is_checksum(store: Store, key: str) -> bool:
    """Whether an object's ETag is made of its content: it is not where the store encrypts with a key of somebody's.

    Raises
    ------
    ColabMagicsError
        What the store says, see `explain`.
    """
    ours = requests(store)
    if ours is None:
        return type(store).__name__ == "S3Store"
    try:
        said = ours.headers(key)
    except Refused as error:
        raise explain(error, f"looking at {key}") from error
    how = said.get("x-amz-server-side-encryption", "")
    return not how.startswith("aws:kms") and "x-amz-server-side-encryption-customer-algorithm" not in said


def check(store: Store, address: Address) -> None:
    """Ask for one key, so that a dead server, wrong keys or a missing bucket are told within 20 seconds.

    Raises
    ------
    ColabMagicsError
        What is wrong; see `explain`.
    """
    for _ in keys_below(store, address, most=1):
        break


def keys_below(
    store: Store, address: Address, prefix: str = "", *, after: str = "", most: int = 1000
) -> Iterator[Found]:
    """Yield the objects whose keys begin with some characters, in the order of their keys.

    A page is held at a time, so that a bucket may have any number of keys. Keys come as they are, also those that can
    be no path (see `odd`) and the folder markers ``a/``; where obstore alone knows the keys, and from Google, such
    ones end the listing.

    Parameters
    ----------
    store : obstore store
        See `connect`.
    address : Address
        The bucket, for errors.
    prefix : str, default ""
        Characters, not parts of a path: ``Model`` finds ``Model2/a`` too.
    after : str, default ""
        Only keys that come later than this one.
    most : int, default 1000
        Keys a page; less than a thousand yields one page alone.

    Raises
    ------
    ColabMagicsError
        What the store says, see `explain`.
    """
    ours = requests(store)
    try:
        if ours is not None:
            yield from ours.listing(prefix, after=after, most=most)
            return
        above = prefix.rpartition("/")[0] or None
        for page in store.list(above, offset=after or None, chunk_size=most):
            for one in page:
                if one["path"].startswith(prefix):
                    etag = (one["e_tag"] or "").strip('"')
                    yield Found(one["path"], one["size"], etag, one["last_modified"].timestamp())
    except Exception as error:
        raise explain(error, f"listing {address}") from error


def delete(store: Store, address: Address, keys: Sequence[str]) -> dict[str, str]:
    """Delete objects, a thousand a request; returns why, by key, for each that was not deleted.

    obstore deletes a list too, but ends at the first that fails and does not say what became of the others.
    """
    try:
        ours = requests(store)
        if ours is not None:
            return ours.delete(keys)
    except Exception as error:
        raise explain(error, f"deleting in {address}") from error
    failed = {}
    for key in keys:
        try:
            store.delete(key)
        except FileNotFoundError:
            log.debug("%s is gone already", key)
        except Exception as error:  # noqa: BLE001 - each is told
            failed[key] = explain(error, "").what
    return failed
