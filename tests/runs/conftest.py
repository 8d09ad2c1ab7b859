"""A project in this process's session, for tests of runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from colab_magics import session
from colab_magics.checkout.project import Project
from colab_magics.session import Session
from colab_magics.ui import TerminalUI


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def project(tmp_path: Path, said: io.StringIO) -> Project:
    """A project of data folders alone, set up in this process's session."""
    root = tmp_path / "net"
    root.mkdir()
    made = Project(name="net", job="baseline", root=root, notebooks=root)
    made.save()
    session.activate(Session(ui=TerminalUI(out=said), project=made))
    return made
