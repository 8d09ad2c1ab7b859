"""A real PostgreSQL on the loopback, as a user who is not root, with passwords: about two seconds.

with postgres_server() as server:
    psycopg.connect(server.address())
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from buckets_server import LOCAL, free_port
from conftest import poll

USER, PASSWORD = "tester", "it's $(a) p@ss/wörd"


@dataclass(frozen=True)
class PostgresServer:
    """A running server.

    Parameters
    ----------
    port : int
        Where it listens.
    process : subprocess.Popen
        The server.
    folder : Path
        What it keeps.
    """

    port: int
    process: subprocess.Popen[bytes]
    folder: Path

    def address(self, table: str = "", *, port: int = 0, password: str | None = PASSWORD, database: str = "") -> str:
        """Return an address, by default with the password."""
        secret = "" if password is None else f":{urllib.parse.quote(password, safe='')}"
        tail = f"?table={table}" if table else ""
        return f"postgresql://{USER}{secret}@{LOCAL}:{port or self.port}/{database or 'postgres'}{tail}"


def program(name: str) -> str | None:
    """Return the path of a program of the newest PostgreSQL here; Debian keeps them away from $PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: float(one.parent.name))
    for folder in reversed(folders):
        if (folder / name).is_file():
            return str(folder / name)
    return shutil.which(name)


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Run a server until the block ends; skips the test where PostgreSQL is not installed.

    `durable` has every commit on the disk before it is told, as people have it; tests are quicker without.
    """
    initdb, postgres = program("initdb"), program("postgres")
    if initdb is None or postgres is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    # It refuses to be root; and nobody but the tests' own user can look into the tests' folders.
    user = "nobody" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    env = {"PATH": os.environ["PATH"], "HOME": "/", "LC_ALL": "C"}  # not the home of one test
    try:
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        data = folder / "data"
        words = ["-D", data, "-U", USER, "-A", "scram-sha-256", "--pwfile", folder / "password", "-E", "UTF8", "-N"]
        subprocess.run([initdb, *words], check=True, capture_output=True, env=env, user=user, cwd=folder)
        port = free_port()
        settings = {"port": port, "listen_addresses": LOCAL, "unix_socket_directories": "", "max_connections": 200}
        if not durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        log = folder / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [postgres, "-D", data, *words],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=env,
                user=user,
                cwd=folder,
            )
        try:
            poll(lambda: process.poll() is not None or b"ready to accept connections" in log.read_bytes(), timeout=60)
            assert process.poll() is None, log.read_text(errors="replace")
            yield PostgresServer(port, process, folder)
        finally:
            end(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server with whoever is connected, by its id."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
