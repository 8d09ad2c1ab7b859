"""What a project needs to be installed: say what is missing, and install it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import process
from ..errors import CommandFailed, InvalidInput, NotFound

_SHOWN_LINES = 12


@dataclass(frozen=True)
class Needs:
    """Where a project says what it needs.

    Parameters
    ----------
    file : Path
        A requirements file, or a pyproject.toml.
    """

    file: Path

    @property
    def is_project(self) -> bool:
        """Whether the project itself is to be installed."""
        return self.file.name == "pyproject.toml"

    def pip_arguments(self) -> list[str]:
        """Return what pip is given, to be run in the project's folder."""
        # Editable: edits in the checkout count at once, as they do without an installation.
        return ["--editable", str(self.file.parent)] if self.is_project else ["--requirement", str(self.file)]


def find(root: Path, requirements: str | None = None) -> Needs | None:
    """Find what a project needs.

    Parameters
    ----------
    root : Path
        The project's folder.
    requirements : str, optional
        A requirements file, relative to `root`; ``none`` for nothing. By default ``requirements.txt``, else a
        pyproject.toml that can be installed.

    Raises
    ------
    NotFound
        When a file was named that is not there.
    """
    if requirements is not None and str(requirements).lower() == "none":
        return None
    if requirements is not None:
        file = root / Path(str(requirements)).expanduser()
        if not file.is_file():
            raise NotFound(
                f"There is no requirements file {file}.",
                "Write its path from the project's folder: requirements=requirements.txt, or requirements=none",
            )
        return Needs(file)
    if (root / "requirements.txt").is_file():
        return Needs(root / "requirements.txt")
    project = root / "pyproject.toml"
    # Many projects have a pyproject.toml for their linter alone: that one cannot be installed.
    return Needs(project) if project.is_file() and {"project", "build-system"} & _pyproject(project).keys() else None


def install(needs: Needs, root: Path, *, secrets: Iterable[str] = ()) -> list[str]:
    """Install what a project needs into this interpreter's environment.

    Parameters
    ----------
    needs : Needs
        What `find` found.
    root : Path
        The project's folder: relative paths in a requirements file start there.
    secrets : iterable of str
        Values that pip must not show.

    Returns
    -------
    list of str
        Modules that this process imported before another version of them was installed: it goes on with the old one.

    Raises
    ------
    CommandFailed
        When pip fails; holds its last lines.
    """
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    try:
        said = process.run([*command, *needs.pip_arguments()], cwd=root, secrets=secrets).stdout
    except CommandFailed as error:
        lines = [line for line in error.output.splitlines() if line.strip()]
        mend = f"Mend {needs.file.name}, then run this again; requirements=none installs nothing."
        if "No module named pip" in error.output:
            mend = f"{sys.executable} -m ensurepip"
        raise CommandFailed(
            f"pip could not install what {needs.file} asks for.\n" + "\n".join(lines[-_SHOWN_LINES:]),
            mend,
            returncode=error.returncode,
            output=error.output,
        ) from None
    importlib.invalidate_caches()
    return _imported_before(said)


def _imported_before(said: str) -> list[str]:
    """Return the modules of this process that pip says to have exchanged."""
    found = set()
    for line in re.findall(r"^Successfully installed (.*)$", said, re.MULTILINE):
        for word in line.split():
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                files = importlib.metadata.files(word.rpartition("-")[0]) or []
                found |= {file.parts[0].removesuffix(".py") for file in files}
    return sorted(found & sys.modules.keys())


def missing(needs: Needs) -> list[str]:
    """Return the requirements that this environment does not meet, as they are written.

    Only names and versions are looked at; addresses and options of pip are passed over.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    found = []
    for line in project_lines(needs.file) or () if needs.is_project else _file_lines(needs.file, set()):
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue  # an address or a path: only pip can tell whether it is installed
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found.append(line)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{line} ({version} is installed)")
    return found


def project_lines(file: Path) -> list[str] | None:
    """Return the dependencies that a pyproject.toml lists; None when a program that builds it knows them alone."""
    project = _pyproject(file).get("project", {})
    if "dependencies" not in project and ("dependencies" in project.get("dynamic", ()) or not project):
        return None
    return [str(one) for one in project.get("dependencies", [])]


def _file_lines(file: Path, seen: set[Path]) -> list[str]:
    """Read the requirements of a file and of those that it names with ``-r``."""
    if file in seen or not file.is_file():
        return []
    seen.add(file)
    text = re.sub(r"\\\r?\n", " ", file.read_text(encoding="utf-8-sig", errors="replace"))
    lines: list[str] = []
    for raw in text.splitlines():
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        if other := re.match(r"(?:-r|--requirement)[\s=]*(.+)", line):
            lines += _file_lines(file.parent / other[1].strip(), seen)
        elif line and not line.startswith("-"):
            lines.append(re.split(r"\s--", line)[0].strip())
    return lines


def _pyproject(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", "Mend it, or write requirements=none.") from None
