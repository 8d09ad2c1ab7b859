"""Bundles of a small project, and machines without a network that start them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import git

from colab_magics import __main__ as face

SCRIPT = """\
import json, os, sys
try:
    import tiny_thing
except ImportError:
    tiny_thing = None
print(json.dumps({
    "argv": sys.argv[1:], "cwd": os.getcwd(), "job": os.environ["data_job"], "sub": os.environ["i_sub_job"],
    "tiny": tiny_thing and tiny_thing.answer, "version": sys.version_info[:2],
}))
"""


@functools.cache
def _without_network() -> tuple[str, ...]:
    """Return the words before a command that take the network away, where this machine lets us."""
    words = ("unshare", "--user", "--map-root-user", "--net")
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        return ()
    return words


@dataclass
class Machine:
    """Another machine: a home of its own, no network, and nothing of this environment.

    Parameters
    ----------
    home : Path
        The home folder.
    path : str
        Its ``PATH``.
    """

    home: Path
    path: str

    def command(self, words: Sequence[str | Path], **variables: str) -> list[str]:
        """Return the argument list that runs something there."""
        # Where the network cannot be taken away, at least pip's index is nowhere.
        known = {"HOME": str(self.home), "PATH": self.path, "PIP_INDEX_URL": "http://127.0.0.1:9/", **variables}
        settings = [f"{name}={value}" for name, value in known.items()]
        return [*_without_network(), "env", "-i", *settings, *map(str, words)]

    def run(self, *words: str | Path, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run something there."""
        return subprocess.run(
            self.command(words, **variables), cwd=cwd or self.home, capture_output=True, text=True, timeout=100
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Another machine with this Python."""
    (tmp_path / "there's").mkdir()
    return Machine(tmp_path / "there's", f"{Path(sys.base_prefix, 'bin')}:/usr/bin:/bin")


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a wheel of one module."""
    folder = tmp_path_factory.mktemp("wheels")
    with zipfile.ZipFile(folder / "tiny_thing-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny_thing.py", "answer = 42\n")
        archive.writestr("tiny_thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n")
        archive.writestr(
            "tiny_thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_thing-1.0.dist-info/RECORD", "tiny_thing.py,,\n")
    return folder


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A git project with a script and no requirements; this process stands in it."""
    root = tmp_path / "co de's"
    root.mkdir()
    git("init", "--quiet", str(root))
    (root / "train.py").write_text(SCRIPT)
    os.chdir(root)
    return root


@pytest.fixture
def tiny(code: Path, wheelhouse: Path) -> Path:
    """The project with a requirement."""
    (code / "requirements.txt").write_text(f"--no-index\n--find-links {wheelhouse}\ntiny-thing\n")
    return code


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Return what makes a bundle."""

    def bundle(*words: str, name: str = "train.bundle", command: Sequence[str] = ("python", "train.py")) -> Path:
        to = tmp_path / name
        assert face.main(["submit", "--bundle", str(to), *words, "--", *command]) == 0
        return to

    return bundle
