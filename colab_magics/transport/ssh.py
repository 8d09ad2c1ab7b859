"""Other machines by the user's own ssh: their configuration, keys, agent and jump hosts all count.

``COLAB_MAGICS_SSH_CONFIG`` names a configuration file that is used in place of ``~/.ssh/config`` (as ``ssh -F`` does).
Nothing here ever asks: a host that wants a password or an unknown key is an error that says so.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
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
    path = _control_path()
    return ["-o", "ControlMaster=auto", "-o", f"ControlPath={path}", "-o", "ControlPersist=60"] if path else []


def _control_path() -> str:
    """Return ssh's pattern for the socket of a shared connection; empty where no folder for it can be trusted."""
    # The path of a socket may have 107 bytes: it cannot lie in a home folder of any depth.
    folder = f"/tmp/colab_magics-{os.getuid()}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        seen = os.lstat(folder)
    except OSError:
        return ""
    if seen.st_uid != os.getuid() or stat.S_IMODE(seen.st_mode) != 0o700 or not stat.S_ISDIR(seen.st_mode):
        return ""  # somebody else made it: never trust a socket there
    config = os.environ.get("COLAB_MAGICS_SSH_CONFIG", "")
    mark = hashlib.sha256(os.fsencode(config)).hexdigest()[:8]
    return f"{folder}/{mark}-%C"


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


def connect(host: str) -> None:
    """Open the connection that all further commands to a host share for a minute after the last.

    Raises
    ------
    Unavailable
        When there is none to be had; the text says why and what to do.
    """
    run(host, ["true"])


def copy(source: str, target: str, *options: str, timeout: float = LONG_SECONDS) -> None:
    """Copy files or folders to or from another machine.

    Parameters
    ----------
    source, target : str
        As rsync knows them; one of them is ``HOST:PATH``.
    *options : str
        Further options of rsync; ``--archive`` is one already.
    timeout : float
        Seconds until it is given up.
    """
    # -s: no shell there splits or expands a path.
    command = ["rsync", "--archive", "-s", "-e", rsync_shell(), *options, "--", source, target]
    try:
        process.run(command, timeout=timeout)
    except CommandFailed as error:
        if error.returncode == 255:
            host = next(name for name in (source, target) if ":" in name).partition(":")[0]
            raise unreachable(host, error.output) from error
        raise


def drop_shared(host: str) -> None:
    """Have no further command use the shared connection to a host: it does not answer. What runs over it goes on."""
    try:
        process.run(["ssh", *options(), "-O", "stop", "--", check_host(host)], timeout=2, ok=range(256))
    except CommandFailed:
        # It does not even answer on its socket: without the socket nobody finds it.
        found = process.run(["ssh", *options(), "-G", "--", check_host(host)], timeout=10).stdout
        path = next((line.split(" ", 1)[1] for line in found.splitlines() if line.startswith("controlpath ")), "")
        if path.startswith("/tmp/colab_magics-"):
            Path(path).unlink(missing_ok=True)


class UnknownHost(Unavailable):
    """A host whose key is not known, or is another one than before."""


class Refused(Unavailable):
    """A host that does not let us in."""


def unreachable(host: str, output: str) -> Unavailable:
    """Build the error for a host that ssh cannot reach, from what ssh printed."""
    terminal = f"ssh {shlex.quote(host)}"
    config = os.environ.get("COLAB_MAGICS_SSH_CONFIG")
    if config:
        terminal = f"ssh -F {shlex.quote(config)} {shlex.quote(host)}"
    if "IDENTIFICATION HAS CHANGED" in output:
        mark = re.search(r"SHA256:[^\s.]+", output)
        shown = f" ({mark[0]})" if mark else ""
        return UnknownHost(
            f"{host} shows another key than before{shown}: it was set up anew, or somebody is in between.",
            f"Ask who runs it; ssh tells which line of known_hosts to remove: {terminal}",
        )
    if "Host key verification failed" in output:
        return UnknownHost(
            f"The key of {host} is not known here{_fingerprint(host)}.",
            f"Compare it with what its owner says, then accept it in a terminal: {terminal}",
        )
    if "Permission denied" in output or "Too many authentication failures" in output:
        path = _control_path()
        keep = f"ssh -fN -o ControlMaster=yes -o ControlPath={shlex.quote(path)} {terminal.removeprefix('ssh ')}"
        return Refused(
            f"{host} does not let us in: {_last_line(output)}.",
            f"Add your key to the agent (ssh-add). For a password or a code, open the connection in a terminal: {keep}",
        )
    said = f": {_last_line(output)}" if _last_line(output) else ""
    return Unavailable(f"{host} cannot be reached by ssh{said}.", f"Try it in a terminal: {terminal}")


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""


def _fingerprint(host: str) -> str:
    """Ask a host for its key once more, for the user to compare."""
    said = process.run(["ssh", *options(), "-v", "--", host, "true"], timeout=30, ok=range(256)).stderr
    keys = re.findall(r"Server host key: (\S+ SHA256:\S+)", said)
    return f" (it shows {keys[-1]})" if keys else ""


def rsync_shell() -> str:
    """Return the value of rsync's ``-e``; rsync splits it at spaces and knows quotes as a shell does."""
    return shlex.join(["ssh", *options()])
