"""%tunnel in a notebook on Colab: Google's own proxy, and the consent that any other way needs."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from code_server import on_the_path

from colab_magics import session, tunnel
from colab_magics.errors import InvalidInput, Unavailable
from colab_magics.tunnels import servers
from colab_magics.verbs.tunnel_open import root

from .conftest import ColabUI, Page


@pytest.fixture
def proxied(page: Page, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Add what shows ports to the stand-in; returns what the page answers with and was asked to show."""
    state: dict[str, Any] = {"answer": "https://x-8123-colab.googleusercontent.com/", "shown": []}
    module = ModuleType("google.colab.output")

    def eval_js(script: str, ignore_result: bool = False, timeout_sec: float | None = None) -> Any:
        page.ask(script)
        if isinstance(state["answer"], Exception):
            raise state["answer"]
        return state["answer"]

    def serve_kernel_port_as_iframe(
        port: int, path: str = "/", width: str = "100%", height: str = "400", cache_in_notebook: bool = False
    ) -> None:
        state["shown"].append(port)

    module.__dict__.update(eval_js=eval_js, serve_kernel_port_as_iframe=serve_kernel_port_as_iframe)
    monkeypatch.setitem(sys.modules, "google.colab.output", module)
    monkeypatch.setattr(sys.modules["google.colab"], "output", module, raising=False)
    return state


@pytest.fixture
def port() -> Iterator[int]:
    """A port at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_is_shown_by_colabs_own_proxy_and_nothing_runs_for_it(
    proxied: dict[str, Any], page: Page, ui: ColabUI, port: int
) -> None:
    made = tunnel(port)
    assert str(made) == f"Port {port} is at\n  https://x-8123-colab.googleusercontent.com/"
    assert proxied["shown"] == [port]
    assert page.asked == [f"google.colab.kernel.proxyPort({port}, {{'cache': false}})"]
    assert "terms" not in ui.out.getvalue()
    assert not root().exists()
    error = sys.modules["google.colab._message"].MessageError
    for answer, why in ((None, "no answer"), ("about:blank", "no address"), (error("no tab"), "no tab")):
        proxied["answer"] = answer
        with pytest.raises(Unavailable, match=f"did not say where it shows port {port} .*{why}"):
            tunnel(port)


def test_nobody_listens_yet(proxied: dict[str, Any], ui: ColabUI, port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    tunnel(free)
    assert f"Nothing listens at port {free}" in ui.out.getvalue()


def test_another_way_needs_the_consent_once_and_says_what_is_forbidden(
    proxied: dict[str, Any], ui: ColabUI, port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("Host box\n  HostName 127.0.0.1\n  Port 1\n")
    monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(config))
    for via in ("ssh:box", "ssh:localhost.run"):
        with pytest.raises(InvalidInput) as refused:
            tunnel(port, via=via)
        assert "makes this runtime reachable from elsewhere" in refused.value.what
        for word in ("remote proxies", "ssh shells", "remote desktops", "web services"):
            assert word in refused.value.what
        assert "colab_terms=accepted" in refused.value.mend
    assert not root().exists()
    # With it, it goes on; nobody listens at that relay. Once a session is enough.
    for words in ({"colab_terms": "accepted"}, {}):
        with pytest.raises(Unavailable, match="box cannot be reached by ssh"):
            tunnel(port, via="ssh:box", **words)  # type: ignore[arg-type]
    assert "colab_terms=accepted" in session.current().said


def test_the_proxy_takes_no_ssh_and_a_run_cannot_ask_the_page(proxied: dict[str, Any], port: int, ui: ColabUI) -> None:
    with pytest.raises(InvalidInput, match="Colab's own proxy shows web pages only"):
        tunnel.ssh(key="ssh-ed25519 AAAA")  # type: ignore[attr-defined]
    ui.where = "terminal"
    with pytest.raises(InvalidInput, match="Outside of Colab a tunnel has no default way"):
        tunnel(port)


def test_a_server_behind_the_proxy_asks_for_its_secret(
    proxied: dict[str, Any], ui: ColabUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_the_path(tmp_path, monkeypatch)
    made = tunnel.code()  # type: ignore[attr-defined]
    assert made.url == "https://x-8123-colab.googleusercontent.com/"
    said = ui.out.getvalue()
    assert f"Its password, shown this once: {made.token}" in said
    assert "Whoever" not in said
    assert "This runtime has no GPU" in said  # G4
    assert "is the run tunnel-code/0" in str(made)
    assert servers.is_ready("code", made.settings["port"], made.token)
    assert not session.current().said
    assert tunnel.code().url == made.url  # type: ignore[attr-defined]
    tunnel.close()  # type: ignore[attr-defined]
    assert str(made) == "The tunnel code is closed."
