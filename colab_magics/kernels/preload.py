"""Which modules a warm start has loaded before the runs begin: installed ones, never the project's own.

A project's modules are small, change between runs, and do things when they are imported; what takes seconds is
installed. A module that cannot be imported is none that the notebook needs at once.

Only the standard library: the zygote loads it by its path, for a kernel of another environment has other modules.
"""

from __future__ import annotations

import ast
import os.path
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any

_OURS = "colab_magics"
_NOT = {
    "__main__",
    "__mp_main__",
    "ipykernel",
    "ipykernel_launcher",
    "IPython",
    "google",
    "papermill",
    "nbclient",
    "cyclopts",
    "attr",
    "attrs",
    _OURS,
}
"""Of the kernel itself, of this package and what reads its lines (no run reads them so), or of Colab's front end; what
a module of the notebook takes along comes with it all the same."""
_DEBUGGER = ("debugpy", "pydev", "_pydev")
_IN_RUNS = ("colab_magics.faces.magics", "colab_magics.faces.in_run", "IPython.core.magics.extension")
"""What a run's ``%load_ext colab_magics`` and our lines need: where the notebook says it, it is in ``sys.modules``
anyhow."""


_AT_FIRST_USE = {"pyarrow": ("pyarrow.vendored.version", "pyarrow.pandas_compat")}
"""What packages import when pandas first uses them, which each run would do for itself."""


def loaded_here() -> list[str]:
    """Return the installed modules that this process has loaded."""
    folders = _folders()
    modules = list(sys.modules.items())
    names = [name for name, module in modules if _counts(name, getattr(module, "__spec__", None), folders)]
    later = [name for top, others in _AT_FIRST_USE.items() if {top, "pandas"} <= sys.modules.keys() for name in others]
    return [*names, *installed(later), *(_IN_RUNS if _IN_RUNS[0] in sys.modules else ())]


def kernel_here() -> list[str] | None:
    """Return what the start of this process, a kernel, has imported of IPython's; None where it is no kernel.

    What IPython's configuration has it load counts too: on Colab /etc/ipython names google.colab for every kernel.
    """
    app = getattr(sys.modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
    if app is None or not app.initialized():
        return None
    loads = {"IPython", "ipykernel", *app.instance().extensions} - {_OURS}
    return [name for name in list(sys.modules) if not loads.isdisjoint((name, *_above(name)))]


def _above(name: str) -> Iterator[str]:
    """Yield the packages that a module lies in."""
    while name := name.rpartition(".")[0]:
        yield name


def imported_by(content: Mapping[str, Any]) -> list[str]:
    """Return the installed modules that the cells of a notebook import, in their order."""
    return installed(named_by(content))


def named_by(content: Mapping[str, Any]) -> list[str]:
    """Return all modules that the cells of a notebook import, in their order."""
    names: dict[str, None] = {}
    for cell in content.get("cells", []):
        if cell.get("cell_type") == "code":
            source = cell.get("source", "")
            names |= dict.fromkeys(_imports("".join(source) if isinstance(source, list) else source))
    return list(names)


def installed(names: Iterable[str]) -> list[str]:
    """Return those that are installed where this code runs."""
    folders = _folders()
    return [name for name in names if name in _IN_RUNS or _installed(name, folders)]


def _imports(source: str) -> Iterable[str]:
    # Lines of IPython's own are no Python; the statements around them are.
    lines = [line if not line.lstrip().startswith(("%", "!")) else "" for line in source.splitlines()]
    if any(line.strip().startswith(f"%load_ext {_OURS}") for line in source.splitlines()):
        yield from _IN_RUNS
    try:
        tree = ast.parse("\n".join(lines))
    except SyntaxError:
        return
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            # What is imported from a package may be a module.
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")


def _installed(name: str, folders: tuple[str, ...]) -> bool:
    top = name.partition(".")[0]
    try:
        return _counts(name, find_spec(top), folders)
    except (ImportError, ValueError, AttributeError):
        return False


def _counts(name: str, spec: Any, folders: tuple[str, ...]) -> bool:
    top, *rest = name.split(".")
    if spec is None or top in _NOT or top.startswith(_DEBUGGER) or any(part.startswith("_") for part in rest):
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    if places and places[0] in ("built-in", "frozen"):
        return True
    return bool(places) and places[0].startswith(folders)


def _folders() -> tuple[str, ...]:
    """Return where what is installed stands, each with a slash at its end: asked once for a thousand modules."""
    own = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    # Debian's too, which Colab uses
    own |= {folder for folder in sys.path if os.path.basename(folder) in ("site-packages", "dist-packages")}
    return tuple(f"{folder}/" for folder in own)
