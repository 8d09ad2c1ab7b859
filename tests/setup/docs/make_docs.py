"""Write the reference pages: ``python tests/setup/docs/make_docs.py [FOLDER]``, or ``make docs``.

The pages' source goes to ``FOLDER/source``, laid out as the repository is, so that links between its Markdown files
hold; Sphinx makes ``FOLDER/html`` of it. README, manual, changelog and notebooks come as they are, verbs from their
docstrings and options. A link that leads nowhere, or a name that is not there, is an error.
"""

from __future__ import annotations

import inspect
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from sphinx.ext.napoleon import Config, NumpyDocstring  # noqa: E402 (the path comes first)

from colab_magics.engines import ENGINES, engine_class  # noqa: E402
from colab_magics.engines.options import fields  # noqa: E402
from colab_magics.faces import help_text  # noqa: E402
from colab_magics.faces.signature import MAGIC, SHELL, Option, option_of, options, takes_others  # noqa: E402
from colab_magics.verbs import FUNCTIONS, VERBS, load, subcommands  # noqa: E402

PUBLIC = {
    "Results": {
        "runs.board.Board": "What `%fork`, `%join` and `%submit` return",
        "runs.compare.Result": 'One run of it: `runs.best("loss")`',
        "queues.base.Claim": "One run of a queue, in a script",
        "ui.table.Table": "Rows to show",
    },
    "Errors": {"errors": ""},
    "For packages of yours": {
        "payloads.base": "",
        "engines.base": "",
        "engines.options": "",
        "transport.places.base": "",
        "transport.places.store": "",
        "transport.places.listed_store": "",
        "queues.base": "",
        "queues.sql": "",
    },
}
"""What of the package others may build on: classes, and what they are; modules, which say so themselves."""
_NAPOLEON = Config(napoleon_use_param=False, napoleon_use_rtype=False, napoleon_use_ivar=True)


def markdown(text: str, file: Path, source: Path) -> str:
    """Return a Markdown file of the repository as a page, and bring along what it links to.

    Parameters
    ----------
    text : str
        What it holds.
    file : Path
        The file.
    source : Path
        The folder of the pages' source.
    """

    def link(found: re.Match[str]) -> str:
        path, mark, anchor = found[2].partition("#")
        if not path or re.match(r"\w+:", path):
            return found[0]
        there = file.parent / path
        if there.is_dir():
            path = f"{path.rstrip('/')}/index.md"
        elif there.is_file() and there.suffix == ".ipynb":
            path = path.removesuffix(".ipynb") + ".md"
        elif there == ROOT / "README.md":
            path = path.removesuffix("README.md") + "index.md"
        elif there.is_file() and there.suffix != ".md":
            bring(there.resolve(), source)
        return f"{found[1]}{path}{mark}{anchor}{found[3]}"

    lines, all_, fence = [], text.splitlines(), ""
    for line, following in zip(all_, [*all_[1:], ""], strict=True):
        mark = re.match(r"\s*(```+)(.*)", line)
        if mark and not fence:
            fence = mark[1]
            line += "" if mark[2] else language(following)
        elif mark and not mark[2] and mark[1].startswith(fence):
            fence = ""
        elif not fence:
            line = re.sub(r'^<a id="([\w-]+)"></a>$', r"(\1)=", line)
            line = re.sub(r"(\]\()([^)\s]+)(\))", link, line)
            line = re.sub(r'(\b(?:src|srcset|href)=")([^"]+)(")', link, line)
        lines.append(line)
    return "\n".join(lines) + "\n"


def language(first: str) -> str:
    """Name the lexer for a block that does not say what it is, by its first line."""
    if re.match(r"\s*%%(fork|submit|queue|upload)", first):
        return "yaml"
    return "ipython" if re.match(r"\s*(\w+ = )?[%!]", first) else "text"


def bring(file: Path, source: Path) -> None:
    """Put a file where pages lead to it, and where HTML does that stands in them."""
    inside = file.relative_to(ROOT)
    for top in (source, source / ".extra"):
        (top / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, top / inside)


def notebook(file: Path) -> str:
    """Return a notebook as Markdown."""
    parts = [f"{{download}}`The notebook <{file.name}>`"]
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        lexer = "yaml" if language(text) == "yaml" else "ipython"
        parts.append(text if cell["cell_type"] == "markdown" else f"```{lexer}\n{text}\n```")
    return "\n\n".join([parts[1], parts[0], *parts[2:]]) + "\n"


