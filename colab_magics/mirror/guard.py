"""When files may be deleted at a Place, and which flags of rsync make sense."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import process
from ..errors import CommandFailed, InvalidInput

_REFUSED = {
    "--dry-run": "sends nothing",
    "-n": "sends nothing",
    "--list-only": "sends nothing",
    "--remove-source-files": "deletes the outputs here",
    "--remove-sent-files": "deletes the outputs here",
}


def split_flags(text: str) -> tuple[list[str], list[str]]:
    """Split a user's rsync flags into those that delete and all others.

    Parameters
    ----------
    text : str
        Such as ``-av --delete``, with a shell's quotes.

    Returns
    -------
    tuple of list of str
        The others, then those that delete at the destination.

    Raises
    ------
    InvalidInput
        For words that are no flags, and flags that make no sense in a sync.
    """
    try:
        flags = shlex.split(text)
    except ValueError as error:
        raise InvalidInput(f"rsync={text}: {error}.", "Close the quote.") from None
    for flag in flags:
        if not flag.startswith("-") or flag == "--":
            raise InvalidInput(f"rsync={text}: {flag!r} is no flag.", "Join a flag and its value: --exclude=PATTERN")
        short = "-n" if not flag.startswith("--") and "n" in flag[1:].partition("e")[0] else flag
        if short.partition("=")[0] in _REFUSED:
            raise InvalidInput(f"rsync={text}: {short} {_REFUSED[short.partition('=')[0]]}.", "Leave it out.")
    deleting = [flag for flag in flags if flag.startswith("--del") or flag == "--force"]
    return [flag for flag in flags if flag not in deleting], deleting


def check_flags(text: str) -> None:
    """Ask rsync whether it knows a user's flags.

    Raises
    ------
    InvalidInput
        When it does not, or `split_flags` refuses them.
    """
    others, deleting = split_flags(text)
    try:
        process.run(["rsync", *others, *deleting, "--version"])
    except CommandFailed as error:
        said = error.output.splitlines()[:1] or ["rsync refuses them"]
        raise InvalidInput(f"rsync={text}: {said[0]}", "rsync --help lists its flags.") from error


def special_flags(flags: list[str]) -> list[str]:
    """Return those of a user's flags that change what is sent: with one, rsync has to do it.

    What ``-a`` and ``-v`` stand for is done anyway.
    """
    plain = {"--archive", "--verbose", "--recursive", "--times", "--links", "--perms", "--human-readable", "--quiet"}
    return [flag for flag in flags if flag not in plain and not re.fullmatch(r"-[avrtlphqogD]+", flag)]


def why_no_deletes(restored: Mapping[str, Any], source: Path, folder: int | None, *, confirmed: bool = False) -> str:
    """Say why nothing may be deleted at the Place now.

    Parameters
    ----------
    restored : mapping
        The daemon's record of its restore.
    source : Path
        The folder here.
    folder : int or None
        That folder, held open since the restore.
    confirmed : bool, default False
        Whether the user has just said that this very deletion is meant.

    Returns
    -------
    str
        The reason; empty when files may be deleted.
    """
    if not restored.get("ok") and restored.get("mode") != "none":
        return "the restore from the Place did not end well"
    if confirmed:
        return ""
    if folder is not None and not os.path.samestat(os.stat(source), os.fstat(folder)):
        return f"{source} was deleted and made again since the restore"
    with os.scandir(source) as entries:
        if next(entries, None) is None:
            return f"{source} is empty"
    return ""
