"""``pack()`` and ``unpack()``: archives, for the user's own code, and no verbs of lines."""

from __future__ import annotations

import os
from pathlib import Path

from .. import session


def pack(path: str | os.PathLike[str], to: str | os.PathLike[str] | None = None) -> Path:
    """Pack a file or a folder: ``pack(data_job)``.

    The archive is whole or not there; its entries are in one order. Links that lead out of the folder are refused,
    pipes and sockets are left out.

    Parameters
    ----------
    path : str or path
        What to pack; the archive holds it under its own name.
    to : str or path, optional
        The archive: ``NAME.zip``, ``NAME.tar.gz`` (also ``.tgz``) or ``NAME.tar``; ``<path>.zip`` by default. One that
        is there is replaced when the new one is whole.

    Returns
    -------
    Path
        The archive.

    Raises
    ------
    NotFound
        When there is nothing at `path`.
    InvalidInput
        For another ending, and when a link in the folder leads out of it.
    """
    from ..archives import packing

    with session.current().ui.progress(f"packing {path}"):
        return packing.pack(Path(path).expanduser(), None if to is None else Path(to).expanduser())


def unpack(
    path: str | os.PathLike[str], to: str | os.PathLike[str] | None = None, *, big: bool = False, force: bool = False
) -> Path:
    """Unpack an archive if that was not done yet: ``unpack("x.zip")``; zip, tar, gz, bz2, xz, zst.

    Nothing is written outside of the folder, and the folder is there as a whole or not at all.

    Parameters
    ----------
    path : str or path
        The archive.
    to : str or path, optional
        The folder that gets what it holds, or the file for ``x.csv.gz``; without the endings of an archive beside it by
        default: ``x`` for ``x.zip``. What is there already stays as it is. Where the archive holds one folder alone,
        named like that one, its content counts.
    big : bool, default False
        Unpack also what becomes over 100 times as big, or holds millions of files.
    force : bool, default False
        Move what is there aside (``x.old1``) and unpack anew.

    Returns
    -------
    Path
        The folder, or the file.

    Raises
    ------
    NotFound
        When there is no archive.
    InvalidInput
        When it is none, is damaged, or would write outside of its folder.
    Unavailable
        When the disk has no room.
    """
    from ..archives import unpacking
    from ..errors import NotFound

    archive, ui = Path(path).expanduser(), session.current().ui
    if not archive.is_file():
        raise NotFound(f"There is no file {archive}.", "Name an archive that is there.")
    target = unpacking.target_of(os.path.abspath(archive), None if to is None else str(Path(to).expanduser()))
    if force and unpacking.is_there(target):
        ui.say(f"What was there is {unpacking.move_aside(target)} now.")
    with ui.progress(f"unpacking {archive.name}"):
        done = unpacking.unpack(str(archive), target, big=big)
    if not done.new:
        ui.say(f"{done.path} is there already.")
    return Path(done.path)
