"""A host is prepared at first use, and never again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sshd import Sshd

from colab_magics.errors import InvalidInput, Unavailable
from colab_magics.relay import link
from colab_magics.relay.environment import Environment, prepare
from colab_magics.relay.remote_kernel import attach
from colab_magics.transport import ssh
from relay.conftest import other_pythons, value


def test_an_environment_of_our_own_is_made_once(box: Sshd, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    kernel = attach(box.host, tell=told.append)
    assert told[0] == "preparing Python on box"
    assert value(kernel, "import sys; sys.prefix").strip("'\"").startswith(str(home / ".cache/colab_magics/env"))
    kernel.shutdown()
    # Not even without the script does the second time fail: it is not needed.
    monkeypatch.setattr(link, "prepare", lambda *_, **__: pytest.fail("prepared twice"))
    told.clear()
    attach(box.host, tell=told.append).shutdown()
    assert told == []


def test_packages_are_copied_where_the_host_has_no_network(
    box: Sshd, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pip over there is pointed at nothing.
    (home / ".config" / "pip").mkdir(parents=True)
    (home / ".config" / "pip" / "pip.conf").write_text("[global]\nno-index = true\nfind-links =\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/etc/pip.conf")
    told: list[str] = []
    python = prepare(box.host, Environment(), tell=told.append)
    assert "packages are copied there" in told[-1]
    assert ssh.run(box.host, [python, "-c", "import ipykernel; print('works')"]).stdout == "works\n"


def test_what_is_not_there_is_said(box: Sshd, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no environment"):
        attach(box.host, env=str(tmp_path / "no'where"))
    with pytest.raises(Unavailable, match="no environment"):
        attach(box.host, env="conda:nobody's")
    with pytest.raises(Unavailable, match=r"no Python 3\.99 on box"):
        attach(box.host, python="3.99")
    for python in other_pythons()[:1]:
        with pytest.raises(Unavailable, match="has no ipykernel") as caught:
            attach(box.host, env=str(_bare(tmp_path, python)))
        assert "-m pip install ipykernel" in str(caught.value)


def _bare(folder: Path, python: Path) -> Path:
    subprocess.run([str(python), "-m", "venv", "--without-pip", str(folder / "ba re")], check=True, capture_output=True)
    return folder / "ba re"


def test_an_environment_of_conda_is_found_by_its_name(box: Sshd, home: Path) -> None:
    (home / ".conda").mkdir()
    (home / "deep").mkdir()
    os.symlink(sys.prefix, home / "deep" / "my env")
    (home / ".conda" / "environments.txt").write_text(f"{home}/other\n{home}/deep/my env\n")
    assert prepare(box.host, Environment(env="conda:my env")) == f"{home}/deep/my env/bin/python"


@pytest.mark.parametrize(
    "wrong", [{"python": "2.7"}, {"python": "3.6"}, {"python": "3.12", "env": "x"}, {"env": "a\n"}]
)
def test_words_that_cannot_be_right(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        Environment(**wrong)
