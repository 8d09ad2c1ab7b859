"""Tab in real shells: bash and fish are asked for what they would offer, zsh loads its script."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fronts import ROOT

from colab_magics import __main__ as face
from colab_magics.faces.shell_completion import SCRIPTS, found

BASH = """
source ./script
COMP_LINE={line!r} COMP_POINT=${{#COMP_LINE}}
COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
compopt() {{ :; }}
_colab_magics
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the program on the path, and its scripts in the folder."""
    program = tmp_path / "bin" / "colab-magics"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m colab_magics "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shell(name: str, code: str, folder: Path) -> list[str]:
    if not shutil.which(name):
        pytest.skip(f"{name} is not here")
    (folder / "script").write_text(SCRIPTS[name])
    option = {"bash": "--norc", "zsh": "-f", "fish": "--no-config"}[name]
    done = subprocess.run([name, option, "-c", code], capture_output=True, text=True, check=False, cwd=folder)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "items"),
    [
        ("colab-magics jo", ["join", "jobs"]),
        ("colab-magics completion z", ["zsh"]),
        ("cd x && /usr/bin/colab-magics jobs sh", ["show"]),
        ("colab-magics fork wor", ["workers="]),
        ("colab-magics fork --wor", ["--workers="]),
        ("colab-magics fork --max-f", ["--max-failures="]),
        ("colab-magics fork --det", ["--detach"]),
        ("colab-magics fork start=w", ["start=warm"]),
        ("colab-magics fork --start=w", ["--start=warm"]),
        ("colab-magics nothing ", []),
    ],
)
def test_what_a_shell_is_told(line: str, items: list[str]) -> None:
    assert found(line) == items


@pytest.mark.parametrize(
    ("line", "words", "items"),
    [
        ("colab-magics jobs sh", "colab-magics jobs sh", ["show"]),
        ("colab-magics fork start=w", "colab-magics fork start = w", ["warm"]),
        ("colab-magics fork start=", "colab-magics fork start =", ["cold", "warm", "live"]),
        ("colab-magics fork --wor", "colab-magics fork --wor", ["--workers="]),
        ("colab-magics nothing ", "colab-magics nothing ''", []),
    ],
)
def test_tab_in_bash(folder: Path, line: str, words: str, items: list[str]) -> None:
    assert shell("bash", BASH.format(line=line, words=words), folder) == items


def test_tab_in_fish(folder: Path) -> None:
    code = "source script; complete -C 'colab-magics jobs sh'; complete -C 'colab-magics fork start=w'"
    assert shell("fish", code, folder) == ["show", "start=warm"]


def test_tab_in_zsh(folder: Path) -> None:
    # Its completion works in its line editor alone: here the words go to what offers them.
    code = """
    compdef() { print registered $@ }
    compadd() { print -l -- ${@:#(-S|--|)} }
    source script
    words=(colab-magics fork start=w) CURRENT=3 PREFIX=start=w
    _colab_magics
    words=(colab-magics fork wor) CURRENT=3 PREFIX=wor
    _colab_magics
    """
    assert shell("zsh", code, folder) == ["registered", "_colab_magics", "colab-magics", "start=warm", "workers="]


def test_the_scripts_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    for name, script in SCRIPTS.items():
        assert face.main(["completion", name]) == 0
        assert capsys.readouterr().out == script
    assert face.main(["completion", "zhs"]) == 2
    assert "did you mean zsh?" in capsys.readouterr().err
    assert face.main(["completion"]) == 2
    assert "colab-magics completion bash|zsh|fish" in capsys.readouterr().err
