"""rsync, for what it does best: bulk restores, other machines, and comparing. Always over a list of files."""

from __future__ import annotations

import calendar
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .. import process
from ..errors import CommandFailed, Unavailable
from ..transport.places import PRIVATE, Hand, Opened, Place
from . import notices
from .patterns import INCOMING, OURS, THERE

LIGHT = "10m"
"""Files above this size are left out of a light restore."""

VANISHED = 24
"""rsync's status when files went away while it read them: no error for a folder that is being worked in."""

SAFE = ("--safe-links", "--no-implied-dirs", "--chmod=ugo-s,o-t,go-w")
"""For what comes from a Place: no link that leads out, no right that others or programs could use; no folder that is
here gets other rights."""

_LISTING = re.compile(r"^([<>ch.*][fdLDS][^|]{9}|\*deleting  |\*\w+ *)\|(\d+)\|([^|]*)\|([^|]*)\|(.*)$")


class There(NamedTuple):
    """A file in a listing: whether both sides hold it alike, whether only one does, and its looks."""

    name: str
    alike: bool
    new: bool
    size: int
    mtime: float
    link: bool = False


def listing(
    place: Place,
    opened: Opened,
    folder: Path,
    *,
    exclude: Iterable[str] = (),
    light: bool = False,
    fetch: bool = True,
    names: Iterable[str] | None = None,
    folders: dict[str, int] | None = None,
    safe: bool = False,
) -> list[There]:
    """Compare a folder with a Place, by size and time, and change nothing.

    Parameters
    ----------
    place, opened : Place, Opened
        The Place.
    folder : Path
        The folder here.
    exclude : iterable of str
        Patterns that are left out.
    light : bool, default False
        Leave big files out.
    fetch : bool, default True
        List what is there; otherwise what is here.
    names : iterable of str, optional
        Compare only these files and folders.
    folders : dict of str to int, optional
        Takes up the folders that only the side has which is listed, and their modes.
    safe : bool, default False
        Leave out links that lead out of the folder.

    Returns
    -------
    list of There
        Files and links.

    Raises
    ------
    Unavailable
        When the other side names what would lie outside of the folder.
    """
    flags = ["-rtn", "-ii", "--modify-window=1", "--out-format=%i|%l|%M|%B|%n", *_light(light)]
    flags += ["--safe-links"] * safe
    listed = None
    if names is not None:
        flags += ["--files-from=-", "--from0"]
        listed = _list(names)
    hidden = [*OURS, *(THERE if fetch else ()), *exclude]
    done = _rsync([*flags, *_comparing(place)], hidden, folder, opened, fetch=fetch, listed=listed)
    found = []
    for line in done.split("\n"):
        match = _LISTING.match(line)
        if match is None or (what := match[1])[1:2] not in ("f", "L", "d"):
            continue
        name = _within(_unescape(match[5]), place)
        if what[1] == "d":
            if folders is not None and what.startswith("cd+"):
                folders[name] = _mode(match[4])
            continue
        # Modes and owners are not compared (no -p): only size, time and content count.
        alike = "+" not in what and what[2] in (".", " ") and what[3] in (".", " ") and what[4] in (".", " ")
        found.append(There(name, alike, "+" in what, int(match[2]), _seconds(match[3]), what[1] == "L"))
    return found


def leading_out(place: Place, opened: Opened, folder: Path, found: Iterable[There]) -> set[str]:
    """Return those of the links at a Place that lead out of it, or name a path from the root."""
    links = {one.name for one in found if one.link}
    if not links:
        return set()
    return links - {one.name for one in listing(place, opened, folder, names=links, safe=True)}


def make_folders(into: Path, folders: Mapping[str, int], place: Place) -> None:
    """Make the folders that a listing found, never through a link, with no more rights than they have there."""
    for name, mode in sorted(folders.items()):
        if not behind_links(into, [name]):
            with suppress(FileExistsError, NotADirectoryError):
                os.makedirs(into / name, mode & 0o755 | PRIVATE if place.keeps_links else 0o777)


def behind_links(folder: Path, names: Iterable[str]) -> set[str]:
    """Return those of the names that a link here, in place of a folder above them, leads elsewhere."""
    top, names = os.path.realpath(folder), list(names)
    parents = {os.path.dirname(name) for name in names}
    led = {one for one in parents if os.path.realpath(folder / one) != os.path.normpath(os.path.join(top, one))}
    return {name for name in names if os.path.dirname(name) in led}


def drop_outward(into: Path, fetched: Iterable[There]) -> list[str]:
    """Take away links that lead out of the folder through other links: rsync reads the text of each alone."""
    top, dropped = os.path.realpath(into), []
    for one in fetched:
        path = into / one.name
        if one.link and path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(top):
            path.unlink()
            dropped.append(one.name)
    return dropped


def pull(place: Place, opened: Opened, into: Path, names: Sequence[str], *, flags: Sequence[str] = ()) -> None:
    """Fetch files; deletes nothing.

    Parameters
    ----------
    place, opened : Place, Opened
        The Place.
    into : Path
        The folder here.
    names : sequence of str
        What to fetch.
    flags : sequence of str
        Further flags of the user's.

    Raises
    ------
    CommandFailed
        When rsync failed.
    """
    if not names:
        return
    common = ["-tIS", "--omit-dir-times", "--whole-file", *place.rsync_options, *SAFE, *flags]
    _rsync([*common, "--files-from=-", "--from0"], (), into, opened, fetch=True, listed=_list(names))


