"""Names that go because files were renamed, and folders that hold nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import poll
from sshd import sshd

from colab_magics.mirror.deletes import renamed
from colab_magics.mirror.ledger import Ledger
from colab_magics.mirror.scan import Entry
from mirror.tools import begin, tree, write

EXACT, WHOLE = 1_700_000_000_123_456_789, 1_700_000_000_000_000_000


def test_only_new_names_with_the_same_looks_count(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "place")
    for name, size, mtime in (
        ("old/a", 1, EXACT),
        ("old/b", 2, EXACT),
        ("old/c", 1, EXACT),
        ("old/d", 3, WHOLE),
        ("old/e", 3, WHOLE),
        ("long/f", 9, EXACT),
        ("old/f", 9, EXACT),
    ):
        ledger.acknowledge(name, Entry(size, mtime, 1))
    ledger.nothing_new()
    gone = {name for name in ledger.acknowledged if name.startswith("old/")}
    assert renamed(gone, ledger) == set(), "what stood there before is no copy of it"
    for name, size, mtime in (("new/a", 1, EXACT), ("x", 2, EXACT + 1), ("new/d", 3, WHOLE), ("new/x", 3, WHOLE)):
        ledger.acknowledge(name, Entry(size, mtime, 2))
    found = renamed(gone, ledger)
    assert len(found & {"old/a", "old/c"}) == 1, "one for one"
    assert found - {"old/a", "old/c"} == {"old/d"}
    ledger.looked()
    assert renamed(gone, ledger) == found
    ledger.looked()
    assert renamed(gone, ledger) == set(), "names that were there before both looks"


def test_a_moved_tree_is_no_deletion_and_the_rest_of_it_waits(tmp_path: Path) -> None:
    place, source = tmp_path / "place", tmp_path / "job"
    write(source / "old", **{f"f{n}_txt": str(n) for n in range(100)})
    sync = begin(source, place, delete=True).now()
    for n in range(30):
        (source / "old" / f"f{n}.txt").unlink()
    (source / "old").rename(source / "new")
    sync.now()
    told = "".join(one["text"] for one in sync.notices())
    assert "30 files are gone here at once" in told
    assert "%sync now --delete" in told
    left = {f"old/f{n}.txt" for n in range(30)}
    assert set(tree(place)) == left | {f"new/f{n}.txt" for n in range(30, 100)}
    sync.now(delete=True)
    assert not (place / "old").exists()


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


def test_empty_folders_are_kept_and_come_back(tmp_path: Path, place: tuple[str, Path]) -> None:
    to, there = place
    source = write(tmp_path / "job", a_txt="a")
    for name in ("run 1/figures", "-rf", "new\nline/$(touch gone)", "taken", "linked/inside"):
        (source / name).mkdir(parents=True)
    outside = write(tmp_path / "outside")
    write(there, taken="a file")
    (there / "linked").symlink_to(outside)
    sync = begin(source, to, restore="none", delete=True).now()
    for name in ("run 1/figures", "-rf", "new\nline/$(touch gone)"):
        assert (there / name).is_dir()
        assert not os.listdir(there / name)
    assert (there / "taken").read_text() == "a file", "nothing is put aside for an empty folder"
    assert os.listdir(outside) == [], "nor made through a link"

    (source / "-rf").rmdir()
    (source / "run 1" / "figures").rmdir()
    (there / "run 1" / "figures" / "of another hand.txt").write_text("x")
    sync.now()
    poll(lambda: not (there / "-rf").exists())
    assert (there / "run 1" / "figures" / "of another hand.txt").exists()
    sync.stop()
    for path in sorted(source.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    begin(source, to)
    assert (source / "new\nline" / "$(touch gone)").is_dir()
    assert tree(source) == {"a.txt": "a", "taken": "a file", "run 1/figures/of another hand.txt": "x"}


def test_without_the_users_word_empty_folders_stay(tmp_path: Path) -> None:
    source = write(tmp_path / "job")
    (source / "empty").mkdir()
    sync = begin(source, tmp_path / "place").now()
    (source / "empty").rmdir()
    sync.now()
    assert (tmp_path / "place" / "empty").is_dir()


def test_an_emptied_or_remade_source_deletes_no_folders(tmp_path: Path) -> None:
    source, place = write(tmp_path / "job", a_txt="a"), tmp_path / "place"
    (source / "empty").mkdir()
    sync = begin(source, place, delete=True).now()
    source.rename(tmp_path / "elsewhere")
    write(source, b_txt="b")
    sync.now()
    assert (place / "b.txt").exists()
    assert (place / "empty").is_dir()
