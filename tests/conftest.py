"""What every test stands on: a home of its own, polling instead of sleeping, and an end for whatever it started."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from colab_magics import process, session
from colab_magics.checkout.project import Project
from colab_magics.runs import machine
from colab_magics.session import Session
from colab_magics.ui import UI, TerminalUI

# A shell that starts the tests in the background makes them, and all that they start, ignore interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

HOSTILE_NAMES = ["with space", "a'; echo foo", "$(touch gone)", 'quo"te', "ünï-日本", "-rf", "new\nline"]
"""Names that break careless quoting."""


def poll(condition: Callable[[], Any], *, timeout: float = 30.0, what: str = "") -> Any:
    """Wait until `condition()` is true and return its value; fail after `timeout` seconds.

    A file or a process that goes between a look at all of them and one at itself is looked for again.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            value = condition()
        except (FileNotFoundError, psutil.NoSuchProcess):
            if time.monotonic() > end:
                raise
            value = None
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}; last value {value!r}")
        time.sleep(0.02)


def git(*args: str | os.PathLike[str], cwd: Path | None = None) -> str:
    """Run git and return what it printed."""
    done = subprocess.run(["git", *args], cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def set_up(root: Path, ui: UI | None = None) -> Project:
    """Make a project of data folders alone, and use it in this process's session."""
    root.mkdir()
    made = Project(name="net", job="baseline", root=root, notebooks=root)
    made.save()
    session.activate(Session(project=made) if ui is None else Session(ui=ui, project=made))
    return made


@pytest.fixture
def said() -> io.StringIO:
    """What the session of `project` tells its user."""
    return io.StringIO()


@pytest.fixture
def project(tmp_path: Path, said: io.StringIO) -> Project:
    """A project of data folders alone, set up in this process's session."""
    return set_up(tmp_path / "net", TerminalUI(out=said))


@pytest.fixture(autouse=True)
def no_jobs_of_other_tests(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``%jobs --all`` see the jobs of this process's tests alone: others execute some at the same time."""
    found, mine = machine._job_folders, tmp_path_factory.getbasetemp().resolve()
    monkeypatch.setattr(machine, "_job_folders", lambda: (one for one in found() if one.resolve().is_relative_to(mine)))


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test a home, Jupyter and git settings of its own, a fresh session, and end its processes afterwards."""
    folder = tmp_path_factory.mktemp("home")
    for name in [
        n for n in os.environ if n.startswith(("COLAB_", "XDG_", "JUPYTER_", "JPY_", "IPYTHON", "GIT_AUTHOR"))
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(folder / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (folder / "gitconfig").write_text(
        "[user]\n\tname = Test\n\temail = test@example.org\n[init]\n\tdefaultBranch = main\n"
        '[safe]\n\tdirectory = *\n[protocol "file"]\n\tallow = always\n'
    )
    before = Path.cwd()
    yield folder
    os.chdir(before)
    session._active.clear()
    _end_processes_of(folder)


def _end_processes_of(folder: Path) -> None:
    """End what a test left running: processes that live in its home, also those that start while others end."""
    for _ in range(5):
        left = [candidate for candidate in psutil.process_iter() if _lives_in(candidate, folder)]
        for candidate in left:
            process.end_tree(candidate.pid, grace=2.0)
        if not left:
            break
    process.reap()


def _lives_in(candidate: psutil.Process, home: Path) -> bool:
    try:
        return candidate.pid != os.getpid() and Path(candidate.environ().get("HOME", "/")).is_relative_to(home)
    except psutil.Error:
        return False


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make a small git project with a notebook folder, as users have it; returns its working tree."""
    root = tmp_path / "src" / "net"
    (root / "notebooks").mkdir(parents=True)
    (root / "net").mkdir()
    (root / "net" / "__init__.py").write_text("answer = 42\n")
    (root / "README.md").write_text("net\n")
    (root / "notebooks" / ".gitkeep").touch()
    git("init", "--quiet", str(root))
    git("add", ".", cwd=root)
    git("commit", "--quiet", "-m", "first", cwd=root)
    return root
