"""What a project needs: found, named when it is missing, installed by real pip."""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from colab_magics.checkout import install
from colab_magics.errors import CommandFailed, InvalidInput, NotFound

from .conftest import blocks


def make_wheel(folder: Path, name: str, version: str = "1.0") -> Path:
    """Write a small wheel, so that nothing is downloaded."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text)}\n")
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "".join(rows) + f"{info}/RECORD,,\n")
    return wheel


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let pip install into a folder of the test, offline; what stands there counts as installed."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("PIP_TARGET", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    return folder


def test_what_is_needed_is_found(tmp_path: Path) -> None:
    assert install.find(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    assert install.find(tmp_path) is None, "a pyproject.toml for a linter alone cannot be installed"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "net"\nversion = "1"\n')
    assert install.find(tmp_path) == install.Needs(tmp_path / "pyproject.toml")
    (tmp_path / "requirements.txt").touch()
    assert install.find(tmp_path) == install.Needs(tmp_path / "requirements.txt")
    (tmp_path / "other needs.txt").touch()
    assert install.find(tmp_path, "other needs.txt") == install.Needs(tmp_path / "other needs.txt")
    assert install.find(tmp_path, "none") is None
    with pytest.raises(NotFound, match=r"gone\.txt") as error:
        install.find(tmp_path, "gone.txt")
    blocks(error.value)
    (tmp_path / "requirements.txt").unlink()
    (tmp_path / "pyproject.toml").write_text("[project\n")
    with pytest.raises(InvalidInput, match="cannot be read") as invalid:
        install.find(tmp_path)
    blocks(invalid.value)


def test_missing_packages_are_named(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("-r requirements.txt\nfrom-the-other-file\n")
    (tmp_path / "requirements.txt").write_text(
        "# a comment\npytest>=1  # there\npytest>=1000\nnot-there-at-all[extra]>=2\n"
        "elsewhere; python_version < '3'\n--index-url https://example.org/simple\n-e .\n./wheels/local.whl\n"
        "split-over \\\n   >=3\nhashed==1 --hash=sha256:00\n-r more.txt\n-r gone.txt\n"
    )
    found = install.missing(install.Needs(tmp_path / "requirements.txt"))
    assert found[0] == f"pytest>=1000 ({pytest.__version__} is installed)"
    assert [line.split()[0] for line in found[1:]] == [
        "not-there-at-all[extra]>=2",
        "split-over",
        "hashed==1",
        "from-the-other-file",
    ]


def test_missing_packages_of_a_pyproject(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "net"\nversion = "1"\ndependencies = ["pytest", "not-there-at-all"]\n'
    )
    assert install.missing(install.Needs(tmp_path / "pyproject.toml")) == ["not-there-at-all"]


# B3
def test_b3_requirements_are_installed(tmp_path: Path, target: Path) -> None:
    root = tmp_path / "with space"
    make_wheel(root / "wheels", "cm_needed")
    (root / "needs").mkdir()
    (root / "needs" / "all.txt").write_text("./wheels/cm_needed-1.0-py3-none-any.whl\n")
    install.install(install.Needs(root / "needs" / "all.txt"), root)
    assert (target / "cm_needed.py").exists()
    (root / "requirements.txt").write_text("cm_needed>=1\n")
    assert install.missing(install.Needs(root / "requirements.txt")) == []


def test_b3_a_failed_install_is_an_error_with_the_last_lines(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INDEX_PASSWORD", "s3cret")
    (tmp_path / "requirements.txt").write_text("not-there-at-all-s3cret>=2\n")
    with pytest.raises(CommandFailed, match="No matching distribution") as error:
        install.install(install.Needs(tmp_path / "requirements.txt"), tmp_path, secrets=["s3cret"])
    assert "requirements.txt" in blocks(error.value)
    assert "not-there-at-all-***" in str(error.value)
    assert "s3cret" not in str(error.value)


def test_b3_the_project_itself_is_installed(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A build system of its own, so that nothing is downloaded.
    root = tmp_path / "net"
    make_wheel(root / "wheels", "cm_project")
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "cm_project"\nversion = "1.0"\n'
    )
    (root / "backend.py").write_text(
        "import os, shutil\n"
        "def build_editable(folder, config_settings=None, metadata_directory=None):\n"
        "    name = 'cm_project-1.0-py3-none-any.whl'\n"
        "    shutil.copy(os.path.join(os.path.dirname(__file__), 'wheels', name), folder)\n"
        "    return name\n"
    )
    needs = install.find(root)
    assert needs is not None
    install.install(needs, root)
    assert (target / "cm_project.py").exists()


def test_an_interpreter_without_pip_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "python"
    bare.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    (tmp_path / "requirements.txt").write_text("anything\n")
    with pytest.raises(CommandFailed, match="ensurepip"):
        install.install(install.Needs(tmp_path / "requirements.txt"), tmp_path)
