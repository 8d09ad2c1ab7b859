"""Which cells of a notebook belong to which ``%fork``.

A notebook may fork as often as it likes. A fork's own cells are those below its line, up to the first ``%join`` or
``%stop`` or the next ``%fork``. Its runs execute the cells above it, without those that belong to other forks' runs,
then their own. The line of another fork above, and its ``%join``, give that fork's runs, as they do in the main
notebook. What a run does not execute is tagged so in its copy of the notebook (`program`).
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..errors import InvalidInput
from ..ui import RunningCell
from .code import SKIP, Cell, code_cells, parse, without_outputs

_VERB = re.compile(r"(?:[\w.]+\s*=\s*)?%(fork|join|stop)\b\s*(.*)")
_CELL_MAGIC = re.compile(r"\s*%%(\w+)")
_PYTHON_BODIES = ("time", "timeit", "capture", "prun")
"""Cell magics whose body is Python that is executed in the notebook."""
_MARK = "__colab_magics_verb__"


class Verb(NamedTuple):
    """A verb in a cell.

    Parameters
    ----------
    name : str
        ``fork``, ``join`` or ``stop``.
    words : str
        What stands behind a magic.
    end : int
        Number of the last line, from 1, of the statement at the cell's top level that holds it.
    plain : bool
        Whether that statement is the verb and nothing else, or a call of it and what is made of its result.
    """

    name: str
    words: str
    end: int
    plain: bool


@dataclass(frozen=True)
class Fork:
    """A ``%fork`` of a notebook, with its cells.

    Parameters
    ----------
    number : int
        Its place among the forks, from 1; 0 stands for a notebook without any.
    cell : Cell or None
        Where it stands.
    rest : str
        What stands below it in its cell.
    between : tuple of Cell
        The cells below it that the main notebook leaves out on its way to `join`; all up to the next fork without one.
    own : tuple of Cell
        Those of `between` that its runs execute.
    join : Cell or None
        The ``%join`` at which its runs end and the main notebook goes on.
    before_next : Cell or None
        The fork that comes next.
    plain : bool
        Whether the line is a statement of its own, at the top level of its cell.
    times : int
        How many ``%fork`` stand in the cell.
    ids : tuple of str
        The ids of all cells of the notebook.
    """

    number: int
    cell: Cell | None
    rest: str
    between: tuple[Cell, ...]
    own: tuple[Cell, ...]
    join: Cell | None
    before_next: Cell | None
    plain: bool = False
    times: int = 1
    ids: tuple[str, ...] = ()


NOWHERE = Fork(0, None, "", (), (), None, None)
"""The place of a line that stands in no notebook."""


class _Names(NamedTuple):
    """How the cells name the verbs in Python: ``from colab_magics import fork``, ``import colab_magics as cm``."""

    functions: dict[str, str]
    modules: set[str]


def find(content: Mapping[str, Any], running: RunningCell | None = None) -> list[Fork]:
    """Find the forks of a notebook, in its order.

    Parameters
    ----------
    content : mapping
        The notebook (nbformat 4).
    running : RunningCell, optional
        The cell that is executing a fork: it counts as one however it is written.
    """
    cells = list(code_cells(content))
    names = _names(cells)
    used = {cell.position: verbs_in(cell.source, names) for cell in cells}
    here = find_running(cells, running) if running is not None else None
    starts = [cell for cell in cells if cell == here or _has(used[cell.position], "fork")]
    made = []
    for number, (cell, after) in enumerate(zip(starts, [*starts[1:], None], strict=False), start=1):
        below = [c for c in cells if c.position > cell.position and (after is None or c.position < after.position)]
        join = next((c for c in below if _has(used[c.position], "join")), None)
        between = [c for c in below if join is None or c.position < join.position]
        mine = [one for one in used[cell.position] if one.name == "fork"]
        rest = "\n".join(cell.source.splitlines()[mine[0].end :]).strip("\n") if mine else ""
        own = _own(between, used) if not _ends(verbs_in(rest, names)) else []
        plain = bool(mine) and mine[0].plain
        times, ids = max(len(mine), 1), tuple(c.id for c in cells)
        made.append(Fork(number, cell, rest, tuple(between), tuple(own), join, after, plain, times, ids))
    return made


def _own(below: Sequence[Cell], used: Mapping[int, list[Verb]]) -> list[Cell]:
    """Return the cells up to the one where runs end."""
    own = []
    for cell in below:
        own.append(cell)
        if _ends(used[cell.position]):
            break
    return own


def _has(found: Sequence[Verb], verb: str) -> bool:
    return any(one.name == verb for one in found)


def _ends(found: Sequence[Verb]) -> bool:
    """Whether a run that executes this ends there for certain."""
    return any(one.plain and one.name in ("stop", "join") and one.words.strip() != "main" for one in found)


def the(content: Mapping[str, Any], running: RunningCell, *, named: str = "") -> Fork:
    """Find the fork that is being executed.

    Parameters
    ----------
    content : mapping
        The notebook.
    running : RunningCell
        The cell that is being executed; an empty one for a notebook that is not this one.
    named : str
        Name of a notebook that is not this one.

    Raises
    ------
    InvalidInput
        When it cannot be told which one it is, or its cell forks twice.
    """
    found = find(content, running)
    here = find_running(list(code_cells(content)), running)
    mine = [fork for fork in found if fork.cell == here] if here is not None else found
    if not mine:
        cells = tuple(code_cells(content))
        return replace(NOWHERE, between=cells, own=tuple(_own(cells, _used(cells))))
    if len(mine) > 1:
        where = ", ".join(str(fork.cell.number) for fork in mine if fork.cell)
        if named:
            raise InvalidInput(
                f"{named} forks {len(mine)} times (cells {where}), and this line does not say whose runs are meant.",
                "Execute the %fork line in that notebook, or name a copy of it with one %fork.",
            )
        raise InvalidInput(
            f"This cell is not in the notebook as it was saved, which forks {len(mine)} times (cells {where}).",
            "Save the notebook and execute the cell again.",
        )
    if mine[0].times > 1:
        raise InvalidInput("This cell forks twice.", "Put each %fork into a cell of its own.")
    return mine[0]


def find_running(cells: Sequence[Cell], running: RunningCell) -> Cell | None:
    """Find the cell that is being executed: by its id, else by its code and what was executed before it.

    Raises
    ------
    InvalidInput
        When several cells hold that code and nothing tells which of them it is.
    """
    source = running.source.strip()
    if running.id and (same := [cell for cell in cells if cell.id == running.id]):
        return same[0]
    same = [cell for cell in cells if source and cell.source.strip() == source]
    if len(same) < 2:
        return same[0] if same else None
    # Run All executes what stands above first.
    lengths = {cell: _agree([c.source for c in cells if c.position < cell.position], running.before) for cell in same}
    best = [cell for cell in same if lengths[cell] == max(lengths.values())]
    if len(best) > 1:
        where = " and ".join(str(cell.number) for cell in best)
        raise InvalidInput(
            f"The cells {where} hold the same line, and this front end does not say which of them is executed.",
            "Make them differ: a comment at the end of the line will do.",
        )
    return best[0]


def _agree(above: Sequence[str], before: Sequence[str]) -> int:
    """Count the cells just above that are those executed just before."""
    count = 0
    for cell, executed in zip(reversed(above), reversed(before), strict=False):
        if cell.strip() != executed.strip():
            break
        count += 1
    return count


def _used(cells: Sequence[Cell]) -> dict[int, list[Verb]]:
    names = _names(cells)
    return {cell.position: verbs_in(cell.source, names) for cell in cells}


class Program(NamedTuple):
    """What the runs of a fork execute.

    Parameters
    ----------
    content : dict
        The notebook; the cells that runs leave out carry the tag `SKIP`.
    others : dict of str to int
        Ids of the cells above that fork or join for other forks, and the numbers of those.
    """

    content: dict[str, Any]
    others: dict[str, int]


def program(content: Mapping[str, Any], fork: Fork, running: RunningCell | None = None) -> Program:
    """Make the notebook that the runs of a fork execute.

    Parameters
    ----------
    content : mapping
        The notebook, made by `prepare`, in which `fork` was found.
    fork : Fork
        The fork.
    running : RunningCell, optional
        As in `find`.

    Raises
    ------
    InvalidInput
        When a run would end above its fork.
    """
    made = {**content, "cells": [copy.deepcopy(cell) for cell in content["cells"]]}
    cells = list(code_cells(made))
    used = _used(cells)
    start = fork.cell.position if fork.cell is not None else -1
    others: dict[int, int] = {}
    left_out: set[int] = set()
    for other in find(made, running):
        if other.cell is None or other.cell.position >= start:
            break
        others[other.cell.position] = other.number
        _cut(made, other.cell, "fork", used)
        left_out |= {cell.position for cell in (other.between if other.join is not None else other.own)}
        if other.join is not None:
            others[other.join.position] = other.number
    for cell in cells:
        ends = cell.position not in others and cell.position not in left_out and _ends(used[cell.position])
        if cell.position < start and ends:
            verb = next(one.name for one in used[cell.position] if one.plain and one.name != "fork")
            raise InvalidInput(
                f"Cell {cell.number} says %{verb}, above this %fork: every run would end there.",
                "Take it out"
                + (", or write %stop main, which ends the main notebook alone." if verb == "stop" else "."),
            )
    executed = {cell.position for cell in fork.own}
    if fork.join is not None and (not fork.own or not _ends(used[fork.own[-1].position])):
        executed.add(fork.join.position)
        _cut(made, fork.join, "join", used)
    left_out |= {cell.position for cell in cells if cell.position > start and cell.position not in executed}
    for position in left_out:
        metadata = made["cells"][position].setdefault("metadata", {})
        metadata["tags"] = [*metadata.get("tags", []), SKIP]
    return Program(made, {made["cells"][position]["id"]: number for position, number in others.items()})


def _cut(content: dict[str, Any], cell: Cell, verb: str, used: Mapping[int, list[Verb]]) -> None:
    """Take away what stands in a cell below a verb."""
    end = next((one.end for one in used[cell.position] if one.name == verb), None)
    if end is not None:
        content["cells"][cell.position]["source"] = "\n".join(cell.source.splitlines()[:end])


def prepare(content: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a notebook without outputs and injected cells; every cell has an id, also in formats older than those."""
    made = without_outputs(content)
    known = {cell.get("id") for cell in made["cells"]}
    for position, cell in enumerate(made["cells"]):
        if not cell.get("id"):
            name = f"cell-{position}"
            cell["id"] = name if name not in known else f"{name}-of-{len(known)}"
    made["nbformat_minor"] = max(made["nbformat_minor"], 5)
    return made


