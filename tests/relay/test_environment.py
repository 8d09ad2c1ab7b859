"""A host is prepared at first use, and never again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sshd import Sshd, sshd

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


@pytest.fixture(scope="session")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install uv."""
    folder = tmp_path_factory.mktemp("uv")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(folder)]
    subprocess.run([*pip, "uv"], check=True, capture_output=True, timeout=110)
    return folder / "bin" / "uv"


def made_by(box: Sshd, python: str) -> dict[str, str]:
    """Return what a virtual environment says of its making."""
    text = ssh.run(box.host, ["cat", str(Path(python).parent.parent / "pyvenv.cfg")]).stdout
    return dict(line.split(" = ", 1) for line in text.splitlines())


def version(box: Sshd, python: str) -> str:
    code = "import ipykernel, sys; print('.'.join(map(str, sys.version_info[:2])))"
    return ssh.run(box.host, [python, "-c", code]).stdout.strip()


def test_uv_makes_the_environment_where_it_is(box: Sshd, home: Path, uv: Path) -> None:
    (home / ".local" / "bin").mkdir(parents=True)
    (home / ".local" / "bin" / "uv").symlink_to(uv)
    python = prepare(box.host, Environment())
    assert "uv" in made_by(box, python)
    kernel = attach(box.host)
    # What users do there has to work too.
    assert value(kernel, "import pip, sys; sys.executable").strip("'\"") == python
    kernel.shutdown()


@pytest.mark.long
def test_the_version_that_was_asked_for(tmp_path: Path, home: Path, uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = sys.version_info[:2]
    number = f"{wanted[0]}.{wanted[1]}"
    found = Path(sys.base_prefix) / "bin"
    with sshd(tmp_path, session_home=home, session_path=f"/usr/bin:/bin:{found}") as box:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(box.config_file))
        by_venv = prepare(box.host, Environment(python=number))
        assert version(box, by_venv) == number
        assert "uv" not in made_by(box, by_venv)
        shutil.rmtree(home / ".cache")
        (home / ".local" / "bin").mkdir(parents=True)
        (home / ".local" / "bin" / "uv").symlink_to(uv)
        by_uv = prepare(box.host, Environment(python=number))
        assert version(box, by_uv) == number
        assert "uv" in made_by(box, by_uv)


@pytest.mark.long
def test_a_uv_that_fails_is_no_end(box: Sshd, home: Path) -> None:
    (home / ".local" / "bin").mkdir(parents=True)
    (home / ".local" / "bin" / "uv").write_text("#!/bin/sh\necho 'error: no network' >&2\nexit 2\n")
    (home / ".local" / "bin" / "uv").chmod(0o755)
    assert version(box, prepare(box.host, Environment()))


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


@pytest.mark.parametrize("known", ["list", "folder", "program", "base", "path"])
def test_an_environment_of_conda_is_found_by_its_name(
    tmp_path: Path, home: Path, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its layout and its list alone: no package index that tests may use has conda itself."""
    root = home / ("deep" if known in ("list", "program") else "miniforge3")
    name, folder = ("base", root) if known == "base" else ("my env", root / "envs" / "my env")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if known == "base":
        (root / "bin").mkdir(parents=True)
        (root / "bin" / "python").symlink_to(sys.executable)
        (root / "conda-meta").mkdir()
    else:
        folder.symlink_to(sys.prefix)
    if known == "list":
        (home / ".conda").mkdir()
        (home / ".conda" / "environments.txt").write_text(f"{home}/other\n{folder}\n")
    if known == "program":
        (root / "condabin").mkdir()
        (root / "condabin" / "conda").write_text("#!/bin/sh\n")
        (root / "condabin" / "conda").chmod(0o755)
    env = f"conda:{folder}" if known == "path" else f"conda:{name}"
    with sshd(tmp_path, session_home=home, session_path=f"/usr/bin:/bin:{root}/condabin") as box:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(box.config_file))
        if known == "base":
            # Its python is a link out of it, so that nothing is installed beside it.
            with pytest.raises(Unavailable, match="has no ipykernel") as caught:
                prepare(box.host, Environment(env=env))
            assert f"{folder}/bin/python" in str(caught.value)
        else:
            assert prepare(box.host, Environment(env=env)) == f"{folder}/bin/python"


@pytest.mark.parametrize(
    "wrong", [{"python": "2.7"}, {"python": "3.6"}, {"python": "3.12", "env": "x"}, {"env": "a\n"}]
)
def test_words_that_cannot_be_right(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        Environment(**wrong)
