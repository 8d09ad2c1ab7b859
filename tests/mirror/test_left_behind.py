"""What earlier runtimes have left in ``.sync_trash`` and ``.sync_versions`` at the Place."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES, poll
from sshd import sshd

from colab_magics.mirror.patterns import AGES
from mirror.tools import begin, write

DAY = 86_400.0


@pytest.fixture(params=["folder", "host"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Path]]:
    """Return a Place as users write it, and as a folder."""
    kept = tmp_path / "kept"
    if request.param == "folder":
        yield str(kept), kept
        return
    with sshd(tmp_path) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        yield f"box:{kept}", kept


def stamp(age: float) -> str:
    return time.strftime("%Y-%m-%d_%H%M%S", time.localtime(time.time() - age))


def test_old_trash_of_another_runtime_goes_and_nothing_else(tmp_path: Path, place: tuple[str, Path]) -> None:
    to, there = place
    trash = there / ".sync_trash"
    for name in HOSTILE_NAMES:
        write(trash / stamp(3 * DAY) / name, old_txt="old")
    write(trash / stamp(1.2 * DAY), seen_shortly_txt="kept")
    write(trash / stamp(60), young_txt="kept")
    write(trash / "my own", mine_txt="kept")
    write(trash, mine_txt="kept")
    write(there / ".sync_conflict" / stamp(3 * DAY), lost_txt="kept")
    outside = write(tmp_path / "outside", x_txt="kept")
    (trash / stamp(4 * DAY)).symlink_to(outside)
    ages = {stamp(3 * DAY): 0, stamp(1.2 * DAY): 2.5 * DAY, stamp(4 * DAY): 0}
    (there / AGES).write_text(json.dumps({"kept": 3 * DAY, "folders": ages}))
    before = {path: path.read_text() for path in there.rglob("*.txt")} | {outside / "x.txt": "kept"}
    sync = begin(write(tmp_path / "job", a_txt="a"), to).now()
    poll(lambda: not (trash / stamp(3 * DAY)).exists() and not list(trash.rglob("old.txt")))
    assert {path for path in before if not path.exists()} == {path for path, text in before.items() if text == "old"}
    assert sync.status()["trash"]["files"] == 2


def test_versions_of_another_runtime_count(tmp_path: Path, place: tuple[str, Path]) -> None:
    to, there = place
    versions = write(there / ".sync_versions" / "sub")
    for n in range(4):
        (versions / f"model.pt.{stamp(1000 - n)}.000").write_text(str(n))
    write(versions, mine_pt="kept", **{"other_txt.2026-01-01_000000.000": "kept"})
    source = tmp_path / "job" / "sub"
    write(source, model_pt="4")
    sync = begin(source.parent, to, restore="none", keep=(2, "*.pt")).now()
    poll(lambda: len(list(versions.glob("model.pt.*"))) == 2)
    write(source, model_pt="now")
    sync.now()
    assert sorted(path.read_text() for path in versions.glob("model.pt.*")) == ["3", "4"]
    assert (versions / "mine.pt").exists()
    assert list(versions.glob("other*"))