def verb_page(name: str) -> str:
    """Return the page of a magic: its words and options, from signatures and docstrings."""
    words: list[tuple[str | None, Callable[..., Any]]] = [(None, load(name)), *subcommands(load(name)).items()]
    parts = [title(f"%{name}", "=")]
    for word, function in words:
        if word is not None:
            parts += [f".. _verb-{name}-{word}:", title(f"%{name} {word}", "-")]
        parts += [usage([help_text.usage(name, word, MAGIC)]), docstring(function, options(function))]
        if takes_others(function):
            parts.append("Engines have options of their own: :doc:`/engines`.")
    parts.append(f"In a shell ``colab-magics {name}``, in Python :py:obj:`colab_magics.{name}`.")
    return "\n\n".join(parts) + "\n"


def docstring(function: Any, known: dict[str, Option]) -> str:
    """Return a docstring as reStructuredText, options in it written as users write them."""
    text = inspect.getdoc(function) or ""
    by_name = {option.name: MAGIC.option(option) for option in known.values()}
    name = getattr(function, "__name__", "")
    # Examples are lines of the user's.
    text = re.sub(r"(?m)^(Examples\n-+\n)((?:.+\n?)+)", lambda m: f"{m[1]}::\n\n{indented(m[2])}\n", text)
    made = raises(str(NumpyDocstring(text, _NAPOLEON, what="function", name=name, obj=function)))
    listed = "|".join(map(re.escape, sorted(by_name, key=len, reverse=True)))

    def entry(line: re.Match[str]) -> str:
        return re.sub(rf"(?<![\w-])({listed})(?![\w=])", lambda one: by_name[one[1]], line[0])

    return re.sub(r"(?m)^.{0,16}\*\*[\w, *\\]+\*\*", entry, made) if listed else made


def raises(text: str) -> str:
    """Write the errors of a docstring that Napoleon has read as one list: pages of magics describe no Python object."""
    lines, before = [], ""
    for line in text.splitlines():
        found = re.match(r":raises (.+?):(.*)", line)
        if found:
            before = " " * 9 if before else ":Raises: "
            lines.append(f"{before}* **{found[1]}** --{found[2]}")
        else:
            lines.append(f"{' ' * 11}{line.strip()}" if before and line.startswith(" ") else line)
    return "\n".join(lines).replace(":returns:", ":Returns:")


def engines() -> str:
    """Return the page of the options that engines have of their own."""
    parts = [
        title("Options of engines", "="),
        "``%fork`` and ``%submit`` take them with the ``on=`` that they belong to.",
    ]
    for name in ENGINES.names():
        kind = engine_class(name).Options
        known = {key: option_of(key, hint) for key, hint in fields(kind).items()}
        if known:
            parts += [title(f"on={name}", "-"), docstring(kind, known)]
    return "\n\n".join(parts) + "\n"


def shell() -> str:
    """Return the page of the command."""
    parts = [title("The command", "="), block(help_text.overview())]
    for name in VERBS:
        lines = [help_text.usage(name, word, SHELL) for word in (None, *subcommands(load(name)))]
        parts += [title(f"colab-magics {name}", "-"), usage(lines), f"All of it: :doc:`/verbs/{name}`."]
    return "\n\n".join(parts) + "\n"


def python() -> str:
    """Return the page of the functions and classes that users and other packages may use."""
    parts = [title("Python", "="), ".. py:module:: colab_magics"]
    shown = {path for paths in PUBLIC.values() for path in paths}
    parts += [title("In runs and notebooks", "-")]
    parts += [f".. autofunction:: colab_magics.{name}" for name in FUNCTIONS]
    parts += [title("The verbs", "-"), "Every magic is a function, and its subcommands are functions of it."]
    parts += [f".. py:function:: {name}(…)\n   :no-index-entry:\n\n   See :doc:`/verbs/{name}`." for name in VERBS]
    for heading, paths in PUBLIC.items():
        parts.append(title(heading, "-"))
        for path, what in paths.items():
            if what:
                what = re.sub("`(.+?)`", r"``\1``", what)
                parts.append(f"{what}:\n\n.. autoclass:: colab_magics.{path}\n   :members:")
                continue
            parts += [title(f"colab_magics.{path}", "~"), f".. automodule:: colab_magics.{path}\n   :members:"]
            again = [one.removeprefix(f"{path}.") for one in shown if one.startswith(f"{path}.")]
            parts[-1] += f"\n   :exclude-members: {', '.join(again)}" if again else ""
    return "\n\n".join(parts) + "\n"


