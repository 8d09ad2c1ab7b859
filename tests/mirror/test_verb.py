"""``%sync`` as a function: what it keeps, where, and what it says when it cannot know."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import pytest

import colab_magics
from colab_magics import process, session
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, NotFound, Unavailable
from colab_magics.mirror import control
from colab_magics.mirror.sync import Syncs
from colab_magics.ui import TerminalUI
from colab_magics.verbs import subcommands
from mirror.tools import tree, write

sync = colab_magics.sync


@dataclass
class Here:
    """A project, the Place that it names, and what the verb said."""

    project: Project
    kept: Path
    said: io.StringIO


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    root = tmp_path / "pro ject"
    (root / "data_job" / "base").mkdir(parents=True)
    project = Project(name="net", job="base", root=root, notebooks=root, place=str(tmp_path / "kept"))
    said = io.StringIO()
    monkeypatch.chdir(tmp_path)
    session.activate(session.Session(ui=TerminalUI(out=said), project=project))
    return Here(project, tmp_path / "kept", said)


def test_the_outputs_of_the_project_go_to_its_place(here: Here) -> None:  # B6
    write(here.kept / "data_job" / "base", old_txt="old")
    handle = sync(every="1h")
    assert handle is not None
    assert tree(here.project.data_job) == {"old.txt": "old"}
    write(here.project.data_job, new_txt="new")
    sync.now()
    assert tree(here.kept) == {"data_job/base/old.txt": "old", "data_job/base/new.txt": "new"}
    assert handle.config.every == 3600
    assert sync.status().state() in ("IDLE", "SYNCING")
    write(here.project.data_job, more_txt="more")
    sync.wait()
    assert "data_job/base/more.txt" in tree(here.kept)
    write(here.kept / "data_job" / "base", late_txt="late")
    sync.restore()
    assert tree(here.project.data_job)["late.txt"] == "late"
    assert sync.stop().state() == "STOPPED"
    assert sync.status().state() == "STOPPED", "what has ended can be looked at"
    with pytest.raises(NotFound, match="No sync runs") as caught:
        sync.now()
    assert "%sync starts it" in str(caught.value)


def test_to_stands_for_the_place(here: Here, tmp_path: Path) -> None:
    write(here.project.data_job, a_txt="a")
    sync(to=str(tmp_path / "other"), every="1h")
    sync.now()
    assert tree(tmp_path / "other") == {"data_job/base/a.txt": "a"}
    assert not here.kept.exists()


def test_any_folder_goes_to_that_very_place(here: Here, tmp_path: Path) -> None:
    source = write(tmp_path / "results", a_txt="a")
    sync("results", to="copy", every="1h")
    sync.now("results")
    assert tree(tmp_path / "copy") == {"a.txt": "a"}
    session.current().project = None
    sync("results", to="copy", every="1h")
    assert [handle.source for handle in control.running()] == [source]
    with pytest.raises(InvalidInput, match="Where shall"):
        sync("results")


def test_the_project_is_found_in_a_fresh_shell(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.project.save()
    session.current().project = None
    monkeypatch.chdir(here.project.data_job)
    handle = sync(every="1h")
    assert handle is not None
    assert handle.source == here.project.data_job


def test_without_project_or_place_it_says_what_to_write(here: Here) -> None:
    here.project.place = None
    with pytest.raises(InvalidInput, match="has no Place") as caught:
        sync()
    assert "to=" in str(caught.value)
    session.current().project = None
    with pytest.raises(InvalidInput, match="no project here") as caught:
        sync()
    assert "%sync FOLDER to=PLACE" in str(caught.value)


def test_a_word_that_is_nearly_a_subcommand(here: Here) -> None:
    with pytest.raises(InvalidInput, match="did you mean status"):
        sync("statsu")
    with pytest.raises(NotFound, match="no folder"):
        sync("results-of-monday")


@pytest.mark.parametrize(
    ("options", "said"), [({"every": "soon"}, "no duration"), ({"restore": "some"}, "no way to restore")]
)
def test_values_that_cannot_be(here: Here, options: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        sync(**options)
    assert control.known() == []


def test_a_failed_restore_is_told_at_once(here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = write(tmp_path / "bin") / "rsync"  # ✗ a failed first download is only printed
    fake.write_text("#!/bin/sh\necho 'rsync: broken' >&2; exit 12\n")
    fake.chmod(0o755)
    write(here.kept / "data_job" / "base", old_txt="old")
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    sync(every="1h")
    assert "warning: The restore failed: rsync: broken" in here.said.getvalue()


def test_a_run_starts_no_sync_of_its_own(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    process.write_json(
        here.project.root / ".colab_magics.json", {"name": "net", "job": "base", "place": str(here.kept), "url": None}
    )
    run = write(here.project.data_job / "sub_job_000")
    monkeypatch.setenv("COLAB_MAGICS_RUN", str(run))
    assert sync() is None
    assert "run %sync in the main notebook" in here.said.getvalue()
    assert control.known() == []
    monkeypatch.delenv("COLAB_MAGICS_RUN")
    handle = sync(every="1h")
    monkeypatch.setenv("COLAB_MAGICS_RUN", str(run))
    same = sync(every="1s")
    assert handle is not None
    assert same is not None
    assert same.status()["identity"] == handle.status()["identity"]
    assert same.config.every == 3600, "nor does it change the one that runs"
    write(run, test_txt="x")
    sync.now()
    assert tree(here.kept) == {"data_job/base/sub_job_000/test.txt": "x"}


def test_what_deletes_is_taken_from_the_call_alone() -> None:
    assert {"delete", "rsync", "take_over"} <= sync.call_only
    assert subcommands(sync)["now"].call_only == {"delete", "delete_earlier"}
    assert set(subcommands(sync)) == {"now", "wait", "status", "verify", "restore", "flush", "stop"}


def test_delete_names_at_once_what_it_leaves(here: Here) -> None:
    write(here.project.data_job, a_pt="a", b_pt="b", c_pt="c")
    sync(every="1h")
    sync.now()
    (here.project.data_job / "a.pt").unlink()
    (here.project.data_job / "b.pt").unlink()
    sync(every="1h", delete=True)
    assert "2 files that were handed over" in here.said.getvalue()
    assert "(a.pt, b.pt)" in here.said.getvalue()
    assert "%sync now --delete-earlier" in here.said.getvalue()
    sync.now()
    assert len(tree(here.kept / "data_job" / "base")) == 3
    sync.now(delete_earlier=True)
    assert tree(here.kept / "data_job" / "base") == {"c.pt": "c"}


def test_two_places_are_both_kept(here: Here, tmp_path: Path) -> None:
    write(here.project.data_job, a_txt="a")
    both = sync(to=f"{tmp_path / 'one'},{tmp_path / 'two'}", every="1h")
    assert isinstance(both, Syncs)
    assert len(both) == 2
    both.now()
    for name in ("one", "two"):
        assert tree(tmp_path / name) == {"data_job/base/a.txt": "a"}
    (tmp_path / "one" / ".colab_magics_place.json").unlink()
    write(here.project.data_job, b_txt="b")
    with pytest.raises(Unavailable):
        both.now()
    assert "data_job/base/b.txt" in tree(tmp_path / "two"), "one that is away keeps no other from it"
    shown = str(sync.status())
    assert "HELD" in shown
    assert str(tmp_path / "two") in shown
