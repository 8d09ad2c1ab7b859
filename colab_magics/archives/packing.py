"""Pack a file or a folder: whole or not at all, its entries in one order."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import InvalidInput, NotFound

TEMPORARY = ".~colab_magics.pack-"
_BEFORE_ZIP = (1980, 1, 1, 0, 0, 0)


def pack(path: Path, to: Path | None = None) -> Path:
    """Pack a file or a folder into an archive.

    Parameters
    ----------
    path : Path
        What to pack; the archive holds it under its own name.
    to : Path, optional
        The archive: ``.zip``, ``.tar.gz`` or ``.tgz``, ``.tar``. By default ``<path>.zip``. One that is there is
        replaced when the new one is whole.

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
    if not path.exists():
        raise NotFound(f"There is no {path}.", "Name a file or a folder that is there.")
    path = path.absolute()
    target = (to if to is not None else path.with_name(f"{path.name}.zip")).absolute()
    if not target.name.endswith((".zip", ".tar.gz", ".tgz", ".tar")):
        raise InvalidInput(f"{target.name} names no kind of archive.", "Write NAME.zip, NAME.tar.gz or NAME.tar.")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f"{TEMPORARY}{os.getpid()}-{threading.get_ident()}")
    try:
        with open(work, "xb") as stream:
            if target.suffix == ".zip":
                with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                    for one in _below(path, (target, work)):
                        _zip(archive, one, path)
            elif target.suffix == ".tar":
                _tar(stream, path, (target, work))
            else:
                # No name and no time of packing in it: the same files make the same archive.
                with gzip.GzipFile("", "wb", 6, stream, 0) as packed:
                    _tar(packed, path, (target, work))
        os.replace(work, target)
    finally:
        work.unlink(missing_ok=True)
    return target


def _below(path: Path, left_out: tuple[Path, ...]) -> Iterator[Path]:
    """Yield a path and all below it in one order; no pipes and sockets, and nothing half of ours."""
    if path in left_out or path.name.startswith(".~colab_magics."):
        return
    mode = path.lstat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        return
    yield path
    if stat.S_ISDIR(mode):
        for one in sorted(path.iterdir()):
            yield from _below(one, left_out)


def _name(one: Path, path: Path) -> str:
    name = str(one.relative_to(path.parent))
    if one.is_symlink():
        leads = os.path.normpath(os.path.join(one.parent, os.readlink(one)))
        if os.path.isabs(os.readlink(one)) or not Path(leads).is_relative_to(path):
            raise InvalidInput(
                f"{one} is a link that leads out of {path}: it would lead nowhere where the archive is unpacked.",
                "Take it out, or put in its place what it leads to.",
            )
    return name


def _zip(archive: zipfile.ZipFile, one: Path, path: Path) -> None:
    seen, name = one.lstat(), _name(one, path)
    info = zipfile.ZipInfo.from_file(one, name, strict_timestamps=False)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.date_time = max(info.date_time, _BEFORE_ZIP)
    if stat.S_ISLNK(seen.st_mode):
        info.external_attr = seen.st_mode << 16
        archive.writestr(info, os.readlink(one))
    elif stat.S_ISDIR(seen.st_mode):
        archive.writestr(info, b"")
    else:
        with open(one, "rb") as source, archive.open(info, "w") as packed:
            while data := source.read(1 << 20):
                packed.write(data)


def _tar(stream: object, path: Path, left_out: tuple[Path, ...]) -> None:
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for one in _below(path, left_out):
            info = archive.gettarinfo(one, _name(one, path))
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mode &= 0o777
            if info.isreg():
                with open(one, "rb") as source:
                    archive.addfile(info, source)
            else:
                archive.addfile(info)
