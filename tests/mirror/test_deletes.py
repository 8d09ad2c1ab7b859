"""What ``--delete`` moves at the Place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from conftest import poll

from colab_magics.mirror.deletes import Trash
from colab_magics.mirror.ledger import Ledger
from colab_magics.mirror.scan import Entry
from colab_magics.mirror.sync import Sync
from colab_magics.transport.places.store import Store

from .tools import begin, tree, write


class Moves:
    """Writes down what is moved."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def move(self, pairs: Sequence[tuple[str, str]], **_: Any) -> None:
        self.names += [old for old, _ in pairs]


def test_a_folder_that_took_the_name_of_a_file_stays_with_what_is_in_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "place")
    for name in ("thing", "thing/new", "other", "things"):
        ledger.acknowledge(name, Entry(1, 1, 1))
    store = Moves()
    taken = Trash(tmp_path / "trash.json", "place").take(cast(Store, store), ["thing", "other"], ledger)
    assert (store.names, taken) == (["other"], 1)
    assert sorted(ledger.acknowledged) == ["thing/new", "things"]


def earlier(sync: Sync) -> str:
    """Read the notice of what was gone before the sync followed deletions; empty without one."""
    return next((one["text"] for one in sync.notices() if one["key"] == "earlier"), "")


def test_what_went_before_delete_was_said_stays_and_is_named(tmp_path: Path) -> None:
    source, place = write(tmp_path / "out", old="1", new="2", kept="3"), tmp_path / "place"
    begin(source, place).now()
    (source / "old").unlink()
    sync = begin(source, place, delete=True)
    assert "1 file that was handed over" in earlier(sync)
    assert "(old)" in sync.warning
    (source / "new").unlink()
    sync.now()
    assert tree(place) == {"old": "1", "kept": "3"}
    sync.now(delete=True)
    assert "old" in tree(place), "the word for what waits is no word for what was gone before"
    sync.now(earlier=True)
    assert tree(place) == {"kept": "3"}
    assert sorted(path.name for path in (place / ".sync_trash").rglob("*") if path.is_file()) == ["new", "old"]
    assert not earlier(sync)


def test_deletions_count_from_the_moment_the_call_returns(tmp_path: Path) -> None:
    source, place = write(tmp_path / "out", **{f"f{n}": "" for n in range(6)}), tmp_path / "place"
    begin(source, place).now()
    for n in range(3):  # switched off in between
        sync = begin(source, place, delete=True)
        (source / f"f{n}").unlink()
        sync.now()
        assert f"f{n}" not in tree(place)
        begin(source, place)
    assert sorted(tree(place)) == ["f3", "f4", "f5"]


def test_what_went_while_delete_was_off_stays(tmp_path: Path) -> None:
    source, place = write(tmp_path / "out", a="1", b="2"), tmp_path / "place"
    begin(source, place, delete=True).now()
    off = begin(source, place).now()
    (source / "a").unlink()
    off.now()
    sync = begin(source, place, delete=True).now()
    assert tree(place) == {"a": "1", "b": "2"}
    assert "(a)" in earlier(sync)


@pytest.mark.parametrize("restore", ["all", "none"])
def test_what_went_while_no_sync_ran_is_fetched_again_or_stays_and_is_named(tmp_path: Path, restore: str) -> None:
    source, place = write(tmp_path / "out", gone="1", kept="2"), tmp_path / "place"
    begin(source, place, delete=True).now().stop()
    (source / "gone").unlink()
    sync = begin(source, place, delete=True, restore=restore)
    assert ("(gone)" in sync.warning) is (restore == "none")
    sync.now(delete=True)
    assert tree(place) == {"gone": "1", "kept": "2"}
    assert (source / "gone").exists() is (restore == "all")


def test_what_was_never_here_is_neither_named_nor_deleted(tmp_path: Path) -> None:
    source, place = write(tmp_path / "out", mine="1"), write(tmp_path / "place", theirs="2")
    sync = begin(source, place, delete=True, restore="none").now()
    assert not earlier(sync)
    sync.now(delete=True, earlier=True)
    assert tree(place) == {"mine": "1", "theirs": "2"}


def test_what_is_here_again_is_followed_again(tmp_path: Path) -> None:
    source, place = write(tmp_path / "out", a="1", b="2", keep="3"), tmp_path / "place"
    begin(source, place).now()
    (source / "a").unlink()
    (source / "b").unlink()
    sync = begin(source, place, delete=True)
    write(source, a="new")
    sync.now()
    poll(lambda: "(b)" in earlier(sync), what="only b is gone")
    (source / "a").unlink()
    sync.now()
    assert tree(place) == {"b": "2", "keep": "3"}
    sync.restore()
    poll(lambda: not earlier(sync), what="all that was gone is here")
    assert (source / "b").read_text() == "2"


def test_what_was_gone_before_does_not_widen_the_budget(tmp_path: Path) -> None:
    source, place = write(tmp_path / "out", **{f"f{n}": "" for n in range(130)}), tmp_path / "place"
    begin(source, place).now()
    for n in range(100):
        (source / f"f{n}").unlink()
    sync = begin(source, place, delete=True)
    for n in range(100, 122):
        (source / f"f{n}").unlink()
    sync.now()
    assert len(tree(place)) == 130, "22 of 30 wait for a word: 130 would have let them go"
