"""What of a notebook's code counts: a hash for each cell that a run executes.

A run that finished is reused only while its code is the same. Layout and comments do not count, nor do the lines of
verbs that decide *whether* and *where* something runs.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..records.injected import is_injected

ASIDE = ("fork", "join", "stop", "sync", "jobs")
"""Verbs whose lines may change without making a finished run another one."""

_LINE_MAGIC = re.compile(r"^(\s*)((?:[\w, .\[\]]+=\s*)?[%!].*|[^#\s].*\S\?{1,2}\s*)$")
GETS = r"(?:[\w.]+\s*=\s*)?"
"""A magic's result may be assigned: ``runs = %join``."""
_ASIDE = re.compile(rf"^\s*{GETS}%({'|'.join(ASIDE)})\b")
SKIP = "skip-execution"
"""Tag of cells that are not executed, as nbclient and papermill know it."""


def cell_hashes(content: Mapping[str, Any]) -> dict[str, str]:
    """Hash the code cells that are executed.

    Parameters
    ----------
    content : mapping
        A notebook of nbformat 4, such as `forks.program` makes for a run.

    Returns
    -------
    dict of str to str
        Number of the code cell as text (it is kept in JSON) → hash. Cells without code are left out.
    """
    normal = ((cell.number, normal_form(cell.source)) for cell in executed_cells(content))
    return {str(number): hashlib.sha256(text.encode()).hexdigest()[:16] for number, text in normal if text}


def changed_cells(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Say what of the code differs.

    Returns
    -------
    list of str
        Numbers of the new notebook's cells, as text, ``"removed"`` when cells are gone and no other differs, and paths
        of the files that differ.
    """
    files = [name for name in {**old, **new} if not name.isdigit() and old.get(name) != new.get(name)]
    old, new = ({name: value for name, value in hashes.items() if name.isdigit()} for hashes in (old, new))
    if list(old.values()) == list(new.values()):
        return files
    known = set(old.values())
    return ([number for number, value in new.items() if value not in known] or ["removed"]) + files


def where_changed(parts: Sequence[str]) -> str:
    """Write what `changed_cells` found: ``cell 3, 12, net/model.py``."""
    numbers = sorted({part for part in parts if part.isdigit()}, key=int)
    files = sorted({part for part in parts if not part.isdigit()} - {"removed"})
    cells = "cell " + ", ".join(numbers) if numbers else "a cell is gone" if "removed" in parts else ""
    shown = files if len(files) < 6 else [*files[:5], f"{len(files) - 5} more files"]
    return ", ".join([*([cells] if cells else []), *shown])


class Cell(NamedTuple):
    """A code cell.

    Parameters
    ----------
    number : int
        What a notebook shows beside it after Run All: its place among the code cells that are not empty, from 1.
    source : str
        Its code.
    id : str
        Its id; empty in notebooks without ids.
    position : int
        Its place among all cells, from 0.
    """

    number: int
    source: str
    id: str = ""
    position: int = 0


def code_cells(content: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield the code cells, without empty ones and those that papermill injected."""
    number = 0
    for position, cell in enumerate(content.get("cells", [])):
        if cell.get("cell_type") != "code" or is_injected(cell):
            continue
        source = source_of(cell)
        if source.strip():
            number += 1
            yield Cell(number, source, str(cell.get("id", "")), position)


def executed_cells(content: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield the code cells that are executed: those without the tag `SKIP`."""
    cells = content.get("cells", [])
    return (cell for cell in code_cells(content) if SKIP not in tags(cells[cell.position]))


def source_of(cell: Mapping[str, Any]) -> str:
    """Return a cell's source; files may hold it as a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def tags(cell: Mapping[str, Any]) -> Collection[str]:
    """Return the tags of a cell."""
    found: Collection[str] = cell.get("metadata", {}).get("tags", [])
    return found


def without_outputs(content: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a notebook without outputs, execution counts and papermill's injected cells."""
    bare: dict[str, Any] = {key: copy.deepcopy(value) for key, value in content.items() if key != "cells"}
    bare.setdefault("nbformat", 4)
    bare.setdefault("nbformat_minor", 5)
    bare.setdefault("metadata", {})
    bare["cells"] = []
    for cell in content.get("cells", []):
        if is_injected(cell):
            continue
        cell = {key: copy.deepcopy(value) for key, value in cell.items() if key not in ("outputs", "execution_count")}
        if cell.get("cell_type") == "code":
            cell |= {"outputs": [], "execution_count": None}
        bare["cells"].append(cell)
    return bare


def normal_form(source: str) -> str:
    """Write a cell's code without layout, comments and the lines of `ASIDE` verbs.

    Source that Python cannot parse, such as that of a ``%%bash`` cell, counts as it stands.
    """
    text = source.strip()
    if re.match(rf"%%({'|'.join(ASIDE)})\b", text):
        return ""
    if text.startswith("%%"):
        return text
    tree = as_python(text)
    # unparse, not dump: the form of `ast.dump` differs between Python versions.
    return text if tree is None else ast.unparse(tree)


def as_python(source: str) -> ast.Module | None:
    """Parse a cell's code; its magics become the texts they are, and lines of `ASIDE` verbs vanish.

    Returns
    -------
    ast.Module or None
        None for what Python cannot parse, such as the cell of another cell magic.
    """
    return parse(source, _as_text)


def _as_text(indent: str, line: str) -> str:
    """Write a magic as a text; an `ASIDE` verb as nothing."""
    if _ASIDE.match(line):
        return f"{indent}pass" if indent else ""
    return f"{indent}{line!r}"


def parse(source: str, write: Callable[[str, str], str]) -> ast.Module | None:
    """Parse a cell's code with each magic, shell command and question written as Python by `write`.

    Parameters
    ----------
    source : str
        The cell. Of a cell magic whose body is Python (``%%time``) the body counts.
    write : callable
        Gets the indentation of such a line and the line without it, continuation lines joined; returns Python for it.

    Returns
    -------
    ast.Module or None
        Line numbers are those of the cell; of joined lines the last. None for what Python cannot parse.
    """
    lines: list[str] = []
    rest = source.splitlines()
    while rest:
        line = rest.pop(0)
        match = _LINE_MAGIC.match(line)
        if match is None and not _ASIDE.match(line):
            lines.append(line)
            continue
        joined = 0
        while line.endswith("\\") and rest:
            line = line[:-1] + rest.pop(0)
            joined += 1
        indent = line[: len(line) - len(line.lstrip())]
        lines += [*[""] * joined, write(indent, line.strip())]
    try:
        return ast.parse("\n".join(lines))
    except (SyntaxError, ValueError):
        return None
