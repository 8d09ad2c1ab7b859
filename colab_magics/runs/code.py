"""What of a notebook's code counts: a hash for each cell that a run executes.

A run that finished is reused only while its code is the same. Layout and comments do not count, nor do the lines of
verbs that decide *whether* and *where* something runs.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

ASIDE = ("fork", "join", "stop", "sync", "jobs")
"""Verbs whose lines may change without making a finished run another one."""

_LINE_MAGIC = re.compile(r"^(\s*)((?:[\w, .\[\]]+=\s*)?[%!].*|[^#\s].*\S\?{1,2}\s*)$")
GETS = r"(?:[\w.]+\s*=\s*)?"
"""A magic's result may be assigned: ``runs = %join``."""
_ASIDE = re.compile(rf"^\s*{GETS}%({'|'.join(ASIDE)})\b")
_STOP = re.compile(rf"^{GETS}%(stop(?!\s+main\b)|join)\b", re.MULTILINE)


def cell_hashes(content: Mapping[str, Any]) -> dict[str, str]:
    """Hash the code cells of a notebook, up to the one where runs end.

    Parameters
    ----------
    content : mapping
        A notebook of nbformat 4.

    Returns
    -------
    dict of str to str
        Number of the code cell, from 1, as text (it is kept in JSON) → hash. Cells without code are left out.
    """
    return {
        str(number): hashlib.sha256(text.encode()).hexdigest()[:16] for number, text in _normal_cells(content) if text
    }


def changed_cells(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Say which cells differ: numbers of the new notebook's cells, as text; ``"removed"`` when only cells are gone."""
    if list(old.values()) == list(new.values()):
        return []
    known = set(old.values())
    return [number for number, value in new.items() if value not in known] or ["removed"]


class Cell(NamedTuple):
    """A code cell: its number among them from 1, its source, its id (empty in notebooks without ids)."""

    number: int
    source: str
    id: str


def code_cells(content: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield the code cells, without those that papermill injected."""
    number = 0
    for cell in content.get("cells", []):
        if cell.get("cell_type") != "code" or "injected-parameters" in cell.get("metadata", {}).get("tags", []):
            continue
        number += 1
        source = cell.get("source", "")
        yield Cell(number, source if isinstance(source, str) else "".join(source), str(cell.get("id", "")))


def _normal_cells(content: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    for number, source, _ in code_cells(content):
        yield number, normal_form(source)
        if _STOP.search(source):
            return


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
    lines = []
    for line in source.splitlines():
        if _ASIDE.match(line):
            indent = line[: len(line) - len(line.lstrip())]
            lines.append(f"{indent}pass" if indent else "")
        elif match := _LINE_MAGIC.match(line):
            lines.append(f"{match[1]}{match[2].strip()!r}")
        else:
            lines.append(line)
    try:
        return ast.parse("\n".join(lines))
    except (SyntaxError, ValueError):
        return None
