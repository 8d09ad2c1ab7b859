"""One transfer by rsync, to a Place or from it.

Files are replaced by rename (rsync's default): a reader at the destination sees the old file or the new one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .. import process
from ..errors import CommandFailed
from ..transport.places import SENTINEL, Opened, Place
from .guard import split_flags
from .state import Config

LIGHT = "10m"
"""Files above this size are left out of a light restore."""

VANISHED = 24
"""rsync's status when files went away while it read them: no error for a folder that is being worked in."""

_OURS = [
    # Protected also from --delete-excluded.
    f"--filter=P /{SENTINEL}",
    f"--exclude=/{SENTINEL}",
    "--exclude=.~rsync-part",
    "--exclude=.*.[0-9]*.[0-9]*.tmp",  # see process.write_whole
]


MAX_DELETE = 25
"""rsync's status when it deleted as many files as it was allowed to; the next pass sees the rest."""


class Done(NamedTuple):
    """What a transfer did.

    Files copied and deleted, names left out because the Place keeps plain files only, and why nothing was deleted.
    """

    files: int = 0
    deleted: int = 0
    skipped: Sequence[str] = ()
    held_deletes: str = ""


def push(config: Config, *, update: bool, why_no_deletes: Callable[[], str]) -> Done:
    """Send the source to the Place.

    Parameters
    ----------
    config : Config
        The sync.
    update : bool
        Leave files alone that are newer there.
    why_no_deletes : callable
        Says why nothing may be deleted now; see `colab_magics.mirror.guard`. It is asked after what would be deleted
        was counted, so that a folder which is emptied meanwhile empties nothing there.

    Returns
    -------
    Done
        What was sent.

    Raises
    ------
    Unavailable
        When the Place is not there; nothing was written.
    CommandFailed
        When rsync failed.
    """
    place = config.target()
    flags, deleting = split_flags(config.rsync) if config.rsync is not None else (["-a"], [])
    if config.delete and not deleting:
        deleting = ["--delete"]
    here = f"{config.source}/"
    common = [*flags, *(["--update"] if update else []), *place.rsync_options]
    with place.opened(config.place_id, make=True) as opened:
        held = why_no_deletes() if deleting else ""
        if deleting and not held:
            doomed = _rsync([*common, *deleting, "--dry-run"], config.exclude, here, opened).deleted
            held = why_no_deletes()
            if doomed and not held:
                limited = any(flag.startswith("--max-delete") for flag in common)
                common += [*deleting, *([] if limited else [f"--max-delete={doomed}"])]
        return _rsync(common, config.exclude, here, opened)._replace(held_deletes=held)


def pull(
    place: Place,
    into: Path,
    *,
    expected: str | None = None,
    exclude: Iterable[str] = (),
    light: bool = False,
    names: Iterable[str] | None = None,
) -> Done:
    """Fetch a folder of a Place; deletes nothing and overwrites nothing that is newer here.

    Parameters
    ----------
    place : Place
        The folder there. When there is none, nothing is fetched.
    into : Path
        The folder here; made when it is missing.
    expected : str, optional
        The Place's id.
    exclude : iterable of str
        Patterns that are not fetched.
    light : bool, default False
        Leave big files out.
    names : iterable of str, optional
        Fetch only these files and folders of it.

    Returns
    -------
    Done
        What was fetched.

    Raises
    ------
    Unavailable
        When the Place is not there.
    CommandFailed
        When rsync failed.
    """
    into.mkdir(parents=True, exist_ok=True)
    flags = ["-a", "--update", *place.rsync_options, *([f"--max-size={LIGHT}"] if light else [])]
    listed = None if names is None else b"".join(os.fsencode(name) + b"\0" for name in names)
    if listed is not None:
        flags += ["-r", "--files-from=-", "--from0"]
    with place.opened(expected) as opened:
        if not place.names():
            return Done()
        return _rsync(flags, exclude, f"{into}/", opened, fetch=True, listed=listed)


def _rsync(
    flags: list[str],
    exclude: Iterable[str],
    here: str,
    opened: Opened,
    *,
    fetch: bool = False,
    listed: bytes | None = None,
) -> Done:
    there = f"{opened.target}/"
    command = [
        *("rsync", *_OURS, *(f"--exclude={pattern}" for pattern in exclude), *flags),
        *("--stats", "--no-human-readable"),
        *("--", *((there, here) if fetch else (here, there))),
    ]
    try:
        # The C locale: messages that can be read, and names as bytes, whatever they are.
        done = process.run(command, cwd=opened.cwd, env={"LC_ALL": "C"}, input=listed, ok=(0, VANISHED, MAX_DELETE))
    except CommandFailed as error:
        raise explain(error) from error
    copied = re.search(r"^Number of regular files transferred: (\d+)", done.stdout, re.MULTILINE)
    deleted = re.search(r"^Number of deleted files: (\d+)", done.stdout, re.MULTILINE)
    skipped = re.findall(r'^skipping non-regular file "(.*)"$', done.stdout, re.MULTILINE)
    return Done(int(copied[1]) if copied else 0, int(deleted[1]) if deleted else 0, skipped)


def explain(error: CommandFailed) -> CommandFailed:
    """Shorten rsync's words to those that tell what happened."""
    lines = [line.strip() for line in error.output.splitlines() if line.strip()]
    causes = [line for line in lines if re.match(r"rsync: |ssh: ", line) and "[generator] write error" not in line]
    told = causes or [line for line in lines if "rsync error" in line] or lines
    rest = f" … and {len(told) - 3} more" if len(told) > 3 else ""
    mend = "Free some space there." if "No space left" in error.output or "quota" in error.output.lower() else ""
    text = "\n".join(told[:3]) or f"rsync ended with status {error.returncode}"
    return CommandFailed(text + rest, mend, returncode=error.returncode, output=error.output)
