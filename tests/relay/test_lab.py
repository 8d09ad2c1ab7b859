"""%host lab: what goes wrong with a JupyterLab on a machine behind a real sshd."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import Box, boxes

from colab_magics import host, session
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, NotFound, Unavailable
from colab_magics.records.run import runs_of
from colab_magics.relay import lab as room
from colab_magics.relay.environment import Environment
from colab_magics.transport.forward import Forward, free_port
from colab_magics.verbs.host_lab import Lab


@pytest.fixture
def box(tmp_path: Path, home: Path) -> Iterator[Box]:
    """A machine."""
    with boxes(tmp_path, home, ["alpha"]) as (made,):
        yield made
        for one in session._active:
            for lab in one.labs.values():
                lab.forward.close()


@pytest.fixture
def project(tmp_path: Path, project: Project) -> Project:
    (project.root / "a.py").write_text("print(1)\n")
    os.chdir(project.root)
    return project


def opened(**words: int) -> Lab:
    made: Lab = host.lab("alpha", **words)  # type: ignore[attr-defined]
    return made


def test_where_it_is_not_installed_it_says_how_to(box: Box, project: Project, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$2" in *jupyterlab*) exit 1 ;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (box.home / ".cache" / "colab_magics" / "env" / Environment().key).write_text(f"{python}\n")
    with pytest.raises(NotFound) as error:
        opened()
    assert "JupyterLab is not installed on alpha" in error.value.what
    assert error.value.mend == "Install it: %host install jupyterlab host=alpha"
    assert not runs_of(project.root / "data_job" / "lab-alpha")


def test_a_server_that_does_not_start_says_why(box: Box, project: Project, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$2" in *jupyterlab*) [ "$1" = -c ] && exit 0; echo "no such port"; exit 3 ;; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    (box.home / ".cache" / "colab_magics" / "env" / Environment().key).write_text(f"{python}\n")
    with pytest.raises(Unavailable, match=r"JupyterLab on alpha failed: exit code 3[^\0]*no such port"):
        opened()


def test_a_port_that_somebody_has_and_a_host_that_forwards_none(box: Box, tmp_path: Path) -> None:
    taken = Forward("alpha", "/tmp/none", free_port())
    with pytest.raises(InvalidInput, match=f"Port {taken.port} is in use"):
        Forward("alpha", "/tmp/none", taken.port)
    taken.close()
    with pytest.raises(Unavailable, match="There is no host nobody"):
        Forward("nobody", "/tmp/none", free_port())


@pytest.mark.parametrize("project", ["-rf", "a'; touch gone; ' $(touch gone) ünï-日本 \"quo"])
def test_project_folders_of_any_name(box: Box, project: str) -> None:
    if subprocess.run([sys.executable, "-c", "import jupyterlab"], capture_output=True, check=False).returncode:
        with pytest.raises(NotFound):
            room.prepare("alpha", project)
        return
    made = room.prepare("alpha", project)
    assert made.folder == f"{box.home}/{project}"
    assert Path(made.folder).is_dir()
    assert made == room.prepare("alpha", project)
    assert not list(box.home.rglob("gone"))
