"""``config/launch.yaml``: models × datasets × hyper-parameters."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from conftest import git
from kubernetes_checks import check
from ruamel.yaml import YAML

from colab_magics.engines.kubernetes import launch
from colab_magics.engines.kubernetes.options import Options
from colab_magics.errors import InvalidInput, NotFound

FILE = """
project_name: base
model:
  modelA:
    command: python src/modelA.py <name> <hp1> <hp2>
    hparam:
      hp1: [1, 2]
    gpu_count: 1
    cpu_count: 4
  modelB:
    command: python src/modelB.py <name> <hp1> <hp2>
    hparam:
      hp1: [2, 3]
dataset:
  dataA:
    hparam:
      name: A
      hp2: [3, 4]
  dataB:
    hparam:
      name: AB
      hp2: [3, 4]
  dataC:
    hparam:
      name: C
      hp2: [3, 4]
run:
  dataset: [dataA, dataB, dataC]
  model: [modelA, modelB]
"""
ONLY = "  hparam:\n    hp2: [3]\n"


def load(text: str, tmp_path: Path, **words: Any) -> list[launch.Launch]:
    (tmp_path / "launch.yaml").write_text(text)
    words.setdefault("warn", pytest.fail)
    return launch.load(tmp_path / "launch.yaml", **words)


def test_the_main_example_is_24_commands(tmp_path: Path) -> None:  # U17
    found = load(FILE, tmp_path)
    expected = [
        f"python src/model{model}.py {name} {hp1} {hp2}"
        for model, hp1s in (("A", (1, 2)), ("B", (2, 3)))
        for name in ("A", "AB", "C")
        for hp1 in hp1s
        for hp2 in (3, 4)
    ]
    assert [one.command for one in found] == expected
    assert len(found) == 24


def test_a_restriction_leaves_12_of_them(tmp_path: Path) -> None:  # U18, ✗ the restriction skips everything
    found = load(FILE + ONLY, tmp_path)
    assert len(found) == 12
    assert {one.values["hp2"] for one in found} == {3}


@pytest.mark.parametrize("said", ["3", "[3]", '"3"', "[3, 3]", "3.0"])
def test_a_restriction_is_a_value_or_several_as_number_or_as_text(tmp_path: Path, said: str) -> None:
    assert len(load(f"{FILE}  hparam: {{hp2: {said}}}\n", tmp_path)) == 12


def test_several_restrictions_all_count(tmp_path: Path) -> None:
    found = load(FILE + "  hparam: {hp2: 4, name: [A, C], hp1: [2]}\n", tmp_path)
    assert [one.command for one in found] == [
        "python src/modelA.py A 2 4",
        "python src/modelA.py C 2 4",
        "python src/modelB.py A 2 4",
        "python src/modelB.py C 2 4",
    ]


def test_a_name_of_two_letters_is_one_value(tmp_path: Path) -> None:  # ✗ name: AB is split into letters
    assert {one.values["name"] for one in load(FILE, tmp_path)} == {"A", "AB", "C"}


def test_names_of_jobs_come_from_the_values_and_are_valid(tmp_path: Path) -> None:  # U19
    text = """
project_name: base
model:
  average: {command: python avg.py <fn> <lr>, hparam: {lr: [1, 2]}}
dataset:
  data1: {hparam: {_fn: data/1.txt}}
  data2: {hparam: {_fn: [data/2.txt, data/3.txt]}}
