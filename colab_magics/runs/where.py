"""Which rows of the runs' table are meant: ``lr<0.1 and "good" in tags``, read as Python writes it and never executed.

Comparisons, ``and``, ``or``, ``not``, ``in`` and ``is None`` over the table's columns; nothing is called, computed or
looked up. A name that is no word stands between backquotes, as in pandas' ``query``. Of a run that has no such value
nothing is known: it is left out, also by ``not``.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ..errors import InvalidInput, did_you_mean
from ..units import words

_LONGEST = 2000
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`([^`]+)`")
_STANDS_FOR = "_a_name_between_backquotes_"
_MEND = "Write it like where=\"lr<0.1 and size=='small'\"."
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
_CONSTANTS = {"true": True, "false": False, "none": None}
_ALWAYS: Mapping[str, Any] = {"tags": [], "note": None}
"""Columns that may be asked for though no run has anything there."""

Row = Mapping[str, Any]


class Where:
    """A condition on rows.

    Parameters
    ----------
    text : str
        As users write it.
    known : collection of str
        Names of the columns.

    Raises
    ------
    InvalidInput
        For what is no such condition, and for a name that no run has.
    """

    def __init__(self, text: str, known: Collection[str]) -> None:
        self.text = text
        self._known = known
        self._quoted: list[str] = []
        self._tree = _parsed(_QUOTED.sub(self._set_aside, text), text)
        self._check(self._tree)

    def __call__(self, row: Row) -> bool | None:
        """Tell whether a row is meant; None when it has not the values to tell.

        Raises
        ------
        InvalidInput
            When its values cannot be compared so.
        """
        return self._truth(self._tree, row)

    def _set_aside(self, match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        self._quoted.append(match[1])
        return f"{_STANDS_FOR}{len(self._quoted) - 1}"

    def _name(self, node: ast.expr) -> str:
        """Return the column that a name, or a name with dots in it, means."""
        name = ast.unparse(node)
        number = name.removeprefix(_STANDS_FOR)
        return self._quoted[int(number)] if name != number and number.isdigit() else name

    def _check(self, node: ast.AST) -> None:
        """Check a part of the condition, and what is in it."""
        if isinstance(node, ast.Name | ast.Attribute):
            self._check_name(node)
            return
        if isinstance(node, ast.Constant):
            if not isinstance(node.value, bool | int | float | str | None):
                raise self._refused(node)
            return
        if isinstance(node, ast.UnaryOp):
            number = isinstance(node.operand, ast.Constant) and isinstance(node.operand.value, int | float)
            if not isinstance(node.op, ast.Not) and not (isinstance(node.op, ast.USub | ast.UAdd) and number):
                raise self._refused(node)
            parts: Sequence[ast.AST] = [node.operand]
        elif isinstance(node, ast.BoolOp):
            parts = node.values
        elif isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            parts = node.elts
        else:
            raise self._refused(node)
        for part in parts:
            self._check(part)

    def _check_name(self, node: ast.Name | ast.Attribute) -> None:
        name, inner = self._name(node), node
        while isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name | ast.Attribute):
            inner = inner.value
        if not isinstance(inner, ast.Name):
            raise self._refused(node)
        if name not in {*self._known, *_ALWAYS} and name.lower() not in _CONSTANTS:
            problem = did_you_mean(name, self._known, kind="parameter or metric of these runs")
            raise InvalidInput(problem.what, f"{problem.mend} A text stands in quotes: '{name}'.")

    def _refused(self, node: ast.AST) -> InvalidInput:
        part = ast.unparse(node)
        return InvalidInput(
            f"where={self.text}: {part!r} is no comparison of parameters and metrics.",
            f"There are < <= > >= == != in, and, or, not. {_MEND}",
        )

    def _of(self, node: ast.AST, row: Row) -> Any:
        """Return the value of a part for a row; None is a value that is not there, or is not known."""
        if isinstance(node, ast.Name | ast.Attribute):
            name = self._name(node)
            return row[name] if name in row else _ALWAYS.get(name, _CONSTANTS.get(name.lower()))
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.UnaryOp):
            if isinstance(node.op, ast.Not):
                known = self._truth(node.operand, row)
                return None if known is None else not known
            value = self._of(node.operand, row)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BoolOp):
            found = [self._truth(part, row) for part in node.values]
            decides = isinstance(node.op, ast.Or)
            return decides if decides in found else None if None in found else not decides
        if isinstance(node, ast.Compare):
            return self._compared(node, row)
        return [self._of(part, row) for part in getattr(node, "elts", ())]

    def _truth(self, node: ast.AST, row: Row) -> bool | None:
        value = self._of(node, row)
        if isinstance(value, int | float) and value not in (0, 1):
            raise InvalidInput(
                f"where={self.text}: {ast.unparse(node)} is a number, and no condition.",
                f"Compare it, all in quotes: < and > mean something to a shell. {_MEND}",
            )
        return None if value is None else bool(value)

    def _compared(self, node: ast.Compare, row: Row) -> bool | None:
        values = [self._of(part, row) for part in (node.left, *node.comparators)]
        found = [
            self._pair(op, left, right, row) for op, left, right in zip(node.ops, values, values[1:], strict=False)
        ]
        return False if False in found else None if None in found else True

    def _pair(self, op: ast.cmpop, left: Any, right: Any, row: Row) -> bool | None:
        if isinstance(op, ast.Is | ast.IsNot):
            if left is not None and right is not None:
                raise InvalidInput(f"where={self.text}: `is` asks for None alone.", "Write == instead.")
            return (left is right) is isinstance(op, ast.Is)
        if left is None or right is None:
            return None
        try:
            return bool(_COMPARE[type(op)](left, right))
        except TypeError:
            raise InvalidInput(
                f"where={self.text}: of {row.get('run', 'a run')} {left!r} and {right!r} cannot be compared so.",
                "Numbers go with numbers, texts with texts; `in` asks for a part of a text, or one of several.",
            ) from None


def _parsed(source: str, text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise InvalidInput(f"where= has {len(text):,} characters.", "Filter the DataFrame of %jobs table instead.")
    try:
        return ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        equals = re.search(r"(?<![<>=!])=(?!=)", source)
        mend = f"Equal is written ==. {_MEND}" if equals else _MEND
        raise InvalidInput(f"where={text} cannot be read.", mend) from None


def chosen(rows: Sequence[dict[str, Any]], where: str | None) -> tuple[list[dict[str, Any]], list[Any]]:
    """Return the rows that a condition means, and the names of the runs that have not the values to tell."""
    if not where or not rows:
        return list(rows), []
    condition = Where(where, {name for row in rows for name in row})
    told = [condition(row) for row in rows]
    return [row for row, meant in zip(rows, told, strict=True) if meant], [
        row.get("run") for row, meant in zip(rows, told, strict=True) if meant is None
    ]


def ordered(rows: Sequence[dict[str, Any]], sort: str | None) -> list[dict[str, Any]]:
    """Order rows by columns: ``loss``, ``-acc,lr``; a minus is descending, and what has no value comes last.

    Raises
    ------
    InvalidInput
        For a name that no run has.
    """
    found = list(rows)
    for word in reversed(words(sort)):
        known = {name for row in rows for name in row}
        down = word.startswith("-") and word not in known
        name = word[1:] if down else word
        if rows and name not in known:
            raise did_you_mean(name, known, kind="parameter or metric of these runs")
        there = [row for row in found if not _is_missing(row.get(name))]
        rest = [row for row in found if _is_missing(row.get(name))]
        found = sorted(there, key=lambda row: _key(row[name]), reverse=down) + rest
    return found


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _key(value: Any) -> tuple[int, Any]:
    """Order what cannot be compared: numbers, then everything else by its text."""
    return (0, value) if isinstance(value, int | float) else (1, str(value))
