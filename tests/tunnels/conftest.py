"""A relay: a real sshd on the loopback, with a key whose rights a test may change."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from sshd import Sshd, sshd

from colab_magics import tunnel
from colab_magics.checkout.project import Project


@dataclass(frozen=True)
class Relay:
    """A relay of the test.

    Parameters
    ----------
    server : Sshd
        The server.
    """

    server: Sshd

    @property
    def folder(self) -> Path:
        """Where its keys and settings are."""
        return self.server.config_file.parent

    def only(self, options: str) -> None:
        """Let the user's key in with these options of authorized_keys alone."""
        key = (self.folder / "user_key.pub").read_text().split()
        (self.folder / "user_key.pub").write_text(f"{options} {' '.join(key[-3:])}\n")

    def prints(self, *lines: str) -> None:
        """Be a public service: print these lines to whoever logs in, and stay."""
        script = self.folder / "says"
        script.write_text("".join(f"echo {shlex.quote(line)}\n" for line in lines) + "exec cat >/dev/null\n")
        self.only(f'command="sh {shlex.quote(str(script))}"')

    def is_called(self, name: str) -> None:
        """Be known by another name, too."""
        text = self.server.config_file.read_text()
        self.server.config_file.write_text(text.replace(f"Host {self.server.host}\n", f"Host box {name}\n"))

    def clients(self) -> list[psutil.Process]:
        """Return the ssh programs that are connected to it."""
        config = str(self.server.config_file)
        found = [(one, one.info["cmdline"] or []) for one in psutil.process_iter(["name", "cmdline"])]
        return [one for one, words in found if one.info["name"] == "ssh" and config in words and "-R" in words]


@pytest.fixture
def relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """A relay that ssh knows as ``box``."""
    with sshd(tmp_path, host="box") as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        yield Relay(server)
        for one in tunnel_opened():
            tunnel.close(one)  # type: ignore[attr-defined]


def tunnel_opened() -> list[str]:
    """Return the names of the tunnels that are open."""
    from colab_magics.verbs.tunnel_open import opened

    return [one.name for one in opened()]


@pytest.fixture
def project(project: Project) -> Project:
    """A project, in whose folder the test stands."""
    os.chdir(project.root)
    return project


@pytest.fixture
def page() -> Iterator[int]:
    """What a user serves at a port of this machine."""

    class Hello(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()
