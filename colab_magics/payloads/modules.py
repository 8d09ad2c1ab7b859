"""What of the project's own code a notebook imports or executes: a hash for each file, found without importing any.

The edit of a module makes a finished run another one, as the edit of a cell does (see `code`). Installed packages do
not count, nor does what stands among the data.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
import stat
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NamedTuple

from ..checkout.project import DATA_JOB, DATA_PROJECT
from . import uses
from .code import code_cells, normal_form
from .uses import Folder, Import, Script, Use, Written

_NOT_OURS = {"site-packages", "dist-packages", ".venv", DATA_JOB, DATA_PROJECT}
_SUFFIXES = (*EXTENSION_SUFFIXES, ".py")
"""What a module's file ends with, in the order in which Python looks."""


def imported(sources: Iterable[str], roots: Sequence[Path], base: Path) -> dict[str, str]:
    """Hash the project's files that code cells import or execute, and what these import in turn.

    Parameters
    ----------
    sources : iterable of str
        The code cells.
    roots : sequence of Path
        The folders of the project from which it imports, in Python's order; the last is the one that it runs in.
        Nothing outside of them is read.
    base : Path
        Where the names of the result begin.

    Returns
    -------
    dict of str to str
        Path relative to `base` → hash, without comments and layout. A file that Python cannot parse counts as it
        stands. What a cell writes itself (``%%writefile``) is left out: the cell counts.
    """
    walk = _Walk([os.path.realpath(root) for root in roots])
    with warnings.catch_warnings():
        # What Python says of a file's escapes belongs to its import, not to our look at it.
        warnings.simplefilter("ignore")
        walk.follow([use for source in sources for use in uses.of_cell(source)])
    start = os.path.realpath(base)
    found = {os.path.relpath(path, start): value for path, value in walk.files.items()}
    # A name that is no text, which the file system allows, could not be written into a record.
    return {name.encode(errors="backslashreplace").decode(): found[name] for name in sorted(found)}


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Say which files differ, were added or are gone, in the order of their names."""
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


class _File(NamedTuple):
    hash: str
    uses: tuple[Use, ...] = ()
    exports: tuple[str, ...] = ()
    """What ``from package import *`` takes: its ``__all__``."""


class _Walk:
    """Follows names from file to file, and keeps the hash of each.

    A file is looked at once for each list of folders that it is looked up in: a script brings its own folder.
    """

    def __init__(self, roots: Sequence[str]) -> None:
        self.roots = tuple(dict.fromkeys(root.rstrip("/") for root in roots))
        self.files: dict[str, str] = {}
        self._written: set[str] = set()
        self._seen: set[tuple[str, tuple[str, ...]]] = set()
        self._known: dict[tuple[tuple[str, ...], str, tuple[str, ...]], tuple[str, ...]] = {}
        self._todo: list[tuple[Sequence[Use], str, tuple[str, ...]]] = []

    def follow(self, of_cells: Sequence[Use]) -> None:
        """Find what the cells ask for, and all that it leads to."""
        search = self.roots
        for use in of_cells:
            if isinstance(use, Folder):
                # Modules are looked up here last, scripts first.
                search += tuple([place for place in self._places(use.path, search) if os.path.isdir(place)][:1])
            elif isinstance(use, Written):
                self._written.update(self._places(use.path, search))
        self._todo.append((of_cells, "", search))
        while self._todo:
            asked, folder, search = self._todo.pop()
            for use in asked:
                if isinstance(use, Import):
                    self._import(use, folder, search)
                elif isinstance(use, Script):
                    self._execute(use, search)

    def _execute(self, use: Script, search: tuple[str, ...]) -> None:
        for path in self._places(use.path, search):
            if self._is_file(path, (os.path.dirname(path), *search)):
                return

    def _places(self, path: str, search: Sequence[str]) -> list[str]:
        """Return what a path can mean, the likeliest first, without what lies outside of the project."""
        places = [os.path.normpath(os.path.join(folder, path)) for folder in reversed(search)]
        return [place for place in dict.fromkeys(places) if self._is_ours(place)]

    def _is_ours(self, path: str) -> bool:
        inside = [path[len(root) :] for root in self.roots if f"{path}/".startswith(f"{root}/")]
        return bool(inside) and not any(_NOT_OURS & set(part.split("/")) for part in inside)

    def _import(self, use: Import, folder: str, search: tuple[str, ...]) -> None:
        places, parts = search, [part for part in use.module.split(".") if part]
        if use.level:
            # The folder of a package's file is the package; a cell belongs to none.
            for _ in range(use.level - 1):
                folder = os.path.dirname(folder)
            places = (folder,) if folder else ()
        elif not parts or parts[0] in sys.builtin_module_names:
            return
        for part in parts:
            places = self._enter(places, part, search)
        for name in use.names:
            for one in self._exports(places) if name == "*" else [name]:
                self._enter(places, one, search)

    def _enter(self, places: tuple[str, ...], name: str, search: tuple[str, ...]) -> tuple[str, ...]:
        """Find a module in folders; return the folders that its own modules lie in, none when it is no package."""
        key = (places, name, search)
        if key not in self._known:
            self._known[key] = self._find(places, name, search) if name.isidentifier() else ()
        return self._known[key]

    def _find(self, places: tuple[str, ...], name: str, search: tuple[str, ...]) -> tuple[str, ...]:
        portions = []
        for place in places:
            stem = f"{place}/{name}"
            folder = os.path.isdir(stem)
            if folder and self._is_file(f"{stem}/__init__.py", search):
                return (stem,)
            if any(self._is_file(stem + suffix, search) for suffix in _SUFFIXES):
                return ()
            if folder:
                portions.append(stem)
        # Without an __init__.py all folders of that name are one package.
        return tuple(portions)

    def _exports(self, places: tuple[str, ...]) -> tuple[str, ...]:
        files = [os.path.realpath(f"{place}/__init__.py") for place in places]
        found = [_look(file) for file in files if self._is_ours(file)]
        return tuple(name for file in found if file is not None for name in file.exports)

    def _is_file(self, path: str, search: tuple[str, ...]) -> bool:
        """Whether a file is there; if it is the project's, it counts, and what it asks for will be followed."""
        real = os.path.realpath(path) if os.path.isfile(path) else ""
        if real and (path, search) not in self._seen:
            self._seen.add((path, search))
            file = _look(real) if self._is_ours(path) and self._is_ours(real) else None
            if file is not None:
                if path not in self._written:
                    self.files[real] = file.hash
                self._todo.append((file.uses, os.path.dirname(path), search))
        return bool(real)


