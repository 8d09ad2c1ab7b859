"""rsync, for what it does best: bulk restores, other machines, and comparing. Always over a list of files."""

from __future__ import annotations

import calendar
import os
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .. import process
from ..errors import CommandFailed
from ..transport.places import Hand, Opened, Place
from .patterns import INCOMING, OURS, THERE

LIGHT = "10m"
"""Files above this size are left out of a light restore."""

VANISHED = 24
"""rsync's status when files went away while it read them: no error for a folder that is being worked in."""

_LISTING = re.compile(r"^([<>ch.*][fdLDS][^|]{9}|\*deleting  |\*\w+ *)\|(\d+)\|([^|]*)\|(.*)$")


class There(NamedTuple):
    """A file in a listing: whether both sides hold it alike, whether only one does, and its looks."""

    name: str
    alike: bool
    new: bool
    size: int
    mtime: float


def listing(
    place: Place,
    opened: Opened,
    folder: Path,
    *,
    exclude: Iterable[str] = (),
    light: bool = False,
    fetch: bool = True,
    names: Iterable[str] | None = None,
    folders: list[str] | None = None,
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
    folders : list of str, optional
        Takes up the folders that only the side has which is listed.

    Returns
    -------
    list of There
        Files and links.
    """
    flags = ["-rtn", "-ii", "--modify-window=1", "--out-format=%i|%l|%M|%n", *_light(light)]
    listed = None
    if names is not None:
        flags += ["--files-from=-", "--from0"]
        listed = _list(names)
    hidden = [*OURS, *(THERE if fetch else ()), *exclude]
    done = _rsync([*flags, *_comparing(place)], hidden, folder, opened, fetch=fetch, listed=listed)
    found = []
    for line in done.split("\n"):
        match = _LISTING.match(line)
        what = match[1] if match else ""
        if match and folders is not None and what.startswith("cd+"):
            folders.append(_unescape(match[4]).rstrip("/"))
        if match is None or what[1:2] not in ("f", "L"):
            continue
        # Modes and owners are not compared (no -p): only size, time and content count.
        alike = "+" not in what and what[2] in (".", " ") and what[3] in (".", " ") and what[4] in (".", " ")
        found.append(There(_unescape(match[4]), alike, "+" in what, int(match[2]), _seconds(match[3])))
    return found


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
    common = ["-tI", "--omit-dir-times", "--whole-file", *place.rsync_options, *flags]
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
    common = ["-rtI", "--omit-dir-times", "--copy-dest=..", *place.rsync_options, *flags]
    staged = opened._replace(target=f"{opened.target}/{INCOMING}")
    _rsync([*common, "--files-from=-", "--from0"], (), source, staged, fetch=False, listed=_list(names))


def fetch(place: Place, into: Path, *, expected: str | None, names: Sequence[str] | None) -> int:
    """Fetch a folder of a Place, one way; returns how many files were copied; see `control.fetch`."""
    into.mkdir(parents=True, exist_ok=True)
    with place.opened(expected) as opened:
        if not place.names():
            return 0
        found = listing(place, opened, into, names=names)
        wanted = [one.name for one in found if not one.alike and (one.new or _is_newer(one, into))]
        pull(place, opened, into, wanted)
        return len(wanted)


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
