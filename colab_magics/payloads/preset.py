"""A copy of a notebook with a job and parameters of its own: written where the notebook itself says them.

Code is found by its syntax tree and replaced by its place, so that quotes, backslashes, comments and layout of all that
stands around it stay as they are.
"""

from __future__ import annotations

import ast
import copy
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .. import line
from ..errors import InvalidInput, did_you_mean
from .code import GETS, Cell, as_python, code_cells, tags

JOB = "job_name"
PARAMETERS = "parameters"
"""Tag of the cell whose assignments papermill replaces."""

_LINE = re.compile(rf"(\s*{GETS}%project\b)((?:.*\\\n)*.*)")
_CELL = re.compile(r"(\s*%%project\b)(.*)")
_UPLOAD = re.compile(rf"^([ \t]*)({GETS}%upload\b(?:.*\\\n)*.*)", re.MULTILINE)
_KEY = re.compile(r"(\s*)job\s*=.*")


@dataclass(frozen=True)
class _Value:
    """An assigned value and where it stands: rows from 0, columns in bytes as Python counts them."""

    name: str
    node: ast.expr


def job_of(content: Mapping[str, Any]) -> str | None:
    """Return the job that a notebook names by itself; None when it names none, or as a value that only it knows."""
    for cell in code_cells(content):
        if (found := _job_in(cell, content)) is not None:
            return found or None
    return None


def with_job(content: Mapping[str, Any], job: str) -> dict[str, Any]:
    """Return a copy of a notebook that is of another job.

    The first code cell that names one is changed: the ``job=`` of a ``%project`` line or cell, ``job_name = "…"``, or
    ``job`` in the cell that is tagged ``parameters``. A notebook whose ``%project`` names none gets it there.

    Parameters
    ----------
    content : mapping
        The notebook.
    job : str
        The job's name.

    Raises
    ------
    InvalidInput
        When no cell says what the job is.
    """
    cells = list(code_cells(content))
    for cell in cells:
        if _job_in(cell, content) is not None:
            return _with_source(content, cell, _renamed(cell, content, job))
    for cell in cells:
        if (match := _CELL.match(cell.source) or _line_of(cell)) is not None:
            return _with_source(content, cell, _in_line(cell.source, match, job))
    raise InvalidInput(
        f"No cell of the notebook says which job it is, so job={job} cannot be set.",
        'Write one: %project job=NAME, or job_name = "NAME", or job = "NAME" in the cell with the tag parameters.',
    )