def _names(cells: Sequence[Cell]) -> _Names:
    functions: dict[str, str] = {}
    modules: set[str] = set()
    for cell in cells:
        tree = parse(cell.source, lambda indent, _: f"{indent}pass") if "colab_magics" in cell.source else None
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.ImportFrom) and node.module == "colab_magics":
                functions |= {alias.asname or alias.name: alias.name for alias in node.names}
                if any(alias.name == "*" for alias in node.names):
                    functions |= {verb: verb for verb in ("fork", "join", "stop")}
            elif isinstance(node, ast.Import):
                modules |= {alias.asname or alias.name for alias in node.names if alias.name == "colab_magics"}
    return _Names(functions, modules)


def verbs_in(source: str, names: _Names | None = None) -> list[Verb]:
    """Find the verbs that a cell executes, as magics or as functions; what functions of its own hold is none."""
    names = names or _names([Cell(1, source)])
    lines = source.splitlines()
    magic = _CELL_MAGIC.match(source)
    if magic is not None and magic[1] in ("fork", "join", "stop"):
        first = source.lstrip().splitlines()[0]
        return [Verb(magic[1], first.partition(magic[1])[2].strip(), len(lines), True)]
    if magic is not None and magic[1] not in _PYTHON_BODIES:
        return []
    tree = parse(source, _as_call)
    if tree is None:
        # Code that Python does not know: lines at the margin are what they look like.
        matches = ((number, _VERB.match(line)) for number, line in enumerate(lines, start=1))
        return [Verb(match[1], match[2], number, True) for number, match in matches if match]
    return [one for statement in tree.body for one in _in_statement(statement, names)]


def _as_call(indent: str, line: str) -> str:
    """Write a verb as a call that can be found, any other magic as a text."""
    match = _VERB.match(line)
    return f"{indent}{line!r}" if match is None else f"{indent}{_MARK}({match[1]!r}, {match[2]!r})"


def _in_statement(statement: ast.stmt, names: _Names) -> Iterator[Verb]:
    plain = isinstance(statement, ast.Expr | ast.Assign | ast.AnnAssign)
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Call) and (found := _verb_of(node, names)):
            yield Verb(*found, statement.end_lineno or statement.lineno, plain)
        waiting = [*ast.iter_child_nodes(node), *waiting]


def _verb_of(call: ast.Call, names: _Names) -> tuple[str, str] | None:
    func = call.func
    if isinstance(func, ast.Name) and func.id == _MARK:
        verb, words = (part.value for part in call.args if isinstance(part, ast.Constant))
        return str(verb), str(words)
    verb = ""
    if isinstance(func, ast.Name):
        verb = names.functions.get(func.id, "")
    elif isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id in names.modules:
        verb = func.attr
    main = [part.value for part in call.args if isinstance(part, ast.Constant)] == ["main"]
    return (verb, "main" if main else "") if verb in ("fork", "join", "stop") else None
