"""Writes a bundle: the same code and packages give the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from .. import __version__, foreign
from ..checkout import elsewhere, git, install, recompute
from ..checkout.elsewhere import Needed
from ..checkout.project import DATA_PROJECT
from ..checkout.trust import Warn
from ..errors import InvalidInput, NotFound
from ..payloads.command import CommandDraft, is_line
from ..relay import wheels
from ..relay.code import Code
from ..relay.wheels import Target
from . import start

_HERE = Path(__file__).parent
_HEAD = b"#!/bin/sh\n# A bundle made by colab_magics:"
_OURS = re.compile(r"^\s*(?:import|from)\s+colab_magics\b", re.M)
_PROGRAM = "colab_magics_bundle"
_MAIN = f"""import sys
if sys.version_info < (3, 8):
    sys.exit("This bundle needs a newer Python. Start it by sh, which looks for one.")
from {_PROGRAM} import main
sys.exit(main())
"""


@dataclass(frozen=True)
class Packed:
    """What goes into a bundle beside its packages.

    Parameters
    ----------
    files : mapping of str to Path
        Where each file is, by its path there.
    notes : list of str
        What the user should know.
    """

    files: Mapping[str, Path]
    notes: list[str] = field(default_factory=list)


def collect(
    root: Path, command: CommandDraft, inputs: str | None, data_project: Path, needs: Needed, warn: Warn
) -> Packed:
    """Look for the files that go along.

    Parameters
    ----------
    root : Path
        The folder of the code.
    command : CommandDraft
        The command: a file that it names and that does not go is told.
    inputs : str or None
        Which inputs go along: ``full``, or names in `data_project` with commas between them.
    data_project : Path
        The folder of the inputs.
    needs : Needed
        The packages.
    warn : callable
        Is told what of the project's own lists does not count.

    Raises
    ------
    InvalidInput, NotFound
        For code that is more than code is, and inputs that are not there.
    """
    listed = recompute.read(root, warn)
    # What bundles have made here, and bundles, are no code.
    made = [mark.parent.name for mark in root.glob(f"*/{start.MARK}")]
    code = Code(root, listed=listed.include, unlisted=[*listed.exclude, *made])
    files = {path: root / path for path in code.wanted() if not is_bundle(root / path)}
    secret = code.left_behind()
    for path in _inputs(data_project, inputs):
        if foreign.looks_secret(str(path)):
            secret.append(f"{DATA_PROJECT}/{path}")
        else:
            files[f"{DATA_PROJECT}/{path}"] = data_project / path
    notes = [f"Left out, as it looks like a secret: {', '.join(secret)}"] if secret else []
    line = command.words[0] if is_line(command.words) else shlex.join(command.words)
    for word in dict.fromkeys(_words(line)):
        at = Path(os.path.normpath(root / word))
        if Path(word).is_absolute() and (at.is_relative_to(root) or at.is_file()):
            notes.append(f"{word} is a path of this machine: write one from the project's folder.")
        elif at.is_file() and at.is_relative_to(root) and str(at.relative_to(root)) not in files:
            notes.append(f"{word} does not go along: name it in {recompute.FOLDER}/include, or by inputs=")
    ours = any(b"colab-magics" in text or b"colab_magics" in text for text in needs.files.values())
    if not ours and (
        users := [path for path in sorted(files) if path.endswith(".py") and _OURS.search(_read(files[path]))]
    ):
        notes.append(f"{users[0]} imports colab_magics, which is not in the bundle: write it into requirements.txt.")
    return Packed(dict(sorted(files.items())), notes)


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _inputs(folder: Path, named: str | None) -> Iterator[Path]:
    """Yield the files of the inputs that were named, relative to their folder."""
    if named is None or named == "none":
        return
    real = folder.resolve()
    for name in [""] if named == "full" else [one.strip() for one in named.split(",") if one.strip()]:
        at = folder / name
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or not at.exists():
            raise NotFound(f"There is no {name!r} in {folder}.", "Name inputs from there: inputs=train.csv,images")
        below = [at] if at.is_file() else [Path(top, one) for top, _, names in os.walk(at) for one in names]
        for file in below:
            if file.is_file() and file.resolve().is_relative_to(real):  # no link leads out of them
                yield file.relative_to(folder)


def needed(root: Path, requirements: str | None) -> Needed:
    """Return what a project needs; a project may need nothing.

    Raises
    ------
    InvalidInput, NotFound
        As `colab_magics.checkout.elsewhere.of_project`.
    """
    nothing = Needed([], {}, "nothing")
    if requirements is not None and requirements.lower() == "none":
        return nothing
    if install.find(root, requirements) is None:
        found = elsewhere.imports(root)
        if not found.requirements:
            unknown = [f"Nothing here says which packages hold {', '.join(found.unknown)}: write a requirements.txt."]
            return Needed([], {}, "nothing", unknown if found.unknown else [])
    return elsewhere.of_project(root, requirements)


def is_bundle(file: Path) -> bool:
    """Whether a file is one of ours."""
    try:
        with open(file, "rb") as stream:
            return stream.read(len(_HEAD)) == _HEAD
    except OSError:
        return False


def check_place(to: Path) -> None:
    """See that a bundle may be written there.

    Raises
    ------
    InvalidInput
        When something else is there.
    """
    if to.is_dir() or (os.path.lexists(to) and not is_bundle(to)):
        raise InvalidInput(f"{to} is there, and is no bundle.", "Choose another name: --bundle train.bundle")
    if not to.parent.is_dir():
        raise InvalidInput(f"There is no folder {to.parent}.", "Make it, or choose another one.")


@dataclass(frozen=True)
class Made:
    """A bundle that was written.

    Parameters
    ----------
    size : int
        Its bytes.
    digest : str
        Its SHA-256.
    about : mapping
        Its manifest.
    """

    size: int
    digest: str
    about: Mapping[str, Any]


def make(to: Path, root: Path, words: Sequence[str], packed: Packed, needs: Needed, target: Target) -> Made:
    """Fetch the packages and write a bundle; nobody sees it before it is whole.

    Parameters
    ----------
    to : Path
        The file.
    root : Path
        The folder of the code.
    words : sequence of str
        The command.
    packed : Packed
        The files.
    needs : Needed
        The packages.
    target : Target
        What they are for.

    Raises
    ------
    Unavailable
        When a package cannot be had.
    """
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".bundle-") as made:
        folder, pip = Path(made, "wheels"), Path(made, "pip")
        if needs.words:
            wheels.fetch(target, needs.words, folder, needs.files)
            wheels.fetch_pip(target, pip)
        about = _about(root, words, packed, folder, pip, target)
        new = Path(made, "bundle")
        with open(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o700), "w+b") as stream:
            _write(stream, about, packed, [*folder.glob("*.whl"), *pip.glob("*.whl")])
        os.replace(new, to)
    return Made(to.stat().st_size, wheels.digest(to), about)


def _about(root: Path, words: Sequence[str], packed: Packed, folder: Path, pip: Path, target: Target) -> dict[str, Any]:
    files = {}
    for path, file in packed.files.items():
        seen = file.stat()
        files[path] = [wheels.digest(file), bool(seen.st_mode & stat.S_IXUSR), seen.st_size]
    found = {file.name: wheels.digest(file) for file in sorted(folder.glob("*.whl"))}
    lock = "".join(
        f"{one.name}=={one.version} --hash=sha256:{digest}\n"
        for one, digest in zip(wheels.packages(folder), found.values(), strict=True)
    )
    machine, glibc = wheels.system_of(found, target)
    project = install.find(root)
    inner = "src" if any(path.startswith("src/") for path in files) else "."
    return {
        "version": __version__,
        "commit": git.ask("rev-parse", "HEAD", cwd=root) or "",
        "command": list(words),
        "shell": is_line(words),
        "python": target.short if found else "",
        "machine": machine,
        "glibc": glibc,
        # A project that can be installed is imported from here as if it were.
        "path": [inner] if project is not None and project.is_project else [],
        "lock": lock,
        "wheels": found,
        "pip": {file.name: wheels.digest(file) for file in pip.glob("*.whl")},
        "files": files,
    }


def _write(stream: IO[bytes], about: Mapping[str, Any], packed: Packed, found: Sequence[Path]) -> None:
    head = (_HERE / "head.sh").read_text().replace("@PYTHON@", about["python"])
    stream.write(head.encode())
    with zipfile.ZipFile(stream, "w") as archive:
        program = Path(start.__file__).read_text()
        texts = {start.MANIFEST: json.dumps(about), f"{_PROGRAM}.py": program, "__main__.py": _MAIN}
        for name, text in texts.items():
            archive.writestr(_entry(name, zipfile.ZIP_DEFLATED), text)
        done = set[str]()
        for path, (digest, _, size) in about["files"].items():
            if digest not in done:
                done.add(digest)
                _add(archive, f"files/{digest}", packed.files[path], digest, size, zipfile.ZIP_DEFLATED)
        known = {**about["wheels"], **about["pip"]}
        for file in sorted(found, key=lambda one: one.name):
            _add(archive, f"wheels/{file.name}", file, known[file.name], file.stat().st_size, zipfile.ZIP_STORED)


def _entry(name: str, method: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type, entry.create_system, entry.external_attr = method, 3, 0o600 << 16
    return entry


def _add(archive: zipfile.ZipFile, name: str, file: Path, digest: str, size: int, method: int) -> None:
    seen = hashlib.sha256()
    entry = _entry(name, method)
    entry.file_size = size
    with open(file, "rb") as stream, archive.open(entry, "w", force_zip64=size > 1 << 30) as packed:
        while block := stream.read(1 << 20):
            seen.update(block)
            packed.write(block)
    if seen.hexdigest() != digest:
        raise InvalidInput(f"{file} changed while it was packed.", "Say it again.")
