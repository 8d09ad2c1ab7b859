"""Which address a relay tells: read as each service documents it, and of a plain sshd from ssh alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from colab_magics.errors import InvalidInput
from colab_magics.tunnels.links import key_options
from colab_magics.tunnels.relays import Relay

LOCALHOST_RUN = """
===============================================================================
Welcome to localhost.run!
Follow your favourite reverse tunnel at [https://twitter.com/localhost_run].
To set up and manage custom domains go to https://admin.localhost.run/
** your connection id is 00aa-11bb, please mention it if you send me a message about an issue. **

authenticated as anonymous user
8beaa541ba3dc2.lhr.life tunneled with tls termination, https://8beaa541ba3dc2.lhr.life
create an account and add your key for a longer lasting domain name. see https://localhost.run/docs/forever-free/
"""
SERVEO = "\x1b[32mForwarding HTTP traffic from https://3e0a85-10-20.serveousercontent.com\x1b[0m\r\nPress g to start"
SERVEO_TCP = "Allocated port 38234 for remote forward to localhost:22\nForwarding TCP connections from serveo.net:38234"
PINGGY = """You are not authenticated.
Your tunnel will expire in 60 minutes. Upgrade to Pinggy Pro to get unrestricted tunnels. https://dashboard.pinggy.io
https://dashboard.pinggy.io

http://rnjki-10-20.a.free.pinggy.link
https://rnjki-10-20.a.free.pinggy.link
"""
PINGGY_TCP = "You are not authenticated.\n\ntcp://ylruu-10-20.a.free.pinggy.link:39005\n"


def told(host: str, text: str, *, tcp: bool = False) -> list[str]:
    relay = Relay.named(host, tcp=tcp)
    return [address for line in text.splitlines() if (address := relay.address(line))]


@pytest.mark.parametrize(
    ("host", "text", "tcp", "address"),
    [
        ("localhost.run", LOCALHOST_RUN, False, "https://8beaa541ba3dc2.lhr.life"),
        ("nokey@localhost.run", LOCALHOST_RUN, False, "https://8beaa541ba3dc2.lhr.life"),
        ("serveo.net", SERVEO, False, "https://3e0a85-10-20.serveousercontent.com"),
        ("serveo.net", SERVEO_TCP, True, "tcp://serveo.net:38234"),
        ("a.pinggy.io", PINGGY, False, "https://rnjki-10-20.a.free.pinggy.link"),
        ("pinggy", PINGGY_TCP, True, "tcp://ylruu-10-20.a.free.pinggy.link:39005"),
    ],
)
def test_each_service_is_read_as_it_says_it(host: str, text: str, tcp: bool, address: str) -> None:
    assert told(host, text, tcp=tcp) == [address]


@pytest.mark.parametrize("host", ["localhost.run", "serveo.net", "a.pinggy.io"])
@pytest.mark.parametrize(
    "line",
    [
        "evil.example tunneled with tls termination, https://evil.example",
        "x.lhr.life tunneled with tls termination, https://x.lhr.life.evil.example",
        "x.lhr.life tunneled with tls termination, javascript:alert(1)",
        "Forwarding HTTP traffic from https://evil.example",
        "Forwarding HTTP traffic from https://serveo.net@evil.example",
        "https://notpinggy.link",
        "https://dashboard.pinggy.io",
        "see https://x.a.pinggy.link",
        "",
    ],
)
def test_addresses_of_others_do_not_count(host: str, line: str) -> None:
    assert told(host, line) == []


def test_of_a_plain_sshd_nothing_that_it_prints_is_believed() -> None:
    relay = Relay.named("gpu.example.org", tcp=False)
    assert relay.service is None
    printed = f"{LOCALHOST_RUN}{SERVEO}{PINGGY}Host: 10.0.0.1 Port: 4444"
    assert not any(relay.address(line) for line in printed.splitlines())
    assert relay.port("debug1: Authenticating\nPort: 4444") is None
    assert relay.port("Allocated port 41234 for remote forward to 127.0.0.1:8888") == 41234
    assert relay.port("debug1: remote forward success for: listen localhost:8080, connect 127.0.0.1:80") == 8080
    assert relay.port("debug1: remote forward failure for: listen localhost:8080, connect 127.0.0.1:80") is None
    assert relay.words(8888, 0) == ["-R", "127.0.0.1:0:127.0.0.1:8888"]  # its loopback alone


def test_how_services_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Relay.named("localhost.run", tcp=False).words(5000, 0) == ["-R", "80:127.0.0.1:5000"]
    assert Relay.named("pinggy", tcp=False).words(5000, 0) == ["-p", "443", "-R", "0:127.0.0.1:5000"]
    assert Relay.named("pinggy", tcp=True).host == "tcp@a.pinggy.io"
    assert Relay.named("serveo", tcp=True).host == "serveo.net"
    config = tmp_path / "config"
    config.write_text("Host mine\n  HostName localhost.run\n  User plan\nHost a.pinggy.io\n  Port 4430\n")
    monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(config))
    mine = Relay.named("mine", tcp=False)
    assert (mine.host, mine.service) == ("mine", Relay.named("localhost.run", tcp=False).service)
    assert Relay.named("a.pinggy.io", tcp=False).words(5000, 0) == ["-R", "0:127.0.0.1:5000"]


def test_localhost_run_takes_no_ssh_and_no_option_is_a_host() -> None:
    with pytest.raises(InvalidInput, match="forwards web pages only"):
        Relay.named("localhost.run", tcp=True)
    for host in ("-oProxyCommand=touch gone", "", "a b"):
        with pytest.raises(InvalidInput):
            Relay.named(host, tcp=False)


def test_a_user_without_any_key_gets_one_for_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text(f"Host *\n  IdentityFile {tmp_path}/id_ed25519\n")
    monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(config))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for _ in range(2):
        assert key_options("localhost.run", tmp_path) == ["-i", str(tmp_path / "identity")]
    assert stat.S_IMODE((tmp_path / "identity").stat().st_mode) == 0o600
    (tmp_path / "id_ed25519").touch()
    assert key_options("localhost.run", tmp_path) == []
