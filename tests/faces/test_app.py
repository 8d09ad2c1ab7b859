"""From words to a call: options, defaults of files, bodies, errors in the words of the face."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from colab_magics import session
from colab_magics.errors import ColabMagicsError, InvalidInput
from colab_magics.faces import bodies
from colab_magics.faces.app import call
from colab_magics.faces.defaults import defaults
from colab_magics.faces.signature import MAGIC, SHELL, Words
from colab_magics.line import split
from colab_magics.verbs import load

pytest_plugins = ("shells",)
Calls = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def line(text: str, body: str | None = None, face: Words = MAGIC, verb: str = "sync") -> Any:
    """Call a verb with a line as it stands."""
    read = split(text)
    return call(verb, [token.as_option().text for token in read.tokens], read.rest, body=body, face=face)


def changed(calls: Calls) -> dict[str, Any]:
    """Return what the last call gave beyond the defaults."""
    usual = {"to": None, "every": "30s", "max_failures": None, "restore": "all", "timeout": 60.0}
    return {key: value for key, value in calls[-1][2].items() if value and value != usual.get(key)}


@pytest.mark.parametrize(
    ("text", "words", "options"),
    [
        ("", (), {}),
        ("every=5m", (), {"every": "5m"}),
        ("data to=drive", ("data",), {"to": "drive"}),
        ("to=drive data", ("data",), {"to": "drive"}),
        ("--every=5m --delete", (), {"every": "5m", "delete": True}),
        ("--every 5m", (), {"every": "5m"}),
        ("--no-quick quick=no delete=yes", (), {"delete": True}),
        ("max_failures=3", (), {"max_failures": 3}),
        ("max-failures=3", (), {"max_failures": 3}),
        ("restore=light", (), {"restore": "light"}),
        ("exclude", ("exclude",), {}),
        ("a b c", ("a", "b", "c"), {}),
        ("to=x -- -rf --to=y", ("-rf", "--to=y"), {"to": "x"}),
        ("https://a/?b=c", ("https://a/?b=c",), {}),
        ("'to=x'", ("to=x",), {}),
        ("to='a b; $(touch gone)'", (), {"to": "a b; $(touch gone)"}),
        ("to=-x", (), {"to": "-x"}),
        ("to=", (), {}),
    ],
)
def test_a_line_becomes_a_call(toy_sync: Calls, text: str, words: tuple[str, ...], options: dict[str, Any]) -> None:
    if "--no-quick quick=no" in text:
        # said twice: that is an error, not a silent choice
        with pytest.raises(InvalidInput, match="quick"):
            line(text)
        text = "--no-quick delete=yes"
    assert line(text) == "synced"
    assert toy_sync[-1][:2] == ("sync", words)
    assert changed(toy_sync) == options


def test_a_subcommand_is_called(toy_sync: Calls) -> None:
    assert line("now timeout=5") == "now"
    assert toy_sync[-1] == ("now", (), {"timeout": 5.0})
    assert line("stop-all") is None
    assert toy_sync[-1][0] == "stop_all"


@pytest.mark.parametrize(
    ("text", "face", "said"),
    [
        ("now 5", MAGIC, ["nothing is meant by '5'", "%sync?"]),
        ("evry=5m", MAGIC, ["'evry='", "%sync", "did you mean every=?", "max_failures=", "--delete"]),
        ("evry=5m", SHELL, ["'--evry'", "colab-magics sync", "did you mean --every?", "--max-failures"]),
        ("--delet", MAGIC, ["'--delet'", "did you mean --delete?"]),
        ("-d", MAGIC, ["'-d'", "Known:"]),
        ("--no-every", MAGIC, ["'--no-every'"]),
        ("now timout=5", MAGIC, ["%sync now", "did you mean timeout=?"]),
        ("nwo", MAGIC, ["'nwo'", "did you mean now?", "stop-all"]),
        ("max_failures=many", MAGIC, ["max_failures", "many", "%sync?"]),
        ("max_failures=many", SHELL, ["--max-failures", "many", "colab-magics sync --help"]),
        ("restore=some", MAGIC, ["restore", "some", "light", "none"]),
        ("delete=perhaps", MAGIC, ["delete", "perhaps"]),
        ("now here", MAGIC, ["%sync now", "'here'"]),
        ("--every", SHELL, ["--every", "requires"]),
        ("every=1 every=2", MAGIC, ["every", "multiple"]),
    ],
)
def test_wrong_words_are_refused_in_the_words_of_the_face(
    toy_sync: Calls, text: str, face: Words, said: list[str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        line(text, face=face)
    missing = [part for part in said if part not in str(caught.value)]
    assert not missing, str(caught.value)
    assert caught.value.mend
    assert "╭" not in str(caught.value)
    assert not toy_sync


@pytest.mark.parametrize(
    ("verb", "text", "said"),
    [
        ("fork", "5", "Did you mean %fork n=5?"),
        ("fork", "n=2.5", "n=2.5 is no whole number.\n→ Write one: n=3"),
        ("fork", "n=abc", "n=abc is no whole number."),
        ("jobs", "diff 0", "%jobs diff: NEW is missing.\n→ Write %jobs diff OLD NEW"),
        ("jobs", "open", "%jobs open: ID is missing.\n→ Write %jobs open ID"),
        ("sync", "stauts", "did you mean status?"),
    ],
)
def test_what_was_meant_and_what_is_missing_is_said(verb: str, text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        line(text, verb=verb)
    assert said in str(caught.value)


@pytest.mark.usefixtures("project")
def test_a_word_near_a_subcommand_is_one_also_where_runs_can_be_named() -> None:
    with pytest.raises(InvalidInput, match=r"'shwo' is no job or run.*\n→ Did you mean %jobs show\? Known: cancelled"):
        line("shwo", verb="jobs")
    with pytest.raises(InvalidInput) as caught:
        line("faield", verb="jobs")
    assert caught.value.mend.startswith("did you mean failed?")
    with pytest.raises(InvalidInput, match=r"Did you mean %tunnel code\? Known: PORT"):  # said once
        line("cod", verb="tunnel")


def test_a_folder_is_no_slip_of_the_pen(toy_sync: Calls, tmp_path: Path) -> None:
    (tmp_path / "nwo").mkdir()
    line("nwo")
    assert toy_sync[-1][1] == ("nwo",)


def test_a_verb_without_options_says_so() -> None:
    with pytest.raises(InvalidInput, match="no options") as caught:
        line("a=3", verb="stop")
    assert "Quote" in caught.value.mend


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EMFILE, errno.EIO])
def test_what_the_system_refuses_is_an_error_without_a_trace(
    toy_sync: Calls, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    import sys

    def refuse(*, to: str = "") -> None:
        raise OSError(number, os.strerror(number), "there/file")

    monkeypatch.setattr(sys.modules["colab_magics.verbs.sync"], "sync", refuse)
    with pytest.raises(ColabMagicsError, match=f"could not %sync: {os.strerror(number)}: there/file") as caught:
        line("")
    assert caught.value.mend


def test_our_own_defects_keep_their_trace(toy_sync: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    def broken() -> None:
        raise error

    monkeypatch.setattr(sys.modules["colab_magics.verbs.sync"], "sync", broken)
    # Also what the system says, where it says that we asked for something that is not there.
    for error in (KeyError("ours"), FileNotFoundError(errno.ENOENT, "ours"), OSError(errno.EBADF, "ours")):
        with pytest.raises(type(error), match="ours") as caught:
            line("")
        assert not isinstance(caught.value, ColabMagicsError)


# Bodies


def test_a_toml_body_gives_options(toy_sync: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bodies.BODIES, "sync", bodies.BODIES["project"])
    line("now2", 'to = "a b"  # where\nmax_failures = 3\ndelete = true\nevery = ["1", "2"]\n')
    assert changed(toy_sync) == {"to": "a b", "max_failures": 3, "delete": True, "every": "1,2"}
    assert toy_sync[-1][1] == ("now2",)


@pytest.mark.parametrize(
    ("text", "body", "said"),
    [
        ("to=x", 'to = "y"', "stands in the line and in the cell"),
        ("", "to = y", "no TOML"),
        ("", 'tto = "y"', "did you mean to=?"),
        ("", '[to]\na = "y"', "a table"),
        ("", 'to = ["a,b"]', "comma"),
        ("", 'to = "y"\n%fork n=3', "Put %fork in its own cell"),
        ("", "  %%stop", "Put %%stop in its own cell"),
        ("now", "to = 1", "takes no cell"),
    ],
)
def test_a_wrong_body_is_refused(
    toy_sync: Calls, monkeypatch: pytest.MonkeyPatch, text: str, body: str, said: str
) -> None:
    monkeypatch.setitem(bodies.BODIES, "sync", bodies.BODIES["project"])
    with pytest.raises(InvalidInput) as caught:
        line(text, body)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("verb", "body", "said"),
    [
        ("fork", "n: 2\nlr: a: b\n", "not allowed here (line 3 of the cell)\n  lr: a: b\n       ^\n→ "),
        ("submit", "lr: [1, 2\n\n", "(line 2 of the cell)\n  lr: [1, 2\n           ^\n→ "),
        ("queue", "- a: 1\n\tb: 2", "(line 3 of the cell)\n  \tb: 2\n  ^\n→ "),
        ("fork", "lr: 1\nlr: 2", "duplicate key"),
        ("fork", "a: 1\nb: \x07", "special characters are not allowed (line 3 of the cell)\n  b: \x07\n     ^\n"),
        ("project", "job = 'a'\nto = y\n", "Invalid value (line 3 of the cell)\n  to = y\n       ^\n→ "),
        ("project", "job = 'a", "(line 2 of the cell)\n  job = 'a\n          ^\n→ "),
    ],
)
def test_a_mistake_in_a_body_is_pointed_at(verb: str, body: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        bodies.read_body(verb, None, body)
    shown = f"{caught.value.what}\n→ {caught.value.mend}"
    assert said in shown, shown
    assert "unicode string" not in shown


def test_a_verb_without_a_body_says_so(toy_sync: Calls) -> None:
    with pytest.raises(InvalidInput, match="%%sync takes no cell below it") as caught:
        line("", "print(1)")
    assert "%sync with one %" in caught.value.mend
    assert line("", "  \n") == "synced"


# Defaults


@pytest.fixture
def user_file(home: Path) -> Path:
    file = home / ".config" / "colab_magics" / "config.toml"
    file.parent.mkdir(parents=True)
    return file


def test_defaults_come_from_the_project_then_from_the_user(toy_sync: Calls, tmp_path: Path, user_file: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.colab_magics.sync]\nevery = "5m"\nmax-failures = 2\n')
    user_file.write_text('[sync]\nevery = "9m"\nrestore = "light"\n[sync.now]\ntimeout = 7\n')
    line("")
    assert changed(toy_sync) == {"every": "5m", "restore": "light"}, "a repository sets by itself what is harmless"
    load("trust")(str(tmp_path), yes=True)
    line("")
    assert changed(toy_sync) == {"every": "5m", "max_failures": 2, "restore": "light"}
    line("every=1s --max-failures 4")
    assert changed(toy_sync) == {"every": "1s", "max_failures": 4, "restore": "light"}
    line("now")
    assert toy_sync[-1] == ("now", (), {"timeout": 7.0})
    line("", face=SHELL)
    assert changed(toy_sync)["every"] == "5m"


def test_the_nearest_pyproject_counts_from_the_project_or_the_folder(
    toy_sync: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.colab_magics.sync]\nevery = "1m"\n')
    (tmp_path / "sub" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "sub" / "notebooks")
    line("")
    assert changed(toy_sync) == {"every": "1m"}
    (tmp_path / "sub" / "pyproject.toml").write_text("[project]\n")
    line("")
    assert changed(toy_sync) == {}
    session.current().project = type("P", (), {"root": tmp_path})()
    line("")
    assert changed(toy_sync) == {"every": "1m"}


def test_an_option_that_is_a_subcommand_too_counts(home: Path, user_file: Path) -> None:
    user_file.write_text('[sync]\nrestore = "light"\n')
    assert defaults("sync", None, home) == {"restore": "light"}
    assert defaults("sync", "restore", home) == {}
    user_file.write_text("[sync.restore]\ndry_run = true\n")
    assert defaults("sync", None, home) == {}
    assert defaults("sync", "restore", home) == {"dry-run": True}
    user_file.write_text("[sync]\nnow = 3\n")
    with pytest.raises(InvalidInput, match="no option of sync"):
        defaults("sync", None, home)


def test_flags_in_a_file_can_be_taken_back_in_the_call(toy_sync: Calls, user_file: Path) -> None:
    user_file.write_text("[sync]\nquick = true\n")
    line("")
    assert changed(toy_sync) == {"quick": True}
    line("--no-quick")
    assert changed(toy_sync) == {}


def test_the_api_has_no_defaults_of_files(toy_sync: Calls, user_file: Path) -> None:
    user_file.write_text('[sync]\nevery = "9m"\n')
    load("sync")()
    assert changed(toy_sync) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[sync]\nevry = "5m"', "did you mean every?"),
        ("[snyc]\na = 1", "did you mean sync?"),
        ("[sync]\ndelete = true", "cannot have a default"),
        ("sync = 3", "no table"),
        ("[sync\n", "cannot be read"),
        ("[sync.now]\ntmeout = 1", None),
    ],
)
def test_a_wrong_default_is_refused_and_names_its_file(
    toy_sync: Calls, user_file: Path, text: str, said: str | None
) -> None:
    user_file.write_text(text)
    if said is None:
        assert line("") == "synced"
        with pytest.raises(InvalidInput) as caught:
            line("now")
    else:
        with pytest.raises(InvalidInput) as caught:
            line("")
        assert said in str(caught.value)
    assert str(user_file) in str(caught.value)
    assert len(toy_sync) == (said is None)


def test_xdg_config_home_is_honoured(toy_sync: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    (tmp_path / "xdg" / "colab_magics").mkdir(parents=True)
    (tmp_path / "xdg" / "colab_magics" / "config.toml").write_text('[sync]\nto = "here"\n')
    line("")
    assert changed(toy_sync) == {"to": "here"}
