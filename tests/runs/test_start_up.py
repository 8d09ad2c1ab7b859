"""What a cold sweep says of a warm start."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest

from colab_magics import fork, process, session
from colab_magics.checkout.project import Project
from colab_magics.payloads import start_up
from colab_magics.records.run import Run
from colab_magics.session import Session
from colab_magics.ui import TerminalUI
from runs.notebooks import write_notebook

SAID = "start=warm would have saved about"


def sweep(root: Path, cell: str, **options: object) -> str:
    """Fork a notebook of that cell; return what was said."""
    out, project = io.StringIO(), Project(name="net", job="a", root=root, notebooks=root)
    project.save()
    session.activate(Session(ui=TerminalUI(out=out), project=project))
    fork(notebook=str(write_notebook(root / "a.ipynb", cell)), **options)  # type: ignore[arg-type]
    return out.getvalue()


def test_a_cold_sweep_that_mostly_starts_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "slow_to_import.py").write_text("import time\ntime.sleep(0.6)")
    monkeypatch.setenv("PYTHONPATH", f"{installed}:{os.environ.get('PYTHONPATH', '')}")
    said = sweep(tmp_path, "import json, slow_to_import\nrate = 0.1", n=4, workers=1)
    assert said.count(SAID) == 1
    assert "(imports: slow_to_import)." in said
    state = Run.load(tmp_path / "data_job" / "a" / "sub_job_002").state() or {}
    assert 0.6 <= state["start_up"]["imports"] <= state["ended"] - state["started"]
    assert state["start_up"]["kernel"] > 0
    # Kept runs are none of this sweep's.
    assert SAID not in sweep(tmp_path, "import json, slow_to_import\nrate = 0.1", n=4, workers=1)


def test_modules_of_the_project_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine.py").write_text("")
    cells = [
        {"cell_type": "code", "source": source, "metadata": {"papermill": {"duration": 2.0}}}
        for source in ("import mine", "import numpy", "import os, mine, numpy", "numpy.zeros(3)")
    ]
    assert start_up.measured({"cells": cells}, 0.5) == {"kernel": 0.5, "imports": 2.0, "modules": ["numpy"]}


def test_a_sweep_that_mostly_works_says_nothing(tmp_path: Path) -> None:
    def made(index: int, imports: float) -> Run:
        folder = tmp_path / f"sub_job_{index:03d}"
        folder.mkdir(exist_ok=True)
        began = 1000.0 + 10 * (index // 2)
        times = {"phase": "done", "started": began, "ended": began + 10}
        measured = {"kernel": 0.6, "imports": imports, "modules": ["torch", "pandas", "scipy", "numpy"]}
        process.write_json(folder / "state.json", {"attempt": 1, **times, "start_up": measured})
        return Run(folder, {"index": index})

    # Ten runs, two at once: five times 5.5 s became one.
    runs = [made(index, 5.0) for index in range(10)]
    assert start_up.advice(runs, 1000) == f"{SAID} 22 s of 50 s (imports: torch, pandas, scipy, …)."
    assert start_up.advice(runs, 2000) == ""
    # Five times 2 s became one: 8 s of 50 s.
    assert start_up.advice([made(index, 1.5) for index in range(10)], 1000) == ""
    assert start_up.advice([], time.time()) == ""


def test_warm_runs_are_not_told_to_start_warm(tmp_path: Path) -> None:
    said = sweep(tmp_path, "import json", n=3, workers=1, start="warm")
    assert SAID not in said
    assert "start_up" not in (Run.load(tmp_path / "data_job" / "a" / "sub_job_000").state() or {})


@pytest.mark.parametrize(
    ("source", "packages"),
    [
        ("import numpy as np\nfrom pandas.io import sql\nimport os, torch.nn", ["numpy", "pandas", "torch"]),
        ("%load_ext colab_magics\n%matplotlib inline\nimport seaborn\nRATE = 0.1", ["seaborn"]),
        ("'''All that we need.'''\nfrom . import mine", []),
        ("import pandas as pd\nframe = pd.read_csv('large.csv')", None),
        ("import torch\n%time train()", None),
        ("import torch\n!pip install more", None),
        ("x = 1", None),
        ("%%time\nimport torch", None),
    ],
)
def test_what_counts_as_a_cell_of_imports(source: str, packages: list[str] | None) -> None:
    assert start_up.imports_alone(source) == packages
