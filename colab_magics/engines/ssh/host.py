"""A machine that executes runs: prepared at first use, and connected to for as long as somebody asks.

What runs need there is this package in this very version, in ``~/.cache/colab_magics/package/<hash>``, and a Python
with what the package needs: the project's own environment where ``%host install`` has made one, else that of all
projects (see `colab_magics.relay.environment`).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import io
import os
import re
import select
import tarfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ...errors import ColabMagicsError, CommandFailed, Unavailable
from ...pipes import Pipes
from ...relay import environment, install_there
from ...relay.environment import Environment
from ...transport import ssh
from .line import Answer, Line

PACKAGE = Path(__file__).parents[2]
_SAYS = "colab_magics-runs: "
_START_SECONDS = 60.0
_COPY_SECONDS = 86_400.0
_AGAIN = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds until a host that could not be reached is tried again."""
_SERVE = "-m colab_magics.engines.ssh.there$ENGINE"
# Through a login shell of any kind: no line break, backslash, apostrophe or exclamation mark. A scope of systemd's
# outlives a logout also where processes of the session are killed.
_WHICH = (
    'd="${XDG_CACHE_HOME:-$HOME/.cache}/colab_magics"; p=; for f in $WANTED; do '
    'test -r "$f" && read -r p < "$f" && test -x "$p" && break; done; '
)
_START = (
    _WHICH + 'k="$d/package/$MARK"; if test -x "$p"; then if test -d "$k"; then export PYTHONPATH="$k"; cd; '
    's="systemd-run --user --scope --quiet --collect --"; '
    'if test -e "${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/systemd/private" && $s true </dev/null >/dev/null 2>&1; '
    f'then exec $s "$p" -P {_SERVE}; else exec "$p" -P {_SERVE}; fi; '
    f'else echo "{_SAYS}no-package"; fi; else echo "{_SAYS}no-python"; fi'
)
_UNPACK = (
    'umask 077; d="${XDG_CACHE_HOME:-$HOME/.cache}/colab_magics/package"; mkdir -p "$d" && '
    'n=$(mktemp -d "$d/.new.XXXXXX") && tar -xzf - -C "$n" && { mv -T "$n" "$d/$1" 2>/dev/null || rm -rf "$n"; }'
)


