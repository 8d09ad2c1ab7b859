"""Every error of ours says what to do: the places that make one are read, without being executed."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from colab_magics.errors import ColabMagicsError
from colab_magics.faces.signature import MAGIC, SHELL, options, takes_others
from colab_magics.verbs import VERBS, load, subcommands

PACKAGE = Path(__file__).resolve().parents[1] / "colab_magics"
TREES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}

BETWEEN_MACHINES = "a question that only a defect of ours can ask; it is answered so over the connection"
AGAIN = "a state between two programs of ours: the engine tries again by itself, and says so in its own words"
WORDED_ABOVE = "what a program or a thread said; whoever called it says what that means, and the mend"
IN_A_NOTE = "said in a pod, where it becomes a note of its run"
WITHOUT = {
    "engines/ray/there.py": BETWEEN_MACHINES,
    "engines/ssh/attempts.py": BETWEEN_MACHINES,
    "engines/ssh/code.py": BETWEEN_MACHINES,
    "engines/ssh/there.py": BETWEEN_MACHINES,
    "engines/kubernetes/cluster.py": AGAIN,
    "engines/kubernetes/home.py": AGAIN,
    "engines/kubernetes/results.py": IN_A_NOTE,
    "engines/ray/nodes.py": AGAIN,
    "engines/slurm/engine.py": AGAIN,
    "engines/ssh/beside.py": AGAIN,
    "engines/ssh/companions.py": AGAIN,
    "engines/ssh/engine.py": AGAIN,
    "engines/ssh/folders.py": AGAIN,
    "engines/ssh/host.py": AGAIN,
    "engines/ssh/hosts.py": AGAIN,
    "checkout/project.py": WORDED_ABOVE,
    "process.py": WORDED_ABOVE,
    "relay/ports.py": WORDED_ABOVE,
    "transport/hosts_file.py": WORDED_ABOVE,
    "transport/places/bucket_store.py": WORDED_ABOVE,
}
"""The modules that make an error without a mend, and why."""


@cache
def errors() -> dict[str, str]:
    """Return all classes of the tree by their names, with the modules that hold them."""
    known, before = {"ColabMagicsError": "errors.py"}, 0
    while before != len(known):
        before = len(known)
        for path, tree in TREES.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and any(_name(base) in known for base in node.bases):
                    known.setdefault(node.name, path)
    return known


def _name(node: ast.AST) -> str:
    return getattr(node, "id", getattr(node, "attr", ""))


def without_mend(tree: ast.AST, known: set[str]) -> Iterator[tuple[int, str]]:
    """Yield line and code of each error that is made without a mend, or with an empty one."""
    own = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    # A module may have an exception of its own that is called like one of the tree.
    known = known - {node.name for node in own if not any(_name(base) in known for base in node.bases)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or _name(node.func) not in known:
            continue
        words = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "mend")]
        handed_on = any(isinstance(word, ast.Starred) for word in node.args)
        if not handed_on and not any(not isinstance(word, ast.Constant) or word.value for word in words):
            yield node.lineno, ast.unparse(node)


def test_errors_have_a_mend() -> None:
    found = {path: bad for path, tree in TREES.items() if (bad := list(without_mend(tree, set(errors()))))}
    assert {path: bad for path, bad in found.items() if path not in WITHOUT} == {}
    assert sorted(found) == sorted(WITHOUT), "an exception that is none any more"


def test_what_has_no_mend_is_found() -> None:
    bad = "NotFound('x')\nraise errors.Busy('x', '')\nRefused(what='x')\nInvalidInput('x', mend='')"
    good = "NotFound('x', 'y')\nBusy(f'{x}', mend)\nRefused(*problem.args)\nInvalidInput('x', mend='y')\nother('x')"
    assert [line for line, _ in without_mend(ast.parse(bad), set(errors()))] == [1, 2, 3, 4]
    assert not list(without_mend(ast.parse(good), set(errors())))
    assert not list(without_mend(ast.parse("class Refused(Exception): ...\nRefused('x')"), set(errors())))


@pytest.mark.parametrize(("name", "path"), errors().items())
def test_every_error_shows_its_mend(name: str, path: str) -> None:
    module = importlib.import_module(f"colab_magics.{path.removesuffix('.py').replace('/', '.')}")
    kind = getattr(module, name)
    assert issubclass(kind, ColabMagicsError)
    assert str(kind("It is gone.", "Make it anew.")) == "It is gone.\n→ Make it anew."


MENTION = re.compile(r"(?<![\w%])%(?=[a-z])")
NOT_OURS = {"run", "pip"}
"""Magics of IPython that messages name."""


def said(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """Yield what errors say, and their mends, with an X for each value."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in known:
            for word in [*node.args[:2], *(keyword.value for keyword in node.keywords if keyword.arg == "mend")]:
                for part in (word.body, word.orelse) if isinstance(word, ast.IfExp) else (word,):
                    if isinstance(part, ast.JoinedStr):
                        yield "".join(str(one.value) if isinstance(one, ast.Constant) else "X" for one in part.values)
                    elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.value


