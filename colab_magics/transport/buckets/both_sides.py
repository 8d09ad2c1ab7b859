"""A folder and the bucket that mirrors it: which files a pattern means on both sides, and how they compare.

A file here and an object there belong together when the file's path, from the folder, is the object's key.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from ... import foreign
from ...errors import InvalidInput
from ...ui import Table
from ...units import show_size, show_time
from ..gather import BY_MACHINES
from ..places.store import TEMPORARY
from .access import Address, etag_is_checksum, keys_below, odd
from .files import Head, head, same
from .requests import Found
from .settings import DOTENV

if TYPE_CHECKING:
    from .access import Store

SHOWN = 200
"""Rows that a table has; the others are counted."""
THREADS = 16
SAME_MOMENT = 1e-3
"""So close two times mean the same: a store may keep thousandths of a second."""
State = Literal["same", "newer here", "newer there", "only here", "only there"]
STATES: tuple[State, ...] = ("same", "newer here", "newer there", "only here", "only there")


class Here(NamedTuple):
    """A file here: bytes, and its time in seconds since the epoch."""

    size: int
    mtime: float


@dataclass(frozen=True)
class Pattern:
    """Which keys are meant; `*` crosses folders.

    ``Model/*`` means what is below ``Model/``, never ``Model2/x``. A name without ``*``, ``?`` and ``[`` means itself,
    and what is below the folder of that name.

    Parameters
    ----------
    text : str
        As the user wrote it, from the current folder.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read a pattern.

        Raises
        ------
        InvalidInput
            When it leads out of the folder.
        """
        plain = re.sub(r"^(\./+)+", "", text) or "*"
        plain = f"{plain.rstrip('/')}/*" if plain.endswith("/") else "*" if plain == "." else plain
        if plain.startswith(("/", "~")) or ".." in plain.split("/") or "//" in plain or "\0" in plain:
            raise InvalidInput(
                f"{text!r} leads out of the current folder, which the bucket mirrors.",
                "Write it as it is from here: 'Model/*'",
            )
        return cls(plain)

    @property
    def prefix(self) -> str:
        """The characters with which every key begins that is meant."""
        return re.split(r"[*?\[]", self.text, maxsplit=1)[0]

    @property
    def is_name(self) -> bool:
        """Whether it names one thing."""
        return self.prefix == self.text

    def means(self, key: str) -> bool:
        """Whether a key is meant."""
        return key == self.text or (
            key.startswith(f"{self.text}/") if self.is_name else fnmatch.fnmatchcase(key, self.text)
        )

    def __str__(self) -> str:
        return self.text


class Pair(NamedTuple):
    """A path on both sides."""

    key: str
    state: State
    here: Here | None = None
    there: Found | None = None


@dataclass(frozen=True)
class Sides:
    """What a pattern means on both sides.

    Parameters
    ----------
    address : Address
        The bucket.
    pairs : tuple of Pair
        By key.
    refused : tuple of (str, str)
        Keys there that can be no files here, and why.
    left : tuple of (str, str)
        Files here that do not go, and why.
    """

    address: Address
    pairs: tuple[Pair, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    left: tuple[tuple[str, str], ...] = ()

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def of(self, *states: State) -> list[Pair]:
        """Return the pairs of some states."""
        return [pair for pair in self.pairs if pair.state in states]

    def table(self, *, most: int = SHOWN, reasons: bool = True) -> Table:
        """Show both sides: what differs first, as far as there is room; and the files that are left out, and why."""
        ordered = sorted(self.pairs, key=lambda pair: pair.state == "same")
        rows = [
            [pair.key, pair.state, *_side(pair.here), *_side(pair.there and (pair.there.size, pair.there.modified))]
            for pair in ordered[:most]
        ]
        counts = {state: len(self.of(state)) for state in STATES}
        said = ", ".join(f"{number:,} {state}" for state, number in counts.items() if number)
        more = [f"… and {len(ordered) - most:,} more"] if len(ordered) > most else []
        why = [*named(self.refused, "refused"), *named(self.left, "stays here")] if reasons else []
        columns = ["file", "state", "size here", "time here", "size there", "came there"] if rows else []
        return Table(
            columns,
            rows,
            caption=f"{os.getcwd()} and {self.address}: {said or 'nothing matches on either side'}",
            notes=[*more, *why],
        )

    def __str__(self) -> str:
        return str(self.table())

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        self.table()._repr_pretty_(printer, cycle)

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _side(side: tuple[float, float] | None) -> list[str]:
    return [show_size(side[0]), show_time(side[1])] if side is not None else ["", ""]


def named(names: Iterable[tuple[str, str]], what: str, *, most: int = 10) -> list[str]:
    """Write lines about single names and why, no more than some."""
    listed = list(names)
    lines = [f"{what}: {name!r}: {why}" for name, why in listed[:most]]
    return [*lines, f"{what}: {len(listed) - most:,} more"] if len(listed) > most else lines


def look(
    root: Path,
    store: Store,
    address: Address,
    patterns: Sequence[Pattern],
    *,
    told: Callable[[int], None] = lambda number: None,
) -> Sides:
    """Look at both sides.

    Parameters
    ----------
    root : Path
        The folder that the bucket mirrors.
    store : obstore store
        See `buckets.connect`.
    address : Address
        The bucket.
    patterns : sequence of Pattern
        What is meant.
    told : callable
        Is told how many objects were listed.

    Returns
    -------
    Sides
        Content decides what is the same: the size, then the checksum (see `bucket_files.same`). Which side is newer is
        told by the files' times; where an object does not know its file's time, by when it came there.

    Raises
    ------
    ColabMagicsError
        What the store says, see `buckets.explain`.
    """
    local = Local()
    for pattern in patterns:
        local.gather(root, pattern)
    there: dict[str, Found] = {}
    refused: dict[str, str] = {}
    for found in _listed(store, address, patterns):
        told(len(there))
        if not any(one.means(found.key) for one in patterns):
            continue
        if found.key.endswith("/") and not found.size and not odd(found.key[:-1]):
            continue  # the mark of a folder, as consoles make them
        if why := odd(found.key) or unwanted(found.key, patterns) or blocked(root, found.key):
            refused[found.key] = why
        else:
            there[found.key] = found
    # A secret that stands on both sides must not look as if it were only there: it would be written over.
    here = {**{key: seen for key, seen in local.secret.items() if key in there}, **local.files}
    pairs = {key: Pair(key, "only here", seen) for key, seen in here.items() if key not in there}
    pairs |= {key: Pair(key, "only there", None, found) for key, found in there.items() if key not in here}
    both = [key for key in there if key in here]
    with ThreadPoolExecutor(THREADS) as pool:
        compared = pool.map(lambda key: _compare(root, store, key, here[key], there[key]), both)
        pairs |= {pair.key: pair for pair in compared}
    left = [(key, why) for key, why in local.left.items() if key not in local.files]
    return Sides(address, tuple(pairs[key] for key in sorted(pairs)), tuple(refused.items()), tuple(left))


def _listed(store: Store, address: Address, patterns: Sequence[Pattern]) -> Iterator[Found]:
    """Yield what the patterns may mean: one listing for each prefix that lies within no other."""
    prefixes = {f"{pattern.text}/" if pattern.is_name else pattern.prefix for pattern in patterns}
    wide: list[str] = []
    for prefix in sorted(prefixes):
        if not wide or not prefix.startswith(wide[-1]):
            wide.append(prefix)
            yield from keys_below(store, address, prefix)
    for pattern in patterns:
        if pattern.is_name:
            # The key itself is the first of those that begin with it; Model2/… has not to be listed for Model.
            yield from (
                found for found in keys_below(store, address, pattern.text, most=1) if found.key == pattern.text
            )


def _compare(root: Path, store: Store, key: str, here: Here, there: Found) -> Pair:
    try:
        known = head_once(store, key)
        if same(root / key, there.size, there.etag, known, lambda: etag_is_checksum(store, key)):
            return Pair(key, "same", here, there)
    except FileNotFoundError:  # it has gone meanwhile
        return Pair(key, "only there", None, there)
    seen = known()
    time_there = there.modified if seen is None or seen.mtime is None else seen.mtime
    return Pair(key, "newer there" if time_there > here.mtime + SAME_MOMENT else "newer here", here, there)


def head_once(store: Store, key: str) -> Callable[[], Head | None]:
    """Return a function that looks at an object when it is called first, and remembers."""
    return functools.cache(lambda: head(store, key))


def unwanted(key: str, patterns: Sequence[Pattern] = ()) -> str:
    """Return why an object must not become a file here; empty when it may."""
    parts = [part.lower() for part in key.split("/")]
    if ".git" in parts:
        return "what stands in .git is executed here"
    if any(part.startswith(TEMPORARY) for part in parts):
        return "it is a file of ours that was still coming"
    if parts[-1] == DOTENV and key not in [pattern.text for pattern in patterns]:
        return "it would say where this bucket is; name it itself if you mean it"
    return ""


def blocked(root: Path, key: str) -> str:
    """Return why a key has no place below a folder: a link or a file stands in its way; empty when it has."""
    path = root
    *above, last = key.split("/")
    for part in above:
        path = path / part
        if path.is_symlink():
            return f"{part} is a link here"
        if path.exists() and not path.is_dir():
            return f"{part} is a file here"
    path = path / last
    if path.is_symlink():
        return "a link stands here"
    return "" if not path.exists() or path.is_file() else "a folder, or no plain file, stands here"


@dataclass
class Local:
    """Files here: those that are meant, and those that are and do not go."""

    files: dict[str, Here] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    secret: dict[str, Here] = field(default_factory=dict)

    def gather(self, root: Path, pattern: Pattern) -> None:
        """Add the files that a pattern means; a secret goes when it is named itself, never with its folder."""
        start = pattern.text if pattern.is_name else pattern.prefix.rpartition("/")[0]
        if (root / start).is_dir() and not (root / start).is_symlink():
            self._below(root, start, pattern)
        elif start:
            self._add(root, start, pattern)

    def _below(self, root: Path, folder: str, pattern: Pattern) -> None:
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            self.left[folder or "."] = error.strerror or "it cannot be read"
            return
        for entry in entries:
            key = f"{folder}/{entry.name}" if folder else entry.name
            if not entry.is_dir(follow_symlinks=False):
                self._add(root, key, pattern)
            elif entry.name not in BY_MACHINES:
                self._below(root, key, pattern)

    def _add(self, root: Path, key: str, pattern: Pattern) -> None:
        if not pattern.means(key) or os.path.basename(key).startswith(TEMPORARY):
            return
        try:
            seen = os.lstat(root / key)
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISLNK(seen.st_mode):
            self.left[key] = "it is a link"
        elif not stat.S_ISREG(seen.st_mode):
            self.left[key] = "it is no plain file"
        elif why := odd(key):
            self.left[key] = why
        elif foreign.looks_secret(key) and key != pattern.text:
            self.left[key] = "it looks like a secret; name it itself if you mean it"
            self.secret[key] = Here(seen.st_size, seen.st_mtime_ns / 1e9)
        else:
            self.files[key] = Here(seen.st_size, seen.st_mtime_ns / 1e9)
            self.left.pop(key, None)
