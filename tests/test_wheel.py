"""The wheel: what is in it, and what installing it changes on Google Colab (nothing that is there)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import colab_magics

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "tests" / "colab-constraints.txt"
USERS_ENVIRONMENT = dict(os.environ)
"""pip reads the user's settings and cache, which tests otherwise do not see."""

KNOWN_ADDITIONS = {"colab-magics", "papermill", "cyclopts", "rich-rst", "jedi", "ruamel-yaml", "msgspec"}
"""What an install brings to Colab that is not there; grow this list only with a good reason.

msgspec: files of runs that came from elsewhere are checked field by field; pydantic takes ten times as long to import.
"""


def canonical(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pip(python: Path | str, *arguments: str | Path) -> str:
    """Run pip as the user would and return what it printed."""
    command = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, env=USERS_ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def resolve(python: Path | str, *arguments: str | Path) -> list[dict[str, Any]]:
    """Return the metadata of all that pip would install."""
    report = json.loads(pip(python, "install", "--quiet", "--dry-run", "--report", "-", *arguments))
    return [item["metadata"] for item in report["install"]]


def changed(installs: Sequence[Mapping[str, Any]], pins: Mapping[str, str]) -> dict[str, str]:
    """Return what would replace a pinned package by another version."""
    return {
        name: item["version"]
        for item in installs
        if (name := canonical(item["name"])) in pins and item["version"] != pins[name]
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, as a release does."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "colab_magics", source / "colab_magics", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    target = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--quiet", "--no-deps", "--wheel-dir", target, source)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    """Read the versions that Colab comes with."""
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if "==" in line and not line.startswith("#")]
    return {canonical(name): version.strip() for name, _, version in (line.partition("==") for line in lines)}


@pytest.fixture(scope="module")
def colabs_python() -> str:
    """Find a Python of the version that Colab has."""
    found = subprocess.run(
        ["sh", ROOT / "tests" / "setup" / "python.sh", "colab"], env=USERS_ENVIRONMENT, capture_output=True, text=True
    )
    if found.returncode:
        pytest.skip("needs Colab's Python (3.13 or 3.12), which is not on this machine")
    return found.stdout.strip()


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    info = f"colab_magics-{colab_magics.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"colab_magics", info}
    files = (path for path in (ROOT / "colab_magics").rglob("*") if path.is_file() and path.suffix != ".pyc")
    sources = {path.relative_to(ROOT).as_posix() for path in files}
    assert {name for name in names if name.startswith("colab_magics/")} == sources
    assert f"{info}/licenses/LICENSE" in names
    metadata = zipfile.ZipFile(wheel).read(f"{info}/METADATA").decode()
    assert f"\nVersion: {colab_magics.__version__}\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    entry_points = zipfile.ZipFile(wheel).read(f"{info}/entry_points.txt").decode()
    assert "colab-magics = colab_magics.__main__:main" in entry_points


def test_installing_the_wheel_changes_no_pin_of_colab(
    wheel: Path, pins: dict[str, str], colabs_python: str, tmp_path: Path
) -> None:
    # With the constraints the resolver must find an answer at all; it also tells what each package requires.
    constrained = resolve(colabs_python, "--ignore-installed", "--constraint", CONSTRAINTS, wheel)
    assert changed(constrained, pins) == {}

    # A user on Colab gives no constraints. Give pip an environment in which all the pins count as installed, with
    # their requirements, and see what it would do there.
    subprocess.run([colabs_python, "-m", "venv", "--without-pip", tmp_path / "colab"], check=True)
    (packages,) = (tmp_path / "colab").glob("lib/python3.*/site-packages")
    requires = {canonical(item["name"]): item.get("requires_dist", []) for item in constrained}
    for name, version in pins.items():
        folder = packages / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        needed = "".join(f"Requires-Dist: {line}\n" for line in requires.get(name, []))
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}")
        (folder / "RECORD").touch()
        (folder / "INSTALLER").write_text("pip\n")
    installs = resolve_there(tmp_path / "colab", wheel, colabs_python)
    assert changed(installs, pins) == {}
    added = {canonical(item["name"]) for item in installs}
    assert {"colab-magics", "papermill", "cyclopts"} <= added <= KNOWN_ADDITIONS


def resolve_there(environment: Path, wheel: Path, python: str) -> list[dict[str, Any]]:
    """Return what pip would install in an environment that has no pip of its own."""
    output = pip(
        python,
        *("--python", environment / "bin" / "python"),
        *("install", "--quiet", "--dry-run", "--report", "-", wheel),
    )
    return [item["metadata"] for item in json.loads(output)["install"]]


def test_a_changed_pin_is_seen() -> None:
    pins = {"ipython": "7.34.0", "rich": "13.9.4"}
    assert changed([{"name": "IPython", "version": "9.0"}, {"name": "rich", "version": "13.9.4"}], pins) == {
        "ipython": "9.0"
    }
