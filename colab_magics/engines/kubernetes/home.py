"""Where results of pods wait until they are brought home, if not in the log; the other end of `results`.

A volume that pods and this machine share (``results=``, ``results_here=``), or a bucket: that of ``results=``, or the
project's Place. A bucket's keys go with the job as a secret of the cluster, unless the line names one that is there.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from ...checkout.project import read_marker
from ...checkout.trust import Warn, unheard
from ...errors import ColabMagicsError, InvalidInput, NotFound, Unavailable
from ...records.names import RECORD
from ...transport import copying
from ...transport.buckets import access
from ...transport.buckets import settings as bucket_settings
from ...transport.buckets.access import Address
from ...transport.buckets.errors import explain
from ...transport.places import split
from ...units import show_size
from . import results
from .settings import LOG, Settings

_KEYS = (bucket_settings.KEY, bucket_settings.SECRET, bucket_settings.TOKEN)


class Lost(ColabMagicsError):
    """What a run has written will never come home."""


class Way:
    """Through the log, which needs nothing.

    Parameters
    ----------
    found : Settings
        Of the pods.
    root : Path
        The project's folder.
    """

    packages: tuple[str, ...] = ()
    """Requirements of the pods."""

    def __init__(self, found: Settings, root: Path) -> None:
        self.found, self.root = found, root

    def check(self, warn: Warn) -> None:
        """Make sure that results would come home that way.

        Raises
        ------
        ColabMagicsError
            When they would not.
        """

    def told(self, name: str) -> dict[str, Any]:
        """Return what pods of a job are told."""
        return {}

    def environment(self) -> dict[str, str]:
        """Return what they get as a secret."""
        return {}

    def where(self, name: str) -> str:
        """Return where results of a job of that name wait, as `bring` reads it; empty for the log."""
        return ""

    def prepare(self, name: str) -> None:
        """Make ready before the job is there.

        Raises
        ------
        OSError
            When that cannot be.
        """


class Volume(Way):
    """A folder that pods have on a volume, and this machine somewhere."""

    @property
    def here(self) -> Path:
        """The folder on this machine."""
        return Path(self.found.results_here or self.found.results)

    def check(self, warn: Warn) -> None:
        if not self.here.is_absolute():
            raise InvalidInput(f"results_here={self.here} is no folder.", "Write it from /, as in /mnt/lab/runs.")
        if not self.here.is_dir() or not os.access(self.here, os.W_OK | os.X_OK):
            why = "cannot be written" if self.here.is_dir() else "is no folder"
            raise InvalidInput(
                f"results={self.found.results}: {self.here} {why} on this machine, so nothing would come home.",
                "Say where that folder is here: results_here=FOLDER; or take a bucket: results=s3://BUCKET/FOLDER",
            )

    def told(self, name: str) -> dict[str, Any]:
        return {results.FOLDER: f"{self.found.results.rstrip('/')}/{name}"}

    def where(self, name: str) -> str:
        return str(Path(os.path.abspath(self.here)) / name)

    def prepare(self, name: str) -> None:
        folder = self.here / name
        folder.mkdir(exist_ok=True)
        (folder / results.MARK).write_text("colab_magics: results of pods wait here until they are brought home.\n")


class Bucket(Way):
    """A bucket that pods and this machine reach."""

    packages = tuple(
        one.partition(";")[0].strip()
        for one in importlib.metadata.requires("colab-magics") or ()
        if one.startswith("obstore")
    )

    def __init__(self, found: Settings, root: Path, address: str) -> None:
        super().__init__(found, root)
        self.address = Address.parse(address)
        named = {*found.secrets, *found.env}
        self.own = sorted(bucket_settings.KNOWN & named)

    def check(self, warn: Warn) -> None:
        try:
            access.check(access.connect(self.address, folder=self.root, warn=warn), self.address)
            if bucket_settings.TOKEN in self.environment()[results.BUCKET_VARIABLE]:
                warn(
                    f"The keys of {self.address} end with a session: results of runs that take longer are not brought. "
                    "Lasting ones of the cluster: secrets.AWS_ACCESS_KEY_ID=SECRET/KEY secrets.AWS_SECRET_ACCESS_KEY=…"
                )
        except ColabMagicsError as problem:
            if self.found.results:
                raise
            mend = f"{problem.mend} Or say results=log: up to {show_size(results.MOST_RESULTS)} a run come home then."
            raise Unavailable(f"Results are to come home by the project's Place. {problem.what}", mend) from None

    def told(self, name: str) -> dict[str, Any]:
        return {results.BUCKET: str(self.address), results.OWN: self.own}

    def environment(self) -> dict[str, str]:
        given = access.settings(self.root)
        kept = (bucket_settings.ENDPOINT, bucket_settings.REGION, bucket_settings.UNSIGNED)
        sent = {name: given[name] for name in kept if given.get(name)}
        if bucket_settings.KEY not in self.own:
            sent |= self._keys(given)
        return {results.BUCKET_VARIABLE: json.dumps({name: one for name, one in sent.items() if name not in self.own})}

    def _keys(self, given: bucket_settings.Settings) -> dict[str, str]:
        ours = access.requests(access.connect(self.address, given=given))
        if ours is None:
            raise Unavailable(
                f"results={self.address}: its keys are not known here, so they cannot go with the job.",
                "Name those of a secret of the cluster: secrets.AWS_ACCESS_KEY_ID=SECRET/KEY "
                "secrets.AWS_SECRET_ACCESS_KEY=SECRET/KEY",
            )
        keys = ours.keys()
        return {name: one for name, one in zip(_KEYS, (keys.key, keys.secret, keys.token), strict=True) if one}

    def where(self, name: str) -> str:
        return str(self.address)


def of(found: Settings, root: Path) -> Way:
    """Return the way by which results come home, as the settings or the project's Place say it."""
    if found.results.startswith("s3://"):
        return Bucket(found, root, found.results)
    if found.results and found.results != LOG:
        return Volume(found, root)
    if not found.results:
        marker = read_marker(root, unheard)
        for place in split(marker.place) if marker is not None and marker.place else ():
            if place.startswith("s3://"):
                return Bucket(found, root, place)
    return Way(found, root)


