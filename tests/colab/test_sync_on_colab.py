"""``%sync`` on Colab: Drive flushed and unmounted, gone, or dead, and mounted again from the notebook."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import poll
from faults.drive import Drive
from faults.kit import as_root

from colab_magics import project, sync
from colab_magics.checkout.project import Project
from colab_magics.errors import Unavailable
from colab_magics.mirror import control
from colab_magics.mirror.sync import Sync

from .conftest import ColabUI, Page


@pytest.fixture
def made(page: Page) -> Project:
    """Return a project that is kept on Drive, in a notebook on Colab."""
    handle = project(name="net", job="a", every="1s")
    page.asked.clear()
    return handle


def kept(page: Page, name: str) -> Path:
    return page.drive / "MyDrive" / "colab_data" / "net" / "data_job" / "a" / name


def held(made: Project) -> str:
    """Wait until the sync tells that nothing is written, and return what the user sees."""
    (handle,) = control.running(made.data_job)
    notices = poll(lambda: [one["text"] for one in handle.notices() if one["key"] == "held"])
    return str(notices[0])


def test_flush_waits_for_drive_and_sync_mounts_it_again(page: Page, ui: ColabUI, made: Project) -> None:
    (made.data_job / "last.txt").write_text("last")
    flushed = sync.flush(timeout="5m")
    assert isinstance(flushed, Sync), "one sync is listed once"
    assert page.asked == ["flush 300000"]
    assert not control.running(made.data_job)
    assert (page.cloud / "MyDrive/colab_data/net/data_job/a/last.txt").read_text() == "last"
    assert list(page.drive.iterdir()) == []
    assert "%sync mounts it again" in ui.out.getvalue()
    (made.data_job / "later.txt").write_text("later")
    shown = str(sync(every="1s"))
    assert "nothing handed over yet" not in shown, "it is shown as it is after its first look"
    assert page.asked[1:] == [f"mount {page.drive} False"]
    poll(kept(page, "later.txt").exists)
    assert kept(page, "last.txt").exists()


def test_a_flush_that_takes_too_long_is_tried_again(page: Page, made: Project) -> None:
    page.flush_error = ValueError("timed out")
    with pytest.raises(Unavailable, match="not flushed: timed out"):
        sync.flush()
    assert kept(page, "").exists()
    page.flush_error = None
    sync.flush()
    assert page.cloud.exists()


# B6: mounted again if it is gone.
@pytest.mark.parametrize("word", ["", "now"])
def test_a_drive_that_went_away_is_offered_and_mounted_from_the_notebook(page: Page, made: Project, word: str) -> None:
    page.unmount()
    (made.data_job / "later.txt").write_text("later")
    told = held(made)
    assert "not mounted" in told
    assert "%sync in the notebook mounts it again" in told
    assert page.asked == [], "nobody but the notebook, by the user's word, asks for Drive"
    assert list(page.drive.iterdir()) == []
    handle = sync.now(timeout="60s") if word else sync(every="1s")
    assert page.asked == [f"mount {page.drive} False"]
    assert isinstance(handle, Sync)
    assert handle.state() != "HELD", "as it was before Drive was there again"
    poll(kept(page, "later.txt").exists)
    poll(lambda: not handle.notices(), what="the notice goes")


def test_a_drive_that_died_is_mounted_by_force(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a real mount whose process is killed: it stays in the table of mounts and answers nothing."""
    as_root()
    pytest.importorskip("mfusepy", reason="the stand-in for Drive needs mfusepy and fuse3")
    monkeypatch.delenv("COLAB_MAGICS_MOUNTS")
    monkeypatch.delenv("COLAB_MAGICS_CONTENT")
    (tmp_path / "google" / "MyDrive").mkdir(parents=True)
    with Drive.mounted(tmp_path / "google", page.drive) as drive:

        def mount(mountpoint: str, force_remount: bool = False, timeout_ms: int = 120000) -> None:
            page.ask(f"mount {force_remount}")
            drive.end()
            drive.mount()

        monkeypatch.setattr("google.colab.drive.mount", mount)
        made = project(name="net", job="a", every="1s", root=str(tmp_path))
        assert page.asked == []
        drive.kill()
        (made.data_job / "later.txt").write_text("later")
        told = held(made)
        assert "has died" in told
        assert "%sync in the notebook mounts it again" in told
        sync.now(timeout="60s")
        assert page.asked == ["mount True"]
        assert (tmp_path / "google/MyDrive/colab_data/net/data_job/a/later.txt").read_text() == "later"
        sync.stop()
