"""Places: where files are kept. ``drive``, a folder, ``host:path``, a bucket, a cloud that rclone reaches.

A kind of Place is one file that says what is particular about it, one line here, and a store: the same few things that
can be done with files in a folder of it, whatever keeps them (`store`). Folders and hosts have them done by rsync, what
can only list what it has by us (`listed_store`).
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ... import units
from ...errors import InvalidInput
from ...registry import Registry

if TYPE_CHECKING:
    from .base import Place

PLACES = Registry(
    "Place",
    {
        "drive": "colab_magics.transport.places.drive:Drive",
        "folder": "colab_magics.transport.places.folder:FolderPlace",
        "gs": "colab_magics.transport.places.bucket:BucketPlace",
        "host": "colab_magics.transport.places.host:HostPlace",
        "rclone": "colab_magics.transport.places.rclone:RclonePlace",
        "s3": "colab_magics.transport.places.bucket:BucketPlace",
    },
)


def parse(text: str, *, project: str) -> Place:
    """Read a Place as users write it.

    Parameters
    ----------
    text : str
        ``drive``, ``drive:FOLDER``, a folder (``/mnt/nas/net``, ``~/kept``, ``./kept``), ``host:path``,
        ``s3://bucket/folder``, ``gs://bucket/folder`` or ``rclone:name:folder``.
    project : str
        The project's name; Drive's folder is named after it. May be empty elsewhere.

    Returns
    -------
    Place
        Not yet prepared or checked.

    Raises
    ------
    InvalidInput
        For a Place that cannot be, or of a kind that is not known.
    """
    text = str(text).strip()
    if not text or "\0" in text:
        raise InvalidInput("to= names no Place.", "Write to=drive, to=FOLDER, to=HOST:FOLDER or to=s3://BUCKET/FOLDER.")
    if len(split(text)) > 1:
        raise InvalidInput(f"to={text} names several Places where one is meant.", "Name one.")
    return cast("Place", PLACES.load(_kind_of(text)).from_text(text, project=project))


def parse_all(text: str, *, project: str) -> list[Place]:
    """Read one Place or several with commas between them; see `parse`."""
    found = [parse(part, project=project) for part in split(str(text).strip()) or [""]]
    return list({place.target: place for place in found}.values())


def split(text: str) -> list[str]:
    """Cut a text at its commas into Places; a folder that is there may have a comma in its name."""
    whole = "," not in text or Path(text).expanduser().is_dir()
    return [text] if whole else units.words(text)


def _kind_of(text: str) -> str:
    """Name the kind of Place that a text means."""
    if text.partition(":")[0].lower() == "drive":
        return "drive"
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://|(rclone):", text)
    if scheme:
        kind = scheme[1] or scheme[2]
        if kind not in PLACES.names():
            raise InvalidInput(
                f"to={text}: Places of the kind {kind!r} are not there yet.",
                "Known: drive, a folder, host:path, s3://bucket/folder, gs://bucket/folder, rclone:name:folder.",
            )
        return kind
    if ":" in text.partition("/")[0]:
        return "host"
    near = difflib.get_close_matches(text.lower(), ["drive", "gdrive"], cutoff=0.8)
    if near and "/" not in text and not Path(text).exists():
        raise InvalidInput(
            f"{text!r} is no Place: did you mean drive?", f"Write to=drive, or to=./{text} for a folder here."
        )
    return "folder"