def _look(path: str) -> _File | None:
    """Read a file; None when it is none, or cannot be read."""
    try:
        found = os.stat(path)
        return _read(path, found.st_mtime_ns, found.st_size) if stat.S_ISREG(found.st_mode) else None
    except (OSError, ValueError):
        return None


@functools.lru_cache(maxsize=4096)
def _read(path: str, mtime_ns: int, size: int) -> _File:
    data = Path(path).read_bytes()
    form, asked, exports = data.hex(), list[Use](), tuple[str, ...]()
    try:
        if path.endswith(".py"):
            tree = ast.parse(data)
            form, asked, exports = ast.unparse(tree), list(uses.of_tree(tree)), _exported(tree)
        elif path.endswith((".ipynb", ".ipy")):
            cells = _cells(path, data)
            form, asked = json.dumps([normal_form(cell) for cell in cells]), [u for c in cells for u in uses.of_cell(c)]
        elif path.endswith(".sh"):
            asked = list(uses.of_shell(data.decode(errors="replace")))
    except (SyntaxError, ValueError, TypeError, AttributeError, RecursionError, MemoryError):
        form, asked, exports = data.hex(), [], ()  # it is not what its name says
    return _File(hashlib.sha256(form.encode(errors="surrogatepass")).hexdigest()[:16], tuple(asked), exports)


def _cells(path: str, data: bytes) -> list[str]:
    return [data.decode()] if path.endswith(".ipy") else [cell.source for cell in code_cells(json.loads(data))]


def _exported(tree: ast.Module) -> tuple[str, ...]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == "__all__" for target in node.targets):
            values = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else []
            return tuple(one.value for one in values if isinstance(one, ast.Constant) and isinstance(one.value, str))
    return ()
