"""Variables that go to another machine and come back: as they were, and never by pickle unless told to."""

from __future__ import annotations

from typing import Any

import numpy
import pandas
import pytest

from colab_magics.errors import InvalidInput
from colab_magics.relay import values

SAME: list[int] = [1]
CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
PLAIN = [None, True, 7, 2.5, "text ünï 日本", [1, [2, "x"]], {"a": {"b": None}}, float("inf"), [SAME, SAME]]


@pytest.mark.parametrize("value", PLAIN)
def test_json_values_stay_what_they_are(value: Any) -> None:
    kind, data = values.pack("x", value)
    assert kind == "json"
    assert values.unpack("x", kind, data) == value
    assert there(kind, data) == value


@pytest.mark.parametrize(
    "array", [numpy.arange(6.0).reshape(2, 3), numpy.array(["a", "bc"]), numpy.float32(1.5), numpy.zeros((0, 3))]
)
def test_arrays_keep_type_and_shape(array: Any) -> None:
    kind, data = values.pack("x", array)
    for back in (values.unpack("x", kind, data), there(kind, data)):
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert (back == array).all()


def test_numbers_that_are_none_come_over() -> None:
    # ✗ a list of losses with a NaN in it was refused, because NaN is not equal to itself
    kind, data = values.pack("x", [0.5, float("nan")])
    back = values.unpack("x", kind, data)
    assert back[0] == 0.5
    assert back[1] != back[1]


def there(kind: str, data: bytes) -> Any:
    """What the code assigns over there."""
    space: dict[str, Any] = {}
    exec(values.push_code("x", kind, data), space)
    return space["x"]


@pytest.mark.parametrize(
    "value", [(1, 2), [[(1,)]], {1: "a"}, {1, 2}, object(), numpy.array([object()]), b"bytes", 1j, CIRCLE]
)
def test_what_would_not_come_back_as_it_is_needs_consent(value: Any) -> None:
    with pytest.raises(InvalidInput, match="x does not go over as it is"):
        values.pack("x", value)


def test_pickles_are_read_only_when_told_to() -> None:
    kind, data = values.pack("x", {1, 2}, pickle=True)
    assert kind == "pickle"
    with pytest.raises(InvalidInput, match="--pickle"):
        values.unpack("x", kind, data)
    assert values.unpack("x", kind, data, pickle=True) == {1, 2}


@pytest.mark.long  # make test-long installs it
def test_frames_go_as_arrow() -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[5, 6])
    kind, data = values.pack("x", frame)
    for back in (values.unpack("x", kind, data), there(kind, data)):
        pandas.testing.assert_frame_equal(back, frame)
