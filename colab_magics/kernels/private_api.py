"""The one place that touches private parts of IPython and ipykernel; tests/kernels/test_private_api.py watches them.

It is also the program that a run's kernel is: ``python private_api.py -f CONNECTION_FILE`` in place of
``python -m ipykernel_launcher``. It stands alone, imports nothing of colab_magics, and so runs under any interpreter
that has ipykernel, and leaves nothing in the run's ``sys.modules`` that a stock kernel would not have.

What it changes
---------------
No output is lost: ipykernel's publisher drops messages above 1000 that a slow reader has not fetched. Here nothing is
dropped; what waits, waits in the kernel's memory.

No port is opened where ``COLAB_MAGICS_KERNEL_PIPE`` names a path: ipykernel lets processes that a cell forks send their
output through a port of its own, also when all its channels are unix sockets. Here that is a unix socket, too.

No stalls at the end: at exit ipykernel stops its output thread while the control thread may still wait for it, for
seconds. Here the control thread ends first.

A kernel can be made ready before it is forked (`made_ready`): its options are read, IPython's configuration is looked
for, its shell is built. What a start does with the folder, the environment, the ports and the user's start-up files is
done in the fork. Where there is a configuration file, or are other options than a run's usual ones, all is.

A fork of a running kernel becomes a kernel of its own: `release` lets go of what belongs to the notebook's kernel (its
ports and streams), `serve_again` starts new ones around the same shell. So the fork has not only the notebook's
variables, but its magics, extensions, hooks and plotting backend too.
"""

from __future__ import annotations

import os.path
import sys

if __name__ == "__main__" and sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
    # The folder of this file must not shadow anything; ipykernel puts the working folder where notebooks expect it.
    del sys.path[0]

import asyncio
import atexit
import contextlib
import itertools
import os
import socket
import threading
from types import ModuleType
from typing import Any, ClassVar

import zmq
from ipykernel import ipkernel, kernelapp
from ipykernel.compiler import XCachingCompiler
from ipykernel.iostream import IOPubThread
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.application import BaseIPythonApplication
from zmq.eventloop.zmqstream import ZMQStream

USES = {
    "ipykernel.kernelapp.IPKernelApp": ("init_iopub", "initialize", "start", "control_thread", "init_signal"),
    "ipykernel.kernelapp": ("IOPubThread",),
    "ipykernel.iostream.IOPubThread": ("_setup_pipe_in", "_setup_pipe_out", "_handle_pipe_msg", "schedule"),
    "ipykernel.control.ControlThread": ("stop", "join"),
    "ipykernel.iostream.OutStream": ("write", "writelines", "flush", "fileno", "isatty"),
    "ipykernel.zmqshell.ZMQInteractiveShell": ("instance", "set_parent", "init_environment", "atexit_operations"),
    "IPython.core.application.BaseIPythonApplication": ("initialize", "load_config_file", "config_files"),
    "traitlets.config.SingletonConfigurable": ("_instance", "clear_instance"),
    "IPython.core.builtin_trap.BuiltinTrap": ("__enter__", "__exit__"),
    "IPython.core.display_trap.DisplayTrap": ("__enter__", "__exit__"),
    "IPython.core.displayhook.DisplayHook": ("prompt_count",),
    "IPython.core.history.HistoryManager": ("enabled", "save_thread", "save_flag"),
    "zmq.Context": ("_instance",),
    "asyncio.events": ("_set_running_loop",),
    "multiprocessing.util": ("_exit_function", "_finalizer_registry", "_run_after_forkers"),
    "multiprocessing.process": ("_children",),
    "multiprocessing.forkserver": ("_forkserver",),
    "threading": ("_shutdown",),
    "atexit": ("_run_exitfuncs", "_clear"),
}
"""What this module relies on, for the canary tests."""


