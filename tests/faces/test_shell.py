"""The shell face: ``colab-magics sync every=5m``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import poll
from fronts import ROOT

import colab_magics
from colab_magics import __main__ as face
from colab_magics.errors import RunsFailed, Unavailable
from colab_magics.faces.help_text import verb_help
from colab_magics.faces.signature import MAGIC, SHELL, Words
from colab_magics.verbs import load, subcommands

pytest_plugins = ("shells",)
RST = re.compile(r"`|::$|^-{3,}$|^\*+\w", re.MULTILINE)
Calls = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


def command(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "colab_magics", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **options,
    )


@pytest.mark.parametrize("words", [["every=5m", "--delete", "data"], ["--every", "5m", "--delete", "data"],
                                   ["data", "--every=5m", "delete=yes"]])  # fmt: skip
def test_both_ways_of_writing_an_option(toy_sync: Calls, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert face.main(["sync", *words]) == 0
    assert toy_sync[-1][1] == ("data",)
    assert toy_sync[-1][2]["every"] == "5m"
    assert toy_sync[-1][2]["delete"] is True
    assert capsys.readouterr().out == "synced\n"


def test_the_shell_has_expanded_already(toy_sync: Calls) -> None:
    face.main(["sync", "$HOME/{x}", "it's # here;", "to=a b", "--", "--to=x", "--help"])
    assert toy_sync[-1][1] == ("$HOME/{x}", "it's # here;", "--to=x", "--help")
    assert toy_sync[-1][2]["to"] == "a b"


def test_subcommands_and_results(toy_sync: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert face.main(["sync", "now", "timeout=3"]) == 0
    assert capsys.readouterr().out == "now\n"
    assert face.main(["sync", "stop-all"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["snyc"], 2, "did you mean sync?"),
        (["sync", "evry=5m"], 2, "did you mean --every?"),
        (["sync", "--max-failures=x"], 2, "--max-failures"),
        (["sync", "nwo"], 2, "did you mean now?"),
    ],
)
def test_wrong_words(
    toy_sync: Calls, capsys: pytest.CaptureFixture[str], words: list[str], status: int, said: str
) -> None:
    assert face.main(words) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert said in shown.err
    assert "Traceback" not in shown.err


def test_errors_and_interrupts(
    toy_sync: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(kind: str = "", /) -> None:
        raise KeyboardInterrupt if kind else Unavailable("no rsync", "install it")

    monkeypatch.setattr(sys.modules["colab_magics.verbs.sync"], "sync", fail)
    assert face.main(["sync"]) == 1
    assert capsys.readouterr().err == "error: no rsync\n→ install it\n"
    assert face.main(["sync", "x"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_what_is_said_names_commands_and_what_is_quoted_stays(
    toy_sync: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    from colab_magics import session
    from colab_magics.ui import Table

    def speak(kind: str, /) -> Any:
        ui = session.current().ui
        ui.say("%jobs shows them; %%fork takes a grid, 5%jobs")
        ui.show("%jobs as a log has it")
        with ui.live() as live:
            live.show(Table(["run", "state"], [["%sync", "failed"]]))
        if kind == "error":
            raise RunsFailed("2 runs of %fork failed:\n  %fork n=5", "See %jobs logs failed")
        return Table(["run"], [["%fork"]], notes=["%jobs kill ends it."])

    monkeypatch.setattr(sys.modules["colab_magics.verbs.sync"], "sync", speak)
    said = "colab-magics jobs shows them; %%fork takes a grid, 5%jobs\n%sync  failed\n"
    assert face.main(["sync", "table"]) == 0
    shown = capsys.readouterr()
    assert shown.err == said
    assert shown.out == "%jobs as a log has it\nrun\n%fork\ncolab-magics jobs kill ends it.\n"
    assert face.main(["sync", "error"]) == 1
    told = "error: 2 runs of colab-magics fork failed:\n  %fork n=5\n→ See colab-magics jobs logs failed\n"
    assert capsys.readouterr().err == said + told


def test_help_lists_the_verbs_and_speaks_the_shells_grammar(
    toy_sync: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert face.main([]) == 0
    assert face.main(["sync", "--help"]) == 0
    shown = capsys.readouterr().out
    for verb in colab_magics.VERBS:
        assert f"\n  {verb} " in shown
    assert "Keep a folder safe." in shown
    assert "colab-magics sync [SOURCE] [MORE …] [--to TO] [--every EVERY]" in shown
    assert "--to, --every : str" in shown
    assert "as in colab-magics sync every=5m." in shown
    assert not RST.search(shown)
    assert "%" not in shown


@pytest.mark.parametrize("words", [MAGIC, SHELL])
def test_help_is_plain_text(words: Words) -> None:
    for verb in colab_magics.VERBS:
        for word in (None, *subcommands(load(verb))):
            shown = verb_help(verb, word, words)
            assert not RST.search(shown), (verb, word, RST.findall(shown))


def test_the_real_program(tmp_path: Path) -> None:
    done = command("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"colab-magics {colab_magics.__version__}\n")
    assert command("--help", cwd=tmp_path).stdout.count("\n") > 5
    done = command("stop", "enough", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "enough\n")
    for verb in colab_magics.VERBS:
        done = command(verb, "--help", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[:2] == ["colab-magics", verb]


def test_a_log_level_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # B16
    monkeypatch.setenv("COLAB_MAGICS_LOG", "loud")
    done = command("--version", cwd=tmp_path)
    assert done.returncode == 2
    assert "no log level" in done.stderr


def test_a_reader_that_closes_early_is_no_error(tmp_path: Path) -> None:
    program = (
        "import sys, types; m = types.ModuleType('colab_magics.verbs.sync')\n"
        "def sync(): return 'x' * 10_000_000\n"
        "m.sync = sync; sys.modules[m.__name__] = m\n"
        "from colab_magics.__main__ import main; sys.exit(main(['sync']))"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    assert writer.stdout.read(3) == b"xxx"
    writer.stdout.close()
    said = writer.stderr.read()
    writer.stderr.close()
    assert writer.wait(timeout=30) == 1
    assert said == b""


def test_ctrl_c_ends_it_with_130(tmp_path: Path) -> None:
    program = (
        "import sys, time, types; m = types.ModuleType('colab_magics.verbs.sync')\n"
        "def sync():\n    open('ready', 'w').close()\n    time.sleep(60)\n"
        "m.sync = sync; sys.modules[m.__name__] = m\n"
        "from colab_magics.__main__ import main; sys.exit(main(['sync']))"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    poll((tmp_path / "ready").exists, what="the verb runs")
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=30)[1] == "interrupted\n"
    assert running.returncode == 130
