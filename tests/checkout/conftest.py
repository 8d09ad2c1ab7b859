"""What tests of projects stand on: a recording face, a bare repository, a second person who commits to it."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import git

from colab_magics import session
from colab_magics.ui import TerminalUI


@dataclass
class RecordingUI(TerminalUI):
    """A face that keeps what it was told."""

    out: Any = field(default_factory=io.StringIO)
    variables: dict[str, Any] = field(default_factory=dict)
    named: str | None = None

    def notebook_name(self) -> str | None:
        return self.named

    def set_variables(self, values: Mapping[str, Any]) -> None:
        self.variables.update(values)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder, and take back what a set-up does to this process."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder


@pytest.fixture
def ui(work: Path) -> RecordingUI:
    """Put a session with a recording face in front."""
    face = RecordingUI()
    session.activate(session.Session(ui=face, start_folder=work))
    return face


@pytest.fixture
def restart(ui: RecordingUI, work: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that does to the session what a kernel's restart does, in the same folder or another."""

    def again(folder: Path = work) -> None:
        session._active.clear()
        monkeypatch.chdir(folder)
        ui.variables.clear()
        session.activate(session.Session(ui=ui, start_folder=folder))

    return again


@pytest.fixture
def bare(repository: Path, tmp_path: Path) -> Path:
    """Return a bare repository with one commit."""
    folder = tmp_path / "server" / "net.git"
    git("clone", "--quiet", "--bare", str(repository), str(folder))
    return folder


@pytest.fixture
def push(bare: Path, tmp_path: Path) -> Any:
    """Return a function that commits a file to the bare repository, as somebody else would."""

    def commit(name: str, text: str, message: str = "more") -> None:
        other = tmp_path / "other"
        if not other.exists():
            git("clone", "--quiet", str(bare), str(other))
        (other / name).write_text(text)
        git("add", ".", cwd=other)
        git("commit", "--quiet", "-m", message, cwd=other)
        git("push", "--quiet", cwd=other)

    return commit


def blocks(error: BaseException) -> str:
    """Return what a user sees of an error; it has a mend."""
    text = str(error)
    assert "\n→ " in text, f"no mend in: {text}"
    return text
