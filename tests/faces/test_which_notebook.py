"""The notebook is found: by name, environment, Colab, VS Code, Jupyter's servers; with a warning for missing edits."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import nbformat
import pytest
from fronts import Front, notebook

from colab_magics import session
from colab_magics.errors import NotFound
from colab_magics.faces import jupyter_server, which_notebook
from colab_magics.ui import TerminalUI

pytest_plugins = ("shells",)

FIND = (
    "from colab_magics.faces import magics; nb = magics.ensure_session().ui.notebook(); "
    "print(repr((nb.name, str(nb.path), nb.current, nb.warning, len(nb.content['cells']))))"
)


class Jupyter:
    """A server that answers as Jupyter's API does, below a base URL, to its token only."""

    def __init__(self, runtime: Path, root: Path, *, token: str = "t0k", base: str = "/user/me%40x/") -> None:
        self.sessions: list[dict[str, Any]] = []
        self.contents: dict[str, Any] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if self.headers.get("Authorization") != f"token {token}":
                    self.send_error(403)
                    return
                path = urllib.parse.unquote(self.path.removeprefix(base.rstrip("/")).partition("?")[0])
                found: Any = outer.sessions if path == "/api/sessions" else outer.contents.get(path)
                body = json.dumps(found).encode()
                self.send_response(200 if found is not None else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.port = self.server.server_address[1]
        runtime.mkdir(parents=True, exist_ok=True)
        self.info = {
            "url": f"http://127.0.0.1:{self.port}{base}",
            "token": token,
            "root_dir": str(root),
            "pid": os.getpid(),
        }
        self.file = runtime / f"jpserver-{self.port}.json"
        self.file.write_text(json.dumps(self.info))

    def open(self, kernel: str, path: str, kind: str = "notebook") -> None:
        """Note a session."""
        self.sessions.append({"id": path, "type": kind, "path": path, "kernel": {"id": kernel}})

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runtime"
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder))
    return folder


@pytest.fixture
def jupyter(tmp_path: Path, runtime: Path) -> Iterator[Jupyter]:
    (tmp_path / "root").mkdir()
    server = Jupyter(runtime, tmp_path / "root")
    yield server
    server.close()


def test_the_kernels_id_is_in_its_connection_file() -> None:
    assert jupyter_server.kernel_id("/run/kernel-0a1b-2c.json") == "0a1b-2c"
    assert jupyter_server.kernel_id("/run/other.json") == ""


def test_a_session_is_found_by_its_kernel(jupyter: Jupyter, runtime: Path) -> None:
    jupyter.open("other", "other.ipynb")
    jupyter.open("k1", "console-1", kind="console")
    jupyter.open("k1", "sub/ünï a b.ipynb")
    found = jupyter_server.find_session("k1", runtime)
    assert found is not None
    assert found.path == "sub/ünï a b.ipynb"
    assert found.file is None
    (Path(jupyter.info["root_dir"]) / "sub").mkdir()  # type: ignore[arg-type]
    file = Path(str(jupyter.info["root_dir"])) / found.path
    file.write_text("{}")
    assert found.file == file
    # after a rename in the front end
    jupyter.sessions[-1]["path"] = "new.ipynb"
    renamed = jupyter_server.find_session("k1", runtime)
    assert renamed is not None
    assert renamed.path == "new.ipynb"
    assert jupyter_server.find_session("k2", runtime) is None


def test_servers_that_have_gone_or_are_others_are_passed_over(jupyter: Jupyter, runtime: Path, tmp_path: Path) -> None:
    (runtime / "jpserver-1.json").write_text(json.dumps({**jupyter.info, "url": "http://127.0.0.1:1/"}))
    (runtime / "jpserver-2.json").write_text("{ half")
    (runtime / "jpserver-3.json").write_text(json.dumps({**jupyter.info, "url": "http+unix://%2Fsock"}))
    (runtime / "nbserver-4.json").write_text(json.dumps({**jupyter.info, "token": "wrong"}))
    jupyter.open("k1", "RTC:mine.ipynb")
    found = jupyter_server.find_session("k1", runtime)
    assert found is not None
    assert found.path == "mine.ipynb"


