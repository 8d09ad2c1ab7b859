"""What all starts of kernels have in common, done once in the process that they are forked from.

Their options are read, IPython's configuration is looked for, the shell is built. What a start does with the folder,
the environment, the ports and the user's start-up files is done in the fork. Where there is a configuration file, where
the environment says something else that a start reads, or with other options than a run's usual ones, all of it is.

It stands beside `private_api`, which it loads by its path, and touches private parts as that does.
"""

from __future__ import annotations

import atexit
import importlib.util
import itertools
import os
import sys
from types import ModuleType
from typing import Any, ClassVar

from ipykernel import ipkernel
from ipykernel.compiler import XCachingCompiler
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.application import BaseIPythonApplication

_spec = importlib.util.spec_from_file_location(
    "_colab_magics_kernel", os.path.join(os.path.dirname(os.path.abspath(__file__)), "private_api.py")
)
if _spec is None or _spec.loader is None:
    raise ImportError("private_api.py")
_kernel = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_kernel)
KernelApp: Any = _kernel.KernelApp

USES = {
    "ipykernel.ipkernel.IPythonKernel": ("shell_class",),
    "ipykernel.kernelapp.IPKernelApp": ("init_kernel", "init_shell", "init_extensions", "initialize"),
    "ipykernel.zmqshell.ZMQInteractiveShell": (
        "instance",
        "init_environment",
        "atexit_operations",
        "restore_sys_module_state",
    ),
    "IPython.core.application.BaseIPythonApplication": ("initialize", "load_config_file", "config_files"),
    "IPython.core.history.HistoryManager": ("dir_hist",),
    "IPython.core.formatters.DisplayFormatter": ("formatters",),
}
"""What this module relies on, for the canary tests."""

USUAL = ["--HistoryManager.hist_file=:memory:"]
"""The options of a run's kernel, beside its connection file."""
_LOOKED_AT = ("IPYTHON", "JUPYTER", "XDG_", "HOME", "TMPDIR", "VIRTUAL_ENV", "NO_COLOR")
"""What begins the names of environment variables that a start reads before the point where `made_ready` ends."""


class _NotReady(Exception):
    """The user configures kernels: what that does belongs in the process that is the kernel."""


class _OnceOnly(BaseIPythonApplication):  # type: ignore[misc]
    """The part of an application that comes before a kernel's own: options and configuration."""

    is_ready = False

    def initialize(self, argv: list[str] | None = None) -> None:
        """Read options and configuration, once."""
        if not self.is_ready:
            super().initialize(argv)

    def load_config_file(self, suppress_errors: bool | None = None) -> None:
        """Raise `_NotReady` where there is one."""
        for folder, name in itertools.product(self.config_file_paths, ("ipython_config.py", *self.config_files)):
            for end in (".py", ".json"):
                if os.path.exists(os.path.join(folder, os.path.splitext(name)[0] + end)):
                    raise _NotReady(f"{folder} configures IPython")


class _NoModules(ModuleType):
    """`sys`, as if nothing were imported."""

    modules: ClassVar[dict[str, ModuleType]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


class ReadyApp(KernelApp, _OnceOnly):  # type: ignore[misc]
    """A kernel's application whose options are read and whose shell is built, before it is forked."""

    def get_ready(self) -> None:
        """Do what is the same in every fork."""
        _OnceOnly.initialize(self, USUAL)
        if self.kernel_class is not IPythonKernel:
            raise _NotReady(f"kernels are {self.kernel_class}")
        # As IPythonKernel makes it, which then finds that there is one.
        shell = ZMQInteractiveShell.instance(
            parent=self, profile_dir=self.profile_dir, user_ns=self.user_ns, compiler_class=XCachingCompiler
        )
        # Made at the first output otherwise, a twentieth of a short run's time.
        _ = shell.display_formatter.formatters
        self.shell = shell
        self.init_extensions()
        self.files = [module.__file__ for module in sys.modules.copy().values() if getattr(module, "__file__", None)]
        self.is_ready, self.surroundings = True, _surroundings()

    def init_kernel(self) -> None:
        """Make the kernel; it gets the list of modules that there is, for its debugger."""
        # To look at thousands of modules is to copy the memory that they lie in: a tenth of a start.
        ipkernel.sys = _NoModules("sys")
        try:
            super().init_kernel()
        finally:
            ipkernel.sys = sys
        for one in (self.kernel, getattr(self.kernel, "debugger", None)):
            for name in ("_kernel_modules", "kernel_modules"):
                if hasattr(one, name):
                    setattr(one, name, self.files)

    def init_extensions(self) -> None:
        """Load the extensions that every kernel has, once."""
        if not self.is_ready:
            super().init_extensions()

    def init_shell(self) -> None:
        """Give the shell its kernel, and what it has from this process's folder and environment."""
        super().init_shell()
        shell = self.shell
        shell.kernel = shell.parent = self.kernel
        shell.init_environment()
        shell.starting_dir = os.getcwd()
        visited = shell.history_manager.dir_hist
        visited[:] = [type(folder)(shell.starting_dir) for folder in visited[:1]]
        # Before what ends the output, for the user's objects may still say something.
        atexit.unregister(shell.atexit_operations)
        atexit.register(shell.atexit_operations)


def _surroundings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_LOOKED_AT)}


def made_ready() -> str:
    """In a process that kernels are forked from, do what their starts have in common.

    Returns
    -------
    str
        Why nothing was done; empty when it was.
    """
    try:
        ReadyApp.instance().get_ready()
    except Exception as error:  # noqa: BLE001 - the kernel itself will do it, and say what is wrong
        _forget_ready()
        return f"{type(error).__name__}: {error}"
    return ""


def _forget_ready() -> None:
    """Let a kernel start from the beginning."""
    if ZMQInteractiveShell.initialized():
        shell = ZMQInteractiveShell.instance()
        atexit.unregister(shell.atexit_operations)
        shell.restore_sys_module_state()
        ZMQInteractiveShell.clear_instance()
    ReadyApp.clear_instance()


def serve(argv: list[str]) -> None:
    """Be the kernel of a connection file until it is told to shut down; in a process that was forked for it.

    Parameters
    ----------
    argv : list of str
        ``-f``, the connection file, options; the last names the process whose end is the kernel's.
    """
    option, connection_file, *options, parent = argv
    app = IPKernelApp.instance() if IPKernelApp.initialized() else None
    if app is None or option != "-f" or options != USUAL or app.surroundings != _surroundings():
        _forget_ready()
        _kernel.serve(argv)
        return
    app.connection_file, app.parent_handle = connection_file, int(parent.partition("=")[2])
    app.initialize(argv)
    app.start()