def unknown(text: str) -> Iterator[str]:
    """Yield the verbs and options that a text names and that are none."""
    for line in MENTION.split(text)[1:]:
        sentence = re.split(r"[.;:,)](?:\s|$)", line)[0]
        name, *words = sentence.split()
        name = re.match(r"\w+", name)[0]  # type: ignore[index]
        if name not in VERBS:
            yield from [name] if name not in NOT_OURS else []
            continue
        functions = [load(name), *subcommands(load(name)).values()]
        if words and words[0] in subcommands(load(name)):
            functions = [subcommands(load(name))[words[0]]]
        if not any(takes_others(function) for function in functions):
            keys = {key.replace("-", "_") for function in functions for key in options(function)}
            named = re.findall(r"(?<=\s)(?:--)?([a-z_-]+)=", sentence) + re.findall(r"(?<=\s)--([a-z-]+)", sentence)
            yield from (key for key in named if key.replace("-", "_").removeprefix("no_") not in keys)


@pytest.mark.parametrize(
    "path", [path for path, tree in TREES.items() if any("%" in one for one in said(tree, set(errors())))]
)
def test_what_errors_name_is_there_in_both_faces(path: str) -> None:
    for text in said(TREES[path], set(errors())):
        assert not list(unknown(text)), text
        assert MAGIC.text(text) == text
        in_shell = SHELL.text(text)
        left = [part for part in re.split(r"(?<=[.:;!?])\s", in_shell) if any(f"%{verb}" in part for verb in VERBS)]
        assert all(re.search(r"(?i)\bcells?\b|notebook|%%", part) for part in left), in_shell
        assert not re.search(r"colab-magics \w+\?", in_shell), in_shell


def test_what_is_none_is_found() -> None:
    assert list(unknown("Say %frok n=3, or %sync evry=5m")) == ["frok", "evry"]
    assert list(unknown("%jobs table sort=loss; %jobs retry failed sort=loss")) == ["sort"]
    assert not list(unknown("%fork n=5 --try or %sync now"))


@pytest.mark.parametrize(
    ("text", "shell"),
    [
        ("%jobs kill 3 ends it. See %fork?", "colab-magics jobs kill 3 ends it. See colab-magics fork --help"),
        (
            "Cell 4 says %stop, above this %fork: %jobs shows",
            "Cell 4 says %stop, above this %fork: colab-magics jobs shows",
        ),
        ("%sync to=drive; %%fork takes a grid; 5%jobs", "colab-magics sync to=drive; %%fork takes a grid; 5%jobs"),
        ("Install it: %pip install x", "Install it: pip install x"),
        ("Name it: %fork notebook=a.ipynb", "Name it: colab-magics fork notebook=a.ipynb"),
    ],
)
def test_each_face_speaks_its_own_language(text: str, shell: str) -> None:
    assert (MAGIC.text(text), SHELL.text(text)) == (text, shell)
