"""What a run has written, on its way out of a pod: through the container's log, to a volume, or to a bucket.

Each way says where the run's folder is in the pod, and brings what it holds at the end. `bring` returns a number by
which its other end (`colab_magics.engines.kubernetes.home`) sees that all of it has come.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import ColabMagicsError, Unavailable
from ...transport.buckets import access
from ...transport.buckets.access import Address
from ...transport.buckets.errors import explain
from ...transport.buckets.sums import part_size
from ...transport.places.store import TEMPORARY
from ...units import show_size
from ..ssh.attempts import listed

BUCKET_VARIABLE = "COLAB_MAGICS_BUCKET"
"""Holds the keys of the bucket for the runs' results; the program of a run does not see it."""
MARK = ".colab_magics_results"
"""In the folder on a volume: it is the one that the other machine means."""
FOLDER, BUCKET, OWN = "folder", "bucket", "own"
"""What a pod is told: the folder on the volume, the bucket, and which of its settings are the pod's own variables."""
MOST_RESULTS = 4 << 20
"""Bytes of results that come home through the log, packed; clusters keep some 10 MB of it."""
PATIENCE = 10.0
"""Seconds until what another machine has written on a volume must be seen."""
BLOCK = 1 << 20
_POSIX_ROOT = 0
NAMED = "name a volume that this machine has, too (results=/data volumes.CLAIM=/data), or results=s3://BUCKET/FOLDER"


class Way:
    """Through the log.

    Parameters
    ----------
    told : mapping
        What the pod was told of results.
    key : str
        That of the run's attempt.
    """

    def __init__(self, told: Mapping[str, Any], key: str) -> None:
        self.told, self.key = told, key

    def base(self, work: Path) -> Path:
        """Return the folder below which the run's own is made; `work` is the pod's.

        Raises
        ------
        ColabMagicsError
            When results would not come home from here.
        """
        return work / "runs"

    def bring(self, folder: Path) -> tuple[int, bytes]:
        """Bring what the run has written; returns its number, and what goes through the log.

        Raises
        ------
        ColabMagicsError
            When it does not come home.
        """
        packed = _packed(folder)
        if len(packed) > MOST_RESULTS:
            raise Unavailable(
                f"its results are {show_size(len(packed))}, and {show_size(MOST_RESULTS)} come home by the log: for "
                f"larger ones {NAMED}"
            )
        return len(packed), packed


class Volume(Way):
    """On a volume: the run works there, so that what it has written outlives a pod that is killed."""

    def base(self, work: Path) -> Path:
        top = Path(self.told[FOLDER])
        end = time.monotonic() + PATIENCE
        while not (top / MARK).is_file():
            if time.monotonic() > end:
                raise Unavailable(
                    f"{top.parent} in the pod is another folder than the one that was named by results_here= where the "
                    "run was submitted"
                )
            time.sleep(0.2)
        # Each pod has one of its own: of two pods of a run one may be late.
        made = top / f"{self.key}-{secrets.token_hex(4)}"
        try:
            made.mkdir()
        except OSError as error:
            raise Unavailable(f"results= {made.parent}: {error.strerror}") from None
        return made

    def bring(self, folder: Path) -> tuple[int, bytes]:
        top = folder.parents[1]
        if os.geteuid() == _POSIX_ROOT:
            # So that who has submitted it may read it, and take it away.
            owner = (top.parent / MARK).stat()
            for at, folders, names in os.walk(top):
                for name in (".", *folders, *names):
                    with contextlib.suppress(OSError):
                        os.chown(os.path.join(at, name), owner.st_uid, owner.st_gid, follow_symlinks=False)
        return amount(folder), b""


class Bucket(Way):
    """To a bucket, as one archive."""

    def __init__(self, told: Mapping[str, Any], key: str) -> None:
        super().__init__(told, key)
        given = json.loads(os.environ.pop(BUCKET_VARIABLE, "{}"))
        own = {name: os.environ[name] for name in told.get(OWN, ()) if os.environ.get(name)}
        self.given, self.address = {**given, **own}, Address.parse(told[BUCKET])

    def base(self, work: Path) -> Path:
        access.check(access.connect(self.address, given=self.given), self.address)
        return super().base(work)

    def bring(self, folder: Path) -> tuple[int, bytes]:
        if not any(listed(folder, quiet=True)):
            return 0, b""
        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for block in archive(folder):
                size += len(block)
                yield block

        try:
            store = access.connect(self.address, given=self.given)
            parts = part_size(2 * amount(folder))
            store.put(key_of(self.address, self.key), counted(), use_multipart=True, chunk_size=parts)
        except Exception as error:  # noqa: BLE001 - told, or of no matter where the log carries them
            problem = explain(error, f"bringing its results to {self.address}")
            try:
                return super().bring(folder)
            except ColabMagicsError:
                raise problem from None
        return size, b""


def way(told: Mapping[str, Any], key: str) -> Way:
    """Return the way that results of a run go from this pod; parameters are those of `Way`."""
    kind = Volume if told.get(FOLDER) else Bucket if told.get(BUCKET) else Way
    return kind(told, key)


def key_of(address: Address, key: str) -> str:
    """Return the key in a bucket under which the results of a run's attempt wait; no mirror takes it for a file."""
    return address.below(f"{TEMPORARY}pods", f"{key}.tar").key


def amount(folder: Path) -> int:
    """Return a number that says how much a run has written: bytes, and one for each file."""
    return sum(size + 1 for _, size, _ in listed(folder, quiet=True))


def archive(folder: Path) -> Iterator[bytes]:
    """Yield what a run has written as an archive; what goes wrong is raised, so that half of one never looks whole."""
    read, write = os.pipe()
    problems: list[BaseException] = []

    def pack() -> None:
        try:
            with (
                open(write, "wb") as out,
                tarfile.open(fileobj=out, mode="w|", bufsize=BLOCK, format=tarfile.PAX_FORMAT) as tar,
            ):
                _fill(tar, folder)
        except BaseException as problem:  # noqa: BLE001 - who reads raises it
            problems.append(problem)

    packing = threading.Thread(target=pack, daemon=True)
    packing.start()
    with open(read, "rb") as stream:
        while block := stream.read(BLOCK):
            yield block
    packing.join()
    if problems:
        raise problems[0]


def _packed(folder: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        _fill(tar, folder)
    return out.getvalue()


def _fill(tar: tarfile.TarFile, folder: Path) -> None:
    for name, _, _ in listed(folder, quiet=True):
        with contextlib.suppress(FileNotFoundError):
            tar.add(folder / name, name, recursive=False)
