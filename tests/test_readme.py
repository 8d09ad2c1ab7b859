"""The README and the manual: the first sweep works when it is pasted, lines are understood, links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import colab_magics
from colab_magics.__main__ import _run as run_words
from colab_magics.errors import ColabMagicsError
from colab_magics.faces import app
from colab_magics.faces.magics import run_line
from colab_magics.verbs import FUNCTIONS, VERBS

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
MANUAL = sorted((ROOT / "colab_magics" / "manual").glob("*.md"))
PAGES = [README, *MANUAL]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`]+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def section(heading: str) -> str:
    """Return what stands below a heading of the README."""
    (found,) = re.findall(rf"^## {re.escape(heading)}$(.*?)(?=^## )", README.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


def rows(text: str) -> Iterator[tuple[str, str]]:
    """Yield first and last column of the rows of tables."""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("|--"):
            columns = re.split(r"(?<!\\)\|", line.strip("|"))
            yield columns[0].strip(), columns[-1].strip()


def lines_of_tables() -> list[str]:
    """Return the lines that the README's tables answer with; a cell's body stands below its ``%%`` line."""
    found: list[str] = []
    for text in (section("I want to … → the line"), section("Coming from another tool")):
        for _, answer in rows(text):
            for span in _SPAN.findall(answer):
                if found and found[-1].startswith("%%") and ": " in span and "\n" not in found[-1]:
                    found[-1] += f"\n{span}"
                else:
                    found.append(span)
    return found


def lines_of_blocks() -> list[tuple[str, str]]:
    """Return the magics of fenced blocks, of the README and of the manual."""
    found = []
    for page in PAGES:
        for language, block in _BLOCK.findall(page.read_text()):
            if language in ("", "python") and block.startswith("%%"):
                found.append((page.name, block))
            elif language == "":
                found += [(page.name, line) for line in block.splitlines() if re.match(r"%\w", line)]
    return [(page, line) for page, line in found if re.match(rf"%%?({'|'.join(VERBS)})\b", line)]


class Understood(Exception):
    """A line was read to its end; its verb is not called."""


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have the words of lines read as ever, and stop before anything is done."""
    parse = app._parse

    def parse_and_stop(*words: Any) -> None:
        parse(*words)
        raise Understood

    monkeypatch.setattr(app, "_parse", parse_and_stop)
    monkeypatch.chdir(tmp_path)


def execute(line: str) -> None:
    """Read a line of a notebook or of a shell as its face does."""
    if line.startswith("%"):
        head, _, body = line.partition("\n")
        name, _, words = head.lstrip("%").partition(" ")
        run_line(name, words, body if head.startswith("%%") else None, {})
        return
    program, *words = shlex.split(line)
    assert program == "colab-magics", f"what is {line}?"
    run_words(words)


def check_python(code: str) -> None:
    """See to it that the code is Python, and that what it takes from the package is there."""
    tree = ast.parse(code if not code.startswith("for ") or "\n" in code else code.partition(": ")[0] + ": pass")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "colab_magics":
            assert getattr(colab_magics, node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in ("print",):
            assert node.func.id in FUNCTIONS, code


def problem_with(line: str) -> str:
    """Return what is wrong with an answer of the tables: a line, Python, or a word that goes with the line before."""
    try:
        if line == "--wait":
            execute(f"%submit {line} -- python x.py")
        elif " = %" in line:
            execute("%" + line.partition(" = %")[2])
        elif re.match(r"[\w.]+\(|for |run\.", line):
            check_python(line)
            return ""
        else:
            execute(line)
    except Understood:
        return ""
    except (ColabMagicsError, AssertionError, SyntaxError) as error:
        return str(error) or type(error).__name__
    return "nothing was read"


def test_the_lines_of_the_tables_are_understood(reading: None) -> None:
    lines = lines_of_tables()
    assert len(lines) > 100
    assert {line: problem for line in lines if (problem := problem_with(line))} == {}


def test_the_magics_of_the_pages_are_understood(reading: None) -> None:
    lines = lines_of_blocks()
    assert len(lines) > 25
    assert {line: problem for line in lines if (problem := problem_with(line[1]))} == {}


def test_a_wrong_line_is_seen(reading: None) -> None:
    assert "'wrokers='" in problem_with("%fork n=5 wrokers=2")
    assert "T5" in problem_with("colab-magics upload gpu=T5")
    assert "kep" in problem_with('kep("model.pt")')


@pytest.mark.timeout(300)
def test_the_first_sweep_works_when_it_is_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLAB_MAGICS_NOTEBOOK", str(tmp_path / "Untitled.ipynb"))
    blocks = [block for _, block in _BLOCK.findall(section("The first sweep")) if not block.startswith("make ")]
    cells = [nbformat.v4.new_code_cell(block.rstrip("\n")) for block in blocks]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbformat.write(notebook, tmp_path / "Untitled.ipynb")
    NotebookClient(
        notebook, timeout=250, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    assert len(cells) == 5  # as the text says
    outputs = [cell.outputs for cell in notebook.cells]
    assert "6 done" in str(outputs[1])
    assert "'lr': " in outputs[3][-1]["data"]["text/plain"]
    (plot,) = [output["data"] for output in outputs[4] if output["output_type"] == "execute_result"]
    assert "image/png" in plot
    assert "lr=0.5, seed=1" in plot["text/plain"]
    assert len(list((tmp_path / "data_job" / "Untitled").glob("sub_job_*"))) == 6


def anchors(page: Path) -> set[str]:
    """Return the names that a page's headings have as targets of links."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(page.read_text())
    }


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in _LINK.findall(page.read_text()):
            if re.match(r"\w+://", link):
                continue
            file, _, anchor = link.partition("#")
            target = page.parent / file if file else page
            assert target.exists(), (page.name, link)
            assert not anchor or anchor in anchors(target), (page.name, link)


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 300
    for page in MANUAL:
        assert f"](colab_magics/manual/{page.name})" in text


def test_each_verb_has_its_place_in_the_readme_and_the_manual() -> None:
    manual = "\n".join(page.read_text() for page in MANUAL)
    for verb in VERBS:
        assert re.search(rf"%{verb}\b", manual), verb
        assert re.search(rf"%{verb}\b", README.read_text()), verb
