"""What a project needs, for an environment on another machine: its requirements files, or a list from its imports."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import InvalidInput
from ..process import read_json
from ..relay.code import Code
from .install import Needs, find, project_lines

WRITTEN = "requirements.txt"
_HEAD = "# Written by colab_magics from what this project imports, in the versions that were installed there.\n"


@dataclass(frozen=True)
class Needed:
    """What is to be installed on another machine.

    Parameters
    ----------
    words : list of str
        What pip is given.
    files : dict of str to bytes
        Requirements files that `words` names, by their paths from the project's folder.
    what : str
        Its name for messages.
    notes : list of str
        What the user should know.
    """

    words: list[str]
    files: dict[str, bytes]
    what: str
    notes: list[str] = field(default_factory=list)


def of_packages(packages: Sequence[str]) -> Needed:
    """Return packages that a user has named.

    Raises
    ------
    InvalidInput
        For one that pip could take for an option.
    """
    for name in packages:
        if not name.strip() or name.startswith("-") or not name.isprintable():
            raise InvalidInput(f"{name!r} is no package.", "Write names as for pip: numpy 'torch>=2.3'.")
    return Needed(list(packages), {}, " ".join(packages))


def of_project(root: Path, requirements: str | None = None) -> Needed:
    """Return what a project needs; where no file says it, one is written from its imports.

    Parameters
    ----------
    root : Path
        The project's folder.
    requirements : str, optional
        A requirements file, relative to `root`.

    Raises
    ------
    InvalidInput
        When nothing says it, a file is outside of the project, or its dependencies are known to a program alone.
    NotFound
        When the file that was named is not there.
    """
    needs = find(root, requirements)
    if needs is not None:
        return _pack(needs, root)
    found = imports(root)
    notes = []
    if found.unknown:
        notes.append(
            f"Nothing here says which packages hold {', '.join(found.unknown)}: where they are needed, name them, "
            "%host install PACKAGE host=NAME"
        )
    if not found.requirements:
        raise InvalidInput(
            " ".join([f"{root} has no requirements file, and imports nothing that could be installed.", *notes]),
            "Name the packages: %host install numpy host=NAME",
        )
    file = found.write(root)
    packed = _pack(Needs(file), root)
    written = f"{file} was written from the imports: {', '.join(found.requirements)}"
    return replace(packed, notes=[written, *notes, *packed.notes])


def _pack(needs: Needs, root: Path) -> Needed:
    """Return what a project's file asks for, with the files that it names."""
    if needs.is_project:
        lines = project_lines(needs.file)
        if lines is None:
            raise InvalidInput(
                f"{needs.file} leaves its dependencies to a program that builds the project.",
                "Write a requirements.txt, or name the packages: %host install numpy host=NAME",
            )
        text = "".join(f"{line}\n" for line in lines)
        return Needed(["--requirement", WRITTEN], {WRITTEN: text.encode()}, _what(len(lines), needs))
    found, left = dict[str, bytes](), list[str]()
    count = _add(needs.file, root.resolve(), found, left)
    notes = [f"Left out, as the project's code goes along by itself: {', '.join(left)}"] if left else []
    name = os.path.relpath(needs.file.resolve(), root.resolve())
    return Needed(["--requirement", name], found, _what(count, needs), notes)


def _what(count: int, needs: Needs) -> str:
    return f"{count} requirement{'s' if count != 1 else ''} of {needs.file.name}"


_OTHER = re.compile(r"\s*(?:-r|--requirement|-c|--constraint)[\s=]*(.+?)\s*$")
_LOCAL = re.compile(r"\s*(?:(?:-e|--editable)[\s=]+)?(\.{1,2}(?:/.*)?|/.*|file:.*|\.\[.*\])\s*$")


def _add(file: Path, root: Path, found: dict[str, bytes], left: list[str]) -> int:
    """Add a requirements file and those that it names; returns how many requirements they hold."""
    real = file.resolve()
    if not real.is_relative_to(root):
        raise InvalidInput(f"{file} is outside of the project {root}.", "Copy it into the project.")
    name = str(real.relative_to(root))
    if name in found:
        return 0
    found[name] = b""
    lines, count = [], 0
    for line in real.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines():
        bare = re.sub(r"(^|\s)#.*", "", line)
        other = _OTHER.match(bare)
        if other and "://" not in other[1]:
            count += _add(real.parent / other[1], root, found, left)
        elif _LOCAL.match(bare):
            left.append(bare.strip())
            continue
        count += bool(bare.strip()) and not bare.strip().startswith("-")
        lines.append(line)
    found[name] = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
    return count


