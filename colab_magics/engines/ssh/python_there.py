"""What the Python of runs on this machine has: packages, and kernels of Jupyter."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Any


def unmet() -> list[str]:
    """Return the requirements of this package that the Python here does not meet."""
    from packaging.requirements import Requirement

    found = []
    for line in importlib.metadata.requires("colab-magics") or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            found.append(line)
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            found.append(line)
    return found


def has_kernel(name: str) -> bool:
    """Whether there is a kernel of that name."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        KernelSpecManager().get_kernel_spec(name)
    except NoSuchKernel:
        return False
    return True


def preload_of(preload: dict[str, Any]) -> dict[str, Any]:
    """Say of the process that warm kernels are forked from how it starts here."""
    package = Path(__file__).parents[2]
    known = {}
    for name, order in (preload.get("kernels") or {}).items():
        if name and not has_kernel(name):
            name = ""
        program = package.joinpath(*Path(order["command"][-1]).parts[-2:])
        known[name] = {**order, "command": [sys.executable, str(program)], "env": {}, "started": None}
    return {"kernels": known}
