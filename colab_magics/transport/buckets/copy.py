"""Many files to a bucket and from it, several at once; each arrives as a whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ColabMagicsError, CommandFailed, InvalidInput
from ...ui import Table
from ...units import show_size
from ..bulk import Progress, Tell
from ..gather import below
from .both_sides import Pair, blocked, named
from .files import PART, Count, get_file, put_file

if TYPE_CHECKING:
    from .access import Store

AT_ONCE = 24
"""Files that travel at once."""
LARGE_AT_ONCE = 2
"""Of those that go in parts, each of which holds several parts in memory."""
_HOPELESS = 8
"""So many failures without one success: what is wrong is not a file."""
_SHOWN = 5
_LOOK_SECONDS = 0.05


class _Stopped(Exception):
    """The user has interrupted."""


@dataclass
class Copied:
    """What a copy has done.

    Parameters
    ----------
    done : list of str
        What was copied.
    size : int
        Its bytes.
    same, newer : list of str
        What is the same on both sides; what is newer on the other side, and stays.
    failed : list of (str, str)
        What was not copied, and why.
    """

    done: list[str] = field(default_factory=list)
    size: int = 0
    same: list[str] = field(default_factory=list)
    newer: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def table(self, where: str, notes: Sequence[str] = (), *, to_there: bool, dry: bool = False) -> Table:
        """Say it in a few lines."""
        number = f"{len(self.done):,} file{'s' if len(self.done) != 1 else ''}, {show_size(self.size)}"
        newer = f"newer {'there' if to_there else 'here'}, and stays so (--force copies over it)"
        said = (("would go", self.done if dry else []), ("the same already, skipped", self.same), (newer, self.newer))
        lines = [f"{text}: {_few(names)}" for text, names in said if names]
        head = f"Nothing was done (--dry-run). {number} would go {where}" if dry else f"{number} {where}"
        return Table([], [], caption=head, notes=[*lines, *notes])

    def error(self, where: str) -> ColabMagicsError | None:
        """Return the error when something was not copied."""
        if not self.failed:
            return None
        lines = "\n".join(named(self.failed, "not copied"))
        return CommandFailed(
            f"{len(self.failed):,} of {len(self.done) + len(self.failed):,} files did not go {where}.\n{lines}",
            "What arrived is whole. Mend that, then say it again: what is the same already is skipped.",
        )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def wanted(pairs: Sequence[Pair], *, to_there: bool, force: bool) -> tuple[list[Pair], Copied]:
    """Choose what is copied, and note what is not: what is the same, and what is newer on the other side."""
    go: list[Pair] = []
    kept = Copied()
    other = "newer there" if to_there else "newer here"
    for pair in pairs:
        if (pair.here if to_there else pair.there) is None:
            continue
        if pair.state == "same":
            kept.same.append(pair.key)
        elif pair.state == other and not force:
            kept.newer.append(pair.key)
        else:
            go.append(pair)
    return go, kept


def size_of(pairs: Sequence[Pair], *, to_there: bool) -> int:
    """Return how many bytes have to travel."""
    sides = (pair.here if to_there else pair.there for pair in pairs)
    return sum(side.size for side in sides if side is not None)


def put(store: Store, root: Path, pairs: Sequence[Pair], *, tell: Tell) -> Copied:
    """Copy files to a bucket; see `get`."""

    # A folder on the way may have become a link; of the file itself, `put_file` sees that it is none.
    within = functools.cache(lambda folder: below(root, folder or "."))

    def one(pair: Pair, count: Count) -> None:
        within(os.path.dirname(pair.key))
        put_file(store, pair.key, root / pair.key, count=count)

    return _copy(pairs, one, tell, size_of(pairs, to_there=True), to_there=True)


def get(store: Store, root: Path, pairs: Sequence[Pair], *, tell: Tell) -> Copied:
    """Copy objects of a bucket to files here.

    Parameters
    ----------
    store : obstore store
        See `buckets.connect`.
    root : Path
        The folder that the bucket mirrors.
    pairs : sequence of Pair
        What goes.
    tell : callable
        Is told how far it is.

    Returns
    -------
    Copied
        What went; what did not, and why. The others go on.
    """

    def one(pair: Pair, count: Count) -> None:
        target = root / pair.key
        target.parent.mkdir(parents=True, exist_ok=True)
        if why := blocked(root, pair.key):
            raise InvalidInput(why, "Move it away.")
        if pair.here is None and os.path.lexists(target):
            raise InvalidInput("it has appeared here meanwhile", "Say it again.")
        get_file(store, pair.key, target, count=count)

    return _copy(pairs, one, tell, size_of(pairs, to_there=False), to_there=False)


def _copy(
    pairs: Sequence[Pair], one: Callable[[Pair, Count], None], tell: Tell, whole: int, *, to_there: bool
) -> Copied:
    stop, few, lock = threading.Event(), threading.Semaphore(LARGE_AT_ONCE), threading.Lock()
    began, moved, result = time.monotonic(), 0, Copied()

    def count(size: int) -> None:
        nonlocal moved
        if stop.is_set():
            raise _Stopped
        with lock:
            moved += size

    def job(pair: Pair) -> int:
        side = pair.here if to_there else pair.there
        size = side.size if side is not None else 0
        if size <= PART:
            count(0)
            one(pair, count)
        else:
            with few:
                count(0)
                one(pair, count)
        return size

    # Large ones first: the last file decides when all is done.
    ordered = sorted(
        pairs, key=lambda pair: -max(pair.here.size if pair.here else 0, pair.there.size if pair.there else 0)
    )
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="colab_magics-bucket") as pool:
        left: dict[Future[int], Pair] = {}
        ended: queue.SimpleQueue[Future[int]] = queue.SimpleQueue()
        all_ended = threading.Event()

        def has_ended(future: Future[int]) -> None:
            ended.put(future)
            if ended.qsize() >= len(left):
                all_ended.set()

        try:
            for pair in ordered:
                left[pool.submit(job, pair)] = pair
            for future in list(left):
                future.add_done_callback(has_ended)
            while left:
                all_ended.wait(_LOOK_SECONDS)  # to wake for each file would take from the threads what they need
                with contextlib.suppress(queue.Empty):
                    while left:
                        future = ended.get_nowait()
                        _note(result, left.pop(future), future)
                if len(result.failed) >= _HOPELESS and not result.done:
                    break
                rate = moved / max(time.monotonic() - began, 1e-3)
                tell(Progress(moved, round(100 * moved / max(whole, 1)), f"{show_size(rate)}/s"))
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    result.failed += [(pair.key, "not tried: nothing went so far") for pair in left.values()]
    result.failed.sort()
    result.done.sort()
    return result


def _note(result: Copied, pair: Pair, future: Future[int]) -> None:
    try:
        result.size += future.result()
    except ColabMagicsError as error:
        result.failed.append((pair.key, error.what))
    except OSError as error:
        result.failed.append((pair.key, error.strerror or str(error)))
    else:
        result.done.append(pair.key)
