"""Tab on both stacks, in a shell and through a real kernel's complete_request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fronts import Front

from colab_magics.faces.completion import candidates

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


@pytest.mark.parametrize(
    "line",
    ["%syn", "%sync", "%sync every={e", "%sync every=$e", "x = 5", "%synchronous e", "%time ev", "print('%sync ev"],
)
def test_other_lines_are_left_to_others(line: str) -> None:
    assert candidates(line) is None


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("%fork wor", "%fork workers="),
        ("%%fork wor", "%%fork workers="),
        ("x = 1\n%fork n=5 wor", "x = 1\n%fork n=5 workers="),
        ("%fork then=c", "%fork then=continue"),
        ("%project --for", "%project --force"),
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