def bring(where: str, key: str, into: Path, expected: int | None) -> None:
    """Bring home what an attempt at a run has written.

    Parameters
    ----------
    where : str
        See `Way.where`.
    key : str
        That of the attempt.
    into : Path
        The run's folder here.
    expected : int, optional
        The number that the pod has told; None of one that has told none.

    Raises
    ------
    Lost
        When it is not there, or not all of it.
    ColabMagicsError, OSError
        When it does not come now.
    """
    if not where.startswith("s3://"):
        _from_volume(Path(where), key, into, expected)
    elif expected != 0:
        _from_bucket(Address.parse(where), key, into, expected)


def let_go(where: str, key: str, root: Path) -> None:
    """Remove what has come home, where it can be removed."""
    if not where.startswith("s3://"):
        for base in Path(where).glob(f"{key}-*"):
            shutil.rmtree(base, ignore_errors=True)
        return
    with contextlib.suppress(ColabMagicsError):
        address = Address.parse(where)
        access.delete(access.connect(address, folder=root), address, [results.key_of(address, key)])


def finish(where: str) -> None:
    """Remove the folder of a job on a volume, unless something waits in it."""
    if where and not where.startswith("s3://") and not any(Path(where).glob("*-*")):
        with contextlib.suppress(OSError):
            (Path(where) / results.MARK).unlink()
            Path(where).rmdir()


def _from_volume(top: Path, key: str, into: Path, expected: int | None) -> None:
    found = [] if expected == 0 else list(top.glob(f"{key}-*/*/*/{RECORD}"))
    if not found:
        if not expected:
            return
        raise Unavailable(f"{top} does not show the results of {into.name} yet")
    newest = max(found, key=lambda file: file.stat().st_mtime_ns).parent
    if expected is not None and (seen := results.amount(newest)) != expected:
        raise Unavailable(f"{top} shows {show_size(seen)} of the results of {into.name}, and not yet all")
    try:
        _unpack(results.archive(newest), into)
    except tarfile.TarError as error:
        raise Unavailable(f"{newest} cannot be read: {error}") from None


def _from_bucket(address: Address, key: str, into: Path, expected: int | None) -> None:
    try:
        store = access.connect(address, folder=into.parents[2])
        got = store.get(results.key_of(address, key))
        if expected is not None and got.meta["size"] != expected:
            raise Lost(f"{address} has {show_size(got.meta['size'])} of its results, which are {show_size(expected)}")
        _unpack((bytes(block) for block in got.stream(min_chunk_size=results.BLOCK)), into)
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        problem = explain(error, f"bringing home {into.name} from {address}")
        if isinstance(problem, NotFound):
            if expected is None:
                return
            raise Lost(f"its results are not in {address} any more") from None
        raise problem from None


def _unpack(blocks: Iterable[bytes], into: Path) -> None:
    stream = io.BufferedReader(_Blocks(iter(blocks)), results.BLOCK)
    copying.unpack_from(cast("IO[bytes]", stream), into)


class _Blocks(io.RawIOBase):
    """Blocks as a file to be read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        view = memoryview(buffer)  # type: ignore[arg-type]
        size = min(len(view), len(self._rest))
        view[:size], self._rest = self._rest[:size], self._rest[size:]
        return size
