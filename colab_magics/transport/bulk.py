"""Files and folders of a project to and from another machine, however big: rsync, which tells how far it is.

A copy that was cut goes on where it stopped: what has arrived of a file waits in a folder ``.~rsync-part`` beside it.
Nothing is deleted, and what is newer on the other side stays unless the user said otherwise.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import CommandFailed, InvalidInput, NotFound, Unavailable
from ..pipes import Pipes
from ..ui import Says, Table
from ..units import show_size
from . import ssh
from .gather import BY_MACHINES, PARTIAL, below, gather

SILENT_SECONDS = 60
"""A connection that moves nothing for so long is dead."""
LONG_SECONDS = 3600.0
"""Time for a copy without rsync."""
_SHOWN = 5
_FLAGS = ("--links", "--perms", "--times", "--from0", "--protect-args", f"--partial-dir={PARTIAL}")
_TELL = ("--info=progress2,skip1,stats2", "--no-human-readable", f"--timeout={SILENT_SECONDS}")


@dataclass(frozen=True)
class Progress:
    """How far a copy is.

    Parameters
    ----------
    size, percent : int
        Bytes that are there, and their share of all.
    rate : str
        How fast, as rsync writes it.
    """

    size: int
    percent: int
    rate: str


@dataclass(frozen=True)
class Moved:
    """What a copy has done.

    Parameters
    ----------
    files, size : int
        Files that were copied, and their bytes.
    sent : int
        Bytes of them that had to travel; what was there already of a file counts as little as of a copy that was cut.
    newer : list of str
        Files that are newer on the other side, and stay.
    secret : list of str
        Files that look like secrets, and stay here.
    links : list of str
        Links that lead out of the project, and stay here.
    """

    files: int = 0
    size: int = 0
    sent: int = 0
    newer: list[str] = field(default_factory=list)
    secret: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

    def table(self, where: str) -> Table:
        """Say it in a few lines."""
        number = f"{self.files:,} file{'s' if self.files != 1 else ''}, {show_size(self.size)}"
        spared = f" ({show_size(self.sent)} had to travel)" if self.size - self.sent > self.size // 20 else ""
        notes = []
        for names, text in (
            (self.newer, "newer on the other side, left as it is there (--force copies over it)"),
            (self.secret, "looks like a secret, and stays here unless you name it"),
            (self.links, "a link that leads out of the project, and stays here"),
        ):
            more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
            notes += [f"{', '.join(names[:_SHOWN])}{more}: {text}"] if names else []
        return Table([], [], caption=f"{number} {where}{spared}", notes=notes)


Tell = Callable[[Progress], None]


def put(
    host: str, root: Path, names: Sequence[str], folder: str, *, force: bool = False, tell: Tell = lambda now: None
) -> Moved:
    """Copy files and folders of a project to another machine.

    Parameters
    ----------
    host : str
        Its name for ssh.
    root : Path
        The project's folder here.
    names : sequence of str
        What to copy, relative to `root`.
    folder : str
        The project's folder there, from the home folder or from ``/``; it is made.
    force : bool
        Copy also over what is newer there.
    tell : callable
        Is told how far it is.

    Raises
    ------
    InvalidInput, NotFound
        When a name means nothing here.
    Unavailable
        When the host does not answer, or the connection was cut.
    """
    root = root.resolve()
    found = gather(root, names)
    files, left = found.names, Moved(secret=found.secret, links=found.links)
    there = _look(host, folder, list(dict.fromkeys(_first(name) for name in files if "/" in name)), make=True)
    if not files:
        return left
    if not there.rsync or shutil.which("rsync") is None:
        return _put_in_a_stream(host, root, files, folder, left)
    # -K: a folder there that is a link of the user's stays one, and never becomes a folder in its place.
    flags = ["--dirs", "--keep-dirlinks", *([] if force else ["--update"])]
    return _in_parts(
        left,
        _parts(files, there.links),
        lambda at, leads, names: _rsync(host, flags, names, f"{root / at}/", f"{host}:{leads or _path(folder)}/", tell),
    )


def get(
    host: str, root: Path, names: Sequence[str], folder: str, *, force: bool = False, tell: Tell = lambda now: None
) -> Moved:
    """Copy files and folders of a project from another machine; see `put`.

    What comes has no rights for others, and links in it that lead out of the project are left out.
    """
    root = root.resolve()
    wanted = [below(root, name) for name in names]
    for name in wanted:
        _refuse_links_out(root, name)
    there = _look(host, folder, [*wanted, *dict.fromkeys(_first(name) for name in wanted)])
    if missing := [name for name in wanted if name in there.missing]:
        look = shlex.join(["ssh", host, "ls", _path(folder)])
        raise NotFound(f"There is no {missing[0]} in {folder} on {host}.", f"Look there: {look}")
    if not there.rsync or shutil.which("rsync") is None:
        if "." in wanted:
            raise InvalidInput("Without rsync there is no copy of the whole project.", "Name folders and files of it.")
        for name in wanted:
            ssh.copy(f"{host}:{folder}/{name}", str(root / name), timeout=LONG_SECONDS)
        return Moved(files=len(wanted))
    flags = ["--recursive", "--keep-dirlinks", "--safe-links", "--chmod=ugo-s,o-t,go-w"]
    # Also for safety: what another machine puts into .git is executed here.
    flags += [f"--exclude={name}" for name in sorted(BY_MACHINES)]
    flags += [] if force else ["--update"]
    return _in_parts(
        Moved(),
        _parts(wanted, there.links),
        lambda at, leads, names: _rsync(host, flags, names, f"{host}:{leads or _path(folder)}/", f"{root / at}/", tell),
    )


def _first(name: str) -> str:
    return name.split("/", 1)[0]


def _parts(names: Sequence[str], links: Mapping[str, str]) -> Iterator[tuple[str, str, list[str]]]:
    """Divide what is copied by the folders at the top there that are links: rsync does not go through them.

    Yields a folder relative to the project, where its link leads (empty without one), and the names in it.
    """
    yield "", "", [name for name in names if _first(name) not in links]
    for first, leads in links.items():
        inside = [name.partition("/")[2] or "." for name in names if _first(name) == first]
        if inside:
            yield first, leads, inside


def _in_parts(
    left: Moved, parts: Iterable[tuple[str, str, list[str]]], copy: Callable[[str, str, list[str]], Moved]
) -> Moved:
    total = left
    for at, leads, names in parts:
        if names:
            done = copy(at, leads, names)
            newer = [os.path.join(at, name) for name in done.newer]
            total = Moved(
                *(total.files + done.files, total.size + done.size, total.sent + done.sent),
                *([*total.newer, *newer], left.secret, left.links),
            )
    return total


@contextmanager
def shown(ui: Says, what: str) -> Iterator[Tell]:
    """Show a copy that takes over two seconds; what this yields is for `put` and `get` to tell."""
    began = last = time.monotonic()

    def tell(now: Progress) -> None:
        nonlocal last
        passed = time.monotonic() - began
        # In a terminal each is a line: fewer of them the longer it takes.
        if time.monotonic() - last >= max(2.0, passed / 20):
            last = time.monotonic()
            far = f"{now.percent} %, {show_size(now.size)}, {now.rate}"
            live.show(Table(["copy", "so far"], [[what, far]]))

    with ui.progress(what), ui.live() as live:
        yield tell


def _refuse_links_out(root: Path, name: str) -> None:
    """Refuse a folder here below which a link to a folder leads out: what comes would be written there."""
    for at, folders, _ in os.walk(root / name):
        for one in folders:
            if os.path.islink(os.path.join(at, one)):
                below(root, os.path.relpath(os.path.join(at, one), root))


def _path(folder: str) -> str:
    return folder if folder.startswith("/") else f"./{folder}"


_MARK = "colab_magics-look:"
_LOOK = (
    f"m={_MARK}; "
    "d=$1; k=$2; shift 2; command -v rsync >/dev/null 2>&1 && echo ${m}rsync; "
    '[ -z "$k" ] || mkdir -p -- "$d" || exit 1; '
    'i=0; for f; do [ -e "$d/$f" ] || [ -L "$d/$f" ] || echo ${m}no $i; '
    '[ -L "$d/$f" ] && [ -d "$d/$f" ] && (cd -- "$d/$f" && printf "%s\\n" "${m}to $i $(pwd -P)"); i=$((i+1)); done; :'
)


@dataclass(frozen=True)
class _There:
    """What of some names is there, and where those lead that are links to folders."""

    rsync: bool
    missing: set[str]
    links: dict[str, str]


def _look(host: str, folder: str, names: Sequence[str], *, make: bool = False) -> _There:
    said = ssh.run(host, ["sh", "-c", _LOOK, "sh", _path(folder), "make" if make else "", *names], ok=(0, 1))
    if make and said.returncode:
        raise Unavailable(f"{folder} cannot be made on {host}: {ssh.last_line(said.stderr)}.", "Name another: folder=")
    ours = [line.removeprefix(_MARK).split(" ", 2) for line in said.stdout.splitlines() if line.startswith(_MARK)]
    return _There(
        ["rsync"] in ours,
        {names[int(words[1])] for words in ours if words[0] == "no"},
        {names[int(words[1])]: words[2] for words in ours if words[0] == "to"},
    )


def _rsync(host: str, flags: Sequence[str], files: Sequence[str], source: str, target: str, tell: Tell) -> Moved:
    with tempfile.NamedTemporaryFile(prefix="colab_magics-") as listed:
        listed.write(b"".join(os.fsencode(f"./{name}") + b"\0" for name in files))
        listed.flush()
        command = ["rsync", *_FLAGS, *_TELL, *flags, f"--files-from={listed.name}", "-e", ssh.rsync_shell()]
        pipes = Pipes([*command, "--", source, target])
        try:
            lines = [line for line in _lines(pipes) if not _told(line, tell)]
            pipes.wait(10)
        except BaseException:
            pipes.interrupt()  # so that it keeps what it has
            pipes.wait(5)
            pipes.close()
            raise
        status, errors = pipes.close()
    if status in (10, 12, 20, 30, 35, 255, -2, -15):
        raise _cut(host, errors)
    if status:
        raise CommandFailed(
            f"Copying to or from {host} failed: {_first_line(errors) or f'rsync ended with status {status}'}.",
            "What could be copied is there; mend that, then say it again.",
            returncode=status,
            output=errors,
        )
    text = "\n".join(lines)
    newer = [line.removesuffix(" is newer") for line in lines if line.endswith(" is newer")]
    return Moved(
        files=_number(r"Number of regular files transferred: (\d+)", text),
        size=_number(r"Total transferred file size: (\d+)", text),
        sent=_number(r"Literal data: (\d+)", text),
        newer=newer,
    )


def _cut(host: str, errors: str) -> Unavailable:
    error = ssh.unreachable(host, errors)
    if type(error) is not Unavailable:
        return error
    return Unavailable(
        f"The copy to or from {host} was cut: {_first_line(errors) or 'the connection is gone'}.",
        "Say it again: it goes on where it stopped.",
    )


def _first_line(errors: str) -> str:
    """Return the cause: what rsync says last is that it ends."""
    return next((line.strip().rstrip(".") for line in errors.splitlines() if line.strip()), "")


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def _lines(pipes: Pipes) -> Iterator[str]:
    """Yield what rsync prints, line by line; progress ends with a carriage return."""
    rest = b""
    while True:
        select.select([pipes.stdout], [], [])
        data = os.read(pipes.stdout, 1 << 16)
        *whole, rest = re.split(rb"[\r\n]+", rest + data)
        yield from (line.decode("utf-8", "backslashreplace") for line in whole if line)
        if not data:
            return


def _told(line: str, tell: Tell) -> bool:
    match = re.match(r"\s*(\d+)\s+(\d+)%\s+(\S+)", line)
    if match:
        tell(Progress(int(match[1]), int(match[2]), match[3]))
    return match is not None


def _put_in_a_stream(host: str, root: Path, files: Sequence[str], folder: str, left: Moved) -> Moved:
    """Copy without rsync: as one stream, which is whole there or not at all."""
    from . import copying

    copying.put_many(root, files, host, folder, timeout=LONG_SECONDS)
    size = sum(os.lstat(root / name).st_size for name in files)
    return Moved(len(files), size, size, [], left.secret, left.links)
