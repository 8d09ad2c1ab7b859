"""The Colab runtime: whether this is one, where its files stand, and its end."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from .. import session
from ..errors import Unavailable


def on_colab() -> bool:
    """Whether this machine is a Colab runtime."""
    return bool(os.environ.get("COLAB_RELEASE_TAG"))


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


def unassign(where: str) -> None:
    """End this runtime, so that it uses no more compute units; files on it that were not copied away are lost.

    Parameters
    ----------
    where : str
        The face; see `UI.where`.

    Raises
    ------
    Unavailable
        When this is no Colab runtime, or Colab's page cannot be asked from here.
    """
    if not front_end_answers(where):
        raise Unavailable(
            "Only a notebook on Colab can end its runtime, from a cell of its own.",
            "Run this in a cell of the notebook in Colab, or use Runtime → Disconnect and delete runtime.",
        )
    from google.colab import runtime

    runtime.unassign()
