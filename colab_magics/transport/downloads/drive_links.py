"""Links of Google Drive: which file or folder they mean, and where its bytes are.

What Drive's pages say is gdown's to know, and asked of it: the files of a folder, and the address behind the page that
asks whether a file may be fetched unseen. The bytes then come as those of any server (`web`), resumed and checked,
which gdown 5 does not do. Cookies that gdown's user has put in ``~/.cache/gdown/cookies.txt`` count, for files of one's
own.
"""

from __future__ import annotations

import contextlib
import http.client
import http.cookiejar
import inspect
import io
import os
import re
import urllib.parse
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import NotFound, Unavailable
from . import file_names
from .fetch import Answer, Passing
from .web import Web

_HOSTS = ("drive.google.com", "docs.google.com")
_DOCUMENTS = {"document": "docx", "spreadsheets": "xlsx", "presentation": "pptx"}
_MOST_OF_A_PAGE = 4_000_000
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) colab_magics"
_ASK = "Its owner can share it: Share → General access → Anyone with the link."
_QUOTA = re.compile(
    r"too many users|quota|download limit|many accesses have|have been viewed or downloaded", re.IGNORECASE
)


class Link(NamedTuple):
    """What a link of Drive means.

    Parameters
    ----------
    id : str
        The file's or the folder's.
    folder : bool
        Whether it is a folder.
    kind : str
        ``document``, ``spreadsheets`` or ``presentation`` for what Drive's own editors made; else empty.
    """

    id: str
    folder: bool = False
    kind: str = ""


class InFolder(NamedTuple):
    """A file in a folder of Drive: its id, and its path with the folder's own name first."""

    id: str
    path: str


def parse(url: str) -> Link | None:
    """Read a link; None when it is none of Drive's."""
    parts = urllib.parse.urlsplit(url)
    if parts.hostname not in _HOSTS:
        return None
    if match := re.search(r"/(?:folders|folder/d)/([-\w]+)", parts.path):
        return Link(match[1], folder=True)
    if match := re.search(r"/(document|spreadsheets|presentation)/(?:u/\d+/)?d/([-\w]+)", parts.path):
        return Link(match[2], kind=match[1])
    if match := re.search(r"/file/(?:u/\d+/)?d/([-\w]+)", parts.path):
        return Link(match[1])
    ids = urllib.parse.parse_qs(parts.query).get("id", [])
    if len(ids) == 1:
        return Link(ids[0], folder="folder" in parts.path)
    return None


