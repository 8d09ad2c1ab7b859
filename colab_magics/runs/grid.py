"""A grid of parameters: what the body of ``%%fork`` means.

::

    lr: [1e-3, 1e-4]          # a list: every value; lists make the product
    optimizer: adam           # one value for all
    zip:                      # lists that go together, one group or a list of groups
      size: [small, large]
      depth: [6, 12]
    exclude:                  # points that match all of an entry's values are left out
      - {lr: 1e-3, size: large}
    include:                  # extra points, with the one-value parameters unless they say otherwise
      - {lr: 1e-5, size: small, depth: 24}
    n: 3                      # repetitions of each point

A list *as a value* is a list in the list: ``layers: [[64, 64], [128]]``.
"""

from __future__ import annotations

import datetime
import itertools
import keyword
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidInput
from ..units import count
from .plan import Point

MANY = 1000
"""More runs than this are started with ``--yes`` only."""

OURS = ("i_sub_job", "data_job", "data_project")
"""Variables that `%fork` and `%project` assign; no parameter may be called so."""

WORDS = ("zip", "exclude", "include", "n")
"""Keys of a grid that are no parameters."""


@dataclass
class Grid:
    """Parameters and their values.

    Parameters
    ----------
    axes : list of list of dict
        Each axis is a list of alternatives, each of them some parameters' values. The points are their product.
    constants : dict
        Parameters of one value.
    exclude, include : list of dict
        Points to leave out, and extra ones.
    n : int
        Repetitions of each point.
    """

    axes: list[list[dict[str, Any]]] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    exclude: list[dict[str, Any]] = field(default_factory=list)
    include: list[dict[str, Any]] = field(default_factory=list)
    n: int = 1

    @property
    def names(self) -> list[str]:
        """Names of all parameters, in the order in which they were written."""
        first = [name for axis in self.axes for name in axis[0]]
        return list(dict.fromkeys([*first, *self.constants, *(name for point in self.include for name in point)]))

    def size(self) -> int:
        """How many runs there are at most: points that `exclude` takes away are counted."""
        return (
            math.prod(len(axis) for axis in self.axes) * bool(self.axes or self.constants) + len(self.include)
        ) * self.n

    def points(self) -> Iterator[Point]:
        """Yield the points; all of the first repetition come first."""
        for repeat in range(self.n):
            for parameters in self._once():
                yield Point(repeat, parameters)

    def _once(self) -> Iterator[dict[str, Any]]:
        seen: set[str] = set()
        product = itertools.product(*self.axes) if self.axes or self.constants else ()
        for alternatives in product:
            point = dict(self.constants)
            for alternative in alternatives:
                point |= alternative
            if not any(_matches(point, entry) for entry in self.exclude):
                seen.add(_text(point))
                yield point
        for extra in self.include:
            point = {**self.constants, **extra}
            if _text(point) not in seen:
                seen.add(_text(point))
                yield point


def asked_for(grid: Mapping[str, Any] | None, n: int | None, *, yes: bool = False) -> tuple[list[Point], list[str]]:
    """Return the points that a line asks for, and the names of their parameters.

    Parameters
    ----------
    grid : mapping or None
        Parameters and their values.
    n : int or None
        How many runs; with a grid, how often each point.
    yes : bool, default False
        Whether more than `MANY` are meant.

    Raises
    ------
    InvalidInput
        When neither says how many, one cannot be read, or there are too many.
    """
    check_mapping(grid)
    if grid is None and n is None:
        raise InvalidInput("How many runs? %fork needs a number, or a grid.", "Write %fork n=5.")
    made = None if grid is None else read(grid, n=n)
    size = count(n or 0, name="n") if made is None else made.size()
    check_size(size, yes=yes)
    if made is None:
        return [Point(repeat) for repeat in range(size)], []
    return list(made.points()), made.names


def check_mapping(grid: Any) -> None:
    """Raise InvalidInput for what Python passes as a grid and is none."""
    if grid is not None and not isinstance(grid, Mapping):
        raise InvalidInput(
            f"A grid is a mapping, and {grid!r} is none.", 'Write fork(n=5), or fork({"lr": [0.1, 0.01]}).'
        )


def check_size(size: int, *, yes: bool) -> None:
    """Raise InvalidInput for more runs than `MANY`, unless they are meant."""
    if size > MANY and not yes:
        raise InvalidInput(f"That makes {size:,} runs.", "Say --yes to start so many, or take values out.")


def read(values: Mapping[str, Any], *, n: int | None = None) -> Grid:
    """Read a grid.

    Parameters
    ----------
    values : mapping
        The body of ``%%fork``, or a mapping from Python: parameter → value or list of values, and the words above.
    n : int, optional
        Repetitions, where the line says them; then the body must not.

    Returns
    -------
    Grid

    Raises
    ------
    InvalidInput
        For a name that cannot be a parameter, an empty list, a group whose lists differ in length, a parameter that
        is named twice, an entry of ``exclude`` that fits no parameter, or no point.
    """
    grid = Grid()
    if n is not None and "n" in values:
        raise InvalidInput("n= stands in the line and in the cell below it.", "Keep one of the two.")
    repeat = values.get("n", n)
    grid.n = 1 if repeat is None else count(repeat, name="n")
    for name, value in values.items():
        if name in WORDS:
            continue
        _check_name(name, grid.names)
        plain = plain_value(value, name)
        if isinstance(plain, list):
            grid.axes.append([{name: item} for item in _filled(name, plain)])
        else:
            grid.constants[name] = plain
    for group in _groups(values.get("zip")):
        grid.axes.append(_zipped(group, grid.names))
    grid.include = _entries(values, "include")
    for entry in grid.include:
        for name in entry:
            _check_name(name, [])
    grid.exclude = _entries(values, "exclude")
    if unknown := sorted({name for entry in grid.exclude for name in entry} - set(grid.names)):
        raise InvalidInput(
            f"exclude: {', '.join(unknown)} is no parameter of this grid.",
            f"It has: {', '.join(grid.names) or 'none'}.",
        )
    for entry in grid.exclude:
        _check_exclude(entry, grid)
    if not any(True for _ in grid.points()):
        raise InvalidInput(
            "The grid has no runs: exclude takes all of them away, or nothing was written.",
            "Write parameters and their values, such as lr: [0.1, 0.01].",
        )
    return grid


