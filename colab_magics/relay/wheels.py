"""Wheels of packages for a machine that reaches no index: fetched here by pip, for the Python and the system there."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import os
import platform
import re
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import process
from ..errors import CommandFailed, InvalidInput, Unavailable

if TYPE_CHECKING:
    from packaging.requirements import Requirement

FETCH_SECONDS = 3600.0
_GLIBC = (2, 28)
"""Of a machine that does not say which it has: that of most wheels today, and of all supported distributions."""
_LEGACY = {(2, 5): "manylinux1", (2, 12): "manylinux2010", (2, 17): "manylinux2014"}
_PLACES = re.compile(
    r"^\s*(?:-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host|--no-index|--pre)\b.*", re.M
)
_NO_WHEEL = re.compile(r"No matching distribution found for ([^\n(;]+)")
_SOURCE_DATE = {"SOURCE_DATE_EPOCH": "315532800"}
"""1980, the oldest date in an archive: a wheel that is built twice is the same."""


@dataclass(frozen=True)
class Target:
    """The Python and the system that wheels are for.

    Parameters
    ----------
    python : str
        The version, such as ``3.12`` or ``3.12.4``.
    machine : str
        The processor, such as ``x86_64``.
    glibc : (int, int)
        The version of the system's C library.
    """

    python: str
    machine: str
    glibc: tuple[int, int] = _GLIBC

    def __post_init__(self) -> None:
        if not re.fullmatch(r"3\.\d+(\.\w+)?", self.python):
            raise InvalidInput(f"{self.python!r} is no version of Python.", "Write it as python=3.12.")

    @classmethod
    def of(cls, python: str = "", system: str = "") -> Target:
        """Return what a user asks for: this Python and this machine, where nothing is said.

        Parameters
        ----------
        python : str
            The version.
        system : str
            ``x86_64`` or ``aarch64``, or the name that wheels have for it with its C library:
            ``manylinux_2_17_x86_64``.
        """
        python = python or platform.python_version()
        if not system:
            return cls(python, platform.machine(), glibc_here())
        found = re.fullmatch(r"(?:manylinux_(\d+)_(\d+)_)?(x86_64|aarch64|i686|armv7l|ppc64le|s390x|riscv64)", system)
        if found is None:
            raise InvalidInput(
                f"{system!r} is no system that wheels are made for.",
                "Write platform=x86_64, platform=aarch64, or with its C library platform=manylinux_2_17_x86_64.",
            )
        return cls(python, found[3], (int(found[1]), int(found[2])) if found[1] else _GLIBC)

    @classmethod
    def said(cls, words: str) -> Target:
        """Read what `ASK` prints on a machine."""
        python, machine, *glibc = words.split()
        found = re.match(r"(\d+)\.(\d+)", glibc[0]) if glibc else None
        return cls(python, machine, (int(found[1]), int(found[2])) if found else _GLIBC)

    @property
    def short(self) -> str:
        """The Python's version as wheels have it."""
        return ".".join(self.python.split(".")[:2])

    @property
    def is_here(self) -> bool:
        """Whether what serves this Python on this machine serves there."""
        here = ".".join(map(str, sys.version_info[:2]))
        return (self.short, self.machine) == (here, platform.machine()) and self.glibc >= glibc_here()

    @property
    def options(self) -> list[str]:
        """What tells pip of it."""
        words = [*("--python-version", self.short), *("--implementation", "cp"), "--only-binary=:all:"]
        for minor in range(self.glibc[1], 4, -1):
            for tag in (f"manylinux_2_{minor}", _LEGACY.get((2, minor))):
                words += ["--platform", f"{tag}_{self.machine}"] if tag else []
        return words

    def wants(self, requirement: Requirement, extra: str = "") -> bool:
        """Whether a requirement counts there."""
        if requirement.marker is None:
            return True
        full = self.python if self.python != self.short else f"{self.short}.0"
        there = {"python_version": self.short, "python_full_version": full, "platform_machine": self.machine}
        return requirement.marker.evaluate({**there, "implementation_version": full, "extra": extra})

    def __str__(self) -> str:
        return f"Python {self.short} ({self.machine})"


ASK = "import platform; print(platform.python_version(), platform.machine(), platform.libc_ver()[1])"
"""For a Python: what it is; see `Target.said`."""


