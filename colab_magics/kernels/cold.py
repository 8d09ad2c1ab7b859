"""Cold start: a new kernel process for each run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

from ..errors import NotFound

THIS_PYTHON = "python3"

OUR_KERNEL = str(Path(__file__).with_name("private_api.py"))
_STOCK = ["-m", "ipykernel_launcher"]


class ThisPythonSpecs(KernelSpecManager):  # type: ignore[misc]
    """Knows one kernel: ipykernel under the interpreter that runs this code."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return it, whatever its name."""
        argv = [sys.executable, *_STOCK, "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


def with_our_kernel(spec: KernelSpec) -> KernelSpec:
    """Return a kernelspec whose kernel loses no output: ipykernel's launcher is exchanged for ours, others stay."""
    argv = list(spec.argv)
    for at in range(1, len(argv) - 1):
        if argv[at : at + 2] == _STOCK:
            argv[at : at + 2] = [OUR_KERNEL]
            break
    changed = KernelSpec(**spec.to_dict())
    changed.argv, changed.resource_dir = argv, spec.resource_dir
    return changed


def language_of(kernel: str) -> str:
    """Return the language of an installed kernel: notebooks need not say it."""
    return str(KernelSpecManager().get_kernel_spec(kernel).language)


def check_kernel(content: dict[str, Any], name: str) -> str:
    """Find the installed kernel that a notebook asks for.

    Parameters
    ----------
    content : dict
        The notebook.
    name : str
        Its file name, for the error.

    Returns
    -------
    str
        The kernelspec's name.

    Raises
    ------
    NotFound
        When it is not installed; lists those that are.
    """
    kernel = str(content.get("metadata", {}).get("kernelspec", {}).get("name") or THIS_PYTHON)
    specs = KernelSpecManager()
    try:
        found = specs.get_kernel_spec(kernel)
    except NoSuchKernel:
        known = ", ".join(sorted(specs.find_kernel_specs())) or "none"
        raise NotFound(
            f"{name} wants the kernel {kernel!r}, which is not installed here.",
            f"Choose another kernel for it in Jupyter and save it. Installed: {known}.",
        ) from None
    if Path(found.argv[0]).is_absolute() and not Path(found.argv[0]).exists():
        raise NotFound(
            f"The kernel {kernel!r} of {name} starts {found.argv[0]}, which is not there.",
            "Install that environment again, or choose another kernel for the notebook.",
        )
    return kernel
