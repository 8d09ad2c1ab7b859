"""Tab on both stacks, in a shell and through a real kernel's complete_request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import IPython
import pytest
from fronts import Front

from colab_magics import process
from colab_magics.checkout.project import Project
from colab_magics.faces.completion import candidates
from colab_magics.faces.values import of_body
from colab_magics.records import metrics, notes
from colab_magics.records.names import RECORD, folder_name

pytest_plugins = ("shells",)
Calls = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "deep").mkdir()
    (tmp_path / "rest.txt").touch()
    (tmp_path / "with space").touch()
    (tmp_path / ".hidden").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("line", "fragment", "found"),
    [
        ("%sync ev", "ev", ["every="]),
        ("x = %sync ev", "ev", ["every="]),
        ("%%sync ev", "ev", ["every="]),
        (
            "%sync ",
            "",
            ["now", "stop-all", "to=", "every=", "max_failures=", "restore=", "--delete", "--force", "--quick"],
        ),
        ("%sync n", "n", ["now"]),
        ("%sync now ", "", ["timeout="]),
        ("%sync every=5m e", "e", []),
        ("%sync every=5m max", "max", ["max_failures="]),
        ("%sync --de", "--de", ["--delete"]),
        ("%sync restore=", "restore=", ["restore=all", "restore=light", "restore=none"]),
        ("%sync restore=l", "restore=l", ["restore=light"]),
        ("%sync delete=t", "delete=t", ["delete=true"]),
        ("%sync to=re", "to=re", ["to=rest.txt", "to=results/"]),
        ("%sync to=results/", "to=results/", ["to=results/deep/"]),
        ("%sync to=wi", "to=wi", []),
        ("%sync to=.h", "to=.h", ["to=.hidden"]),
        ("%sync to=nowhere/x", "to=nowhere/x", []),
        ("%sync res", "res", ["restore=", "rest.txt", "results/"]),
        ("%sync every=", "every=", []),
        ("%sync nope=", "nope=", []),
        ("%sync -- ev", "ev", []),
    ],
)
def test_what_can_stand_there(toy_sync: Calls, folder: Path, line: str, fragment: str, found: list[str]) -> None:
    assert candidates(line) == (fragment, found)


def test_hosts_of_ssh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "config").write_text("Host gpu1 gpu2 *.lab\nHost far\n")
    monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(folder / "config"))
    assert candidates("%host probe g") == ("g", ["gpu1", "gpu2"])
    assert candidates("%remote fa") == ("fa", ["far"])
    assert candidates("%host get host=gpu") == ("host=gpu", ["host=gpu1", "host=gpu2"])
    assert candidates("%host put resu") == ("resu", ["results/"])
    assert candidates("%tunnel lab via=ssh:g") == ("via=ssh:g", ["via=ssh:gpu1", "via=ssh:gpu2"])
    assert candidates("%tunnel ssh via=ssh:l") == ("via=ssh:l", ["via=ssh:localhost.run"])
    assert candidates("%tunnel l") == ("l", ["lab", "list"])


@pytest.fixture
def runs(project: Project) -> Project:
    """Two runs of the job baseline that reported metrics, and one of the job other."""
    for job, index, values in (("baseline", 0, {"loss": 1}), ("baseline", 1, {"accuracy": 1}), ("other", 7, {})):
        folder = project.data_job.parent / job / folder_name(index)
        folder.mkdir(parents=True)
        process.write_json(folder / RECORD, {"index": index, "parameters": {"lr": 0.1}})
        if values:
            metrics.write(folder, {"values": values})
            notes.write(folder, add=["good"])
    return project


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("%jobs show ", ["0", "1", "baseline", "other", "failed"]),
        ("%jobs diff 0 ", ["1", "baseline"]),
        ("%jobs kill oth", ["other"]),
        ("%jobs open other/", ["other/7", "other/failed"]),
        ("%jobs plot ", ["loss", "accuracy"]),
        ("%jobs plot loss,", ["loss,accuracy"]),
        ("%jobs plot loss ", ["0", "1"]),
        ("%jobs metrics names=a", ["names=accuracy"]),
        ("%jobs best ", ["loss", "accuracy"]),
        ("%jobs plot loss x=", ["x=lr", "x=accuracy"]),
        ("%jobs plot loss over=", ["over=lr"]),
        ("%jobs plot loss by=m", ["by=matplotlib"]),
        ("%jobs table sort=", ["sort=lr", "sort=loss"]),
        ("%jobs tag ", ["0", "failed"]),
        ("%jobs tag 0 ", ["good"]),
        ("%fork search=6 goal=", ["goal=min:loss", "goal=max:accuracy"]),
        ("%fork search=6 goal=min:loss,max:a", ["goal=min:loss,max:accuracy"]),
        ("%fork search=6 s", ["sampler=", "stop=", "seed="]),
        ("%fork search=6 sampler=", ["sampler=tpe", "sampler=cma"]),
        ("%fork search=6 stop=", ["stop=early", "stop=median"]),
        ("%fork search=6 here=", ["here=best"]),
        ("%fork on=", ["on=local", "on=slurm", "on=ssh:"]),
        ("%fork on=ssh:", ["on=ssh:gpu1", "on=ssh:gpu2"]),
        ("%fork on=ssh:gpu1,", ["on=ssh:gpu1,gpu2"]),
        ("%project job=", ["job=baseline", "job=other"]),
        ("%sync to=", ["to=drive", "to=s3://", "to=gpu1:"]),
        ("%sync to=dr", ["to=drive"]),
    ],
)
def test_values_of_ours(
    runs: Project, folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, found: list[str]
) -> None:
    (folder / "config").write_text("Host gpu1 gpu2\n")
    monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(folder / "config"))
    given = candidates(line)
    assert given is not None
    assert [one for one in found if one not in given[1]] == [], given
    assert "loss" not in given[1] or "0" not in given[1], "a metric, or a run"


@pytest.mark.parametrize(
    ("cell", "fragment", "found"),
    [
        ("%%fork workers=2\nex", "ex", ["exclude: "]),
        ("%%fork\n", "", ["lr: ", "zip: ", "exclude: ", "include: ", "n: "]),
        ("%%fork\nlr: [1]\nsize: sm", "sm", []),
        ("%%fork search=60 goal=min:loss\n", "", ["lr: ", "when: ", "first: "]),
        ("%%fork search=60\nlr: log", "log", ["loguniform(", "logint("]),
        ("%%fork search=60\nwhen: {size: large, dropout: u", "u", ["uniform("]),
        ("%%fork n=2\nlr: log", "log", []),
        ("%%queue runs.db\n- run", "run", ["run_name: "]),
        ("%%queue runs.db\n- {pri", "pri", ["priority: "]),
        ("%%project\nrequ", "requ", ["requirements = "]),
    ],
)
def test_keys_of_a_body(runs: Project, cell: str, fragment: str, found: list[str]) -> None:
    assert of_body(cell) == (fragment, found)


@pytest.mark.parametrize("cell", ["%%remote gpu1\nex", "%fork n=3\nex", "x = 1\n%%fork\nex", "%%forking\nex"])
def test_code_is_no_body(cell: str) -> None:
    assert of_body(cell) is None


def test_where_there_is_no_project_tab_says_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = candidates("%jobs plot ")
    assert found is not None
    assert "--all" in found[1]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "line",
    ["%syn", "%sync", "%sync every={e", "%sync every=$e", "x = 5", "%synchronous e", "%time ev", "print('%sync ev"],
)
def test_other_lines_are_left_to_others(line: str) -> None:
    assert candidates(line) is None


# Older ones show a hook one line alone.
BODY = ("%%fork\nlr: [1]\nexc", "%%fork\nlr: [1]\nexclude: ")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("%fork wor", "%fork workers="),
        ("%%fork wor", "%%fork workers="),
        ("x = 1\n%fork n=5 wor", "x = 1\n%fork n=5 workers="),
        ("%fork then=c", "%fork then=continue"),
        ("%project --for", "%project --force"),
        *([BODY] if IPython.version_info >= (8, 6) else []),
        ("%jobs sho", "%jobs show"),
        ("%project to=res", "%project to=results/"),
        ("%fork notebook=sub/tr", "%fork notebook=sub/train.ipynb"),
    ],
)
def test_tab_in_a_kernel(front: Front, tmp_path: Path, code: str, expected: str) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "train.ipynb").touch()
    assert expected in tab(front, code)


def tab(front: Front, code: str) -> list[str]:
    """Press Tab at the end of `code`; returns what the cell may become."""
    reply = front.client.complete(code, len(code), reply=True, timeout=30)["content"]
    start, end = reply["cursor_start"], reply["cursor_end"]
    return [code[:start] + match + code[end:] for match in reply["matches"]]


def test_where_a_value_is_free_nothing_is_offered(front: Front) -> None:  # IPython 7 offered Python's names
    front.run("%config Completer.use_jedi = False")  # as on Colab
    for line in ("%sync large=", "%fork nosuch=", "%sync large=2"):
        assert set(tab(front, line)) <= {line}
    front.run("number = 5")
    assert "%fork n={number" in tab(front, "%fork n={numb")


def test_tab_elsewhere_works_as_before(front: Front) -> None:
    front.run("workers_of_mine = 1")
    assert "workers_of_mine" in tab(front, "workers_of")
    assert "%fork" in tab(front, "%for")


def test_after_unload_there_is_no_tab_of_ours(front: Front) -> None:
    front.run("%unload_ext colab_magics")
    assert "%fork workers=" not in tab(front, "%fork wor")
