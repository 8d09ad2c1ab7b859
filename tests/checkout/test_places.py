"""``project(to=…)``: inputs, earlier outputs and the sync, on real rsync."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import HOSTILE_NAMES, git, poll
from sshd import sshd

from colab_magics import process, project
from colab_magics.checkout import clone
from colab_magics.checkout import git as repository_of
from colab_magics.errors import ColabMagicsError, CommandFailed, InvalidInput, NotFound
from colab_magics.mirror import control

from .conftest import RecordingUI, blocks


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Return a folder that stands for a Place, as an earlier session left it."""
    folder = tmp_path / "kept there"
    (folder / "data_project" / "images").mkdir(parents=True)
    (folder / "data_project" / "in.txt").write_text("test input")
    (folder / "data_project" / "images" / "1.png").write_text("png")
    (folder / "data_job" / "a").mkdir(parents=True)
    (folder / "data_job" / "a" / "earlier.txt").write_text("earlier")
    (folder / "data_job" / "b").mkdir(parents=True)
    (folder / "data_job" / "b" / "other.txt").write_text("other")
    for path in folder.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return folder


def files(folder: Path) -> list[str]:
    """Return the files below a folder, ours aside."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".colab_magics")
    )


# B5, B6
def test_b5_b6_inputs_outputs_and_sync(bare: Path, work: Path, ui: RecordingUI, kept: Path) -> None:
    made = project(git=str(bare), root=".", job="a", to=str(kept), every="1s")
    assert files(made.data_project) == ["images/1.png", "in.txt"]
    assert files(made.root / "data_job") == ["a/earlier.txt"]
    (made.data_job / "sub_job_000").mkdir()
    (made.data_job / "sub_job_000" / "test.txt").write_text("new")
    (made.data_project / "local.txt").write_text("local")
    poll((kept / "data_job" / "a" / "sub_job_000" / "test.txt").exists, what="the output reaches the Place")
    assert (kept / "data_job" / "a" / "earlier.txt").read_text() == "earlier"
    control.running(made.data_job)[0].now(30)
    assert not (kept / "data_project" / "local.txt").exists(), "inputs go one way"
    assert str(kept) in str(made)
    assert "every 1.0 s" in str(made)


# B4
def test_b4_which_inputs(work: Path, ui: RecordingUI, kept: Path) -> None:
    made = project(name="net", to=str(kept), inputs="none")
    assert files(made.data_project) == []
    project(inputs="images")
    assert files(made.data_project) == ["images/1.png"]
    with pytest.raises(NotFound, match=r"gone\.csv") as error:
        project(inputs="in.txt,gone.csv")
    assert "in.txt" in blocks(error.value), "it lists what is there"
    project(inputs="full")
    assert files(made.data_project) == ["images/1.png", "in.txt"]


@pytest.mark.parametrize("name", [name for name in HOSTILE_NAMES if name not in ("-rf", "new\nline")])
def test_hostile_names_reach_the_place(work: Path, ui: RecordingUI, tmp_path: Path, name: str) -> None:
    made = project(name=name, job=name, to=str(tmp_path / name / "kept"))
    (made.data_job / "out.txt").write_text("out")
    control.running(made.data_job)[0].now(30)
    assert (tmp_path / name / "kept" / "data_job" / name / "out.txt").read_text() == "out"
    assert not list(tmp_path.rglob("gone"))


def test_without_a_place_nothing_syncs_and_it_says_so(work: Path, ui: RecordingUI) -> None:
    made = project(name="net")
    assert control.running() == []
    assert "this machine only; to=PLACE keeps a copy" in str(made)


# ✗ After a kernel restart "already initialised", but nothing syncs any more.
def test_a_second_call_sees_to_it_that_the_sync_runs(work: Path, ui: RecordingUI, kept: Path, restart: Any) -> None:
    made = project(name="net", job="a", to=str(kept), every="1s")
    (first,) = control.running(made.data_job)
    project(name="net", job="a", to=str(kept), every="1s")
    (second,) = control.running(made.data_job)
    assert second.status()["identity"] == first.status()["identity"], "one that runs is kept"
    process.end_tree(first.status()["identity"]["pid"], grace=0)
    assert "none runs now" in str(made)
    restart(made.root)
    (made.data_job / "late.txt").write_text("late")
    project(name="net", job="a", every="1s")
    poll((kept / "data_job" / "a" / "late.txt").exists, what="the sync runs again, to the Place of before")


# ✗ A second job name silently reuses the first one's folder.
def test_another_job_has_its_own_outputs_and_sync(work: Path, ui: RecordingUI, kept: Path) -> None:
    first = project(name="net", job="a", to=str(kept))
    second = project(job="b")
    assert files(first.root / "data_job") == ["a/earlier.txt", "b/other.txt"]
    (first.data_job / "1.txt").touch()
    (second.data_job / "2.txt").touch()
    for made in (first, second):
        control.running(made.data_job)[0].now(30)
    assert files(kept / "data_job") == ["a/1.txt", "a/earlier.txt", "b/2.txt", "b/other.txt"]


def test_another_place_takes_over(work: Path, ui: RecordingUI, kept: Path, tmp_path: Path) -> None:
    made = project(name="net", job="a", to=str(kept))
    (made.data_job / "late.txt").write_text("late")
    made = project(to=str(tmp_path / "second"))
    assert (kept / "data_job" / "a" / "late.txt").exists(), "the first got a last flush"
    assert [sync.place for sync in control.running()] == [str(tmp_path / "second" / "data_job" / "a")]
    assert project(to="none").place is None
    assert control.running() == []
    assert files(tmp_path / "second" / "data_job") == ["a/earlier.txt", "a/late.txt"]


def test_restore_none_and_force(work: Path, ui: RecordingUI, kept: Path) -> None:
    made = project(name="net", job="a", to=str(kept), restore="none")
    assert files(made.data_job) == []
    (made.data_job / "earlier.txt").write_text("done again")
    (made.data_project / "in.txt").unlink()
    (kept / "data_job" / "a" / "more.txt").write_text("more")
    made = project(force=True)
    assert files(made.data_job) == ["earlier.txt", "more.txt"]
    assert (made.data_job / "earlier.txt").read_text() == "done again", "outputs are not touched"
    assert (made.data_project / "in.txt").read_text() == "test input"


# ✗ A failed first download is only printed, and the next upload's --delete then empties Drive.
def test_a_failed_restore_is_an_error_and_deletes_nothing(
    work: Path, ui: RecordingUI, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An rsync that cannot write here as long as a file is there.
    tools, broken = tmp_path / "tools", tmp_path / "broken"
    tools.mkdir()
    broken.touch()
    (tools / "rsync").write_text(
        f'#!/bin/sh\nfor last; do :; done\ncase "$PWD$last" in *"{work}"*)\n'
        f'  if [ -e "{broken}" ]; then echo "rsync: read error" >&2; exit 23; fi;;\nesac\n'
        f'exec "{shutil.which("rsync")}" "$@"\n'
    )
    (tools / "rsync").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with pytest.raises(CommandFailed, match="Earlier outputs could not be fetched") as error:
        project(name="net", job="a", to=str(kept), inputs="none", every="1s")
    blocks(error.value)
    assert ui.variables == {}
    assert files(kept) == [
        "data_job/a/earlier.txt",
        "data_job/b/other.txt",
        "data_project/images/1.png",
        "data_project/in.txt",
    ]
    broken.unlink()
    poll((work / "net" / "data_job" / "a" / "earlier.txt").exists, what="it is tried again")
    poll(lambda: control.running()[0].status()["restore"]["ok"])
    assert files(project(name="net", job="a", to=str(kept), inputs="none").data_job) == ["earlier.txt"]


@pytest.mark.parametrize("to", ["s3://bucket/net", "rclone:gdrive:net", "drive", ""])
def test_a_place_that_cannot_be(work: Path, ui: RecordingUI, to: str) -> None:
    with pytest.raises(ColabMagicsError) as error:
        project(name="net", to=to)
    blocks(error.value)
    assert ui.variables == {}


def test_a_place_within_the_project_is_refused(work: Path, ui: RecordingUI) -> None:
    with pytest.raises(InvalidInput, match="lie in each other"):
        project(name="net", to=str(work / "net"))


class TestOverSsh:
    """``git@host:repo`` on a real sshd."""

    def test_own_keys(
        self, bare: Path, work: Path, tmp_path: Path, ui: RecordingUI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with sshd(tmp_path) as server:
            monkeypatch.setenv("GIT_SSH_COMMAND", f"ssh -F '{server.config_file}'")
            made = project(git=f"{server.host}:{bare}", root=".")
        assert made.name == "net"
        assert git("config", "remote.origin.url", cwd=made.root) == f"{server.host}:{bare}"

    def test_no_key_fails_at_once_and_says_which_logins_there_are(
        self, bare: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with sshd(tmp_path) as server:
            # The server is known, the key is not: ssh would ask for a password.
            monkeypatch.setenv(
                "GIT_SSH_COMMAND", f"ssh -F '{server.config_file}' -o PubkeyAuthentication=no -o BatchMode=yes"
            )
            source = repository_of.parse(f"{server.host}:{bare}")
            with pytest.raises(CommandFailed, match="Permission denied") as error:
                clone.clone(source, work / "net")
        text = blocks(error.value)
        assert "ssh key" in text
        assert "token=secret:NAME" in text

    def test_ssh_is_told_never_to_ask(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GIT_SSH_COMMAND", raising=False)
        monkeypatch.delenv("GIT_SSH", raising=False)
        assert "BatchMode=yes" in repository_of.quiet_environment()["GIT_SSH_COMMAND"]
        git("config", "--global", "core.sshCommand", "my-ssh")
        assert "GIT_SSH_COMMAND" not in repository_of.quiet_environment()


def test_two_places_are_both_kept(bare: Path, work: Path, ui: RecordingUI, kept: Path, restart: Any) -> None:
    """Inputs come from the first, earlier outputs from the first that has any; each has its own state."""
    empty = work / "empty"
    (empty / "data_project").mkdir(parents=True)
    (empty / "data_project" / "of the first.txt").write_text("input")
    made = project(git=str(bare), root=".", job="a", to=f"{empty},{kept}", every="1s")
    assert made.places == [str(empty), str(kept)]
    assert files(made.data_project) == ["of the first.txt"]
    assert files(made.data_job) == ["earlier.txt"]
    assert f"Earlier outputs come from {kept}" in str(made)
    shown = str(made)
    assert shown.count(str(empty)) >= 2, "kept at, and its sync"
    assert shown.count(str(kept)) >= 2
    (made.data_job / "new.txt").write_text("new")
    for place in (empty, kept):
        poll((place / "data_job" / "a" / "new.txt").exists, what=f"the output reaches {place}")
        assert (place / "data_job" / "a" / "earlier.txt").read_text() == "earlier"
    before = {sync.place: sync.status()["identity"] for sync in control.running(made.data_job)}
    assert len(before) == 2
    restart()
    again = project(git=str(bare), root=".", job="a")
    assert again.places == made.places
    assert {sync.place: sync.status()["identity"] for sync in control.running(made.data_job)} == before
    project(job="a", to=str(kept))
    assert [sync.place for sync in control.running(made.data_job)] == [f"{kept}/data_job/a"], "the other one has ended"
    assert "new.txt" in files(empty / "data_job" / "a")


def test_of_two_places_the_other_goes_on_while_one_is_away(
    bare: Path, work: Path, ui: RecordingUI, kept: Path, restart: Any
) -> None:
    """Whichever it is; and it is said, with what is not kept."""
    (work / "nas").touch()
    away = work / "nas" / "below"
    made = project(git=str(bare), root=".", job="a", to=f"{away},{kept}", every="1s", inputs="none")
    assert files(made.data_job) == ["earlier.txt"]
    assert made.places == [str(away), str(kept)], "it is remembered, and tried again"
    assert f"{away} is away" in ui.out.getvalue()
    assert "until %project is said again" in ui.out.getvalue()
    (made.data_job / "new.txt").write_text("new")
    poll((kept / "data_job" / "a" / "new.txt").exists, what="the output reaches the other")
    (work / "nas").unlink()
    restart()
    project(git=str(bare), root=".", job="a", inputs="none")
    poll((away / "data_job" / "a" / "new.txt").exists, what="the output reaches the one that is back")
    # Away again: its sync goes on trying.
    away.rename(work / "gone")
    (work / "nas").rmdir()
    (work / "nas").touch()
    project(git=str(bare), root=".", job="a", inputs="none")
    assert "its sync tries again" in ui.out.getvalue()
    (work / "nas").unlink()


def test_without_the_place_that_may_hold_inputs_or_results_nothing_is_begun(
    bare: Path, work: Path, ui: RecordingUI, kept: Path, tmp_path: Path
) -> None:
    (work / "nas").touch()
    away, empty = work / "nas" / "below", tmp_path / "empty"
    with pytest.raises(ColabMagicsError, match=r"Inputs come from .* which is away") as caught:
        project(git=str(bare), root=".", job="a", to=f"{away},{empty}")
    assert "inputs=none" in blocks(caught.value)
    with pytest.raises(ColabMagicsError, match="what is done would be done again") as caught:
        project(git=str(bare), root=".", job="a", to=f"{away},{empty}", inputs="none")
    assert "restore=none" in blocks(caught.value)
    made = project(git=str(bare), root=".", job="a", to=f"{away},{empty}", inputs="none", restore="none")
    assert [sync.place for sync in control.running(made.data_job)] == [f"{empty}/data_job/a"]
    with pytest.raises(ColabMagicsError, match="cannot be used"):
        project(git=str(bare), root=".", job="a", to=f"{away},{work / 'nas' / 'other'}", inputs="none")
    # The inputs of another Place serve as well.
    (kept / "data_project").mkdir(exist_ok=True)
    (kept / "data_project" / "x.csv").write_text("1")
    made = project(git=str(bare), root=".", job="a", to=f"{away},{kept}")
    assert "x.csv" in files(made.data_project)
