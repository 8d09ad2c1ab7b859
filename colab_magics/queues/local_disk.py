"""Whether a file may hold a database that many processes write: only a disk of this machine keeps its locks."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import InvalidInput

NETWORK = frozenset(
    """9p acfs afs beegfs ceph cifs coda drvfs dvs gfs2 glusterfs gpfs lustre mfs ncpfs nfs nfs4 ocfs2 orangefs panfs
    prl_fs pvfs2 smb3 smbfs vboxsf virtiofs vmhgfs wekafs""".split()  # noqa: SIM905 (one line each would be thirty)
)
"""Types of file systems whose files other machines write as well."""


_OF_SANDBOXES = ("9p", "virtiofs")
"""What is the whole of a sandbox's disk (gVisor, Kata), which no other machine writes."""


def refuse_network(path: Path) -> None:
    """Refuse a file on a file system of a network, or one that a program makes up (FUSE), as Google Drive's.

    Locks and shared memory of such a file are not those that other machines see, so that two workers would get one
    run, and the file could be torn (https://sqlite.org/wal.html: all processes must be on the same host).

    Raises
    ------
    InvalidInput
        Says which file system it is, and what to use instead.
    """
    found = file_system(path)
    if found is None:
        return
    kind, point = found
    if point == "/" and kind in _OF_SANDBOXES:
        return
    if kind in NETWORK or kind.startswith("fuse"):
        raise InvalidInput(
            f"{path} lies on {point}, which is {kind}: a file system of a network or of a program. Locks do not hold "
            "there between machines, so two workers would get the same run.",
            "Use a file on this machine's own disk for workers of this machine (/content/runs.db, ~/runs.db); for "
            "several machines a Google Sheet or postgresql://…",
        )


def file_system(path: Path, table: str = "/proc/self/mountinfo") -> tuple[str, str] | None:
    """Return type and mount point of the file system on which a file is or would be; None where nobody says.

    Parameters
    ----------
    path : Path
        The file; what does not exist yet counts as being in its folder.
    table : str
        The system's table of mounts (proc_pid_mountinfo(5)).
    """
    real = Path(os.path.realpath(path))
    try:
        lines = Path(table).read_text(errors="surrogateescape").splitlines()
    except OSError:  # no Linux
        return None
    best: tuple[int, str, str] | None = None
    for line in lines:
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), before.split()[4])
        depth = len(Path(point).parts)
        # Of two mounts at one point the later one is seen.
        if real.is_relative_to(point) and (best is None or depth >= best[0]):
            best = depth, after.split()[0], point
    return best and best[1:]
