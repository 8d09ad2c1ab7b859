"""An object in a bucket, as a file that is fetched."""

from __future__ import annotations

from ..errors import Unavailable
from .fetch import Answer


class BucketFile:
    """An object.

    Parameters
    ----------
    text : str
        ``s3://BUCKET/KEY`` or ``gs://BUCKET/KEY``.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def open(self, start: int, version: str) -> Answer:
        """Ask for it from a byte on; see `fetch.Remote`."""
        raise Unavailable(f"{self.text} cannot be fetched yet.", "Fetch it by another program.")

    def abort(self) -> None:
        """Nothing is open."""

    def direct(self) -> tuple[str, str]:
        """Return an address that another machine can ask for, and its name."""
        raise Unavailable(f"{self.text} cannot be fetched yet.", "Fetch it by another program.")
