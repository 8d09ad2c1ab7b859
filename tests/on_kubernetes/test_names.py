"""Names of Kubernetes' objects, from any words."""

from __future__ import annotations

import pytest
from conftest import HOSTILE_NAMES
from hypothesis import given
from hypothesis import strategies as st
from kubernetes_checks import NAME, VALUE

from colab_magics.engines.kubernetes import names

WORDS = st.lists(st.text(max_size=90), min_size=1, max_size=4)


@given(WORDS, st.sampled_from(["", "key"]))
def test_any_words_make_a_name(words: list[str], unique: str) -> None:
    made = names.name(words, unique=unique)
    assert NAME.fullmatch(made)
    assert len(made) <= names.MOST
    assert not made[0].isdigit()
    assert names.is_name(made)


@given(WORDS, WORDS)
def test_other_words_make_another_name(first: list[str], second: list[str]) -> None:
    same = [word for word in first if word] == [word for word in second if word]
    assert (names.name(first) == names.name(second)) == same


@given(st.text(max_size=90), st.text(max_size=90))
def test_any_text_makes_a_label_of_its_own(first: str, second: str) -> None:
    assert VALUE.fullmatch(names.label(first))
    assert (names.label(first) == names.label(second)) == (first == second)


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["base", "average", "data1"], "base-average-data1"),
        (["my-net"], "my-net"),
        (["Net", "LR=0.1"], "net-lr-0-1-"),
        (["net", "v1.2"], "net-v1-2-"),
        (["3d", "net"], "x3d-net-"),
        (["x" * 80], "x" * 43 + "-"),
        (["日本"], "x-"),
        (["-rf"], "rf-"),
    ],
)
def test_names_stay_readable(words: list[str], made: str) -> None:  # ✗ capitals, length, dots
    found = names.name(words)
    assert found == made or (made.endswith("-") and found.startswith(made) and len(found) == len(made) + 8)


def test_hostile_names_differ_and_so_do_those_that_differ_by_capitals() -> None:
    every = [*HOSTILE_NAMES, "net", "Net", "NET", "n.et", "n-et", "net-", "a" * 60, "a" * 61]
    assert len({names.name([word]) for word in every}) == len(every)
    assert names.name(["a", "b-c"]) != names.name(["a-b", "c"])


def test_what_is_unique_makes_another_name_of_the_same_words() -> None:
    assert len({names.name(["net"], unique=key) for key in ("", "1", "2")}) == 3
    assert names.name(["net"], unique="1") == names.name(["net"], unique="1")


@pytest.mark.parametrize(
    ("text", "dots", "good"),
    [("a-b", False, True), ("a.b", False, False), ("a.b", True, True), ("A", True, False), ("", False, False)],
)
def test_a_name_that_users_say_is_one_or_is_none(text: str, dots: bool, good: bool) -> None:
    assert names.is_name(text, dots=dots) is good
