"""git in a checkout that somebody else has filled: its own configuration starts no program of ours or theirs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import git

from colab_magics.checkout import clone
from colab_magics.checkout import git as ours
from colab_magics.checkout.git import commit
from colab_magics.errors import ColabMagicsError, Unavailable
from colab_magics.relay.code import Code

PROGRAMS = (
    *("core.fsmonitor", "core.sshCommand", "core.gitProxy", "core.askPass", "core.pager", "core.editor"),
    *("filter.x.clean", "filter.x.smudge", "filter.x.process", "diff.external", "diff.x.textconv", "diff.x.command"),
    *("merge.x.driver", "credential.helper", "gpg.program", "core.alternateRefsCommand", "remote.origin.uploadpack"),
)
HOOKS = ("post-checkout", "post-merge", "post-index-change", "reference-transaction", "pre-auto-gc")


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """Make a program that leaves a mark; the mark is its path with ``.ran``."""
    program = tmp_path / "trap"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >>"{program}.ran"\nexit 1\n')
    program.chmod(0o755)
    return program


@pytest.fixture
def foreign(tmp_path: Path, repository: Path, trap: Path) -> Path:
    """Clone a repository that has gone on, and fill its ``.git`` with traps."""
    top = tmp_path / "foreign"
    (repository / ".gitattributes").write_text("*.md filter=x diff=x merge=x\n")
    git("add", ".", cwd=repository)
    git("commit", "--quiet", "-m", "attributes", cwd=repository)
    git("clone", "--quiet", str(repository), str(top))
    (repository / "README.md").write_text("changed\n")
    git("commit", "--quiet", "-am", "second", cwd=repository)
    (top / ".git" / "more").write_text('[protocol "ext"]\n\tallow = always\n')
    git("config", "include.path", "more", cwd=top)
    for name in HOOKS:
        (top / ".git" / "hooks" / name).write_text(trap.read_text())
        (top / ".git" / "hooks" / name).chmod(0o755)
    for name in PROGRAMS:
        git("config", "--file", str(top / ".git" / "more"), name, str(trap), cwd=tmp_path)
    git("config", "--file", str(top / ".git" / "more"), "filter.x.required", "true", cwd=tmp_path)
    os.utime(top / "README.md", (1, 1))  # its content has to be looked at, through the filter
    return top


def marks(trap: Path) -> str:
    """Return which programs ran."""
    return "".join(path.read_text() for path in trap.parent.rglob("*.ran"))


def test_no_program_of_a_foreign_checkout_runs(foreign: Path, trap: Path) -> None:
    assert ours.toplevel(foreign / "net") == foreign
    assert not clone.is_dirty(foreign)
    head = git("rev-parse", "HEAD", cwd=foreign)
    assert commit(foreign) == head
    Code(foreign).changes()
    assert marks(trap) == ""
    assert clone.update(foreign).startswith("updated to origin/main")
    assert (foreign / "README.md").read_text() == "changed\n"
    assert marks(trap) == ""


@pytest.mark.parametrize("address", ["ext::{trap} x", "ssh://trap.invalid/x", "http://127.0.0.1:9/x"])
def test_no_address_of_a_foreign_checkout_runs_a_program(foreign: Path, trap: Path, address: str) -> None:
    git("config", "remote.origin.url", address.format(trap=trap), cwd=foreign)
    with pytest.raises(ColabMagicsError):
        clone.update(foreign)
    assert marks(trap) == ""


def test_the_users_own_programs_count(foreign: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text(f'#!/bin/sh\ntouch "{mine}.used"\nexec cat\n')
    mine.chmod(0o755)
    git("config", "--global", "filter.x.smudge", str(mine))
    git("config", "--file", str(foreign / ".git" / "more"), "--unset", "filter.x.process")
    clone.update(foreign)
    assert Path(f"{mine}.used").exists()


def test_a_checkout_whose_files_lie_elsewhere_is_refused(foreign: Path, home: Path) -> None:
    git("config", "core.worktree", str(home), cwd=foreign)
    with pytest.raises(Unavailable, match=r"core\.worktree"):
        ours.toplevel(foreign)
