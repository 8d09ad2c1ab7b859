"""``%submit launch.yaml``: each combination of the file is a run on Kubernetes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import set_up
from IPython.core.interactiveshell import InteractiveShell
from kubernetes_checks import check
from ruamel.yaml import YAML

from colab_magics import session, submit
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, NotFound, Unavailable
from colab_magics.ui import Table, TerminalUI

from .test_launch import FILE, ONLY

pytest_plugins = ("shells",)

SHELL = [sys.executable, "-m", "colab_magics"]


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def project(tmp_path: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = set_up(tmp_path / "net", TerminalUI(out=said))
    os.chdir(made.root)
    (made.root / "config").mkdir()
    (made.root / "config/kube.yaml").write_text("image: python:3.12\nnamespace: lab\n")
    (made.root / "config/launch.yaml").write_text(FILE)
    (made.root / "src").mkdir()
    (made.root / "src/modelA.py").write_text("a = 1\n")
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    return made


def dry(*words: str, **options: Any) -> list[list[str]]:
    shown = submit(*words, dry_run=True, **options)
    assert isinstance(shown, Table)
    return [list(row) for row in shown.rows]


def commands(rows: list[list[str]]) -> list[str]:
    return [row[3].split("command=")[1].split(" (str)")[0].strip("'") for row in rows]


def jobs(project: Project) -> list[dict[str, Any]]:
    found = [YAML(typ="safe", pure=True).load(file) for file in sorted((project.root / "build").glob("*.yaml"))]
    for one in found:
        check(one)
    return [one for one in found if one["kind"] == "Job"]


def test_the_main_example_is_24_runs(project: Project) -> None:  # U17
    rows = dry("launch.yaml")
    assert commands(rows) == [
        f"python src/model{model}.py {name} {hp1} {hp2}"
        for model, hp1s in (("A", (1, 2)), ("B", (2, 3)))
        for name in ("A", "AB", "C")
        for hp1 in hp1s
        for hp2 in (3, 4)
    ]
    assert rows[0][3].startswith(
        "model='modelA' (str), dataset='dataA' (str), hp1=1 (int), name='A' (str), hp2=3 (int)"
    )


def test_a_restriction_in_the_file_or_in_the_cell_leaves_12_of_them(project: Project) -> None:  # U18
    only = dry("launch.yaml", grid={"run": {"hparam": {"hp2": [3]}}})
    (project.root / "config/launch.yaml").write_text(FILE + ONLY)
    assert commands(dry("config/launch.yaml")) == commands(only)
    assert len(only) == 12
    assert all(one.endswith(" 3") for one in commands(only))


def test_models_that_need_other_pods_get_jobs_of_their_own(project: Project) -> None:
    dry("launch.yaml", workers="8")
    first, second = sorted(jobs(project), key=lambda job: "nvidia" not in str(job))
    limits = [job["spec"]["template"]["spec"]["containers"][0]["resources"].get("limits") for job in (first, second)]
    assert limits == [{"cpu": "8", "nvidia.com/gpu": "1"}, None]
    assert [job["spec"]["completions"] for job in (first, second)] == [12, 12]
    assert [job["spec"]["parallelism"] for job in (first, second)] == [4, 4], "8 of them at once"
    called = first["metadata"]["annotations"]["colab-magics/names"].split()
    assert called[0].startswith("base-modela-dataa-1-a-3-")  # U19
    assert len(set(called)) == 12


def test_the_line_wins_over_the_file(project: Project) -> None:
    dry("launch.yaml", on="kubernetes", gpus="0", image="other:1", cpus="1")
    (job,) = jobs(project)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "other:1"
    assert container["resources"]["requests"] == {"cpu": "1"}


def test_the_image_may_stand_in_the_file_alone(project: Project) -> None:
    (project.root / "config/kube.yaml").unlink()
    with pytest.raises(InvalidInput, match="which image"):
        dry("launch.yaml")
    (project.root / "config/launch.yaml").write_text(f"image: python:3.13\n{FILE}")
    dry("launch.yaml")
    (images,) = {job["spec"]["template"]["spec"]["containers"][0]["image"] for job in jobs(project)}
    assert images == "python:3.13"


def test_it_is_executed_on_kubernetes_whatever_the_line_says(project: Project, said: io.StringIO) -> None:
    assert len(dry("launch.yaml", on="local")) == 24
    assert "on=local does not count" in said.getvalue()
    with pytest.raises(Unavailable, match=r"on=kubernetes.*kubeconfig"):
        submit("launch.yaml")


def test_a_cell_may_hold_all_of_it(project: Project, shell: InteractiveShell) -> None:
    (project.root / "config/launch.yaml").unlink()
    with pytest.raises(NotFound, match=r"no launch.yaml here, nor in .*config"):
        submit("launch.yaml")
    shell.run_line_magic("load_ext", "colab_magics")
    session.current().project = project
    shown = shell.run_cell_magic("submit", "launch.yaml --dry-run", FILE)
    assert len(shown.rows) == 24


def test_the_shell_takes_it_too(project: Project) -> None:
    done = subprocess.run(
        [*SHELL, "submit", "launch.yaml", "--dry-run", "n=2", "only=0-30", "image=other:1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "17 left out, 31 to go" in done.stdout
    (image,) = {job["spec"]["template"]["spec"]["containers"][0]["image"] for job in jobs(project)}
    assert image == "other:1", "options of the engine are known without on=, too"
    assert f"  {project.root}/build/base-baseline-" in done.stdout


def test_jobs_that_are_more_than_workers_have_one_run_each_at_once_and_that_is_said(
    project: Project, said: io.StringIO
) -> None:
    parts = "".join(f"  m{number}: {{command: echo <x>, cpu_count: {number}}}\n" for number in (1, 2, 3))
    (project.root / "config/launch.yaml").write_text(f"model:\n{parts}dataset: {{d: {{hparam: {{x: [1, 2, 3]}}}}}}\n")
    submit("launch.yaml", dry_run=True, workers=5)
    assert sorted(job["spec"]["parallelism"] for job in jobs(project)) == [1, 2, 2], "five of them at once"
    submit("launch.yaml", dry_run=True, workers=2)
    assert "workers=2: pods of 3 kinds are 3 jobs" in said.getvalue()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"need": "1GB gpu"}, "need= picks a host"),
        ({"runs": "q.db"}, "runs= says which runs there are"),
        ({"grid": {"run": {"hparam": {"hp9": 1}}}}, "did you mean"),
        ({"grid": {"dataset": {"d": {"hparam": {"data_job": 1}}}, "run": None}}, "is no hyper-parameter|has its own"),
        ({"n": 100}, "That makes 2,400 runs"),
    ],
)
def test_what_cannot_be_is_said(project: Project, words: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        submit("launch.yaml", **words)


def test_what_the_commands_execute_is_what_counts_as_code(project: Project) -> None:
    from colab_magics.verbs import submit_launch

    found = submit_launch.asked(["launch.yaml"], None, 1, project)
    assert found is not None
    assert list(found.draft(project.root, None).hashes) == ["src/modelA.py"]
