"""Where files come from, as users write it: addresses of the web, links of Google Drive, objects in buckets."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...errors import InvalidInput
from .. import ssh
from . import drive_links
from .part import check_of, key_of
from .web import Web, split_login

if TYPE_CHECKING:
    from .bucket_file import Connect

AGENT = f"colab_magics/{__version__}"
_CHECK = re.compile(r"(md5|sha-?1|sha-?256|sha-?512)=.*", re.IGNORECASE)
_KNOWN = "http://…, https://…, links of Google Drive, s3://BUCKET/KEY, gs://BUCKET/KEY"


@dataclass(frozen=True)
class Source:
    """A file elsewhere.

    Parameters
    ----------
    text : str
        Its address, without what stands behind ``#``.
    check : str
        Its checksum, ``sha256=…``; empty for none.
    link : drive_links.Link or None
        What it is on Google Drive.
    below : str
        The folder below the target that it goes to.
    name : str
        Its name; empty for the one that the other side gives.
    """

    text: str
    check: str = ""
    link: drive_links.Link | None = None
    below: str = ""
    name: str = ""

    @property
    def in_bucket(self) -> bool:
        """Whether it is an object in a bucket."""
        return self.text.startswith(("s3://", "gs://"))

    @property
    def shown(self) -> str:
        """What to call it: no login, and no query, which may hold a token."""
        if self.name:
            return "/".join(filter(None, [self.below, self.name]))
        if self.in_bucket:
            return self.text
        parts = urllib.parse.urlsplit(self.text)
        if self.link is not None:
            return f"{parts.hostname}: {self.link.id}"
        return urllib.parse.unquote(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")

    @property
    def key(self) -> str:
        """What names its part on the disk."""
        address = self.text if self.in_bucket else split_login(self.text)[0]
        return key_of("\0".join([address, self.below, self.name]))

    def remote(self, token: str, connect: Connect) -> Any:
        """Return what opens it, a `fetch.Remote`; `connect` opens buckets."""
        if self.in_bucket:
            from .bucket_file import BucketFile

            return BucketFile(self.text, connect)
        if self.link is not None:
            return drive_links.Drive(self.link)
        return Web(self.text, token=token, agent=AGENT)

    def direct(self, token: str, connect: Connect) -> tuple[str, str]:
        """Return an address that another machine can ask for, and the file's name where that is known by now."""
        if not self.in_bucket and self.link is None:
            return self.text, ""
        found: tuple[str, str] = self.remote(token, connect).direct()
        return found


def parse(text: str) -> Source:
    """Read an address.

    Raises
    ------
    InvalidInput
        When it is none that can be fetched.
    """
    text = text.strip()
    if text.startswith(("s3://", "gs://")):
        return _in_bucket(text)
    try:
        parts = urllib.parse.urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no address: {error}.", f"Known: {_KNOWN}.") from None
    if parts.scheme.lower() not in ("http", "https") or not host or re.search(r"[\x00-\x20\x7f]", text):
        near = text if re.match(r"[\w-]+(\.[\w-]+)+(/|$)", text) else ""
        hint = f"did you mean https://{near}? " if near else ""
        raise InvalidInput(f"{text!r} is no address that can be fetched.", f"{hint}Known: {_KNOWN}.")
    check = check_of(parts.fragment) if _CHECK.fullmatch(parts.fragment) else ""
    source = Source(urllib.parse.urlunsplit(parts._replace(fragment="")), check)
    link = drive_links.parse(text)
    if parts.hostname == "drive.google.com" and link is None:
        raise InvalidInput(f"{text} is no link to a file or folder.", "Take the one of Share → Copy link.")
    return replace(source, link=link)


def _in_bucket(text: str) -> Source:
    """Read the address of an object; its key may hold all that a URL may not."""
    from ..buckets.access import Address

    before, _, fragment = text.rpartition("#")
    check = check_of(fragment) if before and _CHECK.fullmatch(fragment) else ""
    address = Address.parse(before if check else text)
    if not address.key:
        raise InvalidInput(f"{text} names no object in the bucket.", "Name one: s3://BUCKET/KEY")
    return Source(str(address), check)


def spread(sources: Sequence[Source]) -> list[Source]:
    """Put the files of folders in the place of the folders; asks Drive."""
    found: list[Source] = []
    for source in sources:
        if source.link is None or not source.link.folder:
            found.append(source)
            continue
        for one in drive_links.files_of(source.link):
            folder, _, name = one.path.rpartition("/")
            link = drive_links.Link(one.id)
            found.append(Source(f"https://drive.google.com/uc?id={one.id}", "", link, folder, name))
    return found


def there(to: str) -> tuple[str, str] | None:
    """Read ``HOST:FOLDER``; None for what is here.

    Raises
    ------
    InvalidInput
        When ssh could not take it for a host.
    """
    host, colon, folder = to.partition(":")
    if not colon or "/" in host or os.path.lexists(to):
        return None
    if "\0" in folder or ".." in folder.split("/"):
        raise InvalidInput(f"to={to} leads out of the folder there.", "Write HOST:FOLDER, from the home folder or /.")
    return ssh.check_host(host), folder
