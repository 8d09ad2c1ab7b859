"""What ``%sync`` shows: a line when all is well, trouble once, all syncs there are; and when one ends by itself."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import poll

import colab_magics
from colab_magics import session
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput
from colab_magics.mirror import control, show
from colab_magics.mirror.sync import Sync, Syncs
from colab_magics.ui import TerminalUI
from mirror.tools import begin, state_of, tmpfs, tree, write

sync = colab_magics.sync


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Set a project up that is kept; returns what the verb says beside its result."""
    root = tmp_path / "net"
    write(root / "data_job" / "base", a_txt="a")
    project = Project(name="net", job="base", root=root, notebooks=root, place=str(tmp_path / "kept"))
    monkeypatch.chdir(tmp_path)
    said = io.StringIO()
    session.activate(session.Session(ui=TerminalUI(out=said), project=project))
    return said


def one(handle: Sync | Syncs | None) -> Sync:
    assert isinstance(handle, Sync)
    return handle


def test_a_line_is_all_when_all_is_well(said: io.StringIO, tmp_path: Path) -> None:
    # ✗ Eight lines of numbers, each time.
    sync(every="1h")
    shown = str(sync.now())
    assert re.fullmatch(rf"base → {tmp_path}/kept: all handed over \d\d:\d\d", shown), shown
    with open(one(sync()).source / "model.pt", "wb") as stream:
        stream.write(b"\0")
        stream.flush()
        assert str(sync.now()).endswith(", but not 1 open for writing (%sync status)")
    assert "warning" not in said.getvalue()
    assert " stopped, all handed over " in str(sync.stop())


def test_status_says_all_and_who_started_it(said: io.StringIO, tmp_path: Path) -> None:
    sync(every="1h")
    shown = str(sync.status())
    assert "every 1 h 00 min: " in shown
    assert f" by {Path(sys.argv[0]).name}, Python of {sys.prefix}" in shown
    assert shown.count("Python of") == 1
    handle = one(sync.status())
    control.start(replace(handle.config, every=5.0), by="notebook /other.ipynb")
    assert re.search(r"started .* by .*\n  told anew .* by notebook /other.ipynb, Python of ", str(sync.status()))


def test_what_waits_for_the_users_word_is_a_state_and_told_once(said: io.StringIO) -> None:
    source = one(sync(every="1h", delete=True)).source
    write(source, **{f"f{n}_txt": str(n) for n in range(60)})
    sync.now()
    for n in range(60):
        (source / f"f{n}.txt").unlink()
    handle = one(sync.now())
    assert handle.state() == "WAITING"
    for _ in range(2):
        shown = str(sync(every="1h", delete=True))
        assert "waits for your word on deletes" in shown
        assert "\n" not in shown
    assert said.getvalue().count("60 files are gone here at once") == 1
    assert "Are they to go? %sync now --delete" in str(sync.status())
    assert "all handed over" in str(sync.now(delete=True))
    assert handle.state() == "IDLE"


def test_several_syncs_are_all_listed(said: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync(every="1h")
    write(tmp_path / "results" / "deep", b_txt="b")
    sync("results", to="copy", every="1h")
    sync.now("results")
    shown = str(sync.status()).splitlines()
    assert shown[0].startswith(f"{tmp_path}/net/data_job/base → ")
    assert shown[-1].startswith(f"{tmp_path}/results → {tmp_path}/copy: all handed over ")
    session.current().project = None
    listed = str(sync.status()).splitlines()
    assert len(listed) == 2
    with pytest.raises(InvalidInput, match="Several folders are synced") as caught:
        sync.stop()
    assert "or stand in it" in str(caught.value)
    # A folder is chosen by standing in it.
    monkeypatch.chdir(tmp_path / "results" / "deep")
    assert one(sync.status()).source == tmp_path / "results"
    assert one(sync.stop()).source == tmp_path / "results"


def test_where_a_notebook_stands_is_no_choice_of_its_users(
    said: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(every="1h")
    sync(".", to=str(tmp_path.parent / f"{tmp_path.name} whole"), every="1h")
    assert one(sync.now()).source == tmp_path / "net" / "data_job" / "base"


@pytest.mark.parametrize("above", [False, True])
def test_a_folder_that_is_gone_for_good_ends_its_sync(tmp_path: Path, above: bool) -> None:
    place, source = tmp_path / "place", write(tmp_path / "net" / "job", a_txt="a")
    handle = begin(source, place, delete=True, every=0.2).now()
    shutil.rmtree(source.parent if above else source)
    assert "is gone" in state_of(handle, "HELD")["reason"], "it may come back"
    replace(handle.config, quiet_end=0.1).save(handle.folder)
    assert "is gone" in state_of(handle, "STOPPED")["reason"]
    assert tree(place) == {"a.txt": "a"}
    assert f"stopped, The folder {source} is gone" in str(handle)
    # It is remembered no longer than until the next one starts.
    write(source.parent)
    begin(write(tmp_path / "other", b_txt="b"), tmp_path / "elsewhere")
    assert [one.source for one in control.known()] == [tmp_path / "other"]


def test_a_folder_whose_disk_is_away_is_waited_for(tmp_path: Path) -> None:
    disk, place = tmp_path / "disk", tmp_path / "place"
    with tmpfs(disk):
        handle = begin(write(disk / "job", a_txt="a"), place, every=0.2).now()
        replace(handle.config, quiet_end=0.1).save(handle.folder)
        os.system(f"umount -l {disk}")
        state_of(handle, "HELD")
        beat = handle.beat
        poll(lambda: handle.beat > beat + 2, what="it goes on")
        assert handle.state() == "HELD"


def test_a_folder_that_is_gone_can_be_named(said: io.StringIO, tmp_path: Path) -> None:
    # ✗ The mend that the error named did not work.
    write(tmp_path / "results", b_txt="b")
    handle = one(sync("results", to="copy", every="1s"))
    shutil.rmtree(tmp_path / "results")
    assert "%sync stop" in state_of(handle, "HELD")["reason"]
    sync.stop(str(tmp_path / "results"))
    assert handle.state() == "STOPPED"


def test_names_that_are_no_text_are_shown(tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"job \xff")
    assert r"job \udcff" in str(begin(write(source, a_txt="a"), tmp_path / "place").now())
    assert show.line(begin(source, tmp_path / "place")).startswith(str(source))
