"""Google Drive as a folder of a Colab runtime."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

from ..errors import Unavailable
from .runtime import front_end_answers, my_drive, on_colab

_SHOWN = 5


def is_mounted() -> bool:
    """Whether the user's Drive can be read now."""
    try:
        os.statvfs(my_drive())  # folders of a dead mount Linux remembers for a while
        return my_drive().is_dir()
    except OSError:  # Errno 107: the mount's process died
        return False


def ensure_drive(where: str, mounted: Callable[[], bool] = is_mounted) -> Path:
    """Mount the user's Drive when it is not mounted, or not any more.

    The test comes first: `drive.mount` asks the page for consent before it looks whether Drive is there.

    Parameters
    ----------
    where : str
        The face; see `UI.where`.
    mounted : callable
        The test, for callers that know more than that the folder is there.

    Returns
    -------
    Path
        The folder of the user's files.

    Raises
    ------
    Unavailable
        When this is no Colab runtime, the page cannot be asked from here, or mounting failed.
    """
    if mounted():
        return my_drive()
    if not on_colab():
        raise Unavailable("Google Drive can be mounted on Colab only.", "Name a folder that is kept: to=FOLDER")
    if not front_end_answers(where):
        raise Unavailable(
            "Google Drive is not mounted, and only the notebook itself can mount it: Colab asks its user.",
            "Run %project in the notebook first, then start this again.",
        )
    from google.colab import _message, drive

    point = my_drive().parent
    try:
        # A dead mount is still listed in the mount table; force_remount clears it away first.
        drive.mount(str(point), force_remount=_is_dead(point))
    except (NotImplementedError, ValueError, _message.MessageError) as error:
        if isinstance(error, ValueError) and (names := _in_the_way(point)):
            raise Unavailable(
                f"Google Drive could not be mounted: {point} holds files that were written while it was not, and "
                f"that are not on Drive: {', '.join(names)}.",
                f"Move them away, then run the cell again: !mv {point} {point}_not_mounted",
            ) from error
        raise Unavailable(
            f"Google Drive could not be mounted: {str(error) or type(error).__name__}",
            "Run the cell again and allow the access that Colab asks for, or keep the data elsewhere: to=FOLDER",
        ) from error
    if not mounted():
        raise Unavailable(
            f"Google Drive was mounted, but {my_drive()} is not there.",
            "Runtime → Disconnect and delete runtime, then start again.",
        )
    return my_drive()


def flush(timeout: float) -> None:
    """Wait until Drive has uploaded everything that was handed to it, and unmount it.

    Parameters
    ----------
    timeout : float
        Seconds.

    Raises
    ------
    Unavailable
        When this is no Colab runtime, or Drive did not end in time.
    """
    if not on_colab():
        raise Unavailable("Google Drive can be flushed on Colab only.", "Elsewhere its own program uploads by itself.")
    from google.colab import drive

    try:
        drive.flush_and_unmount(timeout_ms=int(timeout * 1000))
    except ValueError as error:
        raise Unavailable(f"Drive was not flushed: {error}", "Wait a while, then try again: %sync flush") from error


def _in_the_way(point: Path) -> list[str]:
    """Name some of what lies in the folder that is to become the mount."""
    try:
        found = itertools.islice((path for path in point.rglob("*") if not path.is_dir()), _SHOWN + 1)
        names = [str(path.relative_to(point)) for path in found] or os.listdir(point)
    except OSError:
        return []
    return [*names[:_SHOWN], *["…"] * (len(names) > _SHOWN)]


def _is_dead(point: Path) -> bool:
    try:
        point.stat()
        os.statvfs(point)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
