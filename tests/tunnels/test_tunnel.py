"""%tunnel PORT through real ssh servers: what it shows, what it survives, and when it ends."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import poll

from colab_magics import jobs, process, session, tunnel
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, NotFound, Unavailable
from colab_magics.records.run import runs_of
from colab_magics.transport.forward import free_port
from colab_magics.verbs.tunnel_open import root
from colab_magics.verbs.tunnel_shown import Tunnel

from .conftest import Relay, tunnel_opened


def close(*names: str) -> Any:
    return tunnel.close(*names)  # type: ignore[attr-defined]


def opened(port: int, **words: Any) -> Tunnel:
    made = tunnel(port, **words)
    assert isinstance(made, Tunnel)
    return made


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def answers(url: str) -> bool:
    try:
        return get(url) == "hello"
    except OSError:
        return False


def listening(port: int) -> set[str]:
    return {one.laddr.ip for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port}


# G7, G8
def test_a_port_is_a_run_behind_a_port_of_the_relay_and_again_it_is_the_same_one(
    relay: Relay, project: Project, page: int, said: io.StringIO
) -> None:
    made = opened(page, via="ssh:box")
    there = int(made.address.rpartition(":")[2])
    assert get(f"http://localhost:{there}/") == "hello"
    assert listening(there) == {"127.0.0.1"}
    shown = str(made)
    assert f"ssh -N -L {there}:127.0.0.1:{there} ssh://" in shown
    assert f"http://localhost:{there}/" in shown
    assert f"Whoever reaches port {there} of box" in said.getvalue()
    (run,) = runs_of(project.root / "data_job" / f"tunnel-{page}")
    assert run.status().phase == "running"
    shown = str(jobs(all=True))
    assert f"tunnel-{page}/0" in shown
    assert f"%tunnel {page} via=ssh:box" in shown
    assert "keeper" not in shown
    assert f"open: tcp://127.0.0.1:{there}" in run.log.read_text()
    again = opened(page)
    assert (again.address, again.run_id) == (made.address, made.run_id)
    (client,) = relay.clients()
    assert {"-a", "-x"} <= set(client.cmdline())
    assert f"port {there} of box" in str(tunnel())
    with pytest.raises(InvalidInput, match=f"tunnel-{page} is open via=ssh:box"):
        opened(page, via="ssh:other")
    close()
    assert not relay.clients()
    assert not answers(f"http://localhost:{there}/")
    assert str(made) == f"The tunnel {page} is closed."
    assert [run.status().phase for run in runs_of(project.root / "data_job" / f"tunnel-{page}")] == ["killed"]
    # Closed by %jobs kill it is closed, too; and it can be opened anew, here at a port that the user names.
    port = free_port()
    named = opened(page, via="ssh:box", relay_port=port)
    assert named.address == f"tcp://127.0.0.1:{port}"
    jobs.kill(f"tunnel-{page}")
    poll(lambda: not relay.clients() and not tunnel_opened())


def test_a_cut_connection_is_opened_again_at_the_same_port(relay: Relay, project: Project, page: int) -> None:
    made = opened(page, via="ssh:box")
    for _ in range(2):
        (client,) = relay.clients()
        client.send_signal(signal.SIGKILL)
        poll(lambda client=client: [one.pid for one in relay.clients()] not in ([], [client.pid]))
        poll(lambda: made.phase == "open" and answers(f"http://localhost:{made.address.rpartition(':')[2]}/"))
    first = made.address
    relay.server.process.terminate()
    relay.server.process.wait(10)
    for client in relay.clients():
        client.kill()
    poll(lambda: made.phase == "cut")
    assert "was cut" in str(made)
    assert str(opened(page)).startswith("The connection was cut")
    with relay.server.again():
        poll(lambda: made.phase == "open" and answers(f"http://localhost:{first.rpartition(':')[2]}/"))
        assert (made.address, len(relay.clients())) == (first, 1)
        assert [run.status().phase for run in runs_of(project.root / "data_job" / f"tunnel-{page}")] == ["running"]
        close()


def test_an_account_without_a_session_forwards_too(relay: Relay, project: Project, page: int) -> None:
    relay.only('command="false",restrict,port-forwarding')
    made = opened(page, via="ssh:box")
    poll(lambda: any("-N" in one.cmdline() for one in relay.clients()))
    poll(lambda: made.phase == "open" and answers(f"http://localhost:{made.address.rpartition(':')[2]}/"))


def test_a_public_service_says_its_address_also_when_that_changes(relay: Relay, project: Project, page: int) -> None:
    relay.is_called("a.pinggy.io")
    relay.prints("Upgrade: https://dashboard.pinggy.io", "https://evil.example", "https://a1.a.pinggy.link")
    made = opened(page, via="ssh:pinggy")
    assert made.url == "https://a1.a.pinggy.link/"
    assert f"Port {page} is at\n  https://a1.a.pinggy.link/" in str(made)
    assert made.run is not None
    assert "https://evil.example" in made.run.log.read_text()
    relay.prints("https://c3.a.free.pinggy.link")
    relay.clients()[0].kill()
    poll(lambda: made.address == "https://c3.a.free.pinggy.link")


def test_what_cannot_be_opened_says_why_and_leaves_nothing(
    relay: Relay, project: Project, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, error in (
        ({}, "Outside of Colab a tunnel has no default way"),
        ({"via": "colab:x"}, "Colab's page|no way"),
        ({"via": "ftp"}, "via=ftp is no way"),
        ({"via": "ssh:"}, "via=ssh: is no way"),
        ({"via": "ssh:box", "token": "secret:A"}, "token= is for ngrok"),
        ({"via": "ngrok"}, "package 'ngrok'|authtoken"),
        ({"via": "ssh:-oProxyCommand=x"}, "no host's name"),
        ({"via": "ssh:localhost.run", "relay_port": 8080}, "chooses the port itself"),
        ({"via": "colab"}, "Colab's page shows a port only"),
    ):
        with pytest.raises((InvalidInput, Unavailable), match=error):
            opened(page, **words)
    for port in (0, 70_000, -1, "labb"):
        with pytest.raises(InvalidInput):
            tunnel(port, via="ssh:box")
    with pytest.raises(InvalidInput, match="No tunnel 'lab' is open"):
        close("lab")
    assert not runs_of(project.root / "data_job" / f"tunnel-{page}")
    with pytest.raises(Unavailable, match="box forwards no such port"):
        opened(page, via="ssh:box", relay_port=page)
    relay.only("restrict")
    with pytest.raises(Unavailable, match=r"box forwards no such port[^\0]*AllowTcpForwarding"):
        opened(page, via="ssh:box")
    (relay.folder / "known_hosts").write_text("")
    with pytest.raises(Unavailable, match=r"The key of box is not known here \(it shows \S+ SHA256:"):
        opened(page, via="ssh:box")
    poll(lambda: not relay.clients() and not tunnel_opened())
    assert not [path for path in root().rglob("*") if path.name in ("settings.json", "token")]


@pytest.mark.parametrize("how", ["interrupt", pytest.param("kill", marks=pytest.mark.long)])
def test_it_ends_with_the_session_that_opened_it(relay: Relay, project: Project, page: int, how: str) -> None:
    words = [sys.executable, "-m", "colab_magics", "tunnel", str(page), "via=ssh:box"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        first = shell.stdout.readline()
        assert first.startswith(f"Port {page} is at port ")
        assert len(relay.clients()) == 1
        shell.send_signal(signal.SIGINT if how == "interrupt" else signal.SIGKILL)
        said = shell.communicate(timeout=30)[1]
    if how == "interrupt":
        assert shell.returncode == 130
        assert "The tunnel ends with this shell" in said
    poll(lambda: not relay.clients() and not tunnel_opened())
    (run,) = runs_of(project.root / "data_job" / f"tunnel-{page}")
    poll(lambda: run.status().phase == "done")
    assert "the session that opened it has ended" in run.log.read_text()


def test_two_sessions_at_once_have_one(relay: Relay, project: Project, page: int) -> None:
    words = [sys.executable, "-m", "colab_magics", "tunnel", str(page), "via=ssh:box"]
    shells = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        first = [shell.stdout.readline() for shell in shells if shell.stdout is not None]
        assert first[0] == first[1] != ""
        assert len(relay.clients()) == 1
        assert len(runs_of(project.root / "data_job" / f"tunnel-{page}")) == 1
    finally:
        for shell in shells:
            shell.kill()
            shell.communicate(timeout=30)
    poll(lambda: not relay.clients())


def test_another_session_that_has_it_keeps_it(relay: Relay, project: Project, page: int) -> None:
    words = [sys.executable, "-m", "colab_magics", "tunnel", str(page), "via=ssh:box"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        made = opened(page)
        shell.kill()
    beat = made.run.log.stat().st_size if made.run else 0
    relay.clients()[0].kill()
    poll(lambda: made.run is not None and made.run.log.stat().st_size > beat and made.phase == "open")
    assert answers(f"http://localhost:{made.address.rpartition(':')[2]}/")


def test_in_a_run_nothing_is_opened(project: Project, monkeypatch: pytest.MonkeyPatch, said: io.StringIO) -> None:
    monkeypatch.setenv(session.RUN_VARIABLE, str(project.data_job / "sub_job_000"))
    assert tunnel(8888, via="ssh:box") is None
    assert "A run opens no tunnel" in said.getvalue()


def test_ngrok_gets_its_token_by_a_file_and_says_what_to_install(
    project: Project, page: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not sys.modules.get("ngrok"):
        with pytest.raises(Unavailable) as missing:
            opened(page, via="ngrok", token="secret:MY_NGROK")
        assert missing.value.mend == "pip install 'colab-magics[ngrok]'"
    # The package's own names and arguments (1.4); its service cannot be reached from a test.
    module = tmp_path / "packages" / "ngrok.py"
    module.parent.mkdir()
    module.write_text(
        "class Listener:\n    def url(self):\n        return 'https://d4.ngrok-free.app'\n"
        "def forward(addr=None, listener=None, **options):\n"
        "    if options['authtoken'] != 'right':\n"
        "        raise ValueError('failed to connect session', 'bad token ' + options['authtoken'])\n"
        f"    assert (addr, options['proto']) == ('127.0.0.1:{page}', 'http')\n    return Listener()\n"
        "def disconnect(url=None):\n    pass\n"
    )
    monkeypatch.syspath_prepend(module.parent)
    monkeypatch.setenv("PYTHONPATH", f"{module.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(InvalidInput, match="ngrok wants your authtoken"):
        opened(page, via="ngrok")
    with pytest.raises(InvalidInput, match="name of a secret"):
        opened(page, via="ngrok", token="abc")
    with pytest.raises(NotFound, match="MY_NGROK"):
        opened(page, via="ngrok", token="secret:MY_NGROK")
    monkeypatch.setenv("MY_NGROK", "wrong-one")
    with pytest.raises(Unavailable, match="ngrok opens no tunnel") as refused:
        opened(page, via="ngrok", token="secret:MY_NGROK")
    assert "wrong-one" not in str(refused.value)
    monkeypatch.setenv("MY_NGROK", "right")
    made = opened(page, via="ngrok", token="secret:MY_NGROK")
    assert made.url == "https://d4.ngrok-free.app/"
    assert process.read_json(made.folder.path / "settings.json")["via"] == "ngrok" if made.folder else False
    close()
    sys.modules.pop("ngrok", None)
