"""Whoever logs in gets a shell of their own: what we send has to mean the same in all of them.

sshd hands a command line to ``SHELL -c``, and so do these tests, with every shell that is installed here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES

from colab_magics.relay.environment import Environment, attach_command
from colab_magics.transport import copying, ssh
from colab_magics.transport.places import host as host_place

SHELLS = [shell for shell in ("sh", "dash", "bash", "zsh", "fish", "tcsh", "csh", "ksh") if shutil.which(shell)]
"""Of these ``tests/setup/debian.sh`` installs zsh, fish and tcsh."""
WORDS = [
    *HOSTILE_NAMES,
    *(
        "",
        " ",
        "!",
        "!!",
        "!x",
        "a\\",
        "\\'",
        "\\\\",
        "\\n",
        "%s%d",
        "`x`",
        '"$HOME"',
        "~",
        "*",
        "a\tb",
        "\n",
        "a\r\nb",
    ),
    *("#x", "x;y", "&&", "|", ">x", "(x)", "{a,b}", "[x]", "^a^b", "=ls", "--", "-n", "\x01", "é!", "x" * 5000),
]


def by_login(shell: str, words: Sequence[str], *, home: Path, input: bytes = b"") -> bytes:
    """Return what a command line of ours prints under a login shell."""
    line = ssh.command("box", words)[-1]
    done = subprocess.run(
        [shutil.which(shell) or "", "-c", line],
        input=input,
        capture_output=True,
        check=False,
        timeout=60,
        cwd=home,
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, (line, done.stderr)
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_words_arrive_as_they_are(shell: str, home: Path) -> None:
    show = ["sh", "-c", 'printf "%s\\0" "$@"', "sh"]
    assert by_login(shell, [*show, *WORDS], home=home).split(b"\0")[:-1] == [os.fsencode(word) for word in WORDS]
    for word in WORDS:  # each alone takes the way that it needs
        assert by_login(shell, [*show, word], home=home) == os.fsencode(word) + b"\0"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_that_attaches(shell: str, home: Path) -> None:
    command = attach_command(Environment(env="it's ! \\ there"), "d29yZHM=")
    assert by_login(shell, command, home=home) == b"colab_magics-relay: missing\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts_of_copies_and_places(shell: str, home: Path, tmp_path: Path) -> None:
    for name in HOSTILE_NAMES:
        (home / name).write_text(name)
        archive = by_login(shell, ["sh", "-c", copying._GET, "sh", str(home), name], home=home)
        assert name.encode() in archive
    seen = by_login(shell, ["sh", "-c", ssh._LOOK, "sh", HOSTILE_NAMES[0], "get"], home=home)
    assert b"none" not in seen
    names = b"".join(b"./" + name.encode() + b"\0" for name in HOSTILE_NAMES)
    script = host_place._WITHIN + 'for f; do within "$f" && cat -- "$f"; done'
    listed = by_login(
        shell, ["sh", "-c", 'exec xargs -0 -n 100 sh -c "$@"', "sh", script, "sh"], home=home, input=names
    )
    assert listed.decode() == "".join(HOSTILE_NAMES)


def test_a_plain_line_stays_one_that_a_person_can_read() -> None:
    assert ssh.command("box", ["ls", "-l", "it's"])[-1] == """ls -l 'it'"'"'s'"""
    assert re.fullmatch(r"sh -c '[^'!]*'", ssh.command("box", ["echo", "a\nb'!\\"])[-1])