class UnixPipeThread(IOPubThread):  # type: ignore[misc]
    """ipykernel's output thread, with a unix socket for the output of forked processes."""

    path = ""

    def _setup_pipe_in(self) -> None:
        self._pipe_uuid = os.urandom(16)
        pipe = self.socket.context.socket(zmq.PULL)
        pipe.linger = 0
        pipe.bind(f"ipc://{self.path}")
        self._pipe_in = ZMQStream(pipe, self.io_loop)
        self._pipe_in.on_recv(self._handle_pipe_msg)

    def _setup_pipe_out(self) -> tuple[zmq.Context[Any], zmq.Socket[Any]]:
        context: zmq.Context[Any] = zmq.Context()
        pipe = context.socket(zmq.PUSH)
        pipe.linger = 3000  # the child may end at once
        pipe.connect(f"ipc://{self.path}")
        return context, pipe


class KernelApp(IPKernelApp):  # type: ignore[misc]
    """ipykernel's application with output that is not lost and an exit that does not stall."""

    name = "ipython-kernel"

    def init_iopub(self, context: Any) -> None:
        """Publish without a limit on what waits."""
        # A context's options are those of the sockets that it makes: here the one that publishes.
        context.setsockopt(zmq.SNDHWM, 0)
        UnixPipeThread.path = os.environ.pop("COLAB_MAGICS_KERNEL_PIPE", "")
        kernelapp.IOPubThread = UnixPipeThread if UnixPipeThread.path else IOPubThread
        super().init_iopub(context)

    def initialize(self, argv: list[str] | None = None) -> None:
        """Prepare the kernel."""
        super().initialize(argv)
        # Handlers run in reverse order: this one comes before those that stop the output thread.
        atexit.register(self.end_control)

    def end_control(self) -> None:
        """End the control thread, while the output that it may wait for still flows."""
        thread = getattr(self, "control_thread", None)
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.stop()
            thread.join(timeout=10)


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


class ReadyApp(KernelApp, _OnceOnly):
    """A kernel's application whose options are read and whose shell is built, before it is forked."""

    def get_ready(self) -> None:
        """Do what is the same in every fork."""
        _OnceOnly.initialize(self, USUAL)
        if self.kernel_class is not IPythonKernel:
            raise _NotReady(f"kernels are {self.kernel_class}")
        # As IPythonKernel makes it, which then finds that there is one.
        ZMQInteractiveShell.instance(
            parent=self, profile_dir=self.profile_dir, user_ns=self.user_ns, compiler_class=XCachingCompiler
        )
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
    app = IPKernelApp.instance() if IPKernelApp.initialized() else None
    option, connection_file, *options, parent = argv
    if app is not None and (option != "-f" or options != USUAL or app.surroundings != _surroundings()):
        _forget_ready()
        app = None
    if app is None:
        app = KernelApp.instance()
    else:
        app.connection_file, app.parent_handle = connection_file, int(parent.partition("=")[2])
    app.initialize(argv)
    app.start()


_OF_PARENT: list[Any] = []
"""Pools of the notebook, in a fork of it."""


def publish_without_limit(kernel: Any) -> None:
    """Have a running kernel drop no output that its front end is slow to take: it waits in the kernel's memory."""
    thread = kernel.iopub_thread
    # A socket belongs to its thread. libzmq hands a new limit on to the connections that there are.
    thread.schedule(lambda: thread.socket.setsockopt(zmq.SNDHWM, 0))


class ForkedApp(KernelApp):
    """The application of a kernel that was forked from a running one: its shell is there and configured."""

    def init_path(self) -> None:
        """The notebook's path is the fork's."""

    def init_gui_pylab(self) -> None:
        """The notebook's plotting is the fork's."""

    def init_extensions(self) -> None:
        """The notebook's extensions are loaded."""

    def init_code(self) -> None:
        """What runs when a kernel starts has run in the notebook."""


