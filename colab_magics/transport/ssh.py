"""Other machines by the user's own ssh: their configuration, keys, agent and jump hosts all count.

``COLAB_MAGICS_SSH_CONFIG`` names a configuration file that is used in place of ``~/.ssh/config`` (as ``ssh -F`` does).
Nothing here ever asks: a host that wants a password or an unknown key is an error that says so.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .. import process
from ..errors import CommandFailed, InvalidInput, NotFound, Unavailable

if TYPE_CHECKING:
    import subprocess

CONNECT_SECONDS = 15
"""Time for a host to answer."""
LONG_SECONDS = 300.0
"""Time for work on many files there."""


def config_option() -> list[str]:
    """Return ssh's option that names its configuration; empty for the user's own one."""
    config = os.environ.get("COLAB_MAGICS_SSH_CONFIG")
    return ["-F", config] if config else []


def options() -> list[str]:
    """Return ssh's options for every connection, without the host."""
    return [*_quiet(), *_shared()]


def own_connection() -> list[str]:
    """Return ssh's options for a connection that no other command shares, and that ends with its program."""
    return [*_quiet(), "-o", "ControlMaster=no", "-o", "ControlPath=none"]


def _quiet() -> list[str]:
    return [
        *config_option(),
        *("-o", "BatchMode=yes"),
        *("-o", f"ConnectTimeout={CONNECT_SECONDS}"),
        # A dead line must end the program that waits on it, not hang it.
        *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),
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
    return ["ssh", *options(), "-T", "--", check_host(host), quoted(remote)]


def quoted(words: Sequence[str]) -> str:
    """Return a command line for any login shell.

    In all of them a text between apostrophes is itself, but for ``!`` and line breaks in csh and tcsh, and for
    backslashes in fish: with one of these sh gets the line with its characters by number.
    """
    line = shlex.join(words)
    if not re.search(r"[!\\\n\r]", line):
        return line
    numbered = "".join(chr(c) if chr(c) in _PLAIN else f"\\{c:03o}" for c in os.fsencode(line))
    return f'sh -c \'eval "$(printf "{numbered}")"\''


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ./_-=:,;+@{}[]()<>|&*?#~^")


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


def resolved(host: str, *words: str) -> dict[str, str]:
    """Return what ssh's configuration says of a host, as ``ssh -G`` shows it: the first value of each keyword.

    Parameters
    ----------
    host : str
        As for ssh.
    *words : str
        Further options of ssh; those that name the configuration by default.

    Raises
    ------
    Unavailable
        When ssh cannot read its configuration.
    """
    return {key: values[0] for key, values in resolved_all(host, *words).items()}


def resolved_all(host: str, *words: str) -> dict[str, list[str]]:
    """Return what ssh's configuration says of a host, with all values of each keyword; see `resolved`."""
    try:
        shown = process.run(["ssh", *(words or config_option()), "-G", "--", check_host(host)], timeout=20).stdout
    except CommandFailed as error:
        said = last_line(error.output) or error.what
        raise Unavailable(f"ssh cannot use its configuration for {host}: {said}.", "Mend that line.") from error
    found: dict[str, list[str]] = {}
    for line in shown.splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    return found


def connect(host: str) -> None:
    """Open the connection that all further commands to a host share for a minute after the last.

    Raises
    ------
    Unavailable
        When there is none to be had; the text says why and what to do.
    """
    run(host, ["true"])


