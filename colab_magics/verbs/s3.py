"""``%s3``: the bucket that mirrors the current folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import session
from ..errors import InvalidInput, NotFound
from . import call_only, subcommand

if TYPE_CHECKING:
    from ..transport.buckets.access import Address, Store
    from ..transport.buckets.both_sides import Pair, Pattern, Sides
    from ..ui import Table

_FIRST = 30
"""Rows that are shown before files are copied."""
_CHOICES = ("delete (local)", "remove (S3)", "download", "upload", "exit")


@call_only("yes", "force")
def s3(*patterns: str, yes: bool = False, force: bool = False) -> Table:
    """Show what a pattern means here and in the bucket, and ask what is to be done with it.

    The bucket mirrors the current folder: ``Model/a.pt`` here is ``Model/a.pt`` there. Which bucket it is, and with
    whose keys, say the environment, the project's ``.env`` (S3_BUCKET_NAME, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    S3_ENDPOINT_URL) and ``~/.aws``, in this order; or write ``s3://BUCKET/PATTERN``, ``gs://BUCKET/PATTERN``. A
    ``.env`` that git tracks counts only after ``%trust``.

    Parameters
    ----------
    *patterns : str
        ``'Model/*'``: ``*`` crosses folders, ``?`` is one character, ``[ab]`` one of these. A name alone means that
        file, or all that is below that folder. Quote it in a shell.
    yes : bool, default False
        Do not ask again before something is removed.
    force : bool, default False
        Copy also over what is newer on the other side.

    Returns
    -------
    Table
        What was done.

    Raises
    ------
    Unavailable
        When there are no keys, or the server does not answer or refuses. "May not" is never taken for "absent".
    """
    from ..ui import Table

    with _opened(patterns, "s3 'Model/*'") as (work, sides):
        ui = session.current().ui
        local = [pair for pair in sides if pair.here]
        ui.say(_names(f"Here, in {work.root}", [(pair.key, pair.here.size) for pair in local if pair.here]))
        there = [(pair.key, pair.there.size) for pair in sides if pair.there]
        ui.say(_names(f"There, in {work.address}", there))
        chosen = ui.choose("What now?", _CHOICES) if sides.pairs else ""
        if chosen == "delete (local)":
            return work.delete(sides, yes=yes, dry_run=False)
        if chosen == "remove (S3)":
            return work.remove(sides, yes=yes, dry_run=False)
        if chosen in ("download", "upload"):
            return work.copy(sides, to_there=chosen == "upload", force=force, dry_run=False)
        words = "%s3 get brings it here, put brings it there; rm removes it there, delete removes it here; ls compares."
        return Table([], [], caption="Nothing was done.", notes=[*sides.table().notes, *([] if chosen else [words])])


@subcommand(s3)
def ls(*patterns: str) -> Sides:
    """List both sides: what is the same, newer here or there, only here or only there.

    Content decides what is the same (size, then checksum); files' times decide which is newer.

    Parameters
    ----------
    *patterns : str
        See ``%s3``; everything by default.

    Returns
    -------
    Sides
        Shows itself as a table; ``for pair in x`` yields ``key``, ``state``, ``here``, ``there``.
    """
    with _opened(patterns or ("*",), "") as (_, sides):
        return sides


@subcommand(s3)
@call_only("force")
def get(*patterns: str, force: bool = False, dry_run: bool = False) -> Table:
    """Download: files come to the same path here, with their times; folders are made.

    Both sides are shown first. What is the same already is skipped and named; what is newer here stays. Keys that can
    be no files here (``../``, control characters) are refused one by one; nothing is ever half there.

    Parameters
    ----------
    *patterns : str
        See ``%s3``.
    force : bool, default False
        Copy also over what is newer here.
    dry_run : bool, default False
        Only show what would be done.

    Returns
    -------
    Table
        What came, and what did not.

    Raises
    ------
    CommandFailed
        When some did not come, and why; the others are here.
    """
    with _opened(patterns, "s3 get 'Model/*'") as (work, sides):
        return work.copy(sides, to_there=False, force=force, dry_run=dry_run, show=True)


@subcommand(s3)
@call_only("force")
def put(*patterns: str, force: bool = False, dry_run: bool = False) -> Table:
    """Upload: files go to the same path there, with their times.

    Both sides are shown first. What is the same already is skipped and named; what is newer there stays. Secrets
    (``.env``, keys) go only when you name them themselves, links never.

    Parameters
    ----------
    *patterns : str
        See ``%s3``.
    force : bool, default False
        Copy also over what is newer there.
    dry_run : bool, default False
        Only show what would be done.

    Returns
    -------
    Table
        What went, and what did not.

    Raises
    ------
    CommandFailed
        When some did not go, and why; the others are there.
    """
    with _opened(patterns, "s3 put 'Model/*'") as (work, sides):
        return work.copy(sides, to_there=True, force=force, dry_run=dry_run, show=True)


@subcommand(s3)
@call_only("yes")
def rm(*patterns: str, yes: bool = False, dry_run: bool = False) -> Table:
    """Remove from the bucket; lists and asks first. Files here stay (``%s3 delete`` deletes those).

    Parameters
    ----------
    *patterns : str
        See ``%s3``; what is below a folder is written ``Model/`` or ``'Model/*'`` here.
    yes : bool, default False
        Do not ask.
    dry_run : bool, default False
        Only show what would be removed.

    Returns
    -------
    Table
        What was removed.

    Raises
    ------
    CommandFailed
        When some are still there, and why.
    """
    with _opened(patterns, "s3 rm 'Model/*'", removes=True) as (work, sides):
        return work.remove(sides, yes=yes, dry_run=dry_run)


@subcommand(s3)
@call_only("yes")
def delete(*patterns: str, yes: bool = False, dry_run: bool = False) -> Table:
    """Delete files here, and folders that are empty then; lists and asks first. The bucket stays as it is.

    The list says of each file whether the bucket has it.

    Parameters
    ----------
    *patterns : str
        See ``%s3 rm``.
    yes : bool, default False
        Do not ask.
    dry_run : bool, default False
        Only show what would be deleted.

    Returns
    -------
    Table
        What was deleted.
    """
    with _opened(patterns, "s3 delete 'Model/*'", removes=True) as (work, sides):
        return work.delete(sides, yes=yes, dry_run=dry_run)


class _Work:
    """A folder and its bucket, for one call."""

    def __init__(self, root: Path, address: Address, store: Store) -> None:
        self.root, self.address, self.store = root, address, store

    def copy(self, sides: Sides, *, to_there: bool, force: bool, dry_run: bool, show: bool = False) -> Table:
        """Copy what differs to one side."""
        from ..transport import bulk
        from ..transport.buckets import copy as bucket_copy
        from ..transport.buckets.both_sides import named

        ui, left = session.current().ui, {name for name, _ in sides.left}
        if show:
            ui.say(str(sides.table(most=_FIRST, reasons=False)))
        pairs = [pair for pair in sides if not (to_there and pair.key in left)]
        notes = named(sides.left, "stays here") if to_there else named(sides.refused, "refused")
        if not any(pair.here if to_there else pair.there for pair in pairs) and not notes:
            raise NotFound(f"Nothing {'here' if to_there else f'in {self.address}'} matches.", "Look: %s3 ls")
        go, kept = bucket_copy.wanted(pairs, to_there=to_there, force=force)
        where = f"to {self.address}" if to_there else f"from {self.address}"
        if dry_run:
            kept.done, kept.size = [pair.key for pair in go], bucket_copy.size_of(go, to_there=to_there)
            return kept.table(where, notes, to_there=to_there, dry=True)
        move = bucket_copy.put if to_there else bucket_copy.get
        with bulk.shown(ui, f"copying {where}") as tell:
            done = move(self.store, self.root, go, tell=tell)
        done.same, done.newer = kept.same, kept.newer
        if (error := done.error(where)) is not None:
            raise error
        return done.table(where, notes, to_there=to_there)

    def remove(self, sides: Sides, *, yes: bool, dry_run: bool) -> Table:
        """Remove objects, after a yes."""
        from ..transport import bulk
        from ..transport.buckets import remove as bucket_remove

        sides = replace(sides, left=())
        doomed = [pair for pair in sides if pair.there]
        if nothing := self._refuses(doomed, sides, f"from {self.address}", yes=yes, dry_run=dry_run):
            return nothing
        with bulk.shown(session.current().ui, f"removing from {self.address}") as tell:
            gone = bucket_remove.remove_there(self.store, self.address, doomed, tell=tell)
        if (error := gone.error(f"from {self.address}")) is not None:
            raise error
        return gone.table(f"from {self.address}")

    def delete(self, sides: Sides, *, yes: bool, dry_run: bool) -> Table:
        """Delete files here, after a yes."""
        from ..transport.buckets import remove as bucket_remove

        left = {name for name, _ in sides.left}
        doomed = [pair for pair in sides if pair.here and pair.key not in left]
        if nothing := self._refuses(doomed, sides, f"here, in {self.root}", yes=yes, dry_run=dry_run):
            return nothing
        with session.current().ui.progress("deleting files"):
            gone = bucket_remove.delete_here(self.root, doomed)
        if (error := gone.error("here")) is not None:
            raise error
        return gone.table("here")

    def _refuses(self, doomed: Sequence[Pair], sides: Sides, where: str, *, yes: bool, dry_run: bool) -> Table | None:
        """Show what would be removed and ask; returns what to show when nothing is to be removed."""
        from ..ui import Table

        ui = session.current().ui
        if not doomed:
            return Table([], [], caption=f"Nothing matches {where}; nothing was removed.", notes=sides.table().notes)
        shown = replace(sides, pairs=tuple(doomed)).table()
        what = f"{len(doomed):,} file{'s' if len(doomed) != 1 else ''} {where}"
        if dry_run:
            return Table(shown.columns, shown.rows, caption=f"Would be removed: {what} (--dry-run)", notes=shown.notes)
        if not yes:
            ui.say(str(Table(shown.columns, shown.rows, caption=f"To be removed: {what}", notes=shown.notes)))
            if not ui.ask(f"Remove {what}, for good?"):
                return Table([], [], caption="Nothing was removed.", notes=["--yes removes without asking."])
        return None


@contextmanager
def _opened(patterns: Sequence[str], example: str, *, removes: bool = False) -> Iterator[tuple[_Work, Sides]]:
    """Open the bucket that the patterns name and look at both sides."""
    from ..checkout.dotenv import consent
    from ..transport.buckets import access, both_sides

    here, root = session.current(), Path.cwd()
    if not patterns:
        raise InvalidInput("Which files?", f"Write %{example}")
    found = access.settings(root, consent=consent, warn=here.warn_once)
    address, meant = _meant(patterns, found)
    store = access.connect(address, given=found)
    with here.ui.progress(f"looking at {address}"):
        sides = both_sides.look(root, store, address, meant)
    if removes:
        _refuse_folders(sides, meant)
    yield _Work(root, address, store), sides


def _meant(patterns: Sequence[str], found: Mapping[str, str]) -> tuple[Address, list[Pattern]]:
    """Return the bucket, and the patterns in it.

    Raises
    ------
    InvalidInput
        When no bucket is named, or more than one.
    """
    from ..transport.buckets.access import Address
    from ..transport.buckets.both_sides import Pattern
    from ..transport.buckets.settings import BUCKET

    addresses, meant = [], []
    for text in patterns:
        scheme, mark, rest = text.partition("://")
        if mark:
            bucket, _, text = rest.partition("/")
            addresses.append(Address.parse(f"{scheme}://{bucket}"))
        else:
            name = found.get(BUCKET, "")
            if not name:
                raise InvalidInput(
                    f"Which bucket? {BUCKET} is set neither in the environment nor in .env.",
                    f"Set it, or write s3://BUCKET/{text}",
                )
            addresses.append(Address.parse(name if "://" in name else f"s3://{name}"))
        meant.append(Pattern.parse(text))
    if len(set(addresses)) > 1:
        raise InvalidInput("One call is about one bucket.", "Say it once for each.")
    return addresses[0], meant


def _refuse_folders(sides: Sides, meant: Sequence[Pattern]) -> None:
    """Refuse a folder's bare name where something is removed: a slip would take everything below it."""
    for pattern in meant:
        if pattern.is_name and any(pair.key != pattern.text and pattern.means(pair.key) for pair in sides):
            raise InvalidInput(f"{pattern} is a folder.", f"Write '{pattern}/*' if you mean all that is below it.")


def _names(caption: str, files: Sequence[tuple[str, int]]) -> str:
    """List the files of one side."""
    from ..transport.buckets.both_sides import SHOWN
    from ..ui import Table
    from ..units import show_size

    rows = [[name, show_size(size)] for name, size in files[:SHOWN]]
    more = [f"… and {len(files) - SHOWN:,} more"] if len(files) > SHOWN else []
    number = f"{len(files):,} file{'s' if len(files) != 1 else ''}"
    return str(Table(["file", "size"] if rows else [], rows, caption=f"{caption}: {number}", notes=more))
