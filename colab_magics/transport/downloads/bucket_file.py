"""An object in a bucket, as a file that is fetched: from some byte on, and the same version of it to the end.

Its ETag, which the store compares before it sends on, tells the version. As a checksum it is not taken: where a store
encrypts with keys of its own it looks like one and is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ...errors import Busy, ColabMagicsError, Unavailable
from ..buckets import access
from ..buckets.errors import explain
from .fetch import Answer, Passing

if TYPE_CHECKING:
    from ..buckets.access import Address, Store

_BLOCK = 1 << 20
_SIGNED_FOR = timedelta(hours=12)
Connect = Callable[["Address"], "Store"]


class BucketFile:
    """An object.

    Parameters
    ----------
    text : str
        ``s3://BUCKET/KEY`` or ``gs://BUCKET/KEY``.
    connect : callable
        Opens its bucket.
    """

    def __init__(self, text: str, connect: Connect) -> None:
        self._address = access.Address.parse(text)
        self._store = connect(self._address)
        self._cut = False

    def open(self, start: int, version: str) -> Answer:
        """Ask for it from a byte on; see `fetch.Remote`."""
        options: Any = {"range": {"offset": start}, "if_match": version} if start else {}
        try:
            got = self._store.get(self._address.key, options=options or None)
        except Exception as error:
            if start and "non-partial response" in str(error):
                return self.open(0, "")  # some servers send no part of what is named by its ETag
            told = explain(error, f"downloading {self._address}")
            if start and isinstance(told, Busy):
                raise Passing(f"{self._address} has changed there meanwhile.", anew=True) from error
            raise told from error
        etag, size = got.meta["e_tag"] or "", int(got.meta["size"])
        name = self._address.key.rpartition("/")[2]
        return Answer(name, int(got.range[0]), size, etag, "", True, _Body(self, got))

    def abort(self) -> None:
        """Have whoever reads see the end with the next block."""
        self._cut = True

    def direct(self) -> tuple[str, str]:
        """Return an address that another machine can ask for within some hours, and the object's name."""
        import obstore

        try:
            url: str = obstore.sign(self._store, "GET", self._address.key, _SIGNED_FOR)
        except Exception as error:
            raise Unavailable(
                f"No address of {self._address} can be made for another machine: {explain(error, '').what}",
                "Fetch it here, then: %host put FILE host=NAME",
            ) from error
        return url, self._address.key.rpartition("/")[2]

    def blocks(self, got: Any) -> Iterator[memoryview]:
        """Yield what an answer brings."""
        try:
            for block in got.stream(min_chunk_size=_BLOCK):
                if self._cut:
                    raise Passing("It was stopped.")
                yield memoryview(block)
        except (Passing, ColabMagicsError):
            raise
        except Exception as error:
            raise Passing(explain(error, f"downloading {self._address}").what) from error


class _Body:
    """What an answer brings."""

    def __init__(self, file: BucketFile, got: Any) -> None:
        self._blocks, self._left = file.blocks(got), memoryview(b"")

    def read_into(self, view: memoryview) -> int:
        """Fill a part of `view`; 0 at the end."""
        if not self._left:
            self._left = next(self._blocks, memoryview(b""))
        part, self._left = self._left[: len(view)], self._left[len(view) :]
        view[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """End it."""
        with suppress(Passing):
            self._blocks.close()  # type: ignore[attr-defined]