def copy(source: str, target: str, *, timeout: float = LONG_SECONDS) -> None:
    """Copy a file or a folder to or from another machine, over the shared connection.

    By rsync where both sides have it, else as a stream of tar. A file is renamed to its name when it is whole; of a
    copy that was cut some files may be there, but none in part. Nothing is deleted. What comes from there has no
    rights for others, and links that lead out of the folder are left out.

    Parameters
    ----------
    source, target : str
        One of them is ``HOST:PATH``, from the home folder there or from ``/``; a path here that has a colon is written
        ``./a:b``. What a folder holds goes into the folder `target`; a file becomes `target`, or goes into it where
        that is a folder.
    timeout : float
        Seconds until it is given up.

    Raises
    ------
    InvalidInput
        When not exactly one side is another machine, or the source is not there.
    Unavailable
        When the host does not answer, the connection was cut, or time is over.
    CommandFailed
        When the other side says that it cannot be.
    """
    from . import copying

    (there, path), (host_of_target, to) = _place(source), _place(target)
    host = check_host(there or host_of_target) if bool(there) != bool(host_of_target) else ""
    if not host:
        raise InvalidInput("A copy is from here to another machine, or back.", "Write one of both as HOST:PATH.")
    if there:
        Path(to).absolute().parent.mkdir(parents=True, exist_ok=True)
    elif not os.path.lexists(path):
        raise InvalidInput(f"There is no {path} here.", "Name a file or folder that is there.")
    said = run(host, ["sh", "-c", _LOOK, "sh", path if there else to, "get" if there else "put"]).stdout.splitlines()
    seen = {line.removeprefix(_MARK) for line in said if line.startswith(_MARK)}
    if there and "none" in seen:
        raise NotFound(f"There is no {path} on {host}.", f"Look there: ssh {host} ls")
    if "rsync" in seen and shutil.which("rsync"):
        whole = "folder" in seen if there else Path(path).is_dir()
        # A slash behind the source means what the folder holds; no path here is taken for an option or a host.
        ends = [f"{host}:{path}" if there else os.path.abspath(path), os.path.abspath(to) if there else f"{host}:{to}"]
        ends[0] += "/" if whole else ""
        if there and not whole and os.path.isdir(ends[1]):
            # Where one file goes is not for the other machine to say.
            ends[1] = os.path.join(ends[1], PurePosixPath(path).name)
        _rsync(host, ends, timeout, flags=_FROM_THERE if there else ("--archive",))
    elif there:
        copying.get(host, path, Path(to).absolute(), timeout=timeout)
    else:
        copying.put(Path(path).absolute(), host, to, timeout=timeout)


_MARK = "colab_magics-copy:"
"""Begins each line of ours: a login shell may print what it likes."""
# No path here can be taken for an option.
_LOOK = (
    f"m={_MARK}; "
    'command -v rsync >/dev/null 2>&1 && echo ${m}rsync; case "$1" in /*) p=$1 ;; *) p=./$1 ;; esac; '
    '[ "$2" = put ] && { [ -d "$p" ] || { q=${p%/*}; mkdir -p -- "${q:-/}"; }; exit; }; '
    '[ -d "$p" ] && echo ${m}folder; [ -e "$p" ] || [ -L "$p" ] || echo ${m}none'
)


def _place(text: str) -> tuple[str, str]:
    """Return host and path; no host for a path here. Slashes at the end are none of rsync's business."""
    host, colon, path = text.partition(":")
    if not colon or "/" in host:
        host, path = "", text
    return host, path.rstrip("/") or ("/" if path.startswith("/") else ".")


# No owners, devices and rights of others; no links that lead out.
_FROM_THERE = ("-rlpt", "--safe-links", "--chmod=ugo-s,o-t,go-w")


def _rsync(host: str, ends: Sequence[str], timeout: float, *, flags: Sequence[str]) -> None:
    # -s: no shell there splits or expands a path.
    try:
        process.run(["rsync", *flags, "-s", "-e", rsync_shell(), "--", *ends], timeout=timeout)
    except CommandFailed as error:
        # rsync(1): errors of sockets and of its protocol, signals, time-outs; and ssh's own end
        if error.returncode in (10, 12, 20, 30, 35, 124, 255):
            raise unreachable(host, error.output) from error
        raise


def drop_shared(host: str) -> None:
    """Have no further command use the shared connection to a host: it does not answer. What runs over it goes on."""
    try:
        process.run(["ssh", *options(), "-O", "stop", "--", check_host(host)], timeout=2, ok=range(256))
    except CommandFailed:
        # It does not even answer on its socket: without the socket nobody finds it.
        path = resolved(host, *options()).get("controlpath", "")
        if path.startswith("/tmp/colab_magics-"):
            Path(path).unlink(missing_ok=True)


class UnknownHost(Unavailable):
    """A host whose key is not known, or is another one than before."""


class UnknownName(Unavailable):
    """A name that neither ssh's configuration nor anybody else knows."""


class Refused(Unavailable):
    """A host that does not let us in."""


def unreachable(host: str, output: str) -> Unavailable:
    """Build the error for a host that ssh cannot reach, from what ssh printed."""
    terminal = shlex.join(["ssh", *config_option(), host])
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
            f"{host} does not let us in: {last_line(output)}.",
            f"Add your key to the agent (ssh-add). For a password or a code, open the connection in a terminal: {keep}",
        )
    if "Could not resolve hostname" in output:
        from . import hosts

        if (unknown := hosts.unknown(host)) is not None:
            return unknown
    said = f": {last_line(output).removeprefix('ssh: ')}" if last_line(output) else ""
    return Unavailable(f"{host} cannot be reached by ssh{said}.", f"Try it in a terminal: {terminal}")


def last_line(output: str) -> str:
    """Return the last line that says something, without its full stop."""
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
