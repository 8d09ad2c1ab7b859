"""``build/`` of a project: YAML for people to read, of what a cluster would get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ... import process
from ...checkout.project import real_folder
from ...errors import InvalidInput

BUILD = "build"
WRITTEN = b"# Written by colab-magics"
"""The folder, and how the files begin that are written there: they are no code."""


def write(root: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write ``build/<name>.yaml`` of a project.

    Raises
    ------
    InvalidInput
        When a file of that name is none that was written here, or the folder leads elsewhere.
    """
    folder = real_folder(root, BUILD)
    files = [real_folder(root, BUILD, f"{name}.yaml") for name in texts]
    for file in files:
        if file.exists() and not file.read_bytes().startswith(WRITTEN):
            raise InvalidInput(f"{file} was not written by colab-magics.", "Move it away, or rename it.")
    folder.mkdir(exist_ok=True)
    for file, text in zip(files, texts.values(), strict=True):
        process.write_whole(file, f"{WRITTEN.decode()} --dry-run, to be read\n{text}", durable=False)
    return files


def say(files: Sequence[Path]) -> str:
    """Say which files were written."""
    return "\n".join(["Written, what the cluster would get:", *(f"  {file}" for file in files)])