def with_parameters(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a notebook with other values in the cell that is tagged ``parameters``.

    Raises
    ------
    InvalidInput
        When there is no such cell, or it assigns no such name.
    """
    cell = next((cell for cell in code_cells(content) if _is_parameters(cell, content)), None)
    if cell is None:
        raise InvalidInput(
            f"The notebook has no cell with the tag {PARAMETERS}, so {', '.join(values)} cannot be set.",
            "Tag the cell that assigns them: View → Cell toolbar → Tags, or in JupyterLab the gears at the right.",
        )
    source = cell.source
    for name, value in values.items():
        found = list(_assigned(source))
        last = next((one for one in reversed(found) if one.name == name), None)
        if last is None:
            raise did_you_mean(name, {one.name for one in found}, kind=f"parameter of cell {cell.number}")
        source = _replaced(source, last, repr(value))
    return _with_source(content, cell, source)


def without_uploads(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a notebook whose ``%upload`` lines are comments: where it goes it need not go again."""
    made: dict[str, Any] = dict(copy.deepcopy(dict(content)))
    for cell in code_cells(content):
        if re.match(r"\s*%%upload\b", cell.source):
            source = "".join(f"# {row}" for row in cell.source.splitlines(keepends=True))
        else:
            source = _UPLOAD.sub(_as_comment, cell.source)
        if source != cell.source:
            made = _with_source(made, cell, source)
    return made


def _as_comment(match: re.Match[str]) -> str:
    rows = match[2].splitlines(keepends=True)
    return match[1] + ("pass  " if match[1] else "") + "".join(f"# {row}" for row in rows)


def _job_in(cell: Cell, content: Mapping[str, Any]) -> str | None:
    """Return the job that a cell names; empty for a value that only the running notebook knows; None for none."""
    if match := _CELL.match(cell.source):
        body = _toml(cell)
        return str(body["job"]) if "job" in body else _option(match[2])
    if (match := _line_of(cell)) is not None:
        return _option(match[2].replace("\\\n", "  "))
    value = _job_value(cell, content)
    return None if value is None else str(ast.literal_eval(value.node))


def _renamed(cell: Cell, content: Mapping[str, Any], job: str) -> str:
    if match := _CELL.match(cell.source):
        return _in_body(cell, job) if "job" in _toml(cell) else _in_line(cell.source, match, job)
    if (match := _line_of(cell)) is not None:
        return _in_line(cell.source, match, job)
    value = _job_value(cell, content)
    return cell.source if value is None else _replaced(cell.source, value, repr(job))


def _job_value(cell: Cell, content: Mapping[str, Any]) -> _Value | None:
    """Find the text that is assigned to `JOB`, or in the cell of parameters to ``job``."""
    names = (JOB, "job") if _is_parameters(cell, content) else (JOB,)
    texts = [
        one
        for one in _assigned(cell.source)
        if one.name in names and isinstance(one.node, ast.Constant) and isinstance(one.node.value, str)
    ]
    return texts[-1] if texts else None


def _line_of(cell: Cell) -> re.Match[str] | None:
    """Find the first ``%project`` line of a cell that has a job, else the first; not in a text over several rows."""
    tree = as_python(cell.source)
    rows = cell.source.splitlines(keepends=True)
    within = {
        row
        for node in ast.walk(tree or ast.Module([], []))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for row in range(node.lineno - 1, (node.end_lineno or node.lineno))
        if (node.end_lineno or node.lineno) > node.lineno
    }
    found, at = [], 0
    for number, row in enumerate(rows):
        if number not in within and (match := _LINE.match(cell.source, at)):
            found.append(match)
        at += len(row)
    named = [match for match in found if _option(match[2].replace("\\\n", "  ")) is not None]
    return next(iter(named or found), None)


def _option(text: str) -> str | None:
    """Return the value of ``job=`` in a line; empty where variables stand in it."""
    for token in line.split(text).tokens:
        word = token.as_option().text
        if word.startswith("--job="):
            value = word.removeprefix("--job=").replace("$$", "").replace("{{", "").replace("}}", "")
            known = not re.search(r"[${]", value)
            return word.removeprefix("--job=").replace("$$", "$").replace("{{", "{").replace("}}", "}") if known else ""
    return None


def _in_line(source: str, match: re.Match[str], job: str) -> str:
    return source[: match.start(2)] + line.with_option(match[2], "job", job) + source[match.end(2) :]


def _toml(cell: Cell) -> dict[str, Any]:
    try:
        return tomllib.loads(cell.source.lstrip().partition("\n")[2])
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"The %%project cell {cell.number} is no TOML: {error}", "Mend it first.") from None


def _in_body(cell: Cell, job: str) -> str:
    """Write the job into the TOML of a ``%%project`` cell: the row after which its data is the same but for the job."""
    rows, wanted = cell.source.splitlines(keepends=True), {**_toml(cell), "job": job}
    for number, row in enumerate(rows):
        if match := _KEY.match(row):
            new = f"{match[1]}job = {json.dumps(job, ensure_ascii=False)}{row[match.end() :]}"
            text = "".join([*rows[:number], new, *rows[number + 1 :]])
            if _toml(cell._replace(source=text)) == wanted:
                return text
    raise InvalidInput(f"The job of the %%project cell {cell.number} cannot be set.", 'Write it in a row: job = "NAME"')


def _is_parameters(cell: Cell, content: Mapping[str, Any]) -> bool:
    return PARAMETERS in tags(content["cells"][cell.position])


def _assigned(source: str) -> Iterator[_Value]:
    """Yield the names that a cell assigns at its top, in order."""
    tree = as_python(source)
    for node in tree.body if tree is not None else ():
        if isinstance(node, ast.Assign):
            yield from (_Value(one.id, node.value) for one in node.targets if isinstance(one, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield _Value(node.target.id, node.value)


def _replaced(source: str, value: _Value, text: str) -> str:
    """Write something else in the place of a value."""
    rows = [row.encode() for row in source.splitlines(keepends=True)]
    node = value.node
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    before = b"".join([*rows[:first], rows[first][: node.col_offset]])
    after = b"".join([rows[last][node.end_col_offset or 0 :], *rows[last + 1 :]])
    return before.decode() + text + after.decode()


def _with_source(content: Mapping[str, Any], cell: Cell, source: str) -> dict[str, Any]:
    made = dict(copy.deepcopy(dict(content)))
    one = made["cells"][cell.position]
    one["source"] = source if isinstance(one.get("source"), str) else source.splitlines(keepends=True)
    return made
