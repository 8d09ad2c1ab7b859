"""ssh's configuration as the one list of hosts: read as ssh reads it, and added to after a login that worked."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES
from sshd import Sshd, sshd

from colab_magics import __main__ as face
from colab_magics import session
from colab_magics.errors import InvalidInput, NotFound, Unavailable
from colab_magics.session import Session
from colab_magics.transport import hosts, hosts_file, ssh
from colab_magics.transport.hosts_file import Address
from colab_magics.ui import TerminalUI


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a configuration of the test's own."""
    file = tmp_path / "a folder" / "config"
    file.parent.mkdir()
    monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(file))
    return file


@pytest.fixture
def server(tmp_path: Path, config: Path) -> Iterator[Sshd]:
    """Run a machine that no configuration names; its key is known."""
    with sshd(tmp_path, session_home=tmp_path) as running:
        config.write_text(f'UserKnownHostsFile "{running.config_file.parent}/known_hosts"\nGlobalKnownHostsFile none\n')
        yield running


def key_of(server: Sshd) -> str:
    return str(server.config_file.parent / "user_key")


def add(name: str, server: Sshd, *words: str) -> int:
    return face.main(["host", "add", name, f"root@127.0.0.1:{server.port}", f"key={key_of(server)}", *words])


def test_the_names_in_it(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "more").mkdir()
    more = tmp_path / "more"
    (more / "1").write_text('host = deep "two"\nport=2222\nHostName deep.example.org\n')
    (tmp_path / "more" / "2").write_text("Host deep\n  HostName second\n")
    config.write_text(
        f"# Host comment\nInclude {more}/* /nowhere/*\nHost a b*  !no\tc # end\n  User me\n  HostName 10.0.0.1\n"
        f"Host far\n  ProxyJump a\nMatch host x\n  User y\nHost *\n  User all\n"
    )
    assert [one.name for one in hosts.names()] == ["deep", "two", "a", "c", "far"]
    assert face.main(["host"]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["a", "me@10.0.0.1", *f"{config}:3".split()] in shown
    assert ["deep", "all@deep.example.org:2222", f"{tmp_path}/more/1:1"] in shown
    assert ["far", "all@far", "a", *f"{config}:6".split()] in shown
    with config.open("a") as stream:
        stream.write(f'Include "{config}"\n')  # which ssh refuses
    assert [one.name for one in hosts.names()] == ["deep", "two", "a", "c", "far"]


def test_no_hosts_and_a_configuration_that_ssh_refuses(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert face.main(["host", "list"]) == 0
    assert "names no host" in capsys.readouterr().out
    assert face.main(["host", "probe"]) == 2
    config.write_text("Host a\n  Nonsense yes\n")
    assert face.main(["host"]) == 1
    said = capsys.readouterr().err
    assert "ssh cannot use its configuration for a:" in said
    assert "bad configuration options" in said


def test_a_host_is_added_and_taken_away(config: Path, server: Sshd, capsys: pytest.CaptureFixture[str]) -> None:
    before = config.read_text()
    config.chmod(0o640)
    assert add("gpu1", server) == 0
    assert f"root@127.0.0.1:{server.port}" in capsys.readouterr().out
    ours = config.with_name("colab_magics_hosts")
    assert stat.S_IMODE(ours.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.stat().st_mode) == 0o640
    assert config.read_text().endswith(f'Include "{ours}"\n\n{before}')
    assert ssh.run("gpu1", ["echo", "in"]).stdout == "in\n"
    # Doubles: the name, and the same machine under another name.
    assert add("gpu1", server) == 2
    assert "gpu1 is there already" in capsys.readouterr().err
    assert add("gpu2", server) == 2
    assert "is there already: gpu1" in capsys.readouterr().err
    text = config.read_text()
    with ours.open("a") as stream:
        stream.write("  Compression yes\n")  # the user's own line in our block
    with sshd(server.config_file.parent, session_home=config.parent) as other:
        known = server.config_file.parent / "known_hosts"
        known.write_text(known.read_text() + (other.config_file.parent / "known_hosts").read_text())
        assert add("gpu2", other) == 0
        assert config.read_text() == text, "the line that includes ours stands there once"
        assert ours.read_text().count("Compression yes") == 1
        assert [one.name for one in hosts.names()] == ["gpu1", "gpu2"]
        assert face.main(["host", "rm", "gpu1"]) == 0
        assert [one.name for one in hosts.names()] == ["gpu2"]
        assert face.main(["host", "rm", "gpu2"]) == 0
    assert config.read_text() == before
    assert not ours.exists()
    assert [file.name for file in config.parent.iterdir()] == ["config"]


def test_what_is_not_ours_stays(config: Path, server: Sshd) -> None:
    config.write_text(f"{config.read_text()}Host mine\n  HostName 10.0.0.9\n")
    with pytest.raises(InvalidInput, match="was not added by us"):
        hosts_file.remove("mine")
    with pytest.raises(NotFound, match="There is no host nobody"):
        hosts_file.remove("nobody")
    assert "Host mine" in config.read_text()


def test_a_configuration_that_is_a_link_stays_one(config: Path, server: Sshd, tmp_path: Path) -> None:
    dotfile = tmp_path / "dotfiles"
    config.rename(dotfile)
    config.symlink_to(dotfile)
    assert add("gpu1", server) == 0
    assert config.is_symlink()
    assert "Include" in dotfile.read_text()


def test_the_dead_are_refused_with_the_reason(
    config: Path, server: Sshd, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = config.read_text()
    for address, reason in [
        ("root@127.0.0.1:1", "Connection refused"),
        ("root@nosuch.invalid", "Could not resolve hostname nosuch.invalid"),
        (f"root@127.0.0.1:{server.port}", "Permission denied"),  # without the key
        (f"nobody-here@127.0.0.1:{server.port}", "Permission denied"),
    ]:
        assert face.main(["host", "add", "gpu1", address]) == 1
        said = capsys.readouterr().err
        assert reason in said, said
        assert "not added" in said
    assert config.read_text() == before
    assert not config.with_name("colab_magics_hosts").exists()


def test_a_key_that_is_not_known(
    config: Path, server: Sshd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = tmp_path / "known"
    config.write_text(f'UserKnownHostsFile "{known}"\nGlobalKnownHostsFile none\n')
    public = server.config_file.parent / "host_key.pub"
    told = subprocess.run(["ssh-keygen", "-lf", str(public)], capture_output=True, text=True, check=True).stdout
    fingerprint = told.split()[1]
    assert add("gpu1", server) == 1
    said = capsys.readouterr().err
    assert f"ED25519 {fingerprint}" in said
    assert f"say it again with fingerprint={fingerprint}" in said
    assert not known.exists()
    assert add("gpu1", server, "fingerprint=SHA256:somethingelse") == 1
    assert "somebody is in between" in capsys.readouterr().err
    assert not known.exists()
    known.write_text("other ssh-ed25519 AAAA")  # without an end of the line
    assert add("gpu1", server, f"fingerprint={fingerprint}") == 0
    assert known.read_text().splitlines()[1].split()[-1] == public.read_text().split()[1]
    assert ssh.run("gpu1", ["echo", "in"]).stdout == "in\n"


def test_the_user_is_asked_about_a_key(config: Path, server: Sshd, tmp_path: Path) -> None:
    config.write_text(f'UserKnownHostsFile "{tmp_path}/known"\nGlobalKnownHostsFile none\n')
    asked: list[str] = []

    class Asking(TerminalUI):
        def ask(self, question: str) -> bool:
            asked.append(question)
            return len(asked) > 1

    session.activate(Session(ui=Asking()))
    assert add("gpu1", server) == 1
    assert add("gpu1", server) == 0
    assert "SHA256:" in asked[0]


def test_a_host_behind_another_one(config: Path, server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tmp_path / "config"  # ssh does not quote the path that it hands to its ProxyJump
    plain.write_text(config.read_text())
    monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(plain))
    assert add("jump", server) == 0
    with sshd(tmp_path / "a folder", host="far", session_home=tmp_path) as far:
        known = server.config_file.parent / "known_hosts"
        known.write_text(known.read_text() + (far.config_file.parent / "known_hosts").read_text())
        assert add("far", far, "jump=jump") == 0
        assert str(hosts.machine("far")).endswith(" through jump")
        assert ssh.run("far", ["echo", "in"]).stdout == "in\n"
        server.process.terminate()
        server.process.wait(10)
        ssh.drop_shared("far"), ssh.drop_shared("jump")
        with pytest.raises(Unavailable):
            hosts_file.add(
                "far2", Address.from_text(f"me@127.0.0.1:{far.port}", jump="jump"), accept=lambda seen: False
            )


@pytest.mark.parametrize(
    "address",
    [
        *(*HOSTILE_NAMES, "", "@", "a@b@c", "user@-oProxyCommand=x", "-l@x", "u@h:0", "u@h:99999", "u@h:x", "u@h/x"),
        "h\nHost *",
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(InvalidInput):
        Address.from_text(address)


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "", "*", "a b", "-x", "a,b", "a\n  User b"])
def test_names_that_are_none(config: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        hosts_file.add(name, Address.from_text("u@h"), accept=lambda seen: True)
    assert not config.exists()


def test_addresses_that_people_write(tmp_path: Path) -> None:
    assert Address.from_text("me@gpu.example.org") == Address("me", "gpu.example.org")
    assert Address.from_text("ssh://me@[::1]:2222/") == Address("me", "::1", "2222")
    assert Address.from_text("10.0.0.1") == Address("", "10.0.0.1")
    (tmp_path / "a %h key.pub").touch()
    for key in (tmp_path / "nothing", tmp_path / "a %h key.pub"):
        with pytest.raises(InvalidInput):
            Address.from_text("u@h", key=str(key))
    (tmp_path / "a %h key").touch()
    block = Address.from_text("u@h", key=str(tmp_path / "a %h key"), jump="a,me@b:22").block("x")
    (tmp_path / "c").write_text(block)
    said = subprocess.run(
        ["ssh", "-F", str(tmp_path / "c"), "-G", "x"], capture_output=True, text=True, check=True
    ).stdout
    assert "proxyjump a,me@b:22" in said
    assert f"identityfile {tmp_path}/a %%h key" in said
    for jump in ("-x", "a b", "a\nUser x", "a,", "a;b"):
        with pytest.raises(InvalidInput):
            Address.from_text("u@h", jump=jump)


def test_the_users_own_file_is_that_of_ssh(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    assert (
        hosts.config_file() == Path(os.path.expanduser(f"~{hosts.pwd.getpwuid(os.getuid()).pw_name}")) / ".ssh/config"
    )


def test_a_first_host_of_a_user_without_any(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """The files alone: ssh itself knows the real home folder only."""
    monkeypatch.setattr(hosts, "user_home", lambda: home)
    hosts_file._write_block("gpu1", Address.from_text("me@10.0.0.1").block("gpu1"))
    config, ours = home / ".ssh" / "config", home / ".ssh" / "colab_magics_hosts"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (home / ".ssh", config, ours)] == [0o700, 0o600, 0o600]
    assert "\nInclude colab_magics_hosts\n" in config.read_text(), "dotfiles go to other machines and homes"
    found = {one.name: one for one in hosts.names()}
    assert found["gpu1"].where == "~/.ssh/colab_magics_hosts:3"
    hosts_file.remove("gpu1")
    assert config.read_text() == ""


def test_two_that_add_at_once(config: Path) -> None:
    threads = [
        threading.Thread(
            target=hosts_file._write_block, args=(f"h{n}", Address.from_text(f"me@10.0.0.{n}").block(f"h{n}"))
        )
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.name for one in hosts.names()} == {f"h{n}" for n in range(20)}
    assert config.read_text().count("Include") == 1
