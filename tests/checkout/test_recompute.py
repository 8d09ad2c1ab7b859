"""``.recompute/include`` and ``exclude``: what goes along with the code, and whose word that is."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from conftest import git

from colab_magics import session, trust
from colab_magics.checkout import recompute
from colab_magics.checkout.recompute import Listed
from colab_magics.relay.code import Code
from colab_magics.session import Session
from colab_magics.ui import TerminalUI


@pytest.fixture
def ui() -> io.StringIO:
    """What the user is told."""
    said = io.StringIO()
    session.activate(Session(ui=TerminalUI(out=said)))
    return said


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def going(root: Path) -> set[str]:
    listed = recompute.read(root, session.current().warn_once)
    return set(Code(root, listed=listed.include, unlisted=listed.exclude).changes()[0])


def test_files_of_the_users_own(tmp_path: Path, ui: io.StringIO) -> None:
    git("init", "--quiet", str(tmp_path))
    write(tmp_path, a_dot_py="1", b_dot_py="2", big_dot_log="3", weights__w_dot_pt="4", weights__v_dot_pt="5")
    write(tmp_path, data_project__train_dot_csv="6", data_project__other_dot_csv="7", sub__t_dot_ipynb="{}")
    write(tmp_path, _dot_gitignore="weights/\n*.log\n.recompute/\n", _dot_env="KEY")
    base = {"a.py", "b.py", ".gitignore"}
    assert going(tmp_path) == base
    write(
        tmp_path,
        _dot_recompute__include="# what runs need\n\n./weights/w.pt\nbig.log\r\n"
        "data_project/train.csv\nsub/\n.env\n*.py\n",
        _dot_recompute__exclude="  b.py  \n",
    )
    assert going(tmp_path) == {"a.py", ".gitignore", "weights/w.pt", "big.log", "data_project/train.csv", "sub/t.ipynb"}
    assert not ui.getvalue()


def test_a_folder_of_data_without_git(tmp_path: Path, ui: io.StringIO) -> None:
    write(tmp_path, a_dot_py="1", data_project__x__a_dot_csv="6", data_project__b_dot_csv="7", data_job__j__o="8")
    write(tmp_path, _dot_recompute__include="data_project/x\n*\n")
    assert going(tmp_path) == {"a.py", ".recompute/include", "data_project/x/a.csv"}


def test_what_came_with_a_repository_waits_for_a_yes(tmp_path: Path, ui: io.StringIO) -> None:
    source, root = tmp_path / "source", tmp_path / "clone"
    source.mkdir()
    git("init", "--quiet", str(source))
    write(source, a_dot_py="1", b_dot_py="2", _dot_gitignore="private/\n")
    write(source, _dot_recompute__include="private\n.env\n", _dot_recompute__exclude="b.py\n")
    git("add", "--all", "--force", cwd=source)
    git("commit", "--quiet", "-m", "x", cwd=source)
    git("clone", "--quiet", str(source), str(root))
    write(root, private__notes="mine", _dot_env="KEY")
    mine = {"a.py", ".gitignore", ".recompute/include", ".recompute/exclude"}
    assert going(root) == mine
    assert "came with the repository" in ui.getvalue()
    assert '".env"' in str(trust(str(root), yes=True))
    assert going(root) == {*mine, "private/notes"}
    with open(root / ".recompute" / "include", "a") as stream:
        stream.write("data_job\n")
    assert going(root) == mine, "the yes was for other words"


def test_what_leads_out_is_passed_over(tmp_path: Path, ui: io.StringIO) -> None:
    root = tmp_path / "net"
    write(root, a_dot_py="1", _dot_recompute__include="/etc/passwd\n../x\n~/.ssh\na/../../b\n\xff\n")
    assert recompute.read(root, session.current().warn_once) == Listed(("\xff",), ())
    assert "/etc/passwd is not below the project" in ui.getvalue()
    (tmp_path / "outside").write_text("a.py\n")
    os.symlink(tmp_path / "outside", root / ".recompute" / "exclude")
    assert recompute.read(root).exclude == ()
    os.rename(root / ".recompute", tmp_path / "moved")
    os.symlink(tmp_path / "moved", root / ".recompute")
    assert recompute.read(root) == Listed()
