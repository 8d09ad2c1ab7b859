"""rsync as a store's hand: it compares, fetches, and brings batches of files. Always over a list of files."""

from __future__ import annotations

import calendar
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ... import process
from ...errors import CommandFailed, Unavailable
from .store import INCOMING, LIGHT, Known, Store, There, unknown

VANISHED = 24
"""rsync's status when files went away while it read them: no error for a folder that is being worked in."""

SAFE = ("--safe-links", "--no-implied-dirs", "--chmod=ugo-s,o-t,go-w")
"""For what comes from a Place: no link that leads out, no right that others or programs could use; no folder that is
here gets other rights."""

_LISTING = re.compile(r"^([<>ch.*][fdLDS][^|]{9}|\*deleting  |\*\w+ *)\|(\d+)\|([^|]*)\|([^|]*)\|(.*)$")


class RsyncStore(Store):
    """A folder that rsync reaches.

    Parameters
    ----------
    target : str
        The folder as an argument of rsync.
    cwd : str or None
        The folder in which rsync runs.
    options : sequence of str
        What this kind of folder needs.
    """

    def __init__(self, target: str, *, cwd: str | None = None, options: Sequence[str] = ()) -> None:
        self.target, self.cwd, self.options = target, cwd, options

    def compare(
        self,
        folder: Path,
        *,
        hidden: Iterable[str] = (),
        light: bool = False,
        fetch: bool = True,
        names: Iterable[str] | None = None,
        folders: dict[str, int] | None = None,
        known: Known = unknown,
    ) -> list[There]:
        flags = [f"--max-size={LIGHT}"] if light else []
        return self._listing(flags, folder, hidden, fetch=fetch, names=names, folders=folders)

    def outward(self, folder: Path, found: Iterable[There]) -> set[str]:
        links = {one.name for one in found if one.link}
        if not links:
            return set()
        return links - {one.name for one in self._listing(["--safe-links"], folder, (), fetch=True, names=links)}

    def _listing(
        self,
        flags: Sequence[str],
        folder: Path,
        hidden: Iterable[str],
        *,
        fetch: bool,
        names: Iterable[str] | None,
        folders: dict[str, int] | None = None,
    ) -> list[There]:
        flags = ["-rtn", "-ii", "--modify-window=1", "--out-format=%i|%l|%M|%B|%n", *flags]
        listed = None
        if names is not None:
            flags += ["--files-from=-", "--from0"]
            listed = _list(names)
        flags += [flag for flag in self.options if flag != "-p"]  # modes are not compared
        found = []
        for line in self._rsync(flags, hidden, folder, self.target, fetch=fetch, listed=listed).split("\n"):
            match = _LISTING.match(line)
            if match is None or (what := match[1])[1:2] not in ("f", "L", "d"):
                continue
            name = _within(_unescape(match[5]), self.target)
            if what[1] == "d":
                if folders is not None and what.startswith("cd+"):
                    folders[name] = _mode(match[4])
                continue
            # Modes and owners are not compared (no -p): only size, time and content count.
            alike = "+" not in what and what[2] in (".", " ") and what[3] in (".", " ") and what[4] in (".", " ")
            found.append(There(name, alike, "+" in what, int(match[2]), _seconds(match[3]), what[1] == "L"))
        return found

    def fetch(self, into: Path, names: Sequence[str], *, flags: Sequence[str] = ()) -> Mapping[str, float]:
        if names:
            common = ["-tIS", "--omit-dir-times", "--whole-file", *self.options, *SAFE, *flags]
            common += ["--files-from=-", "--from0"]
            self._rsync(common, (), into, self.target, fetch=True, listed=_list(names))
        return {}

    def take(self, source: Path, names: Sequence[str], *, aside: str) -> None:
        self.bring(source, names, INCOMING)
        self.move([(f"{INCOMING}/{name}", name) for name in names], aside=aside)
        above = {str(parent) for name in names for parent in Path(name).parents if str(parent) != "."}
        self.drop_folders([INCOMING, *(f"{INCOMING}/{folder}" for folder in above)])

    def bring(self, source: Path, names: Sequence[str], aside: str, *, flags: Sequence[str] = ()) -> None:
        """Bring files to a folder within this one, where nobody takes them for the real ones yet.

        Parts of what is there already are used, so that a big file of which little changed costs little.

        Parameters
        ----------
        source : Path
            The folder here.
        names : sequence of str
            Files.
        aside : str
            The folder they are brought to, a name at the top of this one.
        flags : sequence of str
            Further flags of the user's.

        Raises
        ------
        CommandFailed
            When rsync failed.
        """
        # Out of a folder that its owner may not write nothing could be renamed.
        common = ["-rtIS", "--omit-dir-times", "--copy-dest=..", "--chmod=Du+rwx", *self.options, *flags]
        common += ["--files-from=-", "--from0"]
        self._rsync(common, (), source, f"{self.target}/{aside}", fetch=False, listed=_list(names))

    def _rsync(
        self,
        flags: Sequence[str],
        exclude: Iterable[str],
        here: Path,
        target: str,
        *,
        fetch: bool,
        listed: bytes | None = None,
    ) -> str:
        there, mine = f"{target}/", f"{here}/"
        command = [
            *("rsync", "-8", *(f"--exclude={pattern}" for pattern in exclude), *flags, "--no-human-readable"),
            *("--", *((there, mine) if fetch else (mine, there))),
        ]
        try:
            # The C locale: messages that can be read, and names as bytes, whatever they are.
            done = process.run_raw(
                command, cwd=self.cwd, env={"LC_ALL": "C", "TZ": "UTC"}, input=listed, ok=(0, VANISHED)
            )
        except CommandFailed as error:
            raise explain(error) from error
        return os.fsdecode(done)


def _within(name: str, place: str) -> str:
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


def explain(error: CommandFailed) -> CommandFailed:
    """Shorten rsync's words to those that tell what happened."""
    lines = [line.strip() for line in error.output.splitlines() if line.strip()]
    causes = [line for line in lines if re.match(r"rsync: |ssh: ", line) and "[generator] write error" not in line]
    told = causes or [line for line in lines if "rsync error" in line] or lines
    rest = f" … and {len(told) - 3} more" if len(told) > 3 else ""
    mend = "Free some space there." if "No space left" in error.output or "quota" in error.output.lower() else ""
    text = "\n".join(told[:3]) or f"rsync ended with status {error.returncode}"
    return CommandFailed(text + rest, mend, returncode=error.returncode, output=error.output)
