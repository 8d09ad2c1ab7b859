"""The examples of CONTRIBUTING.md do what it says: a package of somebody else's, and a verb in a copy of ours."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import poll

import colab_magics
from colab_magics import fork, queue, sync
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, Unmounted

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_map_of_changes_names_what_is_there() -> None:
    table = CONTRIBUTING.partition("## Where is …?")[2].partition("\n## ")[0]
    found = re.findall(r"`([\w/]+\.py)`: ((?:`\w+`(?:, )?)+)", table)
    assert len(found) >= 10
    for path, names in found:
        tree = ast.parse((ROOT / "colab_magics" / path).read_text())
        there = {getattr(node, "name", "") for node in tree.body}
        there |= {ast.unparse(node.target) for node in tree.body if isinstance(node, ast.AnnAssign)}
        there |= {ast.unparse(target) for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}
        assert set(re.findall(r"\w+", names)) <= there, path
    # Every row of the table was read, and no row names a file in other words.
    assert {path for path, _ in found} == set(re.findall(r"`([\w/]+\.py)`", table))


def test_contributing_links_what_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)", CONTRIBUTING)
    assert {
        f"tests/examples/{name}" for name in ("tally.py", "lab_extras/lab_call.py", "lab_extras/lab_queue.py")
    } <= set(links)
    assert [link for link in links if not (ROOT / link).is_file()] == []
    paths = {path for path in re.findall(r"`([\w/]+/[\w/]*(?:\.py)?)`", CONTRIBUTING) if not path.startswith("docs/")}
    assert [path for path in paths if not any((top / path).exists() for top in (ROOT, ROOT / "colab_magics"))] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the package is installed, as pip leaves it (nice_engine's test has pip do so)."""
    folder = tmp_path_factory.mktemp("site")
    named = tomllib.loads((HERE / "lab_extras" / "pyproject.toml").read_text())["project"]
    info = folder / "lab_extras-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-extras\nVersion: 1.0\n")
    groups = ("\n".join([f"[{group}]", *map(" = ".join, one.items())]) for group, one in named["entry-points"].items())
    (info / "entry_points.txt").write_text("\n\n".join(groups) + "\n")
    for module in (HERE / "lab_extras").glob("lab_*.py"):
        shutil.copy(module, folder)
    return folder


@pytest.fixture
def lab(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have it where Python looks, here and in schedulers, and a disk of the lab's."""
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(ROOT)]))
    disk = tmp_path / "disk of the lab"
    (disk / "queues").mkdir(parents=True)
    monkeypatch.setenv("LAB", str(disk))
    return disk


@pytest.mark.usefixtures("lab")
def test_a_payload_of_a_package(project: Project) -> None:
    call = importlib.import_module("lab_call").call
    (project.root / "train.py").write_text("def fit(lr):\n    print('fitting', lr)\n    return 1 / lr\n")
    runs = call("train:fit", lr=[0.5, 0.0])
    assert runs.wait(60)
    good, bad = runs.runs
    assert '"result": 2.0' in (good.folder / "result.json").read_text()
    assert "fitting 0.5" in good.log.read_text()
    assert bad.status().error["ename"] == "ZeroDivisionError"
    again = call("train:fit", lr=[0.5])
    assert list(again.kept) == [good.folder]
    assert "train:fit" in str(colab_magics.jobs.show("0"))


def test_a_queue_of_a_package(lab: Path, project: Project) -> None:
    from runs.notebooks import write_notebook

    queue.add("lab://sweeps", [{"lr": 0.5}, {"lr": 0.25}])
    notebook = write_notebook(project.root / "a.ipynb", "open(data_job + '/it', 'w').write(str(lr))")
    fork(runs="lab://sweeps", notebook=str(notebook))
    assert "2 done" in str(queue.show("lab://sweeps"))
    assert (lab / "queues" / "sweeps.db").is_file()
    with pytest.raises(InvalidInput, match="names no table of the lab"):
        queue.show("lab://../sweeps")


def test_a_place_of_a_package(lab: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.data_job / "model.pt").parent.mkdir(parents=True, exist_ok=True)
    (project.data_job / "model.pt").write_text("weights")
    sync(to="lab://net")
    poll(lambda: (lab / "net" / "data_job" / "baseline" / "model.pt").is_file())
    sync.stop()
    monkeypatch.setenv("LAB", "/nowhere")
    with pytest.raises(Unmounted, match="no lab's disk"):
        sync(to="lab://net")


def test_a_verb_in_three_faces(tmp_path: Path, project: Project) -> None:
    copy = tmp_path / "with the verb"
    shutil.copytree(ROOT / "colab_magics", copy / "colab_magics", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "tally.py", copy / "colab_magics" / "verbs" / "tally.py")
    register = copy / "colab_magics" / "verbs" / "__init__.py"
    text = register.read_text()
    assert text.count('    "trust",\n)') == 1
    register.write_text(text.replace('    "trust",\n)', '    "trust",\n    "tally",\n)'))
    for name in ("a.pt", "b.pt", "c.txt"):
        project.data_job.mkdir(parents=True, exist_ok=True)
        (project.data_job / name).write_text("12345")

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(copy)}
        return subprocess.run(
            [sys.executable, *command], cwd=project.root, env=environment, capture_output=True, text=True
        )

    shell = run("-m", "colab_magics", "tally", "--least=2")
    assert re.search(r"\.pt +2 +10 B", shell.stdout), shell.stderr
    assert ".txt" not in shell.stdout
    assert "least : int" in run("-m", "colab_magics", "tally", "--help").stdout.replace("--", "")
    wrong = run("-m", "colab_magics", "tally", "--lest=2")
    assert "did you mean" in wrong.stderr
    magic = run("-m", "IPython", "--no-banner", "-c", "%load_ext colab_magics\nx = %tally '*.txt'\nprint(x.rows)")
    assert "[['.txt', '1', '5 B']]" in magic.stdout, magic.stderr
    api = run("-c", "import colab_magics; print(colab_magics.tally('*.pt').rows)")
    assert "[['.pt', '2', '10 B']]" in api.stdout, api.stderr