def _some(values: Iterable[Any]) -> str:
    texts = list(dict.fromkeys(map(repr, values)))
    return ", ".join([*texts[:10], *(["…"] if len(texts) > 10 else [])])


def _check_exclude(entry: Mapping[str, Any], grid: Grid) -> None:
    """Raise InvalidInput for an entry that leaves nothing out: a slip, and what was to be left out would run."""
    unseen, told = dict(entry), []
    for axis in (*grid.axes, [grid.constants]):
        mine = {name: unseen.pop(name) for name in axis[0] if name in unseen}
        # All of an axis's values meet all of the others': each axis can be asked by itself.
        if not any(_matches(alternative, mine) for alternative in axis):
            told += [f"{name} has {_some(one[name] for one in axis)} (1 is not 1.0)" for name in mine]
    if not unseen and not told:
        return
    told += [f"{name} stands in include: alone" for name in unseen]
    said = ", ".join(f"{name}: {value!r}" for name, value in entry.items())
    raise InvalidInput(
        f"exclude: no point is {{{said}}}, so it leaves nothing out.",
        f"{'; '.join(told)}. Mend it, or take it out.",
    )


def why_no_parameter(name: Any) -> InvalidInput | None:
    """Say why a name cannot be that of a parameter; None when it can."""
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        return InvalidInput(
            f"{name!r} cannot be a parameter: it is no Python name.",
            "Use letters, digits and _, such as learning_rate.",
        )
    if name in OURS:
        return InvalidInput(f"{name} cannot be a parameter: %fork sets it in each run.", "Choose another name.")
    return None


def _check_name(name: Any, taken: Sequence[str]) -> None:
    if (problem := why_no_parameter(name)) is not None:
        raise problem
    if name in taken:
        raise InvalidInput(f"The parameter {name} is named twice.", "Keep one of the two.")


def plain_value(value: Any, name: str) -> Any:
    """Return a parameter's value as JSON can hold it: they are kept in the run's folder; raises InvalidInput."""
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain_value(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain_value(item, name) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return plain_value(value.tolist(), name)
    raise InvalidInput(
        f"{name}: a {type(value).__name__} cannot be a parameter.",
        "Use numbers, texts, true/false, lists and mappings of them.",
    )


def _filled(name: str, values: list[Any]) -> list[Any]:
    if not values:
        raise InvalidInput(f"{name} has no values.", f"Write {name}: [1, 2], or take it out.")
    texts = [_text(value) for value in values]
    if double := next((value for value, text in zip(values, texts, strict=True) if texts.count(text) > 1), None):
        raise InvalidInput(f"{name} holds {double!r} twice.", "Write it once; n= repeats runs.")
    return values


def _groups(value: Any) -> list[Mapping[str, Any]]:
    groups = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(group, Mapping) and group for group in groups):
        raise InvalidInput("zip: expects lists that go together.", "Write zip: {size: [small, large], depth: [6, 12]}.")
    return groups


def _zipped(group: Mapping[str, Any], taken: Sequence[str]) -> list[dict[str, Any]]:
    columns: dict[str, list[Any]] = {}
    for name, value in group.items():
        _check_name(name, [*taken, *columns])
        values = plain_value(value, name)
        if not isinstance(values, list) or not values:
            raise InvalidInput(f"zip: {name} is no list.", f"Write {name}: [1, 2].")
        columns[name] = values
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InvalidInput(f"zip: the lists differ in length: {told}.", "Give them the same number of values.")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _entries(values: Mapping[str, Any], word: str) -> list[dict[str, Any]]:
    value = values.get(word)
    entries = [] if value is None else [value] if isinstance(value, Mapping) else value
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) and entry for entry in entries):
        raise InvalidInput(f"{word}: expects points.", f"Write {word}: [{{lr: 0.1, size: large}}].")
    return [{str(name): plain_value(item, str(name)) for name, item in entry.items()} for entry in entries]


def _matches(point: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Whether a point has all of an entry's values; a list in an entry means one of them."""
    for name, wanted in entry.items():
        if name not in point:
            return False
        have = _text(point[name])
        if have != _text(wanted) and not (isinstance(wanted, list) and have in map(_text, wanted)):
            return False
    return True


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of one type."""
    return _text(one) == _text(other)


def _text(value: Any) -> str:
    """Write a value so that equal texts mean equal values of equal types: 1 is not 1.0, nor true."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_text(item)}" for key, item in sorted(value.items())) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    return f"{type(value).__name__} {value!r}"
