"""Inputs: fetched one way, by name or all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES

from colab_magics.errors import InvalidInput, NotFound
from colab_magics.mirror import control
from colab_magics.transport.places import parse
from colab_magics.transport.places.base import Place
from mirror.tools import tree, write


def inputs(tmp_path: Path) -> Place:
    write(tmp_path / "kept" / "data_project", a_txt="a", b_txt="b")
    write(tmp_path / "kept" / "data_project" / "sub dir", c_txt="c")
    return parse(str(tmp_path / "kept"), project="net").below("data_project")


def test_all_inputs(tmp_path: Path) -> None:  # B5
    into = write(tmp_path / "data_project", mine_txt="mine")
    assert control.fetch(inputs(tmp_path), into, None) == 3
    assert tree(into) == {"a.txt": "a", "b.txt": "b", "sub dir/c.txt": "c", "mine.txt": "mine"}
    assert control.fetch(inputs(tmp_path), into, None) in (0, 3)
    assert "mine.txt" not in tree(tmp_path / "kept" / "data_project"), "one way"


def test_named_inputs(tmp_path: Path) -> None:  # B4
    into = tmp_path / "data_project"
    assert control.fetch(inputs(tmp_path), into, ["b.txt", "sub dir"]) == 2
    assert tree(into) == {"b.txt": "b", "sub dir/c.txt": "c"}
    assert control.fetch(inputs(tmp_path), into, []) == 0


def test_a_missing_input_is_named_with_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        control.fetch(inputs(tmp_path), tmp_path / "into", ["a.txt", "c.txt"])
    assert "'c.txt'" in str(caught.value)
    assert "'a.txt'" not in str(caught.value)
    assert "a.txt, b.txt, sub dir" in str(caught.value)
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../x", "", "..", "."])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="leads out of"):
        control.fetch(inputs(tmp_path), tmp_path / "into", [name])


def test_hostile_inputs(tmp_path: Path) -> None:
    place = inputs(tmp_path)
    for name in HOSTILE_NAMES:
        write(tmp_path / "kept" / "data_project" / name, x_txt=name)
    assert control.fetch(place, tmp_path / "into", HOSTILE_NAMES) == len(HOSTILE_NAMES)
    assert tree(tmp_path / "into") == {f"{name}/x.txt": name for name in sorted(HOSTILE_NAMES)}


def test_a_place_without_inputs_is_no_error(tmp_path: Path) -> None:
    place = parse(str(tmp_path / "new"), project="net").below("data_project")
    assert control.fetch(place, tmp_path / "into", None) == 0
    with pytest.raises(NotFound, match="is empty"):
        control.fetch(place, tmp_path / "into", ["a.txt"])


def test_newer_inputs_here_stay(tmp_path: Path) -> None:
    place, into = inputs(tmp_path), write(tmp_path / "into", a_txt="edited here")
    os.utime(tmp_path / "kept" / "data_project" / "a.txt", (1_000_000, 1_000_000))
    control.fetch(place, into, None)
    assert tree(into)["a.txt"] == "edited here"
