"""``%download``: files from elsewhere, whole or not at all."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import session, units
from ..errors import InvalidInput
from . import call_only

if TYPE_CHECKING:
    from ..transport.buckets.access import Address, Store
    from ..transport.downloads.bucket_file import Connect
    from ..transport.downloads.downloaded import Downloaded
    from ..transport.downloads.sources import Source


@call_only("force", "big")
def download(
    *urls: str,
    to: str | None = None,
    unpack: bool = False,
    sha256: str | None = None,
    md5: str | None = None,
    token: str | None = None,
    workers: str = "4",
    big: bool = False,
    force: bool = False,
) -> Downloaded:
    """Fetch files into the project's inputs: from the web, Google Drive, buckets.

    What was cut goes on where it stopped when you say the line again; what is whole is not fetched again. A file gets
    its name when all of it is there and its size, and its checksum where one is known, are right. One that fails stops
    no other.

    Parameters
    ----------
    *urls : str
        ``https://…``, links of Google Drive to files and folders, ``s3://BUCKET/KEY``, ``gs://BUCKET/KEY``. A checksum
        may stand behind each: ``URL#sha256=…`` (or md5, sha1, sha512).
    to : str, optional
        A folder, or for one URL a file (a name with an ending, such as ``to=data/train.csv``). ``HOST:FOLDER``: that
        machine fetches for itself; ``HOST:`` means the project's data_project there. By default data_project, without a
        project the current folder.
    unpack : bool, default False
        Unpack archives (zip, tar, gz, bz2, xz, zst): ``x.zip`` to ``x`` beside it, if that is not there.
    sha256, md5 : str, optional
        The checksum that the file has to have.
    token : str, optional
        ``secret:NAME``: a token, in Colab's secrets or the environment variable NAME, for servers that want a login.
        It goes to the servers that you name, not where they lead to.
    workers : str, default "4"
        How many to fetch at once.
    big : bool, default False
        Unpack also an archive that becomes over 100 times as big.
    force : bool, default False
        Fetch anew and put the file in the place of the one that is there; what was unpacked before moves aside.

    Returns
    -------
    Downloaded
        The files; shows itself as a table. ``.paths`` are where they are.

    Raises
    ------
    Unavailable, NotFound, InvalidInput
        When some could not be fetched, after all others; names each with its reason.

    Examples
    --------
    %download https://zenodo.org/records/1234/files/train.zip --unpack
    %download https://drive.google.com/file/d/FILE_ID/view to=data/model.pt
    %download https://example.org/a.csv https://example.org/b.csv to=gpu1:
    """
    from ..transport.downloads import downloaded, sources

    if odd := [url for url in urls if not isinstance(url, str | os.PathLike)]:
        raise InvalidInput(f"{odd[0]!r} is no address.", 'Write download("URL"), or several: download("URL", "URL").')
    here = session.current()
    found = [sources.parse(url) for url in urls]
    if not found:
        raise InvalidInput("Which files?", "Write %download URL")
    checks = [f"{kind}={value}" for kind, value in (("sha256", sha256), ("md5", md5)) if value is not None]
    if checks:
        found = [_checked(found, checks)]
    word = _secret(token)
    target = _target(to, one=len(found) == 1 and not (found[0].link and found[0].link.folder))
    if any(one.link for one in found):
        with here.ui.progress("asking Google Drive which files they are"):
            found = sources.spread(found)
    if target.name:
        found = [replace(found[0], name=target.name)]
    options: dict[str, Any] = {"unpack": unpack, "big": big, "force": force}
    options["workers"] = units.count(workers, name="workers")
    what = found[0].shown if len(found) == 1 else f"{len(found)} files"
    if target.host:
        outcomes = _there(target, found, word, what, options)
    else:
        outcomes = _here(target, found, word, what, options)
    return downloaded.result(here.ui, outcomes, target.folder, target.host)


class _Target(NamedTuple):
    """Where files go."""

    folder: str
    name: str = ""
    host: str = ""


def _here(target: _Target, found: list[Source], token: str, what: str, options: dict[str, Any]) -> Any:
    from ..transport.downloads import downloaded
    from ..transport.downloads.fetch import Wanted
    from ..transport.downloads.several import Job, fetch_all

    force, connect = options.pop("force"), _connect()
    jobs = [
        Job(
            one.shown,
            Wanted(one.key, _within(target.folder, one.below), one.name, one.check, force),
            one.remote(token, connect),
        )
        for one in found
    ]
    with downloaded.shown(session.current().ui, what) as tell:
        return fetch_all(jobs, tell=tell, stop=threading.Event(), **options)


def _within(folder: str, below: str) -> str:
    """Return a folder below another; a link there, which a repository may hold, leads nobody out of it."""
    path = os.path.join(folder, below)
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise InvalidInput(f"{path} leads out of {folder} through a link.", "Take the link away, or write to=FOLDER.")
    return path


def _there(target: _Target, found: list[Source], token: str, what: str, options: dict[str, Any]) -> Any:
    from ..transport import hosts
    from ..transport.downloads import downloaded, file_names, sources
    from ..transport.downloads import there as downloads_there

    host, connect = hosts.check(target.host), _connect()
    files = []
    with session.current().ui.progress("finding out where the files are"):
        for one in found:
            url, name = one.direct(token, connect)
            name = one.name or (file_names.safe(name) if name else "")
            files.append(downloads_there.There(one.shown, url, one.key, name, one.check, one.below, token))
    with downloaded.shown(session.current().ui, f"{what} on {host}") as tell:
        return downloads_there.fetch_there(host, target.folder, files, agent=sources.AGENT, tell=tell, **options)


def _secret(token: str | None) -> str:
    """Return the token that ``token=`` names; empty without one."""
    if token is None:
        return ""
    from ..checkout.setup import Login

    found = Login(token, session.current().ui.where).token()
    return "" if found is None else found.value


def _connect() -> Connect:
    """Return what opens buckets, with the keys that ``%s3`` uses too."""
    warn = session.current().warn_once

    def connect(address: Address) -> Store:
        from ..checkout.dotenv import consent
        from ..transport.buckets import access

        return access.connect(address, folder=Path.cwd(), consent=consent, warn=warn)

    return connect


def _checked(found: list[Source], checks: list[str]) -> Source:
    """Give the one file its checksum."""
    from ..transport.downloads.part import check_of

    if len(found) > 1 or len(checks) > 1 or found[0].check:
        raise InvalidInput(
            "Which file has which checksum?", "Write one behind each: %download URL#sha256=… URL#sha256=…"
        )
    return replace(found[0], check=check_of(checks[0]))


def _target(to: str | None, *, one: bool) -> _Target:
    """Decide where files go."""
    from ..checkout.project import DATA_PROJECT, keep_within
    from ..transport.downloads.sources import there

    project = _project()
    if to is None:
        if project is None:
            return _Target(str(Path.cwd()))
        return _Target(str(project.data_project))
    if not to.strip() or "\0" in to:
        raise InvalidInput("to= names nothing.", "Write to=FOLDER, or leave it out: data_project is meant then.")
    if re.match(r"(s3|gs|https?|file)://", to) or (to.rstrip(":").lower() == "drive" and not os.path.isdir(to)):
        raise InvalidInput(
            f"to={to} is no folder.",
            "Write a folder here, or HOST:FOLDER. Into a bucket: %s3 put, when it is here. Drive, where it is mounted: "
            "to=/content/drive/MyDrive/FOLDER",
        )
    if (other := there(to)) is not None:
        from ..relay.code import folder_there

        host, path = other
        first, _, rest = path.rstrip("/").partition("/")
        if first in ("", DATA_PROJECT) and not path.startswith("/"):
            root = project.root if project is not None else session.current().start_folder
            path = "/".join(filter(None, [folder_there(root), DATA_PROJECT, rest]))
        is_file = one and not to.endswith("/") and os.path.splitext(path)[1]
        folder, name = os.path.split(path) if is_file else (path.rstrip("/") or "/", "")
        return _Target(folder, name, host)
    first, _, rest = to.rstrip("/").partition("/")
    # Notebooks of a project work in a folder of their own, and its inputs are meant from there too.
    path = str(project.data_project / rest) if project is not None and first == DATA_PROJECT else to
    path = os.path.abspath(os.path.expanduser(path))
    is_file = one and not to.endswith("/") and not os.path.isdir(path) and os.path.splitext(path)[1]
    folder, name = os.path.split(path) if is_file else (path, "")
    if project is not None:
        folder = str(keep_within(project.root, Path(folder)))
    return _Target(folder, name)


def _project() -> Any:
    """Return the project in use, of this run, or of the working folder; None without one."""
    from ..checkout.project import find_project, of_run

    here = session.current()
    if (run := session.run_folder()) is not None:
        return of_run(run)
    return here.project or find_project(Path.cwd(), warn=here.warn_once)
