"""A real sshd on the loopback, with keys, port and client settings of its own.

ssh reads the home folder from the password database, not from ``$HOME``: clients are pointed at `Sshd.config_file` by
``ssh -F``, ours by ``COLAB_MAGICS_SSH_CONFIG``, git by ``GIT_SSH_COMMAND``.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import poll

LOCAL = "127.0.0.1"


@dataclass(frozen=True)
class Sshd:
    """A running server.

    Parameters
    ----------
    port : int
        Where it listens.
    config_file : Path
        Settings for ``ssh -F`` in which it is known by `host`.
    host : str
        Its name in `config_file`.
    process : subprocess.Popen
        The server; tests may end it to make the machine unreachable.
    """

    port: int
    config_file: Path
    host: str
    process: subprocess.Popen[bytes]

    @contextmanager
    def again(self) -> Iterator[None]:
        """Run a server that was ended once more, until the block ends."""
        with _running(self.config_file.parent, self.port):
            yield


@contextmanager
def sshd(
    tmp: Path,
    *,
    host: str = "box",
    session_home: Path | None = None,
    session_path: str | None = None,
    listen: str = LOCAL,
    address: str = LOCAL,
    inside: Sequence[str] = (),
    **variables: str,
) -> Iterator[Sshd]:
    """Run a server until the block ends; skips the test where OpenSSH's server is not installed.

    Parameters
    ----------
    tmp : Path
        A folder for its keys and settings.
    host : str, default "box"
        The name by which clients know it.
    session_home : Path, optional
        ``HOME`` of those who log in, in place of their real one.
    session_path : str, optional
        Their ``PATH``.
    listen, address : str
        Where it listens, and where its clients look for it: a link may lie between them.
    inside : sequence of str
        The words of a program that runs the server elsewhere on this machine, such as ``ip netns exec NAME``.
    **variables : str
        Further environment variables of those who log in.
    """
    if _program() is None or shutil.which("ssh") is None:
        pytest.skip("needs openssh-server and openssh-client: apt-get install openssh-server openssh-client")
    folder = tmp / "sshd of the test"
    folder.mkdir(mode=0o700)
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # privilege separation needs it
    known = {"HOME": session_home, "PATH": session_path, **_certificates(), **variables}
    port = _write_settings(folder, host, known, listen, address)
    with _running(folder, port, listen, inside) as running:
        yield Sshd(port, folder / "ssh_config", host, running)


@contextmanager
def _running(
    folder: Path, port: int, listen: str = LOCAL, inside: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    command = [*inside, str(_program()), "-D", "-e", "-f", str(folder / "sshd_config")]
    with open(folder / "log", "ab") as log:
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        poll(lambda: running.poll() is not None or _answers(listen, port), what="sshd answers")
        assert running.poll() is None, (folder / "log").read_text()
        yield running
    finally:
        running.terminate()
        running.wait(10)


def _program() -> str | None:
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _write_settings(folder: Path, host: str, variables: Mapping[str, object], listen: str, address: str) -> int:
    with socket.socket() as free:
        free.bind((listen if listen.startswith("127.") else LOCAL, 0))
        port: int = free.getsockname()[1]
    public = (folder / "host_key.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[{address}]:{port} {public[0]} {public[1]}\n")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress {listen}\n"
        f'HostKey "{folder}/host_key"\nAuthorizedKeysFile "{folder}/user_key.pub"\nPidFile none\n'
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"Subsystem sftp internal-sftp\n{_set(variables)}"
    )
    (folder / "ssh_config").write_text(
        f"Host {host}\n  HostName {address}\n  Port {port}\n  User {getpass.getuser()}\n"
        f'  IdentityFile "{folder}/user_key"\n  IdentitiesOnly yes\n  UserKnownHostsFile "{folder}/known_hosts"\n'
        "  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n"
    )
    return port


def _certificates() -> dict[str, Path]:
    """Let those who log in reach a package index as this machine does: some programs bring a list of their own."""
    known = Path("/etc/ssl/certs/ca-certificates.crt")
    return {"SSL_CERT_FILE": known} if known.exists() else {}


def _set(variables: Mapping[str, object]) -> str:
    words = " ".join(f'"{name}={value}"' for name, value in variables.items() if value)
    return f"SetEnv {words}\n" if words else ""


def _answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False