def test_hubs_token_is_in_the_environment(runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Jupyter(runtime, tmp_path, token="of-hub")
    try:
        server.file.write_text(json.dumps({**server.info, "token": ""}))
        server.open("k1", "a.ipynb")
        assert jupyter_server.find_session("k1", runtime) is None
        monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "of-hub")
        assert jupyter_server.find_session("k1", runtime) is not None
    finally:
        server.close()


def test_the_kernels_own_server_is_asked_first(
    jupyter: Jupyter, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {**jupyter.info, "pid": 8, "url": "http://127.0.0.1:1/"}
    (runtime / "jpserver-8.json").write_text(json.dumps(other))
    monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
    assert [server.pid for server in jupyter_server.servers(runtime)] == [os.getpid(), 8]
    monkeypatch.setenv("JPY_PARENT_PID", "8")
    assert [server.pid for server in jupyter_server.servers(runtime)] == [8, os.getpid()]


def kernels_name(front: Front) -> str:
    """Return the id under which a server would know this kernel."""
    said = front.run("from ipykernel.connect import get_connection_file as f; print(f())").out.strip()
    return jupyter_server.kernel_id(said)


def test_a_notebook_of_a_server_without_a_front_end_that_saves_has_a_warning(
    jupyter: Jupyter, start_kernel: Callable[..., Front], tmp_path: Path
) -> None:
    front = start_kernel()
    jupyter.open(kernels_name(front), "t.ipynb")
    file = tmp_path / "root" / "t.ipynb"
    nbformat.write(notebook("x = 1", FIND), file)
    reply = front.run(FIND)
    name, path, current, warning, cells = eval(reply.out)
    assert (name, path, current, cells) == ("t.ipynb", str(file), True, 2)
    assert "version saved at" in warning
    assert "save" in warning
    # The page was asked to save, by a display that is empty afterwards.
    assert "docmanager:save" in reply.data[0]["application/javascript"]
    assert reply.data[0]["text/plain"] == ""
    assert "waiting for t.ipynb" in reply.updates[0]["text/plain"]
    assert reply.updates[-1] == {"text/plain": ""}


def test_a_saved_notebook_has_no_warning(jupyter: Jupyter, start_kernel: Callable[..., Front], tmp_path: Path) -> None:
    front = start_kernel()
    jupyter.open(kernels_name(front), "t.ipynb")
    file = tmp_path / "root" / "t.ipynb"
    nbformat.write(notebook("x = 1"), file)
    sent = front.send(FIND)
    # what the front end does when it is asked
    asked = False
    while not asked:
        content = front.client.get_iopub_msg(timeout=30)["content"]
        assert content.get("ename") is None
        asked = "application/javascript" in content.get("data", {})
    nbformat.write(notebook("x = 2", "y = 3", FIND), file)
    name, _, _, warning, cells = eval(front.collect(sent)[0].out)
    assert (name, warning, cells) == ("t.ipynb", "", 3)


def test_a_server_that_keeps_its_notebooks_elsewhere_hands_them_over(
    jupyter: Jupyter, start_kernel: Callable[..., Front]
) -> None:
    front = start_kernel()
    jupyter.open(kernels_name(front), "drive/a b.ipynb")
    jupyter.contents["/api/contents/drive/a b.ipynb"] = {"content": notebook("x = 1", FIND)}
    assert eval(front.run(FIND).out) == ("a b.ipynb", "None", True, "", 2)
    jupyter.contents["/api/contents/drive/a b.ipynb"] = {"content": notebook("x = 1")}
    assert "Save it" in eval(front.run(FIND).out)[3]


def test_vs_code_names_the_file(start_kernel: Callable[..., Front], tmp_path: Path, runtime: Path) -> None:
    front = start_kernel()
    file = tmp_path / "v.ipynb"
    nbformat.write(notebook("x = 1", FIND), file)
    front.run(f"__vsc_ipynb_file__ = {str(file)!r}")
    name, path, current, warning, cells = eval(front.run(FIND).out)
    assert (name, path, current, cells) == ("v.ipynb", str(file), True, 2)
    assert "as saved at" in warning  # VS Code does not say whether there are edits since
    # The running cell is not in the file: it was edited and not saved.
    assert "version saved at" in eval(front.run(FIND + "  # edited").out)[3]


def test_the_environment_names_it_for_whoever_executes_it(
    start_kernel: Callable[..., Front], tmp_path: Path, runtime: Path
) -> None:
    file = tmp_path / "headless.ipynb"
    nbformat.write(notebook("x = 1"), file)
    front = start_kernel(COLAB_MAGICS_NOTEBOOK=str(file))
    assert eval(front.run(FIND).out) == ("headless.ipynb", str(file), True, "", 1)


def test_jupyters_first_name_is_the_last_resort(
    start_kernel: Callable[..., Front], tmp_path: Path, runtime: Path
) -> None:
    file = tmp_path / "first.ipynb"
    front = start_kernel(JPY_SESSION_NAME=str(file))
    assert front.run(FIND).ename == "NotFound"
    nbformat.write(notebook(FIND), file)
    assert eval(front.run(FIND).out)[0] == "first.ipynb"


def test_a_path_is_read_as_it_is(start_kernel: Callable[..., Front], tmp_path: Path) -> None:
    nbformat.write(notebook("x = 1"), tmp_path / "$(x) a'b.ipynb")
    front = start_kernel()
    named = FIND.replace("notebook()", 'notebook("$(x) a\'b.ipynb")')
    assert eval(front.run(named).out)[:3] == ("$(x) a'b.ipynb", str(tmp_path / "$(x) a'b.ipynb"), False)


def test_nothing_found_says_what_to_do(start_kernel: Callable[..., Front], runtime: Path) -> None:
    reply = start_kernel().run(FIND)
    assert reply.ename == "NotFound"
    assert "notebook=PATH" in reply.evalue


def test_on_colab_its_page_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    from colab_magics.colab import notebook as of_colab

    kernel, history = types.SimpleNamespace(get_parent=lambda _: {}), types.SimpleNamespace(input_hist_raw=["1"])
    of_shell = {"__module__": "google.colab._shell", "kernel": kernel, "user_ns": {}, "history_manager": history}
    shell = type("Shell", (), of_shell)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    content = {"cells": [], "nbformat": 4}
    monkeypatch.setattr(of_colab, "current_notebook", lambda where: (content, "on colab.ipynb"))
    told: list[str] = []
    face = TerminalUI()
    monkeypatch.setattr(face, "progress", lambda text: contextlib.nullcontext(told.append(text)))
    session.activate(session.Session(ui=face))
    found = which_notebook.find(shell())
    assert told == ["Colab's page hands over the notebook"]
    assert (found.name, found.path, found.current, found.warning) == ("on colab.ipynb", None, True, "")
    assert found.content is content
    assert isinstance(sys.modules["colab_magics.colab.notebook"], types.ModuleType)


def test_outside_of_kernels_there_is_no_current_notebook(shell: Any, runtime: Path) -> None:
    with pytest.raises(NotFound, match="Which notebook"):
        which_notebook.find(shell)


def test_a_notebook_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "n.ipynb"
    file.write_text('{"cells": [')
    whole = nbformat.writes(notebook("x = 1"))
    timer = threading.Timer(0.2, lambda: os.replace(_written(tmp_path / "new", whole), file))
    timer.start()
    assert len(which_notebook._read_when_whole(file).content["cells"]) == 1
    timer.join()


def _written(file: Path, text: str) -> Path:
    file.write_text(text)
    return file
