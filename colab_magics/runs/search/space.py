"""The space of a search, as the body of ``%%fork search=60`` writes it.

::

    lr: loguniform(1e-5, 1e-1)      # also uniform, int, logint; a step: uniform(0, 1, step=0.1)
    size: choice(small, large)      # or a list: [small, large]
    batch: 32                       # one value for all
    when: {size: large, dropout: uniform(0, 0.5)}    # one such mapping, or a list of them
    first:                          # points to begin with; what they leave out is chosen
      - {lr: 1e-3, size: small}

In ``when`` a parameter that stands above is a condition, with the value, or a list of the values, that it must have; a
new one is a parameter of the runs for which all conditions hold, and of no others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import InvalidInput, did_you_mean
from ..grid import WORDS, plain_value, same, why_no_parameter

KINDS = ("uniform", "loguniform", "int", "logint", "choice")
"""What a value of a parameter may be drawn from."""
_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*\((.*)\)\s*", re.DOTALL)
_STEP = re.compile(r"step\s*=\s*(.+)", re.DOTALL)
WHEN, FIRST = "when", "first"


@dataclass(frozen=True)
class Distribution:
    """What a parameter's values are drawn from.

    Parameters
    ----------
    text : str
        As it was written.
    low, high : float
        The range, both ends in it; without a `choices`.
    log : bool
        Whether small values are as likely as large ones, by their order of magnitude.
    step : float or None
        Between two values.
    whole : bool
        Whether values are whole numbers.
    choices : tuple
        The values, where they are no range.
    """

    text: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def holds(self, value: Any) -> bool:
        """Whether it can be one of its values, of its type."""
        if self.choices:
            return self.place(value) is not None
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        inside = self.low <= value <= self.high
        off = (value - self.low) / self.step if inside and self.step else 0.0
        return inside and abs(off - round(off)) < 1e-6

    def place(self, value: Any) -> int | None:
        """Return which of the choices a value is."""
        return next((i for i, one in enumerate(self.choices) if same(one, value)), None)

    @property
    def is_finite(self) -> bool:
        """Whether it has a number of values that could all be tried."""
        return bool(self.choices) or self.whole or self.step is not None

    @property
    def size(self) -> float:
        """How many values it has."""
        if not self.is_finite:
            return math.inf
        return len(self.choices) or math.floor((self.high - self.low) / (self.step or 1) + 1e-9) + 1

    def value(self, place: int) -> Any:
        """Return one of its values by its place."""
        return self.choices[place] if self.choices else self.low + place * (self.step or 1)


@dataclass(frozen=True)
class Branch:
    """Parameters that a run has when others have these values; each condition is a tuple of values that will do."""

    conditions: Mapping[str, tuple[Any, ...]]
    parameters: Mapping[str, Any]

    def holds(self, point: Mapping[str, Any]) -> bool:
        """Whether a run with these values has its parameters."""
        return all(
            name in point and any(same(point[name], one) for one in values) for name, values in self.conditions.items()
        )


@dataclass
class Space:
    """Parameters of a search: a `Distribution` each, or the one value of all runs.

    Parameters
    ----------
    branches : list of Branch
        In their order; the first has no conditions.
    first : list of dict
        Points to begin with, with the values they say.
    """

    branches: list[Branch] = field(default_factory=list)
    first: list[dict[str, Any]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Names of all parameters, in their order."""
        return list(dict.fromkeys(name for branch in self.branches for name in branch.parameters))

    @property
    def distributions(self) -> list[tuple[str, Distribution]]:
        """All parameters that are drawn."""
        pairs = ((name, one) for branch in self.branches for name, one in branch.parameters.items())
        return [(name, one) for name, one in pairs if isinstance(one, Distribution)]

    def point(self, draw: Callable[[str, Distribution], Any]) -> dict[str, Any]:
        """Make a point: `draw` is asked for each parameter that it has, in the order in which they were written."""
        point: dict[str, Any] = {}
        for branch in self.branches:
            if branch.holds(point):
                for name, one in branch.parameters.items():
                    point[name] = draw(name, one) if isinstance(one, Distribution) else one
        return point

    def all(self, most: int) -> list[dict[str, Any]] | None:
        """Return all its points; None where there are more than `most`."""
        points: list[dict[str, Any]] = [{}]
        for branch in self.branches:
            for name, one in branch.parameters.items():
                size = one.size if isinstance(one, Distribution) else 1
                mine = [branch.holds(point) for point in points]
                if sum(mine) * size > most:
                    return None
                found = []
                for point, has in zip(points, mine, strict=True):
                    values = [one] if not isinstance(one, Distribution) else map(one.value, range(int(size)))
                    found += [{**point, name: value} for value in values] if has else [point]
                points = found
        return points

    def holds(self, parameters: Mapping[str, Any]) -> bool:
        """Whether these are the parameters of one of its points, no more and no less."""
        left = dict(parameters)
        point: dict[str, Any] = {}
        for branch in self.branches:
            if branch.holds(point):
                for name, one in branch.parameters.items():
                    if name not in left:
                        return False
                    point[name] = left.pop(name)
                    fits = one.holds(point[name]) if isinstance(one, Distribution) else same(one, point[name])
                    if not fits:
                        return False
        return not left


