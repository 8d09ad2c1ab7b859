"""Files to and from another machine as one stream of tar through ssh, for where rsync is missing on either side.

Nothing looks whole before it is: a stream is unpacked beside the target, and renamed when all of it has arrived.
"""

from __future__ import annotations

import io
import os
import select
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, cast

from .. import files
from ..errors import CommandFailed, Unavailable
from ..pipes import Pipes
from . import ssh
from .places.store import PRIVATE

MOST = 1 << 20
_END = "end"
"""Name of the member that comes last: without it the stream was cut, perhaps between two files."""
_SOURCE = "source"
# Names are arguments and begin with "./": they may hold anything.
_PUT = """
mkdir -p -- "$1" && cd -- "$1" || exit 3
w=$(mktemp -d ./.copy.XXXXXX) || exit 3
trap 'rm -rf "$w"' EXIT
trap 'exit 4' HUP INT TERM
tar -xof - -C "$w" && [ -e "$w/end" ] || exit 4
n=./$2
if [ -L "$w/source" ] || [ ! -d "$w/source" ]; then
  [ -d "$n" ] && n=$n/$3
  [ ! -L "$n" ] || rm -f -- "$n" && mv -f -- "$w/source" "$n"
elif [ ! -e "$n" ] && [ ! -L "$n" ]; then
  mv -- "$w/source" "$n"
else
  [ -d "$n" ] || { echo "$2 is no folder there" >&2; exit 5; }
  cd "$w/source" || exit 3
  put='for f; do t=$0/$f; [ ! -L "$t" ] || rm -f -- "$t"; '
  put=$put'[ ! -d "$t" ] || { echo "$f is a folder there" >&2; exit 5; }; mv -f -- "$f" "$t" || exit 5; done'
  find . -type d -exec sh -c '[ ! -e "$0/$1" ] && [ ! -L "$0/$1" ] && mv -- "$1" "$0/$1"' "../../$2" {} ";" -prune
  find . ! -type d -exec sh -c "$put" "../../$2" {} + || exit 5
  cd ../..
fi
"""
_GREETING = b"colab_magics-tar\n"
"""Comes before the stream: a login shell may print what it likes."""
_GET = (
    f"echo {_GREETING.decode().strip()}; "
    'if [ -d "$1/$2" ]; then cd -- "$1/$2" && exec tar -cf - .; else cd -- "$1" && exec tar -cf - "./$2"; fi'
)


class _Stream(io.RawIOBase):
    """The pipes of a running ssh as a file that keeps a limit of time."""

    def __init__(self, pipes: Pipes, timeout: float) -> None:
        self._pipes, self._end = pipes, time.monotonic() + timeout

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        while not select.select([self._pipes.stdout], [], [], self._left())[0]:
            pass
        data = os.read(self._pipes.stdout, min(len(view), MOST))
        view[: len(data)] = data
        return len(data)

    def skip_to(self, word: bytes) -> None:
        """Read up to and with a word; raises EOFError where it does not come."""
        said = b""
        while not said.endswith(word):
            if not (byte := self.read(1)):
                raise EOFError
            said += byte

    def write(self, data: object) -> int:
        rest = whole = memoryview(data)  # type: ignore[arg-type]
        while rest:
            wrote = self._pipes.write(rest[:MOST])
            rest = rest[wrote:]
            if not wrote:
                select.select([], [self._pipes.stdin], [], self._left())
        return len(whole)


def put(source: Path, host: str, target: str, *, timeout: float) -> None:
    """Copy a file or folder to another machine; see `ssh.copy`."""
    source = source.resolve() if source.is_dir() else source
    _send(host, target, source.name, lambda tar: tar.add(source, _SOURCE), timeout)


def put_many(root: Path, names: Sequence[str], host: str, target: str, *, timeout: float) -> None:
    """Copy files, links and folders without what is in them into a folder of another machine; nothing is deleted.

    Parameters
    ----------
    root : Path
        The folder here.
    names : sequence of str
        Their paths relative to it, and to the folder there.
    host, target : str
        Where to.
    timeout : float
        Seconds until it is given up.
    """

    def fill(tar: tarfile.TarFile) -> None:
        top = tarfile.TarInfo(_SOURCE)
        top.type, top.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(top)
        for name in names:
            tar.add(root / name, f"{_SOURCE}/{name}", recursive=False)

    _send(host, target, _SOURCE, fill, timeout)


def _send(host: str, target: str, called: str, fill: Callable[[tarfile.TarFile], None], timeout: float) -> None:
    where, name = _split(target)
    pipes = Pipes(ssh.command(host, ["sh", "-c", _PUT, "sh", where, name, called]))
    problem: OSError | None = None
    try:
        # GNU's format is what all programs named tar read.
        with tarfile.open(
            fileobj=cast("IO[bytes]", _Stream(pipes, timeout)), mode="w|", format=tarfile.GNU_FORMAT
        ) as tar:
            fill(tar)
            tar.addfile(tarfile.TarInfo(_END))
        pipes.end_input()
        _wait(pipes, timeout)
    except OSError as error:
        # It ended early: what it says explains it, and time that is over is told by its status.
        problem = error
        pipes.wait(1.0)
    except BaseException:
        pipes.close()
        raise
    _check(host, pipes, problem)


