"""Cold start: a new kernel process for each run."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from traitlets import default

from ..errors import NotFound

THIS_PYTHON = "python3"


class _ThisPythonSpecs(KernelSpecManager):  # type: ignore[misc]
    """Knows one kernel: ipykernel under the interpreter that runs this code."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


class ThisPythonManager(AsyncKernelManager):  # type: ignore[misc]
    """Start kernels with this interpreter, over unix sockets.

    A fork's runs use the interpreter of the notebook that forks, whatever a kernelspec of the same name says. Unix
    sockets in a private folder: several runs that start at once cannot race for TCP ports.
    """

    @default("kernel_spec_manager")  # type: ignore[untyped-decorator]
    def _specs(self) -> KernelSpecManager:
        return _ThisPythonSpecs(parent=self)

    def __init__(self, **kwargs: Any) -> None:
        # Short path: a unix socket's is limited to 107 bytes.
        base = tempfile.gettempdir()
        self._folder = tempfile.mkdtemp(prefix="cmk-", dir=base if len(base) < 60 else "/tmp")
        super().__init__(transport="ipc", connection_file=f"{self._folder}/k.json", **kwargs)

    def cleanup_resources(self, restart: bool = False) -> Any:
        """Remove what the kernel leaves, its sockets' folder too."""
        result = super().cleanup_resources(restart=restart)
        if not restart:
            shutil.rmtree(self._folder, ignore_errors=True)
        return result


def manager_class(kernel: str | None) -> type[AsyncKernelManager]:
    """Return the kernel manager for a payload's kernel name; None stands for this interpreter."""
    return ThisPythonManager if kernel is None else AsyncKernelManager


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
