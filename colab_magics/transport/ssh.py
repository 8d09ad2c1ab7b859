"""Other machines by the user's own ssh: their configuration, keys, agent and jump hosts all count.

``COLAB_MAGICS_SSH_CONFIG`` names a configuration file that is used in place of ``~/.ssh/config`` (as ``ssh -F`` does).
Nothing here ever asks: a host that wants a password or an unknown key is an error that says so.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .. import process
from ..errors import CommandFailed, InvalidInput, Unavailable

if TYPE_CHECKING:
    import subprocess

CONNECT_SECONDS = 15
"""Time for a host to answer."""
LONG_SECONDS = 300.0
"""Time for work on many files there."""


def options() -> list[str]:
    """Return ssh's options for every connection, without the host."""
    config = os.environ.get("COLAB_MAGICS_SSH_CONFIG")
    return [
        *(["-F", config] if config else []),
        *("-o", "BatchMode=yes"),
        *("-o", f"ConnectTimeout={CONNECT_SECONDS}"),
        # A dead line must end the program that waits on it, not hang it.
        *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),
        *_shared(),
    ]


def _shared() -> list[str]:
    """Return the options by which many short commands use one connection, which ends a minute after the last."""
    # The path of a socket may have 107 bytes: it cannot lie in a home folder of any depth.
    folder = f"/tmp/colab_magics-{os.getuid()}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        seen = os.lstat(folder)
    except OSError:
        return []
    if seen.st_uid != os.getuid() or stat.S_IMODE(seen.st_mode) != 0o700 or not stat.S_ISDIR(seen.st_mode):
        return []  # somebody else made it: never trust a socket there
    config = os.environ.get("COLAB_MAGICS_SSH_CONFIG", "")
    mark = hashlib.sha256(os.fsencode(config)).hexdigest()[:8]
    return ["-o", "ControlMaster=auto", "-o", f"ControlPath={folder}/{mark}-%C", "-o", "ControlPersist=60"]


def check_host(host: str) -> str:
    """Return `host` if ssh cannot mistake it for an option.

    Raises
    ------
    InvalidInput
        For an empty name, one with a leading dash, white space or control characters.
    """
    if not host or host.startswith("-") or any(c.isspace() or not c.isprintable() for c in host):
        raise InvalidInput(f"{host!r} is no host's name.", "Write it as for ssh: NAME, or USER@NAME.")
    return host


def command(host: str, remote: Sequence[str]) -> list[str]:
    """Return the argument list that runs `remote` on `host`; the one place where words are quoted for its shell."""
    return ["ssh", *options(), "-T", "--", check_host(host), shlex.join(remote)]


def run(
    host: str,
    remote: Sequence[str],
    *,
    input: bytes | None = None,
    timeout: float | None = 60.0,
    ok: Iterable[int] = (0,),
) -> subprocess.CompletedProcess[str]:
    """Run a program on another machine to its end.

    Parameters
    ----------
    host : str
        Its name in the user's ssh configuration, or ``user@name``.
    remote : sequence of str
        The argument list there.
    input : bytes, optional
        Sent to its standard input.
    timeout : float, optional
        Seconds until it is given up.
    ok : iterable of int, default (0,)
        Exit statuses that are no error.

    Returns
    -------
    subprocess.CompletedProcess
        As `colab_magics.process.run` returns it.

    Raises
    ------
    Unavailable
        When the host does not answer or does not let us in.
    CommandFailed
        When the program ended with an error.
    """
    try:
        return process.run(command(host, remote), input=input, timeout=timeout, ok=ok)
    except CommandFailed as error:
        if error.returncode in (124, 255):
            raise unreachable(host, error.output) from error
        raise


def unreachable(host: str, output: str) -> Unavailable:
    """Build the error for a host that ssh cannot reach, from what ssh printed."""
    lines = [line for line in output.splitlines() if line.strip()]
    said = f": {lines[-1].strip()}" if lines else ""
    return Unavailable(f"{host} cannot be reached by ssh{said}.", f"Try it in a terminal: ssh {shlex.quote(host)}")


def rsync_shell() -> str:
    """Return the value of rsync's ``-e``; rsync splits it at spaces and knows quotes as a shell does."""
    return shlex.join(["ssh", *options()])
