"""%tunnel lab: a real JupyterLab through a real sshd, with its token and without."""

from __future__ import annotations

import io
import json
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import poll
from sshd import sshd

from colab_magics import jobs, tunnel
from colab_magics.checkout.project import Project
from colab_magics.errors import Unavailable
from colab_magics.verbs.tunnel_open import opened

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")

pytestmark = pytest.mark.browser


@pytest.fixture
def relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A relay that ssh knows as ``box``."""
    with sshd(tmp_path, host="box") as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        yield
        for one in opened():
            tunnel.close(one.name)  # type: ignore[attr-defined]


def status(url: str, token: str = "", host: str = "") -> int:
    headers = {"Authorization": f"token {token}"} if token else {}
    asked = urllib.request.Request(url, headers=headers | ({"Host": host} if host else {}))
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


# G6, G8
def test_jupyterlab_through_a_relay_with_its_token_and_without(
    relay: None, project: Project, said: io.StringIO, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("JUPYTER_TOKEN", "1234")
    made = tunnel.lab(via="ssh:box")  # type: ignore[attr-defined]
    token, start = made.token, made.url.removesuffix("/lab")
    assert len(token) == 48
    for path in ("/api/kernels", "/api/contents", "/api/terminals"):
        assert [status(start + path), status(start + path, "1234"), status(start + path, token)] == [403, 403, 200]
    # A public relay brings a name of its own along.
    assert status(f"{start}/api/kernels", token, host="a1.lhr.life") == 200
    with urllib.request.urlopen(f"{made.url}?token={token}", timeout=20) as page:
        assert "JupyterLab" in page.read().decode()
    with urllib.request.urlopen(made.url, timeout=20) as page:
        assert "/login" in page.url
    assert f"{made.url}?token={token}" in said.getvalue()
    assert "and has the token works here as you" in said.getvalue()
    assert token not in str(made) + made.run.log.read_text()
    arguments = [word for one in psutil.process_iter(["cmdline"]) for word in one.info["cmdline"] or []]
    assert not [word for word in arguments if token in word]
    holders = [path for path in home.rglob("*") if path.is_file() and token in path.read_text(errors="ignore")]
    assert {path.name.split("-")[0] for path in holders} <= {"token", "jpserver"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in holders} == {0o600}
    assert not [path for path in project.root.rglob("*") if path.is_file() and token in path.read_text(errors="ignore")]
    port = made.settings["port"]
    assert {one.laddr.ip for one in psutil.net_connections("tcp") if one.laddr.port == port and not one.raddr} == {
        "127.0.0.1"
    }
    # Notebooks there are no part of the tunnel's run.
    found = psutil.process_iter(["cmdline"])
    (server,) = [one for one in found if f"--ServerApp.port={port}" in (one.info["cmdline"] or [])]
    assert "COLAB_MAGICS_RUN" not in server.environ()
    said.truncate(0)
    assert tunnel.lab().url == made.url  # type: ignore[attr-defined]
    assert token not in said.getvalue()
    assert f"cat {made.folder.path}/token" in str(made)
    jobs.kill("tunnel-lab")
    poll(lambda: not server.is_running(), timeout=60)
    assert not list(made.folder.path.glob("token"))


def test_a_jupyterlab_whose_configuration_sets_another_token_is_shown_to_nobody(
    relay: None, project: Project, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    settings = home / ".jupyter" / "jupyter_server_config.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"IdentityProvider": {"token": ""}}))
    with pytest.raises(Unavailable, match="lets in anybody who has no token"):
        tunnel.lab(via="ssh:box")  # type: ignore[attr-defined]
    poll(lambda: not opened())