@functools.cache
def package() -> tuple[str, bytes]:
    """Return this package's name there, another one for each version, and its files as an archive."""
    files = {
        f"colab_magics/{path.relative_to(PACKAGE)}": path.read_bytes()
        for path in sorted(PACKAGE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    about = importlib.metadata.distribution("colab-magics")
    for name in ("METADATA", "entry_points.txt"):
        # With these it is an installed package, whose backends and engines are found.
        files[f"colab_magics-{about.version}.dist-info/{name}"] = (about.read_text(name) or "").encode()
    digest, packed = hashlib.sha256(), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in files.items():
            digest.update(f"{name} {len(data)} ".encode() + data)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o600
            archive.addfile(entry, io.BytesIO(data))
    return digest.hexdigest()[:16], packed.getvalue()


class Host:
    """A machine.

    Parameters
    ----------
    name : str
        Its name for ssh.
    project : str
        The project's folder there, whose environment is used.
    news : callable
        Called when something has happened there, from any thread.
    engine : sequence of str
        Name and options of the engine that executes runs there; by default it is the local one.
    """

    def __init__(self, name: str, project: str, news: Callable[[], None], engine: Sequence[str] = ()) -> None:
        self.name = ssh.check_host(name)
        self._project, self._news, self._engine = project, news, engine
        self._lock = threading.Lock()
        self._line: Line | None = None
        self._opening: Future[Line] | None = None
        self._failures = 0
        self._again = 0.0
        self.problem: ColabMagicsError | None = None
        """Why there is no connection; None when there is one, or nobody has tried."""
        self.said: dict[str, Any] = {}
        """What it said of itself."""

    def open(self) -> Future[Line]:
        """Begin to connect, unless that is done or being done; where it just failed, not before its time."""
        with self._lock:
            if self._opening is not None and not self._opening.done():
                return self._opening
            if (line := self._line) is not None:
                if line.why is None:
                    return _done(line)
                self._line, self.problem = None, line.why
            opening: Future[Line] = Future()
            if self.problem is not None and time.monotonic() < self._again:
                opening.set_exception(self.problem)
                return opening
            self._opening = opening
        threading.Thread(target=self._open, args=(opening,), name=f"connect {self.name}", daemon=True).start()
        return opening

    def is_open(self) -> bool:
        """Whether there is a connection, as far as anybody knows."""
        return self._line is not None and self._line.why is None

    def is_away(self) -> bool:
        """Whether it could not be connected to when that was tried last."""
        return self._failures > 0

    def ask(self, question: str, *blobs: bytes, **words: Any) -> Future[Answer]:
        """Ask over the connection; without one the future raises at once, and one is being opened."""
        line = self._line
        if line is None or line.why is not None:
            self.open()
            asked: Future[Answer] = Future()
            asked.set_exception(self.problem or Unavailable(f"{self.name} is being connected to."))
            return asked
        return line.ask(question, *blobs, **words)

    def bring(self, folder: str, here: Path) -> None:
        """Copy what a folder there holds into one here, however large; see `colab_magics.transport.ssh.copy`."""
        ssh.copy(f"{self.name}:{folder}", str(here), timeout=_COPY_SECONDS)

    def take(self, here: Path, folder: str) -> None:
        """Copy what a folder here holds into one there."""
        ssh.copy(str(here), f"{self.name}:{folder}", timeout=_COPY_SECONDS)

    def close(self) -> None:
        """End the connection; what runs there goes on."""
        if self._line is not None:
            self._line.close()

    def _open(self, opening: Future[Line]) -> None:
        try:
            line = self._connected()
        except ColabMagicsError as problem:
            with self._lock:
                self._again = time.monotonic() + _AGAIN[min(self._failures, len(_AGAIN) - 1)]
                self._failures += 1
                self.problem = problem
            opening.set_exception(problem)
        except BaseException as defect:  # noqa: BLE001 - whoever waits must hear of it
            self.problem = Unavailable(f"{self.name}: {type(defect).__name__}: {defect}.")
            opening.set_exception(defect)
        else:
            with self._lock:
                self._line, self.problem, self._failures = line, None, 0
            opening.set_result(line)
        self._news()

    def _connected(self) -> Line:
        """Connect; what is missing there is brought, each thing once."""
        tried = set[str]()
        while True:
            word, pipes, rest = self._started()
            if word != "serving":
                pipes.close()
            elif unmet := self._unmet(line := Line(self.name, pipes, rest, self._news)):
                line.close()
                word = "unmet"
            else:
                return line
            if word in tried:
                raise Unavailable(
                    f"{self.name} could not be made ready for runs ({word}).",
                    f"Look at it in a terminal: ssh {self.name}",
                )
            tried.add(word)
            if word == "cut":
                continue
            if word == "no-python":
                self._make_environment(Environment(project=self._project))
            elif word == "no-package":
                mark, packed = package()
                ssh.run(self.name, ["sh", "-c", _UNPACK, "sh", mark], input=packed, timeout=300)
            elif word == "old-python":
                raise Unavailable(
                    f"The Python of the runs on {self.name} is older than 3.11.",
                    f"Make the project an environment there with a newer one, by uv or conda: ssh {self.name}",
                )
            else:
                self._install(unmet if word == "unmet" else importlib.metadata.requires("colab-magics") or [])

    def _started(self) -> tuple[str, Pipes, bytes]:
        """Start what serves runs; returns what the host says, and what comes behind that."""
        script = self._of_wanted(_START).replace("$MARK", package()[0])
        script = script.replace("$ENGINE", "".join(f" {word}" for word in self._engine))
        pipes = Pipes(ssh.command(self.name, ["sh", "-c", script]))
        said, end = b"", time.monotonic() + _START_SECONDS
        while True:
            if found := re.search(rb"(?:^|\n)" + _SAYS.encode() + rb"([a-z-]+)\n", said):
                return found[1].decode(), pipes, said[found.end() :]
            ready = select.select([pipes.stdout], [], [], max(0.0, end - time.monotonic()))[0]
            data = os.read(pipes.stdout, 1 << 16) if ready else b""
            if not data:
                pipes.wait(2.0 if ready else 0.0)
                status, errors = pipes.close()
                return self._ended(status, errors, late=not ready), pipes, b""
            said += data

    def _of_wanted(self, script: str) -> str:
        keys = dict.fromkeys([(one := Environment(project=self._project)).project_key, one.key])
        return script.replace("$WANTED", " ".join(f'"$d/env/{key}"' for key in keys))

    def _ended(self, status: int, errors: str, *, late: bool) -> str:
        """Return what is missing, by what the host complained."""
        if late:
            ssh.drop_shared(self.name)
            raise Unavailable(f"{self.name} did not answer in time.", f"Try it in a terminal: ssh {self.name}")
        if status == 255 and errors.strip():
            raise ssh.unreachable(self.name, errors)
        if status == 255:
            # The connection that all share has died just now, which ssh does not say.
            ssh.drop_shared(self.name)
            return "cut"
        if re.search(r"[Uu]nknown option:? -P", errors):
            return "old-python"
        if "ModuleNotFoundError" in errors:
            return "no-module"
        raise Unavailable(
            f"{self.name} could not begin to execute runs: {ssh.last_line(errors) or f'status {status}'}.",
            f"Try it in a terminal: ssh {self.name}",
        )

    def _unmet(self, line: Line) -> list[str]:
        try:
            self.said, _ = line.ask("hello").result(_START_SECONDS)
        except TimeoutError:
            line.close()
            raise Unavailable(f"{self.name} did not answer in time.", f"Try: ssh {self.name}") from None
        except ColabMagicsError:
            line.close()
            raise
        return list(self.said.get("unmet") or ())

    def _make_environment(self, wanted: Environment) -> None:
        environment.prepare(self.name, wanted)

    def _install(self, requirements: list[str]) -> None:
        """Install what the package needs into the runs' Python there."""
        python = ssh.last_line(ssh.run(self.name, ["sh", "-c", self._of_wanted(_WHICH) + 'echo "$p"']).stdout)
        words = [line for line in requirements if "extra ==" not in line]
        try:
            install_there.install(self.name, python, words, {})
        except CommandFailed as problem:
            raise Unavailable(problem.what, problem.mend) from problem


def _done(line: Line) -> Future[Line]:
    done: Future[Line] = Future()
    done.set_result(line)
    return done
