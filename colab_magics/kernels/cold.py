"""Cold start: a new kernel process for each run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

from ..errors import NotFound

THIS_PYTHON = "python3"

OUR_KERNEL = str(Path(__file__).with_name("private_api.py"))
_LAUNCHERS = ("ipykernel_launcher", "ipykernel", "colab_kernel_launcher")
"""Modules that kernelspecs start ipykernel by. All that Colab's own adds is that no output is dropped."""
_STOCK = ["-m", _LAUNCHERS[0]]


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
        if argv[at] == "-m" and argv[at + 1] in _LAUNCHERS:
            argv[at : at + 2] = [OUR_KERNEL]
            break
    changed = KernelSpec(**spec.to_dict())
    changed.argv, changed.resource_dir = argv, spec.resource_dir
    return changed


@dataclass(frozen=True)
class Interpreter:
    """The Python of a kernelspec: of an environment of its own, perhaps, with options and variables of its own.

    Parameters
    ----------
    command : list of str
        What stands before the program.
    env : dict of str to str
        Variables that the kernelspec sets, as it writes them: ``${HOME}/lib``.
    """

    command: list[str]
    env: dict[str, str]


def interpreter_of(kernel: str | None) -> Interpreter | None:
    """Return what a kernelspec starts ipykernel by; None where it starts something else.

    Parameters
    ----------
    kernel : str or None
        The kernelspec's name; None is this interpreter.
    """
    spec = with_our_kernel((ThisPythonSpecs() if kernel is None else KernelSpecManager()).get_kernel_spec(kernel or ""))
    at = where_ours_is(spec.argv)
    if at is None or spec.metadata.get("kernel_provisioner"):
        return None
    command = list(spec.argv[:at])
    # As jupyter_client reads them: the Python that it runs under.
    major, minor = sys.version_info[:2]
    if command[0] in ("python", f"python{major}", f"python{major}.{minor}"):
        command[0] = sys.executable
    return Interpreter(command, dict(spec.env))


def where_ours_is(command: Sequence[str]) -> int | None:
    """Return where our kernel's program stands in a command; None where it does not."""
    return command.index(OUR_KERNEL) if OUR_KERNEL in command[1:] else None


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
