"""The files of a run's folder as bytes: whoever wrote the folder may have put anything there."""

from __future__ import annotations

import os
from pathlib import Path

from .. import files


def read_bytes(path: Path, *, most: int | None = None, start: int = 0) -> bytes | None:
    """Read a plain file; None when there is none.

    Parameters
    ----------
    path : Path
        The file; a link is not followed, and nothing is waited for.
    most : int, optional
        More bytes than these are an error.
    start : int, default 0
        From this byte on; counted from the end when it is negative.

    Raises
    ------
    OSError
        When it cannot be read, or is no plain file.
    """
    try:
        fd = files.plain(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(fd).st_size
        if most is not None and size > most:
            raise OSError(0, f"it has {size:,} bytes", str(path))
        os.lseek(fd, start if start >= 0 else max(0, size + start), os.SEEK_SET)
        return b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
    finally:
        os.close(fd)


def linked(folder: Path) -> Path | None:
    """Return what of a run's folder, its job's and that of all jobs is a link, and may lead anywhere; None: nothing."""
    return next((path for path in (folder, *folder.parents[:2]) if path.is_symlink()), None)
