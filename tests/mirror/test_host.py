"""Places on another machine, through a real sshd."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES, poll
from sshd import Sshd, sshd

from colab_magics import process
from colab_magics.errors import NotFound, Unavailable
from colab_magics.mirror import control, show
from colab_magics.mirror.state import Config
from colab_magics.transport.places import parse
from colab_magics.transport.places.base import SENTINEL
from colab_magics.transport.places.store import TEMPORARY
from mirror.tools import begin, state_of, tree, write


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    with sshd(tmp_path) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        yield server


@pytest.mark.parametrize("folder", ["kept", "ke'pt $(touch gone) ünï"])
def test_restored_from_and_sent_to_a_host(tmp_path: Path, box: Sshd, folder: str) -> None:
    place = write(tmp_path / folder, old_txt="kept")
    source = tmp_path / "job"
    for name in HOSTILE_NAMES:
        write(source / name, x_txt=name)
    sync = begin(source, f"box:{place}", delete=True)
    assert tree(source)["old.txt"] == "kept"
    sync.now()
    assert tree(place) == tree(source)
    assert (place / SENTINEL).is_file()
    (source / "old.txt").unlink()
    sync.now()
    assert tree(place) == tree(source)
    assert f"copied to box:{place}" in show.text(sync)


def test_the_project_layout_is_made_there(tmp_path: Path, box: Sshd) -> None:
    source = write(tmp_path / "job", a_txt="a")
    place = parse(f"box:{tmp_path}/new/kept", project="net").below("data_job", "base line")
    control.start(Config.of(source, place, every=3600, project="net")).now()
    assert tree(tmp_path / "new" / "kept") == {"data_job/base line/a.txt": "a"}


def test_inputs_from_a_host(tmp_path: Path, box: Sshd) -> None:  # B4, B5
    for name in HOSTILE_NAMES:
        write(tmp_path / "kept" / "data_project" / name, x_txt=name)
    place = parse(f"box:{tmp_path}/kept", project="net").below("data_project")
    assert control.fetch(place, tmp_path / "some", ["-rf", "a'; echo foo/x.txt"]) == 2
    assert set(tree(tmp_path / "some")) == {"-rf/x.txt", "a'; echo foo/x.txt"}
    assert control.fetch(place, tmp_path / "all", None) == len(HOSTILE_NAMES)
    with pytest.raises(NotFound, match="'gone'") as caught:
        control.fetch(place, tmp_path / "none", ["gone", "-rf"])
    assert "with space" in str(caught.value)


def test_a_place_that_went_away_is_held(tmp_path: Path, box: Sshd) -> None:
    place, source = tmp_path / "kept", write(tmp_path / "job", a_txt="a")
    sync = begin(source, f"box:{place}", every=0.2)
    sync.now()
    place.rename(tmp_path / "aside")
    place.mkdir()
    write(source, b_txt="b")
    assert SENTINEL in state_of(sync, "HELD")["reason"]
    assert list(place.iterdir()) == []
    shutil.rmtree(place)
    (tmp_path / "aside").rename(place)
    poll(lambda: tree(place) == {"a.txt": "a", "b.txt": "b"})


def test_a_host_that_does_not_answer(tmp_path: Path, box: Sshd) -> None:
    source = write(tmp_path / "job", a_txt="a")
    sync = begin(source, f"box:{tmp_path}/kept")
    sync.now()
    process.end_tree(box.process.pid)  # with the connection that is kept open
    box.process.wait(10)
    with pytest.raises(Unavailable, match="cannot be reached by ssh"):
        sync.now()
    with pytest.raises(Unavailable, match=r"ssh -F .* box") as caught:
        begin(tmp_path / "other", f"box:{tmp_path}/kept2")
    assert "Connection refused" in str(caught.value)


def test_a_file_stands_where_a_folder_should_be(tmp_path: Path, box: Sshd) -> None:  # put aside, as in a folder Place
    place, source = write(tmp_path / "kept", thing="of another hand"), tmp_path / "job"
    write(source / "thing" / "deep er", new_txt="new")
    sync = begin(source, f"box:{place}", restore="none").now()
    assert tree(place) == {"thing/deep er/new.txt": "new"}
    [lost] = place.glob(".sync_conflict/*/thing")
    assert lost.read_text() == "of another hand"
    assert sync.state() in ("IDLE", "SYNCING")


def test_a_folder_stands_where_a_file_should_be(tmp_path: Path, box: Sshd) -> None:
    place, source = tmp_path / "kept", write(tmp_path / "job", thing="file")
    write(place / "thing", of_another_hand_txt="x")
    begin(source, f"box:{place}", restore="none").now()
    assert tree(place) == {"thing": "file"}
    assert [path.read_text() for path in place.glob(".sync_conflict/*/thing/*")] == ["x"]


@pytest.mark.parametrize("name", ["thing", "a'; echo foo"])
def test_a_file_becomes_a_folder_and_back(tmp_path: Path, box: Sshd, name: str) -> None:
    place, source = tmp_path / "kept", tmp_path / "job"
    write(source, other_txt="o")
    thing = source / name
    thing.write_text("a file")
    sync = begin(source, f"box:{place}", delete=True).now()
    thing.unlink()
    write(thing, new_txt="new")
    sync.now()
    assert tree(place) == {f"{name}/new.txt": "new", "other.txt": "o"}, "deleting the old name leaves the new files"
    shutil.rmtree(thing)
    thing.write_text("a file again")
    sync.now()
    sync.now()
    assert tree(place) == {name: "a file again", "other.txt": "o"}


def test_what_a_dead_process_left_on_its_way_and_nobody_sends_again_is_taken_away(tmp_path: Path, box: Sshd) -> None:
    place, source = tmp_path / "kept", tmp_path / "job"
    write(source, other_txt="o", again_txt="a")
    sync = begin(source, f"box:{place}").now()
    os.kill(int(sync.status()["identity"]["pid"]), signal.SIGKILL)
    poll(lambda: not sync.alive)
    incoming = place / f"{TEMPORARY}incoming"
    write(incoming / "deep", gone_ckpt="half")
    write(incoming, again_txt="half")
    write(source, new_txt="n")
    begin(source, f"box:{place}").now()
    assert tree(place)["new.txt"] == "n"
    assert not (incoming / "deep" / "gone.ckpt").exists()
    assert (source / "again.txt").read_text() == tree(place)["again.txt"]


def test_a_link_there_leads_nobody_out(tmp_path: Path, box: Sshd) -> None:
    outside = write(tmp_path / "outside", a_txt="of somebody else", b_txt="too")
    place, source = write(tmp_path / "kept"), tmp_path / "job"
    (place / "sub").symlink_to(outside)
    write(source / "sub", a_txt="mine", c_txt="c")
    sync = begin(source, f"box:{place}", restore="none", delete=True).now()
    (source / "sub" / "a.txt").unlink()
    sync.now()
    assert tree(outside) == {"a.txt": "of somebody else", "b.txt": "too"}
    assert tree(place) == {"sub/c.txt": "c"}
    assert not (place / "sub").is_symlink()