def glibc_here() -> tuple[int, int]:
    """Return the version of this machine's C library."""
    found = re.match(r"(\d+)\.(\d+)", platform.libc_ver()[1])
    return (int(found[1]), int(found[2])) if found else _GLIBC


def fetch(target: Target, words: Sequence[str], folder: Path, files: Mapping[str, bytes] | None = None) -> None:
    """Fetch packages with all that they need, as wheels; what has no wheel is built here.

    Parameters
    ----------
    target : Target
        What they are for.
    words : sequence of str
        What pip would be given there.
    folder : Path
        Where the wheels go to.
    files : mapping of str to bytes, optional
        Requirements files that `words` names.

    Raises
    ------
    Unavailable
        When a package cannot be had for the target: names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as asked:
        if target.is_here:
            _write(files or {}, Path(asked))
            _pip(target, "wheel", "--wheel-dir", str(folder), *words, cwd=asked)
            return
        # pip asks this Python, not the one that the wheels are for, whether a requirement counts.
        _write({name: _for_target(data, target) for name, data in (files or {}).items()}, Path(asked))
        chosen = [text for word in words for text in _for_target(word.encode(), target).decode().splitlines()]
        places = os.path.join(asked, "where to look.txt")
        _write(
            {
                places: "\n".join(_PLACES.findall("\n".join(map(_text, (files or {}).values())))).encode(
                    errors="surrogateescape"
                )
            },
            Path(asked),
        )
        while chosen:
            _download(target, [*chosen, "--requirement", places], folder, places)
            chosen = _missing(target, folder)
            pins = Path(asked, "chosen before.txt")
            pins.write_text("".join(f"{one.name}=={one.version}\n" for one in packages(folder)))
            chosen += ["--constraint", str(pins)] if chosen else []


def fetch_pip(target: Target, folder: Path) -> None:
    """Fetch pip, which installs without being installed."""
    with tempfile.TemporaryDirectory() as asked:
        _pip(target, "download", *target.options, "--no-deps", "--dest", str(folder), "pip", cwd=asked)


def packages(folder: Path) -> list[importlib.metadata.Distribution]:
    """Return what the wheels of a folder hold."""
    return [next(iter(importlib.metadata.distributions(path=[str(file)]))) for file in sorted(folder.glob("*.whl"))]


def bring(
    run: Callable[..., str], target: Target, words: Sequence[str], files: Mapping[str, bytes] | None = None
) -> str:
    """Fetch packages and copy them to a machine; what is there already is not copied again.

    Parameters
    ----------
    run : callable
        Runs a command there, with `input`, and returns what it printed.
    target, words, files
        As for `fetch`.

    Returns
    -------
    str
        The folder's name there, below ``colab_magics/wheels`` of the cache; pip is in it, too.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        fetch(target, words, folder, files)
        if not list(folder.glob("pip-*.whl")):
            fetch_pip(target, folder)
        wheels = sorted(folder.glob("*.whl"))
        mark = hashlib.sha256("\n".join(f"{file.name} {digest(file)}" for file in wheels).encode()).hexdigest()[:16]
        enter = f'umask 077; w="${{XDG_CACHE_HOME:-$HOME/.cache}}/colab_magics/wheels/{mark}"; mkdir -p "$w" && cd "$w"'
        there = run(["sh", "-c", f"{enter} && ls"], input=b"").splitlines()
        for file in wheels:
            if file.name not in there:
                # A file has its name when it is whole.
                script = f'{enter} && n=$(mktemp -d ./.new.XXXXXX) && tar -xf - -C "$n" && mv "$n"/* . && rmdir "$n"'
                packed = io.BytesIO()
                with tarfile.open(fileobj=packed, mode="w") as archive:
                    archive.add(file, file.name, filter=_private)
                run(["sh", "-c", script], input=packed.getvalue(), timeout=FETCH_SECONDS)
    return mark


