"""What a node of a Ray cluster does when it is asked: ``python -P -m colab_magics.engines.ray.there HOME [INPUTS]``.

It does as any machine (`colab_magics.engines.ssh.there`), and sends large files in pieces. Questions and answers come
and go through its pipes, each behind its length; see `node.Agent`.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, ClassVar

from ...errors import InvalidInput
from ...transport import copying
from ..ssh.code import Snapshot
from ..ssh.there import Answer, There, answered
from .node import LENGTH_BYTES

MOST = 8 << 20
"""Bytes of a piece."""


class OnNode(There):
    """A node.

    Parameters
    ----------
    home : Path
        Where runs write.
    inputs : str or None
        Folder that runs see as ``data_project``.
    """

    QUESTIONS: ClassVar[Sequence[str]] = (*There.QUESTIONS, "pack", "piece", "begin", "add", "unpack")

    def __init__(self, home: Path, inputs: str | None = None) -> None:
        super().__init__(home)
        self._inputs = inputs

    def bring(self, blob: bytes, *, files: dict[str, list[Any]], marker: str, inputs: str) -> Answer:
        """Make a state of the code; its inputs are where the line says. See `There`."""
        if self._inputs is None:
            return super().bring(blob, files=files, marker=marker, inputs=inputs)
        self.states.make(Snapshot.of(files), blob, marker, Path(self._inputs))
        return {}, []

    def _own(self, path: str) -> Path:
        """Return a path that was said here before.

        Raises
        ------
        InvalidInput
            For one elsewhere.
        """
        found = Path(os.path.realpath(path))
        if not found.is_relative_to(self.home.resolve()):
            raise InvalidInput(f"{path!r} is none of the folders of runs.")
        return found

    def pack(self, folder: str) -> Answer:
        """Make an archive of a folder, to be read in pieces; returns its path and size."""
        handle, path = tempfile.mkstemp(dir=self.home, prefix=".pack-")
        with open(handle, "wb") as stream, tarfile.open(fileobj=stream, mode="w") as archive:
            archive.add(self._own(folder), ".")
        return {"folder": path, "size": os.path.getsize(path)}, []

    def piece(self, path: str, at: int) -> Answer:
        """Return a piece of an archive; the archive goes with its last one."""
        file = self._own(path)
        with open(file, "rb") as stream:
            stream.seek(at)
            data = stream.read(MOST)
        if at + len(data) >= os.path.getsize(file):
            file.unlink()
        return {}, [data]

    def begin(self) -> Answer:
        """Make an archive that comes in pieces; returns its path."""
        handle, path = tempfile.mkstemp(dir=self.home, prefix=".pack-")
        os.close(handle)
        return {"folder": path}, []

    def add(self, blob: bytes, path: str) -> Answer:
        """Add a piece to an archive."""
        with open(self._own(path), "ab") as stream:
            stream.write(blob)
        return {}, []

    def unpack(self, path: str, folder: str) -> Answer:
        """Unpack an archive that has come into a folder."""
        file = self._own(path)
        try:
            with open(file, "rb") as stream:
                copying.unpack_from(stream, self._own(folder))
        finally:
            file.unlink(missing_ok=True)
        return {}, []


def serve(there: OnNode, source: IO[bytes], target: IO[bytes]) -> None:
    """Answer what comes until it ends."""
    while True:
        while not select.select([source], [], [], 1.0)[0]:
            there.attempts.look()
        head = _read(source, LENGTH_BYTES)
        if len(head) < LENGTH_BYTES:
            return
        said = answered(there, _read(source, int.from_bytes(head)))
        target.write(len(said).to_bytes(LENGTH_BYTES) + said)
        target.flush()


def _read(source: IO[bytes], size: int) -> bytes:
    """Return so many bytes of a pipe, less at its end."""
    found = bytearray()
    while len(found) < size and (data := source.read(size - len(found))):
        found += data
    return bytes(found)


def main() -> None:
    """Run as a program."""
    # What is printed by whoever is imported must not come between the answers.
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # A file that is looked at while somebody opens it to write ends nobody; see fcntl(2), leases.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    with open(0, "rb", buffering=0, closefd=False) as pipe:
        serve(OnNode(Path(sys.argv[1]), *sys.argv[2:]), pipe, target)


if __name__ == "__main__":
    main()
