"""The Colab runtime: whether this is one, where its files stand, and its end."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from .. import session
from ..errors import Unavailable


def on_colab() -> bool:
    """Whether this machine is a Colab runtime."""
    return bool(os.environ.get("COLAB_RELEASE_TAG")) and not enterprise()


def enterprise() -> bool:
    """Whether this is Colab Enterprise, which has neither Drive nor a page to be asked; google.colab looks here too."""
    return os.environ.get("VERTEX_PRODUCT") == "COLAB_ENTERPRISE"


def content() -> Path:
    """Return the folder that Colab shows to its users: ``/content``.

    ``COLAB_MAGICS_CONTENT`` names another one, for tests and for images that stand in for Colab's.
    """
    return Path(os.environ.get("COLAB_MAGICS_CONTENT") or "/content")


def my_drive() -> Path:
    """Return the folder of the user's files on Drive, mounted or not; ``COLAB_MAGICS_DRIVE`` names another mount."""
    mount = os.environ.get("COLAB_MAGICS_DRIVE")
    return (Path(mount) if mount else content() / "drive") / "MyDrive"


def front_end_answers(where: str) -> bool:
    """Whether Colab's page can be asked from a face; see `UI.where`.

    It answers the notebook's own kernel alone, in its main thread. Elsewhere a request hangs, or fails after minutes.
    """
    return (
        on_colab()
        and session.run_folder() is None
        and threading.current_thread() is threading.main_thread()
        and where in ("colab", "colab-other")
    )


def can_end(where: str) -> None:
    """Raise `Unavailable` where `unassign` can do nothing.

    Parameters
    ----------
    where : str
        The face; see `UI.where`.
    """
    if front_end_answers(where):
        return
    if on_colab():
        raise Unavailable(
            "Only the notebook itself can end its runtime, from a cell of its own.",
            "Say it there, or use Runtime → Disconnect and delete runtime.",
        )
    raise Unavailable(
        "This is no runtime of Google Colab, so there is none to end: "
        + ("Colab Enterprise keeps its runtimes." if enterprise() else "the machine is yours."),
        "Colab Enterprise ends idle runtimes by itself." if enterprise() else "Leave it out here.",
    )


def unassign(where: str) -> None:
    """End this runtime, so that it uses no more compute units; files on it that were not copied away are lost.

    Parameters
    ----------
    where : str
        The face; see `UI.where`.

    Raises
    ------
    Unavailable
        When this is no Colab runtime, it cannot be ended from here, or Colab does not do it.
    """
    can_end(where)
    from google.colab import runtime

    try:
        runtime.unassign()
    except Exception as error:  # it asks a service of the machine, by a library whose errors have no common kind
        raise Unavailable(
            f"Colab did not end the runtime: {str(error) or type(error).__name__}",
            "Runtime → Disconnect and delete runtime ends it by hand.",
        ) from error
