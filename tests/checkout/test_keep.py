"""``keep()``: a result becomes an input of the project, here and at its Places."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES, set_up

from colab_magics import keep, session
from colab_magics.checkout.project import Project, read_marker
from colab_magics.errors import InvalidInput, NotFound
from colab_magics.mirror import control
from colab_magics.session import Session
from colab_magics.transport.places import parse
from colab_magics.ui import TerminalUI


@pytest.fixture
def kept(tmp_path: Path, project: Project, said: io.StringIO) -> Project:
    """A project with two folders for Places."""
    placed = replace(project, place=f"{tmp_path / 'one'},{tmp_path / 'two'}")
    placed.save()
    session.activate(Session(ui=TerminalUI(out=said), project=placed))
    return placed


def test_b17_a_result_becomes_an_input_of_the_next_session(tmp_path: Path, kept: Project) -> None:
    result = tmp_path / "model.pt"
    result.write_bytes(b"weights")
    assert keep(result) == kept.data_project / "model.pt"
    for place in ("one", "two"):
        assert (tmp_path / place / "data_project" / "model.pt").read_bytes() == b"weights"
    control.fetch(parse(str(tmp_path / "two"), project="").below("data_project"), tmp_path / "next session", None)
    assert (tmp_path / "next session" / "model.pt").read_bytes() == b"weights"


def test_without_a_place_it_is_in_data_project(tmp_path: Path, project: Project) -> None:
    (tmp_path / "a").write_text("1")
    assert keep(tmp_path / "a", "deep/er/b").read_text() == "1"
    assert (project.data_project / "deep" / "er" / "b").read_text() == "1"


def test_a_folder_with_hostile_names_is_kept(tmp_path: Path, kept: Project) -> None:
    source = tmp_path / "re sult"
    (source / "inner").mkdir(parents=True)
    for name in HOSTILE_NAMES:
        (source / "inner" / name).write_text(name)
    keep(source)
    there = tmp_path / "one" / "data_project" / "re sult" / "inner"
    assert {one.name: one.read_text() for one in there.iterdir()} == {name: name for name in HOSTILE_NAMES}
    left = [one for top in (kept.root, tmp_path / "one") for one in top.rglob(".~colab_magics*")]
    assert not left


def test_again_changes_nothing_and_another_version_needs_force(tmp_path: Path, kept: Project) -> None:
    result = tmp_path / "model.pt"
    result.write_bytes(b"old")
    before = keep(result).stat()
    assert keep(result).stat().st_ino == before.st_ino
    result.write_bytes(b"new one")
    with pytest.raises(InvalidInput, match="another version"):
        keep(result)
    assert (kept.data_project / "model.pt").read_bytes() == b"old"
    keep(result, force=True)
    assert (kept.data_project / "model.pt").read_bytes() == b"new one"
    assert (tmp_path / "one" / "data_project" / "model.pt").read_bytes() == b"new one"


def test_another_version_at_the_place_stays(tmp_path: Path, kept: Project) -> None:
    there = tmp_path / "one" / "data_project" / "model.pt"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"somebody else's")
    (tmp_path / "model.pt").write_bytes(b"mine")
    with pytest.raises(InvalidInput, match="in another version"):
        keep(tmp_path / "model.pt")
    assert there.read_bytes() == b"somebody else's"
    assert (kept.data_project / "model.pt").read_bytes() == b"mine"


def test_a_run_keeps_for_its_project(tmp_path: Path, kept: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    run = kept.data_job / "sub_job_000"
    run.mkdir(parents=True)
    (run / "model.pt").write_bytes(b"weights")
    monkeypatch.setenv(session.RUN_VARIABLE, str(run))
    session.activate(Session())
    marker = read_marker(kept.root)
    assert marker is not None
    keep(run / "model.pt", "best.pt")
    assert (tmp_path / "one" / "data_project" / "best.pt").read_bytes() == b"weights"


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", ""])
def test_names_that_lead_out_are_refused(tmp_path: Path, project: Project, name: str) -> None:
    (tmp_path / "a").write_text("1")
    with pytest.raises(InvalidInput):
        keep(tmp_path / "a", name)


def test_links_that_lead_out_are_refused(tmp_path: Path, project: Project) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "outside").mkdir()
    project.data_project.mkdir()
    (project.data_project / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidInput, match="leads out of data_project"):
        keep(tmp_path / "a", "link/x")
    assert not list((tmp_path / "outside").iterdir())


def test_what_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="There is no "):
        keep(tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("1")
    with pytest.raises(NotFound, match="no project here"):
        keep(tmp_path / "a")
    project = set_up(tmp_path / "net")
    with pytest.raises(InvalidInput, match="holds data_project"):
        keep(project.root)