def title(text: str, line: str) -> str:
    """Return a heading in reStructuredText."""
    return f"{text}\n{line * len(text)}"


def block(text: str) -> str:
    """Return a text as it stands, in reStructuredText."""
    return f".. code-block:: text\n\n{indented(text)}"


def usage(lines: Sequence[str]) -> str:
    """Return usage lines as a block that is no wider than a page."""
    broken = (textwrap.wrap(line, 92, subsequent_indent=" " * 8, break_on_hyphens=False) for line in lines)
    return block("\n".join(itertools.chain.from_iterable(broken)))


def indented(text: str) -> str:
    """Indent lines."""
    return "\n".join(f"   {line}".rstrip() for line in text.splitlines())


def pages(source: Path, benchmarks: Path) -> Iterator[tuple[str, str]]:
    """Yield the files of the source, and what they hold; files that they link to are brought along.

    Parameters
    ----------
    source : Path
        The folder of the source.
    benchmarks : Path
        What ``make bench`` has written, if it did.
    """
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    # In the order in which the start page names them.
    manual = sorted(
        (ROOT / "colab_magics" / "manual").glob("*.md"), key=lambda file: readme.find(f"manual/{file.name}") % 10**9
    )
    parts = {
        "Manual": [f"colab_magics/manual/{file.stem}" for file in manual],
        "Magics": [f"verbs/{name}" for name in VERBS],
        "Reference": ["engines", "shell", "python"],
        "More": ["demo_notebooks/index", "benchmarks", "CHANGELOG", "CONTRIBUTING"],
    }
    bars = "\n".join(
        f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(names) + "\n```\n"
        for caption, names in parts.items()
        if names
    )
    for file in [ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")]:
        text = markdown(file.read_text(encoding="utf-8"), file, source)
        yield ("index.md", f"{text}\n{bars}") if file.stem == "README" else (file.name, text)
    for file in manual:
        yield str(file.relative_to(ROOT)), markdown(file.read_text(encoding="utf-8"), file, source)
    names = []
    for file in sorted((ROOT / "demo_notebooks").glob("*.ipynb")):
        bring(file, source)
        names.append(file.stem)
        yield f"demo_notebooks/{file.stem}.md", markdown(notebook(file), file, source)
    listed = "\n".join(names)
    text = "Each is executed by the tests. Open them in Jupyter or Colab, and Run All."
    yield "demo_notebooks/index.md", f"# Demo notebooks\n\n{text}\n\n```{{toctree}}\n{listed}\n```\n"
    for name in VERBS:
        yield f"verbs/{name}.rst", f".. py:currentmodule:: colab_magics\n\n{verb_page(name)}"
    yield "engines.rst", engines()
    yield "shell.rst", shell()
    yield "python.rst", python()
    none = "# Benchmarks\n\nThey have not been measured here: `make bench` does so and writes this page.\n"
    yield "benchmarks.md", benchmarks.read_text(encoding="utf-8") if benchmarks.is_file() else none


def main(top: Path) -> int:
    """Write all pages below a folder."""
    source, html = top / "source", top / "html"
    before = {path for path in source.rglob("*") if path.is_file()}
    kept = set()
    for name, text in pages(source, top / "benchmarks.md"):
        file = source / name
        kept.add(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_file() or file.read_text(encoding="utf-8") != text:  # Sphinx makes anew what has changed
            file.write_text(text, encoding="utf-8")
    for gone in {path for path in before - kept if path.suffix in (".md", ".rst")}:
        gone.unlink()
    (source / ".extra").mkdir(exist_ok=True)
    words = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet", "--jobs", "auto"]
    words += ["-D", f"html_extra_path={source / '.extra'}"]
    command = [
        sys.executable,
        "-m",
        "sphinx",
        *words,
        "-c",
        Path(__file__).parent,
        "-d",
        top / "doctrees",
        source,
        html,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # Python looks in the current folder first.
    done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False)
    if done.returncode == 0:
        print(f"The pages: {html / 'index.html'}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else ROOT / "docs"))
