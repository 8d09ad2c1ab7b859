"""Drive, secrets, the notebook and the end of the runtime, against a stand-in for Colab's page."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from colab_magics.colab import consent, mount, notebook, runtime, secrets
from colab_magics.errors import NotFound, Unavailable

from .conftest import Page

NOTEBOOK = {"nbformat": 4, "nbformat_minor": 0, "metadata": {"colab": {"name": "Old name.ipynb"}}, "cells": []}


def in_a_thread(call: Any) -> BaseException | None:
    """Call something in another thread and return the error it raised."""
    errors: list[BaseException] = []

    def body() -> None:
        try:
            call()
        except Unavailable as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    return errors[0] if errors else None


@contextmanager
def sessions(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve ``/api/sessions`` as the Jupyter server of a Colab runtime does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/sessions" else 404)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("COLAB_JUPYTER_IP", "127.0.0.1")
    monkeypatch.setenv("KMP_TARGET_PORT", str(server.server_address[1]))
    # The server is on this machine; a proxy does not know it.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class TestDrive:
    # B6: mounted again if it is gone.
    def test_b6_it_is_mounted_when_it_is_not(self, page: Page) -> None:
        assert mount.ensure_drive("colab") == page.drive / "MyDrive"
        assert page.asked == [f"mount {page.drive} False"]

    def test_the_test_comes_first(self, page: Page) -> None:
        (page.drive / "MyDrive").mkdir(parents=True)
        mount.ensure_drive("colab")
        assert page.asked == []
        assert in_a_thread(lambda: mount.ensure_drive("colab")) is None, "a mounted Drive asks for nobody"

    def test_a_dead_mount_is_mounted_by_force(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        stat = os.stat

        def dead(path: Any, *args: Any, **options: Any) -> Any:
            if os.fspath(path).startswith(str(page.drive)) and not page.asked:
                raise OSError(107, "Transport endpoint is not connected")
            return stat(path, *args, **options)

        monkeypatch.setattr(os, "stat", dead)
        mount.ensure_drive("colab")
        assert page.asked == [f"mount {page.drive} True"]

    @pytest.mark.parametrize("error", [NotImplementedError(), ValueError("mount failed"), "MessageError"])
    def test_a_refusal_is_one_clear_error(self, page: Page, error: Any) -> None:
        message_error = sys.modules["google.colab._message"].__dict__["MessageError"]
        page.mount_error = message_error("no credentials") if isinstance(error, str) else error
        with pytest.raises(Unavailable, match=r"could not be mounted: \w(.|\n)*to=FOLDER"):
            mount.ensure_drive("colab")

    def test_only_the_notebook_itself_can_mount(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        error = in_a_thread(lambda: mount.ensure_drive("colab"))
        assert "only the notebook itself" in str(error)
        monkeypatch.setenv("COLAB_MAGICS_RUN", "/content/net/data_job/a/sub_job_000")
        with pytest.raises(Unavailable, match="only the notebook itself"):
            mount.ensure_drive("colab")
        monkeypatch.delenv("COLAB_MAGICS_RUN")
        with pytest.raises(Unavailable, match="only the notebook itself"):
            mount.ensure_drive("script")  # a shell's command on Colab
        assert page.asked == []

    def test_elsewhere(self, home: Path) -> None:
        with pytest.raises(Unavailable, match="on Colab only"):
            mount.ensure_drive("colab")


class TestSecrets:
    def test_colab_first_then_the_environment(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("A", "of the environment")
        monkeypatch.setenv("B", "of the environment")
        page.secrets["A"] = "of Colab"
        assert (secrets.read("A", "colab"), secrets.read("B", "colab")) == ("of Colab", "of the environment")

    @pytest.mark.parametrize(
        ("value", "why"), [(None, "may read"), ("no answer", "did not answer"), ("gone", "key symbol")]
    )
    def test_what_is_missing_says_where_to_add_it(self, page: Page, value: str | None, why: str) -> None:
        page.secrets = {} if value == "gone" else {"A": value}
        with pytest.raises(NotFound, match=f"'A' in Colab's secrets(.|\n)*{why}") as error:
            secrets.read("A", "colab")
        assert "key symbol" in error.value.mend

    def test_runs_and_threads_ask_the_environment_alone(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        page.secrets["A"] = "of Colab"
        monkeypatch.setenv("A", "of the environment")
        monkeypatch.setenv("COLAB_MAGICS_RUN", "/content/net/data_job/a/sub_job_000")
        assert secrets.read("A", "colab") == "of the environment"
        assert page.asked == []

    def test_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("A", "value")
        assert secrets.read("A", "colab") == "value"
        with pytest.raises(NotFound, match=r"in the environment\.(.|\n)*export B="):
            secrets.read("B", "colab")


class TestConsent:
    def test_the_user_is_asked_once(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(consent, "_asked", [])
        consent.ask("script")
        assert page.asked == []
        consent.ask("colab")
        consent.ask("colab")
        assert page.asked == ["authenticate"]

    def test_who_says_no_is_told_what_else_there_is(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(consent, "_asked", [])
        page.sign_in_error = "credential propagation was unsuccessful"
        with pytest.raises(Unavailable, match=r"was unsuccessful(.|\n)*credentials=secret:NAME"):
            consent.ask("colab")
        page.sign_in_error = ""
        consent.ask("colab")
        assert page.asked == ["authenticate"] * 2


class TestNotebook:
    def test_content_and_name(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        page.notebooks = [{"ipynb": NOTEBOOK}]
        answer = [{"name": "My%20%C3%BCber%20a.b.ipynb", "path": "fileId=1x", "kernel": {"id": "0"}}]
        with sessions(json.dumps(answer).encode(), monkeypatch):
            content, name = notebook.current_notebook("colab")
        assert content == NOTEBOOK
        assert name == "My über a.b.ipynb"

    def test_it_asks_again(self, page: Page) -> None:
        page.notebooks = [{}, "the page is busy", {"ipynb": NOTEBOOK}]
        assert notebook.current_notebook("colab") == (NOTEBOOK, "Old name.ipynb")
        assert page.asked == ["get_ipynb"] * 3

    def test_a_slow_page_is_asked_once(self, page: Page) -> None:  # each request throws the answers before away
        page.notebooks, page.seconds = [{"ipynb": NOTEBOOK}], 100
        assert notebook.current_notebook("colab") == (NOTEBOOK, "Old name.ipynb")
        assert page.asked == ["get_ipynb"]

    @pytest.mark.parametrize("answer", [None, "no such request", {}, {"ipynb": None}, {"ipynb": {"cells": "x"}}, []])
    def test_no_answer_is_an_error_with_a_mend(self, page: Page, answer: Any) -> None:
        page.notebooks = [answer] * 3
        with pytest.raises(Unavailable, match=r"did not hand over(.|\n)*notebook=FILE"):
            notebook.current_notebook("colab", timeout=0.1)

    def test_only_from_the_notebook_itself(self, page: Page) -> None:
        assert "notebook=FILE" in str(in_a_thread(lambda: notebook.current_notebook("colab")))
        assert page.asked == []

    @pytest.mark.parametrize(
        "answer", [b"", b"{", b"{}", b"[]", b"[3]", b'[{"name": ""}]', b'[{"name": "a"}, {"name": "b"}]']
    )
    def test_sessions_that_do_not_tell(self, page: Page, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        with sessions(answer, monkeypatch):
            assert notebook.notebook_name(NOTEBOOK) == "Old name.ipynb"
            assert notebook.notebook_name({"metadata": {}}) == notebook.UNNAMED

    def test_of_several_sessions_the_kernels_own(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "argv", ["launcher", "-f", "/root/runtime/kernel-0123abcd-ef.json"])
        answer = [
            {"name": "a", "kernel": {"id": "9"}},
            {"name": "mine", "kernel": {"id": "0123abcd-ef"}},
            {"kernel": None},
        ]
        with sessions(json.dumps(answer).encode(), monkeypatch):
            assert notebook.notebook_name() == "mine.ipynb"

    def test_a_server_that_is_not_there(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        with sessions(b"", monkeypatch):
            pass
        assert notebook.notebook_name() == notebook.UNNAMED


class TestRuntime:
    def test_where(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        assert runtime.on_colab()
        monkeypatch.delenv("COLAB_RELEASE_TAG")
        monkeypatch.delenv("COLAB_MAGICS_CONTENT")
        monkeypatch.delenv("COLAB_MAGICS_DRIVE")
        assert not runtime.on_colab()
        assert str(runtime.my_drive()) == "/content/drive/MyDrive"

    def test_unassign(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        runtime.unassign("colab")
        assert page.asked == ["unassign"]
        monkeypatch.delenv("COLAB_RELEASE_TAG")
        with pytest.raises(Unavailable, match="→"):
            runtime.unassign("colab")
