"""Two sessions, as on two machines, keep the same job at one Place.

One owner: the second is told who, since when, and how to take over; neither deletes the other's files.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from conftest import poll

from colab_magics.errors import ColabMagicsError
from faults.drive import Drive
from faults.kit import Kept, files, picture, trashed, whole


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a state folder that is not this session's: what another machine would have."""
    return str(tmp_path / "other machine" / "state")


def second(kept: Kept, source: Path) -> Kept:
    """Return the same job in another session's folder."""
    source.mkdir(parents=True)
    return Kept(source, kept.there, kept.place)


@pytest.mark.parametrize("where", ["on_folder", "on_drive", "on_bucket"])
def test_the_second_is_told_and_changes_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: str, where: str
) -> None:
    first: Kept = request.getfixturevalue(where)
    first.write(5)
    first.start(delete=True)
    first.arrived()
    before = files(first.there)
    monkeypatch.setenv("XDG_STATE_HOME", elsewhere)
    other = second(first, tmp_path / "other machine" / "data_job")
    whole(other.source / "file_0.bin", b"of the second session")
    try:
        other.start(delete=True)
    except ColabMagicsError as error:
        told = str(error)
    else:
        told = other.says("take", states=("HELD", "IDLE", "SCANNING"))
    assert "take" in told.lower(), f"how to take over: {told}"
    assert "since" in told.lower(), f"since when: {told}"
    first.write(2, prefix="goes on")
    first.arrived()
    assert before.items() <= files(first.there).items()
    if other.sync is not None and other.sync.alive:
        os.kill(other.sync.status()["identity"]["pid"], signal.SIGTERM)
        poll(lambda: not other.sync.alive)
    assert before.items() <= files(first.there).items()


def test_the_second_takes_over_when_the_first_has_stopped(
    anywhere: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: str
) -> None:
    before = anywhere.write(5)
    anywhere.start().stop()
    monkeypatch.setenv("XDG_STATE_HOME", elsewhere)
    other = second(anywhere, tmp_path / "other machine" / "data_job")
    other.start(delete=True)
    other.arrived()
    assert files(other.source) == before
    other.works_again()


def test_two_runtimes_of_one_drive_delete_nothing_of_each_other(
    on_drive: Kept, drive: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: str
) -> None:
    """Each has a mount of its own, which shows the other's files minutes late."""
    first_files = on_drive.write(5, prefix="first")
    on_drive.start(delete=True)
    on_drive.arrived()
    monkeypatch.setenv("XDG_STATE_HOME", elsewhere)
    monkeypatch.setenv("COLAB_MAGICS_DRIVE", str(tmp_path / "other machine" / "drive"))
    with Drive.mounted(drive.backing, tmp_path / "other machine" / "drive", late=3600) as other_mount:
        other = second(on_drive, tmp_path / "other machine" / "data_job")
        other.write(5, prefix="second")
        try:
            other.start(delete=True)
        except ColabMagicsError as error:
            assert "take" in str(error)  # noqa: PT017 (either way is right)
        on_drive.write(1, prefix="later")
        # The second cannot see whose the folder is, and may take it; then the first writes nothing more, and says why.
        poll(lambda: b"later_0.bin" in files(on_drive.there) or on_drive.sync.status()["state"] == "HELD")
        assert first_files.items() <= files(on_drive.there).items()
        assert trashed(drive.backing) == []
        if other.sync is not None and other.sync.alive:
            os.kill(other.sync.status()["identity"]["pid"], signal.SIGKILL)
            poll(lambda: not other.sync.alive)
        other_mount.set(late=0)
    assert first_files.items() <= picture(on_drive.there).items()
