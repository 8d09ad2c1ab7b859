"""A folder of another machine as a Place, by ssh."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Self

from ... import process
from ...errors import CommandFailed, InvalidInput, Unavailable
from .. import ssh
from .base import SENTINEL, Place, new_sentinel
from .rsync_store import RsyncStore
from .store import FileThere, Mark, Opened

if TYPE_CHECKING:
    import subprocess


# Names begin with "./". A link in place of a folder leads out of the Place: nothing is looked at, moved or deleted
# through it, and it is put aside when a folder has to stand there. "./700/755": modes for the folders above a name,
# should they be made.
_WITHIN = (
    'within() { w=.; r=${1#./}; while [ "$r" != "${r#*/}" ]; do w=$w/${r%%/*}; r=${r#*/}; '
    '{ [ -d "$w" ] && [ ! -L "$w" ]; } || return 1; done; }; '
)
_MAKE_WAY = (
    'put() { q=$a/${1#./}; (umask 077; mkdir -p -- "${q%/*}") && mv -f -- "$1" "$q"; }; '
    'way() { w=.; r=${1#./}; m=${2#./}/; while [ "$r" != "${r#*/}" ]; do w=$w/${r%%/*}; r=${r#*/}; '
    'if [ -L "$w" ] || { [ -e "$w" ] && [ ! -d "$w" ]; }; then put "$w" || return 1; fi; '
    '[ -d "$w" ] || mkdir -m "${m%%/*}" -- "$w" || return 1; m=${m#*/}; done; }; '
)


class HostStore(RsyncStore):
    """What can be done in a folder of another machine: a few lines of sh, names on its standard input.

    Parameters
    ----------
    host, folder : str
        Where.
    options : sequence of str
        What rsync needs.
    """

    def __init__(self, host: str, folder: str, *, options: Sequence[str] = ()) -> None:
        super().__init__(f"{host}:{folder}", options=options)
        self.host, self.folder = host, folder

    def look(self, names: Sequence[str]) -> dict[str, FileThere]:
        # stat's formats differ between GNU and BSD; a name is told by its number, so that it may hold anything.
        script = _WITHIN + (
            'for f; do within "$f" && { [ -e "$f" ] || [ -L "$f" ]; } || { echo; continue; }; '
            'k=-; [ -f "$f" ] && ! [ -L "$f" ] && k=f; '
            'printf "%s " $k; stat -c "%s %Y" -- "$f" 2>/dev/null || stat -f "%z %m" -- "$f"; done'
        )
        lines = self._each(script, names).splitlines()
        found = {}
        for name, line in zip(names, lines, strict=False):
            if fields := line.split():
                found[name] = FileThere(int(fields[1]), float(fields[2]), fields[0] == "f")
        return found

    def move(self, pairs: Sequence[tuple[str, str]], *, aside: str) -> None:
        # "mv" to a link that leads to a folder would move into that folder.
        script = (_WITHIN + _MAKE_WAY) + (
            "a=$1; shift; while [ $# -gt 2 ]; do "
            'if within "$1" && { [ -L "$1" ] || { [ -e "$1" ] && [ ! -d "$1" ]; }; }; then way "$2" "$3" || exit 1; '
            'if [ -L "$2" ]; then rm -f -- "$2"; elif [ -d "$2" ]; then put "$2" || exit 1; fi; '
            'mv -f -- "$1" "$2" || exit 1; fi; shift 3; done'
        )
        self._each(script, [word for old, new in pairs for word in (old, new, self._modes(new))], "./" + aside)

    def _modes(self, name: str) -> str:
        above = name.split("/")[:-1]
        return "/".join(f"{self.rights('/'.join(above[: n + 1])):o}" for n in range(len(above)))

    def erase(self, names: Sequence[str], *, truncate: bool = False) -> None:
        script = 'for f; do within "$f" && { rm -f -- "$f"; rmdir -p -- "${f%/*}" 2>/dev/null; }; done; true'
        self._each(_WITHIN + script, names)

    def make_folders(self, names: Sequence[str]) -> None:
        script = (
            "while [ $# -gt 1 ]; do w=.; r=${1#./}/; m=${2#./}/; shift 2; "
            'while [ -n "$r" ]; do w=$w/${r%%/*}; r=${r#*/}; '
            '[ -L "$w" ] && break; [ -d "$w" ] || { [ ! -e "$w" ] && mkdir -m "${m%%/*}" -- "$w"; } || break; '
            "m=${m#*/}; done; done; true"
        )
        self._each(script, [word for name in names for word in (name, self._modes(f"{name}/"))])

    def set_rights(self, folders: Mapping[str, int], *, less: bool) -> list[str]:
        # One chmod for many; those that it cannot change are told apart one by one.
        script = _WITHIN + (
            'm=$1; shift; for f; do within "$f/." && set -- "$@" "$f"; shift; done; '
            '[ $# -eq 0 ] || chmod -- "$m" "$@" 2>/dev/null || '
            'for f; do chmod -- "$m" "$f" 2>/dev/null || printf "%s\\0" "$f"; done; true'
        )
        alike: dict[str, list[str]] = {}
        for name, mode in folders.items():
            alike.setdefault(_taken(mode) if less else f"{mode:o}", []).append(name)
        alike.pop("", None)
        refused = {name for mode, names in alike.items() for name in self._each(script, names, mode).split("\0")}
        return [name for name in folders if os.fsencode("./" + name).decode("utf-8", "backslashreplace") in refused]

    def drop_folders(self, names: Sequence[str]) -> None:
        script = 'for f; do within "$f" && [ ! -L "$f" ] && rmdir -- "$f" 2>/dev/null; done; true'
        self._each(_WITHIN + script, sorted(names, reverse=True))

    def below(self, folder: str) -> dict[str, int]:
        script = 'cd -- "$1" || exit 3; [ -d "$2" ] || exit 0; exec find "$2" -type f -print0'
        remote = ["sh", "-c", script, "sh", self.folder, "./" + folder]
        listed = process.run_raw(ssh.command(self.host, remote), timeout=ssh.LONG_SECONDS)
        names = [os.fsdecode(name).removeprefix("./") for name in listed.split(b"\0") if name]
        return {name: seen.size for name, seen in self.look(names).items()}

    def get(self, name: str) -> bytes | None:
        done = self._run('[ -e "$1" ] || exit 44; cat -- "$1"', "./" + name, ok=(0, 44))
        return done.stdout.encode() if done.returncode == 0 else None

    def put(self, name: str, data: bytes) -> None:
        self._run('cat >"$1.~$$" && mv -f -- "$1.~$$" "$1"', "./" + name, input=data)

    def free(self) -> int | None:
        lines = self._run("df -Pk . | tail -n 1").stdout.split()
        return int(lines[3]) * 1024 if len(lines) > 3 and lines[3].isdigit() else None

    def _each(self, script: str, names: Sequence[str], *words: str) -> str:
        if not names:
            return ""
        listed = b"".join(b"./" + os.fsencode(name) + b"\0" for name in names)
        # A number that 2 and 3 divide: what belongs together goes to one sh.
        return self._run('exec xargs -0 -n 120 sh -c "$@"', script, "sh", *words, input=listed).stdout

    def _run(
        self, script: str, *words: str, input: bytes | None = None, ok: Sequence[int] = (0,)
    ) -> subprocess.CompletedProcess[str]:
        whole = 'cd -- "$1" || exit 3; shift; ' + script
        return ssh.run(
            self.host, ["sh", "-c", whole, "sh", self.folder, *words], input=input, ok=ok, timeout=ssh.LONG_SECONDS
        )


def _taken(mode: int) -> str:
    """Say for chmod what a mode takes away from others; empty for one that grants all."""
    bits = {who: "".join(w for n, w in enumerate("xwr") if not mode >> at + n & 1) for who, at in (("g", 3), ("o", 0))}
    return ",".join(f"{who}-{words}" for who, words in bits.items() if words)


@dataclass(frozen=True)
class HostPlace(Place):
    """A folder of another machine, by ssh; relative paths begin at the home folder there."""

    @classmethod
    def from_text(cls, text: str, *, project: str) -> Self:
        host, _, path = text.partition(":")
        ssh.check_host(host)
        path = path.removeprefix("~/").rstrip("/") or ("/" if path.startswith("/") else "")
        if not path or path.startswith(("~", "-")):
            raise InvalidInput(f"to={text} names no folder.", "Write to=HOST:FOLDER, from the home folder or from /.")
        return cls(text=f"{host}:{path}", root=path)

    @property
    def host(self) -> str:
        """The machine, as for ssh."""
        return self.text.partition(":")[0]

    @property
    def target(self) -> str:
        return f"{self.host}:{self.path}"

    @property
    def rsync_options(self) -> list[str]:
        """What rsync needs on the way to another machine."""
        # -s: the path there is a name, whatever characters it has, and no text for a shell.
        return ["-l", "-p", "-s", "--timeout=60", "--partial-dir=.~rsync-part", "-e", ssh.rsync_shell()]

    def answers(self) -> None:
        return  # ssh has its own limits of time

    def prepare(self, rights: int = 0o777) -> str:
        # "set -C": of two that prepare at once one makes the file, the other reads it.
        script = (
            '{ [ -d "$1" ] || mkdir -p ${4:+-m "$4"} -- "$1"; } && cd -- "$1" || exit 3; '
            '[ -s "$2" ] || (set -C; printf %s "$3" >"$2") 2>/dev/null; cat -- "$2"'
        )
        made = "" if self.parts or rights == 0o777 else f"{rights:o}"
        return self.verify(self._ask(script, SENTINEL, new_sentinel(), made), None)

    @contextmanager
    def opened(self, expected: str | None = None, *, make: int = 0, known: Mark | None = None) -> Iterator[Opened]:
        script = 'cd -- "$1" || exit 3; cat -- "$2" && { [ -z "$3" ] || [ -d "./$3" ] || mkdir -p -m "$4" -- "./$3"; }'
        below = str(PurePosixPath(*self.parts)) if make and self.parts else ""
        self.verify(self._ask(script, SENTINEL, below, f"{make:o}"), expected)
        yield Opened(HostStore(self.host, self.path, options=self.rsync_options))

    @contextmanager
    def as_it_is(self) -> Iterator[HostStore]:
        self._ask('mkdir -p -- "$1" && cd -- "$1" || exit 3', at=self.path)
        yield HostStore(self.host, self.path, options=self.rsync_options)

    def names(self) -> list[str]:
        found = self._ask('cd -- "$1" 2>/dev/null || exit 0; ls -1A', at=self.path)
        return sorted(set(found.splitlines()) - {SENTINEL})

    def missing(self, names: Sequence[str]) -> list[str]:
        script = (
            'cd -- "$1" 2>/dev/null; found=$?; shift; i=0; '
            'for f; do { [ $found = 0 ] && ls -d -- "$f" >/dev/null 2>&1; } || echo $i; i=$((i+1)); done'
        )
        return [names[int(index)] for index in self._ask(script, *names, at=self.path).split()]

    def _ask(self, script: str, *words: str, at: str | None = None) -> str:
        """Run a few lines of sh there; ``$1`` is the folder, `words` follow."""
        folder = self.root if at is None else at
        try:
            return ssh.run(self.host, ["sh", "-c", script, "sh", folder, *words], ok=(0, 1)).stdout
        except CommandFailed as error:
            said = error.output.splitlines()[-1:] or [f"status {error.returncode}"]
            raise Unavailable(
                f"{self.text} cannot be used: {said[0]}", f"Look there: ssh {self.host} ls -ld {folder}"
            ) from error
