"""The verbs as magics in a shell: load and unload, empty cells, help, errors, results."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from fronts import ROOT, Front, notebook
from IPython.core.interactiveshell import InteractiveShell

import colab_magics
from colab_magics import session
from colab_magics.errors import InvalidInput, Unavailable

pytest_plugins = ("shells",)
Calls = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


def everything(ip: InteractiveShell) -> dict[str, Any]:
    """Take a snapshot of all that an extension can leave in a shell."""
    completer = ip.Completer
    return {
        "magics": {kind: dict(found) for kind, found in ip.magics_manager.magics.items()},
        "user magics": dict(vars(ip.magics_manager.user_magics)),
        "registry": dict(ip.magics_manager.registry),
        "configurables": list(ip.configurables),
        "cleanup": list(ip.input_transformers_cleanup),
        "transforms": list(ip.input_transformer_manager.cleanup_transforms),
        "line": list(ip.input_transformer_manager.line_transforms),
        "post": list(ip.input_transformers_post),
        "ast": list(ip.ast_transformers),
        "events": {name: list(found) for name, found in ip.events.callbacks.items()},
        "hooks": {name: repr(getattr(ip.hooks, name)) for name in vars(ip.hooks)},
        "completers": {
            name: {key: [repr(one) for one in chain] for key, chain in dispatch.strs.items()}
            for name, dispatch in ip.strdispatchers.items()
        },
        "matchers": [*map(repr, getattr(completer, "custom_matchers", []))],
        "custom errors": ip.custom_exceptions,
        "names": {name for name in ip.user_ns if not name.startswith("_")},
        "sessions": list(session._active),
        "handlers": list(logging.getLogger("colab_magics").handlers),
        "level": logging.getLogger("colab_magics").level,
    }


def run(ip: InteractiveShell, code: str) -> Any:
    """Run a cell that must succeed and return its value."""
    done = ip.run_cell(code)
    done.raise_error()
    return done.result


@pytest.fixture
def loaded(shell: InteractiveShell) -> InteractiveShell:
    run(shell, "%load_ext colab_magics")
    return shell


def test_unload_leaves_the_shell_as_it_was(
    shell: InteractiveShell, toy_sync: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLAB_MAGICS_LOG", "debug")
    # IPython 9 itself loads parts of its own at the first %load_ext.
    monkeypatch.setitem(sys.modules, "another", types.SimpleNamespace(load_ipython_extension=lambda ip: None))  # type: ignore[misc]
    run(shell, "%load_ext another")
    before = everything(shell)
    for _ in range(2):
        run(shell, "%load_ext colab_magics")
        assert everything(shell) != before
        run(shell, "%sync every=5m")
        with warnings.catch_warnings():
            # what kernels call at Tab, on both stacks
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            assert "every=" in shell.complete("", "%sync ev", 8)[1]
        assert shell.run_cell("%stop").error_in_exec is not None
        run(shell, "%unload_ext colab_magics")
        after = everything(shell)
        assert {key: (before[key], after[key]) for key in before if before[key] != after[key]} == {}


def test_reload_doubles_nothing(loaded: InteractiveShell) -> None:
    def sizes() -> dict[str, Any]:
        return {key: len(value) for key, value in everything(loaded).items() if hasattr(value, "__len__")}

    before = sizes()
    run(loaded, "%reload_ext colab_magics")
    run(loaded, "%reload_ext colab_magics")
    colab_magics.load_ipython_extension(loaded)
    assert sizes() == before


def test_a_users_own_magic_of_that_name_comes_back(shell: InteractiveShell) -> None:
    shell.register_magic_function(lambda line: f"mine {line}", "line", "sync")
    run(shell, "%load_ext colab_magics")
    run(shell, "%unload_ext colab_magics")
    assert run(shell, "%sync x") == "mine x"


def test_every_verb_is_a_line_and_a_cell_magic(loaded: InteractiveShell) -> None:
    for kind in ("line", "cell"):
        assert set(colab_magics.VERBS) <= set(loaded.magics_manager.magics[kind])


def test_a_magic_returns_what_the_verb_returns(loaded: InteractiveShell, toy_sync: Calls) -> None:
    run(loaded, "x = %sync now")
    assert loaded.user_ns["x"] == "now"
    assert run(loaded, "%sync every=5m # often") == "synced"
    assert toy_sync[-1][2]["every"] == "5m"


def test_words_are_expanded_also_with_local_variables(loaded: InteractiveShell, toy_sync: Calls) -> None:
    run(loaded, "where = 'my folder'\ndef f(often):\n    get_ipython().run_line_magic('sync', 'every=$often')\n")
    run(loaded, "%sync {where + '/x'} to=$where -- $where")
    assert toy_sync[-1][1] == ("my folder/x", "$where")
    assert toy_sync[-1][2]["to"] == "my folder"
    run(loaded, "f('7m')")
    assert toy_sync[-1][2]["every"] == "7m"


@pytest.mark.parametrize("cell", ["%%sync every=5m", "%%sync every=5m\n", "\n\n%%sync every=5m\n  \n\n"])
def test_a_cell_magic_with_an_empty_body_is_the_line_magic(
    loaded: InteractiveShell, toy_sync: Calls, cell: str
) -> None:
    # ✗ Jupyter refuses it before any magic can answer, also where a line magic of that name exists.
    assert run(loaded, cell) == "synced"
    assert toy_sync[-1][2]["every"] == "5m"


def test_cell_magics_of_others_keep_their_rules(loaded: InteractiveShell) -> None:
    done = loaded.run_cell("%%time\n")
    assert done.error_in_exec is not None or done.error_before_exec is not None or done.success
    assert loaded.transform_cell("%%synchronous x\n") == "get_ipython().run_cell_magic('synchronous', 'x', '')\n"
    assert "run_cell_magic('sync'" in loaded.transform_cell("%%sync\nx = 1\n")
    assert loaded.transform_cell("x = 1\n") == "x = 1\n"


def test_colabs_empty_cell_of_one_space_works_too(loaded: InteractiveShell, toy_sync: Calls) -> None:
    assert loaded.run_cell_magic("sync", "every=5m", " ") == "synced"


def test_an_error_is_one_block(loaded: InteractiveShell, toy_sync: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    done = loaded.run_cell("%sync evry=5m")
    assert isinstance(done.error_in_exec, InvalidInput)
    shown = capsys.readouterr().out.strip().splitlines()
    assert shown[0] == "'evry=' is no option of %sync."
    assert shown[1].startswith("→ did you mean every=?")
    assert len(shown) == 2


@pytest.mark.parametrize(
    ("cell", "meant"),
    [
        ("%frok n=5", "→ did you mean %fork?\n"),
        ("%%frok\nlr: 1", "→ did you mean %%fork?\n"),
        ("x = %snyc", "→ did you mean %sync?\n"),
        ("%quite_another", ""),
        ("raise ValueError('magic `%frok` not found')", ""),
    ],
)
def test_a_magic_nearly_of_ours_gets_the_right_word(loaded: InteractiveShell, cell: str, meant: str) -> None:
    said: list[str] = []
    session.current().ui.say = said.append  # type: ignore[method-assign]
    assert loaded.run_cell(cell).error_in_exec is not None
    assert "".join(f"{text}\n" for text in said) == meant


def test_the_right_word_reaches_the_front_end(front: Front) -> None:
    reply = front.run("%frok n=5")
    assert reply.status == "error"
    assert "→ did you mean %fork?" in reply.out


def test_a_defect_keeps_its_trace(
    loaded: InteractiveShell, toy_sync: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise KeyError("ours")

    monkeypatch.setattr(sys.modules["colab_magics.verbs.sync"], "sync", broken)
    assert isinstance(loaded.run_cell("%sync").error_in_exec, KeyError)
    assert "Traceback" in capsys.readouterr().out


def test_an_interrupt_is_one_line(
    loaded: InteractiveShell, toy_sync: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(*, text: str = "") -> None:
        raise KeyboardInterrupt(*([text] if text else []))

    monkeypatch.setattr(sys.modules["colab_magics.verbs.sync"], "sync", wait)
    assert isinstance(loaded.run_cell("%sync").error_in_exec, KeyboardInterrupt)
    assert capsys.readouterr().out.strip() == "%sync was interrupted."
    loaded.run_cell("%sync text='three runs go on'")
    assert capsys.readouterr().out.strip() == "three runs go on"


def test_help_is_in_the_grammar_of_magics(
    loaded: InteractiveShell, toy_sync: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(loaded, "%sync --help") is None
    shown = capsys.readouterr().out
    assert shown.startswith("%sync [SOURCE] [MORE …] [to=TO] [every=EVERY] [max_failures=MAX_FAILURES] ")
    assert "[restore=all|light|none]" in shown
    assert "[--delete]" in shown
    assert "%sync now [timeout=TIMEOUT]" in shown
    assert "Keep a folder safe." in shown
    assert "to, every : str" in shown
    run(loaded, "%sync now -h")
    assert capsys.readouterr().out == "%sync now [timeout=TIMEOUT]\n\nSync now.\n"
    assert not toy_sync


def test_a_question_mark_shows_usage_and_docstring(
    loaded: InteractiveShell, toy_sync: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    found = loaded.object_inspect("%sync")
    assert found["docstring"].startswith("%sync [SOURCE]")
    assert "every=5m" in found["docstring"]
    loaded.run_cell("%sync?")
    assert "%sync [SOURCE]" in capsys.readouterr().out


def test_a_wrong_log_level_is_an_error(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    # B16
    monkeypatch.setenv("COLAB_MAGICS_LOG", "loud")
    before = everything(shell)
    with pytest.raises(InvalidInput, match="no log level"):
        colab_magics.load_ipython_extension(shell)
    assert everything(shell) == before


def test_the_log_level_can_be_set(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # B16
    monkeypatch.setenv("COLAB_MAGICS_LOG", "debug")
    run(shell, "%load_ext colab_magics")
    logging.getLogger("colab_magics").debug("seen once")
    assert capsys.readouterr().err.count("seen once") == 1
    run(shell, "%unload_ext colab_magics")
    logging.getLogger("colab_magics").debug("not seen")
    assert "not seen" not in capsys.readouterr().err


def test_the_api_in_a_notebook_without_load_ext_has_the_notebooks_face(
    shell: InteractiveShell, toy_sync: Calls
) -> None:
    from colab_magics.faces.notebook_ui import InShell

    vars(colab_magics).pop("stop", None)
    run(shell, "from colab_magics import stop")
    ui = session.current().ui
    assert isinstance(ui, InShell)
    assert ui.ip is shell
    run(shell, "%load_ext colab_magics")
    assert session.current().ui is ui
    run(shell, "%unload_ext colab_magics")
    assert not session._active


# In kernels and in executed notebooks


def test_errors_reach_the_front_end_whole(front: Front) -> None:
    reply = front.run("%stop a=3")
    assert reply.status == "error"
    assert reply.ename == "InvalidInput"
    assert reply.evalue == "%stop has no options, so 'a=' is none.\n→ Quote it if it is a value."
    assert reply.traceback == reply.evalue.splitlines()


def test_errors_in_the_api_are_blocks_too(start_kernel: Callable[..., Front]) -> None:
    front = start_kernel()
    reply = front.run("from colab_magics.errors import Unavailable\nraise Unavailable('no rsync', 'install it')")
    assert reply.traceback == str(Unavailable("no rsync", "install it")).splitlines()


def test_an_executed_notebook_holds_the_whole_error(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # ✗ Under papermill IPython's UsageError leaves an empty error.
    import nbformat
    import papermill

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    nbformat.write(notebook("%load_ext colab_magics", "%stop a=3", "x = 1"), tmp_path / "in.ipynb")
    with pytest.raises(papermill.PapermillExecutionError):
        papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", progress_bar=False)
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    error = next(out for cell in cells for out in cell.get("outputs", []) if out.output_type == "error")
    assert error.ename == "InvalidInput"
    assert "→ Quote it" in error.evalue
    assert "→ Quote it" in "\n".join(error.traceback)
    assert cells[-1].execution_count is None


def test_loading_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom IPython.core.interactiveshell import InteractiveShell\n"
        "ip = InteractiveShell.instance()\nbefore = set(sys.modules)\n"
        "ip.run_line_magic('load_ext', 'colab_magics')\nprint(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    new = {name.split(".")[0] for name in done.stdout.split()}
    assert "colab_magics" in new
    heavy = {"papermill", "nbclient", "nbformat", "jupyter_client", "cyclopts", "rich", "gdown", "google", "watchdog"}
    heavy |= {"ruamel", "obstore", "gspread", "sqlalchemy", "kubernetes", "ray", "numpy", "pandas", "requests"}
    assert not new & heavy
    verbs = {f"colab_magics.verbs.{verb}" for verb in colab_magics.VERBS}
    assert not verbs & set(done.stdout.split())
