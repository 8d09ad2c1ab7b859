"""The house rules that a machine can see: floors, sizes, docstrings, and what no module may do.

Each rule is a function from a module (its path below ``colab_magics/`` and its syntax tree) to complaints. The rules
are held against the package, and against small modules that break them: a rule that finds nothing is no rule.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

import colab_magics
from colab_magics.records import names
from colab_magics.verbs import FUNCTIONS, subcommands

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "colab_magics"
MODULES = sorted(PACKAGE.rglob("*.py"))

GROUND = ("archives", "errors", "units", "line", "process", "files", "foreign", "pipes", "registry", "ui", "session")
FLOORS = (
    GROUND,
    *(
        (room,)
        for room in ("colab", "transport", "relay", "mirror", "checkout", "queues", "records", "tunnels", "engines")
    ),
    *((room,) for room in ("kernels", "payloads", "bundle", "runs", "verbs", "faces")),
    ("__init__", "__main__"),
)
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
BEFOREHAND = PurePosixPath("kernels/preload.py")
"""Lists modules for another process, by name, to be imported before a run's own lines do; it imports none of them."""
FREE = {"__version__", "VERBS"}
"""Constants of the top module that every floor may read: they are there before anything else is imported."""

MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 70


def room_of(path: PurePosixPath) -> str:
    """Name the room of a module: its folder, or the module itself at the top."""
    return path.parts[0].removesuffix(".py")


def imports(tree: ast.AST, path: PurePosixPath) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything that a module imports, also inside functions and by name."""
    package = ["colab_magics", *path.parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{stem}.{alias.name}") for alias in node.names)
        elif (
            path != BEFOREHAND
            and isinstance(node, ast.Constant)
            and re.fullmatch(r"colab_magics(\.\w+)+(:\w+)?", str(node.value))
        ):
            # "module:Class" of a registry, which is imported later; or a program, which is started
            yield node.lineno, str(node.value).replace(":", ".")


def imports_upwards(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    """A floor imports what lies below it, and its own room."""
    here = room_of(path)
    for line, name in imports(tree, path):
        parts = name.split(".")
        if parts[0] != "colab_magics" or (len(parts) == 2 and parts[1] in FREE):
            continue
        there = parts[1] if len(parts) > 1 else "__init__"
        there = there if there in HEIGHT else "__init__"
        if there != here and not (HEIGHT[there] < HEIGHT[here] or {here, there} <= set(GROUND)):
            yield f"{path}:{line}: {here} imports {name}, which lies above it"


STANDS_ALONE = ("engines/ray/node.py",)
"""Taken to other machines as they are, before our package is there."""


def imports_of_others(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    """IPython belongs to faces and kernels, google.colab to colab, subprocess to process.py and pipes.py."""
    keepers = {
        "IPython": ("faces", "kernels"),
        "ipykernel": ("faces", "kernels"),
        "google.colab": ("colab",),
        "subprocess": ("process", "pipes"),
    }
    for_types = {
        part.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for part in node.body
    }
    for line, name in imports(tree, path):
        if line in for_types:
            continue
        for foreign, rooms in keepers.items():
            alone = foreign == "subprocess" and path.as_posix() in STANDS_ALONE
            if f"{name}.".startswith(f"{foreign}.") and room_of(path) not in rooms and not alone:
                yield f"{path}:{line}: only {' and '.join(rooms)} may import {foreign}"


def spells_file_names(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    """The names of runs' files stand in records/names.py; programs that stand alone cannot read them there."""
    below = HEIGHT[room_of(path)] < HEIGHT["records"]  # where the same word means another file
    if below or path.as_posix() in ("records/names.py", "kernels/zygote.py"):
        return
    known = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in known:
            yield f"{path}:{node.lineno}: spells {node.value!r}, which records/names.py names"


