"""What a kernel needs on a host, prepared at first use: our programs, and a Python with ipykernel.

The command that attaches looks for a file that says where that Python is; only when there is none, `prepare` runs. So
repeated use costs nothing. On the host everything lies in ``~/.cache/colab_magics`` (``$XDG_CACHE_HOME``), mode 0700.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import shlex
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from .. import process
from ..errors import InvalidInput, Unavailable
from ..transport import ssh
from . import wheels, wire

HERE = Path(__file__).parent
SHIPPED = (
    *("__init__", "attach", "client_there", "files_there", "kernel_process", "kernel_relay"),
    *("processes_there", "requests_seen", "serving", "spool", "there", "wire"),
)
"""Modules that stand alone and run there."""
KERNEL_PROGRAM = HERE.parent / "kernels" / "private_api.py"
MAIN = "from colab_magics_relay.there import main\nmain()\n"
PREPARE_SECONDS = 900.0
SAID = "colab_magics-prepared: "
OLDEST = (3, 8)


@dataclass(frozen=True)
class Environment:
    """Which Python a kernel there has.

    Parameters
    ----------
    python : str, default ""
        Its version, such as ``3.12``, for an environment of our own; empty for what is there.
    env : str, default ""
        An environment that is there: ``conda:NAME``, or the path of a folder or of an interpreter; empty for our own.
    project : str, default ""
        A project's folder there: where `prepare` has made an environment for it alone, kernels use that one.
    """

    python: str = ""
    env: str = ""
    project: str = ""

    def __post_init__(self) -> None:
        if self.python and not re.fullmatch(r"3\.\d+", self.python):
            raise InvalidInput(f"{self.python!r} is no version of Python.", "Write it as python=3.12.")
        if self.python and tuple(map(int, self.python.split("."))) < OLDEST:
            raise InvalidInput(f"Python {self.python} is too old for a kernel there.", "Use python=3.8 or newer.")
        if "\n" in self.env or "\0" in self.env:
            raise InvalidInput(f"{self.env!r} is no environment.", "Write it as env=conda:NAME or env=PATH.")
        if self.python and self.env:
            raise InvalidInput("python= is for an environment of our own, env= names one that is there.", "Use one.")

    @property
    def key(self) -> str:
        """Name of the file there that says where its Python is."""
        return hashlib.sha256(f"{self.python}\n{self.env}".encode()).hexdigest()[:16]

    @property
    def project_key(self) -> str:
        """The same for the project's own Python; that of an environment of the user's is for all projects."""
        if self.env or not self.project:
            return self.key
        words = f"{self.python}\n{self.env}\n{self.project}"
        return hashlib.sha256(os.fsencode(words)).hexdigest()[:16]


@cache
def _shipped() -> dict[str, bytes]:
    """Return the files that run there."""
    files = {f"colab_magics_relay/{name}.py": (HERE / f"{name}.py").read_bytes() for name in SHIPPED}
    return {**files, "kernel.py": KERNEL_PROGRAM.read_bytes(), "__main__.py": MAIN.encode()}


@cache
def program_name() -> str:
    """Return the name of the folder there that holds them: another one for every version."""
    digest = hashlib.sha256()
    for name, data in sorted(_shipped().items()):
        digest.update(f"{name} {len(data)} ".encode() + data)
    return digest.hexdigest()[:16]


def spelled(name: str) -> str:
    """Return the folder's name of a kernel there."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        return name
    if not name:
        raise InvalidInput("A kernel's name is empty.", "Leave it out for 'main'.")
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name)[:40].strip("-")
    return f"{plain or 'kernel'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def program() -> bytes:
    """Return them as an archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in sorted(_shipped().items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o600
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def attach_command(environment: Environment, words: str, *, build: bool = True) -> list[str]:
    """Return the command that attaches, or says that something is missing; `words` is the client's greeting.

    Without `build` any Python that was prepared there serves: the kernel is there already.
    """
    # Through a login shell of any kind: no line break, backslash, apostrophe or exclamation mark.
    greeting, others = wire.GREETING.decode(), "" if build else '"$d"/env/*'
    name = program_name()
    wanted = " ".join(f'"$d/env/{key}"' for key in dict.fromkeys((environment.project_key, environment.key)))
    script = (
        'd="${XDG_CACHE_HOME:-$HOME/.cache}/colab_magics"; p=; '
        f"for f in {wanted} {others}; do "
        'test -r "$f" && read -r p < "$f" && test -x "$p" && break; done; '
        f'if test -x "$p" && test -d "$d/relay/{name}"; then echo "{greeting} ready"; '
        f'exec "$p" -I -S "$d/relay/{name}" attach {words}; else echo "{greeting} missing"; fi'
    )
    return ["sh", "-c", script]


def run_on(host: str, command: Sequence[str], *, input: bytes, timeout: float = PREPARE_SECONDS) -> str:
    """Run a command on a host, or here when `host` is empty, and return what it printed."""
    if host:
        return ssh.run(host, command, input=input, timeout=timeout).stdout
    return process.run(command, input=input, timeout=timeout).stdout


def prepare(
    host: str, environment: Environment, *, own: bool = False, tell: Callable[[str], None] = lambda text: None
) -> str:
    """Prepare an environment.

    Parameters
    ----------
    host : str
        Where; empty for this machine.
    environment : Environment
        Which.
    own : bool
        Make one for the project alone; otherwise all projects share one.
    tell : callable, optional
        Is told what is being done, for whoever waits.

    Returns
    -------
    str
        Path of its Python there.

    Raises
    ------
    Unavailable
        When it cannot be prepared: says why, and what to do.
    """
    tell(f"preparing Python on {host or 'this machine'}")
    word, rest = _run_script(host, environment, own, "")
    if word == "no-network":
        tell(f"{host or 'this machine'} reaches no package index: packages are copied there")
        word, rest = _run_script(host, environment, own, _copy_wheels(host, rest))
    if word != "ready":
        raise _problem(host or "this machine", environment, word, rest)
    return rest


def _run_script(host: str, environment: Environment, own: bool, mark: str) -> tuple[str, str]:
    key = environment.project_key if own else environment.key
    settings = {"key": key, "python": environment.python, "env": environment.env}
    settings.update(hash=program_name(), wheels=mark, program=base64.b64encode(program()).decode())
    # A single command for the shell: a part of the script that does not arrive is not executed.
    lines = [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
    script = "\n".join([*lines, (HERE / "prepare.sh").read_text()])
    said = run_on(host, ["sh", "-s"], input=script.encode())
    found = [line.removeprefix(SAID) for line in said.splitlines() if line.startswith(SAID)]
    word, _, rest = (found[-1] if found else "error it said nothing").partition(" ")
    return word, rest


def _copy_wheels(host: str, words: str) -> str:
    """Fetch ipykernel and what it needs for the Python that a host told of, and copy it there."""
    try:
        return wheels.bring(partial(run_on, host), wheels.Target.said(words), ["pip", "ipykernel"])
    except Unavailable as error:
        raise Unavailable(
            f"{host or 'this machine'} reaches no package index. {error.what}",
            "Install ipykernel there and name its environment: env=PATH.",
        ) from error


def _problem(host: str, environment: Environment, word: str, rest: str) -> Unavailable:
    if word == "no-env":
        return Unavailable(f"There is no environment {environment.env!r} on {host}.", "Name one as env=PATH.")
    if word == "no-ipykernel":
        return Unavailable(
            f"{environment.env!r} on {host} has no ipykernel.",
            f"Install it there: {shlex.quote(rest)} -m pip install ipykernel",
        )
    if word == "no-python":
        wanted = f"Python {environment.python}" if environment.python else "Python 3.8 or newer"
        return Unavailable(f"There is no {wanted} on {host}, and no uv that could fetch it.", "Install uv there.")
    return Unavailable(f"{host} could not be prepared: {rest}", "Name an environment that is there: env=PATH.")
