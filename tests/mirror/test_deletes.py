"""What ``--delete`` moves at the Place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from colab_magics.mirror.deletes import Trash
from colab_magics.mirror.journal import Journal
from colab_magics.mirror.scan import Entry
from colab_magics.transport.places import Hand


class Moves:
    """Writes down what is moved."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def move(self, pairs: Sequence[tuple[str, str]], **_: Any) -> None:
        self.names += [old for old, _ in pairs]


def test_a_folder_that_took_the_name_of_a_file_stays_with_what_is_in_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "place")
    for name in ("thing", "thing/new", "other", "things"):
        journal.acknowledge(name, Entry(1, 1, 1))
    hand = Moves()
    taken = Trash(tmp_path / "trash.json", "place").take(cast(Hand, hand), ["thing", "other"], journal)
    assert (hand.names, taken) == (["other"], 1)
    assert sorted(journal.acknowledged) == ["thing/new", "things"]