def read(values: Mapping[str, Any] | None) -> Space:
    """Read a space.

    Raises
    ------
    InvalidInput
        When nothing is to be chosen, or something cannot be read.
    """
    values = values or {}
    if word := next((word for word in values if word in WORDS), None):
        raise InvalidInput(f"{word}: is a word of grids, and a search has none.", "Leave it out, or leave search= out.")
    plain = {name: plain_value(value, str(name)) for name, value in values.items()}
    space = Space()
    top = {name: _parameter(name, value) for name, value in plain.items() if name not in (WHEN, FIRST)}
    space.branches.append(Branch({}, top))
    for entry in _entries(plain, WHEN):
        space.branches.append(_branch(entry, space))
    if not space.distributions:
        raise InvalidInput(
            "The search has nothing to choose: no parameter has several values.",
            "Write what it may choose from, such as lr: loguniform(1e-5, 1e-1).",
        )
    space.first = [_first(entry, space) for entry in _entries(plain, FIRST)]
    return space


def plain(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a space as JSON can hold it, and as it was written."""
    return {str(name): plain_value(value, str(name)) for name, value in (values or {}).items()}


def _entries(values: Mapping[str, Any], word: str) -> list[dict[str, Any]]:
    value = values.get(word)
    entries = [] if value is None else [value] if isinstance(value, Mapping) else value
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and entry for entry in entries):
        example = "{size: large, dropout: uniform(0, 0.5)}" if word == WHEN else "[{lr: 1e-3, size: small}]"
        raise InvalidInput(f"{word}: expects parameters and their values.", f"Write {word}: {example}")
    return entries


def _parameter(name: Any, value: Any) -> Any:
    if (problem := why_no_parameter(name)) is not None:
        raise problem
    return distribution(name, value)


def distribution(name: str, value: Any) -> Any:
    """Read what a parameter's values are drawn from; any other value is returned as it is.

    Raises
    ------
    InvalidInput
        When it is no distribution that there is, or its numbers make none.
    """
    if isinstance(value, list):
        return _choice(name, str(value), value)
    found = _CALL.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    if found[1] not in KINDS:
        error = did_you_mean(found[1], KINDS, kind="distribution")
        raise InvalidInput(f"{name}: {error.what}", f'{error.mend} A text is written as a list of one: {name}: ["…"]')
    parts = _parts(name, value.strip(), found[2])
    if found[1] == "choice":
        return _choice(name, value.strip(), parts)
    return _range(name, value.strip(), found[1], parts)


def looks_like_one(value: Any) -> bool:
    """Whether a value is the text of a distribution."""
    found = _CALL.fullmatch(value) if isinstance(value, str) else None
    return found is not None and found[1] in KINDS


def _parts(name: str, text: str, inside: str) -> list[Any]:
    """Read what stands between the parentheses as the list that it is in YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return list(YAML(typ="safe", pure=True).load(f"[{inside}]"))
    except YAMLError as error:
        raise InvalidInput(
            f"{name}: {text} cannot be read.", "Write uniform(0, 1), or choice(small, large)."
        ) from error


def _choice(name: str, text: str, values: Sequence[Any]) -> Distribution:
    plain = plain_value(list(values), name)
    if not plain:
        raise InvalidInput(f"{name} has no values.", f"Write {name}: choice(1, 2), or take it out.")
    if double := [one for i, one in enumerate(plain) if any(same(one, other) for other in plain[:i])]:
        raise InvalidInput(f"{name} holds {double[0]!r} twice.", "Write it once.")
    return Distribution(text, choices=tuple(plain))


def _range(name: str, text: str, kind: str, parts: list[Any]) -> Distribution:
    step = None
    if len(parts) == 3 and isinstance(parts[2], str) and (said := _STEP.fullmatch(parts[2])):
        step = next(iter(_parts(name, text, said[1])), None)
        parts = parts[:2]
        if not _is_number(step) or (step or 0) <= 0:
            raise InvalidInput(
                f"{name}: {text} has no step that is a number above 0.", f"Write {kind}(0, 1, step=0.1)."
            )
    log, whole = kind.startswith("log"), kind.endswith("int")
    example = f"{kind}(1, 100)" if whole else f"{kind}(1e-5, 1e-1)" if log else f"{kind}(0, 1)"
    if len(parts) != 2 or not all(map(_is_number, parts)):
        raise InvalidInput(f"{name}: {text} is no range of two numbers.", f"Write {example}.")
    low, high = parts
    if whole and any(one != int(one) for one in (low, high, step or 1)):
        raise InvalidInput(f"{name}: {text} is no range of whole numbers.", f"Write {example}, or uniform(…).")
    if low >= high:
        raise InvalidInput(f"{name}: {text} goes from {low:g} to {high:g}.", f"Write the smaller one first: {example}.")
    if log and low <= 0:
        raise InvalidInput(
            f"{name}: {text} begins at {low:g}, and has no order of magnitude there.", f"Write {example}."
        )
    if log and step is not None:
        raise InvalidInput(f"{name}: {text} has a step, and no such range has one.", f"Write {example}.")
    if step is not None:
        high = low + math.floor((high - low) / step + 1e-9) * step
    number = int if whole else float
    return Distribution(text, number(low), number(high), log, None if step is None else number(step), whole)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _branch(entry: Mapping[str, Any], space: Space) -> Branch:
    known: dict[str, list[Any]] = {}
    for branch in space.branches:
        for name, one in branch.parameters.items():
            known.setdefault(name, []).append(one)
    is_new = {name: name not in known or looks_like_one(value) for name, value in entry.items()}
    conditions = {name: _condition(name, value, known[name]) for name, value in entry.items() if not is_new[name]}
    new = {name: _parameter(name, value) for name, value in entry.items() if is_new[name]}
    if not conditions or not new:
        missing = "a condition" if not conditions else "a parameter"
        raise InvalidInput(
            f"when: {', '.join(map(str, entry))} lacks {missing}: {'no' if not conditions else 'each'} one of them "
            f"stands above.",
            "Write when: {size: large, dropout: uniform(0, 0.5)}, with size: above it.",
        )
    for name, one in new.items():
        for other in known.get(name, ()):
            _check_both(name, one, other)
        if name in space.branches[0].parameters:
            raise InvalidInput(f"The parameter {name} is named twice: all runs have it.", "Keep one of the two.")
    return Branch(conditions, new)


def _check_both(name: str, one: Any, other: Any) -> None:
    """Check that a parameter is drawn alike in two branches: a study compares its values."""
    kinds = [(d.log, d.whole, d.choices) if isinstance(d, Distribution) else None for d in (one, other)]
    if kinds[0] != kinds[1]:
        raise InvalidInput(f"when: {name} is drawn in two ways.", "Give one of them another name.")


def _condition(name: str, value: Any, known: Sequence[Any]) -> tuple[Any, ...]:
    wanted = value if isinstance(value, list) else [value]
    for one in wanted:
        if not any(d.holds(one) if isinstance(d, Distribution) else same(d, one) for d in known):
            texts = [d.text if isinstance(d, Distribution) else repr(d) for d in known]
            raise InvalidInput(
                f"when: {name} is never {one!r}; it is {' or '.join(texts)}.", "Write one of its values."
            )
    return tuple(wanted)


def _first(entry: Mapping[str, Any], space: Space) -> dict[str, Any]:
    for name, value in entry.items():
        drawn = [branch.parameters[name] for branch in space.branches if name in branch.parameters]
        if not drawn:
            raise did_you_mean(name, space.names, kind="parameter of first:")
        if not any(d.holds(value) if isinstance(d, Distribution) else same(d, value) for d in drawn):
            texts = [d.text if isinstance(d, Distribution) else repr(d) for d in drawn]
            raise InvalidInput(f"first: {name}={value!r} is not in {' or '.join(texts)}.", "Write one of its values.")
    return dict(entry)
