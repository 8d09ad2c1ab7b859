"""What the tests of syncs share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import poll

from colab_magics.mirror import control
from colab_magics.mirror.patterns import AGES, CONFLICT, OWNER, TRASH, VERSIONS
from colab_magics.mirror.state import Config
from colab_magics.mirror.sync import Sync
from colab_magics.transport.places import parse
from colab_magics.transport.places.base import SENTINEL


def write(folder: Path, **files: str) -> Path:
    """Write files (``name_txt`` stands for ``name.txt``) and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def tree(folder: Path) -> dict[str, str]:
    """Read all files of a folder, without ours."""
    ours = (SENTINEL, OWNER, AGES)
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if not path.name.startswith(".~")  # on its way, and gone a moment later
        and path.is_file()
        and path.name not in ours
        and path.relative_to(folder).parts[0] not in (TRASH, CONFLICT, VERSIONS)
    }


def begin(source: Path, to: Path | str, **options: Any) -> Sync:
    """Start a sync of `source` with a folder Place, as ``%sync SOURCE to=`` does; one pass an hour unless asked."""
    options = {"every": 3600.0, "project": "net", **options}
    take_over = options.pop("take_over", False)
    return control.start(Config.of(source, parse(str(to), project="net"), **options), take_over=take_over)


def state_of(sync: Sync, *words: str) -> dict[str, Any]:
    """Wait for one of these states."""
    poll(lambda: sync.state() in words, what=f"{words}, {sync.status()}")
    return sync.status()


def for_python() -> dict[str, str]:
    """Return an environment in which another interpreter finds the package and these tools."""
    folders = [Path(control.__file__).parents[2], Path(__file__).parents[1]]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}


@contextmanager
def tmpfs(folder: Path, *, size: str = "4m") -> Iterator[None]:
    """Mount an empty file system; the test may unmount it itself."""
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=False)
    if made.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        yield
    finally:
        if os.path.ismount(folder):
            subprocess.run(["umount", "-l", str(folder)], check=True)
