"""Pages that are made: the reference (`make docs`), and what benchmarks have measured (`make bench`)."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from colab_magics import VERBS

ROOT = Path(__file__).resolve().parents[1]
USERS_ENVIRONMENT = dict(os.environ)
"""pip reads the user's settings, which tests otherwise do not see."""


@pytest.fixture(scope="module")
def docs_python() -> Path:
    """Make the environment of ``make docs``, where it is not there."""
    command = ["sh", "tests/setup/venv.sh", ".venv-docs", "newest", "docs"]
    subprocess.run(command, cwd=ROOT, env=USERS_ENVIRONMENT, check=True, stdin=subprocess.DEVNULL)
    return ROOT / ".venv-docs" / "bin" / "python"


def make_docs(python: Path, root: Path, to: Path) -> subprocess.CompletedProcess[str]:
    """Write the pages of a checkout."""
    command = [python, root / "tests" / "setup" / "docs" / "make_docs.py", to]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_reference_is_made_and_fetches_nothing(docs_python: Path, tmp_path: Path) -> None:
    done = make_docs(docs_python, ROOT, tmp_path)
    assert done.returncode == 0, done.stderr
    html = tmp_path / "html"
    for page in ("index", "python", "shell", "engines", "benchmarks", "CHANGELOG", "CONTRIBUTING"):
        assert (html / f"{page}.html").is_file()
    for name in VERBS:
        assert f"<h1>%{name}" in (html / "verbs" / f"{name}.html").read_text()
    for file in (ROOT / "demo_notebooks").glob("*.ipynb"):
        assert (html / "demo_notebooks" / f"{file.stem}.html").is_file()
    for file in (ROOT / "colab_magics" / "manual").glob("*.md"):
        assert (html / "colab_magics" / "manual" / f"{file.stem}.html").is_file()
    assert "max_failures=" in (html / "verbs" / "fork.html").read_text()
    assert "gpus=" in (html / "engines.html").read_text()
    for page in html.rglob("*.html"):
        text = page.read_text()
        fetched = [part.partition('"')[0] for tag in ("<script", "<link") for part in _sources(text, tag)]
        assert [one for one in fetched if "//" in one] == [], page


def _sources(text: str, tag: str) -> list[str]:
    tags = [part.partition(">")[0] for part in text.split(tag)[1:]]
    return [one.split(word, 1)[1] for one in tags for word in ('src="', 'href="') if word in one]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_link_that_leads_nowhere_is_an_error(docs_python: Path, tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    for name in ("colab_magics", "demo_notebooks", "tests/setup", "tests/examples", "tests/conformance"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.glob("*.md"):
        shutil.copy(file, copy)
    with open(copy / "CONTRIBUTING.md", "a", encoding="utf-8") as stream:
        stream.write("\n[a](tests/gone.py) [b](README.md#nowhere) [c](https://example.org)\n")
    verb = copy / "colab_magics" / "verbs" / "report.py"
    verb.write_text(verb.read_text().replace('    """Report how', '    """See `Nothing`. Report how', 1))
    done = make_docs(docs_python, copy, tmp_path / "docs")
    assert done.returncode != 0
    for word in ("gone.py", "nowhere", "Nothing"):
        assert word in done.stderr
    assert "example.org" not in done.stderr


@pytest.fixture
def run_bench() -> ModuleType:
    """Import the script of ``make bench``."""
    spec = importlib.util.spec_from_file_location("run_bench", ROOT / "tests" / "setup" / "run_bench.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_benchmarks_print_is_a_page_and_one_that_fails_is_shown(
    run_bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_bench, "ROOT", tmp_path)
    monkeypatch.setattr(run_bench, "BENCHMARKS", folder := tmp_path / "tests" / "bench")
    folder.mkdir(parents=True)
    (folder / "a_good_one.py").write_text(
        '"""How long it takes.\n\nBeside ``peers``."""\nprint("ours 1 s, theirs 2 s")\n'
    )
    (folder / "bad.py").write_text('"""Fails."""\nprint("before", flush=True)\nraise SystemExit("no rsync here")\n')
    (folder / "hangs.py").write_text('"""Hangs."""\nimport time\nprint("begun", flush=True)\ntime.sleep(600)\n')
    assert run_bench.main(["bad", "a_good_one"], tmp_path / "docs") == 1
    monkeypatch.setattr(run_bench, "LONGEST", 3.0)
    (folder / "stays.py").write_text(
        '"""Stays."""\nimport signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(600)\n'
    )
    monkeypatch.setattr(run_bench, "GRACE", 1.0)
    assert run_bench.main(["hangs.py", "stays"], tmp_path / "docs") == 1
    page = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## A good one",
        "## Bad",
        "## Hangs",
        "## Stays",
    ]
    for words in (
        "ours 1 s, theirs 2 s",
        "Beside `peers`.",
        "before\nno rsync here",
        "exit status 1",
        "exit status -2",
        "exit status -9",
    ):
        assert words in page
    assert f"| Python | {sys.version.split()[0]} |" in page
    assert f"{os.cpu_count()} × " in page
    assert run_bench.main(["sync"], tmp_path / "docs") == 2
    assert "There are: a_good_one, bad, hangs, stays" in capsys.readouterr().err
