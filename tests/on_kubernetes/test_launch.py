"""``config/launch.yaml``: models × datasets × hyper-parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from colab_magics.engines.kubernetes import launch
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
