"""A folder of another machine as a Place, by ssh."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self

from ..errors import CommandFailed, InvalidInput, Unavailable
from . import ssh
from .places import SENTINEL, Opened, Place, new_sentinel


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
        # -s: the path there is a name, whatever characters it has, and no text for a shell.
        return ["-s", "--timeout=60", "--partial-dir=.~rsync-part", "-e", ssh.rsync_shell()]

    def prepare(self) -> str:
        # "set -C": of two that prepare at once one makes the file, the other reads it.
        script = (
            'mkdir -p -- "$1" && cd -- "$1" || exit 3; '
            '[ -s "$2" ] || (set -C; printf %s "$3" >"$2") 2>/dev/null; cat -- "$2"'
        )
        return self.verify(self._ask(script, SENTINEL, new_sentinel()), None)

    @contextmanager
    def opened(self, expected: str | None = None, *, make: bool = False) -> Iterator[Opened]:
        script = 'cd -- "$1" || exit 3; cat -- "$2" && { [ -z "$3" ] || mkdir -p -- "./$3"; }'
        below = str(PurePosixPath(*self.parts)) if make and self.parts else ""
        self.verify(self._ask(script, SENTINEL, below), expected)
        yield Opened(None, self.target)

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
