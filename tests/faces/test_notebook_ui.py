"""What verbs may ask of a notebook: lines, live tables, questions, variables; where it runs; injected parameters."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from fronts import ROOT, Front, notebook
from IPython.core.interactiveshell import InteractiveShell

from colab_magics.faces import notebook_ui
from colab_magics.faces.front_end import where
from colab_magics.ui import Table

pytest_plugins = ("shells",)

UI = "from colab_magics import session, ui as u; ui = session.current().ui\n"


@pytest.mark.parametrize(
    ("module", "env", "names", "expected"),
    [
        ("google.colab._shell", {"COLAB_RELEASE_TAG": "release"}, {}, "colab"),
        ("ipykernel.zmqshell", {"COLAB_RELEASE_TAG": "release"}, {}, "colab-other"),
        ("ipykernel.zmqshell", {}, {"__vsc_ipynb_file__": "a.ipynb"}, "vscode"),
        ("ipykernel.zmqshell", {"VSCODE_PID": "1"}, {}, "vscode"),
        ("ipykernel.zmqshell", {}, {}, "jupyter"),
    ],
)
def test_where(
    monkeypatch: pytest.MonkeyPatch, module: str, env: dict[str, str], names: dict[str, str], expected: str
) -> None:
    # B16
    monkeypatch.delenv("VSCODE_PID", raising=False)
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    kernel = types.SimpleNamespace(get_parent=lambda channel: {})
    shell_class = type("Shell", (), {"__module__": module, "kernel": kernel, "user_ns": names})
    assert where(shell_class()) == expected


def test_where_in_a_terminal_and_in_a_script(shell: InteractiveShell) -> None:
    # B16
    from colab_magics.session import Session

    assert notebook_ui.make(shell).where == "terminal"
    assert Session().ui.where == "script"


def test_where_in_a_real_kernel(front: Front) -> None:
    # B16
    assert front.run(UI + "print(ui.where)").out == "jupyter\n"


def test_a_notification_is_the_browsers_and_its_words_are_no_code(front: Front) -> None:
    reply = front.run(UI + "ui.notify('net', 'a\"); alert(1) </script>')")
    (shown,) = [data for data in reply.data if "application/javascript" in data]
    assert '"a\\"); alert(1) \\u003c/script>"' in shown["application/javascript"]
    assert "requestPermission" not in shown["application/javascript"]


def test_say_and_warn_are_lines(front: Front) -> None:
    reply = front.run(UI + "ui.say('one\\ntwo'); ui.warn('careful')")
    assert reply.out == "one\ntwo\n⚠ careful\n"


def test_variables_are_set_and_read(front: Front) -> None:
    front.run(UI + "ui.set_variables({'data_job': '/x'})")
    reply = front.run(UI + "print(data_job, ui.get_variable('data_job'), ui.get_variable('nope'))")
    assert reply.out == "/x /x None\n"


def test_a_live_table_is_one_display_at_two_updates_a_second(front: Front) -> None:
    reply = front.run(
        UI + "import time\n"
        "t0 = time.monotonic()\n"
        "with ui.live() as live:\n"
        "    while time.monotonic() - t0 < 1.6:\n"
        "        live.show(u.Table(['job', 'state'], [['a/0', f'cell {int((time.monotonic() - t0) * 50)} of 100']]))\n"
        "    live.show(u.Table(['job', 'state'], [['a/0', 'done']], caption='all <done>'))\n"
    )
    assert reply.status == "ok"
    assert len(reply.data) == 1
    assert 3 <= len(reply.updates) <= 6
    last = reply.updates[-1]
    assert set(last) == {"text/plain", "text/html"}
    assert "done" in last["text/plain"]
    assert "all &lt;done&gt;" in last["text/html"]
    assert "<progress" in reply.updates[1]["text/html"]


def test_the_last_state_is_shown_though_nothing_follows(front: Front) -> None:
    # Two tables at once, then a long wait: the second must not stay unseen until the end.
    reply = front.run(
        UI + "import threading\nseen = threading.Event()\n"
        "from colab_magics.faces import notebook_ui as n\nold = n._Display.update\n"
        "def update(self, plain, markup):\n    old(self, plain, markup)\n    'second' in plain and seen.set()\n"
        "n._Display.update = update\n"
        "with ui.live() as live:\n"
        "    live.show(u.Table(['job', 'state'], [['a', 'first']]))\n"
        "    live.show(u.Table(['job', 'state'], [['a', 'second']]))\n"
        "    print(seen.wait(10))"
    )
    assert reply.out == "True\n"


def test_progress_shows_itself_only_when_it_takes_long(front: Front) -> None:
    quick = front.run(UI + "with ui.progress('cloning'):\n    pass")
    assert [*quick.updates, quick.out] == [""]
    slow = front.run(
        UI + "import time\nwith ui.progress('cloning <x>'):\n"
        "    t0 = time.monotonic()\n    while time.monotonic() - t0 < 2.3: pass"
    )
    assert len(slow.data) == 1
    assert slow.updates[0]["text/plain"] == "cloning <x> … 2 s"
    assert "cloning &lt;x&gt;" in slow.updates[0]["text/html"]
    assert slow.updates[-1]["text/plain"] == "cloning <x>: done"


def test_nobody_to_answer_means_no(front: Front) -> None:
    assert front.run(UI + "print(ui.ask('Delete?'))", allow_stdin=False).out == "False\n"


def test_a_user_can_answer(front: Front) -> None:
    sent = front.send(UI + "print(ui.ask('Delete?'))", allow_stdin=True)
    request = front.client.get_stdin_msg(timeout=30)
    assert request["content"]["prompt"] == "Delete? [y/N] "
    front.client.input("yes")
    assert front.collect(sent)[0].out == "True\n"


def test_a_table_is_escaped_and_has_no_style_sheet() -> None:
    hostile = "<script>alert('x')</script>"
    rows = [["a/0", "failed", "cell 3 of 14", hostile], ["a/1", "done", "", ""]]
    table = Table(["run", "state", "progress", hostile], rows, caption=hostile, notes=[hostile])
    markup = table._repr_html_()
    assert "<script" not in markup
    assert markup.count("&lt;script&gt;") == 4
    assert '<progress value="3" max="14"' in markup
    assert "class=" not in markup
    assert "<style" not in markup
    # A color of its own stands only on states; everything else is the theme's.
    assert markup.count("color:var(--jp-") == 2


def test_a_table_without_rows_is_shown() -> None:
    assert "no runs yet" in Table([], [], caption="no runs yet")._repr_html_()


def test_ipython_in_a_terminal_prints_changes(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    ui = notebook_ui.make(shell)
    with ui.live() as live:
        for state in ("queued", "queued", "running"):
            live.show(Table(["run", "state"], [["a/0", state]]))
    assert capsys.readouterr().out == "a/0  queued\na/0  running\n"
    ui.set_variables({"x": 3})
    assert shell.user_ns["x"] == 3
    assert ui.get_variable("x") == 3


# Parameters


def test_papermills_parameters_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import papermill

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = notebook("lr = 0.1\ni_sub_job = 0", "%load_ext colab_magics\n" + UI + "print(ui.injected_parameters())")
    made.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(made, tmp_path / "in.ipynb")
    papermill.execute_notebook(
        tmp_path / "in.ipynb",
        tmp_path / "out.ipynb",
        parameters={"i_sub_job": 3, "name": "it's", "nested": {"a": [1, None]}},
        progress_bar=False,
        cwd=tmp_path,
    )
    out = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs[0].text
    assert out == "{'i_sub_job': 3, 'name': \"it's\", 'nested': {'a': [1, None]}}\n"


def test_papermill_without_parameters_injects_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import papermill

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    nbformat.write(notebook("%load_ext colab_magics\n" + UI + "print(ui.injected_parameters())"), tmp_path / "in.ipynb")
    papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", progress_bar=False, cwd=tmp_path)
    assert nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs[0].text == "None\n"


def test_a_users_own_cell_named_parameters_is_none(front: Front) -> None:
    front.run("# Parameters\nlr = 0.1", allow_stdin=True)
    assert front.run(UI + "print(ui.injected_parameters())", allow_stdin=True).out == "None\n"
    assert front.run(UI + "print(ui.injected_parameters())", allow_stdin=False).out == "{'lr': 0.1}\n"


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("# Parameters\na = 1\nb: int = 2\n", ["a", "b"]),
        ("# Parameters\na, b = 1, 2\nc.d = 3\n", []),
        ("# Parameters\n%magic\na = 1", []),
    ],
)
def test_names_assigned_in_a_cell(cell: str, names: list[str]) -> None:
    assert notebook_ui._assigned(cell) == names


def test_the_shells_of_kernels_without_requests_have_no_user(start_kernel: Callable[..., Front]) -> None:
    empty: Any = types.SimpleNamespace(kernel=types.SimpleNamespace(get_parent=lambda channel: {}))
    assert not notebook_ui._user_can_answer(empty)
