"""%tunnel ssh and %tunnel code: who gets in, what a shell there finds, and what is left behind."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from code_server import on_the_path
from conftest import poll

from colab_magics import process, tunnel
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, NotFound, Unavailable
from colab_magics.transport.forward import free_port
from colab_magics.tunnels import servers, sshd
from colab_magics.tunnels.folder import Folder
from colab_magics.verbs.tunnel_shown import Tunnel

from .conftest import Relay, tunnel_opened


def opened(word: str, **words: Any) -> Tunnel:
    made = getattr(tunnel, word)(**words)
    assert isinstance(made, Tunnel)
    return made


def has_in_its_arguments(text: str) -> list[str]:
    found = []
    for one in psutil.process_iter():
        try:
            found += [line for line in one.cmdline() if text in line]
        except psutil.Error:
            continue
    return found


def listening(port: int) -> set[str]:
    return {one.laddr.ip for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port}


@pytest.fixture
def code_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A code-server on the PATH; returns its program."""
    return on_the_path(tmp_path, monkeypatch)


# G9
def test_code_server_asks_for_a_password_of_its_own(
    relay: Relay, project: Project, code_server: Path, said: io.StringIO, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "1234")
    made = opened("code", via="ssh:box")
    assert len(made.token) == 32
    url = f"http://localhost:{made.address.rpartition(':')[2]}/"
    assert made.url == url
    asked = urllib.request.Request(url, headers={"Cookie": f"key={made.token}"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(url, timeout=10)  # led to ./login, which this server does not have
    assert f"Its password, shown this once: {made.token}" in said.getvalue()
    assert listening(made.settings["port"]) == {"127.0.0.1"}
    # In files of the user's alone, and nowhere else.
    assert made.run is not None
    assert made.token not in str(made) + made.run.log.read_text()
    assert not has_in_its_arguments(made.token)
    holders = [
        path
        for path in [*home.rglob("*"), *project.root.rglob("*")]
        if path.is_file() and made.token in path.read_text(errors="ignore")
    ]
    assert {path.name for path in holders} == {"token", "code-server.yaml"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in holders} == {0o600}
    before = made.token
    tunnel.close("code")  # type: ignore[attr-defined]
    assert not list(home.rglob("token"))
    assert not listening(made.settings.get("port", 0))
    # One that asks nobody is not shown to anybody.
    (code_server.parent / "open").touch()
    with pytest.raises(Unavailable, match="lets in anybody who has no password"):
        opened("code", via="ssh:box")
    poll(lambda: not relay.clients() and not tunnel_opened())
    (code_server.parent / "open").unlink()
    assert opened("code", via="ssh:box").token != before


def test_a_server_that_ends_ends_its_tunnel(relay: Relay, project: Project, code_server: Path) -> None:
    made = opened("code", via="ssh:box")
    run = made.run
    assert run is not None
    (server,) = process.all_with("COLAB_MAGICS_TUNNEL", str(made.folder.path) if made.folder else "")
    os.kill(server, 9)
    poll(lambda: run.status().phase == "failed" and not relay.clients())
    assert "code-server has ended by itself" in run.log.read_text()


def test_a_tunnel_that_is_killed_leaves_no_server(relay: Relay, project: Project, code_server: Path) -> None:
    made = opened("code", via="ssh:box")
    port = made.settings["port"]
    os.kill(made.state["process"]["pid"], 9)
    poll(lambda: not listening(port) and not relay.clients())
    assert str(made).endswith("is closed.")


def test_without_the_program_it_says_what_to_install(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match="code-server is not on the PATH"):
        opened("code", via="ngrok")


class User:
    """Somebody who logs in."""

    def __init__(self, folder: Path, name: str) -> None:
        self.key = folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.key)], check=True)
        self.public = self.key.with_name(f"{name}.pub").read_text().strip()
        self.known = folder / "known hosts"

    def options(self, made: Tunnel) -> list[str]:
        words = ["-F", "none", "-i", str(self.key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        words += ["-o", f'UserKnownHostsFile="{self.known}"', "-o", "StrictHostKeyChecking=accept-new"]
        return [*words, "-o", f"Port={made.address.rpartition(':')[2]}"]

    def says(self, made: Tunnel, *command: str, terminal: bool = False) -> subprocess.CompletedProcess[str]:
        words = ["ssh", *self.options(made), *(["-tt"] if terminal else []), f"{sshd.user()}@127.0.0.1", *command]
        return subprocess.run(words, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, check=False)


# G1, G2, G3, G10
def test_a_shell_lets_in_keys_alone_and_finds_what_the_notebook_finds(
    relay: Relay, project: Project, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, said: io.StringIO
) -> None:
    one, other = User(tmp_path, "one"), User(tmp_path, "other")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/lib64-nvidia:/a b'c")
    monkeypatch.setenv("PATH", f"/opt/bin{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SOME_SECRET", "hidden-one")
    made = opened("ssh", key=one.public, via="ssh:box")
    shown = str(made)
    port = made.address.rpartition(":")[2]
    assert f" -p {port} -o HostKeyAlias=tunnel-" in made.command
    assert made.command.startswith("ssh -J ")
    assert made.command.endswith(f" {sshd.user()}@127.0.0.1")
    assert sshd.fingerprint(made.folder) in shown if made.folder else False
    found = one.says(
        made, "printenv LD_LIBRARY_PATH; command -v python; git config user.name; printenv SOME_SECRET; umask"
    )
    assert found.stdout.splitlines() == [
        "/usr/lib64-nvidia:/a b'c",
        f"{Path(sys.executable).parent}/python",
        "Test",
        servers.umask(),
    ]
    # A login shell's profile sets PATH anew.
    words = ["ssh", *one.options(made), "-tt", f"{sshd.user()}@127.0.0.1"]
    shell = subprocess.run(
        words,
        input="echo at:$PWD: path:$PATH: libs:$LD_LIBRARY_PATH:; exit 7\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    printed = shell.stdout.replace("\r", "")
    assert f"at:{project.root}:" in printed
    assert f"path:/opt/bin:{Path(sys.executable).parent}:" in printed
    assert "libs:/usr/lib64-nvidia:/a b'c:" in printed
    assert shell.returncode == 7
    assert one.says(made, "exit 3").returncode == 3
    # Files travel.
    subprocess.run(
        ["scp", *one.options(made), __file__, f"{sshd.user()}@127.0.0.1:{tmp_path}/copied"],
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "copied").read_text() == Path(__file__).read_text()
    # Nobody else.
    assert "Permission denied (publickey)" in other.says(made, "true").stderr
    offered = subprocess.run(
        [
            "ssh",
            *other.options(made),
            "-v",
            "-o",
            "PreferredAuthentications=password,keyboard-interactive",
            "root@127.0.0.1",
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    ).stderr
    assert "Authentications that can continue: publickey\n" in offered.replace("\r", "")
    assert listening(made.settings["port"]) == {"127.0.0.1"}
    # Said again with another key that one gets in, too; nothing stands anywhere twice, and nothing in ~/.ssh.
    again = opened("ssh", key=other.public)
    assert again.run_id == made.run_id
    opened("ssh", key=f"{one.public} of another name")
    assert other.says(made, "echo in").stdout == "in\n"
    assert made.folder is not None
    assert (made.folder.path / "authorized_keys").read_text() == f"{one.public}\n{other.public}\n"
    assert not (home / ".ssh").exists()
    fingerprint = sshd.fingerprint(made.folder)
    tunnel.close()  # type: ignore[attr-defined]
    poll(lambda: not listening(int(port)))
    # The next one has the same host key, and forgets who was let in.
    third = opened("ssh", key=str(other.key.with_name("other.pub")), via="ssh:box", port=(free := int(port)))
    assert third.settings["port"] == free
    assert third.folder is not None
    assert sshd.fingerprint(third.folder) == fingerprint
    assert (third.folder.path / "authorized_keys").read_text() == f"{other.public}\n"


def test_what_is_no_public_key_is_refused(project: Project, tmp_path: Path) -> None:
    user = User(tmp_path, "one")
    cases: list[tuple[str | None, type[Exception], str]] = [
        (None, InvalidInput, "Whose key"),
        (str(user.key), InvalidInput, "is a private key"),
        ("ssh-ed25519 AAAA", InvalidInput, "no public key"),
        ("hello", NotFound, "no public key, and no file"),
        (f'command="sh" {user.public}', NotFound, "no public key, and no file"),
        (f"{user.public}\ncommand=x {user.public}", NotFound, "no public key, and no file"),
        (__file__, InvalidInput, "This is no public key"),
    ]
    for key, error, text in cases:
        with pytest.raises(error, match=text):
            opened("ssh", key=key, via="ssh:box")
    with pytest.raises(InvalidInput, match="forwards web pages only"):
        opened("ssh", key=user.public, via="ssh:localhost.run")


def test_an_sshd_in_a_folder_of_any_name(tmp_path: Path) -> None:
    name = "-rf a'; echo foo $(touch gone) ünï-日本 #"
    folder = Folder(tmp_path / f"{name} 50%h")
    folder.prepare()
    user = User(tmp_path, "one")
    sshd.authorize(folder, [user.public])
    port = free_port()
    server = sshd.prepare(folder, port, tmp_path / name, os.environ)
    with subprocess.Popen(server.command, stderr=subprocess.DEVNULL) as running:
        try:
            poll(lambda: servers.is_ready("ssh", port, ""))
            words = ["ssh", "-F", "none", "-i", str(user.key), "-o", "StrictHostKeyChecking=accept-new"]
            words += ["-o", f"UserKnownHostsFile={tmp_path}/known", "-o", "BatchMode=yes", "-p", str(port)]
            said = subprocess.run(
                [*words, f"{sshd.user()}@127.0.0.1", "echo in"], capture_output=True, text=True, check=False
            )
            assert said.stdout == "in\n", said.stderr
        finally:
            running.terminate()
    assert not list(tmp_path.rglob("gone"))