class Drive(Web):
    """A file on Drive.

    Parameters
    ----------
    link : Link
        Which one.
    """

    def __init__(self, link: Link) -> None:
        super().__init__(_first(link), agent=_AGENT, cookies=_cookies())
        self._link = link

    @property
    def place(self) -> str:
        """Drive's name."""
        return "Google Drive"

    def open(self, start: int, version: str) -> Answer:
        """Ask for the file; see `fetch.Remote`. Pages that stand before it are answered."""
        url, docs = self.url, bool(self._link.kind)
        for _ in range(5):
            try:
                answer = self.ask(url, start, version)
            except NotFound:
                raise NotFound(f"Google Drive has no file {self._link.id}.", "Look at the link in a browser.") from None
            except Passing as error:
                if error.status != 500 or docs:
                    raise
                # What Drive's own editors made is no file: it is exported.
                url, docs = f"https://drive.google.com/open?id={self._link.id}", True
                continue
            except Unavailable as error:
                if "status 40" not in error.what:
                    raise
                raise Unavailable(
                    f"Google Drive does not let everybody fetch the file {self._link.id}.", _ASK
                ) from None
            if "Content-Disposition" in answer.headers:
                self.url = url
                return self.answer_of(answer, start)
            with contextlib.closing(answer):
                url = self._behind(answer)
        raise Unavailable("Google Drive answers with one page after the other.", "Fetch it in a browser.")

    def direct(self) -> tuple[str, str]:
        """Return the address behind Drive's pages, which another machine can ask for, and the file's name."""
        answer = self.open(0, "")
        answer.body.close()
        return self.url, answer.name

    def _behind(self, answer: http.client.HTTPResponse) -> str:
        """Return the address that a page of Drive leads to."""
        from gdown.download import get_url_from_gdrive_confirmation as behind

        parts = urllib.parse.urlsplit(answer.url)
        if match := re.search(r"/(document|spreadsheets|presentation)/", parts.path):
            return _export(Link(self._link.id, kind=match[1]))
        if parts.hostname == "accounts.google.com":
            raise Unavailable(f"Google Drive shares the file {self._link.id} with nobody unknown.", _ASK)
        try:
            page = answer.read(_MOST_OF_A_PAGE).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise Passing("A page of Google Drive was cut.") from error
        try:
            # Resolved against the page: a form may say where to from there.
            url = urllib.parse.urljoin(answer.url, behind(page))
        except Exception as error:  # what gdown raises differs with its version and with the page
            raise self._told(page, str(error)) from error
        host = urllib.parse.urlsplit(url).hostname or ""
        if not url.startswith("https://") or not (host.endswith((".google.com", ".googleusercontent.com"))):
            raise Unavailable(f"A page of Google Drive leads away from it, to {host}: refused.", "Look in a browser.")
        return url

    def _told(self, page: str, said: str) -> Unavailable:
        if _QUOTA.search(said) or _QUOTA.search(page):
            return Unavailable(
                f"Google Drive gives out the file {self._link.id} to nobody for now: too many have fetched it lately.",
                "Try again in some hours (up to 24). Or open it in a browser, make a copy in your own Drive, and take "
                "that one's link; on Colab, mount Drive and copy the file.",
            )
        return Unavailable(f"Google Drive does not give out the file {self._link.id}.", _ASK)


def files_of(link: Link) -> list[InFolder]:
    """List the files of a folder and of the folders in it.

    Raises
    ------
    Unavailable
        When Drive does not show them, or not all of them.
    """
    import gdown

    # gdown 5 reads a page that shows 50 files; when there may be more it has to be told that some will do.
    known = inspect.signature(gdown.download_folder).parameters
    options: dict[str, Any] = {"skip_download": True, "quiet": True, "output": "/"}
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            found: Any = gdown.download_folder(id=link.id, **{key: options[key] for key in options if key in known})
    except Exception as error:  # what gdown raises differs with its version and with the page
        if "more than" in str(error):
            raise Unavailable(
                f"The folder {link.id} may hold more than the 50 files that this gdown sees.",
                "pip install --upgrade gdown (6 sees all), or take the links of the folders in it one by one.",
            ) from error
        raise _hidden(link) from error
    if found is None:
        raise _hidden(link)
    return [InFolder(one.id, _path(os.path.relpath(one.local_path, "/"))) for one in found]


def _hidden(link: Link) -> Unavailable:
    return Unavailable(f"Google Drive does not show what the folder {link.id} holds.", _ASK)


def _path(path: str) -> str:
    return "/".join(file_names.safe(part) for part in path.split("/"))


def _first(link: Link) -> str:
    return _export(link) if link.kind else f"https://drive.google.com/uc?id={link.id}&export=download"


def _export(link: Link) -> str:
    return f"https://docs.google.com/{link.kind}/d/{link.id}/export?format={_DOCUMENTS[link.kind]}"


def _cookies() -> http.cookiejar.CookieJar:
    jar = http.cookiejar.MozillaCookieJar(Path.home() / ".cache" / "gdown" / "cookies.txt")
    with contextlib.suppress(OSError, http.cookiejar.LoadError):
        jar.load(ignore_discard=True, ignore_expires=True)
    for cookie in jar:
        if cookie.expires == 0:  # as browsers' extensions write cookies of a session
            cookie.expires, cookie.discard = None, True
    return jar