@dataclass(frozen=True)
class Imports:
    """What a project imports that is neither its own nor Python's.

    Parameters
    ----------
    requirements : list of str
        Lines of a requirements file.
    unknown : list of str
        Modules of which nothing here says what package they are of.
    """

    requirements: list[str]
    unknown: list[str]

    def write(self, root: Path) -> Path:
        """Write the requirements into a file of the project, which is not there yet."""
        file = root / WRITTEN
        with open(file, "x", encoding="utf-8") as stream:
            stream.write(_HEAD + "".join(f"{line}\n" for line in self.requirements))
        return file


def imports(root: Path) -> Imports:
    """Look through a project's modules and notebooks for what they import."""
    paths = [path for path in Code(root, include=["*.ipynb"]).changes()[0] if path.endswith((".py", ".ipynb"))]
    stems = {Path(path).stem for path in paths} | {part for path in paths for part in Path(path).parts[:-1]}
    packages = importlib.metadata.packages_distributions()
    lines: dict[str, str] = {}
    unknown: set[str] = set()
    for path in paths:
        for module in _modules(root / path):
            top = module.partition(".")[0]
            if top in sys.stdlib_module_names or top == "colab_magics" or _is_own(root, path, top):
                continue
            names = _of_module(module, packages)
            found = {name: line for name in names if (line := _line(name))}
            lines |= found
            if not found and top not in stems:
                unknown.add(top)
    return Imports(sorted(lines.values(), key=str.lower), sorted(unknown))


def _is_own(root: Path, path: str, top: str) -> bool:
    folders = {root, root / "src", (root / path).parent}
    return any((folder / f"{top}.py").is_file() or (folder / top).is_dir() for folder in folders)


def _modules(file: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports; of ``from a.b import c`` the longest that may be a module."""
    for source in _sources(file):
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue  # no Python, or of another version: whoever runs it will hear of that
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _sources(file: Path) -> Iterator[str]:
    if file.suffix != ".ipynb":
        try:
            yield file.read_text(encoding="utf-8-sig", errors="replace")
        except OSError:
            return
        return
    cells = (read_json(file) or {}).get("cells")
    for cell in cells if isinstance(cells, list) else ():
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            text = cell.get("source")
            lines = "".join(map(str, text)) if isinstance(text, list) else str(text)
            # Lines for IPython or a shell are no Python, and have its indentation.
            yield re.sub(r"(?m)^(\s*)[%!?].*$", r"\1pass", lines)


def _of_module(module: str, packages: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the distributions that hold a module; a name such as ``google`` is shared by many."""
    found = sorted(set(packages.get(module.partition(".")[0], ())))
    parts = module.split(".")
    while len(found) > 1 and len(parts) > 1:
        path = "/".join(parts)
        held = [name for name in found if _holds(name, path)]
        if held:
            return held
        parts.pop()
    return found if len(found) == 1 else []


def _holds(name: str, path: str) -> bool:
    files = importlib.metadata.files(name) or ()
    return any(str(file) == f"{path}.py" or str(file).startswith(f"{path}/") for file in files)


def _line(name: str) -> str:
    """Write a requirement for a distribution as it is here; empty for one that only this machine has."""
    about = importlib.metadata.distribution(name)
    try:
        origin = json.loads(about.read_text("direct_url.json") or "{}")
    except ValueError:
        origin = {}
    vcs = origin.get("vcs_info") if isinstance(origin, dict) else None
    if isinstance(vcs, dict) and {"vcs", "commit_id"} <= vcs.keys():
        return f"{about.name} @ {vcs['vcs']}+{origin['url']}@{vcs['commit_id']}"
    if origin:
        return ""
    # "2.5.1+cu121" is a build that the index of all does not have.
    return f"{about.name}=={about.version.partition('+')[0]}"