def push(place: Place, opened: Opened, source: Path, names: Sequence[str], *, flags: Sequence[str] = ()) -> None:
    """Send files to a folder beside the Place's own, where nobody takes them for the real ones yet.

    Parts of what is there already are used, so that a big file of which little changed costs little.

    Parameters
    ----------
    place, opened : Place, Opened
        The Place.
    source : Path
        The folder here.
    names : sequence of str
        Files.
    flags : sequence of str
        Further flags of the user's.

    Raises
    ------
    CommandFailed
        When rsync failed.
    """
    # Out of a folder that its owner may not write nothing could be renamed.
    common = ["-rtIS", "--omit-dir-times", "--copy-dest=..", "--chmod=Du+rwx", *place.rsync_options, *flags]
    staged = opened._replace(target=f"{opened.target}/{INCOMING}")
    _rsync([*common, "--files-from=-", "--from0"], (), source, staged, fetch=False, listed=_list(names))


def fetch(
    place: Place, into: Path, *, expected: str | None, names: Sequence[str] | None, warn: Callable[[str], None]
) -> int:
    """Fetch a folder of a Place, one way; returns how many files were copied; see `control.fetch`."""
    into.mkdir(parents=True, exist_ok=True)
    folders: dict[str, int] = {}
    with place.opened(expected) as opened:
        if not place.names():
            return 0
        found = listing(place, opened, into, names=names, folders=folders)
        wanted = [one for one in found if not one.alike and (one.new or _is_newer(one, into))]
        outward = leading_out(place, opened, into, wanted) | behind_links(into, [one.name for one in wanted])
        wanted = [one for one in wanted if one.name not in outward]
        make_folders(into, folders, place)
        pull(place, opened, into, [one.name for one in wanted])
        if lost := sorted([*outward, *drop_outward(into, wanted)]):
            warn(f"Not fetched from {place}, as links lead out of the folder: {notices.some(lost, len(lost))}.")
        return len(wanted)


def _within(name: str, place: Place) -> str:
    """Return a name that the other side sent, when it lies in the folder; rsync itself would send no other."""
    plain = name.rstrip("/")
    if plain != "." and not set(plain.split("/")).isdisjoint({"", ".", ".."}):
        raise Unavailable(f"{place} names {name!r}, which lies outside of it: nothing is fetched.", "Look at it there.")
    return plain


def _mode(letters: str) -> int:
    """Read rsync's ``%B``."""
    return sum(
        bit for bit, letter in zip((256, 128, 64, 32, 16, 8, 4, 2, 1), letters, strict=False) if letter in "rwxst"
    )


def _is_newer(one: There, into: Path) -> bool:
    try:
        return one.mtime > os.lstat(into / one.name).st_mtime
    except OSError:
        return True


def _light(light: bool) -> list[str]:
    return [f"--max-size={LIGHT}"] if light else []


def _comparing(place: Place) -> list[str]:
    """Return the Place's options without those that would compare modes."""
    return [flag for flag in place.rsync_options if flag != "-p"]


def _list(names: Iterable[str]) -> bytes:
    return b"".join(b"./" + os.fsencode(name) + b"\0" for name in names)


def _seconds(text: str) -> float:
    """Read rsync's ``%M``, which is written in UTC for us."""
    try:
        return float(calendar.timegm(time.strptime(text, "%Y/%m/%d-%H:%M:%S")))
    except ValueError:
        return 0.0


def _unescape(name: str) -> str:
    r"""Read a name as rsync writes it with ``-8``: control characters, and a backslash before such, as ``\#012``."""
    raw = os.fsencode(name)
    return os.fsdecode(re.sub(rb"\\#([0-7]{3})", lambda match: bytes([int(match[1], 8)]), raw))


def _rsync(
    flags: Sequence[str],
    exclude: Iterable[str],
    here: Path,
    opened: Opened,
    *,
    fetch: bool,
    listed: bytes | None = None,
) -> str:
    there, mine = f"{opened.target}/", f"{here}/"
    command = [
        *("rsync", "-8", *(f"--exclude={pattern}" for pattern in exclude), *flags, "--no-human-readable"),
        *("--", *((there, mine) if fetch else (mine, there))),
    ]
    try:
        # The C locale: messages that can be read, and names as bytes, whatever they are.
        done = process.run_raw(
            command, cwd=opened.cwd, env={"LC_ALL": "C", "TZ": "UTC"}, input=listed, ok=(0, VANISHED)
        )
    except CommandFailed as error:
        raise explain(error) from error
    return os.fsdecode(done)


def explain(error: CommandFailed) -> CommandFailed:
    """Shorten rsync's words to those that tell what happened."""
    lines = [line.strip() for line in error.output.splitlines() if line.strip()]
    causes = [line for line in lines if re.match(r"rsync: |ssh: ", line) and "[generator] write error" not in line]
    told = causes or [line for line in lines if "rsync error" in line] or lines
    rest = f" … and {len(told) - 3} more" if len(told) > 3 else ""
    mend = "Free some space there." if "No space left" in error.output or "quota" in error.output.lower() else ""
    text = "\n".join(told[:3]) or f"rsync ended with status {error.returncode}"
    return CommandFailed(text + rest, mend, returncode=error.returncode, output=error.output)


def sweep(hand: Hand, names: Sequence[str]) -> None:
    """Take away what a push left that did not end."""
    hand.erase([f"{INCOMING}/{name}" for name in names])