def calls_forbidden(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    """No eval, no exec, no shell; verbs do not print; a user's input is not checked by assert."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield f"{path}:{node.lineno}: assert (python -O takes it away; raise an error that says the mend)"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in ("eval", "exec", "os.system", "os.popen"):
            yield f"{path}:{node.lineno}: calls {called}()"
        if called == "print" and room_of(path) == "verbs":
            yield f"{path}:{node.lineno}: a verb prints; it returns a handle, or talks through session.current().ui"
        if any(word.arg == "shell" and getattr(word.value, "value", None) is True for word in node.keywords):
            yield f"{path}:{node.lineno}: shell=True"


def silent_handlers(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    """No error of every kind is swallowed without a word."""
    broad = ("Exception", "BaseException")

    def is_broad(kind: ast.expr | None) -> bool:
        kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
        return any(one is None or ast.unparse(one) in broad for one in kinds)

    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and is_broad(node.type):
            empty = all(
                isinstance(part, ast.Pass | ast.Continue | ast.Break)
                or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
                for part in node.body
            )
            raises = any(isinstance(part, ast.Raise) for part in ast.walk(node))
            if empty or (node.type is None and not raises):
                yield f"{path}:{node.lineno}: swallows every error in silence"
        elif isinstance(node, ast.Call) and re.fullmatch(r"(\w+\.)?suppress", ast.unparse(node.func)):
            yield from (f"{path}:{node.lineno}: suppresses every error" for kind in node.args if is_broad(kind))


def asks_for_the_session(path: PurePosixPath, tree: ast.AST) -> Iterator[str]:
    """Verbs and faces know which session this is; the floors below get what they need of it as arguments."""
    if HEIGHT[room_of(path)] >= HEIGHT["verbs"] or path == PurePosixPath("session.py"):
        return
    asking = {f"colab_magics.session.{name}" for name in ("current", "activate", "deactivate")}
    yield from (f"{path}:{line}: asks for the session" for line, name in imports(tree, path) if name in asking)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and f"colab_magics.{ast.unparse(node)}" in asking:
            yield f"{path}:{node.lineno}: asks for the session; the verb hands down what is needed of it"


def sizes(path: PurePosixPath, tree: ast.Module) -> Iterator[str]:
    """Short modules of short functions."""
    end = max((node.end_lineno or 0 for node in tree.body), default=0)
    if end > MOST_LINES:
        yield f"{path}: {end} lines; split it"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # What a verb's signature and docstring say to users is no code.
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1
            if length > MOST_LINES_OF_A_FUNCTION:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines"


def missing_docstrings(path: PurePosixPath, tree: ast.Module) -> Iterator[str]:
    """Every module, and every public function and class of it, says what it is for."""
    if not ast.get_docstring(tree):
        yield f"{path}: no module docstring"
    named = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef))
    for node in named:
        if not node.name.startswith("_") and not ast.get_docstring(node):
            yield f"{path}:{node.lineno}: {node.name} has no docstring"


Rule = Callable[[PurePosixPath, ast.Module], Iterator[str]]
RULES: tuple[Rule, ...] = (
    imports_upwards,
    imports_of_others,
    spells_file_names,
    calls_forbidden,
    silent_handlers,
    asks_for_the_session,
    sizes,
    missing_docstrings,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    complaints = [
        complaint
        for file in MODULES
        for complaint in rule(PurePosixPath(file.relative_to(PACKAGE).as_posix()), ast.parse(file.read_text()))
    ]
    assert not complaints, "\n" + "\n".join(complaints)


def test_every_module_has_a_place_on_a_floor() -> None:
    rooms = {room_of(PurePosixPath(file.relative_to(PACKAGE).as_posix())) for file in MODULES}
    assert {"verbs", "runs", "faces", "ui", "__init__"} <= rooms
    assert rooms <= set(HEIGHT)


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (imports_upwards, "runs/run.py", "from ..verbs.fork import fork"),
        (imports_upwards, "runs/run.py", "from .. import verbs"),
        (imports_upwards, "runs/run.py", "from colab_magics import fork"),
        (imports_upwards, "runs/run.py", "import colab_magics.faces.magics"),
        (imports_upwards, "runs/run.py", "import colab_magics"),
        (imports_upwards, "runs/run.py", "def f():\n    from ..faces import magics"),
        (imports_upwards, "ui.py", "from .transport import ssh"),
        (imports_upwards, "engines/__init__.py", "E = {'x': 'colab_magics.runs.plan:Plan'}"),
        (imports_upwards, "engines/local.py", "RUNNER = 'colab_magics.runs.runner'"),
        (spells_file_names, "engines/local.py", "f = folder / 'run.json'"),
        (imports_of_others, "verbs/fork.py", "from IPython import get_ipython"),
        (imports_of_others, "runs/runner.py", "def f():\n    import ipykernel.kernelapp"),
        (imports_of_others, "verbs/project.py", "from google.colab import drive"),
        (imports_of_others, "verbs/project.py", "from google import colab"),
        (imports_of_others, "mirror/rsync.py", "import subprocess"),
        (calls_forbidden, "faces/magics.py", "eval('1')"),
        (calls_forbidden, "faces/magics.py", "exec('x = 1', {})"),
        (calls_forbidden, "process.py", "subprocess.run('ls', shell=True)"),
        (calls_forbidden, "verbs/fork.py", "def fork():\n    print('five runs')"),
        (calls_forbidden, "units.py", "assert value > 0, 'too small'"),
        (silent_handlers, "ui.py", "try:\n    f()\nexcept:\n    pass"),
        (silent_handlers, "ui.py", "try:\n    f()\nexcept:\n    x = 1"),
        (silent_handlers, "ui.py", "try:\n    f()\nexcept Exception:\n    pass"),
        (silent_handlers, "ui.py", "for x in y:\n  try:\n    f()\n  except (OSError, Exception) as e:\n    continue"),
        (silent_handlers, "ui.py", "with contextlib.suppress(Exception):\n    f()"),
        (asks_for_the_session, "runs/run.py", "from .. import session\nui = session.current().ui"),
        (asks_for_the_session, "kernels/live.py", "from ..session import current"),
        (asks_for_the_session, "colab/runtime.py", "def f():\n    from ..session import current as here"),
        (asks_for_the_session, "ui.py", "session.activate(Session())"),
        (sizes, "ui.py", "\n".join(f"x{n} = 0" for n in range(401))),
        (sizes, "ui.py", "def f():\n" + "\n".join(f"    x{n} = 0" for n in range(71))),
        (missing_docstrings, "ui.py", "x = 1"),
        (missing_docstrings, "ui.py", "'''Doc.'''\ndef public(): ..."),
        (missing_docstrings, "ui.py", "'''Doc.'''\nclass Public: ..."),
    ],
)
def test_the_rule_sees_what_breaks_it(rule: Rule, path: str, source: str) -> None:
    assert list(rule(PurePosixPath(path), ast.parse(source)))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("verbs/fork.py", "'''Doc.'''\nfrom .. import session\nfrom ..runs import run\nfrom . import subcommand"),
        ("faces/app.py", "'''Doc.'''\nfrom .. import VERBS, __version__\nimport IPython"),
        ("session.py", "'''Doc.'''\nfrom .ui import UI"),
        ("runs/in_run.py", "'''Doc.'''\nfrom .. import session\nfrom ..session import Session\nsession.run_folder()"),
        ("session.py", "'''Doc.'''\nif TYPE_CHECKING:\n    import subprocess"),
        ("colab/runtime.py", "'''Doc.'''\nfrom google.colab import drive"),
        ("runs/run.py", "'''Doc.'''\nimport google.auth\nimport IPythonic\nfrom ..kernels import cold"),
        ("ui.py", "'''Doc.'''\ntry:\n    f()\nexcept Exception as e:\n    log.warning(e)\nretrieval(exec_)"),
        ("ui.py", "'''Doc.'''\ntry:\n    f()\nexcept BaseException:\n    clean()\n    raise"),
        ("ui.py", "'''Doc.'''\ntry:\n    f()\nexcept OSError:\n    pass\ndef _private(): ..."),
    ],
)
def test_the_rules_allow_what_is_fine(path: str, source: str) -> None:
    assert [complaint for rule in RULES for complaint in rule(PurePosixPath(path), ast.parse(source))] == []


def test_the_version_has_one_source() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["project"]["dynamic"] == ["version"]
    assert "version" not in settings["project"]
    assert settings["tool"]["hatch"]["version"] == {"path": "colab_magics/__init__.py"}
    assigned = [file for file in MODULES if re.search(r"^\s*__version__\s*[:=]", file.read_text(), re.M)]
    assert assigned == [PACKAGE / "__init__.py"]
    copies = [file for file in MODULES if colab_magics.__version__ in file.read_text()]
    assert copies == [PACKAGE / "__init__.py"]


def test_every_verb_has_its_file_and_every_file_its_verb() -> None:
    # Some words of a verb may stand in a file of their own, named after it: jobs_results.py.
    files = {file.stem.partition("_")[0] for file in (PACKAGE / "verbs").glob("*.py") if file.stem != "__init__"}
    assert files == {*colab_magics.VERBS, *FUNCTIONS.values()}  # for runs' own code: functions, and no lines
    assert all(inspect.isfunction(getattr(colab_magics, verb)) for verb in colab_magics.VERBS)


def undocumented(function: Callable[..., object]) -> list[str]:
    """List what a verb's docstring leaves out, and parameters that are neither positional-only nor keyword-only."""
    text = inspect.getdoc(function) or ""
    sections = re.split(r"^(\w[\w ]*)\n-+$", text, flags=re.M)
    parameters = sections[sections.index("Parameters") + 1] if "Parameters" in sections else ""
    documented = {
        name.strip().lstrip("*")
        for line in re.findall(r"^(\*{0,2}\w[\w*, ]*?)(?: ?:.*)?$", parameters, flags=re.M)
        for name in line.split(",")
    }
    found = [] if text else ["no docstring"]
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in documented:
            found.append(f"parameter {name} is not documented")
        # The parameter that takes a cell's body is no word of a line.
        of_body = name == getattr(function, "body", None)
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and not of_body:
            found.append(f"parameter {name} is both a word and an option: say which")
        if parameter.annotation is inspect.Parameter.empty:
            found.append(f"parameter {name} has no type")
    return found


@pytest.mark.parametrize("verb", colab_magics.VERBS)
def test_every_verb_documents_every_parameter(verb: str) -> None:
    function = getattr(importlib.import_module(f"colab_magics.verbs.{verb}"), verb)
    for one in (function, *subcommands(function).values()):
        assert undocumented(one) == [], f"{verb}: {one.__name__}"


def test_a_parameter_left_out_of_the_docstring_is_seen() -> None:
    def good(word: str, /, *, every: str, to: str = "") -> None:
        """Do it.

        Parameters
        ----------
        word : str
            A word.
        every, to : str
            Options.
        """

    def bad(word, *, every: str) -> None:  # type: ignore[no-untyped-def]  # noqa: D417
        """Do it.

        Parameters
        ----------
        word : str
            Where every other thing is named.

        Returns
        -------
        every : str
        """

    assert undocumented(good) == []
    assert undocumented(bad) == [
        "parameter word is both a word and an option: say which",
        "parameter word has no type",
        "parameter every is not documented",
    ]
