"""Grids: lists make the product, groups go together, types survive; what cannot be is said before anything starts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from colab_magics.errors import InvalidInput
from colab_magics.faces.bodies import read_body
from colab_magics.runs.grid import read


def points(body: str, **line: Any) -> list[dict[str, Any]]:
    return [dict(point.parameters) for point in read(read_body("fork", None, body), **line).points()]


def test_lists_make_the_product_and_single_values_go_along() -> None:
    made = points("lr: [1e-3, 0.1]\nmodel: [a, b]\nname: AB\n")
    assert made == [{"name": "AB", "lr": lr, "model": model} for lr in (0.001, 0.1) for model in "ab"]


def test_values_keep_their_types() -> None:  # ✗ a scalar split into letters, 1e-3 as text, no as False
    body = "a: [1, 1.0, true, 'true', no, 1e-3, null, 2024-01-31]\nlayers: [[64, 64], [128]]\nopt: {name: adam}\n"
    made = points(body)
    values = list(dict.fromkeys(repr(point["a"]) for point in made))
    assert values == ["1", "1.0", "True", "'true'", "'no'", "0.001", "None", "'2024-01-31'"]
    assert made[0]["layers"] == [64, 64]
    assert made[0]["opt"] == {"name": "adam"}


def test_groups_go_together_and_multiply_with_the_rest() -> None:
    made = points("seed: [1, 2]\nzip:\n  - {size: [s, l], depth: [6, 12]}\n  - {x: [1], y: [2]}\n")
    assert len(made) == 4
    assert {(point["size"], point["depth"]) for point in made} == {("s", 6), ("l", 12)}


def test_exclude_include_and_repetitions() -> None:
    body = "a: [1, 2]\nb: [1, 2]\nexclude: [{a: 1, b: 2}, {a: 2, b: [2, 3]}]\ninclude: {a: 9, b: 9}\n"
    assert points(body) == [{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 9, "b": 9}]
    grid = read(read_body("fork", None, body), n=3)
    assert [point.repeat for point in grid.points()] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert points("include: [{a: 1}, {a: 2}]") == [{"a": 1}, {"a": 2}]  # no product at all


def test_a_million_combinations_are_counted_not_made() -> None:
    grid = read({name: list(range(100)) for name in "abc"})
    assert grid.size() == 10**6
    assert math.prod(len(axis) for axis in grid.axes) == 10**6


def test_numpy_values_become_python_values() -> None:
    numpy = pytest.importorskip("numpy")
    made = list(read({"lr": numpy.array([0.5, 1.0]), "k": [numpy.int64(3)]}).points())
    assert [type(point.parameters["lr"]) for point in made] == [float, float]
    assert type(made[0].parameters["k"]) is int


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("learning rate: [1]", "no Python name"),
        ("class: [1]", "no Python name"),
        ("i_sub_job: [1]", "%fork sets it"),
        ("data_job: x", "%fork sets it"),
        ("a: []", "a has no values"),
        ("a: [1, 1]", "holds 1 twice"),
        ("zip: {a: [1, 2], b: [1]}", "a has 2, b has 1"),
        ("zip: [a, b]", "lists that go together"),
        ("zip: {a: 1}", "zip: a is no list"),
        ("a: 1\nzip: {a: [1]}", "named twice"),
        ("a: [1]\nexclude: {b: 1}", "b is no parameter"),
        ("a: [1]\nexclude: {a: 1}", "The grid has no runs"),
        ("a: [1, 2]\nexclude: {a: 7}", r"no point is {a: 7}(?s:.*)a has 1, 2 \(1 is not 1.0\)"),
        ("a: [1, 2]\nexclude: [{a: 1}, {a: 2.0}]", r"no point is {a: 2.0}"),
        ("a: [1, 2]\nb: [x, y]\nexclude: {a: 1, b: z}", r"no point is {a: 1, b: 'z'}(?s:.*)→ b has 'x', 'y'"),
        ("a: [1, 2]\nb: 3\nexclude: {a: 1, b: 4}", r"no point is {a: 1, b: 4}(?s:.*)→ b has 3 "),
        ("a: [1, 2]\ninclude: {a: 3, b: 4}\nexclude: {b: 4}", r"no point is {b: 4}(?s:.*)→ b stands in include"),
        (
            "zip: {a: [1, 2], b: [x, y]}\nexclude: {a: 1, b: y}",
            r"no point is {a: 1, b: 'y'}(?s:.*)a has 1, 2 .*; b has 'x', 'y'",
        ),
        ("n: 0\na: 1", "n=0"),
        ("", "The grid has no runs"),
        ("a: [1\n", "is no YAML"),
        ("- a\n- b\n", "holds no parameters"),
    ],
)
def test_what_cannot_be(body: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        points(body)


def test_n_in_both_places() -> None:
    with pytest.raises(InvalidInput, match="stands in the line and in the cell"):
        points("a: 1\nn: 2", n=3)
