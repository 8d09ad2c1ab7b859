"""Google Drive as a Place: ``drive``, ``drive:MyDrive/net``, ``drive:Shareddrives/lab/net``.

On Colab it is a mount, elsewhere what rclone reaches. ``COLAB_MAGICS_MOUNTS`` names another table of mounts than
``/proc/mounts``, for tests.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Self

from ... import files
from ...colab import mount
from ...colab.runtime import my_drive, on_colab
from ...errors import InvalidInput, Unavailable, Unmounted
from .base import Place, safe_name
from .folder import FolderPlace
from .rclone import RclonePlace, drive_id, drive_remote

TOPS = ("MyDrive", "Shareddrives")


class Drive:
    """Chooses how Google Drive is reached from here."""

    @classmethod
    def from_text(cls, text: str, *, project: str) -> Place:
        """Read ``drive`` or ``drive:FOLDER``; see `Place.from_text`."""
        folder = folder_of(text, project)
        if on_colab() or drive_is_mounted() or os.environ.get("COLAB_MAGICS_CONTENT") or not shutil.which("rclone"):
            return DrivePlace.from_text(text, project=project)
        top, _, below = folder.partition("/")
        if top != "MyDrive":
            raise InvalidInput(
                f"to={text}: outside of Colab rclone reaches a shared drive by a remote of its own.",
                "Make it by rclone config, then write to=rclone:NAME:FOLDER",
            )
        return RclonePlace.from_text(f"rclone:{drive_remote()}:{below}", project=project)


def is_drive(text: str) -> bool:
    """Whether a Place's text means Google Drive as Colab mounts it."""
    return text == "drive" or text.startswith("drive:")


def folder_of(text: str, project: str) -> str:
    """Return the folder of Drive that a text means, from the mount on."""
    if _is_plain(text):
        if not project:
            raise InvalidInput("to=drive needs a project: its folder there is named after it.", "Run %project first.")
        return f"MyDrive/colab_data/{safe_name(project, of='Drive')}"
    folder = safe_name(text.partition(":")[2].strip("/"), of="Drive")
    parts = PurePosixPath(folder).parts
    if parts[0] not in TOPS or len(parts) < 2 + (parts[0] == "Shareddrives"):
        raise InvalidInput(
            f"to={text} names no folder of Drive.",
            "Write to=drive, to=drive:MyDrive/FOLDER or to=drive:Shareddrives/NAME/FOLDER",
        )
    return folder


def _is_plain(text: str) -> bool:
    return not text.partition(":")[2].strip("/")


@dataclass(frozen=True)
class DrivePlace(FolderPlace):
    """The user's Google Drive as Colab mounts it: the project's folder in ``MyDrive/colab_data``, or a named one."""

    uploads_later: ClassVar[bool] = True
    keeps_links: ClassVar[bool] = False

    @classmethod
    def from_text(cls, text: str, *, project: str) -> Self:
        folder = folder_of(text, project)
        named = "drive" if _is_plain(text) else f"drive:{folder}"
        return cls(text=named, root=str(my_drive().parent / folder))

    @property
    def rsync_options(self) -> list[str]:
        # Drive's file system has no links, modes or owners.
        return ["--no-perms", "--no-owner", "--no-group", "--no-links", "--no-D", "--timeout=120"]

    def mounted(self) -> None:
        if not drive_is_mounted():
            raise Unmounted(f"Google Drive is not mounted at {drive_folder()}.", _mend_of_drive())

    def _unusable(self, error: OSError) -> Unavailable:
        if error.errno in files.DEAD_MOUNT:
            return Unmounted(f"The mount of Google Drive has died: {error.strerror}.", _mend_of_drive())
        return super()._unusable(error)

    def mount_again(self) -> str:
        return _mend_of_drive()

    def __str__(self) -> str:
        below = PurePosixPath(self.root).relative_to(my_drive().parent)
        return f"Drive ({PurePosixPath(*below.parts[below.parts[0] == 'MyDrive' :], *self.parts)})"


def file_id(place: Place, name: str) -> str | None:
    """Return the id that Google Drive gave a file of a Place; None where it is not known (yet)."""
    if isinstance(place, RclonePlace):
        return drive_id(place, name)
    if not isinstance(place, DrivePlace):
        return None
    try:
        found = os.getxattr(os.path.join(place.path, name), "user.drive.id").decode(errors="replace")
    except OSError:
        return None
    return None if found.startswith("local") else found  # not uploaded yet


def drive_folder() -> str:
    """Return where Google Drive is mounted, or would be."""
    return str(my_drive().parent)


def drive_is_mounted() -> bool:
    """Whether Google Drive is mounted: its folder alone proves nothing, an unmounted one is an empty folder."""
    table = os.environ.get("COLAB_MAGICS_MOUNTS")
    if table is None and os.environ.get("COLAB_MAGICS_CONTENT"):
        return mount.is_mounted()  # a stand-in for Colab, whose Drive may be any folder
    try:
        text = Path(table or "/proc/mounts").read_text(errors="surrogateescape")
    except OSError:
        return False
    rows = [line.split() for line in text.splitlines()]
    # Spaces and the like stand in octal in this table (fstab(5)).
    there = [
        re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), row[1])
        for row in rows
        if len(row) > 2 and row[2].startswith("fuse")
    ]
    return drive_folder() in there


def drive_works() -> bool:
    """Whether Google Drive is mounted, and its mount answers: a dead one is still in the table of mounts."""
    return drive_is_mounted() and mount.is_mounted()


def _mend_of_drive() -> str:
    if on_colab():
        return "%sync in the notebook mounts it again; Colab asks you."
    return "Outside of Colab rclone reaches it: install rclone, then rclone config (type drive). Or write to=FOLDER."