"""
    found = load(text, tmp_path)
    assert [one.command for one in found[:3]] == [
        "python avg.py data/1.txt 1",
        "python avg.py data/1.txt 2",
        "python avg.py data/2.txt 1",
    ]
    assert [one.name for one in found[:2]] == ["base-average-data1-1", "base-average-data1-2"]
    assert found[2].name.startswith("base-average-data2-1-"), "two that differ by _fn alone"
    assert len({one.name for one in found}) == len(found) == 6
    assert load(text, tmp_path, prefix="jo")[0].name == "jo-base-average-data1-1"


def test_the_file_may_hold_one_of_each_without_run_and_project(tmp_path: Path) -> None:
    (one,) = load("model: {a: {command: x}}\ndataset: {b: }\n", tmp_path)
    assert (one.command, one.name, one.values) == ("x", "a-b", {})
    (one,) = load("model: {a: {command: x}}\ndataset: {b: , c: }\nrun: {dataset: c, model: a}\n", tmp_path)
    assert one.dataset == "c"


def test_a_value_beside_the_command_that_uses_it_is_a_hyper_parameter(tmp_path: Path) -> None:
    found = load("model: {a: {command: x <hp1>, hp1: [2, 3]}}\ndataset: {b: }\n", tmp_path)
    assert [one.command for one in found] == ["x 2", "x 3"]
    assert found[0].over[1] == {}


def test_the_local_command_is_taken_where_there_is_one(tmp_path: Path) -> None:
    text = "model: {a: {command: x <n>, local_command: y <n>}, b: {command: z}}\ndataset: {c: {hparam: {n: 1}}}\n"
    assert [one.command for one in load(text, tmp_path, local=True)] == ["y 1", "z"]
    assert [one.command for one in load(text, tmp_path)] == ["x 1", "z"]


def test_combinations_without_what_is_restricted_are_left_out_and_named(tmp_path: Path) -> None:
    text = "model: {a: {command: x <n>, hparam: {n: [1, 2]}}, b: {command: y}}\ndataset: {c: }\nrun: {hparam: {n: 2}}\n"
    said: list[str] = []
    assert [one.command for one in load(text, tmp_path, warn=said.append)] == ["x 2"]
    assert said == ["b × c is left out: it has no n (run.hparam)."]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (FILE + "  hparam: {hp3: 1}\n", "did you mean hp"),
        (FILE + "  hparam: {hp2: 5}\n", r"hp2 is never 5.\n→ Its values: 3, 4"),
        (FILE + "  hparam: {hp2: []}\n", "hp2 has no values"),
        (FILE + "  hparam: {hp1: 1, name: A, hp2: 3}\n  seed: 1\n", "'seed' is no key of run"),
        (FILE.replace("model: [modelA, modelB]", "model: modelC"), "did you mean model"),
        (FILE.replace("<hp2>", "<hp9>"), r"<hp9> is no hyper-parameter"),
        (FILE.replace("hp2: [3, 4]", "hp1: [3, 4]"), "hp1 is a hyper-parameter of modelA and of dataA"),
        (FILE.replace("[2, 3]", "[[2], 3]"), "is no value"),
        (FILE.replace("    command: python src/modelB.py <name> <hp1> <hp2>\n", ""), "modelB has no command"),
        ("model: {a: {command: x}}\n", "names no dataset"),
        ("model: a\ndataset: b\n", "holds no keys"),
        ("[1, 2]", "holds no keys"),
    ],
)
def test_what_means_nothing_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        load(text, tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no launches"):
        launch.load(tmp_path / "launch.yaml")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "base"
    (root / "config").mkdir(parents=True)
    (root / "src").mkdir()
    (root / "src/modelA.py").write_text("a\n")
    (root / ".env").write_text("AWS_SECRET_ACCESS_KEY=s3cr3t\n")
    (root / "config/kube.yaml").write_text("project_name: base\nimage: python:3.12\nnamespace: lab\ngpu_count: 2\n")
    return root


def test_the_dry_run_writes_what_kubectl_takes(root: Path) -> None:  # U16, U19
    launches = load(FILE + ONLY, root)
    files = launch.write(root, launch.built(launches, root, warn=pytest.fail))
    made = [YAML(typ="safe", pure=True).load(file) for file in files]
    for one in made:
        check(one)
    assert [one["kind"] for one in made] == ["ConfigMap"] + ["Job"] * 12
    assert [file.name for file in files] == [f"{one['metadata']['name']}.yaml" for one in made]
    assert {file.parent for file in files} == {root / "build"}
    first, last = made[1], made[-1]
    spec = first["spec"]["template"]["spec"]
    assert spec["containers"][0]["args"] == ["sh", "-c", "python src/modelA.py A 1 3"]
    gpus = [one["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] for one in (first, last)]
    assert gpus == [{"cpu": "8", "nvidia.com/gpu": "1"}, {"nvidia.com/gpu": "2"}], "the model's, and the project's"
    (volume,) = [one for one in spec["volumes"] if "configMap" in one]
    assert volume["configMap"]["name"] == made[0]["metadata"]["name"]
    assert first["metadata"]["labels"]["colab-magics/model"] == "modelA"
    assert b"s3cr3t" not in b"".join(file.read_bytes() for file in files)
    assert launch.write(root, launch.built(launches, root)) == files, "written again"


def test_the_code_is_in_the_config_map_and_secrets_are_not(root: Path) -> None:
    import base64

    launches = load("model: {a: {command: x}}\ndataset: {b: }\n", root)
    (code, _) = [YAML(typ="safe", pure=True).load(text) for text in launch.built(launches, root).values()]
    with tarfile.open(fileobj=BytesIO(base64.b64decode(code["binaryData"]["code.tgz"]))) as archive:
        held = archive.getnames()
    assert "src/modelA.py" in held
    assert ".env" not in held


def test_the_line_wins_over_the_file_of_launches(root: Path) -> None:
    launches = load(FILE, root)
    texts = launch.built(launches[:1], root, Options(image="other:1", cpus="1"), gpus="0")
    made = YAML(typ="safe", pure=True).load(list(texts.values())[-1])
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "other:1"
    assert container["resources"]["requests"] == {"cpu": "1"}


def test_a_file_of_somebody_elses_is_not_overwritten(root: Path) -> None:
    launches = load("model: {a: {command: x}}\ndataset: {b: }\n", root)
    (root / "build").mkdir()
    (root / "build/a-b.yaml").write_text("mine\n")
    with pytest.raises(InvalidInput, match="was not written by colab-magics"):
        launch.write(root, launch.built(launches, root))
    assert [file.name for file in (root / "build").iterdir()] == ["a-b.yaml"]


def test_a_build_folder_that_leads_elsewhere_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "build").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="is a link"):
        launch.write(root, {"a": "b"})


def in_git(root: Path, address: str) -> None:
    git("init", "--quiet", str(root))
    (root / ".gitignore").write_text(".env\nconfig/\nlaunch.yaml\nbuild/\n")
    git("add", ".", cwd=root)
    git("commit", "--quiet", "-m", "first", cwd=root)
    git("remote", "add", "origin", address, cwd=root)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("https://me:t0ken@git.example/a/base.git", "https://git.example/a/base.git"),
        ("git@git.example:a/base.git", "https://git.example/a/base.git"),
    ],
)
def test_code_by_git_is_a_clone_at_the_commit_that_is_here(root: Path, address: str, url: str) -> None:
    in_git(root, address)
    launches = load("model: {a: {command: x}}\ndataset: {b: }\n", root)
    with pytest.raises(InvalidInput, match="is on no branch of git"):
        launch.built(launches, root, Options(code="git"))
    git("update-ref", "refs/remotes/origin/main", "HEAD", cwd=root)
    (root / "src/modelA.py").write_text("edited\n")
    said: list[str] = []
    (text,) = launch.built(launches, root, Options(code="git"), warn=said.append).values()
    assert "without the edits" in said[0]
    made = YAML(typ="safe", pure=True).load(text)
    check(made)
    (init,) = made["spec"]["template"]["spec"]["initContainers"]
    assert init["args"] == [url, git("rev-parse", "HEAD", cwd=root), "/work/code"]
    assert "t0ken" not in text


@pytest.mark.parametrize("address", ["/srv/base.git", ""])
def test_code_that_no_pod_can_clone(root: Path, address: str) -> None:
    if address:
        in_git(root, address)
    launches = load("model: {a: {command: x}}\ndataset: {b: }\n", root)
    with pytest.raises(InvalidInput, match=r"code=git: .*\n.*code=configmap"):
        launch.built(launches, root, Options(code="git"))


def test_code_that_is_too_much_for_a_config_map(root: Path) -> None:
    import os

    (root / "src/big.py").write_text(os.urandom(1_500_000).hex())
    launches = load("model: {a: {command: x}}\ndataset: {b: }\n", root)
    with pytest.raises(InvalidInput, match="code=git"):
        launch.built(launches, root)