def release(shell: Any) -> None:
    """In a fork of a running kernel, let go of what is the kernel's: its ports, and where its output went.

    Ports that stayed open here could not be bound again when the notebook's kernel restarts.

    Parameters
    ----------
    shell : InteractiveShell
        The running shell.
    """
    app = IPKernelApp.instance() if IPKernelApp.initialized() else None
    ports = {getattr(app, f"{channel}_port", 0) for channel in ("shell", "iopub", "stdin", "control", "hb")} - {0}
    own = str(getattr(app, "ip", "")) if getattr(app, "transport", "tcp") == "ipc" else ""
    copies = [getattr(stream, "_original_stdstream_copy", None) for stream in (sys.stdout, sys.stderr)]
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        with contextlib.suppress(OSError):
            if fd in copies or _is_of_kernel(fd, ports, own):
                os.close(fd)
    history = shell.history_manager
    # The thread that writes it down is the notebook's, and may have held its locks when we were forked.
    history.enabled = False
    history.db_input_cache_lock, history.db_output_cache_lock = threading.Lock(), threading.Lock()
    history.save_thread = None
    if not isinstance(getattr(type(history), "save_flag", None), property):
        history.save_flag = threading.Event()


def _is_of_kernel(fd: int, ports: set[int], path: str) -> bool:
    if not os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
        return False
    with socket.socket(fileno=os.dup(fd)) as found:
        name = found.getsockname()
    if isinstance(name, tuple):
        return len(name) > 1 and name[1] in ports
    return bool(path) and str(name).startswith(path)


def serve_again(shell: Any, argv: list[str]) -> None:
    """In a fork of a running kernel, be the kernel of another connection file, with the shell as it is.

    Parameters
    ----------
    shell : InteractiveShell
        The running shell; a cell of it may be half executed.
    argv : list of str
        Arguments of the kernel's application.
    """
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    _forget_parent()
    for known in (IPKernelApp._instance, getattr(shell, "kernel", None)):
        if known is not None:
            type(known).clear_instance()
    # We are inside of a cell that never ends here.
    for trap in (shell.builtin_trap, shell.display_trap):
        trap._nested_level = 0
    # Its number is taken; IPython 7 would count on at its end only.
    shell.execution_count = shell.displayhook.prompt_count + 1
    app = ForkedApp.instance()
    app.initialize(argv)
    shell.kernel = app.kernel
    # IPython draws one with every kernel_info, from the user's random numbers.
    shell.enable_tip = False
    for old, new in zip(streams, (sys.stdout, sys.stderr), strict=True):
        # Log handlers and progress bars hold the notebook's stream: what they write comes out here.
        for part in ("write", "writelines", "flush", "fileno", "isatty"):
            setattr(old, part, getattr(new, part))
    app.start()


def _forget_parent() -> None:
    """Drop the parent's event loop, sockets, exit handlers and processes, as multiprocessing does after a fork."""
    asyncio.events._set_running_loop(None)
    asyncio.set_event_loop(asyncio.new_event_loop())
    zmq.Context._instance = None
    atexit._clear()
    if util := sys.modules.get("multiprocessing.util"):
        util._finalizer_registry.clear()
        util._run_after_forkers()
        sys.modules["multiprocessing.process"]._children = set()  # type: ignore[attr-defined]
        atexit.register(util._exit_function)
    if module := sys.modules.get("multiprocessing.forkserver"):
        # It is the notebook's child: here another is started when one is needed.
        server = module._forkserver
        server._forkserver_pid = server._forkserver_address = server._forkserver_alive_fd = None
    for name in ("loky.reusable_executor", "joblib.externals.loky.reusable_executor"):
        if (module := sys.modules.get(name)) and (executor := getattr(module, "_executor", None)) is not None:
            # Its threads are the notebook's. Kept from being collected, which would tell them something.
            _OF_PARENT.append(executor)
            module._executor = None  # type: ignore[attr-defined]


def leave(status: int) -> None:
    """End a forked process as the interpreter would: threads, exit handlers, streams; without taking modules apart."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
    except BaseException as error:  # noqa: BLE001 - nobody is left who could catch it
        os.write(2, f"at the kernel's end: {error!r}\n".encode(errors="backslashreplace"))
        status = status or 1
    finally:
        os._exit(status)


if __name__ == "__main__":
    KernelApp.launch_instance()