def get(host: str, source: str, target: Path, *, timeout: float) -> None:
    """Copy a file or folder from another machine; see `ssh.copy`."""
    where, name = _split(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    pipes = Pipes(ssh.command(host, ["sh", "-c", _GET, "sh", where, name]))
    problem: Exception | None = None
    whole = False
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".copy.") as beside:
        unpacked = Path(beside, _SOURCE)
        unpacked.mkdir()
        try:
            stream = _Stream(pipes, timeout)
            stream.skip_to(_GREETING)
            with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as tar:
                whole = _unpack(tar, unpacked)
            _wait(pipes, timeout)
        except (OSError, EOFError, tarfile.ReadError) as error:
            problem = error
            pipes.wait(1.0)
        except BaseException:
            pipes.close()
            raise
        _check(host, pipes, problem)
        if not whole and [path.name for path in unpacked.iterdir()] != [name]:
            raise Unavailable(f"{host} sent something else than {name!r}.", "Look at it there.")
        _place(unpacked, target, whole=whole)


def unpack(archive: bytes, folder: Path) -> None:
    """Put what another machine has sent as an archive into a folder: nothing outside of it, and no file in part.

    Raises
    ------
    Unavailable
        For a name or a link that leads out of it.
    OSError
        When it cannot be written.
    """
    unpack_from(io.BytesIO(archive), folder)


def unpack_from(archive: IO[bytes], folder: Path) -> None:
    """Do the same with an archive that is read as it comes."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".copy.") as beside:
        unpacked = Path(beside, _SOURCE)
        unpacked.mkdir()
        with tarfile.open(fileobj=archive, mode="r|") as tar:
            _unpack(tar, unpacked)
        _place(unpacked, folder, whole=True)


def _split(path: str) -> tuple[str, str]:
    """Return folder and name of a path there, so that neither is taken for an option."""
    pure = PurePosixPath(path or ".")
    if not pure.name or pure.name == "..":
        return str(pure), "."
    parent = str(pure.parent)
    return parent if parent.startswith("/") else f"./{parent}", pure.name


def _check(host: str, pipes: Pipes, problem: Exception | None) -> None:
    status, said = pipes.close()
    if status == 255 or isinstance(problem, TimeoutError):
        raise ssh.unreachable(host, said)
    lines = [line for line in said.splitlines() if line.strip()]
    if status or problem is not None:
        words = lines[-1] if lines else f"status {status}{f', {problem}' if problem else ''}"
        mend = "Mend what it names, then say it again."
        raise CommandFailed(f"Copying to or from {host} failed: {words}", mend, returncode=status, output=said)


def _wait(pipes: Pipes, timeout: float) -> None:
    if pipes.wait(timeout) is None:
        raise TimeoutError


def _unpack(tar: tarfile.TarFile, folder: Path) -> bool:
    """Unpack what another machine sends, nothing outside of the folder; returns whether it is a whole folder.

    By hand: the filters of tarfile are not there before Python 3.11.4.
    """
    links: list[tuple[Path, str]] = []
    whole = False
    for member in tar:
        whole = whole or member.name == "."
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if ".." in parts or member.name.startswith("/") or not (parts or member.isdir()):
            raise Unavailable(f"{member.name!r} is not copied: it leads out of the folder.", "Leave it out there.")
        to = folder.joinpath(*parts)
        to.parent.mkdir(PRIVATE, parents=True, exist_ok=True)  # an archive of some files names no folders
        if member.issym():
            # Made last: nothing must be written through them.
            links.append((to, member.linkname))
        elif member.isdir():
            to.mkdir(PRIVATE, exist_ok=True)
            to.chmod(member.mode & 0o755 | PRIVATE)
        elif member.isreg() or member.islnk():
            with _content(tar, member, folder) as read, open(to, "xb", opener=_private) as written:
                shutil.copyfileobj(read, written, MOST)
                os.fchmod(written.fileno(), member.mode & 0o755)
            os.utime(to, (member.mtime, member.mtime))
        else:
            raise Unavailable(f"{member.name!r} is not copied: it is no file, folder or link.", "Leave it out there.")
    for at, leads_to in links:
        if not _leads_out(folder, at, leads_to):
            at.symlink_to(leads_to)
    return whole


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> IO[bytes]:
    if member.isreg():
        return cast("IO[bytes]", tar.extractfile(member))
    # A second name of a file that came before becomes a file of its own.
    if ".." in Path(member.linkname).parts or Path(member.linkname).is_absolute():
        raise Unavailable(f"{member.linkname!r} is not copied: it leads out of the folder.", "Leave it out there.")
    return open(folder / member.linkname, "rb", opener=files.plain)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _leads_out(folder: Path, at: Path, leads_to: str) -> bool:
    """Whether a link leads out of the folder, by its text, as rsync reads it, or by way of links made before it."""
    depth = len(at.relative_to(folder).parts) - 1
    for part in leads_to.split("/"):
        depth += {"..": -1, "": 0, ".": 0}.get(part, 1)
        if depth < 0:
            return True
    end = os.path.realpath(at.parent / leads_to)
    return leads_to.startswith("/") or not Path(end).is_relative_to(os.path.realpath(folder))


def _place(unpacked: Path, target: Path, *, whole: bool) -> None:
    """Rename what arrived: one file, a folder, or all that is in one when the target is there."""
    if not whole:
        (file,) = unpacked.iterdir()
        os.replace(file, target / file.name if target.is_dir() else target)
        return
    if not os.path.lexists(target):
        os.rename(unpacked, target)
        return
    for folder, folders, names in os.walk(unpacked):
        into = target / Path(folder).relative_to(unpacked)
        if not os.path.lexists(into):
            os.rename(folder, into)
            folders.clear()
            continue
        for name in [*names, *(name for name in folders if Path(folder, name).is_symlink())]:
            to = into / name
            if to.is_dir() and not to.is_symlink():
                raise Unavailable(f"{to} is a folder here, and none there.", "Move it away.")
            os.replace(Path(folder, name), to)