def digest(file: Path) -> str:
    """Return a file's SHA-256."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _private(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mode = 0o600
    return entry


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def _pip(target: Target, verb: str, *words: str, cwd: str) -> None:
    command = [sys.executable, "-m", "pip", verb, "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    try:
        process.run([*command, *words], cwd=cwd, env=_SOURCE_DATE, timeout=FETCH_SECONDS)
    except CommandFailed as error:
        raise _failed(target, error.output) from error


def _failed(target: Target, output: str) -> Unavailable:
    if "No module named pip" in output:
        return Unavailable(f"{sys.executable} has no pip.", f"{sys.executable} -m ensurepip")
    if "subprocess-exited-with-error" in output:
        # The one that it was at, where it could not even begin to build.
        begun = re.findall(r"^ *(?:Collecting|Processing) (\S+)", output, re.M)[-1:]
        name = (re.findall(r"Failed building wheel for (\S+)", output) or begun or ["One of them"])[0]
        said = re.findall(r"lines of output\]\n(.*?)\[end of output\]", output, re.S) or [""]
        lines = [line.strip() for line in said[-1].splitlines() if line.strip()]
        return Unavailable(
            f"{os.path.basename(name)} has no wheel for {target}, and none can be built here: {' '.join(lines[-3:])}",
            "Choose a version that has a wheel, or mend what it says.",
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("ERROR:")] or lines
    return Unavailable(
        f"The packages for {target} cannot be fetched here: {' '.join(told[-2:])}",
        "Mend its requirement, or choose another version.",
    )


def _download(target: Target, words: Sequence[str], folder: Path, places: str) -> None:
    """Fetch wheels; a package that has none is built here, once, where that serves everywhere."""
    built = set[str]()
    while True:
        try:
            found = [*target.options, "--find-links", str(folder), "--dest", str(folder)]
            _pip(target, "download", *found, *words, cwd=os.path.dirname(places))
            return
        except Unavailable as error:
            named = _NO_WHEEL.search(error.what)
            if named is None or named[1].strip() in built:
                raise
            built.add(named[1].strip())
            _build(target, named[1].strip(), folder, places, error)


def _build(target: Target, requirement: str, folder: Path, places: str, problem: Unavailable) -> None:
    with tempfile.TemporaryDirectory() as made:
        _pip(target, "wheel", "--no-deps", "--wheel-dir", made, requirement, "--requirement", places, cwd=made)
        for file in Path(made).glob("*.whl"):
            if not file.name.endswith("-none-any.whl"):
                raise Unavailable(
                    f"{requirement} has no wheel for {target}, and one that is built here serves here alone.",
                    "Do it on such a machine with such a Python, or choose a version that has a wheel.",
                ) from problem
            os.replace(file, folder / file.name)


def _for_target(data: bytes, target: Target) -> bytes:
    """Leave out lines that do not count there, and what others say of when they count."""
    from packaging.requirements import InvalidRequirement, Requirement

    lines = []
    for line in _text(data).splitlines():
        try:
            requirement = Requirement(re.sub(r"(^|\s)#.*", "", line).strip())
        except InvalidRequirement:
            lines.append(line)
            continue
        if target.wants(requirement):
            requirement.marker = None
            lines.append(str(requirement))
    return "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")


def _missing(target: Target, folder: Path) -> list[str]:
    """Return what the packages of a folder need there, and is not among them."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    here = {canonicalize_name(one.name): one for one in packages(folder)}
    left, seen, found = [(name, "") for name in here], set[tuple[str, str]](), dict[str, None]()
    while left:
        name, extra = left.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in here[canonicalize_name(name)].requires or ():
            requirement = Requirement(line)
            if not target.wants(requirement, extra):
                continue
            other = canonicalize_name(requirement.name)
            if other in here and requirement.specifier.contains(here[other].version, prereleases=True):
                left += [(other, one) for one in requirement.extras]
            else:
                requirement.marker = None
                found[str(requirement)] = None
    return list(found)


def system_of(names: Iterable[str], target: Target) -> tuple[str, tuple[int, int] | None]:
    """Return which processor and which C library wheels need; nothing for those that serve everywhere."""
    from packaging.utils import parse_wheel_filename

    most: tuple[int, int] | None = None
    for name in names:
        systems = {tag.platform for tag in parse_wheel_filename(name)[3]}
        if "any" in systems:
            continue
        found = [_glibc_of(system) for system in systems]
        # What was built here may use all that is here.
        least = min((one for one in found if one is not None), default=target.glibc)
        most = max(most or least, least)
    return ("", None) if most is None else (target.machine, most)


def _glibc_of(system: str) -> tuple[int, int] | None:
    if found := re.match(r"manylinux_(\d+)_(\d+)_", system):
        return int(found[1]), int(found[2])
    return next((glibc for glibc, name in _LEGACY.items() if system.startswith(f"{name}_")), None)
