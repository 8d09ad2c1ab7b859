"""What code asks for by name: the modules that it imports, the scripts that it executes.

Reads text alone. What a name leads to, `modules` finds out.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from .code import as_python


class Import(NamedTuple):
    """An import: the module's dotted name, what is taken from it, and how many dots stood before the name."""

    module: str
    names: tuple[str, ...] = ()
    level: int = 0


class Script(NamedTuple):
    """A file that is executed, as it was written."""

    path: str


class Folder(NamedTuple):
    """A folder from which modules and scripts are taken from now on: `sys.path.append`, ``%cd``."""

    path: str


class Written(NamedTuple):
    """A file that a cell writes (``%%writefile``): the cell's text counts, not what stands in the file before."""

    path: str


Use = Import | Script | Folder | Written

_MAGIC = re.compile(r"^[ \t]*(?:[\w, .\[\]]+=[ \t]*)?(%%?|!!?)(.*)$", re.MULTILINE)
_CONTINUED = re.compile(r"^([ \t]*(?:[\w, .\[\]]+=[ \t]*)?[%!].*)\\\n", re.MULTILINE)
_SHELLS = ("bash", "sh", "script", "!", "sx", "system")
_STATEMENTS = ("time", "timeit", "prun")
_RUNNER = re.compile(
    r"(.*/)?(python[\d.]*|ipython3?|pypy3?|bash|sh|zsh|source|torchrun|accelerate|deepspeed|papermill|jupyter|uv)"
    r"|\.|\{sys\.executable\}"
)
_SCRIPT = re.compile(r".+\.(py|ipy|ipynb|sh)")


def of_cell(source: str) -> Iterator[Use]:
    """Yield what a code cell asks for: Python and magics.

    Parameters
    ----------
    source : str
        The cell. Of a cell that Python cannot parse only the magics are read.
    """
    text = source.strip()
    while (joined := _CONTINUED.sub(r"\1 ", text)) != text:
        text = joined
    head, _, body = text.partition("\n")
    word, _, rest = head.removeprefix("%%").partition(" ") if head.startswith("%%") else ("", "", "")
    if word in _SHELLS:
        yield from of_shell(body)
        return
    if word in ("writefile", "file"):
        names = [name for name in _words(rest) if name != "-a"]
        yield from (Written(name) for name in names[:1])
        if not names or not names[0].endswith(".py"):
            return
        text = body
    for kind, line in _MAGIC.findall(text):
        yield from of_shell(line) if kind[0] == "!" else _of_magic(line)
    tree = as_python(text)
    if tree is not None:
        yield from of_tree(tree)


def of_tree(tree: ast.AST) -> Iterator[Use]:
    """Yield what Python code asks for, wherever in it: in functions and under conditions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.module or "", tuple(alias.name for alias in node.names), node.level)
        elif isinstance(node, ast.Call):
            yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[Use]:
    texts = [arg.value if isinstance(arg, ast.Constant) and isinstance(arg.value, str) else None for arg in node.args]
    # The dotted name alone, without ast.unparse: there are many calls.
    parts, function = [], node.func
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    called = ".".join([function.id if isinstance(function, ast.Name) else "", *reversed(parts)])
    if called in ("importlib.import_module", "import_module", "__import__") and texts and texts[0]:
        name = texts[0].lstrip(".")
        dots = len(texts[0]) - len(name)
        if dots == 1 and len(texts) > 1 and texts[1]:
            yield Import(f"{texts[1]}.{name}")
        else:
            yield Import(name, level=dots)
    elif called in ("sys.path.append", "sys.path.insert", "os.chdir") and texts and texts[-1]:
        yield Folder(texts[-1])
    elif called == "runpy.run_path" and texts and texts[0]:
        yield Script(texts[0])
    elif called == "runpy.run_module" and texts and texts[0]:
        yield Import(texts[0], ("__main__",))


def _of_magic(line: str) -> Iterator[Use]:
    word, _, rest = line.partition(" ")
    words = _words(rest)
    if word == "run":
        if words[:1] == ["-m"]:
            yield from (Import(name, ("__main__",)) for name in words[1:2])
        else:
            # Some options take a value: the file is the first word that is one.
            file = next((name for name in words if _SCRIPT.fullmatch(name)), None)
            bare = next((name for name in words if not name.startswith("-")), None)
            yield from (Script(name) for name in [file or (bare and f"{bare}.py")] if name)
    elif word in ("load_ext", "reload_ext", "aimport"):
        yield from (Import(name.strip(",-")) for name in words)
    elif word == "cd":
        yield from (Folder(name) for name in words[:1])
    elif word in _STATEMENTS:
        yield from of_cell(rest)
    elif word in _SHELLS:
        yield from of_shell(rest)


def of_shell(text: str) -> Iterator[Use]:
    """Yield what the lines of a shell ask for: scripts of Python and of the shell, and ``python -m NAME``.

    Of other programs nothing is read; a `cd` counts for the rest of the lines.
    """
    folder = ""
    for line in text.replace("\\\n", " ").splitlines():
        for command in _commands(line):
            words = [word for at, word in enumerate(command) if at or not re.fullmatch(r"\w+=.*", word)]
            if words[:1] == ["cd"]:
                folder = "/".join(filter(None, [folder, *words[1:2]]))
                continue
            at = next((at for at, word in enumerate(words) if _RUNNER.fullmatch(word)), None)
            if at is None:
                scripts = [word for word in words[:1] if _SCRIPT.fullmatch(word)]
            else:
                rest = words[at + 1 :]
                scripts = [word for word in rest if _SCRIPT.fullmatch(word)][:1]
                yield from (Import(rest[i + 1], ("__main__",)) for i in range(len(rest) - 1) if rest[i] == "-m")
            yield from (Script(f"{folder}/{word}" if folder and word[0] != "/" else word) for word in scripts)


def _commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each command of a line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError:
        words = line.split()
    command: list[str] = []
    for word in [*words, ";"]:
        if word and set(word) <= set("();<>|&"):
            if command:
                yield command
            command = []
        else:
            command.append(word)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
