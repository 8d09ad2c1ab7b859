"""What our lines do in a run, and what they leave undone there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from colab_magics import process, ui
from colab_magics.checkout.project import Project
from colab_magics.engines import forking
from colab_magics.faces.in_run import short
from colab_magics.kernels import preparation
from colab_magics.line import split
from colab_magics.records.names import PRELOAD

LINES = """
import json, os, sys
from IPython.core.interactiveshell import InteractiveShell
ip = InteractiveShell.instance()
ended = []
for line in json.loads(sys.argv[1]):
    result = ip.run_cell(line)
    ended.append(str(type(result.error_in_exec).__name__))
seen = {name: ip.user_ns.get(name) for name in ("i_sub_job", "data_job", "data_project", "lr")}
seen |= {"ended": ended, "cwd": os.getcwd(), "modules": sorted(sys.modules), "shown": str(ip.user_ns.get("made"))}
print(json.dumps(seen))
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder, in a project."""
    project = Project(name="net", job="a", root=tmp_path, notebooks=tmp_path)
    project.save()
    folder = project.data_job / "sub_job_003"
    folder.mkdir(parents=True)
    process.write_json(folder / "run.json", {"index": 3, "parameters": {"lr": 0.1}})
    return folder


def see(run: Path, *lines: str) -> tuple[dict[str, Any], str]:
    """Execute lines in a shell of a run; returns what they left, and what they showed."""
    # git must not be asked: it is none that works.
    bin_folder = run / "bin"
    bin_folder.mkdir()
    (bin_folder / "git").write_text("#!/bin/sh\necho git was asked; exit 1\n")
    (bin_folder / "git").chmod(0o755)
    env = {**os.environ, "COLAB_MAGICS_RUN": str(run), "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    command = [sys.executable, "-c", LINES, json.dumps(lines)]
    done = subprocess.run(command, env=env, cwd=run, capture_output=True, text=True, check=True)
    *shown, last = done.stdout.splitlines()
    seen: dict[str, Any] = json.loads(last)
    return seen, "\n".join(shown)


def test_a_run_has_its_variables_without_what_reads_options(run: Path) -> None:
    # ✗ the lines imported cyclopts, the set-up, the scheduler and psutil, and %project asked git for the last commit
    root = run.parents[2]
    (root / ".git").mkdir()  # a project with code, whose notebooks run in its folder
    seen, shown = see(
        run,
        "%load_ext colab_magics",
        "made = %project git=https://example.org/gone to=drive job=other",
        "made",
        "%%fork workers=2\nlr: [0.1, 0.2]",
        "%stop enough of this",
    )
    assert seen["ended"] == ["NoneType"] * 4 + ["SystemExit"]
    assert (seen["i_sub_job"], seen["lr"]) == (3, 0.1)
    assert (seen["data_job"], seen["data_project"]) == (str(run), str(root / "data_project"))
    assert seen["cwd"] == str(root)
    assert seen["shown"] == f"project net, job a: {root}"
    assert f"run a/3: i_sub_job = 3, data_job = '{run}', lr = 0.1" in shown
    assert "enough of this" in shown
    heavy = {"cyclopts", "tomllib", "psutil", "colab_magics.faces.app", "colab_magics.checkout.setup"}
    heavy |= {"colab_magics.runs.scheduler", "colab_magics.faces.completion", "colab_magics.kernels"}
    assert not heavy & set(seen["modules"])


def test_words_that_mean_something_in_a_run_are_read(run: Path) -> None:
    seen, shown = see(run, "%load_ext colab_magics", "%stop --mian", "why = 'late'", "%stop it is $why", "%stop main")
    assert seen["ended"] == ["NoneType", "InvalidInput", "NoneType", "SystemExit", "NoneType"]
    assert "it is late" in shown
    assert [short("stop", split(text)) for text in ("to=x", "-- x", "{1}", "-x")] == [None] * 4
    assert [short("sync", split(text)) for text in ("now", "results every=5m")] == [None] * 2
    assert short("sync", split("every=5m --delete")) is not None


def test_a_folder_that_is_gone_is_told_as_everywhere(run: Path) -> None:
    (run.parents[2] / ".colab_magics.json").unlink()
    seen, shown = see(run, "%load_ext colab_magics", "%project")
    assert seen["ended"][1] == "NotFound"
    assert "belongs to no project" in shown


def test_imports_below_the_line_are_loaded_before_the_runs(tmp_path: Path) -> None:
    # ✗ of this notebook only what its own cells had imported by then
    content = {"cells": [{"cell_type": "code", "source": "%load_ext colab_magics\nimport wave, only_elsewhere"}]}
    preparation.write(tmp_path, None, ui.Notebook(content=content, name="a.ipynb", current=True))
    order = json.loads((tmp_path / PRELOAD).read_text())["kernels"][""]
    assert {"wave", "colab_magics.faces.in_run", "json"} <= set(order["modules"])
    assert "only_elsewhere" in order["perhaps"]


def test_papermill_is_imported_without_clients_of_stores(tmp_path: Path) -> None:
    for name in ("boto3", "pyarrow", "gcsfs"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    script = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(Path(forking.__file__).parent)!r}]\n"
        "import forking; forking.import_lean()\n"
        "import papermill\nassert not {'boto3', 'pyarrow', 'gcsfs'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
