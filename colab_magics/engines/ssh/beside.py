"""What runs on other machines write beside the code: ``outputs=`` brings it home, the rest is named.

Here a run writes into the project's folder itself, there into the folder of one state of the code. What the line's
patterns mean goes to its place in the project, unless that was written later here; of anything else the run's log says
that it stays there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from ... import files, process
from ...errors import Unavailable
from ...records.names import LOG, RECORD
from ...transport import copying
from ...transport.gather import BY_MACHINES
from ..base import Submission
from .code import root_of
from .host import Host

MOST_INLINE, MOST_NAMES = 4 << 20, 500
"""What goes over the connection; more is copied by itself."""
_SECONDS = 60.0
_NAMED = 5

File = tuple[str, int, int]
"""Name, size, and time of change in nanoseconds."""


class Beside:
    """What one run has written beside the code.

    Parameters
    ----------
    run : Submission
        The run, whose record holds the patterns.
    listed : sequence of File
        What was written there since it began.
    """

    def __init__(self, run: Submission, listed: Sequence[File]) -> None:
        record = process.read_json(run.folder / RECORD) or {}
        cwd = record.get("cwd")
        self._run = run
        self.root = root_of(run.folder.parents[2], Path(cwd) if cwd else None)
        own = [one for one in record.get("outputs") or () if isinstance(one, str)]
        meant = [one for one in listed if any(_means(pattern, one[0]) for pattern in own)]
        self.left = [one[0] for one in listed if one not in meant and not _is_by_machines(one[0])]
        self.wanted = [one[0] for one in meant if self._may_come(one)]
        self.size = sum(size for name, size, _ in meant if name in self.wanted)

    @property
    def is_large(self) -> bool:
        """Whether it is more than what goes over the connection."""
        return self.size > MOST_INLINE or len(self.wanted) > MOST_NAMES

    def _may_come(self, file: File) -> bool:
        name, _, changed = file
        if name.startswith("/") or {"", ".", ".."} & set(name.split("/")) or _is_by_machines(name):
            return False
        if not Path(os.path.realpath((self.root / name).parent)).is_relative_to(os.path.realpath(self.root)):
            return False
        try:
            here = os.lstat(self.root / name)
        except OSError:
            return True
        return here.st_mtime_ns < changed

    def bring(self, host: Host) -> None:
        """Bring home what is meant."""
        words = {"key": self._run.key, "names": self.wanted, "beside": True}
        if self.is_large:
            host.bring(str(host.ask("stage", **words).result(_SECONDS)[0]["folder"]), self.root)
        elif self.wanted:
            blobs = host.ask("files", **words).result(_SECONDS)[1]
            if not blobs:
                raise Unavailable(f"{host.name} sent nothing.")
            copying.unpack(blobs[0], self.root)

    def tell(self, host: str) -> None:
        """Name in the run's log what stays there."""
        if not self.left:
            return
        more = f" and {len(self.left) - _NAMED:,} more" if len(self.left) > _NAMED else ""
        shown = ", ".join(ascii(name)[1:-1] for name in self.left[:_NAMED])
        line = f"── written beside the code, and still on {host}: {shown}{more} (outputs= brings such files home)\n"
        with open(files.plain(self._run.folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as log:
            log.write(line.encode())


def _means(pattern: str, name: str) -> bool:
    return fnmatch(name, pattern) or name.startswith(f"{pattern}/") or fnmatch(name, f"{pattern}/*")


def _is_by_machines(name: str) -> bool:
    return bool(BY_MACHINES & set(name.split("/")))
