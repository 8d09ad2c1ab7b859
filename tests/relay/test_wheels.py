"""Hosts that reach no package index get wheels from here, for the Python that they have."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from boxes import boxes
from conftest import HOSTILE_NAMES, set_up
from sshd import Sshd, sshd

from colab_magics import __main__ as face
from colab_magics.engines.ssh.host import Host
from colab_magics.errors import CommandFailed, InvalidInput, Unavailable
from colab_magics.relay import environment, wheels
from colab_magics.relay.environment import Environment, prepare
from colab_magics.relay.install_there import install
from colab_magics.relay.wheels import Target
from colab_magics.transport import ssh
from relay.conftest import other_pythons

NO_INDEX = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": "/dev/null"}
"""For a host: its index is nowhere."""

HERE = ".".join(map(str, sys.version_info[:2]))


@pytest.fixture
def lonely(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """Run an sshd for a host without an index, whose Python is another one where there is one."""
    path = ":".join([*(str(python.parent) for python in other_pythons()[:1]), "/usr/bin", "/bin"])
    with sshd(tmp_path, session_home=home, session_path=path, **NO_INDEX) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        yield server


def of_host(host: str, python: str, code: str) -> str:
    return ssh.run(host, [python, "-c", code]).stdout.strip()


@pytest.mark.long
def test_a_project_is_installed_on_a_host_without_an_index(
    lonely: Sshd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = set_up(tmp_path / "net's")
    folder = "ünï-$(touch-gone)"
    (project.root / folder).mkdir()
    (project.root / folder / "more.txt").write_text("tomli; python_version < '3.11'\nsix==1.17.0  # old\n")
    (project.root / "requirements.txt").write_text(f"-r {folder}/more.txt\n")
    assert face.main(["host", "install", "host=box"]) == 0
    printed = capsys.readouterr()
    assert "box reaches no package index, or has no pip: packages are copied there" in printed.out + printed.err
    python = prepare("box", Environment("", "", environment_of(project.root)), own=True)
    assert of_host("box", python, "import six, ipykernel; print(six.__version__)") == "1.17.0"
    if other_pythons() and "3.8" in str(other_pythons()[0]):
        assert of_host("box", python, "import tomli, exceptiongroup; print(1)") == "1"
    # What nobody has is told as the host tells it.
    with pytest.raises(CommandFailed, match=r"box could not install nosuch-thing==1\.0"):
        install("box", python, ["nosuch-thing==1.0"], {})
    # The copies are there for the next one, and for nobody else.
    cache = Path.home() / ".cache" / "colab_magics" / "wheels"
    assert {file.stat().st_mode & 0o077 for file in cache.rglob("*")} == {0}


def environment_of(root: Path) -> str:
    from colab_magics.relay.code import folder_there

    return folder_there(root)


def test_what_is_there_is_not_copied_again(box: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    run = partial(environment.run_on, "box")
    mark = wheels.bring(run, Target.of(), ["six==1.17.0"])
    copied: list[str] = []

    def counted(command: list[str], *, input: bytes, timeout: float = 0) -> str:
        copied.extend([command[2]] * bool(input))
        return run(command, input=input)

    assert wheels.bring(counted, Target.of(), ["six==1.17.0"]) == mark
    assert copied == []


def test_runs_on_a_host_without_an_index_get_what_they_need(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import venv

    bare = tmp_path / "ba're"  # as Debian makes it: without pip
    venv.create(bare, with_pip=False, symlinks=True)
    with boxes(tmp_path, home, ["alpha"]) as (alpha,):
        (alpha.home / ".config" / "pip").mkdir(parents=True)
        (alpha.home / ".config" / "pip" / "pip.conf").write_text("[global]\nno-index = true\nfind-links =\n")
        (alpha.home / ".cache/colab_magics/env" / Environment().key).write_text(f"{bare}/bin/python\n")
        Host("alpha", "colab_magics/x", lambda: None)._install(["six==1.17.0", "nothing; extra == 'x'"])
        assert of_host("alpha", f"{bare}/bin/python", "import six; print(six.__version__)") == "1.17.0"


def test_requirements_count_for_the_other_python(tmp_path: Path) -> None:
    """pip evaluates them for the Python that it runs in."""
    files = {"a.txt": b"tomli; python_version < '3.11'\nbackports-nothing; python_version > '3.10'\n"}
    wheels.fetch(
        Target("3.9", "aarch64"), ["-r", "a.txt", "six; python_version >= '3.13'", "pytest<9"], tmp_path, files
    )
    names = {one.name for one in wheels.packages(tmp_path)}
    assert {"tomli", "pytest", "exceptiongroup", "typing_extensions"} <= names
    assert "six" not in names


# pip reads no name with a line break.
@pytest.mark.parametrize("name", [name for name in HOSTILE_NAMES if "\n" not in name])
def test_files_of_any_name(tmp_path: Path, name: str) -> None:
    wheels.fetch(Target.of(), [f"--requirement={name}/r.txt"], tmp_path / name, {f"{name}/r.txt": b"six\n"})
    assert [one.name for one in wheels.packages(tmp_path / name)] == ["six"]
    assert not list(tmp_path.rglob("gone"))


def sdist(folder: Path, name: str, setup: str) -> None:
    """Make a source archive."""
    import io
    import tarfile

    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / f"{name}-1.0.tar.gz", "w:gz") as archive:
        for file, text in {
            "setup.py": setup,
            f"{name}.py": "x = 1",
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        }.items():
            entry = tarfile.TarInfo(f"{name}-1.0/{file}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


@pytest.mark.long
def test_what_has_no_wheel_is_built(tmp_path: Path) -> None:
    plain = "from setuptools import setup\nsetup(name='{0}', version='1.0', py_modules=['{0}'])"
    name = "native_one_of_tests"
    native = f"from setuptools import *\nsetup(name='{name}', version='1.0', ext_modules=[Extension('{name}', [])])"
    sdist(tmp_path / "from", "pure_one", plain.format("pure_one"))
    sdist(tmp_path / "from", name, native)
    sdist(tmp_path / "from", "broken_one_of_tests", "raise SystemExit('no way')")
    files = {"where.txt": f"--find-links {tmp_path / 'from'}\n".encode()}
    words = ["--requirement", "where.txt"]
    for number, target in enumerate((Target.of(), Target("3.9", "aarch64"))):
        wheels.fetch(target, [*words, "pure-one"], tmp_path / str(number), files)
        assert [file.name for file in (tmp_path / str(number)).iterdir()] == ["pure_one-1.0-py3-none-any.whl"]
        with pytest.raises(Unavailable, match="broken_one_of_tests") as caught:
            wheels.fetch(target, [*words, "broken_one_of_tests"], tmp_path / "no", files)
        assert str(target) in str(caught.value)
    with pytest.raises(Unavailable, match=r"native.one.of.tests has no wheel for Python 3\.9 \(aarch64\)"):
        wheels.fetch(Target("3.9", "aarch64"), [*words, name], tmp_path / "no", files)


def test_targets() -> None:
    assert Target.of().is_here
    assert not Target.of("3.8").is_here
    assert not Target.of("", "manylinux_2_5_x86_64").is_here
    assert Target.of(HERE, "manylinux_2_17_aarch64") == Target(HERE, "aarch64", (2, 17))
    assert Target.said("3.12.4 x86_64 2.17") == Target("3.12.4", "x86_64", (2, 17))
    assert Target.said("3.12.4 x86_64").glibc == (2, 28)
    assert "manylinux2014_aarch64" in Target("3.9", "aarch64", (2, 17)).options
    assert "manylinux_2_18_aarch64" not in Target("3.9", "aarch64", (2, 17)).options
    for python, system in (("2.7", ""), ("three", ""), ("", "win_amd64"), ("", "manylinux_2_17")):
        with pytest.raises(InvalidInput):
            Target.of(python, system)


def test_a_bare_machine_without_an_index_executes_runs(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{sys.base_prefix}/bin:/usr/bin:/bin"
    with sshd(tmp_path, session_home=home, session_path=path, **NO_INDEX) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        host = Host("box", "colab_magics/x", lambda: None)
        try:
            host.open().result(100)
            assert host.said["unmet"] == []
            assert list((home / ".cache/colab_magics/wheels").glob("*/msgspec-*.whl"))
        finally:
            host.close()
