"""What a notebook's cells do with a grid's parameters: found before anything starts.

A parameter that no cell uses, or that a cell below ``%fork`` assigns again, would make a whole sweep compute the same
thing many times.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidInput
from .code import GETS, as_python, executed_cells
from .forks import Fork


@dataclass(frozen=True)
class Uses:
    """What becomes of parameters in a payload.

    Parameters
    ----------
    names : collection of str
        Those that it uses.
    again : mapping of str to int
        Those that a cell assigns again, below ``%fork``, and that cell's number.
    needs : collection of str
        Those without which it cannot be executed.
    """

    names: Collection[str] = ()
    again: Mapping[str, int] = field(default_factory=dict)
    needs: Collection[str] = ()

    def without_unused(self, parameters: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return which of a table's columns are used, and which are not: people keep remarks there, too.

        Where none is used, all count as if they were: whose values are never looked at, is refused.
        """
        asked = list(parameters)
        used = [name for name in asked if name in self.names]
        return (used, [name for name in asked if name not in self.names]) if used else (asked, [])

    def refusal(self, parameters: Iterable[str]) -> InvalidInput | None:
        """Say why runs cannot have these parameters; None when they can."""
        asked = list(parameters)
        if unused := [name for name in asked if name not in self.names]:
            return InvalidInput(
                f"Nothing uses the parameter {unused[0]}: all its values would compute the same.",
                "Use it, or take it out.",
            )
        if without := [name for name in self.needs if name not in asked]:
            return InvalidInput(
                f"{{{without[0]}}} stands in the command, and the run has no parameter {without[0]}.",
                "Give it one, or the queue a default.",
            )
        if lost := [name for name in asked if name in self.again]:
            return InvalidInput(
                f"Cell {self.again[lost[0]]}, below %fork, assigns {lost[0]} again: each run would lose its own value.",
                f"Move that default above the %fork cell, or take {lost[0]} out of the grid.",
            )
        return None

    @property
    def record(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {"names": sorted(self.names), "again": dict(self.again), "needs": sorted(self.needs)}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Uses:
        """Return what `record` gave."""
        return cls(frozenset(record.get("names") or ()), dict(record.get("again") or {}), record.get("needs") or ())


def what_is_unused(names: Collection[str]) -> str:
    """Say which columns of a queue nothing uses."""
    what = "the column" if len(names) == 1 else "the columns"
    return f"Nothing uses {what} {', '.join(names)}: runs that differ in nothing else compute the same."


def uses(content: Mapping[str, Any], fork: Fork) -> Uses:
    """Find what becomes of parameters in the cells of a fork's runs."""
    used = set().union(*(_names_used(cell.source) for cell in executed_cells(content)))
    again: dict[str, int] = {}
    for number, tree in _below(fork):
        for name in _assigned(tree) if tree is not None else ():
            again.setdefault(name, number)
    return Uses(used, again)


def _below(fork: Fork) -> list[tuple[int, ast.Module | None]]:
    below = [(cell.number, as_python(cell.source)) for cell in fork.own]
    if fork.cell is not None:
        below.insert(0, (fork.cell.number, as_python(fork.rest)))
    return below


def check_parameters(content: Mapping[str, Any], fork: Fork, names: Collection[str]) -> None:
    """Check that the cells of a fork's runs use its grid's parameters, and that none below ``%fork`` assigns one.

    Parameters
    ----------
    content : mapping
        What the runs execute; see `forks.program`.
    fork : Fork
        The fork.
    names : collection of str
        The parameters.

    Raises
    ------
    InvalidInput
        Names the parameter and the cell.
    """
    found = uses(content, fork)
    if unused := [name for name in names if name not in found.names]:
        raise InvalidInput(
            f"No cell uses the parameter {unused[0]}: all its values would compute the same.",
            "Use it in a cell, or take it out of the grid.",
        )
    if lost := sorted((number, name) for name, number in found.again.items() if name in names):
        number, name = lost[0]
        raise InvalidInput(
            f"Cell {number}, below %fork, assigns {name} again: each run would lose its own value.",
            f"Move that default above the %fork cell, or take {name} out of the grid.",
        )


_NAMES_ALONE = re.compile(rf"^\s*{GETS}%%?(?:fork|queue)\b", re.MULTILINE)
"""Lines, and the cells below them, that name parameters and use none."""


def _names_used(source: str) -> set[str]:
    """Names that a cell reads, in Python or in the words of its magics and shell lines."""
    found = set()
    for line in source.splitlines():
        if re.match(r"\s*(?:[\w, ]+=\s*)?[%!]", line) and not _NAMES_ALONE.match(line):
            found |= set(re.findall(r"[^\W\d]\w*", line))
    tree = as_python(source)
    if tree is None:
        return found | (set(re.findall(r"[^\W\d]\w*", source)) if not _NAMES_ALONE.match(source) else set())
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            found.add(node.value)  # globals()["lr"]
    return found


def _assigned(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a cell binds at its top level.

    What functions and classes bind inside is their own, and ``lr = float(lr)`` makes its value from the run's.
    """
    waiting: list[tuple[ast.AST, frozenset[str]]] = [(node, frozenset()) for node in tree.body]
    while waiting:
        node, kept = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
            if not isinstance(node, ast.ClassDef):
                yield from _declared_global(node)
            continue
        if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            continue
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            kept |= {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            kept |= {node.target.id}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del) and node.id not in kept:
            yield node.id
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name
        waiting += [(child, kept) for child in ast.iter_child_nodes(node)]


def _declared_global(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Global):
            yield from node.names
