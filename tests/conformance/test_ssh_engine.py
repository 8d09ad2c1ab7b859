"""Runs on two machines behind a real sshd: what engines keep to, and what can happen to machines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from sshd import Sshd, sshd

from colab_magics.relay.environment import Environment

from .engine_suite import EngineSuite


@dataclass(frozen=True)
class Box:
    """A machine of the tests: a server, and a home folder of its own."""

    server: Sshd
    home: Path


@pytest.fixture
def boxes(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Box]]:
    """Two machines on the loopback, whose Python is this one."""
    with ExitStack() as stack:
        made = []
        for name in ("alpha", "beta"):
            folder, own = tmp_path / name, home / f"home of {name}"
            folder.mkdir()
            (own / ".cache" / "colab_magics" / "env").mkdir(mode=0o700, parents=True)
            (own / ".cache" / "colab_magics" / "env" / Environment().key).write_text(f"{sys.executable}\n")
            made.append(Box(stack.enter_context(sshd(folder, host=name, session_home=own)), own))
        config = tmp_path / "both"
        config.write_text("".join(box.server.config_file.read_text() for box in made))
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(config))
        yield made


class TestSsh(EngineSuite):
    """``on=ssh:alpha,beta``."""

    @pytest.fixture
    def on(self, boxes: list[Box]) -> str:
        return "ssh:alpha,beta"
